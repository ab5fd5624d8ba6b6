"""The review of procedures: what is used through which channel, what to put or improve online next, what may be abolished."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response

from lienthong import procedures
from lienthong.web import export
from lienthong.web.guard import Visit, Visiting
from lienthong.web.words import phrase

routes = APIRouter()

LISTED = 300
PICTURE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; sandbox"
ADVICE = {
    "abolish": phrase("no dossier in three years: may it be abolished?"),
    "put_online": phrase("put it online"),
    "improve_online": phrase("improve it online"),
    "not_listed": phrase("not in the catalogue"),
    "none": phrase("–"),
}


@routes.get("/procedures")
def review(visit: Visiting, advice: str | None = None) -> Response:
    """The newest review."""
    found = _rows(visit)
    chosen = [row for row in found if advice in (None, row["advice"])]
    return visit.page(
        "procedures.html",
        first=found[0] if found else None,
        counted={name: sum(row["advice"] == name for row in found) for name in ADVICE},
        advice_words=ADVICE,
        advice=advice if advice in ADVICE else None,
        rows=chosen[:LISTED],
        more=max(len(chosen) - LISTED, 0),
        totals=procedures.totals(found),
    )


@routes.get("/procedures/chart.svg")
def chart(visit: Visiting) -> Response:
    """Its picture; what a picture may do is said by a policy of its own."""
    drawn = procedures.chart_svg(_rows(visit), "vi" if visit.words.language == "vi" else "en")
    return Response(drawn, media_type="image/svg+xml", headers={"Content-Security-Policy": PICTURE_POLICY})


@routes.get("/procedures.csv")
def as_csv(visit: Visiting) -> Response:
    """The same for a spreadsheet."""
    return export.csv("procedures.csv", _rows(visit))


def _rows(visit: Visit) -> list[dict[str, Any]]:
    """Everything to those of the city; to an agency its own procedures."""
    found = procedures.newest(visit.settings)
    return found if visit.seen.everything else [row for row in found if row["agency_code"] in visit.seen.agencies]
