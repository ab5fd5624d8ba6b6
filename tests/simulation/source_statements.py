"""A source's database in memory: what a line of capture asks of it."""

from __future__ import annotations

from typing import Any

from tests.simulation.clock import CLOCK
from tests.simulation.database import Answer, MemoryCursor, statement
from tests.simulation.system_tables import sees, system_of


@statement("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY;")
def _snapshot_begins(cursor: MemoryCursor, _: Any) -> Answer:
    system = system_of(cursor)
    if system.meanwhile is not None:
        happens, system.meanwhile = system.meanwhile, None
        happens()
        cursor.connection.begin()  # what others did is not ours to roll back
    return None


@statement("SELECT pg_current_snapshot()::text")
def _current_snapshot(cursor: MemoryCursor, _: Any) -> Answer:
    return [(system_of(cursor).snapshot(),)]


@statement("FROM lienthong.change WHERE xid >= pg_snapshot_xmin(")
def _difference(cursor: MemoryCursor, given: Any) -> Answer:
    old, low, system = given["old"], int(given["old"].split(":")[0]), system_of(cursor)
    unguarded = "difference" not in cursor.database.guards
    fresh = {number: row for number, row in cursor["change"].items() if row[5] >= low and not sees(old, row[5])}
    if unguarded:  # the forbidden way: everything above the highest number seen
        fresh = {number: row for number, row in cursor["change"].items() if number > system.seen_number}
        system.seen_number = max([system.seen_number, *fresh])
    return [(number, *row[:5], str(row[5]), 0) for number, row in sorted(fresh.items())]


@statement("FROM pg_control_system() s")
def _identity(_cursor: MemoryCursor, _: Any) -> Answer:
    return [("one/1",)]


@statement("SELECT to_regclass('lienthong.applied') IS NOT NULL")
@statement("SELECT 1 WHERE to_regclass('lienthong.change') IS NOT NULL")
@statement("SELECT 1 FROM pg_publication WHERE pubname = %s")
def _yes(_cursor: MemoryCursor, _: Any) -> Answer:
    return [(True,)]


@statement("SELECT two_phase FROM pg_replication_slots")
def _slot(_cursor: MemoryCursor, _: Any) -> Answer:
    return [(False,)]


@statement("SELECT timeline, position, probe, fenced, failover, held, fenced_probe FROM hub.source_mark WHERE system = %s")
def _mark_known(_cursor: MemoryCursor, _: Any) -> Answer:
    return []


@statement("SELECT pg_is_in_recovery(), to_regclass('lienthong.probe') IS NOT NULL")
def _standby(_cursor: MemoryCursor, _: Any) -> Answer:
    return [(False, False)]


@statement("SELECT ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int")
def _mark_now(_cursor: MemoryCursor, _: Any) -> Answer:
    return [(1, 1)]  # a source in memory never goes back in time


@statement("INSERT INTO hub.source_mark AS m (system, timeline, position, probe)")
def _save_mark(_cursor: MemoryCursor, _: Any) -> Answer:
    return 1


@statement("SELECT wal_status, two_phase FROM pg_replication_slots")
def _slot_status(_cursor: MemoryCursor, _: Any) -> Answer:
    return [("reserved", False)]


@statement("SELECT md5(string_agg(concat_ws(' ', a.attrelid")
def _shape(_cursor: MemoryCursor, _: Any) -> Answer:
    return [("one shape",)]


@statement("SELECT schemaname, tablename FROM pg_publication_tables WHERE pubname = %s")
def _published(cursor: MemoryCursor, _: Any) -> Answer:
    return [("public", table) for table in system_of(cursor).columns]


@statement("SELECT name FROM unnest(%s) name, unnest(%s) needed")
def _without_trigger(_cursor: MemoryCursor, _: Any) -> Answer:
    return []


@statement("SELECT a.attname, CASE WHEN t.typtype = 'd' THEN b.typname ELSE t.typname END")
def _types(cursor: MemoryCursor, arguments: Any) -> Answer:
    table = system_of(cursor).columns[arguments[0].rpartition(".")[2].strip('"')]
    return [(name, kind, "b", kind) for name, kind in table.items()]


@statement("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::int8")
def _clock(_cursor: MemoryCursor, _: Any) -> Answer:
    return [(int(CLOCK.time() * 1_000_000),)]


@statement("DELETE FROM lienthong.change WHERE id IN")
def _purge(_cursor: MemoryCursor, _: Any) -> Answer:
    return 0


@statement("SELECT local_key, inserted FROM lienthong.applied WHERE entity = %s AND local_key = ANY(%s) AND state IN ('withdrawn', 'deleted')")
def _taken_by_us(cursor: MemoryCursor, arguments: Any) -> Answer:
    entity, keys = arguments
    found = [(a["local_key"], a) for (e, _), a in cursor["applied"].items() if e == entity]
    taken = [(key, a) for key, a in found if key in keys and a["state"] in ("withdrawn", "deleted")]
    return [(key, a["inserted"]) for key, a in sorted(taken, key=lambda one: (one[1]["epoch"], one[1]["version"]))]


@statement("SELECT entity, record, local_key, version, field, was::text, base::text, written::text FROM lienthong.overwritten WHERE id = ANY(%s)")
def _overwritten(cursor: MemoryCursor, arguments: Any) -> Answer:
    return [row for number, row in cursor["overwritten"].items() if number in arguments[0]]
