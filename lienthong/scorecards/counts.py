"""What scorecards are counted from, one statement each: dossiers, papers, ratings, delays, repairs, certificates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from connectors.postgres import Cursor, rows
from lienthong.certificates import chain

# Sums over the dossiers of each (agency, unit); whose they are is decided outside.
_DOSSIERS = """
SELECT body->>'processing_agency_code', body->>'processing_unit', count(*) AS dossiers, count(*) FILTER (WHERE body->>'channel' = '2') AS online
FROM hub.record WHERE entity = 'dossier' AND merged_into IS NULL AND NOT deleted
  AND coalesce(body->>'received_at', body->>'submitted_at')::bigint >= %(first)s
  AND coalesce(body->>'received_at', body->>'submitted_at')::bigint < %(end)s
GROUP BY 1, 2
"""
_PAPERS = """
SELECT d.body->>'processing_agency_code', d.body->>'processing_unit', count(*), count(*) FILTER (WHERE (p.body->>'digitised')::boolean),
  count(*) FILTER (WHERE (p.body->>'reused')::boolean)
FROM hub.record d JOIN hub.record p ON p.parent = d.record
WHERE d.entity = 'dossier' AND d.merged_into IS NULL AND NOT d.deleted
  AND coalesce(d.body->>'received_at', d.body->>'submitted_at')::bigint >= %(first)s
  AND coalesce(d.body->>'received_at', d.body->>'submitted_at')::bigint < %(end)s
  AND p.entity = 'dossier_component' AND p.merged_into IS NULL AND NOT p.deleted
GROUP BY 1, 2
"""
_RATINGS = """
SELECT d.body->>'processing_agency_code', d.body->>'processing_unit', count(*), sum((e.body->>'score')::int),
  count(*) FILTER (WHERE (e.body->>'score')::int >= 4)
FROM hub.record e JOIN hub.record d ON d.record = e.parent
WHERE e.entity = 'evaluation' AND e.merged_into IS NULL AND NOT e.deleted AND (e.body->>'score')::int BETWEEN 1 AND 5
  AND (e.body->>'rated_at')::bigint >= %(first)s AND (e.body->>'rated_at')::bigint < %(end)s
GROUP BY 1, 2
"""
# From the commit at the system until it stood in the hub: of each record the system's newest word, where the hub still knows when that arrived.
# With the first arrival of the record where that is later than the commit; else with its last change, unless another word has come since.
_FRESHNESS = """
SELECT coalesce(system, '*'), count(*), count(seconds), percentile_disc(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY seconds) FROM (
  SELECT c.system, CASE
    WHEN to_timestamp(c.at / 1e6) <= r.arrived_at THEN extract(epoch FROM r.arrived_at) - c.at / 1e6
    WHEN to_timestamp(c.at / 1e6) <= r.updated_at AND (r.sole IS NOT DISTINCT FROM c.system OR NOT EXISTS (
      SELECT FROM hub.contribution o WHERE o.record = c.record AND o.at > c.at AND to_timestamp(o.at / 1e6) <= r.updated_at
    )) THEN extract(epoch FROM r.updated_at) - c.at / 1e6
  END::numeric(20, 3) AS seconds
  FROM hub.contribution c JOIN hub.record r ON r.record = c.record
  WHERE c.op = 's' AND NOT c.delivered AND c.at >= %(first)s AND c.at < %(end)s
) samples GROUP BY GROUPING SETS ((system), ())
"""
_REPAIRS = """
SELECT coalesce(system, '*'), count(*) FILTER (WHERE closed_at >= to_timestamp(%(first)s / 1e6) AND closed_at < to_timestamp(%(end)s / 1e6)),
  percentile_disc(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY extract(epoch FROM closed_at - parked_at)::numeric(20, 3))
    FILTER (WHERE closed_at >= to_timestamp(%(first)s / 1e6) AND closed_at < to_timestamp(%(end)s / 1e6)),
  count(*) FILTER (WHERE closed_at IS NULL OR closed_at >= to_timestamp(%(end)s / 1e6))
FROM hub.parked WHERE parked_at < to_timestamp(%(end)s / 1e6) AND (state <> 'discarded' OR closed_at >= to_timestamp(%(end)s / 1e6))
GROUP BY GROUPING SETS ((system), ())
"""
# The most records that differed at any closing of a day of the range, entity by entity.
_DIVERGENCE = """
SELECT system, sum(most)::bigint FROM (
  SELECT system, entity, max(records) AS most FROM (
    SELECT system, entity, number, sum((reason->>'records')::bigint) AS records
    FROM hub.certificate, jsonb_array_elements(body::jsonb->'reasons') AS reason
    WHERE state = 'open' AND day BETWEEN %(from)s AND %(to)s AND right(reason->>'code', 8) = '_differs' GROUP BY 1, 2, 3
  ) issues GROUP BY 1, 2
) entities GROUP BY 1
"""


def by_place(cursor: Cursor, span: Mapping[str, Any]) -> dict[str, list[tuple[Any, ...]]]:
    """Dossiers, papers and ratings of the range, each as (agency, unit, counts…)."""
    statements = {"dossiers": _DOSSIERS, "papers": _PAPERS, "ratings": _RATINGS}
    return {name: rows(cursor, statement, dict(span)) for name, statement in statements.items()}


def by_system(cursor: Cursor, span: Mapping[str, Any]) -> dict[str, dict[str, tuple[Any, ...]]]:
    """Delays, repairs and divergence of the range, by system; `*` is the city where it is not a sum."""
    statements = {"freshness": _FRESHNESS, "repairs": _REPAIRS, "divergence": _DIVERGENCE}
    return {name: {row[0]: row[1:] for row in rows(cursor, statement, dict(span))} for name, statement in statements.items()}


# ------------------------------------------------------------------ certificates
@dataclass(slots=True)
class Days:
    """The days of one system: how many are closed, what was counted on those, and what it held at the last of them."""

    closed: set[date]
    captured: int = 0
    refused: int = 0
    parked: int = 0
    entitled: int | None = None
    held: int | None = None


def closed_days(cursor: Cursor, systems: Iterable[str], first: date, last: date) -> dict[str, Days]:
    """A day of a system is closed when every certificate about it is, and nothing has come since; counts are of closed days only."""
    issues = chain.last_issues(cursor, systems=list(systems), first=first, last=last)
    came = chain.late(cursor, systems=list(systems), first=first, last=last)
    is_closed: dict[tuple[str, date], bool] = {}
    for place, issued in issues.items():
        system, _, day = place
        is_closed[system, day] = is_closed.get((system, day), True) and issued.state == "closed" and place not in came
    found = {system: Days({day for (of, day), closed in is_closed.items() if of == system and closed}) for system in systems}
    for (system, _, day), issued in issues.items():
        days = found[system]
        if day in days.closed:
            _add(days, issued.signed.document(), is_last=day == max(days.closed))
    return found


def _add(days: Days, document: Mapping[str, Any], *, is_last: bool) -> None:
    counts, target = document["counts"], document["target"]
    days.captured += counts["captured"]
    days.refused += counts["refused"]
    days.parked += counts["parked"]
    if is_last and target is not None:
        days.entitled = (days.entitled or 0) + target["entitled"]["records"]
        days.held = (days.held or 0) + target["held"]["records"]


def length(first: date, last: date) -> int:
    """How many days a range has."""
    return (last - first) // timedelta(days=1) + 1
