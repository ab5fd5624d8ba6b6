"""Records that could not be processed: kept with reason, position and payload, closed by a later good state."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

from connectors.postgres import Connection, Cursor, connect, rows, transaction
from lienthong import parked_hold, sets
from lienthong.batch import Batch, Key
from lienthong.errors import ConfigError, FatalError, RecordError, TransientError
from lienthong.frames import Entry, Header, Note, partition_of
from lienthong.settings import Parking, Settings
from lienthong.vault import Vault

_PUT = """
INSERT INTO hub.parked (system, entity, local_key, kind, field, reason, message, topic, partition, "offset", version, payload)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
"""
_CLOSE = """
UPDATE hub.parked p SET state = 'closed', closed_at = clock_timestamp()
FROM (SELECT unnest(%s::text[]) AS system, unnest(%s::text[]) AS entity, unnest(%s::text[]) AS local_key, unnest(%s::bigint[]) AS version) d
WHERE p.state = 'open' AND p.kind IN ('refused', 'ghost') AND (p.system, p.entity, p.local_key) = (d.system, d.entity, d.local_key)
  AND p.version <= d.version
"""
_CLOSE_FORMER = """
UPDATE hub.parked g SET state = 'closed', closed_at = clock_timestamp()
FROM unnest(%s::text[], %s::text[], %s::text[]) AS d(system, entity, local_key)
JOIN hub.contribution n USING (system, entity, local_key)
JOIN hub.contribution c ON c.record = n.record AND c.system = n.system AND c.epoch < n.epoch
WHERE n.op = 's' AND g.state = 'open' AND g.kind = 'ghost' AND (g.system, g.entity, g.local_key) = (c.system, c.entity, c.local_key)
"""  # it lives again under another local key
_NEWER = "SELECT 1 FROM hub.contribution WHERE (system, entity, local_key) = (%s, %s, %s) AND op <> 'p' AND (epoch, version) > (%s, %s)"
_NEWER_OF_SET = "SELECT 1 FROM hub.contribution WHERE (system, entity, parent_key) = (%s, %s, %s) AND (epoch, version) > (%s, %s) LIMIT 1"


def from_batch(cursor: Cursor, batch: Batch, parking: Parking) -> None:
    """Park what the batch brought refused or damaged; close what a good state has cured.

    A record read again carries the number of the last finished reading, which may be the one that refused it: equal cures too.
    """
    _close_cured(cursor, batch)
    for note in batch.notes:
        if note.header.kind == "refused":
            _park_refused(cursor, batch, note.header, note.content, parking)
        elif note.header.kind == "step" and note.content["status"] is None:
            content = {"key": note.content["root"], "field": "status", "reason": note.content.get("reason", "missing"), "payload": ""}
            content["message"] = "a status step: " + note.content["problem"]
            _park_refused(cursor, batch, note.header, content, parking)
        elif note.header.kind == "load_complete" and note.header.epoch > 1:
            _quarantine(cursor, batch, note)
        elif note.header.kind == "overwritten":
            _keep_overwritten(cursor, batch, note.header, note.content)
    for message, why in batch.damaged:
        text = f"a frame that cannot be opened: {why}; reload the system it came from, or replay the parked bytes"
        cursor.execute(
            _PUT,
            [
                "?",
                "?",
                None,
                "damaged",
                None,
                "damaged",
                text,
                message.topic,
                message.partition,
                message.offset,
                None,
                Vault.from_environment().seal(message.value or b""),
            ],
        )
        batch.counts[message.timestamp_millis * 1000, "?", "?", "damaged"] += 1


def unreadable(entry: Entry, error: RecordError) -> Note:
    """The refusal of an entry that is whole but holds no record of its entity: packed wrongly where it came from."""
    header = Header(entry.system, entry.entity, "refused", entry.epoch, entry.version, 0, entry.at)
    payload = base64.b64encode(Vault.from_environment().seal(entry.body)).decode()
    return Note(header, {"key": entry.key, "field": None, "reason": error.reason, "message": str(error), "payload": payload})


def _park_refused(cursor: Cursor, batch: Batch, header: Header, content: dict[str, Any], parking: Parking) -> None:
    system, entity, version = header.system, header.entity, header.version
    batch.counts[header.at, system, entity, "captured"] += 1
    if _is_cured(cursor, header, content):
        batch.counts[header.at, system, entity, "older"] += 1
        return
    cursor.execute(
        """SELECT id FROM hub.parked WHERE state = 'open' AND kind = 'refused' AND (system, entity, local_key) = (%s, %s, %s)
           ORDER BY version DESC LIMIT 1 FOR UPDATE""",
        [system, entity, content["key"]],
    )
    before = cursor.fetchone()
    if before is not None and parking.holds(entity) and parked_hold.is_between(cursor, (system, entity, content["key"]), before[0], version):
        before = None  # it stands behind what waits
    payload = base64.b64decode(content["payload"])
    if before is None:
        cursor.execute(
            _PUT,
            [system, entity, content["key"], "refused", content["field"], content["reason"], content["message"], None, None, None, version, payload],
        )
        batch.counts[header.at, system, entity, "refused"] += 1
        return
    cursor.execute(
        "UPDATE hub.parked SET field = %s, reason = %s, message = %s, payload = %s, version = %s WHERE id = %s AND version < %s",
        [content["field"], content["reason"], content["message"], payload, version, before[0], version],
    )
    batch.counts[header.at, system, entity, "refused" if cursor.rowcount else "duplicate"] += 1


def _is_cured(cursor: Cursor, header: Header, content: dict[str, Any]) -> bool:
    """Whether the hub holds a newer state already, of this batch or an earlier one: then the refusal is of the past."""
    newer = _NEWER_OF_SET if content.get("of_a_set") else _NEWER
    return bool(rows(cursor, newer, [header.system, header.entity, content["key"], header.epoch, header.version]))


def _quarantine(cursor: Cursor, batch: Batch, note: Note) -> None:
    """After a new epoch's load: what the source said in an earlier one and does not hold any more is shown, not deleted (R4)."""
    system, partitions = note.header.system, note.content["partitions"]
    found = rows(
        cursor,
        """SELECT c.entity, c.local_key, c.parent_key, c.version FROM hub.contribution c JOIN hub.record r USING (record)
           WHERE c.system = %s AND c.epoch < %s AND c.op = 's' AND NOT r.deleted
           AND NOT EXISTS (SELECT FROM hub.record p WHERE p.record = r.parent AND p.deleted) AND NOT EXISTS (
             SELECT FROM hub.parked p WHERE p.kind = 'ghost' AND (p.state = 'open' OR (p.state = 'kept' AND p.version = c.version))
             AND (p.system, p.entity, p.local_key) = (c.system, c.entity, c.local_key))
           AND NOT EXISTS (
             SELECT FROM hub.contribution n WHERE n.record = c.record AND n.system = c.system AND n.op = 's' AND n.epoch >= %s)""",
        [system, note.header.epoch, note.header.epoch],
    )
    for entity, key, parent, version in found:
        if partition_of(system, parent if parent is not None else key, partitions) == note.content["partition"]:
            ghost(cursor, batch, note.header.at, (system, entity, key), version)


