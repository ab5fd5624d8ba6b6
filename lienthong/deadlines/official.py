"""The official score: how the national centre judges one dossier, beside our own standing (Decision 766/QĐ-TTg, as noted in docs/deadlines.md)."""

from __future__ import annotations

from typing import Final, Literal

from lienthong.deadlines.calendar import Calendar
from lienthong.deadlines.standing import Facts, due_after

DENIED, SUPPLEMENT, WITHDRAWN, STOPPED, FINISHED, RETURNED = 3, 5, 7, 8, 9, 10
END_BY: Final = (FINISHED, RETURNED, STOPPED, DENIED, WITHDRAWN)
"""Which status gives the end time, best first."""

Score = Literal["left out", "open", "on time", "late"]


def score(facts: Facts, at: int, calendar: Calendar) -> Score:
    """What the centre makes of a dossier at an instant (µs); a dossier without a reception or without any due date is left out."""
    if facts.received is None or facts.received > at:
        return "left out"
    due = _due(facts, at, calendar)
    if due is None:
        return "left out"
    steps = sorted({step for step in facts.steps if step[0] <= at})
    requests, supplemented = _supplements(steps)
    end = _end(steps, requests)
    if end is None:
        return "open"
    if len(requests) > 1:
        return "late"
    return "on time" if end - supplemented <= due else "late"


def _due(facts: Facts, at: int, calendar: Calendar) -> int | None:
    """The due date as recorded; without one, the procedure's limit from the reception on."""
    made = sorted(set(facts.promises))
    if made:
        return [promise for promise in made[1:] if promise[0] <= at][-1][1] if len(made) > 1 and made[1][0] <= at else made[0][1]
    assert facts.received is not None
    return due_after(calendar, facts.received, facts.limit) if facts.limit is not None else None


def _supplements(steps: list[tuple[int, int]]) -> tuple[list[int], int]:
    """When the citizen was asked for more, and how long he took where he came back."""
    requests: list[int] = []
    taken = 0
    since: int | None = None
    for when, status in steps:
        if status == SUPPLEMENT and since is None:
            since = when
            requests.append(when)
        elif status != SUPPLEMENT and since is not None:
            taken += when - since
            since = None
    return requests, taken


def _end(steps: list[tuple[int, int]], requests: list[int]) -> int | None:
    """The end time: of the best status reached; waiting for the citizen counts as ended at the request."""
    if steps and steps[-1][1] == SUPPLEMENT:
        return requests[-1]
    for status in END_BY:
        ends = [when for when, reached in steps if reached == status]
        if ends:
            return ends[-1]
    return None
