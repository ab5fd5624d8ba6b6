"""`lienthong run` as an operator sees it: real processes on real servers, killed, cut off, stopped, and asked how they are."""

# ruff: noqa: S608 - the SQL is made of constants

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.city import AUTHORITY, City, city, wait
from tests.city import PROFILE as SMALL

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

CANARY = "Nguyễn Thị Chim Hoàng Yến"
CANARY_NUMBER = "079199000777"
TABLE = """
CREATE TABLE ho_so (ma text PRIMARY KEY, tthc text NOT NULL, nop timestamptz NOT NULL, ten text NOT NULL, cccd text, tt text NOT NULL, ghi_chu text)
"""
PROFILE = SMALL.replace("note:", "applicant_personal_number: {column: cccd, read: personal_number}\n      note:")
SYSTEMS = """
version: 1
hub: {dsn: "${HUB_DSN}"}
kafka: {bootstrap: "${KAFKA_BOOTSTRAP}"}
systems:
  portal: {profile: simple, dsn: "${PORTAL_DSN}", capture: wal, kind: portal, lag_limit_seconds: 5}
  ward-near: {profile: simple, dsn: "${WARD_NEAR_DSN}", kind: ward}
  ward-far: {profile: simple, dsn: "${WARD_FAR_DSN}", kind: ward}
"""
CONTRACTS = """
version: 1
contracts:
  portal: {system: portal, purpose: test, legal_ground: test, entities: {dossier: {}}}
  near: {system: ward-near, purpose: test, legal_ground: test, entities: {dossier: {}}}
  far: {system: ward-far, purpose: test, legal_ground: test, entities: {dossier: {}}}
"""
_numbers = count(1)


@pytest.fixture(scope="module")
def small(stack_root: Path) -> Iterator[City]:
    """A portal and a ward on one cluster, a second ward and the hub each on one of their own; the service runs."""
    with city(stack_root / "run", clusters=("hub", "central", "local")) as made:
        for name, cluster in (("portal", "central"), ("ward_near", "central"), ("ward_far", "local")):
            made.database(cluster, name, TABLE)
        made.write("systems.yaml", SYSTEMS)
        made.write("authority.yaml", AUTHORITY)
        made.write("contracts.yaml", CONTRACTS)
        made.write("profiles/simple.yaml", PROFILE)
        made.install("portal", "ward-near", "ward-far")
        made.run()
        for system in ("portal", "ward-near", "ward-far"):
            assert made.cli("load", system).returncode == 0
        yield made


def submit(small: City, at: str = "portal") -> str:
    """A new dossier in one system; its code."""
    code = f"H29-{next(_numbers):06}"
    statement = "INSERT INTO ho_so VALUES (%s, '1.001', now(), %s, %s, 'moi', NULL)"
    small.sql(at, statement, arguments=[code, CANARY, CANARY_NUMBER])
    return code


def arrives(small: City, code: str, at: str) -> None:
    small.until(at, f"SELECT ten, cccd FROM ho_so WHERE ma = '{code}'", [(CANARY, CANARY_NUMBER)])


def lines(small: City, command: str = "lag") -> dict[tuple[str, str], dict[str, Any]]:
    return {(line["system"], line["stage"]): line for line in small.json(command)["lines"]}


