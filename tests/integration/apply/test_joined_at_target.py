"""Records that were joined, and children that were moved, at a target with real foreign keys."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from lienthong import hub_schema, in_doubt, route
from tests.apply_kit import DOSSIER, Ward, fee, merged, removed, state
from tests.route_kit import City, Topics

OTHER = DOSSIER | {"national_code": None}


@pytest.fixture
def ward(make: Callable[..., Ward]) -> Ward:
    """Two dossiers with a row each, of which the second has a fee and a paper."""
    made = make()
    made.apply(state(7, 1), state(9, 1, OTHER), fee(10, 1, 9), paper(11, 1, 9))
    return made


def paper(record: int, version: int, parent: int) -> bytes:
    return state(record, version, {"component_code": "P"}, entity="dossier_component", parent=parent)


def under(ward: Ward) -> tuple[list[Any], list[Any]]:
    """Which dossier row the fee and the paper are under."""
    fees = ward.sql("""SELECT h.ma_qg, p.ma FROM phi p JOIN "Hồ sơ" h ON h.id = p.ho_so_id""")
    return fees, ward.sql("""SELECT h.ma_qg, p.ma FROM giay_to p JOIN "Hồ sơ" h ON h.id = p.ho_so_id""")


def test_children_move_to_the_row_that_stays_and_the_other_leaves(ward: Ward) -> None:
    ward.apply(merged(7, 9, 2), state(7, 2), fee(10, 2, 7), paper(11, 2, 7))
    assert [row["ma_qg"] for row in ward.dossiers()] == ["N1"]
    assert under(ward) == ([("N1", "LP1")], [("N1", "P")])
    assert ward.parked() == []
    assert ward.applied() == [(7, 2, "applied", True), (9, 2, "withdrawn", True)]


def test_the_row_that_goes_waits_for_children_that_come_in_later_batches(ward: Ward) -> None:
    ward.apply(merged(7, 9, 2))
    assert len(ward.dossiers()) == 2
    ward.apply(fee(10, 2, 7))
    assert len(ward.dossiers()) == 2
    ward.apply(merged(7, 9, 2), paper(11, 2, 7))
    assert [row["ma_qg"] for row in ward.dossiers()] == ["N1"]
    ward.apply(merged(7, 9, 2))
    assert ward.parked() == []
    assert ward.applied() == [(7, 1, "applied", True), (9, 2, "withdrawn", True)]


def test_a_child_that_is_withdrawn_is_waited_for_no_more(ward: Ward) -> None:
    ward.apply(merged(7, 9, 2), paper(11, 2, 7))
    ward.apply(removed(10, 3, "delete", entity="fee"))
    assert len(ward.dossiers()) == 1
    assert ward.parked() == []


def test_a_child_of_a_dossier_that_went_away_waits_for_its_return(ward: Ward) -> None:
    ((gone,),) = ward.sql("""SELECT id::text FROM "Hồ sơ" WHERE ma_qg = 'N1'""")
    ward.apply(removed(7, 2, "withdraw"))
    late = {"component_code": "Q"}
    ward.apply(state(12, 3, late, entity="dossier_component", parent=7, parent_key=gone))  # the hub has not heard yet that the row is gone
    assert ward.parked() == []
    ward.apply(state(7, 4))
    assert ward.sql("""SELECT h.ma_qg, p.ma FROM giay_to p JOIN "Hồ sơ" h ON h.id = p.ho_so_id WHERE p.ma = 'Q'""") == [("N1", "Q")]
    assert ward.parked() == []


def test_a_row_that_has_become_the_one_that_stays_is_not_taken_with_the_one_that_goes(make: Callable[..., Ward]) -> None:
    """A dossier that was deleted and filed again is another record until its code is free; then both are one, and the hub knows the row."""
    ward = make()
    ward.apply(state(7, 1))
    ward.apply(removed(7, 2, "delete"))
    ward.apply(state(9, 3), fee(10, 3, 9))
    ((row,),) = ward.sql("""SELECT id::text FROM "Hồ sơ" """)
    ward.apply(merged(7, 9, 4), state(7, 4, local_key=row))
    ward.apply(fee(10, 4, 7))
    assert under(ward)[0] == [("N1", "LP1")]
    assert [(record, key, how) for record, key, how in ward.rows_of("dossier") if how == "applied"] == [(7, row, "applied")]
    ward.apply(state(7, 3))  # older than what the record heard last
    ward.apply(removed(7, 5, "delete"), removed(10, 5, "delete", entity="fee"))
    assert (ward.dossiers(), ward.parked()) == ([], [])


def test_the_targets_own_row_that_is_the_record_that_stays_asks_nobody(make: Callable[..., Ward]) -> None:
    ward = make()
    ward.sql("""WITH who AS (INSERT INTO nguoi (ho_ten) VALUES ('An') RETURNING id)
                INSERT INTO "Hồ sơ" (ma_qg, nguoi_id, nguon) SELECT 'N1', id, 'ward' FROM who""")
    ((row,),) = ward.sql("""SELECT id::text FROM "Hồ sơ" """)
    ward.apply(state(7, 1, DOSSIER | {"national_code": "N0"}))
    ward.apply(state(9, 2, local_key=row))
    ward.apply(removed(7, 3, "delete"))
    ward.apply(state(7, 4, local_key=row), merged(7, 9, 4))
    assert (len(ward.dossiers()), ward.parked()) == (1, [])


def test_a_row_filed_anew_at_the_target_is_not_asked_about_when_its_record_joins_the_one_before(make: Callable[..., Ward]) -> None:
    ward = make()
    ward.apply(state(7, 1))
    ward.sql("""DELETE FROM dia_chi""")
    ward.sql("""DELETE FROM "Hồ sơ" """)
    ward.sql("""WITH who AS (INSERT INTO nguoi (ho_ten) VALUES ('An') RETURNING id)
                INSERT INTO "Hồ sơ" (ma_qg, nguoi_id, nguon) SELECT 'N1', id, 'ward' FROM who""")
    ((row,),) = ward.sql("""SELECT id::text FROM "Hồ sơ" """)
    ward.apply(state(9, 2, local_key=row))
    ward.apply(merged(7, 9, 3), state(7, 3, local_key=row))
    assert (len(ward.dossiers()), ward.parked()) == (1, [])
    assert ward.rows_of("dossier") == [(7, row, "applied"), (9, None, "withdrawn")]


def test_an_edited_row_that_goes_is_kept_and_shown(ward: Ward) -> None:
    ward.sql("""UPDATE "Hồ sơ" SET ghi_chu = 'work in progress' WHERE ma_qg IS NULL""")
    ward.apply(merged(7, 9, 2), fee(10, 2, 7), paper(11, 2, 7))
    assert ward.parked() == [("dossier", 9, "withdraw_kept", None)]


def test_a_child_of_the_wards_own_keeps_the_row_and_that_is_shown(ward: Ward) -> None:
    ward.sql("""INSERT INTO phi SELECT id, 'own', 1 FROM "Hồ sơ" WHERE ma_qg IS NULL""")
    ward.apply(merged(7, 9, 2), fee(10, 2, 7), paper(11, 2, 7))
    assert [(entity, record) for entity, record, _, _ in ward.parked()] == [("dossier", 9)]
    assert len(ward.dossiers()) == 2


def test_a_moved_child_is_moved_and_is_no_edit(ward: Ward) -> None:
    ward.apply(paper(11, 2, 7), fee(10, 2, 7, amount=6))
    assert under(ward) == ([("N1", "LP1")], [("N1", "P")])
    ((paper_key,),) = ward.sql("SELECT id::text FROM giay_to")
    assert ward.edited(paper_key, "dossier_component") == (11, True, 0)
    ((stored,),) = ward.sql("SELECT local_key FROM lienthong.applied WHERE record = 10")
    assert stored == ward.sql("SELECT ho_so_id || '|' || ma FROM phi")[0][0]
    assert ward.overwritten() == []


def test_where_a_child_belongs_is_left_alone_when_that_is_the_wards_word(ward: Ward) -> None:
    ward.apply(paper(11, 2, 7), state(10, 2, {"fee_code": "LP1", "amount": 8}, entity="fee", parent=7, held=["record"]))
    fees, papers = under(ward)
    assert (fees, papers) == ([(None, "LP1")], [("N1", "P")])
    assert ward.sql("SELECT so_tien FROM phi") == [(8,)]


def test_the_router_tells_when_only_the_parent_has_changed(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    topics = Topics()
    monkeypatch.setattr(route, "Producer", lambda *_, **__: topics)
    monkeypatch.setattr(in_doubt, "Ends", lambda _: topics)
    hub_schema.install(database)
    city = City(database, topics)
    for record in (1, 2):
        city.put(record)
    city.fee(8, 2)
    city.step()
    city.put(2, merged_into=1)
    city.fee(8, 1)
    sent = city.step()
    assert [one.brief for one in sent] == [("ward-a", "merged", 1), ("ward-a", "fee", 8)]
    assert sent[1].meta["parent"] == 1
    city.fee(8, 1)
    assert city.step() == []
    city.close()
