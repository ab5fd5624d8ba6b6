"""The hub's tables as operations: offsets, contributions, identifiers, golden records, the change list. SQL only, no decisions."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import orjson

from connectors.postgres import (
    Connection,
    Contended,
    Cursor,
    DataRefused,
    LoginRefused,
    Unreachable,
    connect,
    copy_rows,
    errors_translated,
    one,
    rows,
    transaction,
)
from lienthong import hub_statements as statements
from lienthong.days import day_number
from lienthong.errors import ConfigError, FatalError, FencedError, TransientError
from lienthong.frames import Note

IDS_BLOCK = 1000

SMALL_ROWS = 400  # up to here rows travel as arrays: using a temporary table costs its truncation at every commit (15% of a live batch)

# Every statement of ours reaches its rows by key, however small the tables still are. A process that is frozen inside a transaction loses it
# after a minute, and with it the locks that its fellows wait for.
KEYED = (
    "SET idle_in_transaction_session_timeout = '60s'; "
    "SET enable_hashjoin = off; SET enable_mergejoin = off; SET enable_seqscan = off; SET max_parallel_workers_per_gather = 0; SET jit = off; "
    "SET work_mem = '32MB'"
)


@dataclass(slots=True)
class Known:
    """A contribution as the hub has it."""

    record: int
    epoch: int
    version: int
    op: str
    mask: int
    claim: str | None
    delivered: bool
    seen: int | None
    parent_key: str | None


@dataclass(slots=True)
class Row:
    """A golden record as the hub has it."""

    record: int
    entity: str
    parent: int | None
    merged_into: int | None
    deleted: bool
    sole: str | None
    version: int
    body: dict[str, Any]
    who: dict[str, str] | None


@dataclass(slots=True)
class Ids:
    """Record ids, drawn in blocks."""

    _left: list[int] = field(default_factory=list)

    def draw(self, cursor: Cursor) -> int:
        """One id nobody else has."""
        if not self._left:
            found = one(cursor, "SELECT nextval('hub.record_id')")
            assert found is not None
            start = (int(found[0]) - 1) * IDS_BLOCK + 1
            self._left = list(range(start + IDS_BLOCK - 1, start - 1, -1))
        return self._left.pop()


@contextmanager
def named() -> Iterator[None]:
    """Say of an error inside that it is the hub that does not answer, or is not there yet."""
    try:
        yield
    except (LoginRefused, Unreachable) as error:
        raise type(error)(f"the hub cannot be reached: {error}") from None
    except FatalError as error:
        if not str(error).startswith(("42P01", "3F000")):
            raise
        raise ConfigError("the hub is empty: it is set up by the first `lienthong run` or `lienthong load`") from None


def open_hub(dsn: str, role: str) -> Connection:
    """A connection with the working tables of the merge."""
    connection = connect(dsn, application_name=f"lienthong {role}")
    with transaction(connection) as cursor:
        cursor.execute(KEYED)
    return connection


def worker_name(role: str) -> str:
    """Who holds a lease: role, host and process."""
    return f"{role}@{socket.gethostname()}:{os.getpid()}"


# ------------------------------------------------------------------ offsets (compare-and-set, protocol §3.4, R6)
def stored_offset(connection: Connection, topic: str, partition: int) -> int | None:
    """The next offset to read, as committed with the data."""
    with transaction(connection) as cursor:
        found = one(cursor, "SELECT next FROM hub.consumer_offset WHERE topic = %s AND partition = %s", [topic, partition])
    return int(found[0]) if found else None


def move_offsets(cursor: Cursor, moves: Mapping[tuple[str, int], tuple[int | None, int]], table: str = "hub.consumer_offset") -> None:
    """Advance each partition from the expected to the new offset; raises `FencedError` when another process did."""
    for (topic, partition), (expected, following) in sorted(moves.items()):
        if expected is None:
            cursor.execute(
                f"INSERT INTO {table} (topic, partition, next) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING", [topic, partition, following]  # noqa: S608
            )
        else:
            cursor.execute(
                f"UPDATE {table} SET next = %s WHERE topic = %s AND partition = %s AND next = %s", [following, topic, partition, expected]  # noqa: S608
            )
        if cursor.rowcount != 1:
            raise FencedError(f"{topic}-{partition}: another process has moved on from offset {expected}")


# ------------------------------------------------------------------ joins beside other merges
class CrowdedError(TransientError):
    """Two records are to become one while other merges may be adding children to them: the batch is merged again, alone."""


def enter(cursor: Cursor, *, alone: bool) -> None:
    """Begin a merge beside others, or alone: then the others wait."""
    cursor.execute("SELECT pg_advisory_xact_lock(hashtext('lienthong.merge'))" if alone else
                   "SELECT pg_advisory_xact_lock_shared(hashtext('lienthong.merge'))")


def stay_alone(cursor: Cursor) -> None:
    """Let no other merge begin until this transaction ends; raises `CrowdedError` when one is under way."""
    found = one(cursor, "SELECT pg_try_advisory_xact_lock(hashtext('lienthong.merge'))")
    if not found or not found[0]:
        raise CrowdedError("another merge is under way beside the join of two records; it is done again, alone")


# ------------------------------------------------------------------ the merge's statements
def with_rows(cursor: Cursor, statement: str, shape: str, given: Sequence[Sequence[Any]]) -> Cursor:
    """Run a statement over given rows: a few travel in it as arrays, many are copied into a temporary table."""
    columns = statements.SHAPES[shape]
    if len(given) <= SMALL_ROWS:
        arrays = ", ".join(f"%s::{kind}[]" for kind in columns.values())
        source = f"(SELECT * FROM unnest({arrays}) AS u({', '.join(columns)}))"  # noqa: S608 - names and types of our own
        by_column = zip(columns.values(), zip(*given, strict=True), strict=True)
        cursor.execute(statement.format(given=source), [statements.array(column, kind) for kind, column in by_column])
        return cursor
    declared = ", ".join(f"{name} {kind}" for name, kind in columns.items())
    cursor.execute(f"CREATE TEMP TABLE IF NOT EXISTS {shape} ({declared}) ON COMMIT DELETE ROWS; DELETE FROM {shape}")  # noqa: S608
    copy_rows(cursor, shape, tuple(columns), given)
    cursor.execute(statement.format(given=shape))
    return cursor


def existing(cursor: Cursor, keys: Sequence[tuple[str, str, str]]) -> dict[tuple[str, str, str], Known]:
    """The contributions the hub has under these (system, entity, local key)."""
    if not keys:
        return {}
    found = with_rows(cursor, statements.EXISTING, "b_key", [(n, *key) for n, key in enumerate(keys)])
    return {keys[n]: Known(*rest) for n, *rest in found.fetchall()}


def bodies(cursor: Cursor, keys: Sequence[tuple[str, str, str]]) -> dict[tuple[str, str, str], dict[str, Any]]:
    """What the systems said in some contributions, by (system, entity, local key)."""
    if not keys:
        return {}
    found = rows(
        cursor,
        """SELECT c.system, c.entity, c.local_key, coalesce(c.body::text, r.body::text) FROM hub.contribution c
           JOIN unnest(%s::text[], %s::text[], %s::text[]) AS k(system, entity, local_key) USING (system, entity, local_key)
           LEFT JOIN hub.record r ON r.record = c.record WHERE c.op = 's'""",
        [list(column) for column in zip(*keys, strict=True)],
    )
    return {(system, entity, key): orjson.loads(body) for system, entity, key, body in found}


def claim(cursor: Cursor, wanted: Mapping[str, int]) -> dict[str, int]:
    """Claim identifiers for records, in one sorted statement (B7a); returns those that belong to another record, with it."""
    if not wanted:
        return {}
    pairs = list(wanted.items())
    with_rows(cursor, "INSERT INTO hub.identifier SELECT claim, record FROM {given} b ORDER BY claim ON CONFLICT DO NOTHING", "b_claim", pairs)
    if cursor.rowcount == len(wanted):
        return {}
    taken = "SELECT b.claim, i.record FROM {given} b JOIN hub.identifier i USING (claim) WHERE i.record <> b.record"
    return dict(with_rows(cursor, taken, "b_claim", pairs).fetchall())


def release(cursor: Cursor, given_up: Sequence[tuple[str, int, str, str, str]]) -> None:
    """Free identifiers that a source record (claim, record, system, entity, local key) no longer has and nobody else of its record claims."""
    if given_up:
        cursor.execute(
            """DELETE FROM hub.identifier i USING unnest(%s::text[], %s::bigint[], %s::text[], %s::text[], %s::text[])
                 AS g(claim, record, system, entity, local_key)
               WHERE i.claim = g.claim AND i.record = g.record AND NOT EXISTS (
                 SELECT 1 FROM hub.contribution c WHERE c.record = i.record AND c.claim = i.claim AND c.op = 's'
                 AND (c.system, c.entity, c.local_key) <> (g.system, g.entity, g.local_key))""",
            [list(column) for column in zip(*sorted(given_up), strict=True)],
        )


def lock(cursor: Cursor, records: Iterable[int]) -> dict[int, Row]:
    """Lock golden records in id order (B6) and read them.

    A record that one system alone speaks about may be held since the beginning of a merge (`update_sole`), out of that order: nobody
    waits for it. Raises `CrowdedError` where somebody holds one.
    """
    wanted = [(record,) for record in sorted(set(records))]
    if not wanted:
        return {}
    try:
        with errors_translated():
            with_rows(cursor, statements.LOCK_SOLE, "b_lock", wanted)
    except Contended:
        raise CrowdedError("another merge has stored a record meanwhile; the batch is merged again, alone") from None
    out = {}
    for found in with_rows(cursor, statements.LOCK, "b_lock", wanted).fetchall():
        record, entity, parent, merged_into, deleted, sole, version, body, who = found
        out[record] = Row(
            record, entity, parent, merged_into, deleted, sole, version,
            orjson.loads(body) if body else {}, orjson.loads(who) if who else None,
        )
    return out


def of_records(cursor: Cursor, records: Iterable[int]) -> list[tuple[Any, ...]]:
    """All contributions of some records (record, system, version, op, delivered, body), in a statement of its own.

    It sees what was committed before the lock was got.
    """
    wanted = [(record,) for record in records]
    return with_rows(cursor, statements.OF_RECORDS, "b_lock", wanted).fetchall() if wanted else []


def part(cursor: Cursor, records: Iterable[int]) -> None:
    """Keep the words of sole contributors by themselves, before their golden record becomes something else."""
    wanted = [(record,) for record in records]
    if wanted:
        with_rows(cursor, statements.PART, "b_lock", wanted)


def put_contributions(cursor: Cursor, contributions: Sequence[Sequence[Any]]) -> int:
    """Store contributions that the hub has, each only over an older one; returns how many were stored."""
    if not contributions:
        return 0
    return int(with_rows(cursor, statements.UPDATE_CONTRIBUTIONS, "b_contribution", contributions).rowcount)


def update_sole(cursor: Cursor, given: Sequence[Sequence[Any]]) -> list[tuple[int, int, bool, bool]]:
    """Store those of the states whose record only their system speaks about, golden record and all.

    Returns (number, record, whether it differs, whether its roles do) of what was stored; the rest is untouched.
    """
    if not given:
        return []
    found = with_rows(cursor, statements.UPDATE_SOLE, "b_sole", given).fetchall()
    if found and found[0][4] != len(found):
        raise TransientError("a newer contribution was stored meanwhile; the batch is merged again")
    return [row[:4] for row in found]


def promise(cursor: Cursor, promised: Sequence[Sequence[Any]]) -> None:
    """Remember parents that have not arrived yet, so that they find their place."""
    if promised:
        with_rows(cursor, statements.PROMISE, "b_contribution", promised)


def add_contributions(cursor: Cursor, contributions: Sequence[Sequence[Any]]) -> None:
    """Store contributions of source records never seen before; only one process reads their partition, so nothing is there."""
    try:
        with errors_translated():
            copy_rows(cursor, "hub.contribution", statements.CONTRIBUTION, contributions)
    except DataRefused as error:  # a delete that came by another partition: the batch is merged again and finds it
        raise TransientError(f"a contribution was stored meanwhile ({error.sqlstate})") from None


def add_records(cursor: Cursor, golden: Sequence[Sequence[Any]]) -> None:
    """Store golden records whose ids were drawn in this very transaction."""
    copy_rows(cursor, "hub.record", statements.RECORD, golden)


def put_records(cursor: Cursor, golden: Sequence[Sequence[Any]]) -> None:
    """Store golden records that may be there or not."""
    if golden:
        with_rows(cursor, statements.UPSERT_RECORDS, "b_record", golden)


def update_records(cursor: Cursor, golden: Sequence[Sequence[Any]]) -> None:
    """Store golden records that this transaction has locked: cheaper than asking first whether they are there."""
    if golden:
        with_rows(cursor, statements.UPDATE_RECORDS, "b_record", golden)


def put_history(cursor: Cursor, history: Sequence[Sequence[Any]]) -> None:
    """Keep what stood in golden records before."""
    if history:
        copy_rows(cursor, "hub.history", ("record", "version", "system", "before", "who"), history)


def put_corrections(
    cursor: Cursor, system: str, entity: str, record: int, version: int, asked: Iterable[tuple[str, Any, Any, str | None]]
) -> None:
    """Keep what a system that does not own a field wrote there: (field, asked, golden, owner)."""
    for name, value, golden, owner in asked:
        cursor.execute(
            """INSERT INTO hub.correction (system, entity, record, field, asked, golden, owner, version)
               VALUES (%s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING""",
            [system, entity, record, name, orjson.dumps(value).decode(), orjson.dumps(golden).decode(), owner, version],
        )


def routing_of(cursor: Cursor, records: Sequence[int]) -> dict[int, dict[str, Any]]:
    """The routing fields of some dossiers."""
    if not records:
        return {}
    found = rows(
        cursor,
        """SELECT record, body->>'processing_agency_code', body->>'processing_unit', body->>'receiving_agency_code'
           FROM hub.record WHERE record = ANY(%s)""",
        [list(records)],
    )
    return {
        record: {"processing_agency_code": agency, "processing_unit": unit, "receiving_agency_code": receiving}
        for record, agency, unit, receiving in found
    }


def note_loaded(cursor: Cursor, notes: Iterable[Note]) -> None:
    """A system's load has passed a partition: what it holds there in its epoch is known."""
    for system, partition, epoch in sorted({(n.header.system, int(n.content["partition"]), n.header.epoch) for n in notes}):
        cursor.execute(
            """INSERT INTO hub.loaded AS l (system, partition, epoch) VALUES (%s, %s, %s)
               ON CONFLICT (system, partition) DO UPDATE SET epoch = greatest(l.epoch, excluded.epoch)""",
            [system, partition, epoch],
        )


def note_changed(cursor: Cursor, changed: Sequence[tuple[int, int, str | None, int]]) -> None:
    """Put (record, lane, resend to, commit time µs) on the router's list."""
    copy_rows(cursor, "hub.changed", ("record", "lane", "resend", "at"), changed)


def count(
    cursor: Cursor, counts: Mapping[tuple[int, str, str, str], int], readings: Mapping[tuple[int, str, str], int] = MappingProxyType({})
) -> None:
    """Add what was counted at each (commit µs, system, entity, outcome) to the day's counters, in key order, with their newest readings."""
    if not counts:
        return
    days: dict[tuple[int, str, str, str], tuple[int, int]] = {}
    for (at, *names), n in counts.items():
        system, entity, outcome = names
        key = (day_number(at), system, entity, outcome)
        before, reading = days.get(key, (0, 0))
        days[key] = (before + n, max(reading, readings.get((at, system, entity), 0)) if outcome == "captured" else 0)
    values = sorted((*key, *sums) for key, sums in days.items())
    marks = ", ".join(["('1970-01-01'::date + %s, %s, %s, %s, %s, %s)"] * len(values))
    cursor.execute(
        f"""INSERT INTO hub.day_count AS c VALUES {marks} ON CONFLICT (day, system, entity, outcome)
            DO UPDATE SET n = c.n + excluded.n, reading = greatest(c.reading, excluded.reading)""",  # noqa: S608
        [item for value in values for item in value],
    )


def beat(cursor: Cursor, system: str, stage: str, part: int, through_micros: int, state: str = "running", reason: str | None = None) -> None:
    """Say where a line stands: everything committed up to `through` has passed this stage."""
    cursor.execute(
        """INSERT INTO hub.line AS l (system, stage, part, through, state, reason)
           VALUES (%s, %s, %s, TIMESTAMPTZ 'epoch' + %s * INTERVAL '1 microsecond', %s, %s)
           ON CONFLICT (system, stage, part) DO UPDATE SET
             through = greatest(l.through, excluded.through), beat = clock_timestamp(), state = excluded.state, reason = excluded.reason,
             since = CASE WHEN l.state = excluded.state THEN l.since ELSE clock_timestamp() END""",
        [system, stage, part, through_micros, state, reason],
    )
