"""The facts of all dossiers that a period is about, from the hub: one statement, read in parts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from connectors.postgres import Cursor, rows, streamed
from lienthong.config_deadlines import Limit
from lienthong.deadlines.standing import RECEIVED, Facts

FINISHED, RETURNED = 9, 10
SINCE_EVER = 0
"""Since when the first promise stands."""

WHOLE_HUB = "SET LOCAL work_mem = '256MB'; SET LOCAL jit = off; SET LOCAL enable_nestloop = off"
"""For statements over all records: the planner knows nothing of what is in bodies, and takes a million rows for one."""

# A dossier whose last word is an end before the period belongs to an earlier one. A step's way to the hub is timed by its first arrival there and
# by the commit of whoever recorded it, not by those that were told of it.
_DOSSIERS = """
WITH dossier AS MATERIALIZED (
  SELECT record, body->>'processing_agency_code' AS agency, body->>'processing_unit' AS unit, body->>'procedure_code' AS procedure,
    (body->>'received_at')::bigint AS received, (body->>'due_at')::bigint AS due, (body->>'status')::int AS status,
    (body->>'status_at')::bigint AS status_at, (body->>'finished_at')::bigint AS finished, (body->>'returned_at')::bigint AS returned
  FROM hub.record WHERE entity = 'dossier' AND merged_into IS NULL AND NOT deleted AND body IS NOT NULL
    AND coalesce((body->>'submitted_at')::bigint, 0) <= %(at)s
    AND NOT ((body->>'status')::int IN (3, 7, 8, 9, 10)
      AND coalesce(greatest((body->>'status_at')::bigint, (body->>'finished_at')::bigint, (body->>'returned_at')::bigint), %(first)s) < %(first)s)
), told AS (
  SELECT record, min(at) AS at FROM hub.contribution WHERE entity = 'dossier_event' AND op = 's' AND NOT delivered GROUP BY record
), step AS (
  SELECT e.parent AS record, array_agg((e.body->>'occurred_at')::bigint << 4 | (e.body->>'status')::int) AS steps,
    array_agg(greatest((extract(epoch FROM e.arrived_at) * 1000000)::bigint - told.at, 0)) AS delays,
    max(e.arrived_at) FILTER (WHERE (e.body->>'occurred_at')::bigint <= %(at)s) AS arrived
  FROM dossier d JOIN hub.record e ON e.parent = d.record LEFT JOIN told ON told.record = e.record
  WHERE e.entity = 'dossier_event' AND e.merged_into IS NULL AND NOT e.deleted
    AND (e.body->>'status')::int BETWEEN 1 AND 10 AND (e.body->>'occurred_at')::bigint >= 0
  GROUP BY e.parent
), moved AS (
  SELECT DISTINCT h.record FROM hub.history h JOIN dossier d USING (record)
  WHERE (h.before->>'due_at')::bigint <> d.due
), promise AS (
  SELECT h.record, array_agg((extract(epoch FROM h.at) * 1000000)::bigint ORDER BY h.version) AS until,
    array_agg((h.before->>'due_at')::bigint ORDER BY h.version) AS due
  FROM hub.history h JOIN moved USING (record) WHERE h.before->>'due_at' IS NOT NULL GROUP BY h.record
)
SELECT d.agency, d.unit, d.procedure, d.received, d.due, d.status, d.status_at, d.finished, d.returned, step.steps, step.delays,
  promise.until, promise.due, (extract(epoch FROM step.arrived) * 1000000)::bigint
FROM dossier d LEFT JOIN step USING (record) LEFT JOIN promise USING (record)
"""
_PROCEDURES = """
SELECT body->>'procedure_code', max((body->>'days_limit')::int), max(body->>'days_kind') FROM hub.record
WHERE entity = 'procedure' AND merged_into IS NULL AND NOT deleted AND (body->>'days_limit')::int > 0 AND body->>'procedure_code' IS NOT NULL
GROUP BY 1
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One dossier: who handles it, its facts, how long each step took to the hub (µs), and when the newest of its steps arrived there (µs).

    `is_inconsistent`: its end is recorded before its reception.
    """

    agency: str | None
    unit: str | None
    procedure: str | None
    facts: Facts
    delays: Mapping[tuple[int, int], int]
    arrived: int
    is_inconsistent: bool = False


def cases(cursor: Cursor, limits: Mapping[str, Limit], *, at: int, first: int) -> Iterator[Case]:
    """All dossiers handed in by `at` that were not yet at their end before `first` (µs)."""
    cursor.execute(WHOLE_HUB)
    for row in streamed(cursor, _DOSSIERS, {"at": at, "first": first}):
        yield _case(row, limits)


def _case(row: tuple[Any, ...], limits: Mapping[str, Limit]) -> Case:
    agency, unit, procedure, received, due, status, status_at, finished, returned, packed, delays, until, dues, arrived = row
    steps = [(step >> 4, step & 15) for step in packed or ()]
    took = {step: delay for step, delay in zip(steps, delays or (), strict=True) if delay is not None}
    said = ((received, RECEIVED), (finished, FINISHED), (returned, RETURNED), (status_at, status))
    steps += [(when, reached) for when, reached in said if when is not None and reached is not None]
    ends = [when for when, reached in ((finished, FINISHED), (returned, RETURNED), (status_at, status)) if when and reached in (FINISHED, RETURNED)]
    received, steps, is_moved = received_before(min(ends) if ends and status in (FINISHED, RETURNED) else None, received, steps)
    facts = Facts(received=received, steps=tuple(steps), promises=promises(due, until or (), dues or ()), limit=limit_of(limits, procedure))
    return Case(agency=agency, unit=unit, procedure=procedure, facts=facts, delays=took, arrived=arrived or 0, is_inconsistent=is_moved)


def received_before(ended: int | None, received: int | None, steps: Sequence[tuple[int, int]]) -> tuple[int | None, list[tuple[int, int]], bool]:
    """Reception and steps of a dossier that is finished: a reception recorded after the end is moved to it, so that it was handled in no time.

    The last is whether anything was moved. Nothing is, where the dossier is not finished (`ended` None): then a reception after an end is a new one.
    """
    if ended is None:
        return received, list(steps), False
    moved_steps = [(min(when, ended) if status == RECEIVED else when, status) for when, status in steps]
    moved = None if received is None else min(received, ended)
    return moved, moved_steps, moved != received or moved_steps != list(steps)


def promises(due: int | None, until: Sequence[int], before: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """The due dates promised one after the other, each since when: those of `before` stood until then, `due` stands now."""
    values = [*before, *([] if due is None else [due])]
    since = [SINCE_EVER, *until]
    told = list(zip(since, values, strict=False))
    return tuple(one for number, one in enumerate(told) if number == 0 or one[1] != told[number - 1][1])


# ------------------------------------------------------------------ limits
def limits_of(cursor: Cursor, own: Mapping[str, Limit]) -> dict[str, Limit]:
    """The limit of each procedure: configured, or that of the catalogue."""
    found = {
        code: Limit(amount=days, unit="calendar_days" if kind == "calendar" else "working_days") for code, days, kind in rows(cursor, _PROCEDURES)
    }
    return found | dict(own)


def limit_of(limits: Mapping[str, Limit], procedure: str | None) -> Limit | None:
    """The limit of a procedure, by its code or by the national form at its head (`1.004222` of `1.004222.000.00.00.H29`)."""
    if procedure is None:
        return None
    return limits.get(procedure) or limits.get(".".join(procedure.split(".")[:2]))
