"""A source's or target's database in memory: its own tables, transactions that become visible late, and our schema `lienthong` in it.

What the product asks of it in SQL is answered here with the same contract; what it decides stays the product's own code: `Line`, `WalLine`,
`OutboxLine`, `EntityReading`, `Target`, `TargetEntity`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any
from unittest.mock import patch

import orjson

from connectors import postgres
from connectors.postgres import sql
from lienthong import in_doubt, load, reading, route
from lienthong.apply import table as apply_table
from lienthong.apply import target as apply_target
from lienthong.apply.table import TargetEntity, Write
from lienthong.capture import line, outbox, state, wal
from lienthong.layout import Layout
from lienthong.reading import EntityReading, SourceReadings
from lienthong.settings import Profile
from tests.simulation.clock import CLOCK
from tests.simulation.database import Answer, Database, Fuse, MemoryConnection, MemoryCursor, statement
from tests.simulation.topics import Topics

FIRST_XID = (1 << 32) - 5  # the log carries 32 bits of it: a history crosses the turn
OURS = ("applied", "overwritten", "consumer_offset", "parked", "counter", "change")
Row = dict[str, Any]


@dataclass
class Change:
    """One row change of an open transaction, and its place in the list of changes."""

    number: int
    table: str
    key: str
    new: Row | None
    old: Row | None

    @property
    def op(self) -> str:
        """Insert, update, delete."""
        return "D" if self.new is None else "I" if self.old is None else "U"


@dataclass
class Transaction:
    """A transaction of the system's own application: open, then in the log, then visible."""

    xid: int
    changes: list[Change] = field(default_factory=list)
    position: int = 0  # the end of its commit in the log


class System(Database):
    """One system's database. `columns` are the types of each table, `watched` the columns whose change is notified with its image."""

    def __init__(self, columns: Mapping[str, Mapping[str, str]], fuse: Fuse, *, trigger: Callable[[str, Row], None] | None = None) -> None:
        super().__init__(*columns, *OURS, fuse=fuse)
        self.columns, self._trigger = columns, trigger
        self.xids = count(FIRST_XID)
        self.next_xid = FIRST_XID
        self.running: dict[int, Transaction] = {}
        self.log: list[Transaction] = []
        self.confirmed = 0
        self.seen_number = 0
        self.meanwhile: Callable[[], None] | None = None  # what others do between a number and the snapshot that follows it
        self.notes: Callable[[str, Row], tuple[Row, Row]] = lambda _table, row: (row, {})

    # ------------------------------------------------------------ the application's transactions
    def begin(self) -> Transaction:
        """Open one."""
        made = Transaction(self._draw_xid())
        self.running[made.xid] = made
        return made

    def _draw_xid(self) -> int:
        xid = next(self.xids)
        self.next_xid = xid + 1
        return xid

    def locked(self, table: str, key: str, by: Transaction) -> bool:
        """Whether another transaction holds the row."""
        return any((c.table, c.key) == (table, key) for t in self.running.values() if t is not by for c in t.changes)

    def write(self, transaction: Transaction, table: str, key: str, new: Row | None) -> bool:
        """Change one row; False when somebody else holds it or nothing changes."""
        if self.locked(table, key, transaction):
            return False
        mine = [c.new for c in transaction.changes if (c.table, c.key) == (table, key)]
        old = mine[-1] if mine else self[table].get(key)
        if new == old:
            return False
        transaction.changes.append(Change(next(self.serial), table, key, new, old))
        return True

    def flush(self, transaction: Transaction) -> None:
        """Its commit is in the log: a reader of the log may have it, though nobody sees it yet."""
        transaction.position = (self.log[-1].position if self.log else 0) + 8 * (1 + len(transaction.changes))
        self.log.append(transaction)

    def show(self, transaction: Transaction) -> None:
        """It is visible, and its locks are gone."""
        del self.running[transaction.xid]
        for change in transaction.changes:
            self.apply(change.table, change.key, change.new)
            self.note(transaction.xid, change)

    def abort(self, transaction: Transaction) -> None:
        """It never was."""
        del self.running[transaction.xid]

    def apply(self, table: str, key: str, new: Row | None) -> None:
        """The row stands in its table, after the system's own trigger."""
        if new is None:
            self[table].pop(key, None)
        else:
            self[table][key] = new

    def note(self, xid: int, change: Change) -> None:
        """What our trigger writes into the list of changes."""
        new_key, new_image = self.notes(change.table, change.new) if change.new is not None else (None, {})
        old_key, old_image = self.notes(change.table, change.old) if change.old is not None else (None, {})
        image = new_image if change.new is not None and (change.old is None or new_image != old_image) else None
        self["change"][change.number] = (change.table, change.op, new_key, old_key if old_key != new_key else None, image or None, xid)

    def commit(self, table: str, key: str, new: Row | None) -> None:
        """One change in a transaction of its own, visible at once."""
        if new is not None and self._trigger is not None:
            self._trigger(table, new)
        old = self[table].get(key)
        if new != old:
            self.apply(table, key, new)
            self.note(self._draw_xid(), Change(next(self.serial), table, key, new, old))

    # ------------------------------------------------------------ snapshots
    def snapshot(self) -> str:
        """As `pg_current_snapshot()::text`."""
        running = sorted(self.running)
        return f"{running[0] if running else self.next_xid}:{self.next_xid}:{','.join(map(str, running))}"

    def connect(self) -> MemoryConnection:
        """A connection."""
        return MemoryConnection(self)


