"""What a target refuses and what cannot be read: found by halving, parked with its reason, and everything else is applied (R6)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from connectors.avro import DIGEST, digest_of, frame
from connectors.kafka import Message
from lienthong.vault import Vault
from tests.apply_kit import DOSSIER, TABLES, TOPIC, Ward, state

# ------------------------------------------------------------------ poison: R6
POISON = """
CREATE FUNCTION tu_choi() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
  IF NEW.can_bo = 'refused' THEN RAISE EXCEPTION 'can bo %% khong hop le', NEW.can_bo; END IF; RETURN NEW; END$$;
CREATE TRIGGER tu_choi BEFORE INSERT OR UPDATE ON "Hồ sơ" FOR EACH ROW EXECUTE FUNCTION tu_choi();
""".replace("%%", "%")


def test_poison_is_halved_out_and_parked_while_the_rest_is_applied(make: Callable[..., Ward]) -> None:
    ward = make(tables=TABLES + POISON)
    poison: dict[int, dict[str, Any]] = {
        3: {"note": "forbidden"},
        8: {"procedure_code": "no such procedure"},
        11: {"handler_name": "refused"},
        14: {"applicant_name": None},
        17: {"national_code": "N1"},
        20: {"status": 7},
        23: {"applicant_phone": "0" * 30},
    }
    counts = ward.apply(*[state(n, 1, DOSSIER | {"national_code": f"N{n}"} | poison.get(n, {})) for n in range(1, 31)])
    assert counts["dossier", "applied"] == 30 - len(poison)
    assert {row["ma_qg"] for row in ward.dossiers()} == {f"N{n}" for n in range(1, 31) if n not in poison}
    parked = {record: (reason, field) for _, record, reason, field in ward.parked()}
    assert set(parked) == set(poison)
    assert parked[20] == ("unmapped_word", "status")
    assert {parked[n][0] for n in poison if n != 20} == {"refused_by_target"}
    assert ward.sql("SELECT count(*) FROM nguoi") == [(23,)], "no half-written record"
    assert ward.target.stored(TOPIC, 0) == 30


def test_why_a_record_was_refused_is_told_without_its_values(make: Callable[..., Ward]) -> None:
    ward = make(tables=TABLES + POISON)
    ward.apply(state(1, 1, DOSSIER | {"handler_name": "refused"}), state(2, 1, DOSSIER | {"applicant_phone": "0" * 30}))
    told = " ".join(str(row) for row in ward.sql("SELECT reason, field, message FROM lienthong.parked"))
    assert "P0001" in told
    for value in ("Nguyễn", "0901", "refused khong", "khong hop le", "000000", "N1"):
        assert value not in told


def test_a_parked_record_is_kept_whole_and_its_next_good_state_is_applied(ward: Ward) -> None:
    bad = state(7, 1, DOSSIER | {"note": "forbidden"})
    ward.apply(bad)
    ((payload,),) = ward.sql("SELECT payload FROM lienthong.parked")
    assert Vault(None).open(bytes(payload)) == bad
    ward.apply(state(7, 2))
    assert ward.dossiers()[0]["ghi_chu"] == "ghi chú"


def test_an_update_that_is_refused_leaves_the_row_and_its_guard_as_they_were(ward: Ward) -> None:
    ward.apply(state(7, 1))
    ward.apply(state(7, 2, DOSSIER | {"note": "forbidden", "applicant_phone": "0777"}))
    (row,) = ward.dossiers()
    assert (row["ghi_chu"], row["dien_thoai"]) == ("ghi chú", "0901")
    assert ward.applied() == [(7, 1, "applied", True)]


def test_a_refusal_that_shows_only_at_the_end_of_the_transaction_is_found(make: Callable[..., Ward]) -> None:
    deferred = 'ALTER TABLE "Hồ sơ" ALTER CONSTRAINT "Hồ sơ_thu_tuc_fkey" DEFERRABLE INITIALLY DEFERRED;'
    ward = make(tables=TABLES + deferred)
    ward.apply(*[state(n, 1, DOSSIER | {"national_code": f"N{n}", "procedure_code": "x" if n == 2 else "1.002"}) for n in (1, 2, 3)])
    assert [row["ma_qg"] for row in ward.dossiers()] == ["N1", "N3"]
    assert [p[:3] for p in ward.parked()] == [("dossier", 2, "refused_by_target")]


# ------------------------------------------------------------------ what cannot be read
def test_no_flipped_bit_of_a_message_with_its_digest_is_read_as_another_value(ward: Ward) -> None:
    whole = state(7, 1)
    headers = ((DIGEST, digest_of(whole)),)
    for place in range(0, len(whole), 7):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << place % 8
        ward.target.apply([Message(TOPIC, 0, place, 0, b"k", bytes(flipped), headers)], {(TOPIC, 0): (ward.at, place + 1)})
        ward.at = place + 1
    assert ward.dossiers() == []
    assert {reason for _, _, reason, _ in ward.parked()} == {"damaged"}
    ward.target.apply([Message(TOPIC, 0, ward.at or 0, 0, b"k", whole, headers)], {(TOPIC, 0): (ward.at, len(whole) + 1)})
    assert len(ward.dossiers()) == 1


def test_damaged_messages_and_unknown_schemas_are_parked_and_the_rest_is_applied(ward: Ward) -> None:
    whole = state(7, 1)
    sent = [b"", b"\x01garbage", whole[: len(whole) // 2], frame(999_999, b"x"), whole]
    counts = ward.apply(*sent)
    assert counts["dossier", "applied"] == 1
    assert counts["?", "parked"] == 4
    assert [reason for _, _, reason, _ in ward.parked()] == ["damaged", "damaged", "damaged", "unknown_schema"]
    kept = [Vault(None).open(bytes(payload)) for (payload,) in ward.sql("SELECT payload FROM lienthong.parked ORDER BY id")]
    assert kept == sent[:4]


def test_an_entity_that_the_target_has_no_table_for_is_counted_and_left(ward: Ward) -> None:
    citizen = {"personal_number": "079200000001", "full_name": "An", "birth_date": "1980"}
    assert ward.apply(state(5, 1, citizen, entity="citizen")) == {("citizen", "not_stored"): 1}
