"""Where a dossier stands against its deadline at any instant: a pure function of its facts, whatever the order in which they arrived.

Instants are µs since 1970 UTC. The clock of each status is that of `data/dossier_status_codes.csv`: it runs in 2 and 4, pauses in 5 and 6 (the
citizen supplements or pays) and stops in 3, 7, 8, 9 and 10.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Literal

from lienthong.config_deadlines import Limit
from lienthong.days import DAY_MICROS
from lienthong.deadlines.calendar import Calendar

RECEIVED = 2
State = Literal["not received", "no due date", "in time", "paused", "overdue", "on time", "late"]
ENDED: tuple[State, ...] = ("on time", "late")


@cache
def clocks() -> dict[int, str]:
    """What each status does to the clock: not_started, running, paused or stopped."""
    text = resources.files("lienthong").joinpath("data", "dossier_status_codes.csv").read_text(encoding="utf-8-sig")
    return {int(row["code"]): row["clock"] for row in csv.DictReader(text.splitlines())}


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known of one dossier: its steps (at, status), and the due dates promised for it (since when promised, due)."""

    received: int | None = None
    steps: tuple[tuple[int, int], ...] = ()
    promises: tuple[tuple[int, int], ...] = ()
    limit: Limit | None = None  # of its procedure: what is due where nothing was promised


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A dossier at an instant. `due` is with pauses and extensions; `late` is working time between due and end, or due and now."""

    state: State
    due: int | None = None
    ended: int | None = None
    paused: int = 0  # working time
    late: int = 0
    is_extended: bool = False


def standing(facts: Facts, at: int, calendar: Calendar) -> Standing:
    """Where a dossier stands at an instant, by the facts of before."""
    steps = sorted({step for step in facts.steps if step[0] <= at and step[1] in clocks()})
    start = received_at(facts, at, steps)
    if start is None:
        return Standing(state="not received")
    pauses, ended, is_paused = _walk(steps, start, at)
    due, is_extended = _due(facts, start, at, pauses, calendar)
    paused = sum(calendar.worked_micros(end) - calendar.worked_micros(begin) for begin, end in pauses)
    state: State
    if due is None:
        state = "no due date"
    elif ended is not None:
        state = "on time" if ended <= due else "late"
    else:
        state = "overdue" if at > due else "paused" if is_paused else "in time"
    late = calendar.worked_micros(at if ended is None else ended) - calendar.worked_micros(due) if due is not None else 0
    return Standing(state=state, due=due, ended=ended, paused=paused, late=max(late, 0), is_extended=is_extended)


def received_at(facts: Facts, at: int, steps: Iterable[tuple[int, int]]) -> int | None:
    """When the clock started: the reception as recorded, or else its step; None where it has not by `at`."""
    if facts.received is not None:
        return facts.received if facts.received <= at else None
    return next((when for when, status in steps if status == RECEIVED), None)


def _walk(steps: Iterable[tuple[int, int]], start: int, at: int) -> tuple[list[tuple[int, int]], int | None, bool]:
    """The pauses up to `at`, the end (a dossier taken up again has none), and whether it is paused now."""
    pauses: list[tuple[int, int]] = []
    ended: int | None = None
    since: int | None = None
    for when, status in steps:
        clock = clocks()[status]
        if since is not None and clock != "paused":
            pauses.append((since, max(when, since)))
            since = None
        elif since is None and clock == "paused":
            since = max(when, start)
        if clock == "stopped":
            ended = when if ended is None else ended
        elif clock != "not_started":
            ended = None
    if since is not None:
        pauses.append((since, max(at, since)))
    return pauses, ended, since is not None


def _due(facts: Facts, start: int, at: int, pauses: list[tuple[int, int]], calendar: Calendar) -> tuple[int | None, bool]:
    """The due date as it counts at `at`, and whether it was extended.

    The first promise is moved by every pause. A later one is taken as given, with the pauses of before in it, and moved by what is paused after it.
    """
    known = sorted(set(facts.promises))
    made = [known[0], *(promise for promise in known[1:] if promise[0] <= at)] if known else []
    if not made:
        return (None if facts.limit is None else due_after(calendar, start, facts.limit, pauses)), False
    since, due = made[-1]
    is_extended = due > made[0][1]
    counted = pauses if len(made) == 1 else [(max(begin, since), end) for begin, end in pauses if end > since]
    return moved(calendar, due, counted, in_calendar_days=facts.limit is not None and facts.limit.unit == "calendar_days"), is_extended


def due_after(calendar: Calendar, start: int, limit: Limit, pauses: Iterable[tuple[int, int]] = ()) -> int:
    """When what began at `start` is due under a limit, with pauses."""
    if limit.unit == "calendar_days":
        return calendar.day_end_micros(start + round(limit.amount * DAY_MICROS) + sum(end - begin for begin, end in pauses))
    length = calendar.day_micros if limit.unit == "working_days" else 3_600_000_000
    return moved(calendar, calendar.after_micros(start, round(limit.amount * length)), pauses)


def moved(calendar: Calendar, due: int, pauses: Iterable[tuple[int, int]], *, in_calendar_days: bool = False) -> int:
    """A due date moved by exactly the time that passed in pauses: working time, or for limits in calendar days all time."""
    if in_calendar_days:
        passed = sum(end - begin for begin, end in pauses)
        return calendar.day_end_micros(due + passed) if passed else due
    return calendar.after_micros(due, sum(calendar.worked_micros(end) - calendar.worked_micros(begin) for begin, end in pauses))
