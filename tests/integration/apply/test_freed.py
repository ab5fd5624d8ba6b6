"""What a foreign key of the target refused goes through by itself when what it waited for has come or gone (B9, R6)."""

from __future__ import annotations

from typing import Any

from tests.apply_kit import DOSSIER, Ward, fee, removed, state

PROCEDURE = {"procedure_code": "1.003", "name": "Đăng ký thường trú"}


def states(ward: Ward) -> list[tuple[Any, ...]]:
    return ward.sql("SELECT entity, record, state FROM lienthong.parked ORDER BY id")


def test_a_delete_goes_through_when_the_last_child_has_left_the_row(ward: Ward) -> None:
    ward.apply(state(1, 1), state(2, 1, DOSSIER | {"national_code": "N2"}), fee(10, 1, 1), fee(11, 1, 1, code="LP2"))
    ward.apply(removed(1, 2, "delete"))
    assert states(ward) == [("dossier", 1, "parked")]
    ward.apply(fee(10, 3, 2))
    assert (ward.target.release(), states(ward)) == (1, [("dossier", 1, "parked")]), "one child is still there"
    ward.apply(removed(11, 4, "delete", entity="fee"))
    assert (ward.target.release(), states(ward)) == (1, [("dossier", 1, "replayed")])
    assert [row["ma_qg"] for row in ward.dossiers()] == ["N2"]
    assert ward.applied()[0] == (1, 2, "deleted", True)


def test_a_record_goes_through_when_the_row_that_it_names_has_come(ward: Ward) -> None:
    ward.apply(state(1, 1, DOSSIER | {"procedure_code": "1.003"}), state(2, 1, DOSSIER | {"national_code": "N2", "note": "forbidden"}))
    ward.apply(state(3, 1, DOSSIER | {"national_code": "N3"}))
    assert (ward.target.release(), states(ward)) == (0, [("dossier", 1, "parked"), ("dossier", 2, "parked")])
    ward.apply(state(20, 1, PROCEDURE, entity="procedure"))
    assert (ward.target.release(), states(ward)) == (1, [("dossier", 1, "replayed"), ("dossier", 2, "parked")]), "no foreign key refused the other"
    assert [row["ma_qg"] for row in ward.dossiers()] == ["N3", "N1"]


def test_what_frees_a_parked_record_may_itself_have_been_parked(ward: Ward) -> None:
    ward.apply(state(1, 1), fee(10, 1, 1))
    ward.apply(removed(1, 2, "delete"))
    ward.sql("CREATE FUNCTION giu() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 'giu'; END$$")
    ward.sql("CREATE TRIGGER giu BEFORE DELETE ON phi FOR EACH ROW EXECUTE FUNCTION giu()")
    ward.apply(removed(10, 3, "delete", entity="fee"))
    ward.sql("DROP TRIGGER giu ON phi")
    ward.sql("UPDATE lienthong.parked SET state = 'replay' WHERE entity = 'fee'")  # as `lienthong parked replay` does
    assert ward.target.release() == 1
    assert ward.target.release() == 1
    assert (ward.dossiers(), ward.sql("SELECT * FROM phi")) == ([], [])


def test_a_child_of_the_targets_own_dossier_waits_while_that_row_is_not_there(ward: Ward) -> None:
    counts = ward.apply(fee(10, 1, 1, parent_key="77"))
    assert (counts["fee", "waiting"], states(ward)) == (1, [])
    ward.apply(state(1, 2))
    assert ward.sql('SELECT h.ma_qg, p.ma FROM phi p JOIN "Hồ sơ" h ON h.id = p.ho_so_id') == [("N1", "LP1")]
    assert ward.applied("fee") == [(10, 1, "applied", True)]


def test_a_child_of_the_targets_own_dossier_is_written_under_its_row(ward: Ward) -> None:
    ward.sql("INSERT INTO nguoi (ho_ten) VALUES ('An')")
    ward.sql("""INSERT INTO "Hồ sơ" (id, thu_tuc, nguoi_id, nguon) VALUES (77, '1.001', 1, 'ward')""")
    ward.apply(fee(10, 1, 1, parent_key="77"))
    assert ward.sql("SELECT ho_so_id, ma FROM phi") == [(77, "LP1")]