def ghost(cursor: Cursor, batch: Batch, at: int, key: Key, version: int, why: str = "") -> None:
    """A person decides about what a restored source does not hold any more; `at` is when it was seen (µs), `why` how."""
    text = f"{why}the restored source does not hold it any more; a person decides whether it was lost there or is really gone"
    cursor.execute(_PUT, [*key, "ghost", None, "not_in_new_epoch", text, None, None, None, version, None])
    batch.counts[at, *key[:2], "quarantined"] += 1


def _keep_overwritten(cursor: Cursor, batch: Batch, header: Header, content: dict[str, Any]) -> None:
    """The applier overwrote a local edit: it becomes a correction request, whether or not capture has seen the edit (B5)."""
    system = header.system
    if content["base"] is None:
        batch.counts[header.at, system, content["entity"], "adopted_over"] += 1  # first write over a row that was there before us: no edit
        return
    cursor.execute(
        """INSERT INTO hub.correction (system, entity, record, field, asked, golden, owner, version)
           SELECT %(system)s, %(entity)s, %(record)s, %(field)s, %(was)s, %(written)s, NULL, %(version)s
           WHERE NOT EXISTS (SELECT 1 FROM hub.correction WHERE system = %(system)s AND record = %(record)s AND field = %(field)s
                             AND asked = %(was)s AND state = 'open')
           ON CONFLICT DO NOTHING""",  # capture may have seen the edit before
        {**content, "system": system},
    )
    batch.counts[header.at, system, content["entity"], "correction"] += cursor.rowcount


