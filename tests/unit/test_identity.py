"""Which contributions speak about one record: claims, and the check set that a link must pass (protocol B7)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import schemas
from lienthong.identity import agree, claim_of
from lienthong.readers import to_micros


def at(day: int, hour: int = 3) -> int:
    return to_micros(datetime(2026, 3, day, hour, tzinfo=UTC))


# ------------------------------------------------------------------ claims
@pytest.mark.parametrize(
    ("entity", "values", "parent", "claim"),
    [
        ("dossier", {"national_code": "H29-1"}, None, "dossier:H29-1"),
        ("citizen", {"personal_number": "079200000001"}, None, "citizen:079200000001"),
        ("procedure", {"procedure_code": "1.001"}, None, "procedure:1.001"),
        ("agency", {"agency_code": "000"}, None, "agency:000"),
        ("unit", {"code": "26734", "valid_from": 20270}, None, "unit:26734:20270"),
        ("dossier_component", {"component_code": "A"}, 7, "dossier_component:7:A"),
        ("fee", {"fee_code": "LP1"}, 7, "fee:7:LP1"),
        ("evaluation", {"rated_at": 5}, 7, "evaluation:7:5"),
        ("dossier_event", {"status": 4, "occurred_at": 9_999_999}, 7, "dossier_event:7:4:9"),
    ],
)
def test_each_entity_claims_its_strong_code(entity: str, values: dict[str, Any], parent: int | None, claim: str) -> None:
    assert claim_of(entity, values, parent) == claim


def test_every_entity_of_the_model_has_a_claim() -> None:
    for entity in schemas.ENTITIES:
        assert claim_of(entity, {}, None) is None


def test_a_local_code_is_never_a_claim() -> None:
    """Local codes collide between systems (domain.md §1.1)."""
    assert claim_of("dossier", {"local_code": "123", "linked_code": "9"}, None) is None
    assert claim_of("citizen", {"old_identity_number": "024000000"}, None) is None


def test_one_code_under_two_dossiers_is_two_claims() -> None:
    assert claim_of("fee", {"fee_code": "LP1"}, 7) != claim_of("fee", {"fee_code": "LP1"}, 8)


def test_a_units_code_without_its_date_is_another_identity() -> None:
    assert claim_of("unit", {"code": "26734", "valid_from": 1}, None) != claim_of("unit", {"code": "26734", "valid_from": 2}, None)


def test_two_systems_that_round_a_step_to_seconds_claim_the_same_step() -> None:
    exact, rounded = ({"status": 4, "occurred_at": moment} for moment in (1_000_123_456, 1_000_000_000))
    assert claim_of("dossier_event", exact, 7) == claim_of("dossier_event", rounded, 7)
    assert claim_of("dossier_event", {**exact, "status": 5}, 7) != claim_of("dossier_event", rounded, 7)


# ------------------------------------------------------------------ the check set
DOSSIER = {"procedure_code": "1.001", "received_at": at(5), "submitted_at": at(4)}


@pytest.mark.parametrize(
    ("other", "may_link"),
    [
        ({}, True),
        ({"procedure_code": "1.001", "received_at": at(5, 9)}, True),
        ({"procedure_code": "2.002", "received_at": at(5)}, False),
        ({"procedure_code": "1.001", "received_at": at(6)}, False),
        ({"procedure_code": None, "received_at": None, "submitted_at": at(4)}, True),
        ({"received_at": None, "submitted_at": at(3)}, False),
        ({"received_at": at(5), "submitted_at": at(1)}, True),
    ],
    ids=[
        "silent",
        "same day",
        "other procedure",
        "other day",
        "submission only",
        "other submission day",
        "reception decides",
    ],
)
def test_dossiers_link_on_procedure_and_reception_day(other: dict[str, Any], may_link: bool) -> None:  # noqa: FBT001
    assert agree("dossier", DOSSIER, other) is may_link
    assert agree("dossier", other, DOSSIER) is may_link


def test_the_reception_day_is_a_day_in_vietnam() -> None:
    late, early = to_micros(datetime(2026, 3, 4, 18, tzinfo=UTC)), to_micros(datetime(2026, 3, 5, 16, tzinfo=UTC))
    assert agree("dossier", {"received_at": late}, {"received_at": early}), "01:00 and 23:00 of 5 March"
    assert not agree("dossier", {"received_at": late - 2 * 3_600_000_000}, {"received_at": early}), "23:00 of 4 March"


PERSON = {"full_name": "Nguyễn Văn An", "birth_date": "1980-05-01"}


@pytest.mark.parametrize(
    ("other", "may_link"),
    [
        ({"full_name": "NGUYỄN  VĂN AN", "birth_date": "1980"}, True),
        ({"full_name": "Nguyễn Văn An", "birth_date": None}, True),
        ({"full_name": None, "birth_date": "1980-12-31"}, True),
        ({"full_name": "Nguyễn Văn An", "birth_date": "1981"}, False),
        ({"full_name": "Nguyễn Văn Ân", "birth_date": "1980"}, False),
    ],
    ids=["case and space", "no birth date", "no name", "other year", "other name"],
)
def test_citizens_link_on_birth_year_and_name(other: dict[str, Any], may_link: bool) -> None:  # noqa: FBT001
    assert agree("citizen", PERSON, other) is may_link
    assert agree("citizen", other, PERSON) is may_link


@given(
    st.fixed_dictionaries({}, optional={"procedure_code": st.sampled_from("ab"), "received_at": st.integers(0, 10**12)}),
    st.fixed_dictionaries({}, optional={"procedure_code": st.sampled_from("ab"), "received_at": st.integers(0, 10**12)}),
)
def test_agreement_has_no_direction_and_every_record_agrees_with_itself(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert agree("dossier", one, other) == agree("dossier", other, one)
    assert agree("dossier", one, one)


def test_children_need_no_check_beyond_their_claim() -> None:
    assert agree("fee", {"amount": 1}, {"amount": 2})
