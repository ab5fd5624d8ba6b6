"""What was sent but not stored: the out-topics themselves tell it, so that no message of ours is ever forgotten.

A router sends first and stores what it sent afterwards. When it dies between the two, or its commit fails, the records are looked at again as
they are then: a party that got a record it may no longer see would keep it for ever, unless the hub knows that the message went out.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import islice

import schemas
from connectors.brokers import Brokers
from connectors.kafka import Ends, Message
from connectors.postgres import Connection, Cursor, rows, transaction
from lienthong import hub
from lienthong.errors import FatalError, FencedError

_MARK = """
INSERT INTO hub.entitled AS e (system, record, entity, version, hash, state)
SELECT system, record, entity, version, NULL, 's' FROM {given} b ORDER BY record, system
ON CONFLICT (record, system) DO UPDATE SET hash = NULL, state = 's'
"""

_UNKNOWN = "SELECT count(*) FROM unnest(%s::bigint[]) AS sent (record) WHERE NOT EXISTS (SELECT FROM hub.record r WHERE r.record = sent.record)"
ASKED_AT_ONCE = 1000


class HubWentBack(FatalError):
    """The hub was set back, or is a new one beside old topics: records were sent that it does not know. Nothing is started."""

    code = "LT-LINE-006"


def refuse_older_hub(connection: Connection, at: Brokers | str, topics: Sequence[str]) -> None:
    """Raise `HubWentBack` when something was sent after what the hub remembers, about a record that it has never had.

    A router that died between sending and storing leaves messages of known records only: it sends what the hub holds. An older hub would give the
    same records other ids beside those that stand in the targets, and take rows away there.
    """
    ends = Ends(at)
    try:
        with transaction(connection) as cursor:
            known = {topic: int(following) for topic, following in rows(cursor, "SELECT topic, next FROM hub.out_topic")}
            for topic, end in sorted(ends.ends(topics).items()):
                start = known.get(topic, 0)
                if start < end and (unknown := _unknown(cursor, ends.between(topic, start, end))):
                    raise HubWentBack(
                        f"{topic} holds messages about at least {unknown} records that the hub does not know: it was set back, or is a new one "
                        "beside old topics. Nothing was started. Bring back a hub that has lost nothing (its standby, or its log up to the end)"
                    )
    finally:
        ends.close()


def _unknown(cursor: Cursor, messages: Iterable[Message]) -> int:
    named = (place[1] for message in messages if (place := _place_of(message.key)) is not None)
    while some := list(islice(named, ASKED_AT_ONCE)):
        found = int(rows(cursor, _UNKNOWN, [sorted(set(some))])[0][0])
        if found:
            return found
    return 0


class Sent:
    """How far the hub knows each out-topic: what lies after it was sent by a router that did not come to store it."""

    def __init__(self, connection: Connection, at: Brokers | str) -> None:
        self._connection = connection
        self._at = at
        self._known: dict[str, int] | None = None

    def forget(self) -> None:
        """Something went wrong after sending: look at the topics again before the next reading."""
        self._known = None

    def settle(self, systems: Mapping[str, str]) -> int:
        """Once after each start and failure: put on the change list again, without a digest, whatever lies after the known ends.

        `systems`: out-topic -> system. Returns how many messages there were.
        """
        if self._known is not None:
            return 0
        topics = Ends(self._at)
        try:
            ends = topics.ends(sorted(systems))
            with transaction(self._connection) as cursor:
                known = {topic: int(following) for topic, following in rows(cursor, "SELECT topic, next FROM hub.out_topic FOR UPDATE")}
                found = 0
                for topic, end in sorted(ends.items()):
                    start = known.get(topic, 0)
                    if start > end:  # made anew: nothing that was sent before is there
                        found += _mark_all(cursor, systems[topic])
                    elif start < end:
                        found += _mark(cursor, systems[topic], topics.between(topic, start, end))
                    _store(cursor, topic, end)
        finally:
            topics.close()
        self._known = ends
        return found

    def store(self, cursor: Cursor, acknowledged: Mapping[str, tuple[int, int]]) -> None:
        """The messages (topic -> first and last offset) are in the hub with this transaction; raises `FencedError` beside another router."""
        assert self._known is not None
        for topic, (first, last) in sorted(acknowledged.items()):
            if topic not in self._known:  # made since the last look
                _store(cursor, topic, first)
                self._known[topic] = first
            cursor.execute("UPDATE hub.out_topic SET next = %s WHERE topic = %s AND next = %s", [last + 1, topic, first])
            if cursor.rowcount != 1:
                raise FencedError(f"{topic}: another router has written to it beside this one")


def _mark(cursor: Cursor, system: str, messages: Iterable[Message]) -> int:
    named = {place for message in messages if (place := _place_of(message.key)) is not None}
    _in_doubt(cursor, system, named)
    return len(named)


def _place_of(key: bytes | None) -> tuple[str, int] | None:
    """The record that a message of ours is about; None for a probe, and for what somebody else has written there."""
    entity, _, record = (key or b"").decode("utf-8", "replace").partition(":")
    return (entity, int(record)) if entity in schemas.ENTITIES and record.isascii() and record.isdigit() and len(record) < 19 else None


def _mark_all(cursor: Cursor, system: str) -> int:
    found = rows(cursor, "SELECT entity, record FROM hub.entitled WHERE system = %s AND state = 's'", [system])
    _in_doubt(cursor, system, found)
    return len(found)


def _in_doubt(cursor: Cursor, system: str, named: Collection[tuple[str, int]]) -> None:
    if not named:
        return
    hub.with_rows(cursor, _MARK, "b_entitled", [(system, record, entity, 0, None, "s") for entity, record in sorted(named)])
    hub.note_changed(cursor, [(record, 0, None, 0) for _, record in sorted(named)])


def _store(cursor: Cursor, topic: str, end: int) -> None:
    cursor.execute("INSERT INTO hub.out_topic VALUES (%s, %s) ON CONFLICT (topic) DO UPDATE SET next = excluded.next", [topic, end])
