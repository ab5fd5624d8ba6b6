"""Applying to a target with a layout of its own: guard, base, witness, halving, waiting children (B4, B5, B9, R6)."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

import schemas
from connectors.kafka import Message
from connectors.postgres import connect, rows, transaction
from lienthong.apply.target import Target
from lienthong.errors import FencedError, TransientError
from lienthong.frames import DELETE
from tests.apply_kit import DOSSIER, NOON, TABLES, TOPIC, Ward, fee, merged, removed, state


# ------------------------------------------------------------------ inserting
def test_a_new_dossier_is_written_over_root_and_parts_in_both_directions(ward: Ward) -> None:
    """The root row refers to `nguoi`, `dia_chi` to the root row; enum, local time, accents, a constant, a default."""
    ward.apply(state(7, 1))
    (row,) = ward.dossiers()
    assert row.pop("id") == row.pop("nguoi_id") == 1
    assert row == {
        "ma_qg": "N1",
        "thu_tuc": "1.001",
        "Trạng thái": "dang_xu_ly",
        "ngay_nop": "2026-03-05T12:00:00",
        "ghi_chu": "ghi chú",
        "can_bo": None,
        "nguon": "city",
        "local_only": "ours",
        "ho_ten": "Nguyễn Văn An",
        "dien_thoai": "0901",
        "dia_chi": "1 Lê Lợi",
    }
    assert ward.applied() == [(7, 1, "applied", True)]


def test_children_get_their_keys_from_parent_uuid_identity_and_nature(ward: Ward) -> None:
    ward.apply(
        state(7, 1),
        fee(8, 1, 7, code="A|B\\C"),
        state(9, 1, {"component_code": "P"}, entity="dossier_component", parent=7),
        state(10, 1, {"score": 5, "rated_at": NOON}, entity="evaluation", parent=7),
        state(11, 1, {"procedure_code": "2.001", "name": "Mới"}, entity="procedure"),
    )
    ((dossier,),) = ward.sql('SELECT id FROM "Hồ sơ"')
    assert ward.sql("SELECT ho_so_id, ma, so_tien FROM phi") == [(dossier, "A|B\\C", 5)]
    assert ward.sql("SELECT ho_so_id, ma FROM giay_to WHERE id IS NOT NULL") == [(dossier, "P")]
    assert ward.sql("SELECT ho_so_id, diem FROM danh_gia") == [(dossier, 5)]
    assert ("2.001", "Mới") in ward.sql("SELECT * FROM thu_tuc")
    ward.apply(fee(8, 2, 7, code="A|B\\C", amount=6))
    assert ward.sql("SELECT ma, so_tien FROM phi") == [("A|B\\C", 6)]


def test_a_composite_key_may_be_part_natural_part_drawn(make: Callable[..., Ward]) -> None:
    entities = {"dossier": {"table": "t", "key": ["ma", "lan"], "fields": {"national_code": "ma", "note": "n"}}}
    ward = make(entities=entities, tables="CREATE TABLE t (ma text, lan int DEFAULT 1, n text, PRIMARY KEY (ma, lan))")
    ward.apply(state(1, 1), state(2, 1, DOSSIER | {"national_code": "N|2"}))
    ward.apply(state(2, 2, DOSSIER | {"national_code": "N|2", "note": "new"}))
    assert ward.sql("SELECT * FROM t ORDER BY ma") == [("N1", 1, "ghi chú"), ("N|2", 1, "new")]


def test_what_the_contract_withholds_is_absent_not_null(ward: Ward) -> None:
    ward.sql("""ALTER TABLE "Hồ sơ" ALTER ghi_chu SET DEFAULT 'by default'""")
    ward.apply(state(7, 1, {k: v for k, v in DOSSIER.items() if k != "note"}, withheld=["note"]))
    assert ward.dossiers()[0]["ghi_chu"] == "by default"


def test_a_row_that_capture_found_here_before_is_adopted_not_doubled(ward: Ward) -> None:
    ward.sql("INSERT INTO nguoi (ho_ten) VALUES ('An')")
    ward.sql("""INSERT INTO "Hồ sơ" (ma_qg, nguoi_id, nguon, ghi_chu) VALUES ('N1', 1, 'desk', 'mine')""")
    ward.apply(state(7, 1, local_key="1"))
    (row,) = ward.dossiers()
    assert (row["ghi_chu"], row["nguon"], row["dia_chi"]) == ("ghi chú", "desk", "1 Lê Lợi")
    assert ward.applied() == [(7, 1, "applied", False)]


# ------------------------------------------------------------------ the guard
def test_older_and_duplicate_change_nothing(ward: Ward) -> None:
    ward.apply(state(7, 5, DOSSIER | {"note": "newest"}))
    counts = ward.apply(state(7, 5, DOSSIER | {"note": "same"}), state(7, 3, DOSSIER | {"note": "older"}))
    assert counts == {("dossier", "duplicate"): 1, ("dossier", "older"): 1}
    assert ward.apply(state(7, 3, DOSSIER | {"note": "older, alone"})) == {("dossier", "older"): 1}
    assert ward.dossiers()[0]["ghi_chu"] == "newest"


def test_of_several_messages_in_one_batch_the_newest_wins_in_any_order(ward: Ward) -> None:
    ward.apply(*[state(7, version, DOSSIER | {"note": f"v{version}"}) for version in (2, 9, 4)])
    assert ward.dossiers()[0]["ghi_chu"] == "v9"
    assert ward.applied() == [(7, 9, "applied", True)]


def test_a_zombie_is_fenced_and_writes_nothing(ward: Ward) -> None:
    ward.apply(state(7, 1))
    messages = [Message(TOPIC, 0, 0, 0, b"k", state(7, 9, DOSSIER | {"note": "zombie"}), ())]
    with pytest.raises(FencedError):
        ward.target.apply(messages, {(TOPIC, 0): (None, 1)})
    with pytest.raises(FencedError):
        ward.target.apply(messages, {(TOPIC, 0): (0, 1)})
    assert ward.dossiers()[0]["ghi_chu"] == "ghi chú"
    assert ward.target.stored(TOPIC, 0) == 1


def test_a_deleted_record_does_not_rise_from_an_older_update(ward: Ward) -> None:
    ward.apply(state(7, 1))
    ward.apply(removed(7, 5, "delete"))
    assert ward.dossiers() == []
    assert ward.applied() == [(7, 5, "deleted", True)], "the tombstone stays"
    counts = ward.apply(state(7, 3))
    assert counts == {("dossier", "older"): 1}
    assert ward.dossiers() == []
    ward.apply(state(7, 6))
    assert len(ward.dossiers()) == 1, "its owner has made it again"


def test_a_delete_that_comes_first_keeps_out_the_update_before_it(ward: Ward) -> None:
    ward.apply(removed(7, 5, "delete"))
    ward.apply(state(7, 4))
    assert ward.dossiers() == []


def test_a_purge_is_skipped(ward: Ward) -> None:
    ward.target.apply([Message(TOPIC, 0, 0, 0, b"dossier:7", None, ())], {(TOPIC, 0): (None, 1)})
    assert ward.target.stored(TOPIC, 0) == 1


# ------------------------------------------------------------------ ownership
def test_an_update_writes_only_what_the_target_does_not_own(ward: Ward) -> None:
    ward.apply(state(7, 1))
    ward.sql("""UPDATE "Hồ sơ" SET "Trạng thái" = 'xong', can_bo = 'Lê', local_only = 'mine'""")
    ward.apply(state(7, 2, DOSSIER | {"status": 1, "handler_name": "city", "note": "new"}, held=["processing"]))
    (row,) = ward.dossiers()
    assert (row["Trạng thái"], row["can_bo"], row["local_only"], row["ghi_chu"]) == ("xong", "Lê", "mine", "new")
    assert ward.overwritten() == []


@pytest.mark.parametrize("witness", [True, False], ids=["rule on", "mutation: no overwritten"])
def test_a_local_edit_of_what_others_own_is_overwritten_with_a_trace(
    ward: Ward,
    monkeypatch: pytest.MonkeyPatch,
    witness: bool,  # noqa: FBT001
) -> None:  # noqa: FBT001
    if not witness:
        monkeypatch.setattr(Target, "_witness", lambda *_: None)
    ward.apply(state(7, 1))
    ward.sql("""UPDATE "Hồ sơ" SET ghi_chu = 'a clerk wrote this'""")
    ward.sql("UPDATE nguoi SET dien_thoai = '0999'")
    ward.apply(state(7, 2, DOSSIER | {"note": "from the city"}))
    (row,) = ward.dossiers()
    assert (row["ghi_chu"], row["dien_thoai"]) == ("from the city", "0901")
    kept = [
        (7, "note", "a clerk wrote this", "ghi chú", "from the city"),
        (7, "applicant_phone", "0999", "0901", "0901"),
    ]
    assert sorted(ward.overwritten()) == (sorted(kept) if witness else [])


def test_an_edit_that_equals_what_comes_is_no_edit(ward: Ward) -> None:
    ward.apply(state(7, 1))
    ward.sql("""UPDATE "Hồ sơ" SET ghi_chu = 'agreed'""")
    ward.apply(state(7, 2, DOSSIER | {"note": "agreed"}))
    assert ward.overwritten() == []


def test_an_edit_in_a_group_the_city_yields_is_left_alone(ward: Ward) -> None:
    """The ward's word would count above the holder's, so its edit on the way to the city must not be overwritten."""
    ward.apply(state(7, 1))
    ward.sql("""UPDATE "Hồ sơ" SET "Trạng thái" = 'xong'""")
    ward.apply(state(7, 2, DOSSIER | {"note": "new"}, yields=["processing"]))
    (row,) = ward.dossiers()
    assert (row["Trạng thái"], row["ghi_chu"]) == ("xong", "new")
    assert ward.edited("1")[2] == 1 << schemas.field("dossier", "status").index, "still an edit for capture"


def test_fewer_fields_erases_what_was_sent_before(ward: Ward) -> None:
    ward.apply(state(7, 1))
    less = {k: v for k, v in DOSSIER.items() if k not in ("note", "applicant_phone")}
    ward.apply(state(7, 2, less, withheld=["note", "applicant_phone"]))
    (row,) = ward.dossiers()
    assert (row["ghi_chu"], row["dien_thoai"], row["ho_ten"]) == (None, None, "Nguyễn Văn An")
    ward.sql("""UPDATE "Hồ sơ" SET ghi_chu = 'the ward''s own'""")
    ward.apply(state(7, 3, less, withheld=["note", "applicant_phone"]))
    assert ward.dossiers()[0]["ghi_chu"] == "the ward's own", "what was never sent is not ours to erase"


# ------------------------------------------------------------------ the base and echoes (B4)
TRIGGERS = """
CREATE FUNCTION chuan_hoa() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
  NEW.ghi_chu := upper(NEW.ghi_chu); RETURN NEW; END$$;
