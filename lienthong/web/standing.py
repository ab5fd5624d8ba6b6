"""How the city stands, ready to be seen at a glance: lines worst first; for what is wrong, since when, what is at risk, what to do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from connectors.postgres import Cursor, rows
from lienthong.settings import Settings
from lienthong.web.words import ZONE, Said, phrase

GOOD, CALM, WARN, BAD = "good", "calm", "warn", "bad"
_ORDER = {BAD: 0, WARN: 1, CALM: 2, GOOD: 3}
TONES = {
    "normal": GOOD,
    "running": GOOD,
    "starting": CALM,
    "late": WARN,
    "retrying": WARN,
    "not started": WARN,
    "broken": BAD,
    "silent": BAD,
    "stopped": BAD,
}
"""State of a line or probe: how bad it is. What is retried for longer than twice its limit is bad too."""
PROBE_TONES = {"normal": GOOD, "waiting": GOOD, "late": BAD, "unreachable": BAD, "stopped": BAD, "retrying": WARN, "unwatched": WARN}
SHARED = ("merge", "route")
ALIKE_FROM = 3
EACH = phrase("each of these systems")
IN_TOPIC_DAYS = 7  # how long lienthong.in keeps what the merge has not read (lienthong.run)

STATE_WORDS = {
    "normal": phrase("normal"),
    "running": phrase("normal"),
    "starting": phrase("starting"),
    "late": phrase("late"),
    "retrying": phrase("trying again"),
    "not started": phrase("not started"),
    "broken": phrase("far behind"),
    "silent": phrase("no sign of life"),
    "stopped": phrase("stopped"),
    "waiting": phrase("on its way"),
    "unreachable": phrase("does not answer"),
    "unwatched": phrase("not watched"),
}
STAGE_WORDS = {
    "capture": phrase("capture: from the system to the hub"),
    "merge": phrase("merge: into the city's records"),
    "route": phrase("route: out to all systems"),
    "apply": phrase("apply: from the hub into the system"),
    "deliver": phrase("deliver: to the national portal"),
    "in": phrase("probe: from the system to the hub"),
    "out": phrase("probe: from the hub into the system"),
}
RISKS = {
    "capture": phrase(
        "What %(who)s has changed since then is not in the hub, and every other system still shows what was before. Nothing is lost: "
        "%(who)s keeps its changes until they are read. Watch its disk when this lasts for hours."
    ),
    "merge": phrase(
        "What all systems have changed since then is stored in Kafka and reaches nobody. "
        "Nothing is lost until %(until)s: that is how long Kafka keeps it."
    ),
    "route": phrase(
        "What has changed since then is in the hub and is sent to nobody. Nothing is lost: the hub keeps the list of what is to be sent."
    ),
    "apply": phrase(
        "%(who)s does not get what the other systems have changed since then, and its people work with old records. Nothing is lost: "
        "its topic keeps the newest state of every record for as long as it takes."
    ),
    "deliver": phrase("Citizens see an old state of their dossiers at the national portal. Nothing is lost: messages keep their order and wait."),
    "in": phrase("A test record does not travel from %(who)s to the hub, so real changes do not either, whatever the processes say."),
    "out": phrase("A test record does not travel from the hub to %(who)s, so real changes do not either, whatever the processes say."),
}
_PACE = """
SELECT system, sum(n)::float8 / 168 FROM hub.day_count WHERE outcome = 'captured' AND day > current_date - 7 AND day <= current_date GROUP BY 1
"""


@dataclass(frozen=True, slots=True)
class Line:
    """One line, or a stage that all systems share (`system` is None)."""

    system: str | None
    stage: str
    state: str
    tone: str
    lag_seconds: float | None
    limit_seconds: int
    reason: str | None
    since: datetime | None

    @property
    def state_words(self) -> Said:
        """The state for people."""
        return STATE_WORDS.get(self.state, phrase(self.state))

    @property
    def stage_words(self) -> Said:
        """The stage for people."""
        return STAGE_WORDS[self.stage]


@dataclass(frozen=True, slots=True)
class Alarm:
    """What is wrong somewhere; `systems` where it is the same at several, of which `line` is the worst."""

    line: Line
    systems: tuple[str, ...]
    since: datetime | None
    risk: Said
    about: int | None
    commands: tuple[str, ...]


def tone_of(state: str, lag: float | None, limit: int) -> str:
    """How bad a line's state is."""
    if state == "retrying" and lag is not None and lag > 2 * limit:
        return BAD
    return TONES.get(state, WARN)


def lines_of(found: Iterable[Mapping[str, Any]]) -> list[Line]:
    """The lines as `lienthong.status.lines` gives them, shared stages once."""
    out: dict[tuple[str | None, str], Line] = {}
    for line in found:
        system = None if line["stage"] in SHARED else line["system"]
        lag, limit, state = line["lag_seconds"], line["limit_seconds"], line["state"]
        made = Line(system, line["stage"], state, tone_of(state, lag, limit), lag, limit, line["reason"], _time(line["since"]))
        known = out.get((system, line["stage"]))
        if known is None or badness(made) < badness(known):
            out[system, line["stage"]] = made
    return sorted(out.values(), key=badness)


def probes_of(found: Iterable[Mapping[str, Any]], now: datetime) -> list[Line]:
    """The probes in the form of lines."""
    out = []
    for probe in found:
        waiting = probe["waiting_seconds"]
        since = None if waiting is None else now - timedelta(seconds=waiting)
        tone = PROBE_TONES.get(probe["state"], WARN)
        out.append(Line(probe["system"], probe["leg"], probe["state"], tone, waiting, probe["limit_seconds"], probe["reason"], since))
    return sorted(out, key=badness)


