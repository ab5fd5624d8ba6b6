"""expectations.yaml: strict, first fitting limit, ends on the state calendar; a file of one's own takes the place of the package's."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from lienthong.config_expectations import HOPS, Expectations, usual
from lienthong.journey.expect import OVER, Limits, finished_since, words
from lienthong.readers import to_micros
from tests.config_kit import ENV, FILES, load, problems, write

OWN = """\
version: 1
hops:
  received:
    - {procedures: ["1.001"], channels: [online, post], within: {working_hours: 4}, basis: "a test"}
    - {channels: [online], within: {working_days: 2}, basis: "a test"}
  acknowledged:
    - {within: {hours: 1.5}, basis: "a test"}
"""
THURSDAY = datetime(2026, 11, 26, 3, tzinfo=UTC)  # ten in the morning here


@pytest.fixture
def own(tmp_path: Path) -> Limits:
    return Limits.of(load(write(tmp_path, {**FILES, "expectations": OWN}), ENV))


def test_the_package_expects_every_hop(tmp_path: Path) -> None:
    assert load(write(tmp_path, FILES), ENV).expectations == usual()
    assert set(usual().hops) == set(HOPS)


def test_a_file_of_ones_own_takes_its_place_as_a_whole(own: Limits) -> None:
    assert set(own.settings.expectations.hops) == {"received", "acknowledged"}
    assert own.by("shown", THURSDAY, {}) is None


@pytest.mark.parametrize(
    ("values", "by"),
    [
        ({"procedure_code": "1.001", "channel": 2}, datetime(2026, 11, 26, 9, tzinfo=UTC)),  # lunch from 11:30 to 13:30
        ({"procedure_code": "1.001", "channel": 3}, datetime(2026, 11, 26, 9, tzinfo=UTC)),
        ({"procedure_code": "1.002", "channel": 2}, datetime(2026, 11, 30, 3, tzinfo=UTC)),  # Friday, Monday
        ({"procedure_code": "1.001", "channel": 1}, None),
        ({"procedure_code": "1.001", "channel": None}, None),
    ],
)
def test_the_first_limit_that_fits_counts(own: Limits, values: dict[str, object], by: datetime | None) -> None:
    assert own.by("received", THURSDAY, values) == by


def test_hours_of_the_clock_go_on_at_night(own: Limits) -> None:
    assert own.by("acknowledged", THURSDAY + timedelta(hours=12), {}) == THURSDAY + timedelta(hours=13.5)


@pytest.mark.parametrize(
    ("right", "wrong", "expected"),
    [
        ("working_hours: 4", "hour: 4", "expectations.yaml:4:"),
        ("working_days: 2", "working_days: 2, hours: 3", "expectations.yaml:5:"),
        ("working_days: 2", "working_days: 0", "expectations.yaml:5:"),
        ("  acknowledged:", "  acknowleged:", "expectations.yaml:6:"),
        ("[online]", "[onlin]", "expectations.yaml:5:"),
    ],
)
def test_a_mistake_is_told_with_its_line(tmp_path: Path, right: str, wrong: str, expected: str) -> None:
    assert right in OWN
    write(tmp_path, {**FILES, "expectations": OWN.replace(right, wrong, 1)})
    assert [line for line in problems(tmp_path) if line.startswith(expected)], problems(tmp_path)


def test_a_result_can_be_shown_since_it_is_there_and_known() -> None:
    known = THURSDAY
    earlier, later = to_micros(known - timedelta(days=3)), to_micros(known + timedelta(hours=1))
    assert finished_since({"finished_at": earlier}, known) == known
    assert finished_since({"finished_at": None, "status_at": later}, known) == known + timedelta(hours=1)
    assert finished_since({}, known) == known


def test_the_words_of_the_ten_statuses_are_the_official_ones() -> None:
    assert words()[5] == "Yêu cầu bổ sung giấy tờ"
    assert len(words()) == 10
    assert set(OVER) <= set(words())


def test_nothing_is_expected_where_no_hop_is_named() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Expectations.model_validate({"hops": {}})
