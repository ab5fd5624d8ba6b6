"""The first page: what is broken, since when, what is at risk and what to do; below it every system and line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Request, Response

from connectors.postgres import Cursor, rows, transaction
from lienthong import status
from lienthong.settings import Settings
from lienthong.web import standing
from lienthong.web.guard import Visit, Visiting
from lienthong.web.standing import GOOD, SHARED, WARN, Line
from lienthong.web.words import ZONE, Said, phrase

routes = APIRouter()

TIERS: tuple[tuple[Said, frozenset[str]], ...] = (
    (phrase("National services"), frozenset({"population", "national-portal"})),
    (phrase("City"), frozenset({"portal", "one-stop", "department", "other"})),
    (phrase("Wards"), frozenset({"ward"})),
)
KINDS = {
    "portal": phrase("city portal"),
    "one-stop": phrase("one-stop system"),
    "department": phrase("department"),
    "ward": phrase("ward"),
    "population": phrase("population database"),
    "national-portal": phrase("national portal"),
    "other": phrase("other system"),
}
REFRESH_SECONDS = 5
SMALL_FROM = 30
"""With so many systems on a tier the quiet ones are shown small."""

FOLDED_MAX = 12
"""Of what is wrong the worst is said in full, so many more in a line each, and the rest in the table of lines."""

_TODAY = """
SELECT system, sum(n) FROM hub.day_count WHERE outcome = 'captured' AND day = (clock_timestamp() AT TIME ZONE 'Asia/Ho_Chi_Minh')::date GROUP BY 1
"""
_CORRECTIONS = "SELECT system, count(*) FROM hub.correction WHERE state = 'open' GROUP BY 1"
_LOST = """
SELECT agency, unit, system, count(*) FROM hub.lost_dossier WHERE limit_at <= (SELECT at FROM hub.lost_sweep ORDER BY id DESC LIMIT 1)
GROUP BY 1, 2, 3
"""


@dataclass(frozen=True, slots=True)
class Tile:
    """One system on the map."""

    name: str
    kind: Said
    tone: str
    lines: list[Line]
    parked: int
    differences: int
    note: Said | None

    @property
    def is_quiet(self) -> bool:
        """Whether there is nothing to see."""
        return self.tone == GOOD and not self.parked and not self.differences


@dataclass(frozen=True, slots=True)
class Numbers:
    """What is counted, by system."""

    parked: dict[str, int]
    differences: dict[str, int]
    corrections: dict[str, int]
    today: dict[str, int]


@routes.get("/overview")
def overview(visit: Visiting, request: Request) -> Response:
    """The page; `?refresh=1` asks the browser for it again and again, without a script."""
    now = datetime.now(UTC)
    lines = [line for line in standing.lines_of(status.lines(visit.settings)) if line.system is None or visit.seen.sees(line.system)]
    probes = [line for line in standing.probes_of(status.probes(visit.settings), now) if visit.seen.sees(line.system)]
    with transaction(visit.hub) as cursor:
        pace = standing.pace_of(cursor)
        numbers = _numbers(cursor, visit)
        lost = sum(
            row["n"] for row in visit.seen.of([dict(zip(("agency", "unit", "system", "n"), each, strict=True)) for each in rows(cursor, _LOST)])
        )
    is_again = request.query_params.get("refresh") == "1"
    tiles = [_tile(visit.settings, name, lines, probes, numbers) for name in visit.systems()]
    response = visit.page(
        "overview.html",
        alarms=standing.alarms(lines, probes, visit.settings, pace, now),
        shared=[line for stage in SHARED for line in lines if line.system is None and line.stage == stage],
        tiers=_tiers(visit.settings, tiles),
        lines=lines,
        sums={name: sum(getattr(numbers, name).values()) for name in ("parked", "differences", "corrections", "today")},
        closed=min(dict(_closed(visit)).values(), default=None),
        is_again=is_again,
        small_from=SMALL_FROM,
        folded_max=FOLDED_MAX,
        lost=lost,
        zone=ZONE,
    )
    if is_again:
        response.headers["Refresh"] = str(REFRESH_SECONDS)
    return response


def _numbers(cursor: Cursor, visit: Visit) -> Numbers:
    seen = visit.seen.sees
    parked: dict[str, int] = {}
    for found in status.parked_by_kind(visit.settings):
        parked[found["system"]] = parked.get(found["system"], 0) + found["records"]
    differences: dict[str, int] = {}
    for system, _, n in status.differences(visit.settings):
        differences[system] = differences.get(system, 0) + n
    found_today = [(system, int(n)) for system, n in rows(cursor, _TODAY)]
    counted: Sequence[Mapping[str, int]] = (parked, differences, dict(rows(cursor, _CORRECTIONS)), dict(found_today))
    return Numbers(*({system: n for system, n in each.items() if seen(system)} for each in counted))


def _closed(visit: Visit) -> list[tuple[str, datetime]]:
    """System and the last second of its newest certified day."""
    return [(system, datetime.fromtimestamp(at - 1, UTC)) for system, at in status.closed_days(visit.settings) if visit.seen.sees(system)]


def _tile(settings: Settings, name: str, lines: Sequence[Line], probes: Sequence[Line], numbers: Numbers) -> Tile:
    own = sorted((line for line in lines if line.system == name), key=lambda line: line.stage, reverse=True)  # out, then in
    tone = standing.worst([*own, *(probe for probe in probes if probe.system == name)])
    waits = numbers.parked.get(name, 0), numbers.differences.get(name, 0)
    if tone == GOOD and any(waits):
        tone = WARN
    note = None if own else phrase("reads its topic itself") if settings.contract_of(name) else phrase("is asked when needed")
    return Tile(name, KINDS[settings.systems[name].kind], tone, own, *waits, note)


def _tiers(settings: Settings, tiles: Sequence[Tile]) -> list[dict[str, Any]]:
    """The tiles by tier, the worst of each first."""
    order = {tone: place for place, tone in enumerate((standing.BAD, standing.WARN, standing.CALM, GOOD))}
    out = []
    for title, kinds in TIERS:
        here = [tile for tile in tiles if settings.systems[tile.name].kind in kinds]
        out.append({"title": title, "above": title is TIERS[0][0], "tiles": sorted(here, key=lambda tile: (order[tile.tone], tile.name))})
    return [tier for tier in out if tier["tiles"]]
