"""The day of an instant: the calendar day in the city's zone, as a number on the hot path and as a date elsewhere."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Final

DAY_MICROS: Final = 86_400_000_000
ZONE_MICROS: Final = 7 * 3_600_000_000
"""Asia/Ho_Chi_Minh: UTC+7 without summer time ever since 1975-06-13 (IANA time zone database)."""

_FIRST = date(1970, 1, 1)


def day_number(at_micros: int) -> int:
    """The day of an instant (µs since 1970 UTC), counted from 1970-01-01."""
    return (at_micros + ZONE_MICROS) // DAY_MICROS


def date_of(number: int) -> date:
    """The date of a day's number."""
    return _FIRST + timedelta(days=number)


def yesterday(now: datetime) -> date:
    """The last day that is over at an instant."""
    return date_of(day_number(int(now.timestamp() * 1_000_000)) - 1)


def start_micros(day: date) -> int:
    """The first instant of a day, in µs since 1970 UTC."""
    return (day - _FIRST).days * DAY_MICROS - ZONE_MICROS


def end_micros(day: date) -> int:
    """The first instant after a day, in µs since 1970 UTC."""
    return start_micros(day) + DAY_MICROS
