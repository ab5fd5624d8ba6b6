"""A small configuration folder that is right, to be spoiled in one place."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from pathlib import Path

import pytest

from lienthong.config import ConfigProblems, load_settings
from lienthong.settings import Settings

ENV = {"HUB": "dbname=hub", "WARD": "postgresql://ward:s3cret@db/ward"}

SYSTEMS = """\
version: 1
hub: {dsn: "${HUB}"}
kafka: {bootstrap: "localhost:9092"}
systems:
  ward-tan-dinh:
    profile: ward-new
    capture: wal
    dsn: ${WARD}
    kind: ward
    units: ["26737"]
"""

PROFILE = """\
profile: ward-new
entities:
  dossier:
    table: ho_so
    key: id
    identifiers: {local: ma_ho_so}
    parts:
      nguoi: {table: nguoi_nop, on: {ho_so_id: id}}
    fields:
      procedure_code: ma_tthc
      submitted_at: {column: ngay_nop, read: datetime_compact}
      applicant_name: nguoi.ho_ten
      applicant_unit_code: {column: ma_xa, "on": submitted_at}
      status: {column: trang_thai, values: {moi: 1, xong: 10}}
  fee:
    table: le_phi
    key: id
    parent: {entity: dossier, columns: ho_so_id}
    fields:
      fee_code: ma
      amount: {column: so_tien, read: money_text}
"""

AUTHORITY = """\
authority:
  dossier:
    record: &all
      - {order: ["@processing", "kind:ward"], basis: decree 118/2025}
    routing:
      - {order: ward-tan-dinh, basis: decree 118/2025}
    intake: *all
    processing: *all
    result: *all
    payment: *all
  fee:
    record: *all
    content: *all
"""

CONTRACTS = """\
contracts:
  tan-dinh:
    system: ward-tan-dinh
    purpose: handling dossiers
    legal_ground: decree 118/2025
    entities:
      dossier:
        fields: [procedure_code, applicant_name, status]
        where: {units: own}
        mask: {applicant_name: initials}
      fee: {fields: all}
"""

NATIONAL = """\
version: 1
portal:
  system: national-portal
  endpoint: ${PORTAL}
  user: city
  secret: ${PORTAL_SECRET}
  unit: "000.00.00.H29"
"""

FILES = {"systems": SYSTEMS, "profiles/ward-new": PROFILE, "authority": AUTHORITY, "contracts": CONTRACTS}


def write(folder: Path, files: Mapping[str, str]) -> Path:
    (folder / "profiles").mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text, "utf-8")
    return folder


def load(folder: Path, env: Mapping[str, str] = ENV) -> Settings:
    return load_settings(folder, env, today=date(2026, 11, 23))


def problems(folder: Path, env: Mapping[str, str] = ENV) -> list[str]:
    with pytest.raises(ConfigProblems) as caught:
        load(folder, env)
    return str(caught.value).split("\n")


Case = tuple[str, str, str, str]  # file, what stands there, the mistake, how the problem's line begins


def named(case: Case) -> str:
    return f"{case[0]}:{case[2].strip()[:40]}"


def assert_reported(folder: Path, case: Case, files: Mapping[str, str], env: Mapping[str, str] = ENV) -> list[str]:
    """The problems of a folder with one mistake, the expected one among them."""
    file, right, wrong, expected = case
    assert right in files[file]
    write(folder, {**files, file: files[file].replace(right, wrong, 1)})
    found = problems(folder, env)
    assert [line for line in found if line.startswith(expected)], found
    return found
