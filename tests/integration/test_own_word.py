"""What becomes its receiver's own word again: the words of others leave it, and a record that it has filed anew is bound to its own row."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import schemas
from connectors.postgres import transaction
from lienthong import route
from lienthong.embedded import PostgresCluster
from tests.apply_kit import DOSSIER, Ward, removed, state
from tests.two_way_kit import UNIT_A, UNIT_B, WARD_ROW, City, two_way_city

EVERY = list(schemas.groups("dossier"))
BAD = DOSSIER | {"note": "forbidden"}


@pytest.fixture
def city(pg: PostgresCluster, database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[City]:
    with two_way_city(pg, database, monkeypatch) as made:
        yield made


@pytest.fixture
def ward(database: str) -> Iterator[Ward]:
    made = Ward(database)
    yield made
    made.close()


def handled(city: City) -> None:
    """A dossier of the portal's that its ward has worked on."""
    city.submit()
    city.settle()
    city.sql("ward-a", "UPDATE ho_so SET trang_thai = 2, can_bo = 'Lê Thị C'")
    city.settle()
    assert city.sql("portal", "SELECT state, officer FROM application") == [("handled", "Lê Thị C")]


def parked(city: City, system: str = "portal") -> list[tuple[Any, ...]]:
    return city.sql(system, "SELECT reason, state, closed_at IS NOT NULL FROM lienthong.parked ORDER BY id")


# ------------------------------------------------------------------ the words of others leave it
def test_what_a_ward_said_leaves_the_portal_with_the_wards_row(city: City) -> None:
    handled(city)
    city.sql("ward-a", "DELETE FROM ho_so")
    city.settle()
    assert city.at_ward() == [WARD_ROW]
    assert city.sql("portal", "SELECT state, officer FROM application") == [("sent", None)], "the portal and the ward hold the same"
    assert [(system, field) for system, field, _, _ in city.corrections()] == [("ward-a", "record")]
    assert city.settle() == 0
    city.sql("ward-a", "UPDATE ho_so SET trang_thai = 9")
    city.settle()
    assert city.at_portal()[0][1] == "done"


def test_the_portals_own_edit_on_its_way_stands_when_the_wards_words_leave(city: City) -> None:
    handled(city)
    city.sql("ward-a", "DELETE FROM ho_so")
    city.say("ward-a")
    city.sql("portal", "UPDATE application SET state = 'more'")
    city.settle()
    assert city.sql("portal", "SELECT state, officer FROM application") == [("more", None)]
    assert city.at_ward()[0][1] == 3


def test_a_dossier_handed_over_before_the_next_ward_speaks_is_the_same_everywhere(city: City) -> None:
    handled(city)
    city.sql("portal", "UPDATE application SET unit = %s", UNIT_B)
    city.settle()
    ((state_, officer),) = city.sql("portal", "SELECT state, officer FROM application")
    ((status, theirs),) = city.sql("ward-b", "SELECT trang_thai, can_bo FROM ho_so")
    assert ({"sent": 1, "handled": 2}[state_], officer) == (status, theirs)
    assert city.settle() == 0


# ------------------------------------------------------------------ deleted and filed again
def test_a_dossier_filed_again_while_a_state_is_on_its_way_leaves_nothing_parked(city: City) -> None:
    handled(city)
    city.sql("ward-a", "UPDATE ho_so SET trang_thai = 3")
    city.say()
    city.sql("portal", "DELETE FROM application")
    city.submit(note="lại")
    city.apply("portal")
    assert parked(city) == [], "the portal has taken its row away itself: nothing is put in the new one's way"
    city.settle()
    assert city.sql("portal", "SELECT code, remark FROM application") == [("N1", "lại")]
    assert parked(city) == []
    assert city.sql("portal", "SELECT state, officer FROM application") == [("more", "Lê Thị C")], "the new row shows what the ward has said"
    assert [row[0] for row in city.at_ward()] == ["N1"]
    assert city.settle() == 0


