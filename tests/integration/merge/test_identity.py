"""The merge on a real hub: which contributions are one record, and what is under it."""

from __future__ import annotations

import threading
from itertools import permutations
from typing import Any

import pytest

from connectors.postgres import transaction
from lienthong import hub
from lienthong.frames import Header, note_frame
from tests.merge_kit import AGENCY_B, DAY, DOSSIER, FEE_X, FEE_Y, PAPER_X, PAPER_Y, X1, X2, Hub, Y, state

# ------------------------------------------------------------------ identity: B7


@pytest.mark.parametrize("order", list(permutations(["X1", "Y", "X2"])), ids="-".join)
def test_the_same_inputs_in_any_order_give_one_record(city: Hub, order: tuple[str, ...]) -> None:
    family = {"X1": [X1, FEE_X, PAPER_X], "Y": [Y, FEE_Y, PAPER_Y], "X2": [X2]}
    for name in order:
        city.merge(*family[name])
    (golden,) = city.golden()
    assert golden["national_code"] == "N1"
    assert golden["local_code"] == "L1"
    kept = city.sql("SELECT record FROM hub.record WHERE entity = 'dossier' AND merged_into IS NULL")[0][0]
    assert city.sql("SELECT DISTINCT record FROM hub.contribution WHERE entity = 'dossier'") == [(kept,)]
    assert city.sql("SELECT DISTINCT parent FROM hub.record WHERE entity <> 'dossier' AND merged_into IS NULL") == [(kept,)]
    assert [(fee["fee_code"], fee["name"]) for fee in city.golden("fee")] == [("LP1", "Lệ phí")]
    assert sorted(paper["component_code"] for paper in city.golden("dossier_component")) == ["A", "B"]
    assert all(merged == kept for (merged,) in city.sql("SELECT merged_into FROM hub.record WHERE entity = 'dossier' AND merged_into > 0"))
    assert city.parked("link") == []


def test_the_id_that_went_points_to_the_one_that_stays_and_both_are_routed(city: Hub) -> None:
    city.each(X1, Y)
    (older,), (younger,) = city.sql("SELECT record FROM hub.record ORDER BY record")
    city.sql("DELETE FROM hub.changed RETURNING 1")
    city.merge(X2)
    assert city.sql("SELECT merged_into FROM hub.record WHERE record = %s", younger) == [(older,)]
    assert {r for (r,) in city.sql("SELECT record FROM hub.changed")} == {older, younger}


def test_what_comes_later_for_the_id_that_went_lands_in_the_one_that_stays(city: Hub) -> None:
    city.each(X1, Y, X2, state("portal", "Y", 9, DOSSIER | {"national_code": "N1", "note": "later"}))
    (golden,) = city.golden()
    assert golden["note"] == "later"


def test_a_child_that_arrives_with_the_join_finds_the_record_that_stays(city: Hub) -> None:
    city.each(X1, Y)
    city.merge(X2, FEE_Y)
    kept = city.sql("SELECT record FROM hub.record WHERE entity = 'dossier' AND merged_into IS NULL")
    assert city.sql("SELECT parent FROM hub.record WHERE entity = 'fee'") == kept


def test_the_same_code_twice_in_one_system_is_a_parked_decision_and_both_flow(city: Hub) -> None:
    city.merge(*[state("ward-a", key, 1, DOSSIER | {"national_code": "N1", "note": key}) for key in ("1", "2")])
    assert sorted(g["note"] for g in city.golden()) == ["1", "2"]
    (decision,) = city.parked("link")
    assert decision["reason"] == "duplicate_identifier"
    city.merge(state("ward-a", "2", 2, DOSSIER | {"national_code": "N1", "note": "2, edited"}))
    assert sorted(g["note"] for g in city.golden()) == ["1", "2, edited"]
    assert len(city.parked("link")) == 1, "asked once"


@pytest.mark.parametrize(
    ("entity", "mine", "yours"),
    [
        ("dossier", DOSSIER | {"national_code": "N1"}, {"procedure_code": "2.002"}),
        ("dossier", DOSSIER | {"national_code": "N1"}, {"received_at": DAY + 86_400_000_000}),
        (
            "citizen",
            {"personal_number": "079200000001", "full_name": "Lê An", "birth_date": "1980"},
            {"birth_date": "1981-01-01"},
        ),
        (
            "citizen",
            {"personal_number": "079200000001", "full_name": "Lê An", "birth_date": "1980"},
            {"full_name": "Lê Bình"},
        ),
    ],
    ids=["procedure", "reception day", "birth year", "name"],
)
def test_a_link_in_doubt_waits_and_the_data_flows(city: Hub, entity: str, mine: dict[str, Any], yours: dict[str, Any]) -> None:
    city.each(state("portal", "1", 1, mine, entity=entity), state("ward-a", "7", 1, mine | yours, entity=entity))
    assert len(city.golden(entity)) == 2
    (decision,) = city.parked("link")
    assert (decision["reason"], decision["system"], decision["local_key"]) == ("link_in_doubt", "ward-a", "7")
    assert not any(str(value) in decision["message"] for value in (mine | yours).values()), "no personal data in a reason"
    changed = state("ward-a", "7", 2, mine | yours | ({"note": "x"} if entity == "dossier" else {"email": "x"}), entity=entity)
    city.merge(changed)
    assert sum("x" in g.values() for g in city.golden(entity)) == 1


