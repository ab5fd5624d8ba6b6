"""Tables in memory behind the product's own cursor calls: transactions, savepoints, and a crash at any statement.

A statement is known by a part of its text; each has the contract of the real one, and one that nobody knows is an error. What is
decided in SQL stands in `*_tables` and `*_statements`, held to real PostgreSQL by `test_store_contract`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import count
from typing import Any

Rows = list[tuple[Any, ...]]
Answer = Rows | int | None
Handler = Callable[["MemoryCursor", Any], Answer]
"""Takes the arguments; answers the rows found, or how many were written."""

_statements: list[tuple[str, Handler]] = []
_space = re.compile(r"\s+")


class Crash(Exception):
    """The process is gone in the middle of something."""


class UnknownStatement(Exception):
    """The product has learnt a statement that the simulation does not know."""


class Fuse:
    """Ends the process at the n-th operation from now; None never does."""

    def __init__(self) -> None:
        self.left: int | None = None

    def burn(self) -> None:
        """One operation."""
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                self.left = None
                raise Crash


class Database:
    """Named tables, each a dictionary of rows that are replaced, never changed in place."""

    def __init__(self, *tables: str, fuse: Fuse) -> None:
        self.tables: dict[str, dict[Any, Any]] = {name: {} for name in tables}
        self.serial, self.record_ids = count(1), count(1)  # as in PostgreSQL, numbers drawn by a transaction that fails are gone
        self.fuse = fuse
        self.guards = {"contribution", "applied", "offset", "difference"}  # rules inside statements that a test may switch off

    def copy(self) -> dict[str, dict[Any, Any]]:
        """The tables as they are."""
        return {name: table.copy() for name, table in self.tables.items()}

    def put_back(self, tables: dict[str, dict[Any, Any]]) -> None:
        """The tables as they were; cursors keep their hold on them."""
        for name, table in self.tables.items():
            table.clear()
            table.update(tables[name])

    def __getitem__(self, table: str) -> dict[Any, Any]:
        return self.tables[table]


class MemoryConnection:
    """What the product uses of a driver's connection."""

    closed = 0

    def __init__(self, database: Database) -> None:
        self.database = database
        self._before: dict[str, dict[Any, Any]] | None = None

    def cursor(self) -> MemoryCursor:
        """A cursor, in a transaction."""
        if self._before is None:
            self.begin()
        return MemoryCursor(self)

    def begin(self) -> None:
        """From here on everything can be rolled back."""
        self._before = self.database.copy()

    def commit(self) -> None:
        """All of it; a crash may come just before and just after."""
        self.database.fuse.burn()
        self._before = None
        self.database.fuse.burn()

    def rollback(self) -> None:
        """Nothing of it."""
        if self._before is not None:
            self.database.put_back(self._before)
            self._before = None

    def close(self) -> None:
        """Nothing is held."""


class MemoryCursor:
    """What the product uses of a driver's cursor."""

    def __init__(self, connection: MemoryConnection) -> None:
        self.connection = connection
        self.database = connection.database
        self.rowcount = -1
        self._found: Rows = []
        self._savepoints: list[dict[str, dict[Any, Any]]] = []

    def __enter__(self) -> MemoryCursor:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def __getitem__(self, table: str) -> dict[Any, Any]:
        return self.database.tables[table]

    def execute(self, statement: str, arguments: Any = None) -> None:
        """Run one statement that is known."""
        self.database.fuse.burn()
        answer = handler_of(statement)(self, arguments)
        self._found = answer if isinstance(answer, list) else []
        self.rowcount = len(answer) if isinstance(answer, list) else (answer or 0)

    def fetchall(self) -> Rows:
        """The rows found."""
        found, self._found = self._found, []
        return found

    def fetchone(self) -> tuple[Any, ...] | None:
        """The first of them."""
        return self._found.pop(0) if self._found else None

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return iter(self.fetchall())


def statement(text: str) -> Callable[[Handler], Handler]:
    """Say that a function answers the statements that contain this text."""

    def known(handler: Handler) -> Handler:
        _statements.append((_space.sub(" ", text).strip(), handler))
        return handler

    return known


@lru_cache(maxsize=4096)
def handler_of(text: str) -> Handler:
    """Who answers a statement: the one that knows the longest part of it."""
    flat = _space.sub(" ", text).strip()
    found = [(len(part), handler) for part, handler in _statements if part in flat]
    if not found:
        raise UnknownStatement(f"no table in memory knows this statement; write its contract in tests/simulation and add it to its suite:\n{flat}")
    return max(found, key=lambda one: one[0])[1]


def columns(arguments: Sequence[Sequence[Any]]) -> Iterator[tuple[Any, ...]]:
    """Rows of array arguments, as `unnest` makes them."""
    return zip(*arguments, strict=True)


@statement("SAVEPOINT part")
def _savepoint(cursor: MemoryCursor, _: Any) -> Answer:
    cursor._savepoints.append(cursor.database.copy())
    return None


@statement("RELEASE SAVEPOINT part")
def _release_savepoint(cursor: MemoryCursor, _: Any) -> Answer:
    cursor._savepoints.pop()
    return None


@statement("ROLLBACK TO SAVEPOINT part; RELEASE SAVEPOINT part")
def _rollback_to(cursor: MemoryCursor, _: Any) -> Answer:
    cursor.database.put_back(cursor._savepoints.pop())
    return None


@statement("SELECT pg_advisory_xact_lock")
@statement("SET ")
def _setting(_cursor: MemoryCursor, _: Any) -> Answer:
    return None
