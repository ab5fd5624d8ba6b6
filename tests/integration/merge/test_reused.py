"""A restored source gives local keys to other records than before: serial numbers begin again where the copy stood (R4)."""

from __future__ import annotations

from lienthong import restored
from lienthong.frames import Header, note_frame
from tests.merge_kit import DAY, DOSSIER, Hub, gone, state

FEE = {"fee_code": "LP1", "amount": 50_000}
AN = {"personal_number": "079200000001", "full_name": "Lê An", "birth_date": "1980"}


def before(city: Hub) -> None:
    """Two dossiers of the portal, the second with a fee and a copy at the ward."""
    city.merge(
        state("portal", "6", 1, DOSSIER | {"national_code": "KEPT"}),
        state("portal", "7", 1, DOSSIER | {"national_code": "FORGOTTEN"}),
        state("portal", "20", 1, FEE, entity="fee", parent="7"),
        state("portal", "21", 1, FEE | {"fee_code": "LP2"}, entity="fee", parent="7"),
    )
    (record,) = city.sql("SELECT record FROM hub.contribution WHERE local_key = '7'")[0]
    city.merge(state("ward-a", "A", 1, DOSSIER | {"note": "ward"}, record=record, edited=["note"]))


def loaded(epoch: int) -> list[bytes]:
    """The end of a load, as every partition is told of it."""
    content = {"records": 2, "partition": 0, "partitions": 1}
    return note_frame(Header("portal", "?", "load_complete", epoch, 9, 0, DAY), [content])


def codes(city: Hub) -> dict[str, int]:
    found = city.sql("SELECT body ->> 'national_code', record FROM hub.record WHERE entity = 'dossier' AND merged_into IS NULL AND NOT deleted")
    return dict(found)


def forgotten(city: Hub) -> list[tuple[str, str]]:
    city.sql("INSERT INTO hub.capture_state (system, epoch) VALUES ('portal', 2) ON CONFLICT (system) DO UPDATE SET epoch = 2 RETURNING 1")
    return [(entity, key) for entity, key, *_ in restored.forgotten(city.connection, "portal").records]


def test_a_reused_key_is_another_record_and_the_old_one_waits_for_a_person(city: Hub) -> None:
    before(city)
    old = codes(city)
    city.merge(
        state("portal", "6", 5, DOSSIER | {"national_code": "KEPT"}, epoch=2),
        state("portal", "7", 5, DOSSIER | {"national_code": "AFTER"}, epoch=2),
    )
    city.merge(state("portal", "20", 5, FEE | {"amount": 7}, entity="fee", parent="7", epoch=2))
    city.merge(*loaded(2))
    now = codes(city)
    assert now.keys() == {"KEPT", "FORGOTTEN", "AFTER"}
    assert {code: now[code] for code in old} == old
    assert [(g["national_code"], g["note"]) for g in city.golden() if g.get("note")] == [("FORGOTTEN", "ward")]
    fees = city.sql("SELECT parent, body ->> 'fee_code', (body ->> 'amount')::int FROM hub.record WHERE entity = 'fee' AND NOT deleted ORDER BY 1, 2")
    assert fees == [(now["FORGOTTEN"], "LP1", 50_000), (now["FORGOTTEN"], "LP2", 50_000), (now["AFTER"], "LP1", 7)]
    listed = [("dossier", "7 (epoch 1)"), ("fee", "20 (epoch 1)"), ("fee", "21")]
    assert forgotten(city) == listed
    assert sorted((p["entity"], p["local_key"]) for p in city.parked("ghost")) == listed
    assert {p["reason"] for p in city.parked("ghost")} == {"not_in_new_epoch"}
    city.merge(state("portal", "7", 6, DOSSIER | {"national_code": "AFTER", "note": "later"}, epoch=2))
    assert {g["national_code"]: g.get("note") for g in city.golden()} == {"KEPT": None, "FORGOTTEN": "ward", "AFTER": "later"}


def test_the_children_that_a_set_does_not_name_belong_to_the_old_record(city: Hub) -> None:
    before(city)
    left = note_frame(Header("portal", "fee", "set", 2, 5, 0, DAY), [{"root": "7", "keys": ["20"]}])
    city.merge(
        state("portal", "7", 5, DOSSIER | {"national_code": "AFTER"}, epoch=2),
        state("portal", "20", 5, FEE, entity="fee", parent="7", epoch=2),
        *left,
    )
    city.merge(*left)
    fees = city.sql("SELECT parent, count(*)::int FROM hub.record WHERE entity = 'fee' AND NOT deleted GROUP BY 1 ORDER BY 1")
    now = codes(city)
    assert fees == [(now["FORGOTTEN"], 2), (now["AFTER"], 1)]


