"""The gate in a real PostgreSQL, asked by several processes at once: the rate of all together, one opening, one probe."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import pytest

from connectors.postgres import connect, rows, transaction
from lienthong import hub_schema
from lienthong.errors import ConfigError
from lienthong.gate import Gate, GateClosed

PER_SECOND = 40
PROCESSES = 4
SECONDS = 3.0

CALLER = """
import sys, time
from connectors.postgres import connect
from lienthong.gate import Gate, GateClosed
dsn, burst, seconds, per_second = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4])
gate, log = Gate(dsn, "s", per_second, burst), connect(dsn, application_name="log", autocommit=True).cursor()
ends = time.monotonic() + seconds
while time.monotonic() < ends:
    gate.enter(lambda: False)
    log.execute("INSERT INTO passed VALUES (clock_timestamp())")
"""

PROBER = """
import sys, time
from connectors.postgres import connect
from lienthong.gate import Gate, GateClosed
gate = Gate(sys.argv[1], "s", 1000, failures=3, rest_seconds=0.5, probe_seconds=5)
log = connect(sys.argv[1], application_name="log", autocommit=True).cursor()
ends = time.monotonic() + float(sys.argv[2])
while time.monotonic() < ends:
    try:
        gate.enter(lambda: False)
    except GateClosed:
        time.sleep(0.005)
        continue
    log.execute("INSERT INTO passed VALUES (clock_timestamp())")
    log.execute("SELECT down FROM service")
    time.sleep(0.05)  # the call
    gate.failed() if log.fetchone()[0] else gate.succeeded()
"""


@pytest.fixture
def hub(database: str) -> str:
    hub_schema.install(database)
    connection = connect(database, application_name="test")
    with transaction(connection) as cursor:
        cursor.execute("CREATE TABLE passed (at timestamptz); CREATE TABLE service (down bool); INSERT INTO service VALUES (false)")
    connection.close()
    return database


def ask(dsn: str, statement: str) -> list[tuple[object, ...]]:
    connection = connect(dsn, application_name="test")
    try:
        with transaction(connection) as cursor:
            return rows(cursor, statement)
    finally:
        connection.close()


def run(script: str, *arguments: str) -> list[subprocess.Popen[bytes]]:
    return [subprocess.Popen([sys.executable, "-c", script, *arguments]) for _ in range(PROCESSES)]


def end(processes: list[subprocess.Popen[bytes]]) -> None:
    assert [process.wait(60) for process in processes] == [0] * len(processes)


MOST = "SELECT max(n) FROM (SELECT count(*) OVER (ORDER BY at RANGE BETWEEN interval '999 ms' PRECEDING AND CURRENT ROW) n FROM passed) s"


@pytest.mark.parametrize("burst", [1, 10])
def test_all_processes_together_stay_under_the_rate_and_use_most_of_it(hub: str, burst: int) -> None:
    end(run(CALLER, hub, str(burst), str(SECONDS), str(PER_SECOND)))
    ((most,),) = ask(hub, MOST)
    ((count, seconds),) = ask(hub, "SELECT count(*)::int, extract(epoch FROM max(at) - min(at))::float FROM passed")
    assert isinstance(most, int)
    assert most <= PER_SECOND
    assert isinstance(count, int)
    assert isinstance(seconds, float)
    assert count / seconds > (PER_SECOND - burst) * 0.75


def test_the_gate_closes_once_for_all_and_one_probe_at_a_time_opens_it_again(hub: str) -> None:
    processes = run(PROBER, hub, "6")
    time.sleep(2)
    ask_and_commit(hub, "UPDATE service SET down = true")
    time.sleep(2)
    statement = "SELECT count(*)::int, (SELECT openings FROM hub.gate) FROM passed WHERE at > clock_timestamp() - interval '1.2 s'"
    ((probes, openings),) = ask(hub, statement)
    time.sleep(0.1)
    ask_and_commit(hub, "UPDATE service SET down = false")
    end(processes)
    ((after,),) = ask(hub, "SELECT count(*)::int FROM passed WHERE at > (SELECT max(at) FROM passed) - interval '0.5 s'")
    assert openings == 1
    assert isinstance(probes, int)
    assert 1 <= probes <= 3  # one each half second, of four processes that ask two hundred times a second
    assert isinstance(after, int)
    assert after > 10
    assert ask(hub, "SELECT openings, opened_until FROM hub.gate") == [(1, None)]


def ask_and_commit(dsn: str, statement: str) -> None:
    connection = connect(dsn, application_name="test")
    with transaction(connection) as cursor:
        cursor.execute(statement)
    connection.close()


def always() -> bool:
    return False


def test_failures_that_are_not_in_a_row_close_nothing(hub: str) -> None:
    gate = Gate(hub, "s", 1000, failures=2)
    for _ in range(3):
        gate.enter(always)
        gate.failed()
        gate.enter(always)
        gate.succeeded()
    assert gate.state()["failures"] == 0
    gate.close()


def test_only_the_probe_opens_and_a_lost_probe_is_given_up(hub: str) -> None:
    late, gate = Gate(hub, "s", 1000, failures=1), Gate(hub, "s", 1000, failures=1, rest_seconds=0.2, probe_seconds=0.3)
    late.enter(always)
    gate.enter(always)
    gate.failed()
    late.succeeded()  # of a call that began before
    with pytest.raises(GateClosed) as closed:
        gate.enter(always)
    assert closed.value.until is not None
    time.sleep(0.25)
    gate.enter(always)  # the probe, whose process dies now
    with pytest.raises(GateClosed):
        late.enter(always)
    time.sleep(0.35)
    late.enter(always)
    late.succeeded()
    assert late.state()["closed_until"] is None
    late.close()
    gate.close()


def test_calls_that_fail_after_the_gate_closed_do_not_close_it_again(hub: str) -> None:
    late, gate = Gate(hub, "s", 1000, failures=1), Gate(hub, "s", 1000, failures=1)
    late.enter(always)
    gate.enter(always)
    gate.failed()
    before = gate.state()
    late.failed()
    assert gate.state() == before
    assert before["openings"] == 1
    late.close()
    gate.close()


def test_a_pause_the_service_asks_for_holds_for_all(hub: str) -> None:
    gate, other = Gate(hub, "s", 1000), Gate(hub, "s", 1000)
    gate.enter(always)
    gate.hold(0.5)
    began = time.monotonic()
    other.enter(always)
    assert 0.4 < time.monotonic() - began < 1.5
    gate.close()
    other.close()


def test_who_shall_stop_does_not_wait(hub: str) -> None:
    gate = Gate(hub, "s", 0.1)
    gate.enter(always)
    stop = threading.Event()
    threading.Timer(0.3, stop.set).start()
    began = time.monotonic()
    with pytest.raises(GateClosed, match="stopped"):
        gate.enter(stop.is_set)
    assert time.monotonic() - began < 2
    gate.close()


def test_a_burst_that_is_the_whole_rate_is_a_wrong_configuration(hub: str) -> None:
    with pytest.raises(ConfigError):
        Gate(hub, "s", 10, burst=10)
    gate = Gate(hub, "s", 10, burst=2)
    with pytest.raises(ConfigError):
        gate.enter(always, permits=3)
    gate.close()
