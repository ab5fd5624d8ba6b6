"""What the overview says of lines: how bad, in which order, since when, what is at risk and what to do."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from lienthong.settings import Settings
from lienthong.web import standing
from lienthong.web.standing import BAD, CALM, GOOD, WARN, Line
from tests import web_kit
from tests.unit.test_docs import unknown

NOW = datetime(2026, 11, 23, 3, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return web_kit.settings_of(Path(tmp_path_factory.mktemp("standing")) / "config", "host=127.0.0.1 port=1 dbname=hub")


def line(system: str | None, stage: str, state: str, lag: float | None = 1.0, **more: Any) -> Line:
    limit = more.pop("limit_seconds", 60)
    values = {"reason": None, "since": NOW - timedelta(hours=1)} | more
    return Line(system=system, stage=stage, state=state, tone=standing.tone_of(state, lag, limit), lag_seconds=lag, limit_seconds=limit, **values)


def alarms(settings: Settings, *lines: Line, probes: tuple[Line, ...] = (), pace: dict[str, float] | None = None) -> list[standing.Alarm]:
    return standing.alarms(lines, probes, settings, pace or {}, NOW)


@pytest.mark.parametrize(
    ("state", "lag", "tone"),
    [
        ("normal", 1, GOOD), ("starting", 1, CALM), ("late", 90, WARN), ("broken", 130, BAD), ("silent", 1, BAD), ("stopped", 1, BAD),
        ("retrying", 10, WARN), ("retrying", 121, BAD), ("not started", None, WARN), ("a word of a later release", 1, WARN),
    ],
)  # fmt: skip
def test_how_bad_a_state_is(state: str, lag: float | None, tone: str) -> None:
    assert standing.tone_of(state, lag, 60) == tone


def test_the_worst_is_first_and_what_all_share_before_ones_own(settings: Settings) -> None:
    found = alarms(
        settings, line("one-stop", "capture", "late", 70), line("ward-sai-gon", "apply", "stopped", 500), line(None, "merge", "silent", 40),
        line("city-portal", "apply", "broken", 600), line("dept-justice", "apply", "normal"),
    )  # fmt: skip
    assert [(alarm.line.system, alarm.line.stage) for alarm in found] == [
        (None, "merge"), ("city-portal", "apply"), ("ward-sai-gon", "apply"), ("one-stop", "capture"),
    ]  # fmt: skip


def test_a_stage_that_all_share_is_told_once() -> None:
    said = {"state": "silent", "reason": "no sign of life", "since": NOW.isoformat(), "limit_seconds": 60}
    found = standing.lines_of(
        {"system": system, "stage": "merge", "lag_seconds": 30.0, **said} for system in ("city-portal", "one-stop", "ward-sai-gon")
    )
    assert [(each.system, each.stage, each.state) for each in found] == [(None, "merge", "silent")]


@pytest.mark.parametrize(
    ("state", "lag", "began", "since"),
    [
        ("silent", 300.0, 3600, 300),  # what has passed last, not when the line began to run
        ("late", 90.0, 3600, 90),
        ("stopped", 20.0, 600, 600),  # it says stopped for ten minutes; nothing has been changed meanwhile
        ("retrying", 700.0, 600, 700),
    ],
)
def test_since_when_nothing_passes(settings: Settings, state: str, lag: float, began: int, since: int) -> None:
    (alarm,) = alarms(settings, line("ward-sai-gon", "apply", state, lag, since=NOW - timedelta(seconds=began)))
    assert alarm.since == NOW - timedelta(seconds=since)


def test_a_line_that_never_ran_has_no_since(settings: Settings) -> None:
    (alarm,) = alarms(settings, line("ward-sai-gon", "capture", "not started", None, since=None))
    assert alarm.since is None
    assert alarm.commands == ("lienthong run capture --system ward-sai-gon", "lienthong load ward-sai-gon")


def test_about_how_many_changes_wait_is_told_from_the_pace_of_the_week(settings: Settings) -> None:
    pace = {"ward-sai-gon": 60.0, "one-stop": 240.0}
    (own,) = alarms(settings, line("ward-sai-gon", "capture", "silent", 1800.0), pace=pace)
    (shared,) = alarms(settings, line(None, "merge", "silent", 1800.0), pace=pace)
    (out,) = alarms(settings, line("ward-sai-gon", "apply", "silent", 1800.0), pace=pace)
    assert (own.about, shared.about, out.about) == (30, 150, None)


def test_a_merge_that_stands_says_until_when_kafka_keeps_what_waits(settings: Settings) -> None:
    (alarm,) = alarms(settings, line(None, "merge", "silent", 3600.0))
    assert "%(until)s" in alarm.risk.text
    assert alarm.risk.values["until"] == "2026-11-30 09:00", "a week after the oldest that waits, as the city's clocks show it"


def test_a_stopped_line_names_the_commands_of_its_own_reason(settings: Settings) -> None:
    reason = "it went back in time: `lienthong load ward-sai-gon --new-epoch`, or `lienthong resume ward-sai-gon` when nothing is missing"
    (alarm,) = alarms(settings, line("ward-sai-gon", "capture", "stopped", 10.0, reason=reason))
    assert alarm.commands == ("lienthong load ward-sai-gon --new-epoch", "lienthong resume ward-sai-gon")
    (other,) = alarms(settings, line("ward-sai-gon", "apply", "stopped", 10.0, reason="LT-LINE-003: too much is refused"))
    assert other.commands == ("lienthong check --system ward-sai-gon", "lienthong parked list --system ward-sai-gon")


def test_a_probe_speaks_only_where_no_line_does(settings: Settings) -> None:
    stuck = line("ward-sai-gon", "in", "late", 200.0)
    assert [alarm.line.stage for alarm in alarms(settings, probes=(stuck,))] == ["in"]
    assert [alarm.line.stage for alarm in alarms(settings, line("ward-sai-gon", "apply", "silent"), probes=(stuck,))] == ["apply"]
    assert [alarm.line.stage for alarm in alarms(settings, line(None, "merge", "silent"), probes=(stuck,))] == ["merge"]
    assert len(alarms(settings, line("one-stop", "apply", "silent"), probes=(stuck,))) == 2


def test_the_same_at_several_systems_is_one_alarm_with_one_command(settings: Settings) -> None:
    names = ("city-portal", "one-stop", "ward-sai-gon", "ward-tan-dinh")
    silent = [line(name, "capture", "silent", 100.0 + n, reason=f"no sign of life for {n} s") for n, name in enumerate(names)]
    found = alarms(settings, *silent, line("dept-justice", "apply", "stopped", 5000.0), pace={"one-stop": 36.0, "dept-justice": 999.0})
    assert [(alarm.line.system, alarm.systems) for alarm in found] == [("dept-justice", ()), ("ward-tan-dinh", names)]
    assert found[1].commands == ("lienthong run capture", "lienthong status")
    assert found[1].about == 1
    assert len(alarms(settings, *silent[:2])) == 2


def test_other_reasons_are_other_alarms(settings: Settings) -> None:
    away = [line(name, "apply", "retrying", 100.0, reason=f"{name} does not answer") for name in ("city-portal", "one-stop", "ward-sai-gon")]
    assert len(alarms(settings, *away)) == 3


def test_every_command_that_an_alarm_names_exists(settings: Settings) -> None:
    states = [*standing.TONES, *standing.PROBE_TONES, "a word of a later release"]
    for stage in standing.STAGE_WORDS:
        system = None if stage in standing.SHARED else "ward-sai-gon"
        for state in states:
            shown = Line(system=system, stage=stage, state=state, tone=BAD, lag_seconds=500.0, limit_seconds=60, reason=None, since=NOW)
            (alarm,) = alarms(settings, shown)
            assert alarm.commands
            assert [wrong for command in alarm.commands if (wrong := unknown(command.split()[1:]))] == []
