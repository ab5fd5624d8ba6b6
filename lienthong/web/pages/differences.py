"""Results of reconciliation: what was compared and proved equal, when, and what differs."""

from __future__ import annotations

from fastapi import APIRouter, Response

from connectors.postgres import rows, transaction
from lienthong.web.guard import Visiting

routes = APIRouter()

LISTED = 200
_GROUPS = """
SELECT system, entity, hop, kind, count(*), min(found_at), max(found_at) FROM hub.difference WHERE system = ANY(%s)
GROUP BY 1, 2, 3, 4 ORDER BY 5 DESC
"""
_LIST = """
SELECT system, entity, local_key, record, hop, kind, fields, found_at FROM hub.difference
WHERE system = ANY(%(systems)s) AND (%(system)s::text IS NULL OR system = %(system)s) AND (%(entity)s::text IS NULL OR entity = %(entity)s)
ORDER BY id DESC LIMIT %(listed)s
"""
_CORRECTIONS = """
SELECT id, system, entity, record, field, owner, at FROM hub.correction WHERE state = 'open' AND system = ANY(%s) ORDER BY id DESC LIMIT 100
"""


@routes.get("/differences")
def differences(visit: Visiting, system: str | None = None, entity: str | None = None) -> Response:
    """The page; values are never shown, only which fields differ."""
    if system is not None:
        visit.need_system(system)
    mine = visit.systems()
    with transaction(visit.hub) as cursor:
        groups = rows(cursor, _GROUPS, [mine])
        found = rows(cursor, _LIST, {"systems": mine, "system": system, "entity": entity, "listed": LISTED})
        corrections = rows(cursor, _CORRECTIONS, [mine])
    total = sum(group[4] for group in groups)
    return visit.page(
        "differences.html",
        groups=groups,
        found=found,
        corrections=corrections,
        total=total,
        listed=LISTED,
        chosen={"system": system, "entity": entity},
    )