def sees(snapshot: str, xid: int) -> bool:
    """As `pg_visible_in_snapshot`, for a transaction that was not rolled back."""
    _, high, running = snapshot.split(":")
    return xid < int(high) and str(xid) not in running.split(",")


def system_of(cursor: MemoryCursor) -> System:
    """The database of a cursor."""
    assert isinstance(cursor.database, System)
    return cursor.database


# ------------------------------------------------------------------ what a line asks of its source
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


# ------------------------------------------------------------------ readings: rows as the one SELECT gives them
def _root_rows(layout: Layout, cursor: MemoryCursor) -> dict[str, Row]:
    return {key: cursor[layout.mapping.table][key] for key in sorted(cursor[layout.mapping.table])}


def _value(layout: Layout, cursor: MemoryCursor, row: Row, name: str) -> Any:
    """What stands in the column of a field, in the root table or the one row of a part."""
    part, column = layout.origin(str(layout.mapping.fields[name].column))
    if part is None:
        return row.get(column)
    spec = layout.mapping.parts[part]
    for _, theirs in sorted(cursor[spec.table].items()):
        if all(theirs.get(a) == row.get(b) for a, b in spec.on.items()):
            return theirs.get(column)
    return None


def document_of(layout: Layout, cursor: MemoryCursor, row: Row) -> Row:
    """The writable columns by field name."""
    return {name: _value(layout, cursor, row, name) for name in layout.writable()}


def _run(self: EntityReading, cursor: Any, condition: str, arguments: Sequence[Any]) -> list[tuple[Any, ...]]:
    """The SELECT of a reading: root, parts, base of the keys asked for, or of all."""
    layout, found = self.layout, []
    wanted = set(arguments[0]) if condition == self._by_keys else None
    applied = {a["local_key"]: (record, a) for (e, record), a in cursor["applied"].items() if e == self.entity and a["state"] == "applied"}
    for key, row in _root_rows(layout, cursor).items():
        if wanted is not None and key not in wanted:
            continue
        parent = row[layout.mapping.parent.columns[0]] if layout.mapping.parent is not None else None
        values = [_value(layout, cursor, row, name) for name in self.mapper.selected]
        record, a = applied.get(key, (None, None))
        edited = None
        if a is not None and a["base"] is not None:
            document = document_of(layout, cursor, row)
            edited = [name for name, value in document.items() if name not in a["base"] or a["base"][name] != value]
        found.append((key, parent, False, record, bool(a and a["inserted"]), edited, a and a["version"], *values))
    return found


# ------------------------------------------------------------------ applying: the target's own tables
def _documents(self: TargetEntity, cursor: Any, keys: Sequence[str], *, lock: bool) -> dict[str, Row]:
    rows = cursor[self.layout.mapping.table]
    return {key: document_of(self.layout, cursor, rows[key]) for key in keys if key in rows}


def _insert(self: TargetEntity, cursor: Any, writes: Sequence[Write]) -> None:
    for write in writes:
        key = str(next(cursor.database.serial))
        row: Row = dict.fromkeys(system_of(cursor).columns[self.layout.mapping.table])
        row |= {self._where[name][1]: value for name, value in write.local.items()}
        if self._parent_columns:
            row[self._parent_columns[0]] = write.parent_key
        row[self.key[0]] = key
        system_of(cursor).commit(self.layout.mapping.table, key, row)
        write.local_key, write.inserted = key, True


def _update(self: TargetEntity, cursor: Any, writes: Sequence[Write]) -> None:
    table = self.layout.mapping.table
    for write in writes:
        new = {self._where[n][1]: None if n in write.erase else write.local.get(n) for n in self.written(write)}
        system_of(cursor).commit(table, str(write.local_key), cursor[table][str(write.local_key)] | new)


def _delete(self: TargetEntity, cursor: Any, keys: Sequence[str]) -> None:
    for key in keys:
        system_of(cursor).commit(self.layout.mapping.table, key, None)


def _remember(self: TargetEntity, cursor: Any, rows_: Sequence[Row]) -> None:
    for row in rows_:
        now = document_of(self.layout, cursor, cursor[self.layout.mapping.table][row["local_key"]])
        base = {name: value for name, value in now.items() if name not in row["unwritten"]}
        _upsert_applied(cursor, row | {"base": base, "body": None})