def test_a_row_that_was_written_anew_for_another_record_is_that_records(city: Hub) -> None:
    """What we put back into the restored source took the serial number of one that is forgotten too."""
    before(city)
    now = codes(city)
    city.merge(state("portal", "7", 5, DOSSIER | {"national_code": "KEPT"}, record=now["KEPT"], delivered=True, edited=[], epoch=2))
    assert codes(city) == now
    assert city.sql("SELECT record FROM hub.contribution WHERE local_key = '7'") == [(now["KEPT"],)]


def test_a_row_that_was_written_anew_says_nothing_of_what_stood_under_its_number(city: Hub) -> None:
    """The source had edited the dossier whose number it is now: those words were about that one."""
    old = DOSSIER | {"national_code": "FORGOTTEN", "note": "of the forgotten"}
    city.merge(state("portal", "6", 1, DOSSIER | {"national_code": "KEPT", "note": "of the kept"}), state("portal", "7", 1, old))
    city.merge(state("portal", "20", 1, FEE, entity="fee", parent="6"), state("portal", "21", 1, FEE | {"amount": 9}, entity="fee", parent="7"))
    said = dict(city.sql("SELECT local_key, record FROM hub.contribution"))
    kept = DOSSIER | {"national_code": "KEPT", "note": "of the kept"}
    city.merge(state("portal", "7", 5, kept, record=said["6"], delivered=True, edited=[], epoch=2))
    city.merge(state("portal", "21", 5, FEE, entity="fee", parent="7", record=said["20"], delivered=True, edited=[], epoch=2))
    assert {g["national_code"]: g["note"] for g in city.golden()} == {"KEPT": "of the kept", "FORGOTTEN": "of the forgotten"}
    fees = city.sql("SELECT parent, (body ->> 'amount')::int FROM hub.record WHERE entity = 'fee' AND NOT deleted ORDER BY 1")
    assert fees == sorted([(said["6"], 50_000), (said["7"], 9)])


def test_a_corrected_number_of_the_same_citizen_is_no_other_record(city: Hub) -> None:
    city.merge(state("portal", "1", 1, AN, entity="citizen"))
    city.merge(state("portal", "1", 2, AN | {"personal_number": "079200000002"}, entity="citizen", epoch=2))
    assert [g["personal_number"] for g in city.golden("citizen")] == ["079200000002"]
    other = {"personal_number": "079200000003", "full_name": "Trần Bình", "birth_date": "1991"}
    city.merge(state("portal", "1", 3, other, entity="citizen", epoch=3))
    assert sorted(g["personal_number"] for g in city.golden("citizen")) == ["079200000002", "079200000003"]


def test_a_code_that_is_corrected_within_an_epoch_stays_with_its_record(city: Hub) -> None:
    city.each(*[state("portal", "7", n, DOSSIER | {"national_code": f"N{n}"}, epoch=2) for n in (1, 2)])
    assert codes(city).keys() == {"N2"}


def test_a_row_that_we_wrote_before_the_restore_is_another_record_when_the_source_fills_it_now(city: Hub) -> None:
    """Its system has never said a word about it, so its identifier is what the others call it; of a deleted record nothing is left to be the same."""
    for key, code in (("A", "SENT"), ("B", "ERASED")):
        city.merge(state("portal", key, 1, DOSSIER | {"national_code": code}))
    sent = codes(city)
    for key, code in (("3", "SENT"), ("4", "ERASED")):
        city.merge(state("ward-a", key, 1, DOSSIER, record=sent[code], delivered=True, edited=[]))
    city.merge(gone("portal", "B", 2))
    city.merge(*[state("ward-a", key, 5, DOSSIER | {"national_code": f"AFTER {key}"}, epoch=2) for key in ("3", "4")])
    now = codes(city)
    assert now.keys() == {"SENT", "AFTER 3", "AFTER 4"}
    assert now["SENT"] == sent["SENT"]
    assert len(set(now.values()) | {sent["ERASED"]}) == 4
    city.merge(state("ward-a", "9", 6, DOSSIER, record=sent["SENT"], delivered=True, edited=[], epoch=2))
    assert codes(city) == now