CREATE TRIGGER chuan_hoa BEFORE INSERT OR UPDATE ON "Hồ sơ" FOR EACH ROW EXECUTE FUNCTION chuan_hoa();
CREATE FUNCTION phan_cong() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
  UPDATE "Hồ sơ" SET can_bo = 'assigned' WHERE id = NEW.id AND can_bo IS DISTINCT FROM 'assigned'; RETURN NULL; END$$;
CREATE TRIGGER phan_cong AFTER INSERT OR UPDATE ON "Hồ sơ" FOR EACH ROW EXECUTE FUNCTION phan_cong();
"""


def test_what_the_targets_own_triggers_make_of_a_write_is_its_base_not_an_edit(make: Callable[..., Ward]) -> None:
    ward = make(tables=TABLES + TRIGGERS)
    ward.apply(state(7, 1))
    (row,) = ward.dossiers()
    assert (row["ghi_chu"], row["can_bo"]) == ("GHI CHÚ", "assigned")
    assert ward.edited("1") == (7, True, 0), "no echo"
    ward.apply(state(7, 2, DOSSIER | {"note": "tiếp"}))
    assert ward.dossiers()[0]["ghi_chu"] == "TIẾP"
    assert ward.overwritten() == []
    assert ward.edited("1") == (7, True, 0)


def test_an_edit_after_our_write_is_seen_field_by_field(ward: Ward) -> None:
    ward.apply(state(7, 1))
    assert ward.edited("1") == (7, True, 0)
    ward.sql("""UPDATE "Hồ sơ" SET "Trạng thái" = 'xong'""")
    assert ward.edited("1") == (7, True, 1 << schemas.field("dossier", "status").index)


def test_a_row_that_we_took_away_is_no_delete_of_the_wards(ward: Ward) -> None:
    ward.apply(state(7, 1), state(8, 1, DOSSIER | {"national_code": "N2"}))
    ward.apply(removed(7, 2, "withdraw"))
    ward.sql("DELETE FROM dia_chi")
    ward.sql('DELETE FROM "Hồ sơ"')
    assert ward.captured("1") == []
    assert [entry.op for entry in ward.captured("2")] == [DELETE]


@pytest.mark.parametrize("reason", ["delete", "withdraw"])
def test_a_row_that_was_gone_before_we_took_it_away_is_still_told(ward: Ward, reason: str) -> None:
    ward.apply(state(7, 1))
    ward.sql("DELETE FROM dia_chi")
    ward.sql('DELETE FROM "Hồ sơ"')
    ward.apply(removed(7, 2, reason))
    assert [entry.op for entry in ward.captured("1")] == [DELETE]
    ward.apply(state(7, 1))
    assert ward.dossiers() == [], "the guard stays"


# ------------------------------------------------------------------ withdrawals and deletes
def test_a_withdrawal_takes_an_untouched_row_that_we_inserted_children_first(ward: Ward) -> None:
    ward.apply(state(7, 1), fee(8, 1, 7))
    ward.apply(removed(8, 2, "withdraw", entity="fee"), removed(7, 2, "withdraw"))
    assert (ward.dossiers(), ward.sql("SELECT * FROM phi"), ward.sql("SELECT * FROM dia_chi")) == ([], [], [])
    assert ward.applied() == [(7, 2, "withdrawn", True)]
    assert ward.parked() == []


@pytest.mark.parametrize("order", [0, 1])
def test_children_go_before_their_dossier_whatever_the_order_in_the_batch(ward: Ward, order: int) -> None:
    ward.apply(state(7, 1), fee(8, 1, 7))
    both = [removed(8, 2, "delete", entity="fee"), removed(7, 2, "delete")]
    ward.apply(both[order], both[1 - order])
    assert (ward.dossiers(), ward.sql("SELECT * FROM phi")) == ([], [])
    assert ward.parked() == []


@pytest.mark.parametrize("case", ["edited", "not ours"])
def test_a_withdrawal_keeps_a_row_that_is_not_simply_ours(ward: Ward, case: str) -> None:
    if case == "edited":
        ward.apply(state(7, 1))
        ward.sql("""UPDATE "Hồ sơ" SET ghi_chu = 'work in progress'""")
    else:
        ward.sql("INSERT INTO nguoi (ho_ten) VALUES ('An')")
        ward.sql("""INSERT INTO "Hồ sơ" (ma_qg, nguoi_id, nguon) VALUES ('N1', 1, 'desk')""")
        ward.apply(state(7, 1, local_key="1"))
    ward.apply(removed(7, 2, "withdraw"))
    assert len(ward.dossiers()) == 1
    assert ward.parked() == [("dossier", 7, "withdraw_kept", None)]
    assert ward.applied()[0][2] == "kept"


def test_the_owners_delete_takes_an_edited_row_too_and_keeps_what_stood_there(ward: Ward) -> None:
    ward.apply(state(7, 1))
    ward.sql("""UPDATE "Hồ sơ" SET ghi_chu = 'work in progress'""")
    ward.apply(removed(7, 2, "delete"))
    assert ward.dossiers() == []
    kept = [(record, field, was["note"]) for record, field, was, _, _ in ward.overwritten()]
    assert kept == [(7, "record", "work in progress")]


def test_a_layout_with_a_deleted_column_keeps_the_row(ward: Ward) -> None:
    ward.apply(state(7, 1), state(9, 1, {"component_code": "P"}, entity="dossier_component", parent=7))
    ward.apply(removed(9, 2, "delete", entity="dossier_component"))
    assert ward.sql("SELECT ma, xoa_luc IS NOT NULL FROM giay_to") == [("P", True)]


# ------------------------------------------------------------------ children that come first (B9)
def test_a_child_waits_for_its_parent(ward: Ward) -> None:
    counts = ward.apply(fee(8, 3, 7))
    assert counts == {("fee", "waiting"): 1}
    assert ward.sql("SELECT * FROM phi") == []
    ward.apply(state(7, 9))
    assert ward.sql("SELECT ma, so_tien FROM phi") == [("LP1", 5)]
    assert ward.applied("fee") == [(8, 3, "applied", True)]
    assert ward.apply(fee(8, 3, 7)) == {("fee", "duplicate"): 1}


def test_a_newer_state_of_a_waiting_child_replaces_the_older(ward: Ward) -> None:
    ward.apply(fee(8, 3, 7))
    ward.apply(fee(8, 4, 7, amount=6))
    ward.apply(fee(8, 2, 7, amount=1))
    ward.apply(state(7, 9))
    assert ward.sql("SELECT so_tien FROM phi") == [(6,)]


def test_a_waiting_child_that_is_withdrawn_waits_no_more(ward: Ward) -> None:
    ward.apply(fee(8, 3, 7))
    ward.apply(removed(8, 4, "withdraw", entity="fee"))
    ward.apply(state(7, 9))
    assert ward.sql("SELECT * FROM phi") == []


def test_a_parent_that_was_here_before_is_found_by_its_local_key(ward: Ward) -> None:
    ward.sql("INSERT INTO nguoi (ho_ten) VALUES ('An')")
    ward.sql("""INSERT INTO "Hồ sơ" (ma_qg, nguoi_id, nguon) VALUES ('N1', 1, 'desk')""")
    ward.apply(fee(8, 1, 7, parent_key="1"))
    assert ward.sql("SELECT ho_so_id, ma FROM phi") == [(1, "LP1")]


def test_a_waiting_child_that_is_refused_is_parked_once(ward: Ward) -> None:
    ward.apply(fee(8, 3, 7, amount=-1), fee(9, 3, 7, code="good"))
    for version in (4, 5, 6):
        ward.apply(state(7, version, DOSSIER | {"note": str(version)}))
    assert ward.sql("SELECT ma FROM phi") == [("good",)]
    assert [p[:2] for p in ward.parked()] == [("fee", 8)]


def test_more_waiting_children_than_one_release_takes_are_all_released(ward: Ward) -> None:
    ward.apply(*[fee(1000 + n, 1, 7, code=f"L{n}") for n in range(1200)])
    ward.apply(state(7, 2))
    assert ward.sql("SELECT count(*) FROM phi") == [(1200,)]


# ------------------------------------------------------------------ merges of records
def test_a_merged_record_keeps_its_row_under_the_id_that_stays(ward: Ward) -> None:
    ward.apply(state(9, 1), fee(10, 1, 9))
    before = ward.dossiers()[0]["id"]
    ward.apply(merged(7, 9, 2), state(7, 2, DOSSIER | {"note": "joined"}))
    (row,) = ward.dossiers()
    assert (row["id"], row["ghi_chu"]) == (before, "joined")
    assert ward.applied() == [(7, 2, "applied", True)]
    assert ward.sql("SELECT count(*) FROM phi") == [(1,)]


def test_where_both_have_a_row_the_untouched_one_of_the_id_that_went_is_withdrawn(ward: Ward) -> None:
    ward.apply(state(7, 1), state(9, 1, DOSSIER | {"national_code": None}))
    ward.apply(merged(7, 9, 2))
    assert [row["ma_qg"] for row in ward.dossiers()] == ["N1"]
    assert ward.applied() == [(7, 1, "applied", True), (9, 2, "withdrawn", True)]


def test_a_merge_that_is_told_twice_changes_nothing_more(ward: Ward) -> None:
    ward.apply(state(9, 1))
    ward.apply(merged(7, 9, 2), state(7, 2))
    ward.apply(merged(7, 9, 2), state(7, 2))
    assert len(ward.dossiers()) == 1
    assert ward.parked() == []


# ------------------------------------------------------------------ what passes
def test_a_locked_row_is_waited_for_a_while_and_then_tried_again(ward: Ward) -> None:
    ward.apply(state(7, 1))
    with transaction(ward.target.connection) as cursor:
        ((limit,),) = rows(cursor, "SHOW lock_timeout")
        assert re.fullmatch(r"[1-9]\d*s", limit), "the service sets a limit"
        cursor.execute("SET lock_timeout = '100ms'")
    clerk = connect(ward.settings.systems["ward"].dsn, application_name="a clerk's open form")
    with transaction(clerk) as cursor:
        cursor.execute("""UPDATE "Hồ sơ" SET local_only = 'open'""")
        with pytest.raises(TransientError):
            ward.apply(state(7, 2, DOSSIER | {"note": "new"}))
    clerk.close()
    assert ward.target.stored(TOPIC, 0) == 1
    ward.apply(state(7, 2, DOSSIER | {"note": "new"}))
    assert (ward.dossiers()[0]["ghi_chu"], ward.dossiers()[0]["local_only"]) == ("new", "open")


def test_counters_balance(ward: Ward) -> None:
    """Everything that arrived ended in exactly one way (R8)."""
    ward.apply(state(1, 5), state(2, 1, DOSSIER | {"national_code": "N2", "note": "forbidden"}), fee(3, 1, 99), b"junk")
    ward.apply(state(1, 5), state(1, 3), removed(4, 1, "delete"), state(1, 6), state(1, 7))
    assert ward.sql("SELECT sum(n)::int FROM lienthong.counter") == [(9,)]
