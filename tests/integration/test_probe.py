"""Probe records on real lines: a stage that stands still is named, whatever its process says of itself; nothing else raises an alarm."""

# ruff: noqa: S608 - names of our own in statements

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families

from lienthong import probe
from lienthong.capture.outbox import next_xid, resume_point
from lienthong.embedded.ports import free_port
from tests.city import wait
from tests.lines_kit import Lines, lines

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

LIMIT = 4
NOTICED_SECONDS = LIMIT + 2 * probe.interval_seconds(3) + 5  # a probe begins, is late, and is looked at; the machine is shared
LEGS = {(system, leg) for system in ("portal", "ward-near", "ward-far") for leg in ("in", "out")}


@pytest.fixture(scope="module")
def watched(stack_root: Path) -> Iterator[Lines]:
    """A portal and two wards, with the watch."""
    with lines(stack_root / "probe", limit=LIMIT) as made:
        made.start("watch")
        yield made


def standing(watched: Lines, command: str = "status") -> dict[tuple[str, str], dict[str, Any]]:
    return {(p["system"], p["leg"]): p for p in watched.city.json(command)["probes"]}


def stuck(watched: Lines) -> set[tuple[str, str, str, str]]:
    """System, leg, state, stage of every leg that is not as it should be."""
    return {(*place, p["state"], p["stage"]) for place, p in standing(watched).items() if p["state"] not in ("normal", "waiting")}


def story(watched: Lines) -> str:
    return f"{watched.city.cli('status').stdout}\n{watched.city.logs()[-4000:]}"


def all_well(watched: Lines) -> None:
    def well() -> bool:
        found = standing(watched)
        return set(found) == LEGS and all(p["state"] in ("normal", "waiting") and p["took_seconds"] is not None for p in found.values())

    wait(well, 60, lambda: story(watched))


