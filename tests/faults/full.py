"""Faults of full disks, on small file systems of their own: a target's tables, the broker's log (matrix 7, 12)."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lienthong.embedded.kafka import KafkaBroker
from lienthong.embedded.postgres import PostgresCluster, _servant
from lienthong.embedded.process import run as run_program
from lienthong.errors import LienThongError
from tests.faults.data import submit
from tests.faults.refusals import parked_at
from tests.faults.stack import FaultCity
from tests.faults.suite import Run, Skipped, fault
from tests.faults.topics import line_state

TABLES_MB, LOG_MB, LOG_SPARE_MB = 24, 96, 48
MOVE = "ALTER TABLE {} SET TABLESPACE {}"
CONFIRMED = "SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = 'lienthong_portal'"


@contextmanager
def small_disk(place: Path, megabytes: int) -> Iterator[Path]:
    """A file system of its own at a folder; raises `Skipped` where it cannot be mounted."""
    if os.geteuid() != 0:
        raise Skipped("mounting a small file system needs root")
    place.mkdir(exist_ok=True)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "lienthong-faults", str(place)], capture_output=True, check=False)
    if done.returncode:
        raise Skipped("this machine does not let a small file system be mounted")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=False, capture_output=True)


@contextmanager
def filled(place: Path) -> Iterator[None]:
    """Not a byte is left there."""
    filler = place / "filler"
    try:
        with filler.open("wb", buffering=0) as file, suppress(OSError):
            while file.write(b"\0" * 4096):
                pass
        yield
    finally:
        filler.unlink()


@fault(12, "target's disk full: its tables', then its log's", clean_seconds=120.0)
def target_disk_full(city: FaultCity, run: Run) -> None:
    """First rows are refused, ours and the desks' own; then the server itself cannot write its log and ends."""
    _tables_full(city, run)
    _log_full(city, run)


def _tables_full(city: FaultCity, run: Run) -> None:
    with small_disk(city.folder / "small", TABLES_MB) as place:
        (place / "tables").mkdir()
        shutil.chown(place / "tables", user=_servant() or os.geteuid())
        city.stack.postgres["ward"].execute(f"CREATE TABLESPACE small LOCATION '{place / 'tables'}'")
        try:
            for name in ("ward_a", "ward_b"):
                city.sql(name, MOVE.format("ho_so", "small"))
            before = parked_at(city, "ward_a")
            with run.injection(), filled(place):
                submit_many(city)
                city.expect(lambda: line_state(city, "ward-a", "apply")[0] == "retrying", "the line must wait and try again", 45)
                run.check("No space left" in line_state(city, "ward-a", "apply")[1], "the reason must be told")
                time.sleep(6)
                run.check(parked_at(city, "ward_a") == before, "healthy records may not be parked")
                run.check(line_state(city, "portal", "apply")[0] == "running", "other targets must go on")
        finally:
            for name in ("ward_a", "ward_b"):
                city.sql(name, MOVE.format("ho_so", "pg_default"))
            city.stack.postgres["ward"].execute("DROP TABLESPACE small")


def _log_full(city: FaultCity, run: Run) -> None:
    server, before = city.stack.postgres["ward"], parked_at(city, "ward_a")
    log = server._data.resolve() / "pg_wal"
    size = sum(file.stat().st_size for file in log.glob("**/*") if file.is_file())
    with small_disk(city.folder / "wal", size // 2**20 + LOG_SPARE_MB) as place:
        try:
            _log_to(server, log, place / "pg_wal")
            with run.injection(), filled(place):
                submit_many(city)
                city.expect(lambda: not _writes_log(server), "a server that cannot write its log must end", 60)
                city.expect(lambda: line_state(city, "ward-a", "apply")[0] == "retrying", "the line must wait and try again", 45)
                time.sleep(4)
                run.check(line_state(city, "portal", "apply")[0] == "running", "other targets must go on")
        finally:
            _log_back(server, log, place / "pg_wal")
    run.check(parked_at(city, "ward_a") == before, "healthy records may not be parked")


def _writes_log(server: PostgresCluster) -> bool:
    """Whether the server still runs after one more segment of its log."""
    with suppress(LienThongError):
        server.execute("SELECT pg_logical_emit_message(true, 'fault', repeat('x', 100000)), pg_switch_wal()")
    return server.is_running


def _log_to(server: PostgresCluster, log: Path, place: Path) -> None:
    """The server's log of changes goes to another disk; its folder is a link from then on."""
    server.stop()
    run_program(["cp", "-a", str(log), str(place)])
    shutil.rmtree(log)
    log.symlink_to(place)
    server.start()


def _log_back(server: PostgresCluster, log: Path, place: Path) -> None:
    server.stop()
    if log.is_symlink():
        log.unlink()
        run_program(["cp", "-a", str(place), str(log)])
    server.start()


def submit_many(city: FaultCity) -> None:
    """More than the free room in the pages that are there."""
    tag = city.random.randrange(10**6)
    for number in range(60):
        submit(city, f"P-full-{tag}-{number}", remark="x" * 1500)


@fault(7, "broker's disk full", fresh=True, clean_seconds=150.0)
def broker_disk_full(city: FaultCity, run: Run) -> None:
    broker = city.stack.kafka
    assert broker is not None
    data = broker.directory / "data"
    with small_disk(city.folder / "log", LOG_MB) as place:
        _move(broker, data, place / "data")
        try:
            with run.injection():
                with filled(place):
                    city.expect(lambda: not broker.is_running, "a broker that cannot write must refuse everything: it ends", 60)
                    time.sleep(2)
                    confirmed = city.sql("portal", CONFIRMED)
                    submit(city, f"P-broker-{city.random.randrange(10**6)}")
                    time.sleep(5)
                    run.check(city.sql("portal", CONFIRMED) == confirmed, "the publisher may not confirm what no broker has")
                    run.check(city.roles["capture"].poll() is None, "the publisher must wait, not end")
                broker.kill()
                broker.start()
            time.sleep(3)
        finally:
            _move(broker, place / "data", data)


def _move(broker: KafkaBroker, here: Path, there: Path) -> None:
    """The broker's log goes to another disk; its folder is a link from then on, or is itself again."""
    link = broker.directory / "data"
    broker.stop()
    if there != link:
        subprocess.run(["cp", "-a", "--sparse=always", str(here), str(there)], check=True)
        shutil.rmtree(here)
        link.symlink_to(there)
    else:
        link.unlink()
        subprocess.run(["cp", "-a", "--sparse=always", str(here), str(there)], check=True)
    broker.start()