def test_a_record_that_has_become_all_its_receivers_own_is_told_once_and_bound_to_its_row(city: City) -> None:
    handled(city)
    city.sql("ward-a", "UPDATE ho_so SET trang_thai = 3")
    city.say()
    city.sql("portal", "DELETE FROM application")
    city.submit(unit=UNIT_A, note="lại")
    city.apply("portal")
    city.sql("ward-a", "DELETE FROM ho_so")
    city.settle()
    ((key, *row),) = city.sql("portal", "SELECT id::text, code, state, remark, officer FROM application")
    assert row == ["N1", "sent", "lại", None]
    assert parked(city) == []
    assert city.sql("portal", "SELECT local_key FROM lienthong.applied WHERE entity = 'dossier' AND state = 'applied'") in ([], [(key,)])
    assert city.corrections() == []
    assert city.settle() == 0
    sent = len(city.bus.topics[route.topic_of("portal")])
    city.sql("portal", "UPDATE application SET remark = 'sửa'")
    city.settle()
    assert city.at_ward()[0][4] == "sửa"
    assert len(city.bus.topics[route.topic_of("portal")]) == sent, "its own words are no news to it"


# ------------------------------------------------------------------ what a target makes of such a message
def test_a_held_field_in_which_our_write_still_stands_gets_its_own_word_back(ward: Ward) -> None:
    ward.apply(state(7, 1))
    ward.apply(state(7, 2, DOSSIER | {"status": 9, "handler_name": "somebody"}))
    ward.sql("UPDATE \"Hồ sơ\" SET can_bo = 'Lê'")
    ward.apply(state(7, 3, DOSSIER | {"handler_name": "before", "note": "not written"}, held=["processing", "intake"]))
    (row,) = ward.dossiers()
    assert (row["Trạng thái"], row["can_bo"]) == ("dang_xu_ly", "Lê"), "an edit of its own stands"
    assert ward.overwritten() == []
    ward.sql("UPDATE \"Hồ sơ\" SET ghi_chu = 'ours'")
    ward.apply(state(7, 4, DOSSIER | {"status": 9, "note": "x"}, held=EVERY))
    (row,) = ward.dossiers()
    assert (row["Trạng thái"], row["ghi_chu"]) == ("dang_xu_ly", "ours"), "what is its own from now on is never written"


def test_a_record_filed_anew_is_bound_to_its_new_row_and_nothing_is_written(ward: Ward) -> None:
    ward.apply(state(7, 1))
    ward.sql("DELETE FROM dia_chi")
    ward.sql('DELETE FROM "Hồ sơ"')
    own = (
        "INSERT INTO \"Hồ sơ\" (ma_qg, thu_tuc, ghi_chu, nguoi_id, nguon) SELECT 'N1', '1.001', 'mine', min(id), 'desk' FROM nguoi RETURNING id::text"
    )
    ((key,),) = ward.sql(own)
    ward.apply(state(7, 2))
    assert ward.parked()[-1][:3] == ("dossier", 7, "refused_by_target")
    before = ward.dossiers()
    ward.apply(state(7, 3, DOSSIER | {"note": "mine"}, held=EVERY, local_key=key))
    assert ward.dossiers() == before
    assert ward.applied() == [(7, 3, "applied", False)]
    assert ward.sql("SELECT state, closed_at IS NOT NULL FROM lienthong.parked") == [("cured", True)]
    assert ward.overwritten() == []
    record, delivered, _ = ward.edited(key)
    assert (record, delivered) == (7, False)


# ------------------------------------------------------------------ parked, and then cured
def test_only_something_newer_of_the_same_record_closes_what_is_parked(ward: Ward) -> None:
    ward.apply(state(7, 5, BAD), state(8, 5, BAD | {"national_code": "N8"}))
    ward.apply(state(7, 3))
    open_ = "SELECT record::int FROM lienthong.parked WHERE state = 'parked' ORDER BY id"
    assert ward.sql(open_) == [(7,), (8,)], "an older state says nothing about a newer one"
    ward.apply(state(7, 6))
    assert ward.sql(open_) == [(8,)]
    ward.apply(removed(8, 6, "delete"))
    assert ward.sql(open_) == []


def test_what_is_refused_again_stays_parked_once(ward: Ward) -> None:
    ward.apply(state(7, 1))
    ward.apply(state(7, 2, BAD))
    ward.apply(state(7, 3, BAD))
    assert ward.sql("SELECT version, state FROM lienthong.parked ORDER BY id") == [(2, "parked"), (3, "parked")]
    ward.apply(state(7, 4))
    assert ward.sql("SELECT DISTINCT state FROM lienthong.parked") == [("cured",)]


def test_nothing_is_asked_of_the_parked_where_nothing_is_parked(ward: Ward) -> None:
    ward.apply(state(7, 1))
    with transaction(ward.own) as cursor:
        cursor.execute("SELECT seq_scan + seq_tup_read FROM pg_stat_user_tables WHERE relname = 'parked'")
        assert cursor.fetchone() == (0,)
