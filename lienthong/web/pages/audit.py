"""For auditors: who logged in, who looked at whose records for which purpose, who did what with parked records."""

from __future__ import annotations

from fastapi import APIRouter, Response

from connectors.postgres import rows, transaction
from lienthong.web.guard import Visiting

routes = APIRouter()

LISTED = 200


@routes.get("/audit")
def audit(visit: Visiting) -> Response:
    """The newest entries of each record."""
    visit.need("audit")
    with transaction(visit.hub) as cursor:
        events = rows(cursor, "SELECT at, name, address, what FROM hub.web_event ORDER BY id DESC LIMIT %s", [LISTED])
        actions = rows(cursor, "SELECT at, officer, action, system, parked, why, outcome FROM hub.parked_action ORDER BY id DESC LIMIT %s", [LISTED])
        views = rows(cursor, "SELECT at, viewer, record, purpose FROM hub.view_audit ORDER BY at DESC LIMIT %s", [LISTED])
    return visit.page("audit.html", views=views, events=events, actions=actions, listed=LISTED)
