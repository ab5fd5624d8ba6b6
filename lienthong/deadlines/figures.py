"""How many dossiers were ended on time, by agency, procedure or unit: the sums over all dossiers of a period, as of an instant."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from datetime import date, datetime
from hashlib import sha256
from typing import Any, Final, Literal

import orjson

from connectors.postgres import Cursor, connect, snapshot
from lienthong import hub
from lienthong.days import date_of, day_number, start_micros
from lienthong.deadlines.calendar import Calendar
from lienthong.deadlines.facts import Case, cases, limits_of
from lienthong.deadlines.official import score
from lienthong.deadlines.standing import ENDED, Standing, clocks, received_at, standing
from lienthong.errors import ConfigError
from lienthong.readers import to_micros
from lienthong.settings import Settings

By = Literal["agency", "procedure", "unit"]
GROUPS: Final[tuple[By, ...]] = ("agency", "procedure", "unit")
CITY: Final = "*"
"""The key of the sum over all."""
NOBODY: Final = "-"
"""The key of dossiers for which a record of the agency, procedure or unit is missing."""
Place = tuple[str, str]
"""A group and its key."""
HOUR_MICROS: Final = 3_600_000_000


@dataclass(slots=True)
class Tally:
    """The sums of one group; dossiers, and µs of working time. docs/deadlines.md says what each counts."""

    received: int = 0
    ended: int = 0
    on_time: int = 0
    late: int = 0
    late_only_known: int = 0  # ended in time, and known to the city after the due date
    without_due: int = 0
    extended: int = 0
    open_in_time: int = 0
    open_paused: int = 0
    open_overdue: int = 0
    handling_late: int = 0
    synchronisation_late: int = 0
    official_on_time: int = 0
    official_late: int = 0
    inconsistent: int = 0  # an end recorded before the reception

    def row(self, key: str) -> dict[str, Any]:
        """As plain data, with the shares in percent and lateness in working hours."""
        said = asdict(self)
        said["handling_late_hours"] = round(said.pop("handling_late") / HOUR_MICROS, 2)
        said["synchronisation_late_hours"] = round(said.pop("synchronisation_late") / HOUR_MICROS, 2)
        if not self.inconsistent:  # told where there are any: figures without them stay those that were published
            del said["inconsistent"]
        official = self.official_on_time + self.official_late
        return {
            "key": key, **said, "on_time_percent": percent(self.on_time, self.on_time + self.late),
            "official_percent": percent(self.official_on_time, official),
        }  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """What figures are about: ends from `first` on, as of `at` (µs); `month` is its first day, or None for all times."""

    month: date | None
    first: int
    at: int


def percent(part: int, whole: int) -> float | None:
    """A share in percent with two decimals, cut and not rounded: 100.0 means all. None of nothing."""
    return part * 10_000 // whole / 100 if whole else None


def period(as_of: datetime, month: date | None) -> Period:
    """The period of a month up to an instant, at most to the month's end; raises `ConfigError` for an instant before it."""
    at = to_micros(as_of)
    if month is None:
        return Period(month=None, first=0, at=at)
    first = start_micros(month.replace(day=1))
    if at < first:
        raise ConfigError(f"{month:%Y-%m} has not begun on {date_of(day_number(at))}: give a later --as-of")
    return Period(month=month.replace(day=1), first=first, at=min(at, start_micros(next_month(month)) - 1))


