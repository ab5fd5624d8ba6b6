"""A target's database in memory: the statements of the applier over our schema `lienthong` there."""

from __future__ import annotations

from typing import Any

import orjson

from tests.simulation.database import Answer, MemoryCursor, statement
from tests.simulation.system_tables import system_of, upsert_applied


@statement("INSERT INTO lienthong.applied AS a (entity, record, local_key, epoch, version, base, state, inserted, parent, body)")
def _put_applied(cursor: MemoryCursor, arguments: Any) -> Answer:
    for row in orjson.loads(arguments[0]):
        body = row["body"]
        upsert_applied(cursor, row | {"body": None if body is None else bytes.fromhex(body)})
    return None


@statement("UPDATE lienthong.applied SET body = %s WHERE entity = %s AND record = %s AND state = 'applied' AND (epoch, version) < (%s, %s)")
def _keep_message(cursor: MemoryCursor, arguments: Any) -> Answer:
    body, entity, record, *version = arguments
    a = cursor["applied"].get((entity, record))
    if a is None or a["state"] != "applied" or (a["epoch"], a["version"]) >= tuple(version):
        return 0
    cursor["applied"][entity, record] = a | {"body": body}
    return 1


@statement("UPDATE lienthong.applied a SET body = NULL FROM ( SELECT entity, record, body FROM lienthong.applied l WHERE l.state = 'applied'")
def _without_children(cursor: MemoryCursor, _: Any) -> Answer:
    parents = {a["parent"] for a in cursor["applied"].values() if a["state"] == "applied"}
    kept = {place: a for place, a in cursor["applied"].items() if a["state"] == "applied" and a["body"] is not None and place[1] not in parents}
    for place, a in kept.items():
        cursor["applied"][place] = a | {"body": None}
    return [(a["body"],) for a in kept.values()]


@statement("SELECT a.entity, a.record, a.local_key, a.epoch, a.version, a.base::text, a.state, a.inserted, a.parent FROM lienthong.applied a")
def _known(cursor: MemoryCursor, arguments: Any) -> Answer:
    out: list[tuple[Any, ...]] = []
    for place in sorted(zip(*arguments, strict=True)):
        a = cursor["applied"].get(place)
        if a is not None:
            base = None if a["base"] is None else orjson.dumps(a["base"]).decode()
            out.append((*place, a["local_key"], a["epoch"], a["version"], base, a["state"], a["inserted"], a["parent"]))
    return out


@statement("SELECT record, CASE state WHEN 'applied' THEN local_key END FROM lienthong.applied WHERE entity = 'dossier' AND record = ANY(%s)")
def _parents(cursor: MemoryCursor, arguments: Any) -> Answer:
    found = [(record, cursor["applied"].get(("dossier", record))) for record in arguments[0]]
    return [(record, a["local_key"] if a["state"] == "applied" else None) for record, a in found if a is not None]


@statement("INSERT INTO lienthong.overwritten (entity, record, local_key, version, field, was, base, written)")
def _witness(cursor: MemoryCursor, arguments: Any) -> Answer:
    return _put_overwritten(cursor, tuple(arguments))


@statement("INSERT INTO lienthong.overwritten (entity, record, local_key, version, field, was, base) VALUES (%s, %s, %s, %s, 'record', %s, %s)")
def _keep(cursor: MemoryCursor, arguments: Any) -> Answer:
    entity, record, key, version, was, base = arguments
    return _put_overwritten(cursor, (entity, record, key, version, "record", was, base, None))


def _put_overwritten(cursor: MemoryCursor, row: tuple[Any, ...]) -> Answer:
    """The row, and its notification: the applier's own tables are captured too."""
    system, number = system_of(cursor), next(cursor.database.serial)
    cursor["overwritten"][number] = row
    cursor["change"][next(system.serial)] = ("lienthong.overwritten", "I", {"id": str(number)}, None, None, system._draw_xid())
    return 1


