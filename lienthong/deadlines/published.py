"""Published figures: those of a month that is over are kept for good; computed again they are the same, or the difference is shown."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

import orjson

from connectors.postgres import Cursor, connect, one, rows, transaction
from lienthong import hub, hub_schema
from lienthong.days import start_micros
from lienthong.deadlines.figures import By, Computed, compute, later, next_month, period
from lienthong.readers import from_micros, to_micros
from lienthong.settings import Settings

RUNNING = 0
"""The issue of a month that is not over."""

_LAST = """
SELECT issue, as_of, computed_at, calendar, digest, rows::text FROM hub.deadline_figures WHERE month = %s AND issue > 0 ORDER BY issue DESC LIMIT 1
"""
_STORE = """
INSERT INTO hub.deadline_figures (month, issue, as_of, calendar, digest, rows) VALUES (%s, %s, %s, %s, %s, %s)
ON CONFLICT (month, issue) DO UPDATE SET as_of = excluded.as_of, computed_at = clock_timestamp(), calendar = excluded.calendar,
  digest = excluded.digest, rows = excluded.rows WHERE deadline_figures.issue = 0
"""
_NEWEST = """
SELECT month, issue, as_of, computed_at, calendar, digest, rows->%(by)s FROM hub.deadline_figures
WHERE month = coalesce(%(month)s, month) ORDER BY month DESC, issue DESC LIMIT 1
"""


@dataclass(frozen=True, slots=True)
class Issue:
    """Figures as they were published."""

    number: int
    as_of: datetime
    computed_at: datetime
    calendar: str
    digest: str
    rows: dict[str, list[dict[str, Any]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One figure that is another now than it was published."""

    by: str
    key: str
    figure: str
    published: float | None
    now: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Recomputed:
    """A published month computed again: what differs, and why it may: steps that arrived later, or another calendar."""

    issue: Issue
    now: Computed
    differences: tuple[Difference, ...]
    dossiers_with_later_steps: int

    @property
    def is_same(self) -> bool:
        """Whether the figures are those that were published."""
        return self.issue.digest == self.now.digest


def recompute(settings: Settings, month: date) -> Recomputed | None:
    """Compute a published month again, as of the same instant; None when it was never published."""
    issue = last_issue(settings, month)
    if issue is None:
        return None
    now = compute(settings, period(issue.as_of, month))
    return Recomputed(
        issue=issue,
        now=now,
        differences=tuple(differences(issue.rows, now.rows)),
        dossiers_with_later_steps=later(now, to_micros(issue.computed_at)),
    )


def differences(before: dict[str, list[dict[str, Any]]], after: dict[str, list[dict[str, Any]]]) -> list[Difference]:
    """Every figure of every group that is not the same; a group that is only on one side has none on the other."""
    found = []
    for by in sorted(before.keys() | after.keys()):
        was, now = ({row["key"]: row for row in side.get(by, [])} for side in (before, after))
        for key in sorted(was.keys() | now.keys()):
            one, other = was.get(key, {}), now.get(key, {})
            names = sorted((one.keys() | other.keys()) - {"key"})
            found += [
                Difference(by=by, key=key, figure=name, published=one.get(name), now=other.get(name))
                for name in names
                if one.get(name) != other.get(name)
            ]
    return found


def last_issue(settings: Settings, month: date) -> Issue | None:
    """The newest publication of a month."""
    with hub_cursor(settings) as cursor:
        found = one(cursor, _LAST, [month.replace(day=1)])
    if found is None:
        return None
    number, as_of, computed_at, calendar, digest, kept = found
    return Issue(number, as_of, computed_at, calendar, digest, orjson.loads(kept))


def store(settings: Settings, month: date, now: datetime) -> tuple[int, Computed]:
    """Compute a month and keep it: the running one in place of what was kept, one that is over as a new issue unless it is published as it is.

    Returns the number of the issue (0: the month is not over) and what was computed.
    """
    with hub.named():
        hub_schema.install(settings.hub.dsn)
    month = month.replace(day=1)
    end = from_micros(start_micros(next_month(month))) - timedelta(microseconds=1)
    computed = compute(settings, period(min(now, end), month))
    before = last_issue(settings, month) if now > end else None
    if before is not None and before.digest == computed.digest:
        return before.number, computed
    number = RUNNING if now <= end else before.number + 1 if before is not None else 1
    kept = orjson.dumps(computed.rows).decode()
    with hub_cursor(settings) as cursor:
        cursor.execute(_STORE, [month, number, from_micros(computed.period.at), computed.calendar, computed.digest, kept])
        if number != RUNNING:
            cursor.execute("DELETE FROM hub.deadline_figures WHERE month = %s AND issue = 0", [month])
    return number, computed


def newest(settings: Settings, *, by: By, month: date | None = None) -> dict[str, Any] | None:
    """What was last kept, of a month or of the newest one: `as_of`, `computed_at`, `month`, `issue`, `digest` and the `rows` of a group."""
    with hub_cursor(settings) as cursor:
        found = rows(cursor, _NEWEST, {"by": by, "month": None if month is None else month.replace(day=1)})
    names = ("month", "issue", "as_of", "computed_at", "calendar", "digest", "rows")
    return dict(zip(names, found[0], strict=True)) if found else None


@contextmanager
def hub_cursor(settings: Settings) -> Iterator[Cursor]:
    """One transaction in the hub, on a connection of its own."""
    with hub.named():
        connection = connect(settings.hub.dsn, application_name="lienthong figures")
        try:
            with transaction(connection) as cursor:
                yield cursor
        finally:
            connection.close()
