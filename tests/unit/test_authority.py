"""Whose word counts: the fold is a pure function of what systems say and of the authority table (protocol B6, R5)."""

from __future__ import annotations

from datetime import UTC, date, datetime
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lienthong.authority import RECORD, Authority, Golden, Said, fold
from lienthong.readers import to_micros
from lienthong.settings import Settings

CITY_FIRST = [{"order": ["portal", "one-stop", "kind:ward"], "basis": "the city decides"}]
DEPARTMENT, WARD_A, WARD_B = "000.00.01.H29", "000.00.02.H29", "000.00.03.H29"
UNIT_A, UNIT_B = "26737", "26740"


def settings(**groups: list[dict[str, Any]]) -> Settings:
    """A portal, a one-stop, two wards and a department; `groups` replaces rules of the dossier's field groups."""
    dossier = {group: CITY_FIRST for group in ("record", "routing", "intake", "processing", "result", "payment")} | groups
    everywhere = {"order": ["@processing", "portal"], "basis": "who handles it decides"}
    return Settings.model_validate(
        {
            "hub": {"dsn": "x"},
            "kafka": {"bootstrap": "x"},
            "profiles": {"p": {"profile": "p", "entities": {"dossier": {"table": "t", "key": "k", "fields": {"note": "note"}}}}},
            "systems": {
                "portal": {"profile": "p", "dsn": "x", "kind": "portal"},
                "one-stop": {"profile": "p", "dsn": "x", "kind": "one-stop"},
                "ward-a": {"profile": "p", "dsn": "x", "kind": "ward", "units": [UNIT_A], "agencies": [WARD_A]},
                "ward-b": {"profile": "p", "dsn": "x", "kind": "ward", "units": [UNIT_B], "agencies": [WARD_B]},
                "department": {"profile": "p", "dsn": "x", "kind": "department", "agencies": [DEPARTMENT]},
            },
            "authority": {"dossier": dossier, "fee": {"record": [everywhere], "content": [everywhere]}},
            "contracts": {},
        }
    )


def folded(table: Settings, *said: Said, entity: str = "dossier", routing: dict[str, Any] | None = None) -> Golden:
    return fold(Authority(table), entity, said, routing)


def instant(day: date) -> int:
    return to_micros(datetime(day.year, day.month, day.day, 12, tzinfo=UTC))


ROLES = settings(
    processing=[{"order": ["@processing", "@receiving", "portal"], "basis": "the competent agency decides"}],
    payment=[{"order": ["@receiving", "portal"], "basis": "who collects confirms"}],
)

# ------------------------------------------------------------------ any order, any duplication
FIELDS = {
    "processing_agency_code": st.sampled_from([None, DEPARTMENT, WARD_A, WARD_B]),
    "receiving_agency_code": st.sampled_from([None, WARD_A]),
    "processing_unit": st.sampled_from([None, UNIT_A, UNIT_B]),
    "status": st.integers(1, 10),
    "note": st.none() | st.text(max_size=3),
    "submitted_at": st.sampled_from([None, instant(date(2024, 1, 1)), instant(date(2026, 1, 1))]),
    "fee_total": st.none() | st.integers(0, 9),
}
SAID = st.builds(
    Said,
    system=st.sampled_from(["portal", "one-stop", "ward-a", "ward-b", "department", "stranger"]),
    version=st.integers(1, 4),
    values=st.fixed_dictionaries({}, optional=FIELDS),
    exists=st.booleans(),
    delivered=st.booleans(),
)
DATED = settings(
    processing=[
        {"order": ["@processing", "kind:ward"], "basis": "before the reform", "valid_from": "1900-01-01"},
        {"order": ["portal", "@processing"], "basis": "after the reform", "valid_from": "2025-07-01"},
    ],
    record=[{"order": ["one-stop", "kind:ward"], "basis": "existence"}],
)


@given(data=st.data(), contributions=st.lists(SAID, max_size=6))
@pytest.mark.parametrize("table", [settings(), ROLES, DATED], ids=["city", "roles", "dated"])
def test_any_order_and_any_duplication_give_the_same_record(table: Settings, data: st.DataObject, contributions: list[Said]) -> None:
    more = data.draw(st.lists(st.sampled_from(contributions), max_size=4)) if contributions else []
    shuffled = data.draw(st.permutations(contributions + more))
    assert folded(table, *shuffled) == folded(table, *contributions)


@given(contributions=st.lists(SAID, max_size=5, unique_by=lambda s: s.system))
def test_every_value_was_said_and_its_group_has_a_speaker(contributions: list[Said]) -> None:
    golden = folded(ROLES, *contributions)
    for name, value in golden.values.items():
        assert any(s.exists and name in s.values and s.values[name] == value for s in contributions)
    assert set(golden.who.values()) <= {s.system for s in contributions}
    assert "stranger" not in golden.who.values()


