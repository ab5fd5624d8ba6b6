"""The state calendar: which days are worked and in which hours, and arithmetic on working time.

Working time is an axis: every working day is as long as any other, nights, lunch breaks and days off have no length. Being due after n working
days is being n days further on this axis, so what comes after closing time counts from the next working day, and a pause moves a due date by
exactly the working time that passed in it. Days are those of Asia/Ho_Chi_Minh. Sources of the days: `data/README.md`; of the usual hours:
one-stop software of provinces (07:00-11:30 and 13:30-17:00, eight hours).
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cache
from hashlib import sha256
from importlib import resources
from itertools import accumulate

from lienthong.config_deadlines import DeadlineRules
from lienthong.days import DAY_MICROS, ZONE_MICROS, day_number

FIRST, LAST = date(2000, 1, 1), date(2100, 12, 31)
"""Outside of these days no time is worked, so that a year typed wrongly costs nothing."""

_FIRST_NUMBER = (FIRST - date(1970, 1, 1)).days
_SATURDAY = 5
_WORKED = {"makeup_work": True, "holiday": False, "substitute_off": False}
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class SpecialDay:
    """A day that is not what its weekday says: worked or off, by which source, and how sure that is."""

    day: date
    is_worked: bool
    name: str
    source: str
    status: str


@cache
def published_days() -> tuple[SpecialDay, ...]:
    """The special days of `data/state_calendar_vn.csv`, disputed ones among them."""
    text = resources.files("lienthong").joinpath("data", "state_calendar_vn.csv").read_text(encoding="utf-8-sig")
    return tuple(
        SpecialDay(date.fromisoformat(row["date"]), _WORKED[row["kind"]], row["name_vi"], row["source"], row["status"])
        for row in csv.DictReader(text.splitlines())
    )


class Calendar:
    """One version of the calendar; `version` names it by its contents. Instants are aware datetimes; the `_micros` side counts µs since 1970 UTC."""

    def __init__(self, special: Mapping[date, bool], hours: Iterable[tuple[int, int]]) -> None:
        self.hours = tuple((start * 1_000_000, end * 1_000_000) for start, end in hours)
        self.day_micros = sum(end - start for start, end in self.hours)
        """The length of a working day."""
        total = (LAST - FIRST).days + 1
        worked = [(FIRST.weekday() + index) % 7 < _SATURDAY for index in range(total)]
        for day, is_worked in special.items():
            if FIRST <= day <= LAST:
                worked[(day - FIRST).days] = is_worked
        self._worked = worked
        self._before = [0, *accumulate(worked)]  # working days before each day
        self._days = [index for index, is_worked in enumerate(worked) if is_worked]
        said = [f"{day} {is_worked:d}" for day, is_worked in sorted(special.items())]
        self.version = sha256("\n".join([repr(self.hours), *said]).encode()).hexdigest()[:12]

    @classmethod
    def load(cls, rules: DeadlineRules | None = None) -> Calendar:
        """The published calendar with what was configured (deadlines.yaml): own days, disputed ones as decided there (worked, if not), hours."""
        rules = rules or DeadlineRules()
        special = {d.day: d.is_worked for d in published_days() if d.status != "disputed"}
        special |= {d.day: False for d in published_days() if d.status == "disputed" and rules.disputed.get(d.day) == "off"}
        special |= {day: own.kind == "worked" for day, own in rules.days.items()}
        return cls(special, rules.seconds())

    # ------------------------------------------------------------ days
    def is_working(self, day: date) -> bool:
        """Whether a day is worked."""
        return FIRST <= day <= LAST and self._worked[(day - FIRST).days]

    def working_days(self, first: date, end: date) -> int:
        """How many working days there are from a day up to, without, another."""
        return self._before[self._index(end)] - self._before[self._index(first)] if first < end else 0

    def covers(self, day: date) -> bool:
        """Whether the year's decisions are in the calendar; in other years only weekends are days off."""
        return any(d.day.year == day.year for d in published_days())

    def _index(self, day: date) -> int:
        return min(max((day - FIRST).days, 0), len(self._worked))

    # ------------------------------------------------------------ instants
    def add_working_days(self, instant: datetime, days: float) -> datetime:
        """The instant after so many working days of working time; a whole day later is the same hour of the next working day."""
        return _instant(self.after_micros(_micros(instant), round(days * self.day_micros)))

    def add_working_hours(self, instant: datetime, hours: float) -> datetime:
        """The instant after so many working hours."""
        return _instant(self.after_micros(_micros(instant), round(hours * 3_600_000_000)))

    def add_calendar_days(self, instant: datetime, days: float) -> datetime:
        """The end of the day after so many days; when that is off, of the next working day (Civil Code 2015, art. 148)."""
        return _instant(self.day_end_micros(_micros(instant) + round(days * DAY_MICROS)))

    def working_time(self, start: datetime, end: datetime) -> timedelta:
        """How much time was worked between two instants; below zero when the end is before the start."""
        return timedelta(microseconds=self.worked_micros(_micros(end)) - self.worked_micros(_micros(start)))

    # ------------------------------------------------------------ the axis
    def worked_micros(self, at: int) -> int:
        """The place of an instant on the axis of working time: what was worked before it since the first day."""
        day = day_number(at) - _FIRST_NUMBER
        if not 0 <= day < len(self._worked):
            return 0 if day < 0 else len(self._days) * self.day_micros
        place = self._before[day] * self.day_micros
        if self._worked[day]:
            clock = (at + ZONE_MICROS) % DAY_MICROS
            for start, end in self.hours:
                place += min(max(clock - start, 0), end - start)
        return place

    def instant_micros(self, worked: int) -> int:
        """The first instant at a place of the axis: the end of a day rather than the start of the next."""
        number = min(max(-(-worked // self.day_micros) - 1, 0), len(self._days) - 1)
        rest = min(worked - number * self.day_micros, self.day_micros)
        start, end = self.hours[0]
        for start, end in self.hours:
            if rest <= end - start:
                break
            rest -= end - start
        return (self._days[number] + _FIRST_NUMBER) * DAY_MICROS - ZONE_MICROS + start + rest

    def after_micros(self, at: int, worked: int) -> int:
        """The instant after so much working time; none is the instant itself. Raises ValueError for less than none."""
        if worked < 0:
            raise ValueError("time is only added")
        return self.instant_micros(self.worked_micros(at) + worked) if worked else at

    def day_end_micros(self, at: int) -> int:
        """The last instant of a day, or when it is off, of the next working day: a time limit in days ends with its last day."""
        day = day_number(at) - _FIRST_NUMBER
        if 0 <= day < len(self._worked) and not self._worked[day] and self._before[day] < len(self._days):
            day = self._days[self._before[day]]
        return (day + _FIRST_NUMBER + 1) * DAY_MICROS - ZONE_MICROS - 1


def _micros(instant: datetime) -> int:
    if instant.tzinfo is None:
        raise ValueError("an instant needs a zone")
    return (instant - EPOCH) // timedelta(microseconds=1)


def _instant(at: int) -> datetime:
    return EPOCH + timedelta(microseconds=at)
