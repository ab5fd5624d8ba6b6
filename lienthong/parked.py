"""Records that could not be processed: kept with reason, position and payload, closed by a later good state."""

from __future__ import annotations

import base64
from typing import Any

from connectors.postgres import Connection, Cursor, connect, rows, transaction
from lienthong.batch import Batch
from lienthong.errors import ConfigError, FatalError, RecordError, TransientError
from lienthong.frames import Entry, Header, Note, partition_of
from lienthong.settings import Settings
from lienthong.vault import Vault

_PUT = """
INSERT INTO hub.parked (system, entity, local_key, kind, field, reason, message, topic, partition, "offset", version, payload)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
"""
_CLOSE = """
UPDATE hub.parked p SET state = 'closed', closed_at = clock_timestamp()
FROM (SELECT unnest(%s::text[]) AS system, unnest(%s::text[]) AS entity, unnest(%s::text[]) AS local_key, unnest(%s::bigint[]) AS version) d
WHERE p.state = 'open' AND p.kind = 'refused' AND (p.system, p.entity, p.local_key) = (d.system, d.entity, d.local_key)
  AND p.version < d.version
"""


def from_batch(cursor: Cursor, batch: Batch) -> None:
    """Park what the batch brought refused or damaged; close what a good state has cured."""
    _close_cured(cursor, batch)
    for note in batch.notes:
        if note.header.kind == "refused":
            _park_refused(cursor, batch, note.header.system, note.header.entity, note.header.version, note.content)
        elif note.header.kind == "step" and note.content["status"] is None:
            content = {"key": note.content["root"], "field": "status", "reason": note.content.get("reason", "missing"), "payload": ""}
            content["message"] = "a status step: " + note.content["problem"]
            _park_refused(cursor, batch, note.header.system, note.header.entity, note.header.version, content)
        elif note.header.kind == "load_complete" and note.header.epoch > 1:
            _quarantine(cursor, batch, note)
        elif note.header.kind == "overwritten":
            _keep_overwritten(cursor, batch, note.header.system, note.content)
    for message, why in batch.damaged:
        text = f"a frame that cannot be opened: {why}; reload the system it came from, or replay the parked bytes"
        cursor.execute(
            _PUT, ["?", "?", None, "damaged", None, "damaged", text, message.topic, message.partition, message.offset, None,
                   Vault(None).seal(message.value or b"")]
        )
        batch.counts["?", "?", "damaged"] += 1


def unreadable(entry: Entry, error: RecordError) -> Note:
    """The refusal of an entry that is whole but holds no record of its entity: packed wrongly where it came from."""
    header = Header(entry.system, entry.entity, "refused", entry.epoch, entry.version, 0, entry.at)
    payload = base64.b64encode(Vault(None).seal(entry.body)).decode()
    return Note(header, {"key": entry.key, "field": None, "reason": error.reason, "message": str(error), "payload": payload})


def _park_refused(cursor: Cursor, batch: Batch, system: str, entity: str, version: int, content: dict[str, Any]) -> None:
    batch.counts[system, entity, "captured"] += 1
    cursor.execute(
        """SELECT id FROM hub.parked WHERE state = 'open' AND kind = 'refused' AND (system, entity, local_key) = (%s, %s, %s)
           ORDER BY version DESC LIMIT 1 FOR UPDATE""",
        [system, entity, content["key"]],
    )
    before = cursor.fetchone()
    payload = base64.b64decode(content["payload"])
    if before is None:
        cursor.execute(
            _PUT,
            [system, entity, content["key"], "refused", content["field"], content["reason"], content["message"], None, None, None, version, payload],
        )
        batch.counts[system, entity, "refused"] += 1
        return
    cursor.execute(
        "UPDATE hub.parked SET field = %s, reason = %s, message = %s, payload = %s, version = %s WHERE id = %s AND version < %s",
        [content["field"], content["reason"], content["message"], payload, version, before[0], version],
    )
    batch.counts[system, entity, "refused" if cursor.rowcount else "duplicate"] += 1


def _quarantine(cursor: Cursor, batch: Batch, note: Note) -> None:
    """After a new epoch's load: what the source said in an earlier one and does not hold any more is shown, not deleted (R4)."""
    system, partitions = note.header.system, note.content["partitions"]
    found = rows(
        cursor,
        "SELECT entity, local_key, parent_key, version FROM hub.contribution WHERE system = %s AND epoch < %s AND op = 's'",
        [system, note.header.epoch],
    )
    for entity, key, parent, version in found:
        if partition_of(system, parent if parent is not None else key, partitions) == note.content["partition"]:
            text = "the restored source does not hold it any more; a person decides whether it was lost there or is really gone"
            cursor.execute(_PUT, [system, entity, key, "ghost", None, "not_in_new_epoch", text, None, None, None, version, None])
            batch.counts[system, entity, "quarantined"] += 1


