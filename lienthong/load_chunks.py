"""The key ranges of a load as the hub remembers them: planned, taken by whoever reads one, done once published. SQL only, no decisions.

Two may be at the same range, a task and its second try for example. Taking it draws a ticket; only the newest ticket counts, so whoever has an
older one publishes nothing any more. A new plan ends all tickets of the one before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from connectors.postgres import Cursor, one, rows
from lienthong.errors import FencedError

_COLUMNS = "entity, number, low, high, rows, plan"


@dataclass(frozen=True, slots=True)
class Chunk:
    """A key range: low < key <= high; None is open. `plan` 0: nothing of it is remembered."""

    entity: str
    number: int
    low: tuple[str, ...] | None
    high: tuple[str, ...] | None
    rows: int
    plan: int = 0


@dataclass(frozen=True, slots=True)
class RangeSize:
    """How many rows a key range has (default 10,000): more, where an entity would have too many ranges."""

    rows: int | None = None
    ranges_max: int | None = None


EACH = RangeSize()


def forget(cursor: Cursor, system: str, entities: Sequence[str]) -> None:
    """A load that begins anew owes nothing to an earlier one, whenever it is interrupted."""
    cursor.execute("DELETE FROM hub.load_chunk WHERE system = %s AND entity = ANY(%s)", [system, list(entities)])


def remember(cursor: Cursor, system: str, epoch: int, chunks: Sequence[Chunk], *, is_part: bool) -> list[Chunk]:
    """Replace what is planned of an entity; the ranges with their plan's number. `is_part`: they are not the whole entity."""
    forget(cursor, system, list({chunk.entity for chunk in chunks}))
    found = one(cursor, "SELECT nextval('hub.load_plan')")
    assert found is not None
    planned = [replace(chunk, plan=int(found[0])) for chunk in chunks]
    for c in planned:
        low, high = (None if edge is None else list(edge) for edge in (c.low, c.high))
        cursor.execute(
            "INSERT INTO hub.load_chunk (system, entity, number, low, high, rows, plan, epoch, is_part) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)",
            [system, c.entity, c.number, low, high, c.rows, c.plan, epoch, is_part],
        )
    return planned


def planned(cursor: Cursor, system: str, entity: str, epoch: int) -> list[Chunk]:
    """The ranges of the whole entity that were planned in this epoch, if any."""
    statement = f"SELECT {_COLUMNS} FROM hub.load_chunk WHERE system = %s AND entity = %s AND epoch = %s AND NOT is_part ORDER BY number"  # noqa: S608
    return [_chunk(row) for row in rows(cursor, statement, [system, entity, epoch])]


def find(cursor: Cursor, system: str, entity: str, number: int, plan: int) -> Chunk:
    """A range by its place in a plan; raises `FencedError` when it is planned anew since."""
    statement = f"SELECT {_COLUMNS} FROM hub.load_chunk WHERE system = %s AND entity = %s AND number = %s AND plan = %s"  # noqa: S608
    found = one(cursor, statement, [system, entity, number, plan])
    if found is None:
        raise _planned_anew(system, entity)
    return _chunk(found)


def open_ones(cursor: Cursor, system: str, epoch: int) -> dict[str, int]:
    """How many ranges of whole entities of this epoch are not done, by entity; entities that are done stand there with 0."""
    statement = """SELECT entity, count(*) FILTER (WHERE done_at IS NULL) FROM hub.load_chunk
                   WHERE system = %s AND epoch = %s AND NOT is_part GROUP BY entity"""
    return dict(rows(cursor, statement, [system, epoch]))


def is_done(cursor: Cursor, system: str, chunk: Chunk) -> bool:
    """Whether a range was read and published."""
    statement = "SELECT done_at IS NOT NULL FROM hub.load_chunk WHERE system = %s AND entity = %s AND number = %s"
    found = one(cursor, statement, [system, chunk.entity, chunk.number])
    return bool(found and found[0])


def take(cursor: Cursor, system: str, chunk: Chunk) -> int:
    """Draw the ticket with which a range is read; whoever had one loses it. Raises `FencedError` when the range is planned anew since."""
    statement = """UPDATE hub.load_chunk SET ticket = ticket + 1, done_at = NULL
                   WHERE system = %s AND entity = %s AND number = %s AND plan = %s RETURNING ticket"""
    found = one(cursor, statement, [system, chunk.entity, chunk.number, chunk.plan])
    if found is None:
        raise _planned_anew(system, chunk.entity)
    return int(found[0])


def check(cursor: Cursor, system: str, chunk: Chunk, ticket: int) -> None:
    """Raise `FencedError` when the range is somebody else's by now."""
    statement = "SELECT 1 FROM hub.load_chunk WHERE system = %s AND entity = %s AND number = %s AND plan = %s AND ticket = %s"
    if one(cursor, statement, [system, chunk.entity, chunk.number, chunk.plan, ticket]) is None:
        raise _taken(system, chunk)


def done(cursor: Cursor, system: str, chunk: Chunk, ticket: int, epoch: int) -> None:
    """What was read of a range in this epoch is published; raises `FencedError` when the range is somebody else's by now."""
    statement = """UPDATE hub.load_chunk SET done_at = clock_timestamp()
                   WHERE system = %s AND entity = %s AND number = %s AND plan = %s AND ticket = %s AND epoch = %s"""
    cursor.execute(statement, [system, chunk.entity, chunk.number, chunk.plan, ticket, epoch])
    if cursor.rowcount != 1:
        raise _taken(system, chunk)


def _chunk(row: Sequence[object]) -> Chunk:
    entity, number, low, high, count, plan = row
    return Chunk(entity, number, low and tuple(low), high and tuple(high), count, plan)  # type: ignore[arg-type]


def _planned_anew(system: str, entity: str) -> FencedError:
    return FencedError(f"{system} {entity}: another load of it has begun since; this one ends, and what it has sent does no harm")


def _taken(system: str, chunk: Chunk) -> FencedError:
    return FencedError(f"{system} {chunk.entity}, range {chunk.number}: somebody else reads it now; this one ends, and what it has sent does no harm")
