"""The sums of a day at the hub are exact, whatever came twice, late, refused or damaged."""

from __future__ import annotations

import base64
import random
from collections import Counter
from collections.abc import Iterator
from datetime import date
from typing import Any

import pytest

from lienthong import hub_schema
from lienthong.certificates.chain import counted
from lienthong.certificates.form import OUTCOMES
from lienthong.days import date_of, day_number
from lienthong.frames import STATE, Header, encode_body, mask_of, note_frame, pack_entry
from lienthong.vault import Vault
from tests.merge_kit import DAY, DOSSIER, Hub, framed

DAY_MICROS = 86_400_000_000


@pytest.fixture
def kept(database: str) -> Iterator[Hub]:
    hub_schema.install(database)
    made = Hub(database)
    yield made
    made.connection.close()


def sent(system: str, entity: str, kind: Any, version: int, at: int, keys: list[str], chance: random.Random) -> bytes:
    """One frame of some records of one day."""
    if kind == "refused":
        payload = base64.b64encode(Vault(None).seal(b"{}")).decode()
        contents = [{"key": key, "field": "status", "reason": "missing", "message": "a word", "payload": payload} for key in keys]
        return note_frame(Header(system, entity, "refused", 1, version, 0, at), contents)[0]
    values = DOSSIER | {"note": chance.choice("abc")}
    bits = {name: mask_of(entity, [name]) for name in values}
    mask = mask_of(entity, values)
    nulls, body = encode_body(entity, values, bits, mask)
    if kind == "spoiled":  # whole, but no record of its entity
        body = b"\xff"
    packed = [pack_entry(STATE, k, parent=None, record=None, delivered=False, edited=None, nulls=nulls, body=body) for k in keys]
    return framed(Header(system, entity, "records", 1, version, mask, at), *packed)


@pytest.mark.parametrize("seed", range(4))
def test_each_days_sum_is_exact_whatever_comes_twice_late_refused_or_damaged(kept: Hub, seed: int) -> None:
    """Two days, two systems, batches of any size; every entry that was sent is in one outcome of its own day."""
    chance = random.Random(seed)
    log: list[bytes] = []
    expected: Counter[tuple[str, date]] = Counter()
    for version in range(1, 60):
        system, at = chance.choice(("portal", "ward-a")), DAY + chance.choice((0, DAY_MICROS))
        keys = [str(chance.randrange(8)) for _ in range(chance.randint(1, 4))]
        kind = chance.choice(("records", "records", "records", "refused", "spoiled"))
        frame = sent(system, "dossier", kind, chance.choice((version, version // 2 + 1)), at, keys, chance)
        for times in range(chance.choice((1, 1, 2))):
            copy = bytearray(frame)
            if times == 0 and len(keys) > 1 and chance.random() < 0.2:
                copy[-1] ^= 1  # damaged inside of its last entry
            log.append(bytes(copy))
            expected[system, date_of(day_number(at))] += len(keys)
    while log:
        size = chance.randint(1, 9)
        kept.merge(*log[:size])
        del log[:size]
    found: Counter[tuple[str, date]] = Counter()
    outcomes: Counter[str] = Counter()
    with kept.connection.cursor() as cursor:
        for system in ("portal", "ward-a"):
            for (_, day), (counts, reading) in counted(cursor, system, None, date(2030, 1, 1)).items():
                assert counts.is_exact, (system, day, counts)
                assert reading > 0
                found[system, day] = counts.captured
                outcomes.update({outcome: getattr(counts, outcome) for outcome in OUTCOMES})
    assert found == expected
    assert all(outcomes[outcome] for outcome in OUTCOMES), outcomes


def test_totals_of_before_are_kept_without_a_day(database: str) -> None:
    hub_schema.install(database)
    made = Hub(database)
    with made.connection.cursor() as cursor:
        cursor.execute("DROP VIEW hub.counter; CREATE TABLE hub.counter (system text, entity text, outcome text, n bigint)")
        cursor.execute("DELETE FROM hub.setting WHERE name = 'schema'")
        cursor.execute("INSERT INTO hub.counter VALUES ('portal', 'dossier', 'merged', 7)")
    made.connection.commit()
    for _ in range(2):
        hub_schema.install(database)
    assert made.sql("SELECT system, entity, outcome, n FROM hub.counter") == [("portal", "dossier", "merged", 7)]
    made.connection.close()