def _keep_overwritten(cursor: Cursor, batch: Batch, system: str, content: dict[str, Any]) -> None:
    """The applier overwrote a local edit: it becomes a correction request, whether or not capture has seen the edit (B5)."""
    if content["base"] is None:
        batch.counts[system, content["entity"], "adopted_over"] += 1  # first write over a row that was there before us: no edit
        return
    cursor.execute(
        """INSERT INTO hub.correction (system, entity, record, field, asked, golden, owner, version)
           SELECT %(system)s, %(entity)s, %(record)s, %(field)s, %(was)s, %(written)s, NULL, %(version)s
           WHERE NOT EXISTS (SELECT 1 FROM hub.correction WHERE system = %(system)s AND record = %(record)s AND field = %(field)s
                             AND asked = %(was)s AND state = 'open')
           ON CONFLICT DO NOTHING""",  # capture may have seen the edit before
        {**content, "system": system},
    )
    batch.counts[system, content["entity"], "correction"] += cursor.rowcount


def _close_cured(cursor: Cursor, batch: Batch) -> None:
    good = [*batch.items, *batch.stored]
    if not good or not rows(cursor, "SELECT 1 FROM hub.parked WHERE state = 'open' AND kind = 'refused' LIMIT 1"):
        return
    cured = [(*item.key, item.entry.version) for item in good]
    cursor.execute(_CLOSE, [list(column) for column in zip(*cured, strict=True)])
    if cursor.rowcount:
        batch.counts["*", "*", "cured"] += cursor.rowcount


def listing(
    connection: Connection, *, system: str | None = None, entity: str | None = None, reason: str | None = None, limit: int = 100
) -> list[dict[str, Any]]:
    """Open parked records, oldest first, without their payload."""
    names = ("id", "system", "entity", "local_key", "kind", "field", "reason", "message", "topic", "partition", "offset", "version", "parked_at")
    columns = ", ".join(f'"{name}"' for name in names)
    with transaction(connection) as cursor:
        found = rows(
            cursor,
            f"""SELECT {columns} FROM hub.parked WHERE state = 'open' AND (%(s)s IS NULL OR system = %(s)s)
                AND (%(e)s IS NULL OR entity = %(e)s) AND (%(r)s IS NULL OR reason = %(r)s) ORDER BY id LIMIT %(n)s""",  # noqa: S608
            {"s": system, "e": entity, "r": reason, "n": limit},
        )
    return [dict(zip(names, row, strict=True)) for row in found]


def at_targets(
    settings: Settings, *, system: str | None = None, entity: str | None = None, reason: str | None = None, limit: int = 100
) -> list[dict[str, Any]]:
    """Records that a target's own rules refused, from its `lienthong.parked`; a target that is away is skipped and said so."""
    found: list[dict[str, Any]] = []
    for name, party in settings.systems.items():
        if (system is not None and name != system) or not party.apply or settings.contract_of(name) is None:
            continue
        try:
            found += _at_target(name, party.dsn, entity, reason, limit)
        except (ConfigError, FatalError, TransientError) as error:
            found.append(_unreachable(name, str(error)))
    return found


def _at_target(system: str, dsn: str, entity: str | None, reason: str | None, limit: int) -> list[dict[str, Any]]:
    connection = connect(dsn, application_name="lienthong parked", connect_timeout_seconds=3)
    try:
        with transaction(connection) as cursor:
            found = rows(
                cursor,
                """SELECT id, entity, record::text, 'apply', field, reason, message, topic, partition, "offset", version, at
                   FROM lienthong.parked WHERE state = 'parked' AND (%(e)s IS NULL OR entity = %(e)s)
                   AND (%(r)s IS NULL OR reason = %(r)s) ORDER BY id LIMIT %(n)s""",
                {"e": entity, "r": reason, "n": limit},
            )
    finally:
        connection.close()
    return [dict(zip(_AT_TARGET, (number, system, *rest), strict=True)) for number, *rest in found]


_AT_TARGET = ("id", "system", "entity", "local_key", "kind", "field", "reason", "message", "topic", "partition", "offset", "version", "parked_at")


def _unreachable(system: str, why: str) -> dict[str, Any]:
    return dict.fromkeys(_AT_TARGET) | {"system": system, "kind": "unreachable", "reason": "unreachable", "message": why}
