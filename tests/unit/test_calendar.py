"""The state calendar: which days are worked, and arithmetic on working time."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lienthong.config_deadlines import DeadlineRules
from lienthong.deadlines import Calendar
from lienthong.deadlines.calendar import published_days

VIETNAM = timezone(timedelta(hours=7))
CALENDAR = Calendar.load()
instants = st.datetimes(datetime(2023, 12, 1), datetime(2027, 12, 1), timezones=st.just(UTC))  # noqa: DTZ001 - hypothesis adds the zone
days = st.integers(0, 60)


def local(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=VIETNAM)


@pytest.mark.parametrize(
    ("day", "is_worked"),
    [
        ("2026-01-01", False),  # a holiday
        ("2026-01-02", False),  # off by a letter that the package misses
        ("2026-01-10", True),  # the Saturday worked for it
        ("2026-01-17", False),  # an ordinary Saturday
        ("2026-01-12", True),  # an ordinary Monday
        ("2026-02-18", False),  # Tết
        ("2024-05-04", True),  # a make-up Saturday of another year
        ("2026-11-24", True),  # disputed: worked until somebody decides
        ("2019-06-03", True),  # outside of the published years only weekends are off
        ("2019-06-01", False),
    ],
)
def test_a_day_is_worked_by_the_calendar_and_not_by_its_weekday(day: str, is_worked: bool) -> None:
    assert CALENDAR.is_working(date.fromisoformat(day)) is is_worked


def test_a_disputed_day_is_off_only_where_the_city_says_so_and_that_is_another_version() -> None:
    off = Calendar.load(DeadlineRules.model_validate({"disputed": {"2026-11-24": "off"}}))
    assert not off.is_working(date(2026, 11, 24))
    assert off.version != CALENDAR.version
    assert Calendar.load(DeadlineRules.model_validate({"disputed": {"2026-11-24": "worked"}})).version == CALENDAR.version


def test_the_citys_own_days_win_over_published_ones() -> None:
    own = {"days": {"2026-01-10": {"kind": "off", "source": "a letter"}, "2028-01-31": {"kind": "off", "source": "a letter"}}}
    calendar = Calendar.load(DeadlineRules.model_validate(own))
    assert not calendar.is_working(date(2026, 1, 10))
    assert not calendar.is_working(date(2028, 1, 31))
    assert calendar.working_days(date(2026, 1, 5), date(2026, 1, 12)) == 5
    assert CALENDAR.working_days(date(2026, 1, 5), date(2026, 1, 12)) == 6


@pytest.mark.parametrize(
    ("start", "added", "due"),
    [
        ("2026-11-16T09:15", 3, "2026-11-19T09:15"),  # the same hour three working days later
        ("2025-12-31T09:15", 1, "2026-01-05T09:15"),  # over the new year, its bridge day and a weekend
        ("2026-01-09T16:30", 1, "2026-01-10T16:30"),  # into a make-up Saturday
        ("2026-02-13T08:00", 3, "2026-02-25T08:00"),  # over Tết
        ("2026-11-16T18:40", 1, "2026-11-17T17:00"),  # after closing counts from the next morning
        ("2026-11-14T10:00", 1, "2026-11-16T17:00"),  # so does a Saturday
        ("2026-11-16T12:10", 1, "2026-11-17T11:30"),  # and lunch has no length
        ("2026-11-16T09:15", 0, "2026-11-16T09:15"),
    ],
)
def test_working_days_are_added_on_the_clock_of_working_time(start: str, added: int, due: str) -> None:
    assert CALENDAR.add_working_days(local(start), added) == local(due)


def test_hours_are_working_hours_and_calendar_days_end_with_a_worked_day() -> None:
    assert CALENDAR.add_working_hours(local("2026-11-16T10:30"), 4) == local("2026-11-16T16:30")
    assert CALENDAR.add_working_hours(local("2026-11-13T16:00"), 4) == local("2026-11-16T10:00")
    assert CALENDAR.add_calendar_days(local("2026-11-16T10:00"), 3) == local("2026-11-19T23:59:59.999999")
    assert CALENDAR.add_calendar_days(local("2026-11-16T10:00"), 5) == local("2026-11-23T23:59:59.999999")


def test_other_hours_are_another_calendar() -> None:
    short = Calendar.load(DeadlineRules.model_validate({"hours": ["08:00-12:00"]}))
    assert short.add_working_hours(local("2026-11-16T11:00"), 2) == local("2026-11-17T09:00")
    assert short.version != CALENDAR.version


def test_an_instant_without_a_zone_is_refused_and_time_is_never_taken_away() -> None:
    with pytest.raises(ValueError, match="zone"):
        CALENDAR.add_working_days(datetime(2026, 1, 5), 1)  # noqa: DTZ001 - that is the point
    with pytest.raises(ValueError, match="only added"):
        CALENDAR.add_working_days(local("2026-01-05T08:00"), -1)


def test_years_typed_wrongly_cost_nothing() -> None:
    for year in (1900, 9000):
        start = datetime(year, 1, 5, tzinfo=UTC)
        assert CALENDAR.working_time(start, start + timedelta(days=9)) == timedelta(0)
        assert not CALENDAR.is_working(start.date())
    assert CALENDAR.working_time(datetime(2101, 6, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)) == timedelta(0)


@given(instants, days, days)
def test_days_add_up_and_later_is_never_due_earlier(start: datetime, some: int, more: int) -> None:
    both = CALENDAR.add_working_days(start, some + more)
    assert CALENDAR.add_working_days(CALENDAR.add_working_days(start, some), more) == both
    assert both >= CALENDAR.add_working_days(start, some) >= start
    assert CALENDAR.add_working_days(start + timedelta(minutes=more), some) >= CALENDAR.add_working_days(start, some)


@given(instants, st.integers(1, 10**12))
def test_what_is_added_is_exactly_what_is_worked(start: datetime, micros: int) -> None:
    at = (start - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    due = CALENDAR.after_micros(at, micros)
    assert CALENDAR.worked_micros(due) - CALENDAR.worked_micros(at) == micros
    assert CALENDAR.worked_micros(due - 1) < CALENDAR.worked_micros(due)  # the first such instant


@given(instants, st.integers(0, 200))
def test_a_due_date_is_on_a_worked_day_counted_one_by_one(start: datetime, added: int) -> None:
    """The same by walking through the days, as a clerk would."""
    day = (start + timedelta(days=added)).astimezone(VIETNAM).date()
    while not CALENDAR.is_working(day):
        day += timedelta(days=1)
    assert CALENDAR.add_calendar_days(start, added) == datetime.combine(day, time.max, VIETNAM)


@given(instants, instants)
def test_working_days_between_two_days_are_those_that_are_worked(one: datetime, other: datetime) -> None:
    first, end = sorted((one.date(), other.date()))
    walked = sum(CALENDAR.is_working(first + timedelta(days=n)) for n in range((end - first).days))
    assert CALENDAR.working_days(first, end) == walked
    assert CALENDAR.working_days(end, first) == 0


def test_every_special_day_is_what_its_row_says() -> None:
    for special in published_days():
        if special.status != "disputed":
            assert CALENDAR.is_working(special.day) is special.is_worked, special
    assert CALENDAR.covers(date(2026, 5, 5))
    assert not CALENDAR.covers(date(2023, 5, 5))
