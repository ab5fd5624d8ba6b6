"""Faults of records and tables that do not fit: mass refusals, poison, tables changed in mid-stream (matrix 28 to 30)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.faults.city_files import UNIT_A
from tests.faults.data import INSERT, at_ward, submit, values_of
from tests.faults.load import CANARY, CANARY_NUMBER, CANARY_PHONE
from tests.faults.stack import FaultCity
from tests.faults.suite import Run, fault
from tests.faults.topics import line_state

STOP_RECORDS = 100  # parking.stop.records: so many refusals stop a line
MANY = 150
PROMPT_SECONDS = 20.0
WRITER = """
DO $$BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'writer') THEN CREATE ROLE writer LOGIN; END IF; END$$;
GRANT USAGE ON SCHEMA public, lienthong TO writer;
GRANT ALL ON ALL TABLES IN SCHEMA public, lienthong TO writer;
GRANT ALL ON ALL SEQUENCES IN SCHEMA public, lienthong TO writer;
"""
MANY_DOSSIERS = """
INSERT INTO application (code, procedure, unit, submitted, name, number, phone, remark, officer)
SELECT %s || n, '1.004227', %s, now(), %s, %s, %s, %s, 'portal' FROM generate_series(1, %s) n
"""


def parked_at(city: FaultCity, name: str) -> int:
    """How many records are parked at a target."""
    return int(city.sql(name, "SELECT count(*) FROM lienthong.parked WHERE state = 'parked'")[0][0])


@contextmanager
def _as_writer(city: FaultCity) -> Iterator[None]:
    """The service writes to ward-a as a user that is not a superuser."""
    city.sql("ward_a", WRITER)
    address = {**city.environment, **city.proxied()}["WARD_A_DSN"]
    city.role_environment["apply"] = {"WARD_A_DSN": address.replace("//postgres@", "//writer@")}
    city.kill_role("apply")
    try:
        yield
    finally:
        del city.role_environment["apply"]
        city.kill_role("apply")


def _stopped(city: FaultCity, words: str) -> bool:
    state, reason = line_state(city, "ward-a", "apply")
    return state == "stopped" and words in reason


@fault(30, "INSERT revoked at a target, and a rule that refuses everything", clean_seconds=120.0)
def mass_refusal(city: FaultCity, run: Run) -> None:
    tag = city.random.randrange(10**6)
    with _as_writer(city):
        submit(city, f"P-before-{tag}")
        city.expect(lambda: at_ward(city, f"P-before-{tag}") == 1, "the target must run before the fault", 45)
        before = parked_at(city, "ward_a")
        with run.injection():
            city.sql("ward_a", "REVOKE INSERT ON ho_so FROM writer")
            city.expect(lambda: _stopped(city, "lienthong check"), "the line must stop and name the command that helps")
            time.sleep(4)
            run.check(parked_at(city, "ward_a") == before, "a missing right is no reason to park")
            run.check(line_state(city, "ward-b", "apply")[0] == "running", "other targets must go on")
            city.sql("ward_a", "GRANT INSERT ON ho_so TO writer")
        city.expect(lambda: line_state(city, "ward-a", "apply")[0] == "running", "with the right back it goes on by itself", 60)
        with run.injection():
            city.sql("ward_a", "ALTER TABLE ho_so ADD CONSTRAINT strict CHECK (current_user <> 'writer') NOT VALID")
            values = [f"P-many-{tag}-", UNIT_A, *values_of("x")[2:], MANY]
            city.sql("portal", MANY_DOSSIERS, arguments=values)
            city.expect(lambda: _stopped(city, "too many to park"), "the line must stop", 60)
            time.sleep(4)
            parked = parked_at(city, "ward_a") - before
            run.note(f"{parked} were parked before the line stopped")
            run.check(parked < STOP_RECORDS, f"{parked} records were diverted")
            city.sql("ward_a", "ALTER TABLE ho_so DROP CONSTRAINT strict")
        city.expect(lambda: line_state(city, "ward-a", "apply")[0] == "running", "with the rule gone it goes on by itself", 60)
        if parked_at(city, "ward_a") > before:
            done = city.cli("parked", "replay", "--system", "ward-a", "--reason", "refused_by_target", "--budget", "500", seconds=180)
            run.check(done.returncode == 0, f"parked replay: {(done.stdout + done.stderr)[-300:]}")


@fault(29, "poison for a key, then good records for the same key")
def poison(city: FaultCity, run: Run) -> None:
    """At the door a value nobody can read, at the target one that its rules refuse: each is parked, and cured by the next good state."""
    tag = city.random.randrange(10**6)
    bad_phone, good_phone = f"{CANARY_PHONE}999", f"{CANARY_PHONE}001"
    city.sql("ward_a", f"ALTER TABLE ho_so ADD CONSTRAINT strict CHECK (dien_thoai <> '{bad_phone}') NOT VALID")
    before, at_door = _ever_parked(city, "ward_a", "lienthong"), _ever_parked(city, "hub", "hub")
    try:
        for number in range(4):
            door, target = values_of(f"P-door-{tag}-{number}"), values_of(f"P-target-{tag}-{number}")
            door[3], target[4] = f"{CANARY_NUMBER}-{CANARY}", bad_phone
            with run.injection():
                city.sql("portal", INSERT, arguments=door)
                city.sql("portal", INSERT, arguments=target)
                _others_pass(city, run, f"P-pass-{tag}-{number}")
        city.expect(lambda: _ever_parked(city, "ward_a", "lienthong") > before, "what the target refuses must be parked")
        city.expect(lambda: _ever_parked(city, "hub", "hub") > at_door, "what cannot be read must be parked")
        run.check(not at_ward(city, f"P-door-{tag}-0"), "what cannot be read may not be sent")
        city.sql("portal", "UPDATE application SET phone = %s WHERE code LIKE %s", arguments=[good_phone, f"P-target-{tag}-%"])
        city.sql("portal", "UPDATE application SET number = %s WHERE code LIKE %s", arguments=[f"{CANARY_NUMBER}00001", f"P-door-{tag}-%"])
        codes = [f"P-{kind}-{tag}-{number}" for kind in ("door", "target") for number in range(4)]
        city.expect(lambda: all(at_ward(city, code) == 1 for code in codes), "the good states must arrive", 45)
    finally:
        city.sql("ward_a", "ALTER TABLE ho_so DROP CONSTRAINT strict")


def _ever_parked(city: FaultCity, name: str, schema: str) -> int:
    """Also those that are cured again: a citizen may correct his own record meanwhile."""
    return int(city.sql(name, f"SELECT count(*) FROM {schema}.parked")[0][0])  # noqa: S608 - a name of ours


def _others_pass(city: FaultCity, run: Run, code: str) -> None:
    submit(city, code)
    begun = time.monotonic()
    city.expect(lambda: at_ward(city, code) == 1, "other dossiers must pass the poison", 45)
    took = time.monotonic() - begun
    run.check(took < PROMPT_SECONDS, f"another dossier took {took:.0f} s beside the poison")


@fault(28, "columns added, narrowed, renamed and dropped in mid-stream", clean_seconds=120.0)
def changed_tables(city: FaultCity, run: Run) -> None:
    tag = city.random.randrange(10**6)
    with run.injection():  # what the profile does not name, and a type that still holds every value
        city.sql("portal", "ALTER TABLE application ADD COLUMN extra uuid DEFAULT gen_random_uuid()")
        city.sql("ward_b", "ALTER TABLE ho_so ADD COLUMN extra uuid DEFAULT gen_random_uuid()")
        city.sql("portal", "ALTER TABLE application ALTER COLUMN phone TYPE varchar(10)")
        submit(city, f"P-wider-{tag}")
        city.expect(lambda: at_ward(city, f"P-wider-{tag}") == 1, "a column that is not mapped must stop nothing", 45)
        city.sql("portal", "ALTER TABLE application DROP COLUMN extra")
        city.sql("ward_b", "ALTER TABLE ho_so DROP COLUMN extra")
        city.sql("portal", "ALTER TABLE application ALTER COLUMN phone TYPE text")
    for name, system, away, back in (
        ("portal", "portal", ["ALTER TABLE application RENAME answer TO reply"], ["ALTER TABLE application RENAME reply TO answer"]),
        ("ward_b", "ward-b", DROP_NOTE, RESTORE_NOTE),
    ):
        with run.injection():
            city.sql(name, "; ".join(["BEGIN", *away, "COMMIT"]))
            city.expect(lambda system=system: line_state(city, system, "capture")[0] == "stopped", f"{system} must stop", 45)
            run.check(f"lienthong check --system {system}" in line_state(city, system, "capture")[1], "the reason must name what shows it")
            run.check(line_state(city, "ward-a", "capture")[0] == "running", "other sources must go on")
            time.sleep(3)
            city.sql(name, "; ".join(["BEGIN", *back, "COMMIT"]))
        city.expect(lambda system=system: line_state(city, system, "capture")[0] == "running", f"{system} must go on", 60)


# A column that goes with its values, and comes back with them from the administrator's own copy, unseen by any trigger; nobody writes in between.
DROP_NOTE = ["LOCK TABLE ho_so", "CREATE TABLE kept AS SELECT id, ghi_chu FROM ho_so", "ALTER TABLE ho_so DROP COLUMN ghi_chu"]
RESTORE_NOTE = [
    "ALTER TABLE ho_so ADD COLUMN ghi_chu text", "SET LOCAL session_replication_role = replica",
    "UPDATE ho_so SET ghi_chu = kept.ghi_chu FROM kept WHERE kept.id = ho_so.id", "DROP TABLE kept",
]  # fmt: skip
