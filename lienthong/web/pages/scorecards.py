"""Scorecards of the city and each system, and the share of dossiers on time, as they were last computed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any, Literal

from fastapi import APIRouter, Response

from lienthong import deadlines, scorecards
from lienthong.scorecards import CITY
from lienthong.web import export
from lienthong.web.guard import Refused, Visit, Visiting
from lienthong.web.words import phrase

routes = APIRouter()

GROUPS: tuple[Literal["agency", "unit", "procedure"], ...] = ("agency", "unit", "procedure")
MONTHS_FORMAT = "%Y-%m"
LISTED = 300


@routes.get("/scorecards")
def page(visit: Visiting, by: str = "agency", month: str | None = None) -> Response:
    """The page."""
    cards = _cards(visit)
    figures = _figures(visit, by, month)
    shown = [] if figures is None else _worst_first(_theirs(visit, by, figures["rows"] or []))
    return visit.page(
        "scorecards.html",
        city=next((card for card in cards if card["system"] == CITY), None),
        cards=[card for card in cards if card["system"] != CITY],
        first=cards[0] if cards else None,
        figures=figures,
        by=by,
        groups=GROUPS,
        rows=shown[:LISTED],
        more=max(len(shown) - LISTED, 0),
        whole=next((row for row in shown if row["key"] == CITY), None),
    )


@routes.get("/scorecards.csv")
def as_csv(visit: Visiting) -> Response:
    """The scorecards for a spreadsheet."""
    return export.csv("scorecards.csv", _cards(visit))


@routes.get("/scorecards.json")
def as_json(visit: Visiting) -> Response:
    """The scorecards for a program."""
    return export.json({"schema": "lienthong/scorecards/1", "scorecards": _cards(visit)})


def _cards(visit: Visit) -> list[dict[str, Any]]:
    return [card for card in scorecards.newest(visit.settings) if visit.seen.sees(card["system"])]


def _figures(visit: Visit, by: str, month: str | None) -> dict[str, Any] | None:
    group = next((name for name in GROUPS if name == by), None)
    try:
        first = None if month is None else date.fromisoformat(f"{month}-01")
    except ValueError:
        group = None
    if group is None:
        raise Refused(phrase("There is no such page."), 404)
    return deadlines.newest(visit.settings, by=group, month=first)


def _theirs(visit: Visit, by: str, found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """To an agency only its own rows; a procedure's row is a sum over all agencies."""
    if visit.seen.everything:
        return list(found)
    mine = {"agency": visit.seen.agencies, "unit": visit.seen.units}.get(by, frozenset())
    return [row for row in found if row["key"] in mine]


def _worst_first(found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The sum first, then who has the smallest share on time."""
    return sorted(found, key=lambda row: (row["key"] != CITY, row["on_time_percent"] is None, row["on_time_percent"] or 0.0, row["key"]))
