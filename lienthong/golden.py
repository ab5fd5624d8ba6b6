"""Golden records as rows of the hub, and folding again what got no contribution of its own but must change."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from hashlib import blake2b
from typing import Any

import orjson

from connectors.postgres import Connection, Cursor, rows, transaction
from lienthong import hub
from lienthong.authority import Authority, Golden, Said, fold
from lienthong.hub import Row
from lienthong.settings import Settings

logger = logging.getLogger(__name__)

SLICE = 2000
ROUTING = ("processing_agency_code", "processing_unit", "receiving_agency_code")


def row_of(record: int, entity: str, parent: int | None, folded: Golden, sole: str | None, before: Row | None) -> tuple[Any, ...]:
    """The golden record as a row for `hub.put_records`."""
    version = before.version + 1 if before is not None else 1
    who = None if sole is not None else orjson.dumps(folded.who).decode()
    return record, entity, parent, folded.deleted, sole, version, orjson.dumps(folded.values).decode(), who


def history_of(record: int, before: Row, system: str | None) -> tuple[Any, ...]:
    """What stood there before, as a row for `hub.put_history`."""
    who = None if before.who is None else orjson.dumps(before.who).decode()
    return record, before.version, system, orjson.dumps(before.body).decode(), who


def said_of(cursor: Cursor, records: Collection[int]) -> dict[int, list[Said]]:
    """All stored contributions of some records."""
    out: dict[int, list[Said]] = defaultdict(list)
    for record, system, version, op, delivered, body in hub.of_records(cursor, records):
        out[record].append(Said(system, version, orjson.loads(body) if op == "s" else {}, op == "s", delivered))
    return out


def is_rerouted(before: Row | None, folded: Golden) -> bool:
    """Whether the roles that a dossier gives have changed, and with them whose word counts for its children."""
    return before is not None and before.entity == "dossier" and any(before.body.get(n) != folded.values.get(n) for n in ROUTING)


def children_of(cursor: Cursor, records: Collection[int]) -> set[int]:
    """The records under some dossiers."""
    if not records:
        return set()
    found = rows(cursor, "SELECT record FROM hub.record WHERE parent = ANY(%s) AND merged_into IS NULL", [sorted(records)])
    return {record for (record,) in found}


def removals_again(cursor: Cursor, gone: Sequence[tuple[int, str]]) -> list[tuple[int, int, str | None, int]]:
    """For the router's list: dossiers that were to be taken from a system, where a child of its own (record, system) has now gone itself.

    The child may have kept its dossier's row there.
    """
    if not gone:
        return []
    found = rows(
        cursor,
        """SELECT DISTINCT r.parent, k.system FROM unnest(%s::bigint[], %s::text[]) AS k(record, system)
           JOIN hub.record r USING (record) JOIN hub.entitled e ON e.record = r.parent AND e.system = k.system WHERE e.state IN ('w', 'd')""",
        [list(column) for column in zip(*gone, strict=True)],
    )
    return [(record, 0, system, 0) for record, system in sorted(found)]


def fold_again(cursor: Cursor, authority: Authority, records: Collection[int]) -> None:
    """Fold records that were joined with others or whose roles have changed; what comes out the same stays as it is."""
    before = {record: row for record, row in hub.lock(cursor, records).items() if row.merged_into is None}
    if not before:
        return
    said = said_of(cursor, list(before))
    routing = hub.routing_of(cursor, sorted({row.parent for row in before.values() if row.parent is not None}))
    changed = []
    for record, row in before.items():
        folded, sole = _fold_one(authority, row, said.get(record, []), routing)
        if (folded.values, folded.deleted, None if sole else folded.who, sole) != (
            row.body,
            row.deleted,
            row.who,
            row.sole,
        ):
            changed.append((record, row, folded, sole))
    hub.part(cursor, [record for record, row, *_ in changed if row.sole is not None])
    hub.put_records(cursor, [row_of(record, row.entity, row.parent, folded, sole, row) for record, row, folded, sole in changed])
    hub.put_history(cursor, [history_of(record, row, None) for record, row, *_ in changed if row.version])
    hub.note_changed(cursor, [(record, 0, None, 0) for record, *_ in changed])


def follow_authority(connection: Connection, settings: Settings) -> int:
    """When the authority table or the responsibilities changed since the last start, fold every record again (R5); returns how many."""
    parts = {
        f"{entity}.{group}": [rule.model_dump_json() for rule in rules]
        for entity, groups in settings.authority.items()
        for group, rules in groups.items()
    }
    parts |= {name: [s.kind, *s.units, *s.agencies] for name, s in settings.systems.items()}
    digest = blake2b(orjson.dumps(parts, option=orjson.OPT_SORT_KEYS), digest_size=16).hexdigest()
    with transaction(connection) as cursor:
        cursor.execute("SELECT pg_advisory_lock(hashtext('lienthong.authority'))")
        stored = rows(cursor, "SELECT value FROM hub.setting WHERE name = 'authority'")
    try:
        folded = 0 if not stored or stored[0][0] == digest else _fold_all(connection, Authority(settings))
        with transaction(connection) as cursor:
            cursor.execute("INSERT INTO hub.setting VALUES ('authority', %s) ON CONFLICT (name) DO UPDATE SET value = excluded.value", [digest])
    finally:
        with transaction(connection) as cursor:
            cursor.execute("SELECT pg_advisory_unlock(hashtext('lienthong.authority'))")
    return folded


def _fold_all(connection: Connection, authority: Authority) -> int:
    last, count = 0, 0
    while True:
        with transaction(connection) as cursor:
            hub.enter(cursor, alone=True)
            found = [r for (r,) in rows(cursor, "SELECT record FROM hub.record WHERE record > %s ORDER BY record LIMIT %s", [last, SLICE])]
            if not found:
                return count
            fold_again(cursor, authority, found)
        last, count = found[-1], count + len(found)
        logger.info("folding again under the new authority", extra={"action": "fold_again", "records": count})


def _fold_one(authority: Authority, row: Row, said: list[Said], routing: Mapping[int, Mapping[str, Any]]) -> tuple[Golden, str | None]:
    return fold(authority, row.entity, said, routing.get(row.parent or 0)), said[0].system if len(said) == 1 else None
