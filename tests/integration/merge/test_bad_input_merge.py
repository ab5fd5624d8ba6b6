"""The merge on a real hub: damaged, unknown and refused input."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from lienthong.frames import STATE, Header, encode_body, mask_of, pack_entry
from lienthong.merge import read_messages
from lienthong.vault import Vault
from tests.merge_kit import DAY, DOSSIER, Hub, framed, message, refused, state


# ------------------------------------------------------------------ damaged, unknown, refused
def _frame_of_many() -> bytes:
    values = DOSSIER | {"note": "ghi chú"}
    mask = mask_of("dossier", values)
    bits = {name: mask_of("dossier", [name]) for name in values}
    packed = []
    for n in range(12):
        nulls, body = encode_body(
            "dossier",
            values | {"fee_total": None} | {"note": f"ghi chú {n}"},
            bits | {"fee_total": mask_of("dossier", ["fee_total"])},
            mask | mask_of("dossier", ["fee_total"]),
        )
        packed.append(pack_entry(STATE, f"H{n}", parent=None, record=None, delivered=bool(n % 2), edited=None, nulls=nulls, body=body))
    return framed(Header("ward-a", "dossier", "records", 1, 7, mask | mask_of("dossier", ["fee_total"]), DAY), *packed)


def _mutant(frame: bytes, chance: random.Random) -> bytes:
    data, at = bytearray(frame), chance.randrange(len(frame))
    kind = chance.choice(("flip", "byte", "cut", "drop", "insert", "swap", "repeat", "zeros"))
    if kind == "flip":
        data[at] ^= 1 << chance.randrange(8)
    elif kind == "byte":
        data[at] = chance.randrange(256)
    elif kind == "cut":
        del data[at:]
    elif kind == "drop":
        del data[at : at + chance.randint(1, 40)]
    elif kind == "insert":
        data[at:at] = chance.randbytes(chance.randint(1, 40))
    elif kind == "swap":
        other = chance.randrange(len(frame))
        data[at], data[other] = data[other], data[at]
    elif kind == "repeat":
        data += data[at:]
    else:
        data[at : at + 16] = bytes(min(16, len(data) - at))
    return bytes(data)


def test_a_damaged_frame_is_never_read_as_another_one() -> None:
    """Avro alone reads most flipped bits silently as other values (reliability.md §0.8): 2,000 mutants."""
    frame, chance, ends = _frame_of_many(), random.Random(1), Counter[str]()
    original = [(e.key, e.values()) for e in read_messages([message(frame)])[0]]
    assert len(original) == 12
    for _ in range(2000):
        mutant = _mutant(frame, chance)
        entries, batch = read_messages([message(mutant)])
        if batch.damaged:
            assert entries == []
            ends["parked"] += 1
        else:
            assert mutant == frame
            ends["same"] += 1
    assert ends["parked"] > 1900


def test_damaged_frames_are_parked_as_they_came_and_the_rest_flows(city: Hub) -> None:
    chance, frame = random.Random(2), _frame_of_many()
    mutants = [m for m in (_mutant(frame, chance) for _ in range(40)) if m != frame]
    city.merge(*mutants[:20], frame, *mutants[20:])
    assert len(city.golden()) == 12
    assert len(city.parked("damaged")) == len(mutants) == city.counts("damaged")
    vault = Vault.from_environment()  # as the merge's own
    kept = [vault.open(bytes(payload)) for (payload,) in city.sql('SELECT payload FROM hub.parked ORDER BY "offset"')]
    assert kept == mutants


@pytest.mark.parametrize(
    "header",
    [
        Header("ward-a", "dossier_of_tomorrow", "records", 1, 1, 1, DAY),
        Header("ward-a", "dossier", "records", 1, 1, 1 << 60, DAY),
        Header("ward-a", "dossier", "telepathy", 1, 1, 1, DAY),  # type: ignore[arg-type]
    ],
    ids=["entity", "field", "kind"],
)
def test_a_frame_of_a_model_this_version_does_not_know_is_parked_and_the_rest_flows(city: Hub, header: Header) -> None:
    strange = framed(header, pack_entry(STATE, "1", parent=None, record=None, delivered=False, edited=None, nulls=0, body=b"\x00"))
    city.merge(strange, state("portal", "1", 1, DOSSIER))
    assert len(city.golden()) == 1
    assert len(city.parked("damaged")) == 1


def test_a_body_that_is_not_what_its_mask_says_is_parked_and_the_rest_flows(city: Hub) -> None:
    """Its hash fits, so it was packed wrongly: one bad record must not stop the merge for ever."""
    header = Header("ward-a", "dossier", "records", 1, 1, mask_of("dossier", ["status", "note"]), DAY)
    wrong = framed(header, pack_entry(STATE, "1", parent=None, record=None, delivered=False, edited=None, nulls=0, body=b"\xff"))
    city.merge(wrong, state("portal", "1", 1, DOSSIER))
    assert len(city.golden()) == 1
    assert [(p["local_key"], p["reason"]) for p in city.parked("refused")] == [("1", "damaged")]
    assert (city.counts("captured"), city.counts("merged"), city.counts("refused")) == (2, 1, 1)


def test_a_refused_record_is_parked_and_a_later_good_state_cures_it(city: Hub) -> None:
    city.each(
        refused("ward-a", "1", 3),
        refused("ward-a", "1", 5, reason="missing"),
        refused("ward-a", "2", 5),
        refused("ward-a", "1", 5),
    )
    assert [(p["local_key"], p["reason"]) for p in city.parked("refused")] == [("1", "missing"), ("2", "unmapped_word")]
    assert (city.counts("captured"), city.counts("refused"), city.counts("duplicate")) == (4, 3, 1)
    city.merge(state("ward-a", "1", 6, DOSSIER))
    assert [p["local_key"] for p in city.parked("refused")] == ["2"]
    assert len(city.golden()) == 1


def test_an_older_good_state_does_not_cure_a_later_refusal(city: Hub) -> None:
    city.each(refused("ward-a", "1", 5), state("ward-a", "1", 3, DOSSIER))
    assert [p["local_key"] for p in city.parked("refused")] == ["1"]


def test_what_a_refused_record_held_stays_in_the_payload_alone(city: Hub) -> None:
    city.merge(refused("ward-a", "1", 3))
    ((payload,),) = city.sql("SELECT payload FROM hub.parked")
    assert Vault(None).open(bytes(payload)) == b'{"status":"?"}'
