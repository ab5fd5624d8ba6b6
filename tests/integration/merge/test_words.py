"""The merge on a real hub: existence, edits of what others own, history."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from lienthong import journey
from tests.merge_kit import CITY_FIRST, DOSSIER, HANDLER_FIRST, Hub, gone, state


# ------------------------------------------------------------------ existence: B10
def _both(city: Hub) -> None:
    city.each(
        state("portal", "P", 1, DOSSIER | {"national_code": "N1"}),
        state("ward-a", "W", 1, DOSSIER | {"national_code": "N1"}),
    )


def test_a_delete_by_another_than_the_owner_is_a_correction_request(city: Hub) -> None:
    _both(city)
    city.sql("DELETE FROM hub.changed RETURNING id")
    city.merge(gone("ward-a", "W", 2))
    assert len(city.golden()) == 1
    assert city.corrections() == [("ward-a", "record", None, None, "portal")]
    assert city.sql("SELECT resend FROM hub.changed WHERE resend IS NOT NULL") == [("ward-a",)], "the row is sent there again"


def test_the_owners_delete_deletes_and_history_keeps_what_stood_there(city: Hub) -> None:
    _both(city)
    city.merge(gone("portal", "P", 2))
    assert city.golden() == []
    ((before, system),) = city.sql("SELECT before, system FROM hub.history ORDER BY version DESC LIMIT 1")
    assert system == "portal"
    city.merge(gone("ward-a", "W", 3))
    kept: dict[str, Any] = {}
    for (changes,) in city.sql("SELECT before FROM hub.history ORDER BY version DESC"):
        kept |= changes
    assert kept["applicant_name"] == "Nguyễn Văn An"
    assert city.corrections() == []


def test_a_dossier_that_comes_back_under_a_new_key_is_the_same_record(city: Hub) -> None:
    city.each(
        state("portal", "1", 1, DOSSIER | {"national_code": "N1"}),
        gone("portal", "1", 2),
        state("portal", "2", 3, DOSSIER | {"national_code": "N1"}),
    )
    assert len(city.golden()) == 1
    assert city.sql("SELECT count(*) FROM hub.record") == [(1,)]
    assert city.parked("link") == []


def test_a_fee_deleted_by_the_ward_that_handles_the_dossier_is_gone(city: Hub) -> None:
    """The delete of a child carries no parent, yet its `@processing` is the parent's routing."""
    _both(city)
    city.merge(state("portal", "P|1", 1, {"fee_code": "LP1", "amount": 1}, entity="fee", parent="P"))
    city.merge(state("ward-a", "W|1", 1, {"fee_code": "LP1", "amount": 2}, entity="fee", parent="W"))
    assert [fee["amount"] for fee in city.golden("fee")] == [2]
    city.merge(gone("ward-a", "W|1", 2, entity="fee"))
    assert city.golden("fee") == []


# ------------------------------------------------------------------ edits of what others own
def test_an_edit_of_a_field_another_system_owns_is_a_request_and_the_golden_value_goes_back(city: Hub) -> None:
    _both(city)
    city.sql("DELETE FROM hub.changed RETURNING 1")
    record = city.sql("SELECT record FROM hub.record")[0][0]
    edit = DOSSIER | {"national_code": "N1", "applicant_name": "Trần Thị B"}
    city.merge(state("ward-a", "W", 2, edit, record=record, edited=["applicant_name"]))
    assert [g["applicant_name"] for g in city.golden()] == ["Nguyễn Văn An"]
    assert city.corrections() == [("ward-a", "applicant_name", "Trần Thị B", "Nguyễn Văn An", "portal")]
    assert (record, "ward-a") in city.sql("SELECT record, resend FROM hub.changed")


def test_an_edit_of_ones_own_field_counts_and_asks_nobody(city: Hub) -> None:
    _both(city)
    record = city.sql("SELECT record FROM hub.record")[0][0]
    city.merge(state("ward-a", "W", 2, DOSSIER | {"national_code": "N1", "status": 8}, record=record, edited=["status"]))
    assert [g["status"] for g in city.golden()] == [8]
    assert city.corrections() == []


def test_a_delivered_value_never_becomes_the_receivers_own_word(city: Hub) -> None:
    """Read back from the receiver, it must not outlive the owner's word (B4)."""
    city.merge(state("portal", "P", 1, DOSSIER | {"note": "draft"}))
    record = city.sql("SELECT record FROM hub.record")[0][0]
    city.merge(state("ward-a", "W", 2, DOSSIER | {"note": "draft"}, record=record, edited=[], delivered=True))
    assert city.sql("SELECT mask FROM hub.contribution WHERE system = 'ward-a'") == [(0,)]
    city.merge(gone("portal", "P", 3))
    assert city.golden() == []


# ------------------------------------------------------------------ history and provenance
def test_history_has_every_earlier_value_with_whose_word_it_was(city: Hub) -> None:
    _both(city)
    city.each(*[state("portal", "P", n, DOSSIER | {"national_code": "N1", "note": f"note {n}"}) for n in (2, 3, 4)])
    before = [changes.get("note") for (changes,) in city.sql("SELECT before FROM hub.history ORDER BY version")]
    assert before[-3:] == [None, "note 2", "note 3"]
    ((who,),) = city.sql("SELECT who FROM hub.history ORDER BY version DESC LIMIT 1")
    assert who["intake"] == "portal"
    assert who["processing"] == "ward-a"


def test_provenance_tells_who_says_so_since_when_and_by_which_rule(city: Hub) -> None:
    millis = int(datetime(2026, 3, 6, tzinfo=UTC).timestamp() * 1000)
    city.each(
        state("portal", "P", millis, DOSSIER | {"national_code": "N1", "status": 2}),
        state("ward-a", "W", millis + 60_000, DOSSIER | {"national_code": "N1", "status": 8}),
    )
    (found,) = journey.of(city.settings, "N1", viewer="tester", purpose=None)
    assert found["systems"] == ["portal", "ward-a"]
    fields = {field["field"]: field for field in found["fields"]}
    assert fields["status"] == {
        "field": "status",
        "value": 8,
        "system": "ward-a",
        "since": "2026-03-06T00:01:00+00:00",
        "basis": HANDLER_FIRST["basis"],
    }
    assert fields["note" if "note" in fields else "applicant_name"]["system"] == "portal"
    assert fields["applicant_name"]["basis"] == CITY_FIRST["basis"]
    assert "Nguyễn" not in str(found), "masked without a purpose"
    (shown,) = journey.of(city.settings, "N1", viewer="tester", purpose="complaint 7")
    assert "Nguyễn Văn An" in str(shown)
