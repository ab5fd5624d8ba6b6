"""Both ways at once: a portal and two wards, each with its own tables, through capture, merge, route and apply in turn.

All but Kafka is real; the topics are lists, so that a test decides when each stage goes on and counts every message.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lienthong import frames, golden
from lienthong.embedded import PostgresCluster
from lienthong.settings import Settings
from tests.two_way_kit import UNIT_A, UNIT_B, WARD_ROW, City, two_way_city


@pytest.fixture
def city(pg: PostgresCluster, database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[City]:
    with two_way_city(pg, database, monkeypatch) as made:
        yield made


# ------------------------------------------------------------------ there and back
def test_what_is_submitted_at_the_portal_arrives_in_the_ward_responsible_and_nowhere_else(city: City) -> None:
    city.submit()
    city.settle()
    assert city.at_ward("ward-a") == [WARD_ROW]
    assert city.at_ward("ward-b") == []


def test_the_wards_edit_of_its_own_field_reaches_the_portal(city: City) -> None:
    city.submit()
    city.settle()
    city.sql("ward-a", "UPDATE ho_so SET trang_thai = 2, can_bo = 'Lê Thị C'")
    city.settle()
    assert city.sql("portal", "SELECT state, officer FROM application") == [("handled", "Lê Thị C")]
    assert city.corrections() == []


def test_a_dossier_received_at_the_wards_desk_reaches_the_portal_and_comes_back_with_its_corrections(
    city: City,
) -> None:
    city.sql(
        "ward-a",
        "INSERT INTO ho_so (ma_qg, thu_tuc, phuong, trang_thai, ho_ten) VALUES ('N7', '1.001', %s, 2, 'Trần B')",
        UNIT_A,
    )
    city.settle()
    assert city.at_portal() == [("N7", "handled", "TRẦN B", None, None)]
    city.sql("portal", "UPDATE application SET phone = '0777'")
    city.settle()
    assert city.at_ward() == [("N7", 2, "TRẦN B", "0777", None)]


def test_children_travel_both_ways(city: City) -> None:
    city.submit()
    city.sql("portal", "INSERT INTO charge (application_id, code, amount) VALUES (1, 'LP1', 50000)")
    city.settle()
    assert city.sql("ward-a", "SELECT ma, so_tien FROM phi") == [("LP1", 50000)]
    city.sql("ward-a", "UPDATE phi SET so_tien = 70000")
    city.sql("ward-a", "INSERT INTO phi (ho_so_id, ma, so_tien) VALUES (1, 'LP2', 5)")
    city.settle()
    assert city.sql("portal", "SELECT code, amount FROM charge ORDER BY code") == [("LP1", 70000), ("LP2", 5)]
    city.sql("ward-a", "DELETE FROM phi WHERE ma = 'LP2'")
    city.settle()
    assert city.sql("portal", "SELECT code FROM charge") == [("LP1",)]


def test_edits_on_both_sides_at_the_same_time_are_both_kept(city: City) -> None:
    city.submit()
    city.settle()
    city.sql("ward-a", "UPDATE ho_so SET trang_thai = 3")
    city.sql("portal", "UPDATE application SET phone = '0999', remark = 'mới'")
    city.settle()
    assert city.at_portal() == [("N1", "more", "Nguyễn Văn An", "0999", "mới")]
    assert city.at_ward() == [("N1", 3, "NGUYỄN VĂN AN", "0999", "mới")]
    assert [c for c in city.corrections() if c[0] == "ward-a"] == []


# ------------------------------------------------------------------ edits of what others own
def test_an_edit_of_the_portals_field_in_the_ward_is_kept_as_a_correction_and_reverted(city: City) -> None:
    city.submit()
    city.settle()
    city.sql("ward-a", "UPDATE ho_so SET dien_thoai = '0123'")
    city.settle()
    assert city.corrections() == [("ward-a", "applicant_phone", "0123", "portal")]
    assert city.at_ward() == [WARD_ROW]
    assert city.at_portal()[0][3] == "0901"


def test_an_edit_that_capture_never_read_is_witnessed_by_the_applier(city: City) -> None:
    """The ward's line is down; the portal's next word overwrites the edit, and still it becomes a request."""
    city.submit()
    city.settle()
    city.sql("ward-a", "UPDATE ho_so SET ghi_chu = 'ward wrote this'")
    city.sql("portal", "UPDATE application SET remark = 'portal wrote this'")
    city.say("portal")
    city.apply("ward-a")
    assert city.at_ward()[0][4] == "portal wrote this"
    city.settle()
    assert [(system, field, asked) for system, field, asked, _ in city.corrections()] == [("ward-a", "note", "ward wrote this")]


def test_an_own_edit_that_is_on_its_way_is_not_overwritten(city: City) -> None:
    """The ward has not spoken yet, so the portal holds the status: the ward's first word must survive a crossing write."""
    city.submit()
    city.settle()
    city.sql("ward-a", "UPDATE ho_so SET trang_thai = 2")
    city.sql("portal", "UPDATE application SET remark = 'mới'")
    city.say("portal")
    city.apply("ward-a")
    city.settle()
    assert city.at_ward()[0][1] == 2
    assert city.at_portal()[0][1] == "handled"
    assert city.corrections() == []


