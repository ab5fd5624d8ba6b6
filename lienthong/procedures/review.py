"""Counting the dossiers of every procedure as of a day in the hub, keeping what came out, and reading the newest review."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from datetime import UTC, date, datetime
from typing import Any

import orjson

from connectors.postgres import Cursor, connect, rows, snapshot, transaction
from lienthong import hub_schema
from lienthong.deadlines.calendar import Calendar
from lienthong.deadlines.figures import Period, sums
from lienthong.hub import named
from lienthong.procedures.figures import Counted, Lateness, Listed, Procedure, Windows, procedures, totals, windows
from lienthong.settings import Settings

COLUMNS = tuple(field.name for field in fields(Procedure))

_LISTED = """
SELECT body->>'procedure_code', max(body->>'name'), max(body->>'field_code'), max(body->>'agency_code'), max((body->>'level')::int)
FROM hub.record WHERE entity = 'procedure' AND NOT deleted AND merged_into IS NULL AND body->>'procedure_code' IS NOT NULL GROUP BY 1
"""
# One pass over all dossiers. What was submitted or finished after the day is of its future.
# A channel that nobody has said is the counter (the Government's own way of counting, decision 766/QĐ-TTg).
_COUNTED = """
SELECT code, CASE WHEN at IS NOT NULL THEN (ARRAY[0] || %(years)s::int[])[width_bucket(at, %(year_starts)s::bigint[]) + 1] END AS year,
  CASE channel WHEN '2' THEN 'online' WHEN '3' THEN 'post' ELSE 'desk' END AS channel, max(name), count(*),
  count(*) FILTER (WHERE at >= %(three_years)s), count(*) FILTER (WHERE at >= %(twelve_months)s),
  (to_timestamp(max(at) / 1e6) AT TIME ZONE 'Asia/Ho_Chi_Minh')::date,
  count(*) FILTER (WHERE finished >= %(twelve_months)s AND finished >= received),
  coalesce(sum(finished - received) FILTER (WHERE finished >= %(twelve_months)s AND finished >= received), 0)::float8 / 1e6
FROM (
  SELECT coalesce(body->>'procedure_code', '') AS code, body->>'channel' AS channel, body->>'procedure_name' AS name,
    coalesce(body->>'submitted_at', body->>'received_at')::bigint AS at,
    coalesce(body->>'received_at', body->>'submitted_at')::bigint AS received,
    CASE WHEN (body->>'finished_at')::bigint < %(end)s THEN (body->>'finished_at')::bigint END AS finished
  FROM hub.record WHERE entity = 'dossier' AND NOT deleted AND merged_into IS NULL
) dossier WHERE at IS NULL OR at < %(end)s GROUP BY 1, 2, 3
"""


@dataclass(frozen=True, slots=True)
class Review:
    """What was found as of a day."""

    as_of: date
    made_at: datetime
    procedures: list[Procedure]

    def document(self) -> dict[str, Any]:
        """Everything as plain data."""
        return {
            "schema": "lienthong/procedures/1", "as_of": self.as_of, "made_at": self.made_at,
            "totals": totals(self.procedures), "procedures": [as_row(each) for each in self.procedures],
        }  # fmt: skip


def as_row(procedure: Procedure) -> dict[str, Any]:
    """A procedure's line as plain data."""
    return asdict(procedure) | {"online_share": procedure.online_share}


def review(settings: Settings, as_of: date) -> Review:
    """Count every procedure's dossiers as of the end of a day and keep the result; doing it again for the same day replaces it."""
    spans, made_at = windows(as_of), datetime.now(UTC)
    with named():
        hub_schema.install(settings.hub.dsn)
        connection = connect(settings.hub.dsn, application_name="lienthong procedures")
        try:
            with snapshot(connection) as cursor:
                found = _count(cursor, settings, spans)
            with transaction(connection) as cursor:
                _keep(cursor, as_of, made_at, found)
        finally:
            connection.close()
    return Review(as_of, made_at, found)


def _count(cursor: Cursor, settings: Settings, spans: Windows) -> list[Procedure]:
    given = {name: getattr(spans, name) for name in ("end", "three_years", "twelve_months")}
    given |= {"years": list(spans.years), "year_starts": list(spans.year_starts)}
    counted = [Counted(*row) for row in rows(cursor, _COUNTED, given)]
    return procedures([Listed(*row) for row in rows(cursor, _LISTED)], counted, _lateness(cursor, settings, spans), spans)


def _lateness(cursor: Cursor, settings: Settings, spans: Windows) -> dict[str, Lateness]:
    """Each procedure's dossiers against their deadlines, by the same rules as every other figure of lateness."""
    period = Period(month=None, first=spans.twelve_months, at=spans.end - 1)
    found = sums(cursor, settings, period, lambda case: [("procedure", case.procedure or "")]).tallies
    day = Calendar.load(settings.deadlines).day_micros
    return {
        code: Lateness(tally.ended, tally.late, tally.handling_late / day, tally.open_overdue) for (_, code), tally in found.items()
    }  # fmt: skip


def _keep(cursor: Cursor, as_of: date, made_at: datetime, found: list[Procedure]) -> None:
    """Put a review in place of an earlier one of the same day."""
    cursor.execute("DELETE FROM hub.procedure_review WHERE as_of = %s", [as_of])
    cursor.execute(
        f"""INSERT INTO hub.procedure_review (as_of, made_at, {", ".join(COLUMNS)})
        SELECT %s, %s, {", ".join(COLUMNS)} FROM jsonb_populate_recordset(NULL::hub.procedure_review, %s::jsonb)""",  # noqa: S608 - names of our own
        [as_of, made_at, orjson.dumps([asdict(each) for each in found]).decode()],
    )


def newest(settings: Settings) -> list[dict[str, Any]]:
    """The lines of the newest review, each with `as_of` and `made_at`, best ranked first; none when there has been no review."""
    with named():
        connection = connect(settings.hub.dsn, application_name="lienthong procedures")
        try:
            with transaction(connection) as cursor:
                if rows(cursor, "SELECT to_regclass('hub.procedure_review')") == [(None,)]:
                    return []
                found = rows(cursor, _NEWEST)
        finally:
            connection.close()
    return [_line(dict(zip(("as_of", "made_at", *COLUMNS), row, strict=True))) for row in found]


_NEWEST = f"""
SELECT as_of, made_at, {", ".join(COLUMNS)} FROM hub.procedure_review WHERE as_of = (SELECT max(as_of) FROM hub.procedure_review)
ORDER BY rank NULLS LAST, dossiers_12m DESC, dossiers_3y DESC, procedure_code
"""  # noqa: S608 - names of our own


def _line(row: Mapping[str, Any]) -> dict[str, Any]:
    share = row["online_12m"] / row["dossiers_12m"] if row["dossiers_12m"] else None
    return {**row, "online_share": share}
