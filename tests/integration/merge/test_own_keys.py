"""The rows of a restored target, as apply asks the hub about them: of its new life only, and not before all of that is known (R4)."""

from __future__ import annotations

from typing import Any

import pytest

from connectors.kafka import Message
from connectors.postgres import transaction
from lienthong.apply.own_keys import OwnKeys, lives
from lienthong.apply.target import Arrived
from lienthong.errors import TransientError
from lienthong.frames import Header, note_frame
from tests.merge_kit import DAY, DOSSIER, Hub, state

FEE = {"fee_code": "LP1", "amount": 50_000}
NO_MESSAGE = Message("lienthong.out.portal", 0, 0, 0, None, None, ())


def dossier(key: str, code: str, epoch: int = 1) -> bytes:
    return state("portal", key, 1, DOSSIER | {"national_code": code}, epoch=epoch)


def loaded(epoch: int, partition: int = 0) -> bytes:
    content = {"records": 2, "partition": partition, "partitions": 2}
    return note_frame(Header("portal", "?", "load_complete", epoch, 9, 0, DAY), [content])[0]


def begin(city: Hub, keys: OwnKeys) -> None:
    with transaction(city.connection) as cursor:
        keys.begin(lives(cursor, 2))


def arrived(record: int, parent: int | None = None, *, removed: bool = False) -> Arrived:
    """A message that was sent in the first life, when each row had another number."""
    said: dict[str, Any] = {"record": record, "parent": parent, "local_key": "7", "parent_key": "7"}
    value = {**said, "meta": said} if removed else {"meta": said}
    return Arrived("removed" if removed else "dossier", "dossier", record, (1, 1), value, NO_MESSAGE)


def test_only_rows_of_the_life_it_is_in_are_its_own(city: Hub) -> None:
    city.sql("INSERT INTO hub.capture_state (system) VALUES ('portal') RETURNING 1")
    keys = OwnKeys(city.connection, "portal")
    city.merge(dossier("6", "KEPT"), dossier("7", "FORGOTTEN"), dossier("8", "GONE"), loaded(1), loaded(1, 1))
    city.merge(state("portal", "20", 1, FEE, entity="fee", parent="6"))
    records = {key: record for key, record in city.sql("SELECT local_key, record FROM hub.contribution")}
    begin(city, keys)
    (first,) = keys.renew([arrived(records["6"])])
    assert first.value["meta"]["local_key"] == "7", "in the first life messages are taken at their word"

    city.sql("UPDATE hub.capture_state SET epoch = 2 WHERE system = 'portal' RETURNING 1")
    city.merge(dossier("6", "KEPT", 2), dossier("7", "AFTER", 2), loaded(2))
    city.merge(state("portal", "20", 1, FEE, entity="fee", parent="6", epoch=2))
    with pytest.raises(TransientError, match="lienthong load portal"):
        begin(city, keys)
    city.merge(loaded(1, 1))
    with pytest.raises(TransientError):
        begin(city, keys)
    city.merge(loaded(2, 1))
    begin(city, keys)

    sent = [arrived(records["6"]), arrived(records["7"]), arrived(records["8"]), arrived(records["20"], records["6"]), arrived(0, records["7"])]
    found = [(one.value["meta"]["local_key"], one.value["meta"]["parent_key"]) for one in keys.renew(sent)]
    assert found == [("6", None), (None, None), (None, None), ("20", "6"), (None, None)]
    ended = keys.renew([arrived(records["6"], removed=True), arrived(records["7"], removed=True)])
    assert [one.value["local_key"] for one in ended] == ["6", None]