def next_month(month: date) -> date:
    """The first day of the month after."""
    return date(month.year + month.month // 12, month.month % 12 + 1, 1)


@dataclass(slots=True)
class Computed:
    """All figures of a period: rows by group, the newest arrival counted (µs), and the calendar's version."""

    period: Period
    calendar: str
    rows: dict[str, list[dict[str, Any]]]
    arrivals: list[int]

    @property
    def digest(self) -> str:
        """SHA-256 of the rows: equal figures have equal digests."""
        return sha256(orjson.dumps(self.rows, option=orjson.OPT_SORT_KEYS)).hexdigest()


def figures(settings: Settings, *, as_of: datetime, by: By, month: date | None = None) -> list[dict[str, Any]]:
    """The figures of now, computed: the city's first (key `*`), then each group's. Reads all dossiers; pages take `newest`."""
    return compute(settings, period(as_of, month)).rows[by]


def compute(settings: Settings, of: Period) -> Computed:
    """All figures of a period from the facts that the hub has now."""
    with hub.named():
        connection = connect(settings.hub.dsn, application_name="lienthong sla")
        try:
            with snapshot(connection) as cursor:
                found = sums(cursor, settings, of, _groups_of)
        finally:
            connection.close()
    return Computed(of, found.calendar, {by: _rows(found.tallies, by) for by in GROUPS}, found.arrivals)


def _groups_of(case: Case) -> list[Place]:
    return [("agency", case.agency or NOBODY), ("procedure", case.procedure or NOBODY), ("unit", case.unit or NOBODY), *((by, CITY) for by in GROUPS)]


@dataclass(slots=True)
class Sums:
    """Tallies by place, when the newest step of each dossier counted arrived (µs), and the calendar's version."""

    calendar: str
    tallies: dict[Place, Tally]
    arrivals: list[int]


def sums(cursor: Cursor, settings: Settings, of: Period, places: Callable[[Case], Iterable[Place]]) -> Sums:
    """Add up all dossiers of a period, each at its places."""
    calendar = Calendar.load(settings.deadlines)
    found = Sums(calendar.version, {}, [])
    for case in cases(cursor, limits_of(cursor, settings.deadlines.limits), at=of.at, first=of.first):
        stands = standing(case.facts, of.at, calendar)
        if stands.state == "not received" or (stands.ended is not None and stands.ended < of.first):
            continue
        found.arrivals.append(case.arrived)
        one = _tally(case, stands, of, calendar)
        for place in places(case):
            add(found.tallies.setdefault(place, Tally()), one)
    return found


def _rows(tallies: dict[Place, Tally], by: By) -> list[dict[str, Any]]:
    found = {key: tally for (group, key), tally in tallies.items() if group == by}
    city = found.pop(CITY, Tally())
    return [city.row(CITY), *(found[key].row(key) for key in sorted(found))]


def add(sums: Tally, one: Tally) -> None:
    """Add one dossier to the sums of its group."""
    for name in Tally.__slots__:
        value = getattr(one, name)
        if value:
            setattr(sums, name, getattr(sums, name) + value)


def _tally(case: Case, found: Standing, of: Period, calendar: Calendar) -> Tally:
    """What one dossier adds to the sums."""
    one = Tally()
    start = received_at(case.facts, of.at, sorted(case.facts.steps))
    one.received = int(start is not None and start >= of.first)
    one.extended, one.inconsistent = int(found.is_extended), int(case.is_inconsistent)
    if found.state in ENDED:
        _ended(one, case, found, calendar)
    elif found.state == "no due date":
        one.without_due = 1
    else:
        one.open_in_time, one.open_paused = int(found.state == "in time"), int(found.state == "paused")
        one.open_overdue = int(found.state == "overdue")
    official = score(case.facts, of.at, calendar)
    one.official_on_time, one.official_late = int(official == "on time"), int(official == "late")
    return one


def _ended(one: Tally, case: Case, found: Standing, calendar: Calendar) -> None:
    """A dossier that has ended: on time or late, and how much of that the way to the city's store adds."""
    assert found.ended is not None
    assert found.due is not None
    known = found.ended + _delay(case, found.ended)
    one.ended, one.on_time, one.late = 1, int(found.state == "on time"), int(found.state == "late")
    one.late_only_known = int(found.state == "on time" and known > found.due)
    one.handling_late = found.late
    after = max(found.due, found.ended)
    one.synchronisation_late = max(calendar.worked_micros(known) - calendar.worked_micros(after), 0) if known > found.due else 0


def _delay(case: Case, ended: int) -> int:
    """How long the word of the end was on its way (µs), where a step says it."""
    ends = [(when, delay) for (when, status), delay in case.delays.items() if when >= ended and clocks()[status] == "stopped"]
    return min(ends)[1] if ends else 0


def later(computed: Computed, told_at: int) -> int:
    """Of how many dossiers a step of the period arrived after an instant (µs)."""
    return sum(1 for arrived in computed.arrivals if arrived > told_at)
