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
from tests.simulation.database import Database, Fuse, MemoryConnection, MemoryCursor
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
        upsert_applied(cursor, row | {"base": base, "body": None})


def upsert_applied(cursor: MemoryCursor, row: Row) -> None:
    place = (row["entity"], row["record"])
    had = cursor["applied"].get(place)
    newer = had is None or (had["epoch"], had["version"]) < (row["epoch"], row["version"]) or had["state"] == "waiting"
    if newer or "applied" not in cursor.database.guards:
        cursor["applied"][place] = {n: row.get(n) for n in ("local_key", "epoch", "version", "base", "state", "inserted", "parent", "body")}


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
