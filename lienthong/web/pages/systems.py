"""One page for each system: its lines, probes, counts, what waits, and what it receives for which purpose."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Response

from connectors.postgres import Cursor, rows, transaction
from lienthong import advice, status
from lienthong.settings import Contract
from lienthong.web import standing
from lienthong.web.guard import Visiting
from lienthong.web.pages.overview import KINDS
from lienthong.web.standing import SHARED

routes = APIRouter()

_COUNTED = """
SELECT entity, outcome, coalesce(sum(n) FILTER (WHERE day = (clock_timestamp() AT TIME ZONE 'Asia/Ho_Chi_Minh')::date), 0)::bigint, sum(n)::bigint
FROM hub.day_count WHERE system = %s AND outcome IN ('captured', 'merged', 'older', 'duplicate', 'refused') GROUP BY 1, 2
"""
_PER_DAY = """
SELECT day, sum(n)::bigint FROM hub.day_count WHERE system = %s AND outcome = 'captured' AND day > current_date - 30 GROUP BY 1 ORDER BY 1
"""
_CORRECTIONS = """
SELECT entity, field, owner, count(*), min(at) FROM hub.correction WHERE system = %s AND state = 'open' GROUP BY 1, 2, 3 ORDER BY 4 DESC LIMIT 20
"""
OUTCOMES = ("captured", "merged", "older", "duplicate", "refused")


@routes.get("/systems/{name}")
def system_page(visit: Visiting, name: str) -> Response:
    """The page."""
    visit.need_system(name)
    now, party = datetime.now(UTC), visit.settings.systems[name]
    lines = [line for line in standing.lines_of(status.lines(visit.settings)) if line.system == name or line.stage in SHARED]
    probes = [probe for probe in standing.probes_of(status.probes(visit.settings), now) if probe.system == name]
    parked = [p for p in status.parked_reasons(visit.settings) if p["system"] == name]
    with transaction(visit.hub) as cursor:
        counted, per_day = _counts(cursor, name), rows(cursor, _PER_DAY, [name])
        corrections = rows(cursor, _CORRECTIONS, [name])
        pace = standing.pace_of(cursor)
    contract = visit.settings.contract_of(name)
    return visit.page(
        "system.html",
        name=name,
        party=party,
        kind=KINDS[party.kind],
        alarms=standing.alarms(lines, probes, visit.settings, pace, now),
        lines=lines,
        probes=probes,
        parked=[p | {"advice": advice.advice(p["reason"], name)} for p in parked],
        differences=[(entity, n) for system, entity, n in status.differences(visit.settings) if system == name],
        counted=counted,
        outcomes=OUTCOMES,
        per_day=per_day,
        corrections=corrections,
        grants=_grants(contract),
        contract=contract,
        delivery=_delivery(visit, name),
    )


def _counts(cursor: Cursor, name: str) -> dict[str, dict[str, tuple[int, int]]]:
    """Entity: outcome: today and ever."""
    out: dict[str, dict[str, tuple[int, int]]] = {}
    for entity, outcome, today, ever in rows(cursor, _COUNTED, [name]):
        out.setdefault(entity, {})[outcome] = (today, ever)
    return dict(sorted(out.items()))


def _grants(contract: Contract | None) -> list[tuple[str, str, str]]:
    """Entity, fields and masks of what a system receives."""
    if contract is None:
        return []
    return [
        (entity, "*" if grant.fields == "all" else ", ".join(grant.fields), ", ".join(f"{field}: {how}" for field, how in grant.mask.items()))
        for entity, grant in contract.entities.items()
    ]


def _delivery(visit: Visiting, name: str) -> dict[str, Any] | None:
    found = status.delivery(visit.settings)
    return found if found is not None and found["system"] == name else None
