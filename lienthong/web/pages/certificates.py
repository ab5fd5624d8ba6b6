"""Day certificates: which days are closed for which system, and what one certificate says."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Any

from fastapi import APIRouter, Response

from connectors.postgres import rows, transaction
from lienthong.certificates import chain
from lienthong.web.guard import Refused, Visiting
from lienthong.web.words import ZONE, phrase

routes = APIRouter()

DAYS = 30
_STATES = """
SELECT system, day, bool_and(state = 'closed'), sum(captured)::bigint, count(*) FROM (
  SELECT DISTINCT ON (day, system, entity) day, system, state, captured FROM hub.certificate
  WHERE day > %s AND system = ANY(%s) ORDER BY day, system, entity, issue DESC
) newest GROUP BY 1, 2
"""


@routes.get("/certificates")
def certificates(visit: Visiting) -> Response:
    """The last thirty days of every system, as a calendar."""
    today = datetime.now(ZONE).date()
    first = today - timedelta(days=DAYS)
    systems = [name for name in visit.settings.with_database() if visit.seen.sees(name)]
    with transaction(visit.hub) as cursor:
        found = rows(cursor, _STATES, [first - timedelta(days=1), systems])
        late = {(system, day) for system, _, day in chain.late(cursor, systems=systems, first=first, last=today)}
    days = [first + timedelta(days=n) for n in range(DAYS)]
    cells = {(system, day): _cell(is_closed, n, (system, day) in late) for system, day, is_closed, n, _ in found}
    table = [{"system": system, "cells": [{"day": day, **cells.get((system, day), MISSING)} for day in days]} for system in sorted(systems)]
    return visit.page("certificates.html", days=days, table=table, sums=_sums(table))


MISSING: dict[str, Any] = {"state": "missing", "captured": None}


def _cell(is_closed: bool, captured: int, is_late: bool) -> dict[str, Any]:  # noqa: FBT001 - as the query says
    return {"state": "late" if is_late else "closed" if is_closed else "open", "captured": captured}


def _sums(table: list[dict[str, Any]]) -> dict[str, int]:
    states = [cell["state"] for row in table for cell in row["cells"]]
    return {state: states.count(state) for state in ("closed", "open", "late", "missing")}


@routes.get("/certificates/{system}/{day}")
def certificate(visit: Visiting, system: str, day: str) -> Response:
    """What was certified of one system and day, entity by entity."""
    visit.need_system(system)
    try:
        on = date.fromisoformat(day)
    except ValueError:
        raise Refused(phrase("There is no such page."), 404) from None
    with transaction(visit.hub) as cursor:
        issues = chain.last_issues(cursor, systems=[system], first=on, last=on)
        late = chain.late(cursor, systems=[system], first=on, last=on)
    found = [
        {"entity": place[1], "issued": issued, "document": issued.signed.document(), "late": late.get(place, 0)}
        for place, issued in sorted(issues.items())
    ]
    return visit.page("certificate.html", system=system, day=on, found=found)
