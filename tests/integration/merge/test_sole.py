"""The merge on a real hub: records that one system speaks about alone, and what happens when a second one joins."""

from __future__ import annotations

import pytest

from connectors.postgres import transaction
from lienthong import hub
from tests.merge_kit import AGENCY_A, DOSSIER, Hub, gone, state

N1 = DOSSIER | {"national_code": "N1"}


def bodies(city: Hub) -> list[tuple[str, bool]]:
    """Which contributions have a body of their own."""
    return [(system, kept) for system, kept in city.sql("SELECT system, body IS NOT NULL FROM hub.contribution ORDER BY system, local_key")]


def test_an_update_of_the_only_contributor_is_golden_record_history_and_change_list_at_once(city: Hub) -> None:
    city.each(state("portal", "1", 1, N1), state("portal", "1", 2, N1 | {"status": 5}), state("portal", "1", 3, N1 | {"status": 5}))
    assert [g["status"] for g in city.golden()] == [5]
    assert bodies(city) == [("portal", False)]
    assert city.sql("SELECT version, epoch FROM hub.contribution") == [(3, 1)]
    assert [(v, b["status"], s) for v, b, s in city.sql("SELECT version, before, system FROM hub.history")] == [(1, 4, "portal")]
    assert city.sql("SELECT count(*) FROM hub.changed") == [(2,)], "the third reading changed nothing"
    assert (city.counts("merged"), city.counts("unchanged")) == (2, 1)


def test_the_first_words_stay_when_a_second_system_joins(city: Hub) -> None:
    city.each(state("portal", "1", 1, N1), state("ward-a", "7", 1, N1 | {"status": 8, "note": "of the ward"}))
    assert bodies(city) == [("portal", True), ("ward-a", True)]
    city.each(state("ward-a", "7", 2, N1 | {"status": 9}), gone("ward-a", "7", 3))
    with transaction(city.connection) as cursor:
        words = hub.bodies(cursor, [("portal", "dossier", "1")])
    assert words["portal", "dossier", "1"] == N1


def test_an_update_and_a_second_systems_first_word_in_one_batch_count_both(city: Hub) -> None:
    city.merge(state("portal", "1", 1, N1))
    city.merge(state("portal", "1", 2, N1 | {"note": "edited"}), state("ward-a", "7", 1, N1 | {"status": 8}))
    (golden,) = city.golden()
    assert (golden["note"], golden["status"]) == ("edited", 8)
    history = city.sql("SELECT version, before FROM hub.history ORDER BY version")
    assert [(version, before["status"], before.get("note")) for version, before in history] == [(1, 4, None), (2, 4, "edited")]
    assert bodies(city) == [("portal", True), ("ward-a", True)]


def test_a_second_system_that_joins_between_reading_and_update_is_not_overwritten(city: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    city.merge(state("portal", "1", 1, N1))
    other, update = Hub(city.dsn, 1), hub.update_sole
    ((record,),) = city.sql("SELECT record FROM hub.record")

    def joined_before(*given: object) -> object:
        monkeypatch.setattr(hub, "update_sole", update)
        other.merge(state("ward-a", "7", 1, N1 | {"status": 8}, record=record))  # a row that we delivered, edited there
        return update(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(hub, "update_sole", joined_before)
    city.merge(state("portal", "1", 2, N1 | {"note": "edited"}))
    other.connection.close()
    (golden,) = city.golden()
    assert (golden["note"], golden["status"]) == ("edited", 8)


def test_a_child_that_two_systems_name_at_once_is_decided_by_its_dossiers_roles(city: Hub) -> None:
    fee = {"fee_code": "LP1", "amount": 10}
    city.merge(
        state("portal", "P", 1, N1),
        state("ward-a", "W", 1, N1),
        state("portal", "F", 1, fee, entity="fee", parent="P"),
        state("ward-a", "G", 1, fee | {"amount": 20}, entity="fee", parent="W"),
    )
    assert N1["processing_agency_code"] == AGENCY_A, "the ward handles it"
    assert [f["amount"] for f in city.golden("fee")] == [20]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["gone first", "new row first"])
def test_a_dossier_filed_anew_under_its_code_is_one_record_in_any_order(city: Hub, order: tuple[int, int]) -> None:
    city.merge(state("ward-a", "6", 1, N1))
    came = [gone("ward-a", "6", 2), state("ward-a", "50", 3, N1 | {"note": "filed anew"})]
    city.each(*[came[n] for n in order])
    assert [g["note"] for g in city.golden()] == ["filed anew"]
    assert city.sql("SELECT count(*) FROM hub.record WHERE merged_into IS NULL") == [(1,)]
    assert city.parked("link") == []
    assert city.sql("SELECT count(*) FROM hub.identifier WHERE claim = 'dossier:N1'") == [(1,)]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["gone first", "new row first"])
def test_a_code_that_another_system_files_anew_is_one_record_though_our_copy_was_there(city: Hub, order: tuple[int, int]) -> None:
    city.merge(state("ward-a", "6", 1, N1))
    ((record,),) = city.sql("SELECT record FROM hub.record")
    city.merge(state("portal", "259", 2, {}, record=record, delivered=True, edited=[]))
    came = [gone("ward-a", "6", 3), state("portal", "300", 4, N1 | {"note": "filed anew"})]
    city.each(*[came[n] for n in order])
    assert [g["note"] for g in city.golden()] == ["filed anew"]
    assert city.parked("link") == []


def test_a_code_that_waited_and_is_accepted_with_a_later_state_is_asked_no_more(city: Hub) -> None:
    city.each(state("ward-a", "6", 1, N1), state("ward-a", "7", 1, N1))
    assert [p["local_key"] for p in city.parked("link")] == ["7"]
    city.merge(state("ward-a", "6", 2, DOSSIER | {"national_code": "N2"}), state("ward-a", "7", 2, N1 | {"note": "later"}))
    assert city.parked("link") == []
    assert city.sql("SELECT count(*) FROM hub.waiting") == [(0,)]


def test_a_source_record_that_waited_and_is_gone_is_asked_no_more(city: Hub) -> None:
    city.each(state("ward-a", "6", 1, N1), state("ward-a", "7", 1, N1), gone("ward-a", "7", 2))
    assert city.parked("link") == []
    assert [g["national_code"] for g in city.golden()] == ["N1"]
