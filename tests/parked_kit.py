"""A ward whose records are refused here and there, and a portal whose own rules refuse some; what an operator asks about them."""

# ruff: noqa: S608 - the SQL is made of constants

from __future__ import annotations

from itertools import count
from typing import Any

from cryptography.fernet import Fernet

from tests.city import City, wait

CANARY = "Trần Thị Chim Chích"
TABLE = """
CREATE TABLE ho_so (
  ma text PRIMARY KEY, tthc text NOT NULL, nop timestamptz NOT NULL, ten text, tt text NOT NULL, ghi_chu text CONSTRAINT cam CHECK (ghi_chu <> 'cam'))
"""
WITHOUT_RULE = TABLE.replace(" CONSTRAINT cam CHECK (ghi_chu <> 'cam')", "")
SYSTEMS = """
version: 1
hub: {dsn: "${HUB_DSN}"}
kafka: {bootstrap: "${KAFKA_BOOTSTRAP}"}
parking: {stop: {records: 20}}
systems:
  portal: {profile: simple, dsn: "${PORTAL_DSN}", capture: none, kind: portal}
  ward: {profile: simple, dsn: "${WARD_DSN}", kind: ward}
"""
CONTRACTS = """
version: 1
contracts:
  portal: {system: portal, purpose: test, legal_ground: test, entities: {dossier: {}}}
"""
_numbers = count(1)


def fernet_key() -> str:
    return Fernet.generate_key().decode()


def put(service: City, **row: Any) -> str:
    """A new dossier at the ward; its code."""
    code = f"P{next(_numbers):05}"
    row = {"tthc": "1.001", "nop": "2026-03-05", "ten": CANARY, "tt": "moi", **row, "ma": code}
    statement = f"INSERT INTO ho_so ({', '.join(row)}) VALUES ({', '.join(['%s'] * len(row))})"
    service.sql("ward", statement, arguments=list(row.values()))
    return code


def put_many(service: City, prefix: str, number: int, word: str = "moi") -> None:
    statement = f"INSERT INTO ho_so SELECT '{prefix}' || n, '1.001', '2026-03-05', '{CANARY}', '{word}', NULL FROM generate_series(1, {number}) n"
    service.sql("ward", statement)


def parked(service: City, *filters: str) -> list[dict[str, Any]]:
    return list(service.json("parked", "list", *filters)["records"])


def parked_of(service: City, code: str, kind: str = "refused") -> str:
    """The number of the one open parked record of a dossier, once it is there."""
    if kind == "refused":
        at, statement = "hub", f"SELECT id::text FROM hub.parked WHERE state = 'open' AND local_key = '{code}'"
    else:
        wait(lambda: bool(service.sql("hub", f"SELECT 1 FROM hub.contribution WHERE local_key = '{code}'")))
        ((record,),) = service.sql("hub", f"SELECT record FROM hub.contribution WHERE local_key = '{code}'")
        at, statement = "portal", f"SELECT 'portal/' || id FROM lienthong.parked WHERE state = 'parked' AND record = {record}"
    wait(lambda: len(service.sql(at, statement)) == 1, story=lambda: str(parked(service)) + service.logs()[-3000:])
    return str(service.sql(at, statement)[0][0])


def arrives(service: City, code: str, word: str = "moi") -> None:
    service.until("portal", f"SELECT ten, tt FROM ho_so WHERE ma = '{code}'", [(CANARY, word)])


def actions(service: City, ref: str) -> list[tuple[Any, ...]]:
    place, _, number = ref.rpartition("/")
    statement = f"SELECT officer, action, why, outcome FROM hub.parked_action WHERE place = '{place or 'hub'}' AND parked = {number} ORDER BY id"
    return service.sql("hub", statement)


def line(service: City, system: str, stage: str) -> dict[str, Any]:
    return {(x["system"], x["stage"]): x for x in service.json("lag")["lines"]}[system, stage]
