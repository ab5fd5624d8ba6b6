"""The traps of the register (docs: data/README.md), each with real codes."""

from __future__ import annotations

from datetime import date

import pytest

from lienthong import units

Y2024, SPRING, TODAY = date(2024, 6, 1), date(2025, 5, 1), date(2026, 11, 23)


@pytest.mark.parametrize(
    ("code", "on", "unit", "rule"),
    [
        ("27232", Y2024, "27232", "whole"),  # Phường 9 of Quận 11, then Phường 10, then Phường Bình Thới
        ("27232", SPRING, "27232", "whole"),
        ("27232", TODAY, "27232", "unchanged"),
        ("27223", Y2024, "27232", "whole"),  # the name Phường 10 moved to another code, then into Bình Thới
        ("25945", Y2024, "25945", "whole"),  # Phường Tân Bình (Dĩ An); today the code is Phường Tân Đông Hiệp
        ("26734", Y2024, "26737", "whole"),  # Phường Tân Định of Quận 1
        ("26737", Y2024, None, "part"),  # Đa Kao was split between Tân Định and Sài Gòn
        ("26737", TODAY, "26737", "unchanged"),
        ("25846", Y2024, "25846", "unchanged"),  # Thới Hòa: one of the five that came out unchanged
        ("26692", Y2024, units.resolve("26689", SPRING).unit, "whole"),  # Phước Hải moved to the code of Long Mỹ
        ("755", Y2024, "26732", "whole"),  # Côn Đảo had no wards: its district became the special zone
        ("760", Y2024, None, "part"),  # a district has no single successor
        ("74", SPRING, "79", "whole"),
    ],
)
def test_a_code_means_what_it_meant_on_its_date(code: str, on: date, unit: str | None, rule: str) -> None:
    assert units.resolve(code, on) == units.Resolved(unit, rule)  # type: ignore[arg-type]


def test_eras_change_on_the_day_itself() -> None:
    assert units.known("27223", date(2024, 12, 31))
    assert not units.known("27223", date(2025, 1, 1))
    assert units.known("760", date(2025, 6, 30))
    assert not units.known("760", date(2025, 7, 1))
    assert units.resolve("26737", date(2025, 6, 30)).rule == "part"
    assert units.resolve("26737", date(2025, 7, 1)).rule == "unchanged"


def test_a_code_of_another_date_is_not_an_unknown_code() -> None:
    with pytest.raises(units.UnitNotValidThen):
        units.resolve("26734", TODAY)
    with pytest.raises(units.UnknownUnit):
        units.resolve("99999", TODAY)
    with pytest.raises(units.UnitNotValidThen):
        units.resolve("26732", Y2024)  # Côn Đảo's code is new


def test_every_old_ward_ends_in_todays_units_or_is_split() -> None:
    split = 0
    for unit in units.register().eras[1].values():
        if unit.level != "ward":
            continue
        resolved = units.resolve(unit.code, SPRING)
        assert resolved.unit is None or units.known(resolved.unit, TODAY)
        split += resolved.unit is None
        assert all(units.known(code, TODAY) for code in units.successors(unit.code, SPRING))
    assert split == 47


def test_exactly_five_wards_came_out_unchanged() -> None:
    wards = [u.code for u in units.register().eras[1].values() if u.level == "ward"]
    same = [code for code in wards if units.resolve(code, SPRING).rule == "unchanged"]
    assert same == ["25846", "26545", "26647", "26656", "27676"]


def test_split_ward_names_all_its_successors() -> None:
    assert units.successors("26737", Y2024) == ("26737", "26740")
    assert units.successors("26734", Y2024) == ("26737",)


def test_predecessors_reach_back_over_both_changes() -> None:
    links = {(link.day.isoformat(), link.old, link.relation) for link in units.predecessors("27232")}
    assert links >= {
        ("2025-07-01", "27220", "whole"), ("2025-07-01", "27229", "part"), ("2025-07-01", "27232", "whole"),
        ("2025-01-01", "27223", "whole"), ("2025-01-01", "27232", "whole"),
    }  # fmt: skip
    with pytest.raises(units.UnknownUnit):
        units.predecessors("27223")


def test_the_whole_register_has_no_overlapping_intervals() -> None:
    by_code: dict[str, list[units.Unit]] = {}
    for unit in units.all_units():
        by_code.setdefault(unit.code, []).append(unit)
    for found in by_code.values():
        found.sort(key=lambda unit: unit.valid_from)
        for earlier, later in zip(found, found[1:], strict=False):
            assert earlier.valid_to is not None
            assert earlier.valid_to <= later.valid_from
    today = [unit for unit in units.all_units() if unit.valid_to is None and unit.level == "ward"]
    assert len(today) == 168
    names = {(unit.name, unit.valid_from.isoformat()) for unit in by_code["27232"]}
    assert names == {("9", "2024-11-01"), ("10", "2025-01-01"), ("Bình Thới", "2025-07-01")}
