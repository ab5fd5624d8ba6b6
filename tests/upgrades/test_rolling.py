"""The code of today goes on while a later release's schema is installed under it, works on that schema, and gives way to a second set of processes.

A later release may only add (test_schema.py holds that), so everything that it may add is added here, to every table of the hub and of the systems.
"""

# ruff: noqa: S608 - the SQL is made of names from the catalogue and of constants

from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from tests.city import AUTHORITY, PROFILE, ROLES, TABLE, City, city, wait

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

SYSTEMS = """
version: 1
hub: {dsn: "${HUB_DSN}"}
kafka: {bootstrap: "${KAFKA_BOOTSTRAP}"}
systems:
  portal: {profile: simple, dsn: "${PORTAL_DSN}", capture: wal, kind: portal}
  ward: {profile: simple, dsn: "${WARD_DSN}", kind: ward}
"""
CONTRACTS = """
version: 1
contracts:
  portal: {system: portal, purpose: test, legal_ground: test, entities: {dossier: {}}}
  ward: {system: ward, purpose: test, legal_ground: test, entities: {dossier: {}}}
"""
_numbers = count(1)


@pytest.fixture(scope="module")
def small(stack_root: Path) -> Iterator[City]:
    with city(stack_root / "rolling", clusters=("hub", "central")) as made:
        for name in ("portal", "ward"):
            made.database("central", name, TABLE)
        for name, text in (("systems", SYSTEMS), ("authority", AUTHORITY), ("contracts", CONTRACTS), ("profiles/simple", PROFILE)):
            made.write(f"{name}.yaml", text)
        made.install("portal", "ward")
        made.start("run", *ROLES, "watch")
        assert made.cli("load", "--all").returncode == 0
        yield made


def submit(small: City, at: str, word: str = "moi") -> str:
    code = f"H29-{next(_numbers):06}"
    small.sql(at, "INSERT INTO ho_so VALUES (%s, '1.001', now(), 'Trần Thị Thử', %s, NULL)", arguments=[code, word])
    return code


def arrive(small: City, codes: list[str]) -> None:
    for name in ("portal", "ward"):
        small.until(name, f"SELECT count(*) FROM ho_so WHERE ma = ANY (ARRAY{codes})", len(codes))


def add_all_that_a_release_may_add(small: City, name: str, schema: str) -> int:
    tables = [
        table
        for (table,) in small.sql(
            name, f"SELECT c.oid::regclass::text FROM pg_class c WHERE relnamespace = '{schema}'::regnamespace AND relkind = 'r'"
        )
    ]
    for table in tables:
        small.sql(name, f"ALTER TABLE {table} ADD COLUMN IF NOT EXISTS later_word text, ADD COLUMN IF NOT EXISTS later_number int NOT NULL DEFAULT 0")
        small.sql(name, f"CREATE INDEX IF NOT EXISTS {table.replace('.', '_')}_later ON {table} (later_number)")
    small.sql(name, f"CREATE TABLE IF NOT EXISTS {schema}.later (id bigint PRIMARY KEY, word text)")
    return len(tables)


def test_the_code_of_before_goes_on_under_a_later_schema(small: City) -> None:
    codes: list[str] = []
    done = threading.Event()

    def live() -> None:
        while not done.wait(0.05):
            codes.append(submit(small, "portal" if len(codes) % 2 else "ward"))

    citizens = threading.Thread(target=live)
    citizens.start()
    try:
        wait(lambda: len(codes) > 20)
        assert add_all_that_a_release_may_add(small, "hub", "hub") > 20
        assert add_all_that_a_release_may_add(small, "portal", "lienthong") > 5
        assert add_all_that_a_release_may_add(small, "ward", "lienthong") > 5
        so_far = len(codes)
        wait(lambda: len(codes) > so_far + 40)
    finally:
        done.set()
        citizens.join()
    arrive(small, codes)
    small.sql("ward", f"UPDATE ho_so SET tt = 'xong' WHERE ma = '{codes[0]}'")
    small.until("portal", f"SELECT tt FROM ho_so WHERE ma = '{codes[0]}'", "xong")
    small.sql("portal", f"DELETE FROM ho_so WHERE ma = '{codes[1]}'")
    small.until("ward", f"SELECT count(*) FROM ho_so WHERE ma = '{codes[1]}'", 0)
    wait(lambda: small.cli("status").returncode == 0, story=lambda: small.cli("status").stdout)
    assert [event for event in small.events() if event.get("action") == "restart"] == []


def test_every_other_command_of_before_works_on_a_later_schema(small: City) -> None:
    refused = submit(small, "ward", "khong co")
    wait(lambda: [found["reason"] for found in small.json("parked", "list", "--system", "ward")["records"]] == ["unmapped_word"], story=small.logs)
    good = submit(small, "portal")
    arrive(small, [good])
    small.sql("ward", f"UPDATE ho_so SET tt = 'moi' WHERE ma = '{refused}'")
    arrive(small, [refused])
    for command in (
        ("trace", good),
        ("lag",),
        ("reconcile", "--full"),
        ("parked", "list"),
        ("probe",),
        ("resend", "ward"),
        ("load", "ward"),
        ("load", "portal", "--new-epoch"),
        ("repair", "--plan"),
    ):
        ended = small.cli(*command)
        assert ended.returncode == 0, (command, ended.stdout, ended.stderr)


def test_a_second_set_of_processes_takes_over_from_the_first(small: City) -> None:
    first = small.running[0]
    before = [submit(small, at) for at in ("portal", "ward") for _ in range(10)]
    small.start("run", *ROLES, "watch", log="second.log")
    between = [submit(small, at) for at in ("portal", "ward") for _ in range(10)]
    first.terminate()
    assert first.wait(30) == 0
    small.running.remove(first)
    after = [submit(small, at) for at in ("portal", "ward") for _ in range(10)]
    arrive(small, before + between + after)
    wait(lambda: small.cli("status").returncode == 0, story=lambda: small.cli("status").stdout)
    found = small.sql("hub", "SELECT count(*) FROM hub.parked WHERE state = 'open'")
    assert found == [(0,)]
