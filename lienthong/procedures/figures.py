"""What is worked out of the counts of a review: windows of time, one line for each procedure, advice, ranking, totals. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from typing import Any, Literal, NamedTuple

from lienthong.days import start_micros

CHANNELS = ("desk", "online", "post")
YEARS_UNUSED = 3
"""Without a dossier for so long, a procedure is a candidate for abolition (the city's own review of 2021)."""

ONLINE_LEVELS = (3, 4, 5, 6)
"""Levels of a procedure that can be submitted online: 3 and 4 until decree 42/2022/NĐ-CP, since then 5 (part) and 6 (whole)."""

Advice = Literal["abolish", "put_online", "improve_online", "not_listed", "none"]
DAY_SECONDS = 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """The spans of a review as of the end of a day in the city's zone; instants are microseconds since 1970 UTC."""

    end: int
    three_years: int
    twelve_months: int
    years: tuple[int, ...]
    year_starts: tuple[int, ...]


def windows(as_of: date) -> Windows:
    """Three years and twelve months before the end of a day, and the calendar years they touch."""
    following = as_of + timedelta(days=1)
    years = tuple(range(_years_before(following, YEARS_UNUSED).year, as_of.year + 1))
    return Windows(
        end=start_micros(following),
        three_years=start_micros(_years_before(following, YEARS_UNUSED)),
        twelve_months=start_micros(_years_before(following, 1)),
        years=years,
        year_starts=tuple(start_micros(date(year, 1, 1)) for year in years),
    )


def _years_before(day: date, years: int) -> date:
    """The same day of an earlier year; 29 February becomes 1 March."""
    try:
        return day.replace(year=day.year - years)
    except ValueError:
        return date(day.year - years, 3, 1)


class Listed(NamedTuple):
    """A procedure as the catalogue has it."""

    code: str
    name: str | None
    field_code: str | None
    agency_code: str | None
    level: int | None


class Counted(NamedTuple):
    """The dossiers of one procedure, calendar year and channel: how many, and sums of seconds."""

    code: str
    year: int | None
    """0 is before the first year of the review, None without any date."""
    channel: str
    name: str | None
    dossiers: int
    in_3y: int
    in_12m: int
    last: date | None
    handled: int
    handling_seconds: float


class Lateness(NamedTuple):
    """The dossiers of one procedure against their deadlines (lienthong.deadlines): ended in twelve months, late ones, and by how much."""

    ended: int = 0
    late: int = 0
    late_days: float = 0.0
    overdue_open: int = 0


ON_TIME = Lateness()


@dataclass(frozen=True, slots=True, kw_only=True)
class Procedure:
    """One procedure of a review. Windows end with the day of the review."""

    procedure_code: str
    name: str | None
    field_code: str | None = None
    agency_code: str | None = None
    level: int | None = None
    is_listed: bool
    is_offered_online: bool
    by_year: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    undated: int = 0
    dossiers_3y: int = 0
    dossiers_12m: int = 0
    online_12m: int = 0
    not_online_12m: int = 0
    last_submitted: date | None = None
    handling_days: float | None = None
    ended_12m: int = 0
    late_12m: int = 0
    delay_days: float | None = None
    overdue_open: int = 0
    advice: Advice = "none"
    rank: int | None = None

    @property
    def online_share(self) -> float | None:
        """The part of the last twelve months' dossiers that came online; None when there were none."""
        return self.online_12m / self.dossiers_12m if self.dossiers_12m else None


def procedures(listed: Iterable[Listed], counted: Iterable[Counted], lateness: Mapping[str, Lateness], spans: Windows) -> list[Procedure]:
    """One line for each procedure that the catalogue or a dossier names, ranked: first what would save most visits to the counter."""
    catalogue = {each.code: each for each in listed}
    by_code: dict[str, list[Counted]] = {code: [] for code in catalogue}
    for each in counted:
        by_code.setdefault(each.code, []).append(each)
    made = [_procedure(code, catalogue.get(code), groups, lateness.get(code, ON_TIME), spans) for code, groups in by_code.items()]
    to_rank = sorted((p for p in made if p.not_online_12m and p.procedure_code), key=lambda p: (-p.not_online_12m, p.procedure_code))
    ranked = [replace(p, rank=place) for place, p in enumerate(to_rank, start=1)]
    rest = [p for p in made if not p.not_online_12m or not p.procedure_code]
    return ranked + sorted(rest, key=lambda p: (-p.dossiers_12m, -p.dossiers_3y, p.procedure_code))


def _procedure(code: str, entry: Listed | None, groups: Sequence[Counted], against: Lateness, spans: Windows) -> Procedure:
    level = entry.level if entry else None
    online = sum(each.in_12m for each in groups if each.channel == "online")
    year = sum(each.in_12m for each in groups)
    handled = sum(each.handled for each in groups)
    made = Procedure(
        procedure_code=code,
        name=(entry.name if entry else None) or next((each.name for each in groups if each.name), None),
        field_code=entry.field_code if entry else None,
        agency_code=entry.agency_code if entry else None,
        level=level,
        is_listed=entry is not None,
        is_offered_online=level in ONLINE_LEVELS,
        by_year=_by_year(groups, spans.years),
        undated=sum(each.dossiers for each in groups if each.year is None),
        dossiers_3y=sum(each.in_3y for each in groups),
        dossiers_12m=year,
        online_12m=online,
        not_online_12m=year - online,
        last_submitted=max((each.last for each in groups if each.last), default=None),
        handling_days=_mean(sum(each.handling_seconds for each in groups) / DAY_SECONDS, handled),
        ended_12m=against.ended,
        late_12m=against.late,
        delay_days=_mean(against.late_days, against.late),
        overdue_open=against.overdue_open,
    )
    return replace(made, advice=_advice(made))


def _by_year(groups: Sequence[Counted], years: Sequence[int]) -> dict[str, dict[str, int]]:
    counts = {str(year): dict.fromkeys(CHANNELS, 0) for year in years}
    for each in groups:
        if each.year:
            counts[str(each.year)][each.channel] += each.dossiers
    return counts


def _mean(days: float, count: int) -> float | None:
    return round(days / count, 2) if count else None


def _advice(procedure: Procedure) -> Advice:
    if not procedure.is_listed:
        return "not_listed"
    if not procedure.dossiers_3y:
        return "abolish"
    if not procedure.not_online_12m:
        return "none"
    return "improve_online" if procedure.is_offered_online else "put_online"


def totals(found: Iterable[Procedure | Mapping[str, Any]]) -> dict[str, int | float | None]:
    """The figures in one line each; shares and means are over the last twelve months."""
    rows = [each if isinstance(each, Procedure) else from_row(each) for each in found]
    listed = [p for p in rows if p.is_listed]
    online = [p for p in listed if p.is_offered_online]
    year, online_12m = sum(p.dossiers_12m for p in rows), sum(p.online_12m for p in rows)
    return {
        "procedures": len(listed),
        "without_dossier_3y": sum(not p.dossiers_3y for p in listed),
        "offered_online": len(online),
        "online_in_use": sum(p.online_12m > 0 for p in online),
        "not_listed": sum(not p.is_listed and bool(p.procedure_code) for p in rows),
        "dossiers_3y": sum(p.dossiers_3y for p in rows),
        "dossiers_12m": year,
        "online_12m": online_12m,
        "online_share": online_12m / year if year else None,
        "without_code_3y": sum(p.dossiers_3y for p in rows if not p.procedure_code),
        "undated": sum(p.undated for p in rows),
        "ended_12m": sum(p.ended_12m for p in rows),
        "late_12m": sum(p.late_12m for p in rows),
        "overdue_open": sum(p.overdue_open for p in rows),
    }


def said(found: Mapping[str, int | float | None]) -> list[str]:
    """The totals as sentences."""
    share = "-" if found["online_share"] is None else f"{found['online_share']:.1%}"
    lines = [
        f"{found['without_dossier_3y']:,} of {found['procedures']:,} procedures without a dossier in three years",
        f"{found['online_in_use']:,} of {found['offered_online']:,} online procedures in use in the last twelve months",
        f"{found['online_12m']:,} of {found['dossiers_12m']:,} dossiers of the last twelve months online ({share})",
        f"{found['late_12m']:,} of {found['ended_12m']:,} dossiers with a deadline that ended in the last twelve months were late",
        f"{found['overdue_open']:,} open dossiers are overdue",
    ]
    odd = {
        "not_listed": "procedures of dossiers are not in the catalogue",
        "without_code_3y": "dossiers of three years name no procedure",
        "undated": "dossiers have no date and count in no year",
    }
    return lines + [f"{found[name]:,} {words}" for name, words in odd.items() if found[name]]


def from_row(row: Mapping[str, Any]) -> Procedure:
    """A procedure from a dictionary that has its fields, and perhaps others."""
    return Procedure(**{name: row[name] for name in Procedure.__slots__ if name in row})