def _upsert_applied(cursor: MemoryCursor, row: Row) -> None:
    place = (row["entity"], row["record"])
    had = cursor["applied"].get(place)
    newer = had is None or (had["epoch"], had["version"]) < (row["epoch"], row["version"]) or had["state"] == "waiting"
    if newer or "applied" not in cursor.database.guards:
        cursor["applied"][place] = {n: row.get(n) for n in ("local_key", "epoch", "version", "base", "state", "inserted", "parent", "body")}


@statement("INSERT INTO lienthong.applied AS a (entity, record, local_key, epoch, version, base, state, inserted, parent, body)")
def _put_applied(cursor: MemoryCursor, arguments: Any) -> Answer:
    for row in orjson.loads(arguments[0]):
        body = row["body"]
        _upsert_applied(cursor, row | {"body": None if body is None else bytes.fromhex(body)})
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


@statement("INSERT INTO lienthong.counter AS c VALUES (%s, %s, %s)")
def _count(cursor: MemoryCursor, arguments: Any) -> Answer:
    entity, what, n = arguments
    cursor["counter"][entity, what] = cursor["counter"].get((entity, what), 0) + n
    return 1


@statement("SELECT next FROM lienthong.consumer_offset WHERE topic = %s AND partition = %s")
def _stored(cursor: MemoryCursor, arguments: Any) -> Answer:
    following = cursor["consumer_offset"].get(tuple(arguments))
    return [] if following is None else [(following,)]


# ------------------------------------------------------------------ in the place of the real ones
SYSTEMS: dict[str, Database] = {}
"""The databases in memory by their dsn; one that is not here is real."""


def _either(memory: Callable[..., Any], real: Callable[..., Any]) -> Callable[..., Any]:
    def chosen(self: Any, cursor: Any, *arguments: Any, **named: Any) -> Any:
        return (memory if isinstance(cursor, MemoryCursor) else real)(self, cursor, *arguments, **named)

    return chosen


def _opened(dsn: str, real: Callable[[], Any]) -> Any:
    return MemoryConnection(SYSTEMS[dsn]) if dsn in SYSTEMS else real()


def _connecting(real: Callable[..., Any]) -> Callable[..., Any]:
    return lambda dsn, **named: _opened(dsn, lambda: real(dsn, **named))


def _opening(real: Callable[..., Any]) -> Callable[..., Any]:
    return lambda settings, system, role: _opened(settings.systems[system].dsn, lambda: real(settings, system, role))


_bound: dict[str, SourceReadings] = {}


def _readings(cursor: Any, system: str, profile: Profile, *more: Any) -> SourceReadings:
    """The readings of a profile, bound once: tables in memory keep their columns."""
    if not isinstance(cursor, MemoryCursor):
        return SourceReadings(cursor, system, profile, *more)
    place = f"{system} {profile.model_dump_json()}"
    if place not in _bound:
        _bound[place] = SourceReadings(cursor, system, profile, *more)
    return _bound[place]


def _patches() -> Iterator[Any]:
    for module in (line, load):
        yield patch.object(module, "open_source", _opening(line.open_source))
        yield patch.object(module, "SourceReadings", _readings)
    for module in (apply_target, load, route):
        yield patch.object(module, "connect", _connecting(postgres.connect))
    yield patch.object(in_doubt, "Ends", lambda _: Topics.now)
    for module in (line, outbox, wal, state, route, load):
        yield patch.object(module, "time", CLOCK)
    for module in (reading, wal):
        yield patch.object(module, "is_bytes", lambda cursor: not isinstance(cursor, MemoryCursor) and postgres.is_bytes(cursor))
    yield patch.object(sql.Identifier, "as_string", _either(lambda self, _: ".".join(f'"{s}"' for s in self.strings), sql.Identifier.as_string))
    yield patch.object(sql.Literal, "as_string", _either(lambda self, _: repr(self.wrapped), sql.Literal.as_string))
    real_default = apply_table._default
    yield patch.object(apply_table, "_default", lambda c, *names: "nextval('key')" if isinstance(c, MemoryCursor) else real_default(c, *names))
    yield patch.object(EntityReading, "_run", _either(_run, EntityReading._run))
    writing = {"documents": _documents, "insert": _insert, "update": _update, "delete": _delete, "remember": _remember}
    yield patch.multiple(TargetEntity, **{name: _either(memory, getattr(TargetEntity, name)) for name, memory in writing.items()})


@contextmanager
def in_memory() -> Iterator[None]:
    """While it lasts, what `SYSTEMS` names is in memory, readings and targets run on it, and the clock is ours."""
    with ExitStack() as stack:
        for one in _patches():
            stack.enter_context(one)
        yield
    SYSTEMS.clear()