def _close_cured(cursor: Cursor, batch: Batch) -> None:
    good = [*(item.entry for item in batch.items), *batch.stored]
    named = [note for note in batch.notes if note.header.kind in sets.KINDS]  # a refusal of all elements of a root stands under the root's key
    if not (good or named) or not rows(cursor, "SELECT 1 FROM hub.parked WHERE state = 'open' AND kind IN ('refused', 'ghost') LIMIT 1"):
        return
    cured = [(entry.system, entry.entity, entry.key, entry.version) for entry in good]
    cured += [(note.header.system, note.header.entity, note.content["root"], note.header.version) for note in named]
    cursor.execute(_CLOSE, [list(column) for column in zip(*cured, strict=True)])
    closed = cursor.rowcount
    again = [(entry.system, entry.entity, entry.key) for entry in good if entry.epoch > 1]
    if again:
        cursor.execute(_CLOSE_FORMER, [list(column) for column in zip(*again, strict=True)])
        closed += cursor.rowcount
    if closed:
        batch.counts[good[0].at if good else named[0].header.at, "*", "*", "cured"] += closed


# ------------------------------------------------------------------ what is parked
@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which parked records are meant; every condition given must hold."""

    system: str | None = None
    entity: str | None = None
    reason: str | None = None
    kind: str | None = None
    older_seconds: float | None = None
    ids: tuple[int, ...] | None = None
    limit: int = 100

    def arguments(self) -> dict[str, Any]:
        """For the statements below."""
        ids = None if self.ids is None else list(self.ids)
        return {"s": self.system, "e": self.entity, "r": self.reason, "k": self.kind, "a": self.older_seconds, "i": ids, "n": self.limit}


COLUMNS = ("id", "system", "entity", "local_key", "kind", "field", "reason", "message", "topic", "partition", "offset", "version", "parked_at")
_IN_HUB = """
SELECT id, system, entity, local_key, kind, field, reason, message, topic, partition, "offset", version, parked_at FROM hub.parked
WHERE state = 'open' AND (%(s)s IS NULL OR system = %(s)s) AND (%(e)s IS NULL OR entity = %(e)s) AND (%(r)s IS NULL OR reason = %(r)s)
  AND (%(k)s IS NULL OR kind = %(k)s) AND (%(i)s::bigint[] IS NULL OR id = ANY(%(i)s))
  AND (%(a)s IS NULL OR parked_at < clock_timestamp() - %(a)s::float8 * INTERVAL '1 second') ORDER BY id LIMIT %(n)s
"""
_IN_TARGET = """
SELECT id, %(s)s, entity, record::text, 'apply', field, reason, message, topic, partition, "offset", version, at FROM lienthong.parked
WHERE state IN ('parked', 'replay') AND (%(e)s IS NULL OR entity = %(e)s) AND (%(r)s IS NULL OR reason = %(r)s)
  AND (%(i)s::bigint[] IS NULL OR id = ANY(%(i)s)) AND (%(a)s IS NULL OR at < clock_timestamp() - %(a)s::float8 * INTERVAL '1 second')
ORDER BY id LIMIT %(n)s
"""


def listing(connection: Connection, wanted: Wanted = Wanted()) -> list[dict[str, Any]]:  # noqa: B008 - frozen
    """Open parked records of the hub in the order in which they came, without their payload."""
    with transaction(connection) as cursor:
        found = rows(cursor, _IN_HUB, wanted.arguments())
    return [{"ref": str(row[0]), **dict(zip(COLUMNS, row, strict=True))} for row in found]


def at_targets(settings: Settings, wanted: Wanted) -> list[dict[str, Any]]:
    """Records that targets' own rules refused, from their `lienthong.parked`; a target that is away is skipped and said so."""
    found: list[dict[str, Any]] = []
    for name, party in settings.systems.items() if wanted.kind in (None, "apply") else ():
        if (wanted.system is not None and name != wanted.system) or not party.apply or settings.contract_of(name) is None:
            continue
        try:
            found += at_target(name, settings.dsn_of(name), wanted)
        except (ConfigError, FatalError, TransientError) as error:
            found.append(_unreachable(name, str(error)))
    return found


def at_target(system: str, dsn: str, wanted: Wanted) -> list[dict[str, Any]]:
    """The same of one target."""
    connection = connect(dsn, application_name="lienthong parked", connect_timeout_seconds=3)
    try:
        with transaction(connection) as cursor:
            found = rows(cursor, _IN_TARGET, wanted.arguments() | {"s": system})
    finally:
        connection.close()
    return [{"ref": f"{system}/{row[0]}", **dict(zip(COLUMNS, row, strict=True))} for row in found]


def _unreachable(system: str, why: str) -> dict[str, Any]:
    return dict.fromkeys(("ref", *COLUMNS)) | {"system": system, "kind": "unreachable", "reason": "unreachable", "message": why}
