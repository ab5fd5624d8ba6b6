"""What each system of the demo holds, read with plain SQL of its own tables, in the words of the unified model.

Part of the independent verification: nothing here uses the service's mapping, readers or bookkeeping.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping
from contextlib import closing
from datetime import date, datetime, timedelta, timezone
from functools import cache
from importlib import resources
from typing import Any

from connectors.postgres import connect, snapshot
from lienthong.demo.parties import PARTIES

Fields = dict[str, Any]
Holdings = dict[str, dict[str, list[Fields]]]  # system -> entity -> rows

VIETNAM = timezone(timedelta(hours=7))
CHILDREN = ("dossier_event", "dossier_component", "fee", "evaluation", "journal")
PLACEHOLDERS = {"000000001", "000000000", "000000000000"}
QUERIES = {
    "city-portal": "city-portal.sql", "one-stop": "one-stop.sql", "dept-justice": "dept-justice.sql",
    "ward-tan-dinh": "ward-one-stop-v2.sql", "ward-sai-gon": "ward-one-stop-v2.sql", "ward-binh-thoi": "ward-ho-so.sql",
}  # fmt: skip


def read(dsns: Mapping[str, str]) -> Holdings:
    """Everything every system holds, each system seen at one instant."""
    return {system: dict(_read_system(system, dsn)) for system, dsn in dsns.items() if system in PARTIES}


def _read_system(system: str, dsn: str) -> Iterator[tuple[str, list[Fields]]]:
    with closing(connect(dsn, application_name="lienthong-verify")) as connection, snapshot(connection) as cursor:
        codes: dict[Any, str] = {}
        for entity, statement in queries(QUERIES[system]).items():
            cursor.execute(statement)
            names = [column.name for column in cursor.description or ()]
            found = [_unified(dict(zip(names, row, strict=True))) for row in cursor.fetchall()]
            if entity == "dossier":
                codes = {row["root"]: code_of(row) for row in found}
            if entity in CHILDREN:
                for row in found:
                    row["code"] = codes.get(row["root"])
            yield entity, found


@cache
def queries(file: str) -> dict[str, str]:
    """The named queries of one SQL file."""
    text = resources.files("lienthong").joinpath("demo", "sql", file).read_text(encoding="utf-8")
    blocks = re.split(r"^-- name: (\w+)\n", text, flags=re.MULTILINE)
    return dict(zip(blocks[1::2], blocks[2::2], strict=True))


def code_of(row: Fields) -> str:
    """What a dossier is called everywhere: its national code, else its local one."""
    return str(row["national_code"] or row["local_code"])


def _unified(row: Fields) -> Fields:
    out: Fields = {}
    for name, value in row.items():
        if name.startswith("t_"):
            out[name[2:]] = _time(value)
        elif name.startswith("m_"):
            out[name[2:]] = None if value is None else int(re.sub(r"\D", "", value))
        elif name.endswith("birth_date"):
            out[name] = _birth(value)
        elif name.endswith("personal_number"):
            out[name] = None if value in PLACEHOLDERS else value
        else:
            out[name] = value
    return out


def _time(text: str | None) -> int | str | None:
    """Seconds since 1970 of a yyyyMMddHHmmss local time; what is no time stays text."""
    if not text:
        return None
    try:
        return int(datetime.strptime(text, "%Y%m%d%H%M%S").replace(tzinfo=VIETNAM).timestamp())
    except ValueError:
        return text


def _birth(text: str | None) -> str | None:
    """YYYY or YYYY-MM-DD, however it was written."""
    if text is None:
        return None
    if "/" in text:
        return "-".join(reversed(text.split("/")))
    return f"{text[:4]}-{text[4:6]}-{text[6:]}" if len(text) == 8 and text.isdigit() else text


# ------------------------------------------------------------------ rows that must be refused
REQUIRED = {
    "dossier": ("procedure_code", "submitted_at", "applicant_name", "status"),
    "citizen": ("personal_number", "full_name", "birth_date"),
    "procedure": ("procedure_code", "name"),
}
_UNIT_DATES = (
    ("processing_unit_code", "submitted_at"), ("applicant_unit_code", "submitted_at"),
    ("residence_unit_code", "residence_as_of"),
)  # fmt: skip


def refusal(entity: str, row: Fields) -> str | None:
    """Why a root row may not leave its system, or None."""
    if any(isinstance(row.get(name), str) for name in ("submitted_at", "received_at", "status_at", "residence_as_of")):
        return "impossible_date"
    for name in ("personal_number", "applicant_personal_number"):
        if row.get(name) is not None and not re.fullmatch(r"[0-9]{12}", row[name]):
            return "malformed_personal_number"
    for name, dated in _UNIT_DATES:
        if row.get(name) is not None and row.get(dated) is not None and not valid(row[name], row[dated]):
            return "unit"
    return "missing_or_unmapped" if any(row.get(name) is None for name in REQUIRED.get(entity, ())) else None


# ------------------------------------------------------------------ the register, read a second time and simply
def _file(name: str) -> Iterator[dict[str, str]]:
    yield from csv.DictReader(resources.files("lienthong").joinpath("data", name).read_text("utf-8").splitlines())


@cache
def _eras() -> tuple[frozenset[str], ...]:
    before = list(_file("admin_units_before_2025.csv"))
    old = frozenset(row["code"] for row in before if row["snapshot"] == "2024-11-01")
    spring = frozenset(row["code"] for row in before if row["snapshot"] == "2025-03-01")
    return old, spring, frozenset(row["code"] for row in _file("admin_units_2025.csv"))


@cache
def _onward() -> dict[tuple[int, str], list[tuple[str, str]]]:
    out: dict[tuple[int, str], list[tuple[str, str]]] = {}
    for row in _file("admin_unit_succession.csv"):
        if row["effective_date"] != "2025-03-01":
            era = 0 if row["effective_date"] == "2025-01-01" else 1
            out.setdefault((era, row["old_code"]), []).append((row["new_code"], row["relation"]))
    return out


@cache
def _era(seconds: int) -> int:
    day = datetime.fromtimestamp(seconds, VIETNAM).date()
    return 0 if day < date(2025, 1, 1) else 1 if day < date(2025, 7, 1) else 2


def valid(code: str, seconds: int) -> bool:
    """Whether the register had this code at that moment."""
    return code in _eras()[_era(seconds)]


def unit_today(code: str | None, seconds: int) -> str | None:
    """Today's unit of a code of that moment; None when it was split."""
    if code is None or not valid(code, seconds):
        return None
    for era in range(_era(seconds), 2):
        links = _onward().get((era, code))
        if links is None:
            continue
        if len(links) > 1 or links[0][1] == "part":
            return None
        code = links[0][0]
    return code
