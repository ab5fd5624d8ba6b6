"""Later states of a record that was refused on its way into the hub: where the policy of its entity is `hold`, they wait behind it.

As at a target (`lienthong.apply.held`) they are parked as they came and leave in the order received. They follow by themselves as soon as
nothing refused stands before them: it was read again, corrected or given up. With `pass`, the default, nothing here is asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from connectors.kafka import Message
from connectors.postgres import Connection, Cursor, rows, transaction
from lienthong import frames
from lienthong.batch import Batch, Key
from lienthong.errors import TransientError
from lienthong.frames import STATE, Entry, FrameBuilder, Header
from lienthong.settings import Parking
from lienthong.vault import Vault

HELD = "held"
ROWS_PER_RELEASE = 200
_FIRST = """
SELECT p.system, p.entity, p.local_key, min(p.version) FROM hub.parked p
JOIN unnest(%s::text[], %s::text[], %s::text[]) AS k(system, entity, local_key) USING (system, entity, local_key)
WHERE p.state = 'open' AND p.kind IN ('refused', 'held') GROUP BY 1, 2, 3
"""
_PARK = """
INSERT INTO hub.parked (system, entity, local_key, kind, reason, message, topic, partition, version, payload)
SELECT %(system)s, %(entity)s, %(key)s, 'held', 'held',
  format('it waits behind entry %%s, an earlier state of it that was refused', coalesce(max(id) FILTER (WHERE kind = 'refused'), max(id), 0)),
  %(topic)s, %(partition)s, %(version)s, %(payload)s
FROM hub.parked WHERE state = 'open' AND kind IN ('refused', 'held') AND (system, entity, local_key) = (%(system)s, %(entity)s, %(key)s)
HAVING count(*) FILTER (WHERE kind = 'held' AND version = %(version)s) = 0
"""
_IS_BETWEEN = """
SELECT 1 FROM hub.parked WHERE state = 'open' AND kind = 'held' AND (system, entity, local_key) = (%s, %s, %s) AND id > %s AND version < %s LIMIT 1
"""
_BEFORE = """
SELECT max(id) FROM hub.parked WHERE state = 'open' AND kind = 'refused' AND (system, entity, local_key) = (%s, %s, %s) AND id < %s
"""
_DUE = """
SELECT h.id, h.partition, h.payload FROM hub.parked h WHERE h.state = 'open' AND h.kind = 'held' AND h.partition = ANY(%s) AND NOT EXISTS (
  SELECT FROM hub.parked r WHERE (r.system, r.entity, r.local_key) = (h.system, h.entity, h.local_key)
  AND r.state = 'open' AND r.kind = 'refused' AND r.id < h.id) ORDER BY h.id LIMIT %s