def test_two_rows_of_one_system_with_one_version_are_settled_the_same_way_in_any_order() -> None:
    one = Said("portal", 7, {"status": 4, "note": "a"})
    other = Said("portal", 7, {"status": 5, "note": "b"})
    assert folded(settings(), one, other) == folded(settings(), other, one)


def test_a_record_that_one_row_of_a_system_still_holds_is_not_deleted_by_the_end_of_another() -> None:
    """A dossier that was entered twice and joined: deleting one of the two rows deletes no dossier."""
    there, gone = Said("portal", 7, {"status": 4}), Said("portal", 8, {}, exists=False)
    for order in permutations([there, gone]):
        golden = folded(settings(), *order)
        assert not golden.deleted
        assert golden.values == {"status": 4}


# ------------------------------------------------------------------ rank and fallback
def test_the_first_in_the_order_wins_whatever_was_written_later() -> None:
    golden = folded(settings(), Said("portal", 1, {"status": 4}), Said("ward-a", 9, {"status": 8}))
    assert golden.values == {"status": 4}
    assert golden.who["processing"] == "portal"


def test_a_field_the_first_leaves_out_comes_from_the_next() -> None:
    golden = folded(settings(), Said("portal", 1, {"status": 4}), Said("ward-a", 2, {"status": 8, "handler_name": "Lê"}))
    assert golden.values == {"status": 4, "handler_name": "Lê"}
    assert golden.who["processing"] == "portal"


def test_a_null_that_the_first_says_is_its_word() -> None:
    golden = folded(settings(), Said("portal", 1, {"note": None}), Said("ward-a", 2, {"note": "old"}))
    assert golden.values == {"note": None}


def test_of_two_wards_of_equal_rank_the_newer_reading_wins() -> None:
    for order in permutations([Said("ward-a", 5, {"status": 4}), Said("ward-b", 6, {"status": 5})]):
        assert folded(settings(), *order).values == {"status": 5}


def test_a_system_that_no_rule_names_has_no_word() -> None:
    golden = folded(settings(), Said("department", 5, {"status": 4}))
    assert golden.values == {}
    assert golden.who == {}


def test_a_group_without_a_rule_belongs_to_nobody() -> None:
    table = settings(processing=[])
    assert folded(table, Said("portal", 1, {"status": 4, "note": "x"})).values == {"note": "x"}
    assert Authority(table).rule("dossier", "processing", date(2026, 1, 1)).order == ("nobody",)


# ------------------------------------------------------------------ rules by date
@pytest.mark.parametrize(
    ("received", "winner"),
    [
        (date(2025, 6, 30), "ward-a"),
        (date(2025, 7, 1), "portal"),
        (date(2020, 1, 1), "ward-a"),
        (date(2030, 1, 1), "portal"),
    ],
)
def test_the_rule_is_the_one_of_the_records_own_date(received: date, winner: str) -> None:
    values = {"received_at": instant(received)}
    portal, ward = Said("portal", 1, {**values, "status": 4}), Said("ward-a", 2, {**values, "status": 5})
    assert folded(DATED, portal, ward).who["processing"] == winner


def test_reception_counts_before_submission_and_the_local_day_counts() -> None:
    authority = Authority(DATED)
    late_evening = to_micros(datetime(2025, 6, 30, 18, tzinfo=UTC))  # already 1 July in Vietnam
    both = Said("portal", 1, {"received_at": late_evening, "submitted_at": instant(date(2025, 6, 1))})
    assert authority.date_of("dossier", [both]) == date(2025, 7, 1)
    assert authority.date_of("dossier", [Said("portal", 1, {"submitted_at": late_evening})]) == date(2025, 7, 1)
    earlier = Said("ward-a", 2, {"received_at": instant(date(2025, 5, 1))})
    assert authority.date_of("dossier", [both, earlier]) == authority.date_of("dossier", [earlier, both]) == date(2025, 5, 1)


def test_a_date_before_the_first_rule_takes_the_first_rule() -> None:
    table = settings(processing=[{"order": ["ward-a"], "basis": "first", "valid_from": "2020-01-01"}])
    assert Authority(table).rule("dossier", "processing", date(1990, 1, 1)).order == ("ward-a",)


# ------------------------------------------------------------------ roles
@pytest.mark.parametrize(
    ("routing", "winner"),
    [
        ({"processing_agency_code": DEPARTMENT}, "department"),
        ({"processing_agency_code": WARD_B}, "ward-b"),
        ({"processing_agency_code": None, "processing_unit": UNIT_A}, "ward-a"),
        ({"processing_agency_code": DEPARTMENT, "processing_unit": UNIT_A}, "department"),
        ({"processing_agency_code": "000.00.99.H29"}, "portal"),
    ],
    ids=["agency", "other ward", "unit", "agency before unit", "unknown agency"],
)
def test_processing_is_the_system_that_the_folded_routing_names(routing: dict[str, Any], winner: str) -> None:
    said = [Said(system, 1, {"status": 4}) for system in ("ward-a", "ward-b", "department")]
    said.append(Said("portal", 1, {"status": 2, **routing}))
    for order in permutations(said):
        assert folded(ROLES, *order).who["processing"] == winner


