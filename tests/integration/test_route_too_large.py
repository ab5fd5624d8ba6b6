"""A golden record too large for one message: refused alone, shown, and sent when it fits again."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from connectors.kafka import MESSAGE_BYTES_MAX
from tests.route_kit import DOSSIER, PERSONAL, UNIT_B, City, city_in_memory

LARGE = DOSSIER | {"note": "a note " * (MESSAGE_BYTES_MAX // 6)}


@pytest.fixture
def city(database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[City]:
    with city_in_memory(database, monkeypatch) as made:
        yield made


def parked(city: City) -> list[tuple[object, ...]]:
    return city.sql("SELECT system, entity, local_key, kind, reason FROM hub.parked WHERE state = 'open' ORDER BY id")


def test_a_record_too_large_for_a_message_is_parked_and_the_rest_flows(city: City) -> None:
    city.put(1)
    city.put(2, LARGE)
    city.put(3)
    city.fee(8, 2)
    assert city.briefs() == [("ward-a", "dossier", 1), ("ward-a", "dossier", 3), ("ward-a", "fee", 8)]
    assert parked(city) == [("ward-a", "dossier", "2", "route", "too_large")]
    ((told, payload),) = city.sql("SELECT concat(message, field), payload FROM hub.parked")
    assert payload is None
    assert not [text for text in PERSONAL if text in told]


def test_it_is_parked_once_and_sent_when_it_fits(city: City) -> None:
    city.put(2, LARGE)
    city.put(2, LARGE | {"status": 5})
    assert city.step() == []
    city.reconfigure()
    city.put(2, LARGE | {"status": 9})
    assert [sent for sent in city.step() if sent.record == 2] == []
    assert len(parked(city)) == 1
    city.put(2)
    assert city.briefs() == [("ward-a", "dossier", 2)]
    assert parked(city) == []


def test_it_is_cured_also_by_going_back_or_leaving(city: City) -> None:
    for values in (DOSSIER, DOSSIER | {"processing_unit": UNIT_B}):
        city.put(1)
        city.step()
        city.put(1, LARGE)
        city.step()
        assert parked(city) == [("ward-a", "dossier", "1", "route", "too_large")]
        city.put(1, values)
        city.step()
        assert parked(city) == []