@statement("DELETE FROM lienthong.applied k WHERE entity = %(entity)s AND record = %(keep)s AND state IN ('deleted', 'withdrawn')")
def _forget_end(cursor: MemoryCursor, given: Any) -> Answer:
    gone, keep = (cursor["applied"].get((given["entity"], given[name])) for name in ("gone", "keep"))
    if gone is None or gone["state"] != "applied" or keep is None or keep["state"] not in ("deleted", "withdrawn"):
        return 0
    del cursor["applied"][given["entity"], given["keep"]]
    return 1


@statement("SELECT local_key, record FROM lienthong.applied WHERE entity = %s AND local_key = ANY(%s) AND state = 'applied'")
def _holders(cursor: MemoryCursor, arguments: Any) -> Answer:
    entity, keys = arguments
    return [(a["local_key"], r) for (e, r), a in cursor["applied"].items() if e == entity and a["local_key"] in keys and a["state"] == "applied"]


@statement("UPDATE lienthong.applied a SET record = %(keep)s, epoch = %(epoch)s, version = 0")
def _repoint(cursor: MemoryCursor, given: Any) -> Answer:
    gone, keep = (given["entity"], given["gone"]), (given["entity"], given["keep"])
    if gone not in cursor["applied"] or keep in cursor["applied"]:
        return 0
    cursor["applied"][keep] = cursor["applied"].pop(gone) | {"epoch": given["epoch"], "version": 0}
    return 1


@statement("SELECT 1 FROM lienthong.applied WHERE state = 'waiting' LIMIT 1")
def _any_waiting(cursor: MemoryCursor, _: Any) -> Answer:
    return [(1,) for a in cursor["applied"].values() if a["state"] == "waiting"][:1]


@statement("DELETE FROM lienthong.applied a USING ( SELECT w.entity, w.record FROM lienthong.applied w JOIN lienthong.applied p")
def _release_waiting(cursor: MemoryCursor, _: Any) -> Answer:
    here = {record for (entity, record), a in cursor["applied"].items() if entity == "dossier" and a["state"] == "applied"}
    found = sorted(place for place, a in cursor["applied"].items() if a["state"] == "waiting" and a["parent"] in here)
    return [(cursor["applied"].pop(place)["body"],) for place in found]


@statement("INSERT INTO lienthong.parked (entity, record,")
def _park(cursor: MemoryCursor, arguments: Any) -> Answer:
    cursor["parked"][next(cursor.database.serial)] = tuple(arguments)
    return 1


@statement("SELECT DISTINCT entity, record FROM lienthong.parked p JOIN unnest(%s::text[], %s::bigint[])")
def _blocked(cursor: MemoryCursor, arguments: Any) -> Answer:
    parked = {tuple(row[:2]) for row in cursor["parked"].values()}
    return [place for place in zip(*arguments, strict=True) if place in parked]


@statement("SELECT 1 FROM lienthong.parked WHERE state = 'parked' LIMIT 1")
def _any_parked(cursor: MemoryCursor, _: Any) -> Answer:
    return [(1,)] if cursor["parked"] else []


@statement("UPDATE lienthong.parked p SET state = 'cured'")
def _cure(cursor: MemoryCursor, arguments: Any) -> Answer:
    newest = {(entity, record): version for entity, record, version in zip(*arguments, strict=True)}
    cured = [number for number, row in cursor["parked"].items() if (row[2] or 0) < newest.get(tuple(row[:2]), -1)]
    for number in cured:
        del cursor["parked"][number]
    return len(cured)


@statement("UPDATE lienthong.parked p SET state = 'replay' WHERE p.state = 'parked' AND (p.entity, p.record) IN")
def _wake(_cursor: MemoryCursor, _: Any) -> Answer:
    return 0  # no table in memory has a foreign key


@statement("INSERT INTO lienthong.counter AS c VALUES (%s, %s, %s)")
def _count(cursor: MemoryCursor, arguments: Any) -> Answer:
    entity, what, n = arguments
    cursor["counter"][entity, what] = cursor["counter"].get((entity, what), 0) + n
    return 1


@statement("SELECT next FROM lienthong.consumer_offset WHERE topic = %s AND partition = %s")
def _stored(cursor: MemoryCursor, arguments: Any) -> Answer:
    following = cursor["consumer_offset"].get(tuple(arguments))
    return [] if following is None else [(following,)]