def test_a_system_that_routes_to_itself_gains_nothing_where_it_does_not_own_the_routing() -> None:
    portal = Said("portal", 1, {"processing_agency_code": WARD_A, "status": 2})
    usurper = Said("ward-b", 2, {"processing_agency_code": WARD_B, "status": 9})
    golden = folded(ROLES, usurper, portal, Said("ward-a", 1, {"status": 4}))
    assert golden.values["status"] == 4
    assert golden.values["processing_agency_code"] == WARD_A


def test_a_hand_over_moves_the_word_with_it() -> None:
    wards = [Said("ward-a", 9, {"status": 4}), Said("ward-b", 1, {"status": 5})]
    before, after = ({"processing_agency_code": code, "status": 2} for code in (WARD_A, WARD_B))
    assert folded(ROLES, *wards, Said("portal", 1, before)).values["status"] == 4
    assert folded(ROLES, *wards, Said("portal", 2, after)).values["status"] == 5


def test_receiving_and_processing_are_two_roles() -> None:
    routing = {"processing_agency_code": WARD_A, "receiving_agency_code": WARD_B, "status": 2, "fee_total": 1}
    wards = [Said(w, 1, {"status": n, "fee_total": n}) for n, w in ((4, "ward-a"), (5, "ward-b"))]
    golden = folded(ROLES, *wards, Said("portal", 1, routing))
    assert (golden.who["processing"], golden.who["payment"]) == ("ward-a", "ward-b")


def test_a_child_takes_its_roles_from_its_parents_routing() -> None:
    fees = [Said("ward-a", 1, {"amount": 1}), Said("ward-b", 2, {"amount": 2}), Said("portal", 3, {"amount": 3})]
    for code, amount in ((WARD_A, 1), (WARD_B, 2), (DEPARTMENT, 3)):
        assert folded(ROLES, *fees, entity="fee", routing={"processing_agency_code": code}).values == {"amount": amount}


# ------------------------------------------------------------------ existence
def test_existence_belongs_to_its_owner_alone() -> None:
    here, gone = {"status": 4}, False
    owner_deletes = folded(settings(), Said("portal", 1, {}, exists=gone), Said("ward-a", 2, here))
    assert owner_deletes.deleted
    assert owner_deletes.who[RECORD] == "portal"
    ward_deletes = folded(settings(), Said("portal", 1, here), Said("ward-a", 2, {}, exists=gone))
    assert not ward_deletes.deleted
    assert ward_deletes.values == here


def test_a_delivered_copy_is_no_claim_that_the_record_exists() -> None:
    """What the service itself inserted there must not keep a record alive, nor end one by being removed."""
    copy = Said("portal", 5, {"status": 4}, delivered=True)
    assert folded(settings(), copy, Said("ward-a", 1, {}, exists=False)).deleted
    removed_copy = Said("portal", 5, {}, exists=False, delivered=True)
    assert not folded(settings(), removed_copy, Said("ward-a", 1, {"status": 4})).deleted


def test_a_copy_put_back_just_when_its_system_deleted_its_own_row_does_not_hide_the_delete() -> None:
    """A delivery that was on its way inserts the row again: the ward then has its own delete and our copy of the same record."""
    own_delete, put_back = Said("ward-a", 5, {}, exists=False), Said("ward-a", 6, {"status": 4}, delivered=True)
    portal = Said("portal", 4, {"note": "a word of the portal"}, delivered=True)
    assert folded(settings(), own_delete, put_back, portal).deleted


def test_without_an_owner_a_record_is_gone_when_nobody_has_it_any_more() -> None:
    table = settings(record=[{"order": ["city-that-is-not-there"], "basis": "none"}])
    here, gone = Said("ward-a", 1, {"status": 4}), Said("ward-b", 2, {}, exists=False)
    assert not folded(table, here, gone).deleted
    assert folded(table, Said("ward-a", 3, {}, exists=False), gone).deleted


def test_what_a_deleted_contribution_said_no_longer_counts() -> None:
    golden = folded(settings(), Said("portal", 2, {"status": 4}, exists=False), Said("ward-a", 1, {"status": 5}))
    assert golden.values == {"status": 5}


# ------------------------------------------------------------------ the shortcut for records of one system
def test_always_has_say_only_where_every_rule_of_every_spoken_group_names_the_system() -> None:
    authority = Authority(ROLES)
    intake, processing = 1 << _index("note"), 1 << _index("status")
    assert authority.always_has_say("portal", "dossier", intake | processing)
    assert authority.always_has_say("ward-a", "dossier", intake)
    assert not authority.always_has_say("ward-a", "dossier", processing), "named by a role only"
    assert not authority.always_has_say("department", "dossier", intake)
    assert not authority.always_has_say("portal", "citizen", 1), "no rule at all"


def _index(name: str) -> int:
    import schemas

    return schemas.field("dossier", name).index
