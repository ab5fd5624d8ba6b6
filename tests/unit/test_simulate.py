"""The simulated city: the same seed is the same city on any day, and only what came within the last working day is not received yet."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from random import Random

import pytest

from lienthong.deadlines import Calendar
from lienthong.simulate.cases import SPARE_HOURS, Cases
from lienthong.simulate.fill import _dossiers
from lienthong.simulate.model import VIETNAM, Dossier
from lienthong.simulate.people import People

DAYS = [
    datetime(2026, 11, 24, 7, 12, tzinfo=VIETNAM),  # a Tuesday morning before work
    datetime(2026, 11, 22, 23, 30, tzinfo=VIETNAM),  # a Sunday night
    datetime(2026, 11, 20, 13, 45, tzinfo=VIETNAM),  # a Friday after lunch
    datetime(2027, 2, 10, 9, 0, tzinfo=VIETNAM),  # within the days off at Tết
]


def city(today: datetime, *, seed: int = 1, count: int = 1500) -> list[tuple[str, Dossier]]:
    random = Random(seed)
    return list(_dossiers(random, Cases(random, People(random), today=today), count))


def unreceived(dossiers: list[tuple[str, Dossier]]) -> list[tuple[str, Dossier]]:
    return [(system, one) for system, one in dossiers if one.status == 1 and one.received is None]


@pytest.mark.parametrize("today", DAYS)
def test_only_what_came_within_the_last_working_day_is_not_received(today: datetime) -> None:
    found, calendar = unreceived(city(today)), Calendar.load()
    assert 30 < len(found) < 100
    assert {system for system, _ in found} == {"city-portal"}
    for _, one in found:
        assert isinstance(one.submitted, datetime)
        assert one.submitted < today
        assert calendar.add_working_days(one.submitted, 1) > today + timedelta(hours=SPARE_HOURS - 1)


@pytest.mark.parametrize("today", DAYS)
def test_nothing_happens_after_today(today: datetime) -> None:
    for _, one in city(today):
        moments = [step.at for step in one.steps]
        assert moments == sorted(moments)
        assert len({(step.status, step.at) for step in one.steps}) == len(one.steps)
        assert all(at <= today for at in [*moments, one.received, one.finished, one.returned] if at is not None)


def test_the_same_seed_is_the_same_city_on_any_day() -> None:
    whole = [repr(city(DAYS[0])) == repr(city(DAYS[0])), repr(city(DAYS[0])) == repr(city(DAYS[0], seed=2))]
    assert whole == [True, False]
    shapes = [Counter((system, one.status, len(one.papers), one.applicant.name) for system, one in city(day)) for day in DAYS]
    assert all(shape == shapes[0] for shape in shapes)