"""
_LET_GO = "UPDATE hub.parked SET state = 'closed', closed_at = clock_timestamp() WHERE id = ANY(%s) AND state = 'open'"
_OF_ROOT = """
SELECT DISTINCT local_key FROM hub.parked WHERE state = 'open' AND kind = 'held' AND (system, entity) = (%s, %s) AND starts_with(local_key, %s)
"""


# ------------------------------------------------------------------ waiting
def keep_back(cursor: Cursor, parking: Parking, entries: Sequence[Entry], batch: Batch) -> list[Entry]:
    """What may go on; later states of what is refused here, or in this very batch, are put to `batch.held`."""
    first: dict[Key, int] = {}
    for note in batch.notes:
        if note.header.kind == "refused" and parking.holds(note.header.entity):
            key = (note.header.system, note.header.entity, note.content["key"])
            first[key] = min(note.header.version, first.get(key, note.header.version))
    keys = {(e.system, e.entity, e.key) for e in entries if parking.holds(e.entity)}
    if not keys:
        return list(entries)
    for system, entity, local_key, version in rows(cursor, _FIRST, [list(column) for column in zip(*sorted(keys), strict=True)]):
        key = (system, entity, local_key)
        first[key] = min(version, first.get(key, version))
    free: list[Entry] = []
    for entry in entries:
        before = first.get((entry.system, entry.entity, entry.key))
        (free if before is None or entry.version <= before else batch.held).append(entry)
    return free


def park(cursor: Cursor, batch: Batch, partitions: int) -> None:
    """Park what `keep_back` has found, in the order received; the same state a second time is a duplicate."""
    vault = Vault.from_environment()
    for entry in sorted(batch.held, key=lambda e: (e.epoch, e.version)):
        root = entry.parent if entry.parent is not None else entry.key
        cursor.execute(
            _PARK,
            {
                "system": entry.system,
                "entity": entry.entity,
                "key": entry.key,
                "topic": frames.TOPIC,
                "partition": frames.partition_of(entry.system, root, partitions),
                "version": entry.version,
                "payload": vault.seal(_framed(entry)),
            },
        )
        batch.counts[entry.at, entry.system, entry.entity, "captured"] += 1
        batch.counts[entry.at, entry.system, entry.entity, "parked" if cursor.rowcount else "duplicate"] += 1


def _framed(entry: Entry) -> bytes:
    """The entry as a frame of its own, as it came."""
    builder = FrameBuilder(Header(entry.system, entry.entity, "records", entry.epoch, entry.version, entry.mask, entry.at))
    builder.add(
        frames.pack_entry(
            entry.op,
            entry.key,
            parent=entry.parent,
            record=entry.record,
            delivered=entry.delivered,
            edited=entry.edited,
            nulls=entry.nulls,
            body=entry.body,
            seen=entry.seen,
        )
    )
    return builder.close() or b""


def values_of(frame: bytes) -> dict[str, Any]:
    """What waits, as values."""
    (entry,) = frames.unpack_entries(*frames.open_frame(frame))
    return entry.values() if entry.op == STATE else {"deleted": True}


def is_between(cursor: Cursor, key: Key, number: int, version: int) -> bool:
    """Whether something waits behind entry `number` that came before a state of this version."""
    return bool(rows(cursor, _IS_BETWEEN, [*key, number, version]))


def children_of(cursor: Cursor, system: str, entity: str, root: str, batch: Batch) -> set[str]:
    """The local keys of a document's elements that wait: a set that does not name them ends them too."""
    here = {e.key for e in batch.held if (e.system, e.entity, e.parent) == (system, entity, root)}
    return here | {key for (key,) in rows(cursor, _OF_ROOT, [system, entity, root + "|"])}


# ------------------------------------------------------------------ following
def waits_for(cursor: Cursor, key: Key, number: int) -> int | None:
    """The refused entry that an entry waits behind, if it still stands."""
    found = rows(cursor, _BEFORE, [*key, number])
    return None if not found or found[0][0] is None else int(found[0][0])


def is_any(connection: Connection) -> bool:
    """Whether anything waits, also of an entity whose policy is `pass` by now."""
    with transaction(connection) as cursor:
        return bool(rows(cursor, "SELECT 1 FROM hub.parked WHERE state = 'open' AND kind = 'held' LIMIT 1"))


def due(connection: Connection, partitions: Iterable[int]) -> tuple[list[int], list[Message]]:
    """Numbers and frames of what nothing refused stands before any more, in the order received; raises `ConfigError` without their key."""
    with transaction(connection) as cursor:
        found = rows(cursor, _DUE, [sorted(partitions), ROWS_PER_RELEASE])
    vault = Vault.from_environment() if found else None
    messages = [Message(frames.TOPIC, partition, 0, 0, None, vault.open(bytes(kept)), ()) for _, partition, kept in found] if vault else []
    return [number for number, *_ in found], messages


def let_go(cursor: Cursor, numbers: Sequence[int]) -> None:
    """Close what is merged in this transaction; raises `TransientError` when another process was faster."""
    cursor.execute(_LET_GO, [list(numbers)])
    if cursor.rowcount != len(numbers):
        raise TransientError("what waited behind a refused record was taken or given up meanwhile; the rest is looked for again")
