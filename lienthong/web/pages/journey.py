"""Where is my dossier? Found by any of its codes, masked unless a purpose is given; each look is recorded by `lienthong.journey`."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response

from connectors.postgres import rows, transaction
from lienthong import journey
from lienthong.web.guard import Posted, Refused, Visit, Visiting
from lienthong.web.words import phrase

routes = APIRouter()

CODE_MAX_CHARACTERS = 100
_THEIRS = """
SELECT DISTINCT record FROM hub.entitled WHERE record = ANY(%(records)s) AND system = ANY(%(systems)s) AND state = 's'
UNION SELECT record FROM hub.contribution WHERE record = ANY(%(records)s) AND system = ANY(%(systems)s) AND op = 's'
"""


@routes.get("/journey")
def ask(visit: Visiting) -> Response:
    """The form. What is searched for travels in its body, so that it stands in no address and no history."""
    return visit.page("journey.html", code="", found=None, is_shown=False)


@routes.post("/journey")
def found(visit: Visiting, fields: Posted) -> Response:
    """Every record under a code, as far as this person may see it."""
    code, purpose = fields.get("code", "").strip()[:CODE_MAX_CHARACTERS], fields.get("purpose", "").strip() or None
    if purpose is not None:
        visit.need("reveal")
        if len(purpose) < 3:
            raise Refused(phrase("Say what for: the purpose is recorded."), 400)
    seen = _theirs(visit, journey.of(visit.settings, code, viewer=f"web:{visit.name}", purpose=purpose)) if code else None
    return visit.page("journey.html", code=code, found=seen, is_shown=purpose is not None)


def _theirs(visit: Visit, records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """For the people of an agency: what their own systems hold or are entitled to."""
    if visit.seen.everything:
        return records
    with transaction(visit.hub) as cursor:
        mine = {
            record for (record,) in rows(cursor, _THEIRS, {"records": [each["record"] for each in records], "systems": sorted(visit.seen.systems)})
        }
    return [each for each in records if each["record"] in mine]
