"""Faults of topics, messages, slots and locks (matrix 8, 9, 13, 23 to 25, 27)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from random import Random

import psycopg2

from tests.faults import log
from tests.faults.data import submit
from tests.faults.stack import FaultCity
from tests.faults.suite import Run, fault
from tests.faults.words import SYSTEMS

IDS = [number.to_bytes(4, "big") for number in range(1, 40)]  # those of every released record type are among them
FILLER = "SELECT pg_logical_emit_message(false, 'filler', repeat('x', 1000000)) FROM generate_series(1, 40)"


def line_state(city: FaultCity, system: str, stage: str) -> tuple[str, str]:
    """State and reason of a line."""
    found = city.hub("SELECT state, coalesce(reason, '') FROM hub.line WHERE system = %s AND stage = %s", [system, stage])
    return found[0] if found else ("", "")


def said(city: FaultCity, role: str, words: str, since: int = 0) -> bool:
    """Whether a role's log holds these words."""
    return words in (city.folder / f"{role}.log").read_text("utf-8", "replace")[since:]


@fault(8, "messages deleted before they were read", rate=0, fresh=True)
def retention_passed(city: FaultCity, run: Run) -> None:
    assert city.stack.kafka is not None
    bootstrap = city.stack.kafka.bootstrap
    merges = ("merge-1", "merge-2")
    for number in range(20):
        submit(city, f"P-kept-{number}")
    city.clean(30)
    for role in merges:
        city.roles[role].terminate()
    for role in merges:
        city.roles.pop(role).wait(30)
    before = log.ends(bootstrap, [log.IN])
    for number in range(40):
        submit(city, f"P-gone-{number}")
    city.expect(lambda: sum(log.ends(bootstrap, [log.IN]).values()) > sum(before.values()), "capture must publish")
    time.sleep(1.5)
    with run.injection():
        log.delete_all(bootstrap, log.IN)
        for role in merges:
            city.start_role(role)
        city.expect(lambda: any(said(city, role, "is not in the topic any more") for role in merges), "the merge must halt and name the reason")
    stored = dict(city.hub("SELECT partition, next FROM hub.consumer_offset WHERE topic = %s", [log.IN]))
    ends = log.ends(bootstrap, [log.IN])
    passed = [p for (_, p), end in ends.items() if end > before[log.IN, p] and stored.get(p, 0) > before[log.IN, p]]
    run.check(not passed, "the merge has jumped over what was deleted")
    for role in merges:  # what the message asks the operator to do: begin where the topic begins now, and load again
        city.kill_role(role, restart=False)
    for (topic, partition), end in ends.items():
        city.sql("hub", "UPDATE hub.consumer_offset SET next = %s WHERE topic = %s AND partition = %s", arguments=[end, topic, partition])
    for role in merges:
        city.start_role(role)
    for system in SYSTEMS:
        done = city.cli("load", system)
        run.check(done.returncode == 0, f"load {system}: {done.stderr}")


@fault(9, "partition count raised in mid-run", fresh=True)
def more_partitions(city: FaultCity, run: Run) -> Iterator[None]:
    assert city.stack.kafka is not None
    with run.injection():
        log.raise_partitions(city.stack.kafka.bootstrap, log.IN, 6)
        time.sleep(5)
    yield
    city.kill_role("capture")
    city.expect(lambda: said(city, "capture", "partitions where"), "a role that starts now must refuse and name the count")


@fault(13, "slot's reader down until the server threw its log away", rate=0)
def lost_slot(city: FaultCity, run: Run) -> None:
    """Nothing is deleted meanwhile: what a source forgot while nobody listened is shown to a person, not deleted elsewhere."""
    tag = city.random.randrange(10**6)
    for number in range(20):
        submit(city, f"P-{tag}-before-{number}")
    city.clean(30)
    city.roles["capture"].terminate()
    city.roles.pop("capture").wait(30)
    server = city.stack.postgres["central"]
    server.execute("ALTER SYSTEM SET max_slot_wal_keep_size = '16MB'")
    server.execute("SELECT pg_reload_conf()")
    for number in range(40):
        submit(city, f"P-{tag}-unheard-{number}")
    city.sql("portal", "UPDATE application SET remark = remark || 'x' WHERE code LIKE %s", arguments=[f"P-{tag}-before-%"])
    with run.injection():
        for _ in range(3):
            city.sql("portal", FILLER, "SELECT pg_switch_wal()", "CHECKPOINT")
        kept = city.sql("portal", "SELECT wal_status FROM pg_replication_slots WHERE slot_name = 'lienthong_portal'")
        run.check(kept == [("lost",)], f"the slot should be lost: {kept}")
        server.execute("ALTER SYSTEM RESET max_slot_wal_keep_size")
        server.execute("SELECT pg_reload_conf()")
        city.start_role("capture")
        city.expect(lambda: line_state(city, "portal", "capture")[0] == "stopped", "the line must stop and say so", 40)
        run.check("--new-epoch" in line_state(city, "portal", "capture")[1], "the reason must name the command that helps")
    done = city.cli("load", "portal", "--new-epoch")
    run.check(done.returncode == 0, f"load --new-epoch: {done.stderr}")