def test_a_row_that_we_wrote_is_the_same_record_by_its_identifier(city: Hub) -> None:
    """The source has lost what it knew of us, and nothing else."""
    city.merge(state("portal", "A", 1, DOSSIER | {"national_code": "SENT"}))
    sent = codes(city)
    city.merge(state("ward-a", "3", 1, DOSSIER, record=sent["SENT"], delivered=True, edited=[]))
    city.merge(state("ward-a", "3", 5, DOSSIER | {"national_code": "SENT"}, epoch=2))
    assert codes(city) == sent
    assert city.parked("ghost") == []


def test_without_an_identifier_another_procedure_is_another_dossier(city: Hub) -> None:
    city.merge(state("portal", "7", 1, DOSSIER))
    city.merge(state("portal", "7", 2, DOSSIER | {"note": "the same"}, epoch=2))
    city.merge(state("portal", "7", 3, DOSSIER | {"procedure_code": "2.002"}, epoch=3))
    assert sorted(g["procedure_code"] for g in city.golden()) == ["1.001", "2.002"]


# ------------------------------------------------------------------ what lives again under another key
def given_back(city: Hub) -> int:
    """The dossier that was forgotten, written again into the restored source, where it got the next number."""
    record = codes(city)["FORGOTTEN"]
    city.merge(state("portal", "9", 7, DOSSIER | {"national_code": "FORGOTTEN"}, record=record, delivered=True, edited=[], epoch=2))
    return record


def restored_source(city: Hub) -> None:
    before(city)
    city.merge(
        state("portal", "6", 5, DOSSIER | {"national_code": "KEPT"}, epoch=2),
        state("portal", "7", 5, DOSSIER | {"national_code": "AFTER"}, epoch=2),
    )


def dossiers_asked_about(city: Hub) -> list[str]:
    return [p["local_key"] for p in city.parked("ghost") if p["entity"] == "dossier"]


def test_what_lives_again_under_another_key_is_asked_about_no_more(city: Hub) -> None:
    restored_source(city)
    assert dossiers_asked_about(city) == ["7 (epoch 1)"]
    given_back(city)
    assert dossiers_asked_about(city) == []
    city.merge(*loaded(2))
    assert dossiers_asked_about(city) == []
    assert ("dossier", "7 (epoch 1)") not in forgotten(city)


def test_what_was_back_before_its_key_was_given_to_another_is_not_asked_about(city: Hub) -> None:
    before(city)
    given_back(city)
    city.merge(state("portal", "7", 8, DOSSIER | {"national_code": "AFTER"}, epoch=2))
    assert dossiers_asked_about(city) == []
    assert codes(city).keys() == {"KEPT", "FORGOTTEN", "AFTER"}


def test_its_owner_deletes_it_under_the_key_that_it_has_now(city: Hub) -> None:
    restored_source(city)
    given_back(city)
    city.merge(gone("portal", "9", 8, epoch=2))
    assert codes(city).keys() == {"KEPT", "AFTER"}
    city.merge(*loaded(2))
    assert dossiers_asked_about(city) == []


def test_what_a_person_decided_to_keep_is_not_asked_about_by_the_next_restore(city: Hub) -> None:
    restored_source(city)
    city.sql("UPDATE hub.parked SET state = 'kept' WHERE kind = 'ghost' AND entity = 'dossier' RETURNING 1")
    city.merge(*loaded(2))
    assert dossiers_asked_about(city) == []
    assert ("dossier", "7 (epoch 1)") not in forgotten(city)
    assert "FORGOTTEN" in codes(city)


def test_what_was_under_a_record_that_is_deleted_everywhere_is_asked_about_by_nobody(city: Hub) -> None:
    """Its own desk deleted the dossier; a step made from a status, or a fee, is not told of one by one. The copies were taken away by us."""
    city.merge(state("ward-a", "A", 1, DOSSIER | {"local_code": "L1"}), state("ward-a", "A|1", 1, FEE, entity="fee", parent="A"))
    ((dossier,),) = city.sql("SELECT record FROM hub.record WHERE entity = 'dossier'")
    ((fee,),) = city.sql("SELECT record FROM hub.record WHERE entity = 'fee'")
    city.merge(
        state("portal", "7", 2, DOSSIER, record=dossier, delivered=True, edited=[]),
        state("portal", "20", 2, FEE, entity="fee", parent="7", record=fee, delivered=True, edited=[]),
    )
    city.merge(gone("ward-a", "A", 3))
    assert city.sql("SELECT deleted FROM hub.record ORDER BY record") == [(True,), (False,)]
    city.merge(*loaded(2))
    assert forgotten(city) == []
    assert city.parked("ghost") == []
