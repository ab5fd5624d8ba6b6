"""The pgoutput protocol, version 1, as values: which rows of which tables a committed transaction touched.

Source: PostgreSQL manual, "Logical Replication Message Formats". Column values are only parsed for the columns asked for.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

_BEGIN = struct.Struct(">qqI")
_COMMIT = struct.Struct(">bqqq")
_U32 = struct.Struct(">I")
_U16 = struct.Struct(">H")

# 2000-01-01 in microseconds since 1970: PostgreSQL's own epoch.
_PG_EPOCH_MICROS = 946_684_800_000_000

Values = dict[str, "str | None"]
T = TypeVar("T", bound="Transaction")


@dataclass(frozen=True, slots=True)
class Relation:
    """A table as announced in the stream."""

    name: str
    columns: tuple[str, ...]


class Transaction(Protocol):
    """What the reader of the stream collects of one committed transaction, so that nothing else of it is kept in memory."""

    def change(self, table: str, op: str, new: Values | None, old: Values | None) -> None:
        """One row changed: the wanted columns of its new and old image (absent = not sent)."""

    def truncate(self, table: str) -> None:
        """A table was emptied."""

    def end(self, position: int) -> None:
        """The transaction is complete; `position` is the end of its commit."""


class Decoder(Generic[T]):
    """Feeds the messages of a stream into transactions made by `begin(xid, commit time in µs)`, keeping only the wanted columns."""

    def __init__(self, wanted: dict[str, tuple[str, ...]], begin: Callable[[int, int], T]) -> None:
        self._wanted = wanted
        self._begin = begin
        self._relations: dict[int, tuple[Relation, tuple[bool, ...]]] = {}
        self._open: T | None = None

    @property
    def inside(self) -> bool:
        """Whether a transaction has begun and not ended."""
        return self._open is not None

    def feed(self, payload: bytes) -> T | None:
        """Take one message; returns the transaction that it completes."""
        kind = payload[0]
        if kind in b"IUD" and self._open is not None:
            self._change(chr(kind), payload)
        elif kind == 66:  # B
            _, commit_time, xid = _BEGIN.unpack_from(payload, 1)
            self._open = self._begin(xid, commit_time + _PG_EPOCH_MICROS)
        elif kind == 67 and self._open is not None:  # C
            done, self._open = self._open, None
            done.end(_COMMIT.unpack_from(payload, 1)[2])
            return done
        elif kind == 82:  # R
            self._relation(payload)
        elif kind == 84 and self._open is not None:  # T
            count = _U32.unpack_from(payload, 1)[0]
            for index in range(count):
                oid = _U32.unpack_from(payload, 6 + 4 * index)[0]
                self._open.truncate(self._relations[oid][0].name)
        return None

    def _relation(self, payload: bytes) -> None:
        oid = _U32.unpack_from(payload, 1)[0]
        namespace, at = _cstring(payload, 5)
        name, at = _cstring(payload, at)
        count = _U16.unpack_from(payload, at + 1)[0]
        at += 3
        columns = []
        for _ in range(count):
            column, after = _cstring(payload, at + 1)
            columns.append(column)
            at = after + 8
        full = f"{namespace}.{name}"
        wanted = set(self._wanted.get(full, ()))
        self._relations[oid] = (Relation(full, tuple(columns)), tuple(column in wanted for column in columns))

    def _change(self, op: str, payload: bytes) -> None:
        assert self._open is not None
        relation, wanted = self._relations[_U32.unpack_from(payload, 1)[0]]
        at = 5
        new: Values | None = None
        old: Values | None = None
        while at < len(payload):
            marker = payload[at]
            values, at = _tuple(payload, at + 1, relation.columns, wanted)
            if marker == 78:  # N
                new = values
            else:  # K or O
                old = values
        self._open.change(relation.name, op, new, old)


def _cstring(payload: bytes, at: int) -> tuple[str, int]:
    end = payload.index(0, at)
    return payload[at:end].decode(), end + 1


def _tuple(payload: bytes, at: int, columns: tuple[str, ...], wanted: tuple[bool, ...]) -> tuple[Values, int]:
    count = _U16.unpack_from(payload, at)[0]
    at += 2
    values: Values = {}
    for index in range(count):
        kind = payload[at]
        at += 1
        if kind == 116:  # t
            length = _U32.unpack_from(payload, at)[0]
            at += 4
            if wanted[index]:
                values[columns[index]] = payload[at : at + length].decode("utf-8", "surrogateescape")
            at += length
        elif kind == 110 and wanted[index]:  # n
            values[columns[index]] = None
    return values, at
