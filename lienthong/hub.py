"""The hub's tables as operations: offsets, contributions, identifiers, golden records, the change list. SQL only, no decisions."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

import orjson

from connectors.postgres import (
    Connection,
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
from lienthong.errors import ConfigError, FatalError, FencedError, TransientError

IDS_BLOCK = 1000
SCHEMA_FILES = ("hub.sql", "parked.sql")  # run in this order at every start

SMALL_ROWS = 400  # up to here rows travel as arrays: using a temporary table costs its truncation at every commit (15% of a live batch)

# Every statement of ours reaches its rows by key, however small the tables still are.
KEYED = (
    "SET enable_hashjoin = off; SET enable_mergejoin = off; SET enable_seqscan = off; SET max_parallel_workers_per_gather = 0; SET jit = off; "
    "SET work_mem = '32MB'"
)

_SHAPES: dict[str, dict[str, str]] = {
    "b_key": {"n": "int", "system": "text", "entity": "text", "local_key": "text"},
    "b_claim": {"claim": "text", "record": "bigint"},
    "b_lock": {"record": "bigint", "whole": "boolean"},
    "b_contribution": {
        "system": "text", "entity": "text", "local_key": "text", "record": "bigint", "epoch": "bigint", "version": "bigint", "op": '"char"',
        "delivered": "boolean", "mask": "bigint", "body": "json", "claim": "text", "parent_key": "text", "at": "bigint",
        "seen": "bigint",
    },
    "b_sole": {
        "place": "tid", "system": "text", "entity": "text", "record": "bigint", "epoch": "bigint", "version": "bigint", "delivered": "boolean",
        "mask": "bigint", "at": "bigint", "golden": "jsonb",
    },
    "b_entitled": {"system": "text", "record": "bigint", "entity": "text", "version": "bigint", "hash": "bytea", "state": '"char"'},
    "b_record": {
        "record": "bigint", "entity": "text", "parent": "bigint", "deleted": "boolean", "sole": "text", "version": "bigint", "body": "jsonb",
        "who": "jsonb",
    },
}
CONTRIBUTION = (
    "system", "entity", "local_key", "record", "epoch", "version", "op", "delivered", "mask", "body", "claim", "parent_key", "at", "seen",
)
RECORD = ("record", "entity", "parent", "deleted", "sole", "version", "body", "who")
_EXISTING = """
SELECT k.n, c.record, c.epoch, c.version, c.op::text, c.mask, c.claim, c.delivered, c.seen, c.parent_key, c.body IS NULL, c.ctid::text
FROM {given} k JOIN hub.contribution c ON (c.system, c.entity, c.local_key) = (k.system, k.entity, k.local_key)
"""
_UPDATE_CONTRIBUTIONS = f"""
UPDATE hub.contribution c SET {", ".join(f"{name} = b.{name}" for name in CONTRIBUTION[3:])} FROM {{given}} b
WHERE (c.system, c.entity, c.local_key) = (b.system, b.entity, b.local_key) AND (c.epoch, c.version) < (b.epoch, b.version)
"""  # noqa: S608 - column names of our own
_PROMISE = f"""
INSERT INTO hub.contribution AS c ({", ".join(CONTRIBUTION)})
SELECT {", ".join(CONTRIBUTION)} FROM {{given}} b ORDER BY system, entity, local_key ON CONFLICT (system, entity, local_key) DO NOTHING
"""  # noqa: S608 - column names of our own
_UPDATE_RECORDS = """
UPDATE hub.record r SET parent = b.parent, deleted = b.deleted, sole = b.sole, version = b.version, body = b.body, who = b.who, updated_at = now()
FROM {given} b WHERE r.record = b.record
"""
_LOCK = """
SELECT r.record, r.entity, r.parent, r.merged_into, r.deleted, r.sole, r.version, CASE WHEN b.whole THEN r.body::text END, r.who::text, b.whole
FROM {given} b JOIN hub.record r ON r.record = b.record ORDER BY r.record FOR UPDATE OF r
"""
_OF_RECORDS = """
SELECT c.record, c.system, c.version, c.op::text, c.delivered, CASE WHEN c.op = 's' THEN coalesce(c.body::text, r.body::text) END
FROM {given} b JOIN hub.contribution c ON c.record = b.record LEFT JOIN hub.record r ON r.record = c.record WHERE c.op <> 'p'
"""
_PART = """
UPDATE hub.contribution c SET body = r.body::text::json FROM {given} b JOIN hub.record r ON r.record = b.record
WHERE c.record = r.record AND c.body IS NULL AND c.op = 's'
"""
# The record first, then the rest from what was updated there: a record that others speak about meanwhile stays as it is.
_UPDATE_SOLE = """
WITH u AS (
  UPDATE hub.record r SET version = r.version + (r.deleted OR r.body IS DISTINCT FROM b.golden)::int, body = b.golden, deleted = false,
    updated_at = now()
  FROM {given} b WHERE r.record = b.record AND r.sole = b.system AND r.merged_into IS NULL
  RETURNING b.place, b.system, b.record, b.epoch, b.version AS reading, b.delivered, b.mask, b.at,
    old.version AS version, old.body AS before, old.version < new.version AS differs,
    b.entity = 'dossier' AND (old.body->'processing_agency_code', old.body->'processing_unit', old.body->'receiving_agency_code')
      IS DISTINCT FROM (new.body->'processing_agency_code', new.body->'processing_unit', new.body->'receiving_agency_code') AS rerouted
), c AS (
  UPDATE hub.contribution c SET epoch = u.epoch, version = u.reading, delivered = u.delivered, mask = u.mask, body = NULL, at = u.at
  FROM u WHERE c.ctid = u.place AND c.record = u.record AND (c.epoch, c.version) < (u.epoch, u.reading)
  RETURNING 1
), h AS (
  INSERT INTO hub.history (record, version, system, before) SELECT record, version, system, before FROM u WHERE differs
), l AS (
  INSERT INTO hub.changed (record, at) SELECT record, at FROM u WHERE differs
)
SELECT record, differs, rerouted, (SELECT count(*) FROM c) FROM u
"""
_UPSERT_RECORDS = """
INSERT INTO hub.record AS r (record, entity, parent, deleted, sole, version, body, who)
SELECT record, entity, parent, deleted, sole, version, body, who FROM {given} b ORDER BY record
ON CONFLICT (record) DO UPDATE SET parent = excluded.parent, deleted = excluded.deleted, sole = excluded.sole,
  version = excluded.version, body = excluded.body, who = excluded.who, updated_at = now()
