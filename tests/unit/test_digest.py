"""Canonical digests: the same for the same values, another for anything else, and sums in which nothing vanishes."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as some

from lienthong.digest import SetDigest, canonical, digest_of, record_digest

VALUES = some.dictionaries(
    some.sampled_from(("note", "status", "applicant_name", "amount")), some.none() | some.integers(0, 9) | some.text(max_size=3)
)
DIGESTS = some.lists(some.integers(0, 2**128 - 1), max_size=6)


@given(VALUES)
def test_order_and_fields_without_a_value_make_no_difference(values: dict[str, Any]) -> None:
    other = dict(reversed(values.items())) | {"finished_at": None}
    assert canonical("dossier", other) == canonical("dossier", values)


@given(VALUES, VALUES)
def test_other_values_have_another_digest(one: dict[str, Any], other: dict[str, Any]) -> None:
    def solid(values: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in values.items() if value is not None}

    assert (record_digest("dossier", 1, one) == record_digest("dossier", 1, other)) == (solid(one) == solid(other))


def test_number_and_text_and_truth_are_different_values() -> None:
    digests = {record_digest("dossier", 1, {"note": value}) for value in (1, "1", True, "true", "")}
    assert len(digests) == 5


def test_the_same_values_of_another_record_or_entity_have_another_digest() -> None:
    digests = {record_digest(entity, record, {"note": "x"}) for entity in ("dossier", "fee") for record in (1, 2)}
    assert len(digests) == 4


@given(DIGESTS, DIGESTS)
def test_parts_of_a_set_add_up_in_any_order(one: list[int], other: list[int]) -> None:
    assert digest_of(one) + digest_of(other) == digest_of([*reversed(other), *one])


@given(DIGESTS, some.integers(0, 2**128 - 1))
def test_what_is_there_twice_does_not_vanish(digests: list[int], more: int) -> None:
    before = digest_of(digests)
    twice = digest_of([*digests, more, more])
    assert twice != before
    twice.remove(more)
    twice.remove(more)
    assert twice == before


def test_a_set_digest_is_a_number_and_32_digits() -> None:
    assert SetDigest().hex() == "0:" + "0" * 32
    assert digest_of([255]).hex() == "1:" + "0" * 30 + "ff"