def test_a_code_that_was_corrected_is_free_again(city: Hub) -> None:
    """A clerk typed another dossier's national code and corrected it: that puts the right dossier in no doubt."""
    city.each(
        state("ward-a", "1", 1, DOSSIER | {"national_code": "N1"}),
        state("ward-a", "1", 2, DOSSIER | {"national_code": "N2"}),
        state("ward-a", "2", 3, DOSSIER | {"national_code": "N1"}),
    )
    assert city.parked("link") == []
    assert sorted(g["national_code"] for g in city.golden()) == ["N1", "N2"]


# ------------------------------------------------------------------ children
def test_a_child_that_came_before_its_parent_is_attached_to_it(city: Hub) -> None:
    city.each(FEE_X, X1)
    (dossier,) = city.sql("SELECT record FROM hub.record WHERE entity = 'dossier'")
    assert city.sql("SELECT parent FROM hub.record WHERE entity = 'fee'") == [dossier]


def test_a_child_that_came_first_follows_its_parent_into_another_record(city: Hub) -> None:
    city.each(Y, FEE_X, X2)
    assert len(city.golden()) == 1
    kept = city.sql("SELECT record FROM hub.record WHERE entity = 'dossier' AND merged_into IS NULL")
    assert city.sql("SELECT parent FROM hub.record WHERE entity = 'fee' AND merged_into IS NULL") == kept


def test_a_set_names_all_children_and_ends_the_others(city: Hub) -> None:
    papers = [state("ward-a", f"X|{n}", 1, {"component_code": str(n)}, entity="dossier_component", parent="X") for n in range(3)]
    city.merge(X1, *papers)
    left = note_frame(Header("ward-a", "dossier_component", "set", 1, 2, 0, DAY), [{"root": "X", "keys": ["X|1"]}])
    city.merge(*left)
    assert [p["component_code"] for p in city.golden("dossier_component")] == ["1"]
    stale = note_frame(Header("ward-a", "dossier_component", "set", 1, 1, 0, DAY), [{"root": "X", "keys": []}])
    city.merge(*stale)
    assert [p["component_code"] for p in city.golden("dossier_component")] == ["1"], "an older set ends nothing newer"


@pytest.mark.parametrize("order", list(permutations(range(4))), ids=str)
def test_a_hand_over_gives_the_same_fee_in_any_order(city: Hub, order: tuple[int, ...]) -> None:
    """A child's `@processing` is its dossier's routing, also when that changed after the child was folded (R5)."""
    common = {"national_code": "N1"}
    sent = [
        state("portal", "P", 1, DOSSIER | common),
        state("portal", "P", 5, DOSSIER | common | {"processing_agency_code": AGENCY_B}),
        state("ward-a", "A|1", 4, {"fee_code": "LP1", "amount": 1}, entity="fee", parent="A"),
        state("ward-b", "B|1", 3, {"fee_code": "LP1", "amount": 2}, entity="fee", parent="B"),
    ]
    city.each(*[state(ward, key, 1, DOSSIER | common) for ward, key in (("ward-a", "A"), ("ward-b", "B"))])
    city.each(*[sent[n] for n in order])
    assert [fee["amount"] for fee in city.golden("fee")] == [2]


def test_a_child_that_is_added_beside_the_join_of_its_dossier_is_not_left_behind(city: Hub) -> None:
    city.each(X1, Y)
    beside = Hub(city.dsn, 1)
    with transaction(beside.connection) as cursor:  # another merge is under way
        hub.enter(cursor, alone=False)
        joined = threading.Thread(target=city.merge, args=[X2])
        joined.start()
        joined.join(1)
        assert joined.is_alive(), "the join waits for it"
    joined.join(10)
    beside.merge(PAPER_X)
    beside.connection.close()
    kept = city.sql("SELECT record FROM hub.record WHERE entity = 'dossier' AND merged_into IS NULL")
    assert city.sql("SELECT parent FROM hub.record WHERE entity = 'dossier_component'") == kept
