"""Lost and late dossiers: what the last sweep has found, longest overdue first."""

from __future__ import annotations

from collections import Counter

from fastapi import APIRouter, Response

from lienthong.journey import lost
from lienthong.web.guard import Visiting
from lienthong.web.words import phrase

routes = APIRouter()

LISTED = 200
FOUND_MAX = 100_000
KINDS = {
    "not_received": phrase("submitted, and nobody has received it"),
    "not_acknowledged": phrase("handed over, and not acknowledged"),
    "not_confirmed": phrase("sent, and not confirmed"),
    "not_shown": phrase("finished, and the result is not shown"),
    "not_seen": phrase("in a ward, and the city has never seen it"),
}


@routes.get("/lost")
def lost_page(visit: Visiting, kind: str | None = None) -> Response:
    """The page: sums by kind, and the dossiers of a kind or of all."""
    everything = visit.seen.of(lost.found(visit.settings, limit=FOUND_MAX))
    sums = Counter(each["kind"] for each in everything)
    found = [each for each in everything if kind in (None, each["kind"])]
    return visit.page(
        "lost.html",
        kinds=KINDS,
        kind=kind if kind in KINDS else None,
        sums=sums,
        total=len(everything),
        found=found[:LISTED],
        more=max(len(found) - LISTED, 0),
        sweep=lost.last_sweep(visit.settings),
    )
