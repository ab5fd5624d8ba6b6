"""What a review says of counts, without a hub: spans of time, advice, ranking, totals, and the picture."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any
from xml.etree import ElementTree

import pytest

from lienthong.procedures import Procedure, chart_svg, said, totals
from lienthong.procedures.figures import Counted, Lateness, Listed, procedures, windows
from lienthong.procedures.review import as_row

SVG = "{http://www.w3.org/2000/svg}"
SPANS = windows(date(2026, 11, 22))
CATALOGUE = [
    Listed("1.1", "Born", "G01", "H29.01", 5),
    Listed("1.2", "Wed", "G01", "H29.01", 2),
    Listed("1.3", "Forgotten", "G01", "H29.01", 4),
    Listed("1.4", "All online", "G01", "H29.01", 6),
]


def counted(code: str, channel: str, dossiers: int, *, year: int | None = 2026, **more: Any) -> Counted:
    recent = {"in_3y": dossiers, "in_12m": dossiers} if year == 2026 else {"in_3y": 0, "in_12m": 0}
    nothing = {"name": None, "last": None, "handled": 0, "handling_seconds": 0.0}
    return Counted(**{"code": code, "year": year, "channel": channel, "dossiers": dossiers, **recent, **nothing, **more})


COUNTED = [
    counted("1.1", "online", 30, handled=2, handling_seconds=3 * 86_400.0),
    counted("1.1", "desk", 50),
    counted("1.1", "post", 1),
    counted("1.2", "desk", 70),
    counted("1.3", "desk", 9, year=0, last=date(2021, 5, 4)),
    counted("1.4", "online", 8),
    counted("9.9", "desk", 5, name="By another name"),
    counted("", "desk", 600),
    counted("1.2", "desk", 2, year=None),
]


LATENESS = {"1.1": Lateness(ended=3, late=2, late_days=2.0, overdue_open=4)}


@pytest.fixture(scope="module")
def found() -> dict[str, Procedure]:
    return {each.procedure_code: each for each in procedures(CATALOGUE, COUNTED, LATENESS, SPANS)}


@pytest.mark.parametrize(
    ("as_of", "three_years", "twelve_months", "years"),
    [
        (date(2026, 11, 22), datetime(2023, 11, 22, 17, tzinfo=UTC), datetime(2025, 11, 22, 17, tzinfo=UTC), (2023, 2024, 2025, 2026)),
        (date(2026, 12, 31), datetime(2023, 12, 31, 17, tzinfo=UTC), datetime(2025, 12, 31, 17, tzinfo=UTC), (2024, 2025, 2026)),
        (date(2024, 2, 28), datetime(2021, 2, 28, 17, tzinfo=UTC), datetime(2023, 2, 28, 17, tzinfo=UTC), (2021, 2022, 2023, 2024)),  # up to 29 Feb
    ],
)
def test_windows_end_with_the_day_of_the_city(as_of: date, three_years: datetime, twelve_months: datetime, years: tuple[int, ...]) -> None:
    spans = windows(as_of)
    assert (spans.three_years, spans.twelve_months) == (three_years.timestamp() * 1e6, twelve_months.timestamp() * 1e6)
    assert spans.years == years
    assert spans.end == datetime(as_of.year, as_of.month, as_of.day, 17, tzinfo=UTC).timestamp() * 1e6


def test_what_saves_most_visits_comes_first_and_what_has_no_code_is_not_ranked(found: dict[str, Procedure]) -> None:
    assert [(p.procedure_code, p.rank, p.not_online_12m) for p in found.values()][:3] == [("1.2", 1, 70), ("1.1", 2, 51), ("9.9", 3, 5)]
    assert found[""].rank is None


def test_advice_follows_from_use_and_level(found: dict[str, Procedure]) -> None:
    said_of = {code: p.advice for code, p in found.items()}
    assert said_of == {"1.1": "improve_online", "1.2": "put_online", "1.3": "abolish", "1.4": "none", "9.9": "not_listed", "": "not_listed"}


def test_a_line_holds_channels_by_year_and_means_in_days(found: dict[str, Procedure]) -> None:
    born = found["1.1"]
    assert born.by_year["2026"] == {"desk": 50, "online": 30, "post": 1}
    assert (born.online_share, born.handling_days, born.delay_days) == (30 / 81, 1.5, 1.0)
    assert (found["1.3"].last_submitted, found["1.3"].dossiers_3y, found["1.2"].undated) == (date(2021, 5, 4), 0, 2)
    assert found["9.9"].name == "By another name"


def test_totals_are_those_of_the_lines(found: dict[str, Procedure]) -> None:
    made = totals(found.values())
    assert (made["without_dossier_3y"], made["procedures"]) == (1, 4)
    assert (made["online_in_use"], made["offered_online"]) == (2, 3)
    assert (made["not_listed"], made["without_code_3y"], made["undated"], made["overdue_open"]) == (1, 600, 2, 4)
    assert made == totals([as_row(each) for each in found.values()])
    assert said(made)[0] == "1 of 4 procedures without a dossier in three years"
    assert said(made)[1] == "2 of 3 online procedures in use in the last twelve months"


def test_nothing_at_all_is_said_as_nothing() -> None:
    assert totals([])["online_share"] is None
    assert "(-)" in said(totals([]))[2]


def test_the_picture_says_what_it_shows_and_needs_no_script(found: dict[str, Procedure]) -> None:
    drawn = chart_svg([as_row(each) | {"as_of": date(2026, 11, 22)} for each in found.values()])
    root = ElementTree.fromstring(drawn)  # noqa: S314 - our own
    names = (root.get("aria-labelledby") or "").split()
    told = {element.get("id"): element.text for element in root.iter() if element.get("id") in names}
    assert list(told.values())[0] == "Dossiers of the last twelve months by procedure"
    assert "1.1 Born, 81 dossiers, 37% of them online" in (list(told.values())[1] or "")
    assert root.get("role") == "img"
    assert not list(root.iter(f"{SVG}script"))
    assert "prefers-color-scheme: dark" in drawn
    assert all(words in drawn for words in ("1.2 Wed", "1.4 All online", ">70<", ">30<", ">51<"))


@pytest.mark.parametrize(("language", "words"), [("en", "no dossiers"), ("vi", "không có hồ sơ")])
def test_a_picture_of_nothing_says_so(language: Any, words: str) -> None:
    drawn = chart_svg([], language)
    ElementTree.fromstring(drawn)  # noqa: S314 - our own
    assert words in drawn


def test_a_name_cannot_break_out_of_the_picture() -> None:
    row = as_row(procedures([Listed("1.1", "</text><script>x</script>&", None, None, 5)], [counted("1.1", "desk", 1)], {}, SPANS)[0])
    assert "<script" not in chart_svg([row])


def test_the_same_review_is_the_same_picture(found: dict[str, Procedure]) -> None:
    lines = [as_row(each) for each in found.values()]
    assert chart_svg(lines) == chart_svg(lines)