"""


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
    whole: bool  # the golden record is its word as it stands
    place: str  # of the row: nobody else writes it as a rule, so it is found there again without a search


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


def install(dsn: str) -> None:
    """Create or complete the hub's schema."""
    connection = connect(dsn, application_name="lienthong install")
    try:
        with transaction(connection) as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(hashtext('lienthong.install'))")
            for name in SCHEMA_FILES:
                cursor.execute(files("lienthong").joinpath("sql", name).read_text("utf-8"))
    finally:
        connection.close()


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


# ------------------------------------------------------------------ the merge's statements
def with_rows(cursor: Cursor, statement: str, shape: str, given: Sequence[Sequence[Any]]) -> Cursor:
    """Run a statement over given rows: a few travel in it as arrays, many are copied into a temporary table."""
    columns = _SHAPES[shape]
    if len(given) <= SMALL_ROWS:
        arrays = ", ".join(f"%s::{kind}[]" for kind in columns.values())
        source = f"(SELECT * FROM unnest({arrays}) AS u({', '.join(columns)}))"  # noqa: S608 - names and types of our own
        cursor.execute(statement.format(given=source), [list(column) for column in zip(*given, strict=True)])
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
    found = with_rows(cursor, _EXISTING, "b_key", [(n, *key) for n, key in enumerate(keys)])
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


def lock(cursor: Cursor, records: Iterable[int], also: Iterable[int] = ()) -> dict[int, Row]:
    """Lock golden records in id order (B6) and read them; those of `also` are locked in the same order, but not read."""
    wanted = set(records)
    if not wanted:
        return {}
    out = {}
    for found in with_rows(cursor, _LOCK, "b_lock", [(record, record in wanted) for record in sorted(wanted.union(also))]).fetchall():
        record, entity, parent, merged_into, deleted, sole, version, body, who, whole = found
        if not whole:
            continue
        out[record] = Row(
            record, entity, parent, merged_into, deleted, sole, version,
            orjson.loads(body) if body else {}, orjson.loads(who) if who else None,
        )
    return out


