"""A dossier that is deleted and filed again under its code, while a line fails between the two: what was under it does not come back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from connectors.kafka import Message
from lienthong import frames
from lienthong.embedded import PostgresCluster
from lienthong.frames import open_frame
from tests.two_way_kit import City, two_way_city


@pytest.fixture
def city(pg: PostgresCluster, database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[City]:
    with two_way_city(pg, database, monkeypatch) as made:
        yield made


def submit_with_fee(city: City, code: str) -> None:
    city.submit()
    city.sql("portal", "INSERT INTO charge (application_id, code, amount) SELECT max(id), %s, 50000 FROM application", code)


def capture_and_fail(city: City) -> None:
    """The portal's reading is published, but not to its last frames: the fee's delete is lost, and the line will read all of it again."""
    city.sql("portal", "CREATE TABLE noted AS SELECT tbl, op, key, old_key, image FROM lienthong.change")
    log = city.bus.topics[frames.TOPIC]
    begun = len(log)
    city.capture("portal")
    entities = [open_frame(message.value or b"")[0].entity for message in log[begun:]]
    assert {"dossier", "fee"} <= set(entities)
    whole = log[begun + entities.index("dossier")].value
    lost = begun + entities.index("fee")
    log[lost] = Message(frames.TOPIC, 0, lost, 0, None, whole, ())


def read_again(city: City) -> None:
    city.sql("portal", "INSERT INTO lienthong.change (tbl, op, key, old_key, image) SELECT * FROM noted")


def test_a_child_whose_delete_we_heard_of_first_does_not_come_back_with_its_dossier(city: City) -> None:
    """The dossier's delete has come round to the portal before the fee's was told: its row was not taken away by us."""
    submit_with_fee(city, "LP1")
    city.settle()
    city.sql("portal", "DELETE FROM application")
    capture_and_fail(city)
    city.merge()
    city.route()
    city.apply()
    assert city.sql("portal", "SELECT state FROM lienthong.applied WHERE entity = 'fee'") == [("deleted",)]
    assert city.at_ward() == []

    read_again(city)
    submit_with_fee(city, "LP2")
    city.settle()
    assert city.hub_sql("SELECT local_key, op::text FROM hub.contribution WHERE (system, entity) = ('portal', 'fee') ORDER BY 1") == [
        ("1", "d"),
        ("2", "s"),
    ]
    assert city.sql("ward-a", "SELECT ma FROM phi") == [("LP2",)]
    assert city.sql("portal", "SELECT code FROM charge") == [("LP2",)]
