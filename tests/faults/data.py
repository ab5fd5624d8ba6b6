"""Faults of data and order: late commits, rollbacks, repeats, replays, deletes, loops, leaks (matrix 14, 15, 18 to 20, 22, 42)."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from random import Random
from typing import Any

import psycopg2

from tests.faults import load, log
from tests.faults.city_files import UNIT_A, UNIT_B
from tests.faults.stack import FaultCity
from tests.faults.suite import Run, fault
from tests.faults.sweep import thorough

INSERT = """
INSERT INTO application (code, procedure, unit, submitted, name, number, phone, remark, officer)
VALUES (%s, '1.004227', %s, now(), %s, %s, %s, %s, 'portal')
"""
WARD_INSERT = """
INSERT INTO ho_so (ma_qg, thu_tuc, phuong, trang_thai, ngay_nop, ho_ten, cccd) VALUES (%s, '1.000894', %s, 2, localtimestamp, %s, %s)
"""


def submit(city: FaultCity, code: str, unit: str = UNIT_A, remark: str = "") -> None:
    """A dossier at the portal."""
    city.sql("portal", INSERT, arguments=values_of(code, unit, remark))


def values_of(code: str, unit: str = UNIT_A, remark: str = "") -> list[Any]:
    """Arguments of INSERT."""
    return [code, unit, f"Nguyễn {load.CANARY} An", f"{load.CANARY_NUMBER}00001", f"{load.CANARY_PHONE}001", f"{load.CANARY} {remark}"]


def at_ward(city: FaultCity, code: str, name: str = "ward_a") -> int:
    """How often a ward holds a dossier."""
    return int(city.sql(name, "SELECT count(*) FROM ho_so WHERE ma_qg = %s", arguments=[code])[0][0])


@fault(14, "transactions open for long at the source, committing late")
def long_transactions(city: FaultCity, run: Run) -> None:
    tag = city.random.randrange(10**6)
    _commit_late(city, run, "PORTAL_DSN", INSERT, values_of(f"P-late-{tag}"), lambda: at_ward(city, f"P-late-{tag}"))
    arguments = [f"W-late-{tag}", UNIT_B, f"Nguyễn {load.CANARY} An", f"{load.CANARY_NUMBER}00001"]
    at_portal = "SELECT count(*) FROM application WHERE code = %s"
    _commit_late(city, run, "WARD_B_DSN", WARD_INSERT, arguments, lambda: city.sql("portal", at_portal, arguments=[f"W-late-{tag}"])[0][0])


def _commit_late(city: FaultCity, run: Run, dsn: str, statement: str, arguments: list[Any], arrived: Callable[[], int]) -> None:
    """One idle transaction with an id, one that writes and commits late; what others write meanwhile must not wait."""
    others = f"P-meanwhile-{arguments[0]}"
    with closing(psycopg2.connect(city.environment[dsn])) as idle, closing(psycopg2.connect(city.environment[dsn])) as late:
        idle.cursor().execute("SELECT pg_current_xact_id()")
        late.cursor().execute(statement, arguments)
        with run.injection():
            time.sleep(2)
            submit(city, others)
            city.expect(lambda: at_ward(city, others) == 1, "other dossiers must not wait for a long transaction")
            time.sleep(2)
            run.check(arrived() == 0, "nothing may be delivered before its commit")
            late.commit()
        city.expect(lambda: arrived() == 1, "what was committed late must be delivered")
        idle.rollback()


@fault(15, "a third of all transactions rolled back, sequences with gaps", rollbacks=0.34)
def rollbacks(city: FaultCity, run: Run) -> None:
    time.sleep(6)
    run.row.injected += city.stop_load().get("rolled_back", 0)


@fault(18, "messages sent three times and shuffled")
def duplicates(city: FaultCity, run: Run) -> None:
    assert city.stack.kafka is not None
    bootstrap = city.stack.kafka.bootstrap
    for _ in range(3):
        time.sleep(1.5)
        for topic in (log.IN, *log.OUTS):
            again = log.messages(bootstrap, topic)[-60:] * 2
            city.random.shuffle(again)
            run.row.injected += log.send_again(bootstrap, again)


@fault(19, "everything replayed from offset 0 into live targets")
def replay_all(city: FaultCity, run: Run) -> Iterator[None]:
    time.sleep(2)
    for role in ("merge-1", "merge-2", "apply"):
        city.roles[role].terminate()
    for role in ("merge-1", "merge-2", "apply"):
        city.roles.pop(role).wait(30)
    guarded = _guarded(city)
    with run.injection():
        city.hub("UPDATE hub.consumer_offset SET next = 0")
        for name in ("portal", "ward_a", "ward_b"):
            city.sql(name, "UPDATE lienthong.consumer_offset SET next = 0")
        for role in ("merge-1", "merge-2", "apply"):
            city.start_role(role)
    yield
    run.note(f"{_guarded(city) - guarded} records were recognised as known")
    run.check(_guarded(city) > guarded, "a replay must be counted as duplicates")


def _guarded(city: FaultCity) -> int:
    counted = "SELECT coalesce(sum(n), 0)::int FROM {} WHERE outcome IN ('duplicate', 'older')"
    systems = [(name, "lienthong.counter") for name in ("portal", "ward_a", "ward_b")]
    return sum(int(city.sql(name, counted.format(table))[0][0]) for name, table in [("hub", "hub.counter"), *systems])


@fault(20, "deleted, then older updates again; deleted, then filed again", rate=15.0)
def resurrection(city: FaultCity, run: Run) -> None:
    assert city.stack.kafka is not None
    bootstrap = city.stack.kafka.bootstrap
    tag = city.random.randrange(10**6)
    codes = [f"D-{tag}-{number}" for number in range(6)]
    start = log.ends(bootstrap)
    for code in codes:
        submit(city, code)
    for _ in range(2):
        city.sql("portal", "UPDATE application SET remark = remark || 'x' WHERE code LIKE %s", arguments=[f"D-{tag}-%"])
        city.expect(lambda: all(at_ward(city, code) == 1 for code in codes), "the dossiers must reach the ward")
    older = [message for topic in (log.IN, *log.OUTS) for message in log.messages(bootstrap, topic, start)]
    city.sql("portal", "DELETE FROM application WHERE code LIKE %s", arguments=[f"D-{tag}-%"])
    city.expect(lambda: not any(at_ward(city, code) for code in codes), "the deletes must reach the ward")
    for part in (codes[:3], codes[3:]):
        with run.injection():
            log.send_again(bootstrap, older)
            for code in part if part is codes[3:] else ():
                submit(city, code, UNIT_B, "again")
            log.send_again(bootstrap, older)
            time.sleep(1)


@fault(22, "loop: an edit must come to rest")
def loop(city: FaultCity, run: Run) -> Iterator[None]:
    assert city.stack.kafka is not None
    bootstrap = city.stack.kafka.bootstrap
    run.row.injected += 1
    time.sleep(3)
    yield
    seconds = 15
    before = log.ends(bootstrap)
    time.sleep(seconds)
    after = log.ends(bootstrap)
    run.check(before == after, f"messages appeared in {seconds} s without any edit")
    city.sql("ward_a", "UPDATE ho_so SET y_kien = 'one edit' WHERE id = (SELECT id FROM ho_so WHERE ma_qg LIKE 'P%%' LIMIT 1)", arguments=[])
    time.sleep(5)
    rest = log.ends(bootstrap)
    outs = sum(end - after[place] for place, end in rest.items() if place[0] != log.IN)
    said = Counter(line for message in log.messages(bootstrap, log.IN, after) for line in log.told(message.value))
    run.note(f"one edit made {outs} messages out, and in: {', '.join(f'{line} {n} times' for line, n in sorted(said.items()))}")
    run.check(1 <= outs <= 2, "one edit must reach each other holder once")
    states = [line for line in said if line.startswith("records")]
    run.check(len(states) <= 1 + outs, "a delivery may be read back once, and then it rests")
    time.sleep(5)
    run.check(log.ends(bootstrap) == rest, "it must have come to rest")


@fault(42, "personal data sought in logs, errors, keys, headers, names and metrics", rate=0)
def sweep(city: FaultCity, run: Run) -> None:
    provoke(city)
    run.row.injected += 1
    found = thorough(city)
    for place in found[:8]:
        run.check(False, f"personal data in {place}")


def provoke(city: FaultCity) -> None:
    """Rows that are refused at the door, and rows that a target's own rules refuse: their errors must not quote them."""
    random = Random(city.seed)
    tag = random.randrange(10**6)
    bad = values_of(f"P-bad-{tag}")
    bad[3] = f"{load.CANARY_NUMBER}-{load.CANARY}"  # no personal number
    city.sql("portal", INSERT, arguments=bad)
    city.sql("ward_a", f"ALTER TABLE ho_so ADD CONSTRAINT strict CHECK (dien_thoai <> '{load.CANARY_PHONE}999') NOT VALID")
    refused = values_of(f"P-refused-{tag}")
    refused[4] = f"{load.CANARY_PHONE}999"
    city.sql("portal", INSERT, arguments=refused)
    waiting = "SELECT count(*) > 0 FROM {}.parked WHERE state IN ('open', 'parked')"
    city.expect(lambda: all(city.sql(n, waiting.format(s))[0][0] for n, s in (("hub", "hub"), ("ward_a", "lienthong"))), "both must be parked")
    city.sql("portal", "DELETE FROM application WHERE code = ANY(%s)", arguments=[[bad[0], refused[0]]])
    city.sql("ward_a", "ALTER TABLE ho_so DROP CONSTRAINT strict")
