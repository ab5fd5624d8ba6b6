"""What is proposed when the statistics office's register of units and ours differ."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest

from lienthong.national.unit_register import Difference, Listed, differences, held_on

BEN_NGHE = Listed("26740", "Phường Bến Nghé", "ward", "760")


def test_equal_registers_differ_in_nothing() -> None:
    held = held_on(date(2026, 1, 1))
    assert differences(held, held) == []
    assert len(held) == 169  # 168 units and their city


@pytest.mark.parametrize(
    ("theirs", "expected"),
    [
        (None, Difference("removed", "26740", "ward", "Phường Bến Nghé", None)),
        (replace(BEN_NGHE, name="Phường Sài Gòn"), Difference("renamed", "26740", "ward", "Phường Bến Nghé", "Phường Sài Gòn")),
        (replace(BEN_NGHE, name="phường  Bến Nghé"), Difference("spelling", "26740", "ward", "Phường Bến Nghé", "phường  Bến Nghé")),
        (replace(BEN_NGHE, parent="79"), Difference("moved", "26740", "ward", "760", "79")),
    ],
)
def test_each_difference_has_its_name(theirs: Listed | None, expected: Difference) -> None:
    assert differences({"26740": BEN_NGHE}, {} if theirs is None else {"26740": theirs}) == [expected]


def test_a_unit_we_do_not_hold_is_added() -> None:
    assert differences({}, {"26740": BEN_NGHE}) == [Difference("added", "26740", "ward", None, "Phường Bến Nghé")]


@pytest.mark.parametrize(("one", "other"), [("Xã Hòa Hiệp", "Xã Hoà Hiệp"), ("Phường 01", "Phường 1"), ("Phường Tân Thủy", "Phường Tân Thuỷ")])
def test_the_same_name_spelt_otherwise_is_no_other_name(one: str, other: str) -> None:
    (found,) = differences({"1": Listed("1", one, "ward", "2")}, {"1": Listed("1", other, "ward", "2")})
    assert found.kind == "spelling"


def test_names_of_the_same_letters_are_still_other_names() -> None:
    (found,) = differences({"1": Listed("1", "Phường 12", "ward", "2")}, {"1": Listed("1", "Phường 13", "ward", "2")})
    assert found.kind == "renamed"