def test_a_probe_travels_every_leg_and_nothing_is_stuck(watched: Lines) -> None:
    all_well(watched)
    for _ in range(8):  # probes come and go meanwhile
        assert stuck(watched) == set()
    assert standing(watched, "lag").keys() == LEGS
    done = watched.city.cli("probe", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert watched.city.cli("probe", "--system", "ward-far").returncode == 0
    assert all(0 <= p["took_seconds"] < LIMIT for p in standing(watched).values())


def test_probes_are_no_records(watched: Lines) -> None:
    all_well(watched)
    assert watched.city.sql("hub", "SELECT count(*) FROM hub.contribution") == [(0,)]
    assert watched.city.sql("hub", "SELECT count(*) FROM hub.parked") == [(0,)]
    assert watched.city.sql("ward_far", "SELECT count(*) FROM lienthong.applied") == [(0,)]
    code = watched.submit()
    watched.city.until("ward_far", f"SELECT tt FROM ho_so WHERE ma = '{code}'", "moi")


@pytest.mark.parametrize("stage", ["capture", "merge", "route", "apply"])
def test_a_frozen_process_is_named_by_its_stage(watched: Lines, stage: str) -> None:
    all_well(watched)
    leg = "in" if stage in ("capture", "merge") else "out"
    expected = {(system, leg, "late", stage) for system in ("portal", "ward-near", "ward-far")}
    with watched.frozen(stage):
        wait(lambda: stuck(watched) == expected, NOTICED_SECONDS, lambda: story(watched))
        wait(lambda: f"a probe is stuck at {stage}" in watched.city.cli("status").stdout, NOTICED_SECONDS, lambda: story(watched))
        assert watched.city.cli("status").returncode == 1
        assert watched.city.cli("lag").returncode == 1
    all_well(watched)


@contextmanager
def beating(watched: Lines, stage: str) -> Iterator[None]:
    """Somebody gives this stage's signs of life, as a process does that runs and works at nothing."""
    over = threading.Event()

    def beat() -> None:
        while not over.wait(0.5):
            watched.city.sql("hub", f"UPDATE hub.line SET beat = clock_timestamp(), through = clock_timestamp() WHERE stage = '{stage}'")

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@pytest.mark.parametrize(("stage", "leg"), [("merge", "in"), ("apply", "out")])
def test_a_stage_that_says_it_lives_and_does_nothing_is_found(watched: Lines, stage: str, leg: str) -> None:
    all_well(watched)
    with watched.frozen(stage), beating(watched, stage):
        wait(lambda: ("ward-near", leg, "late", stage) in stuck(watched), NOTICED_SECONDS, lambda: story(watched))
        states = {line["state"] for line in watched.city.json("lag")["lines"] if line["stage"] == stage}
        assert states == {"normal"}  # what signs of life alone would tell
        assert "though it gives signs of life" in watched.city.cli("status").stdout
    all_well(watched)


def test_a_ward_that_is_away_is_no_stall(watched: Lines) -> None:
    all_well(watched)
    watched.city.stack.postgres["far"].stop()
    try:
        wait(lambda: {s[2] for s in stuck(watched)} == {"unreachable"}, 30, lambda: story(watched))
        assert {s[0] for s in stuck(watched)} == {"ward-far"}
    finally:
        watched.city.stack.postgres["far"].start()
    all_well(watched)


def test_a_database_that_hangs_holds_up_neither_the_others_nor_the_watch(watched: Lines) -> None:
    all_well(watched)
    server = watched.city.stack.postgres["far"].pid
    os.kill(server, signal.SIGSTOP)  # takes connections and never answers
    try:
        wait(lambda: {s[:1] + s[2:3] for s in stuck(watched)} == {("ward-far", "unreachable")}, 45, lambda: story(watched))
    finally:
        os.kill(server, signal.SIGCONT)
    all_well(watched)


def test_a_line_that_a_person_must_decide_about_says_so_itself(watched: Lines) -> None:
    all_well(watched)
    watched.city.sql("hub", "UPDATE hub.source_mark SET held = 'a test holds it' WHERE system = 'ward-near'")
    try:
        wait(lambda: ("ward-near", "in", "stopped") in {s[:3] for s in stuck(watched)}, 30, lambda: story(watched))
        assert standing(watched)["ward-near", "in"]["reason"] == "a test holds it"
        assert {s[0] for s in stuck(watched)} == {"ward-near"}
    finally:
        watched.city.sql("hub", "UPDATE hub.source_mark SET held = NULL")
    all_well(watched)


def test_a_watch_that_does_not_watch_is_seen(watched: Lines) -> None:
    all_well(watched)
    with watched.frozen("watch"):
        watched.city.sql("hub", "UPDATE hub.probe SET at = at - INTERVAL '1 minute'")
        assert {s[2] for s in stuck(watched)} == {"unwatched"}
        assert "does `lienthong run watch` run?" in watched.city.cli("status").stdout
    all_well(watched)


def test_the_age_of_probes_is_measured_and_grows_when_nobody_watches(watched: Lines) -> None:
    all_well(watched)
    port = free_port()
    watched.city.start("run", "serve", "--port", str(port), log="serve.log")
    wait(lambda: set(ages(port)) == LEGS, 60, lambda: story(watched))
    assert max(ages(port).values()) < NOTICED_SECONDS
    with watched.frozen("watch"):
        before = ages(port)
        time.sleep(4)
        assert all(age > before[leg] + 2 for leg, age in ages(port).items())
    all_well(watched)


def ages(port: int) -> dict[tuple[str, str], float]:
    try:
        with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:  # noqa: S310 - our own address
            text = answer.read().decode()
    except OSError:
        return {}
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {(s.labels["system"], s.labels["leg"]): s.value for s in samples if s.name == "lienthong_probe_age_seconds"}


def test_the_number_of_probes_is_bounded() -> None:
    assert probe.interval_seconds(6) == 5
    assert all(systems / probe.interval_seconds(systems) <= 4 for systems in (1, 6, 50, 168, 1000))


def test_a_resume_point_trusts_no_number_above_what_was_read() -> None:
    """Numbers above it may be given out again after a crash of the server."""
    assert resume_point("100:100:", "180:200:180,190", 150) == "151:151:"
    assert resume_point("100:100:", "120:200:120,140,190", 150) == "120:151:120,140"
    assert resume_point("120:151:120,140", "200:200:", 0) == "151:151:"  # quiet: what was running then has ended
    assert resume_point("90:100:95", "95:100:95", 0) == "95:100:95"
    assert next_xid("95:100:95") == 100