def of_records(cursor: Cursor, records: Iterable[int]) -> list[tuple[Any, ...]]:
    """All contributions of some records (record, system, version, op, delivered, body), in a statement of its own.

    It sees what was committed before the lock was got.
    """
    wanted = [(record, True) for record in records]
    return with_rows(cursor, _OF_RECORDS, "b_lock", wanted).fetchall() if wanted else []


def part(cursor: Cursor, records: Iterable[int]) -> None:
    """Keep the words of sole contributors by themselves, before their golden record becomes something else."""
    wanted = [(record, True) for record in records]
    if wanted:
        with_rows(cursor, _PART, "b_lock", wanted)


def put_contributions(cursor: Cursor, contributions: Sequence[Sequence[Any]]) -> int:
    """Store contributions that the hub has, each only over an older one; returns how many were stored."""
    if not contributions:
        return 0
    return int(with_rows(cursor, _UPDATE_CONTRIBUTIONS, "b_contribution", contributions).rowcount)


def update_sole(cursor: Cursor, given: Sequence[Sequence[Any]]) -> tuple[list[tuple[int, bool, bool]], int]:
    """Store states of records that only their system speaks about, golden record and all.

    Returns (record, whether it differs, whether its roles do) and how many contributions were found in their place; a record that is
    missing in the answer is no longer of that kind and is untouched.
    """
    if not given:
        return [], 0
    found = with_rows(cursor, _UPDATE_SOLE, "b_sole", given).fetchall()
    return [row[:3] for row in found], found[0][3] if found else 0


def promise(cursor: Cursor, promised: Sequence[Sequence[Any]]) -> None:
    """Remember parents that have not arrived yet, so that they find their place."""
    if promised:
        with_rows(cursor, _PROMISE, "b_contribution", promised)


def add_contributions(cursor: Cursor, contributions: Sequence[Sequence[Any]]) -> None:
    """Store contributions of source records never seen before; only one process reads their partition, so nothing is there."""
    try:
        with errors_translated():
            copy_rows(cursor, "hub.contribution", CONTRIBUTION, contributions)
    except DataRefused as error:  # a delete that came by another partition: the batch is merged again and finds it
        raise TransientError(f"a contribution was stored meanwhile ({error.sqlstate})") from None


def add_records(cursor: Cursor, golden: Sequence[Sequence[Any]]) -> None:
    """Store golden records whose ids were drawn in this very transaction."""
    copy_rows(cursor, "hub.record", RECORD, golden)


def put_records(cursor: Cursor, golden: Sequence[Sequence[Any]]) -> None:
    """Store golden records that may be there or not."""
    if golden:
        with_rows(cursor, _UPSERT_RECORDS, "b_record", golden)


def update_records(cursor: Cursor, golden: Sequence[Sequence[Any]]) -> None:
    """Store golden records that this transaction has locked: cheaper than asking first whether they are there."""
    if golden:
        with_rows(cursor, _UPDATE_RECORDS, "b_record", golden)


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


def note_loaded(cursor: Cursor, done: Iterable[tuple[str, int]]) -> None:
    """A system's initial load has passed a partition: what it holds there is known."""
    for system, partition in sorted(done):
        cursor.execute("INSERT INTO hub.loaded VALUES (%s, %s) ON CONFLICT DO NOTHING", [system, partition])


def note_changed(cursor: Cursor, changed: Sequence[tuple[int, int, str | None, int]]) -> None:
    """Put (record, lane, resend to, commit time µs) on the router's list."""
    copy_rows(cursor, "hub.changed", ("record", "lane", "resend", "at"), changed)


def count(cursor: Cursor, counts: Mapping[tuple[str, str, str], int]) -> None:
    """Add to the counters, in key order."""
    if not counts:
        return
    values = sorted((s, e, o, n) for (s, e, o), n in counts.items())
    marks = ", ".join(["(%s, %s, %s, %s)"] * len(values))
    cursor.execute(
        f"INSERT INTO hub.counter AS c VALUES {marks} ON CONFLICT (system, entity, outcome) DO UPDATE SET n = c.n + excluded.n",  # noqa: S608
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