# ------------------------------------------------------------------ quiet
def test_after_quiet_not_one_message_more(city: City) -> None:
    """The ward's trigger changes every row we write; neither that nor our own writes go round again."""
    for n in range(5):
        city.submit(f"N{n}")
    city.sql("portal", "INSERT INTO charge (application_id, code, amount) SELECT id, 'LP1', 1 FROM application")
    city.settle()
    city.sql("ward-a", "UPDATE ho_so SET trang_thai = 2")
    city.sql("ward-a", "UPDATE ho_so SET dien_thoai = '1' WHERE ma_qg = 'N0'")
    city.settle()
    total = city.bus.total()
    assert city.settle() == 0
    assert city.bus.total() == total


def test_a_touch_without_a_change_ends_at_the_hub(city: City) -> None:
    city.submit()
    city.settle()
    sent = sum(len(log) for topic, log in city.bus.topics.items() if topic != frames.TOPIC)
    city.sql("ward-a", "UPDATE ho_so SET ghi_chu = ghi_chu")
    city.sql("portal", "UPDATE application SET remark = 'x'; UPDATE application SET remark = 'ban đầu'")
    city.settle()
    assert sum(len(log) for topic, log in city.bus.topics.items() if topic != frames.TOPIC) == sent


# ------------------------------------------------------------------ existence
def test_the_owners_delete_empties_the_ward(city: City) -> None:
    city.submit()
    city.settle()
    city.sql("portal", "DELETE FROM application")
    city.settle()
    assert city.at_ward() == []
    assert city.settle() == 0


def test_a_delete_in_the_ward_is_a_request_and_the_row_comes_back(city: City) -> None:
    city.submit()
    city.settle()
    city.sql("ward-a", "DELETE FROM ho_so")
    city.settle()
    assert [(system, field) for system, field, _, _ in city.corrections()] == [("ward-a", "record")]
    assert city.at_ward() == [WARD_ROW]
    assert len(city.at_portal()) == 1
    assert city.settle() == 0


# ------------------------------------------------------------------ ward A → city → ward B
def test_a_dossier_that_is_handed_over_leaves_one_ward_and_arrives_in_the_other(city: City) -> None:
    city.submit()
    city.settle()
    city.sql("portal", "UPDATE application SET unit = %s", UNIT_B)
    city.settle()
    assert (city.at_ward("ward-a"), city.at_ward("ward-b")) == ([], [WARD_ROW])
    city.sql("ward-b", "UPDATE ho_so SET trang_thai = 9")
    city.settle()
    assert city.at_portal()[0][1] == "done"
    assert city.settle() == 0


def test_what_the_first_ward_did_reaches_the_second_through_the_city(city: City) -> None:
    city.submit()
    city.settle()
    city.sql("ward-a", "UPDATE ho_so SET trang_thai = 3, can_bo = 'Lê Thị C'")
    city.settle()
    city.sql("portal", "UPDATE application SET unit = %s", UNIT_B)
    city.settle()
    assert city.sql("ward-b", "SELECT trang_thai, can_bo FROM ho_so") == [(3, "Lê Thị C")]
    city.sql("ward-b", "UPDATE ho_so SET trang_thai = 9")
    city.settle()
    assert city.at_portal()[0][1] == "done"
    kept = city.sql("ward-a", "SELECT reason FROM lienthong.parked")
    assert kept == [("withdraw_kept",)], "A worked on its row, so it is kept there and shown, never silently deleted"
    assert city.settle() == 0


def test_a_dossier_handed_there_and_back_is_whole_again(city: City) -> None:
    city.submit()
    city.settle()
    for unit in (UNIT_B, UNIT_A):
        city.sql("portal", "UPDATE application SET unit = %s", unit)
        city.settle()
    assert (city.at_ward("ward-a"), city.at_ward("ward-b")) == ([WARD_ROW], [])
    city.sql("ward-a", "UPDATE ho_so SET trang_thai = 9")
    city.settle()
    assert city.at_portal()[0][1] == "done"


def test_a_new_authority_table_folds_what_is_there_already(city: City) -> None:
    city.submit()
    city.settle()
    city.sql("ward-a", "UPDATE ho_so SET trang_thai = 2")
    city.settle()
    assert golden.follow_authority(city.hub, city.settings) == 0  # the first start only remembers
    changed = city.settings.model_dump()
    changed["authority"]["dossier"]["processing"] = [{"order": ["portal", "kind:ward"], "basis": "a new decree"}]
    assert golden.follow_authority(city.hub, Settings.model_validate(changed)) > 0
    assert city.hub_sql("SELECT body->>'status' FROM hub.record WHERE entity = 'dossier'") == [("1",)]
    assert golden.follow_authority(city.hub, Settings.model_validate(changed)) == 0