def badness(line: Line) -> tuple[int, int, float, str, str]:
    """Sorts the worst first: by tone, what all share before what is one's own, by how far behind, by name."""
    return _ORDER[line.tone], line.system is not None, -(line.lag_seconds or 0.0), line.system or "", line.stage


def alarms(lines: Sequence[Line], probes: Sequence[Line], settings: Settings, pace: Mapping[str, float], now: datetime) -> list[Alarm]:
    """What is wrong, worst first; a probe only where no line of its system, nor a shared stage, says so already.

    The same at several systems is one alarm: it is mostly one process, or one server, that they share.
    """
    wrong = [line for line in lines if line.tone in (BAD, WARN)]
    told = {line.system for line in wrong}
    stuck = [probe for probe in probes if probe.tone in (BAD, WARN) and probe.system not in told and None not in told]
    alike: dict[tuple[str, ...], list[Line]] = {}
    for line in sorted([*wrong, *stuck], key=badness):
        alike.setdefault(_kind(line), []).append(line)
    found = [_alarm(line, names, settings, pace, now) for group in alike.values() for line, names in _together(group)]
    return sorted(found, key=lambda alarm: badness(alarm.line))


def _kind(line: Line) -> tuple[str, ...]:
    """What is the same when this is: a reason only where it is not a measurement."""
    reason = line.reason if line.state in ("retrying", "stopped", "unreachable") else ""
    return line.stage, line.state, reason or ""


def _together(group: Sequence[Line]) -> list[tuple[Line, tuple[str, ...]]]:
    if len(group) < ALIKE_FROM:
        return [(line, ()) for line in group]
    return [(group[0], tuple(sorted(line.system for line in group if line.system is not None)))]


def _alarm(line: Line, systems: tuple[str, ...], settings: Settings, pace: Mapping[str, float], now: datetime) -> Alarm:
    since = _since(line, now)
    who: Any = EACH if systems else line.system or "*"
    until = None if since is None else (since + timedelta(days=IN_TOPIC_DAYS)).astimezone(ZONE)
    risk = phrase(RISKS[line.stage].text, who=who, until="–" if until is None else f"{until:%Y-%m-%d %H:%M}")
    of_all = replace(line, system=None) if systems else line
    changing = systems or ((line.system,) if line.system is not None else tuple(pace))
    return Alarm(line, systems, since, risk, _about(line, sum(pace.get(name, 0.0) for name in changing), since, now), _commands(of_all, settings))


def _since(line: Line, now: datetime) -> datetime | None:
    """Since when nothing passes: what is behind, since its newest change that has passed; else since its state began."""
    behind = None if line.lag_seconds is None else now - timedelta(seconds=line.lag_seconds)
    if line.state in ("stopped", "retrying") and line.since is not None and behind is not None:
        return min(line.since, behind)
    return behind or line.since


def _about(line: Line, an_hour: float, since: datetime | None, now: datetime) -> int | None:
    """How many changes usually come in that time (mean of the last seven days)."""
    if since is None or line.stage not in ("capture", *SHARED):
        return None
    return round(an_hour * (now - since).total_seconds() / 3600)


def _commands(line: Line, settings: Settings) -> tuple[str, ...]:
    """What an operator types, in this order."""
    role = {"in": "watch", "out": "watch"}.get(line.stage, line.stage)
    own = f" --system {line.system}" if line.system is not None and role in ("capture", "apply") else ""
    if line.stage == "deliver" and line.state in ("late", "broken", "retrying"):
        return ("lienthong national status", "lienthong status")
    by_state: dict[str, tuple[str, ...]] = {
        "silent": (f"lienthong run {role}{own}", "lienthong status"),
        "not started": (f"lienthong run {role}{own}", *((f"lienthong load {line.system or '--all'}",) if line.stage == "capture" else ())),
        "unwatched": ("lienthong run watch",),
        "stopped": _for_stopped(line, settings),
        "late": ("lienthong lag", f"lienthong probe{own}"),
        "broken": ("lienthong lag", f"lienthong probe{own}"),
        "retrying": (f"lienthong check{own}", "lienthong status"),
        "unreachable": (f"lienthong check --system {line.system}" if line.system else "lienthong check",),
    }
    return by_state.get(line.state, ("lienthong status",))


def _for_stopped(line: Line, settings: Settings) -> tuple[str, ...]:
    """The line's own reason says what to do; the commands it usually names."""
    named = [] if line.reason is None else [part.strip("`.,;: ") for part in line.reason.split("`")[1::2] if part.startswith("lienthong ")]
    if named:
        return tuple(named)
    if line.system is None or settings.systems[line.system].dsn is None:
        return ("lienthong status", "lienthong check")
    return (f"lienthong check --system {line.system}", f"lienthong parked list --system {line.system}")


def pace_of(cursor: Cursor) -> dict[str, float]:
    """System: how many changes an hour it has made, as a mean of the last seven days."""
    return {system: pace for system, pace in rows(cursor, _PACE) if system != "*"}


def worst(lines: Iterable[Line]) -> str:
    """The tone of several lines together."""
    return min((line.tone for line in lines), key=_ORDER.__getitem__, default=GOOD)


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text).astimezone(UTC)
