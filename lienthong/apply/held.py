"""Parked records at a target: what waits behind one, what a person told to put through again, and how much there is of it.

Where an entity's policy is `hold`, later messages of a parked record are parked behind it instead of passing (reliability.md §3.5),
and leave with it in the order in which they came. A replay only marks rows; the applier does the work, so that one process writes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from connectors.kafka import Message
from connectors.postgres import Cursor, rows
from lienthong.settings import Parking
from lienthong.vault import Vault

if TYPE_CHECKING:
    from lienthong.apply.target import Arrived

HELD = "held"
ROWS_PER_RELEASE = 200
_BLOCKED = """
SELECT DISTINCT entity, record FROM lienthong.parked p JOIN unnest(%s::text[], %s::bigint[]) AS k(entity, record) USING (entity, record)
WHERE p.state IN ('parked', 'replay')
"""
_HOLD = """
INSERT INTO lienthong.parked (entity, record, version, reason, message, topic, partition, "offset", payload)
VALUES (%s, %s, %s, 'held', 'an earlier message about this record is parked; this one waits behind it', %s, %s, %s, %s)
"""
_TOLD = """
SELECT id, entity, record, topic, partition, "offset", payload FROM lienthong.parked WHERE state = 'replay' ORDER BY id LIMIT %s FOR UPDATE
"""
# Only its own: a child that waited for this record may be refused in turn, and is parked by itself.
_ANEW = """
DELETE FROM lienthong.parked WHERE id > %s AND entity IS NOT DISTINCT FROM %s AND record IS NOT DISTINCT FROM %s
RETURNING reason, field, message
"""
_ANY_PARKED = "SELECT 1 FROM lienthong.parked WHERE state = 'parked' LIMIT 1"
_CURE = """
UPDATE lienthong.parked p SET state = 'cured', closed_at = clock_timestamp()
FROM unnest(%s::text[], %s::bigint[], %s::bigint[]) AS k(entity, record, version)
WHERE (p.entity, p.record) = (k.entity, k.record) AND p.state = 'parked' AND coalesce(p.version, 0) < k.version
"""
_AGAIN = "UPDATE lienthong.parked SET state = 'parked', reason = %s, field = %s, message = %s WHERE id = %s"


def keep_back(cursor: Cursor, parking: Parking, vault: Vault, arrived: Sequence[Arrived], counts: Counter[tuple[str, str]]) -> list[Arrived]:
    """What may go on; what belongs to a record that is parked here, of an entity whose policy is `hold`, is parked behind it."""
    held = [one for one in arrived if parking.holds(one.entity)]
    if not held:
        return list(arrived)
    blocked = set(rows(cursor, _BLOCKED, [[one.entity for one in held], [one.record for one in held]]))
    if not blocked:
        return list(arrived)
    free = []
    for one in arrived:
        if (one.entity, one.record) not in blocked:
            free.append(one)
            continue
        message = one.message
        payload = vault.seal(message.value or b"")
        cursor.execute(_HOLD, [one.entity, one.record, one.version[1], message.topic, message.partition, message.offset, payload])
        counts[one.entity, HELD] += 1
    return free


def is_any(cursor: Cursor) -> bool:
    """Whether anything is parked here."""
    return bool(rows(cursor, _ANY_PARKED))


def cure(cursor: Cursor, settled: Sequence[tuple[str, int, int]]) -> None:
    """Close what is parked of records about which something newer has been applied (entity, record, version): it is of the past."""
    cursor.execute(_CURE, [list(column) for column in zip(*settled, strict=True)])


def release(cursor: Cursor, vault: Vault, again: Callable[[Message], None]) -> int:
    """Put through again what was told to, in the order received; one that is refused stays parked, and so does what is behind it."""
    told = rows(cursor, _TOLD, [ROWS_PER_RELEASE])
    stuck: set[tuple[str | None, int | None]] = set()
    for number, entity, record, topic, partition, offset, payload in told:
        if (entity, record) in stuck:
            continue
        newest = rows(cursor, "SELECT max(id) FROM lienthong.parked")[0][0]
        again(Message(topic, partition, offset, 0, None, vault.open(bytes(payload)), ()))
        refused = rows(cursor, _ANEW, [newest, entity, record])
        if not refused:
            cursor.execute("UPDATE lienthong.parked SET state = 'replayed' WHERE id = %s", [number])
            continue
        cursor.execute(_AGAIN, [*refused[0], number])
        if record is not None:
            stuck.add((entity, record))
            cursor.execute("UPDATE lienthong.parked SET state = 'parked' WHERE (entity, record) = (%s, %s) AND state = 'replay'", [entity, record])
    return len(told)


def summary(cursor: Cursor) -> list[tuple[str, int, datetime]]:
    """Reason, number and oldest of what is parked here."""
    return rows(cursor, "SELECT reason, count(*), min(at) FROM lienthong.parked WHERE state IN ('parked', 'replay') GROUP BY reason")


def tell(cursor: Cursor, system: str, found: Sequence[tuple[str, int, datetime]]) -> None:
    """Put a target's summary into the hub, where status and metrics read it."""
    cursor.execute("DELETE FROM hub.parked_at_target WHERE system = %s", [system])
    for reason, count, oldest in found:
        cursor.execute("INSERT INTO hub.parked_at_target (system, reason, records, oldest) VALUES (%s, %s, %s, %s)", [system, reason, count, oldest])