def children(parent: int) -> dict[str, int]:
    """Role -> process id of the processes a service has started."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ValueError):  # ended or just starting
            text = path.read_text()
            if int(text.rpartition(")")[2].split()[1]) == parent:
                words = Path(path.parent, "cmdline").read_bytes().decode().split("\0")
                found[words[words.index("run") + 1]] = int(path.parent.name)
    return found


def handles(pid: int, number: signal.Signals) -> bool:
    """Whether a process has taken a signal into its own hands, as a role does first of all."""
    caught = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught.split()[1], 16) >> (number - 1) & 1)


def test_changes_flow_both_ways_and_every_line_is_normal(small: City) -> None:
    code = submit(small)
    arrives(small, code, "ward_near")
    arrives(small, code, "ward_far")
    small.sql("ward_far", f"UPDATE ho_so SET tt = 'xong' WHERE ma = '{code}'")
    small.until("portal", f"SELECT tt FROM ho_so WHERE ma = '{code}'", "xong")
    small.until("ward_near", f"SELECT tt FROM ho_so WHERE ma = '{code}'", "xong")
    wait(lambda: small.cli("status").returncode == 0, story=lambda: small.cli("status").stdout)
    assert small.cli("lag").returncode == 0


def test_status_and_lag_are_documents_with_a_schema_line(small: City) -> None:
    status = small.json("status")
    keys = {"schema", "lines", "changes_waiting_for_router", "counts", "parked", "corrections_open"}
    assert status["schema"] == "lienthong/status/1"
    assert keys <= set(status)
    lag = small.json("lag")
    assert lag["schema"] == "lienthong/lag/1"
    line_keys = {"system", "stage", "lag_seconds", "limit_seconds", "state", "reason", "since", "heartbeat_at"}
    assert all(set(line) == line_keys for line in lag["lines"])
    stages = {(system, stage) for system in ("portal", "ward-near", "ward-far") for stage in ("capture", "merge", "route", "apply")}
    assert {(line["system"], line["stage"]) for line in lag["lines"]} == stages
    assert all(0 <= line["lag_seconds"] < 30 for line in lag["lines"])
    limits = {line["system"]: line["limit_seconds"] for line in lag["lines"]}
    assert limits == {"portal": 5, "ward-near": 60, "ward-far": 60}


def test_killed_processes_are_started_again_and_nothing_is_lost(small: City) -> None:
    before = children(small.running[0].pid)
    assert set(before) == {"capture", "merge", "route", "apply"}
    codes = [submit(small) for _ in range(20)]
    for role in before:
        os.kill(before[role], signal.SIGKILL)
    codes += [submit(small), submit(small, at="ward_far")]

    def are_new() -> bool:
        now = children(small.running[0].pid)
        return set(now) == set(before) and not set(now.values()) & set(before.values())

    wait(are_new, 20)
    for code in codes:
        arrives(small, code, "portal")
        arrives(small, code, "ward_near")
    restarts = {event["role"] for event in small.events() if event.get("action") == "restart"}
    assert restarts == {"apply-3", "merge-1", "capture-0", "route-2"}


def test_an_unreachable_ward_holds_up_nobody_and_catches_up(small: City) -> None:
    small.stack.postgres["local"].stop()
    try:
        codes = [submit(small) for _ in range(5)]
        for code in codes:
            arrives(small, code, "ward_near")
        wait(lambda: lines(small)["ward-far", "apply"]["state"] == "retrying", story=lambda: str(lines(small)))
        done = small.cli("status")
        assert done.returncode == 1
        assert "ward-far" in done.stdout
        assert "Connection refused" in done.stdout
        assert {system for (system, _), line in lines(small).items() if line["state"] == "retrying"} == {"ward-far"}
        parked = small.cli("parked", "list")
        assert "ward-far" in parked.stdout
        assert "it is tried again by itself" in parked.stdout
        code = submit(small, at="ward_near")
        arrives(small, code, "portal")
    finally:
        small.stack.postgres["local"].start()
    for code in codes:
        arrives(small, code, "ward_far")
    arrives(small, submit(small, at="ward_far"), "portal")
    wait(lambda: small.cli("lag").returncode == 0, story=lambda: small.cli("lag").stdout)


def test_a_hub_that_is_down_is_waited_for(small: City) -> None:
    arrives(small, submit(small), "ward_far")
    small.stack.postgres["hub"].stop()
    try:
        code = submit(small)
        begun = time.monotonic()
        done = small.cli("status")
        assert done.returncode == 3
        assert "the hub cannot be reached" in done.stderr
        assert time.monotonic() - begun < 15
        waits = ("capture_waits", "merge_waits", "route_waits", "apply_waits")
        wait(lambda: set(waits) <= {event.get("action") for event in small.events()}, story=small.logs)
    finally:
        small.stack.postgres["hub"].start()
    arrives(small, code, "ward_near")
    arrives(small, code, "ward_far")
    arrives(small, submit(small, at="ward_far"), "portal")


def test_brokers_that_are_down_are_waited_for(small: City) -> None:
    assert small.stack.kafka is not None
    arrives(small, submit(small), "ward_far")
    small.stack.kafka.stop()
    try:
        codes = [submit(small), submit(small, at="ward_far")]
        begun = time.monotonic()
        done = small.cli("load", "portal")
        assert done.returncode == 3, done.stderr
        assert "no Kafka broker can be reached at 127.0.0.1" in done.stderr
        assert time.monotonic() - begun < 12
    finally:
        small.stack.kafka.start()
    for code in codes:
        arrives(small, code, "portal")
        arrives(small, code, "ward_near")
        arrives(small, code, "ward_far")


def test_a_clean_end_gives_the_leases_back_and_lag_then_grows(small: City) -> None:
    arrives(small, submit(small), "ward_far")
    inside = children(small.running[0].pid)
    assert len(inside) == 4
    leases = "SELECT count(*) FROM hub.capture_state WHERE lease_until > now()"
    small.until("hub", leases, 4)
    assert small.stop() == [0]
    assert not [pid for pid in inside.values() if Path(f"/proc/{pid}").exists()]
    assert small.sql("hub", leases) == [(0,)]
    before = lines(small)
    wait(lambda: small.cli("lag").returncode == 1, 30)
    after = lines(small)
    assert all(after[place]["lag_seconds"] > before[place]["lag_seconds"] for place in before)
    wait(lambda: {line["state"] for line in lines(small).values()} == {"silent"}, 30, lambda: str(lines(small)))
    done = small.cli("status")
    assert done.returncode == 1
    assert "is `lienthong run capture` running?" in done.stdout
    code = submit(small)
    small.run()
    arrives(small, code, "ward_far")


def test_the_processes_end_with_the_one_that_started_them(small: City) -> None:
    inside = children(small.running[0].pid)
    small.running[0].kill()
    small.running.pop().wait()
    wait(lambda: not [pid for pid in inside.values() if Path(f"/proc/{pid}").exists()], 30)


def test_one_role_alone_ends_cleanly_too_and_ctrl_c_has_its_own_code(small: City) -> None:
    """Also when it is told to end in the middle of its start, before a server of its own listens to signals."""
    small.stop()
    for pause in (0.0, 1.0):
        for role, number, code in (("merge", signal.SIGTERM, 0), ("apply", signal.SIGINT, 130), ("serve", signal.SIGTERM, 0)):
            process = small.start("run", role, "--port", "0", log=f"{role}.log")
            wait(lambda process=process: process.poll() is not None or handles(process.pid, signal.SIGTERM), story=small.logs)  # type: ignore[misc]
            time.sleep(pause)
            assert process.poll() is None, small.logs()[-2000:]
            assert small.stop(number) == [code], role


def test_no_log_holds_personal_data_and_every_line_is_json(small: City) -> None:
    text = small.logs() + small.said
    assert len(small.events()) > 20
    assert CANARY not in text
    assert CANARY_NUMBER not in text
    assert json.dumps(CANARY)[1:-1] not in text
    spoken = [line for line in small.logs().splitlines() if not line.startswith("{")]
    assert not [line for line in spoken if "Ctrl-C ends it" not in line and line != "interrupted"], spoken
    assert all({"at", "level", "name", "message"} <= set(event) for event in small.events())