@fault(23, "another writer locks the same rows in the opposite order")
def deadlocks(city: FaultCity, run: Run) -> None:
    stop, counted = threading.Event(), [0]
    threads = [
        threading.Thread(target=_lock_backwards, args=(city.environment[dsn], table, stop, counted, Random(f"{city.seed} {table} {n}")))
        for dsn, table in (("WARD_A_DSN", "ho_so"), ("PORTAL_DSN", "application"))
        for n in range(2)
    ]
    for thread in threads:
        thread.start()
    time.sleep(10)
    stop.set()
    for thread in threads:
        thread.join(20)
    run.row.injected += counted[0]
    refused = sum((city.folder / f"{role}.log").read_text("utf-8", "replace").count("40P01") for role in ("apply", "capture"))
    run.note(f"the service was the victim of {refused} deadlocks, all tried again")


def _lock_backwards(dsn: str, table: str, stop: threading.Event, counted: list[int], random: Random) -> None:
    with closing(psycopg2.connect(dsn, application_name="backwards")) as connection:
        connection.set_session(isolation_level="SERIALIZABLE")
        while not stop.is_set():
            try:
                with connection.cursor() as cursor:
                    cursor.execute(f"SELECT id FROM {table} ORDER BY id DESC LIMIT 30")  # noqa: S608 - a table of our own
                    for (found,) in cursor.fetchall():
                        cursor.execute(f"SELECT 1 FROM {table} WHERE id = %s FOR UPDATE", [found])  # noqa: S608
                        time.sleep(random.uniform(0, 0.02))
                connection.rollback()
                counted[0] += 1
            except psycopg2.Error:
                connection.rollback()


def mutants(random: Random, value: bytes, count: int) -> Iterator[bytes]:
    """Cut, with bits flipped, with bytes behind, with a part overwritten."""
    kinds: tuple[Callable[[], bytes], ...] = (
        lambda: value[: random.randrange(len(value))],
        lambda: _flipped(random, value),
        lambda: value + random.randbytes(random.randint(1, 9)),
        lambda: _overwritten(random, value),
    )
    for _ in range(count):
        yield random.choice(kinds)()


def _flipped(random: Random, value: bytes) -> bytes:
    data = bytearray(value)
    for _ in range(random.randint(1, 3)):
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)
    return bytes(data)


def _overwritten(random: Random, value: bytes) -> bytes:
    at = random.randrange(len(value))
    return value[:at] + random.randbytes(min(4, len(value) - at)) + value[at + 4 :]


@fault(24, "messages damaged: cut, bits flipped, bytes behind", clean_seconds=120.0)
def damaged(city: FaultCity, run: Run) -> None:
    assert city.stack.kafka is not None
    bootstrap = city.stack.kafka.bootstrap
    run.parked_expected = None
    pids = {role: process.pid for role, process in city.roles.items()}
    for topic, count in ((log.IN, 2000), *((topic, 300) for topic in log.OUTS)):
        originals = log.messages(bootstrap, topic)
        if not originals:
            continue
        chosen = [city.random.choice(originals) for _ in range(count)]
        bad = [(m.topic, m.partition, m.key, mutant, m.headers) for m in chosen for mutant in mutants(city.random, m.value or b"\0", 1)]
        run.row.injected += log.send_raw(bootstrap, bad)
    time.sleep(3)
    run.check(all(city.roles[role].pid == pid and city.roles[role].poll() is None for role, pid in pids.items()), "no role may end")


@fault(25, "wrong magic byte, unknown schema id, id of another record type")
def foreign(city: FaultCity, run: Run) -> None:
    assert city.stack.kafka is not None
    bootstrap = city.stack.kafka.bootstrap
    run.parked_expected = None
    bad = []
    for topic in log.OUTS:
        values = [m.value for m in log.messages(bootstrap, topic)[-40:] if m.value]
        for value in values:
            other = city.random.choice([i for i in IDS if i != value[1:5]])
            bad += [
                (topic, 0, b"x", b"\x07" + value[1:], ()),
                (topic, 0, b"x", b"\x00\x00\x98\x96\x7f" + value[5:], ()),
                (topic, 0, b"x", value[:1] + other + value[5:], ()),
            ]
    city.random.shuffle(bad)
    run.row.injected += log.send_raw(bootstrap, bad)


@fault(27, "schema registry down")
def no_registry(city: FaultCity, run: Run) -> None:
    with run.injection():
        city.kill_role("serve", restart=False)
        for role in ("merge-1", "route", "apply"):
            city.kill_role(role)
        time.sleep(4)
    city.start_role("serve")
