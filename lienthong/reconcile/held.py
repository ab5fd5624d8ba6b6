"""What a system holds: digests of its rows made in its own database, and single rows read through the profile's mapping."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from connectors.postgres import Cursor, DataRefused, rows, sql, streamed
from lienthong.breaker import Breaker
from lienthong.frames import names_of
from lienthong.hub_statements import array
from lienthong.keys import is_former, join_key, split_key
from lienthong.mapping import Refusal
from lienthong.reading import EDITED, HEAD, EntityReading, shown
from lienthong.settings import Profile, Stop
from lienthong.vault import Vault

BUCKETS = 1 << 14
"""A million keys make 61 in a bucket: a hundred differences then cost 6,100 keys, and the sums of all buckets half a megabyte."""

_APPLIED = """
SELECT local_key, record, epoch, version, state, inserted, base::text FROM lienthong.applied
WHERE entity = %s AND (local_key = ANY(%s::text[]) OR record = ANY(%s::bigint[]))
"""
_KNOWN = """
SELECT local_key, record FROM lienthong.applied WHERE entity = %s AND (local_key = ANY(%s::text[]) OR record = ANY(%s::bigint[]))
"""
# Found by its key for each row: a join would read all that was ever applied for each slice.
_JOIN = """{} LEFT JOIN LATERAL (
  SELECT * FROM lienthong.applied x WHERE x.entity = {} AND x.local_key = {} AND x.state = 'applied' OFFSET 0
) a ON true
LEFT JOIN LATERAL (SELECT {} AS doc OFFSET 0) now ON a.base IS NOT NULL"""
_WRITTEN = "CASE WHEN a.base IS NOT NULL THEN '{}'::text[] END"  # in place of which fields were edited


@dataclass(slots=True)
class Held:
    """One row as it stands: its unified values, or why it has none; `local` is the digest of the row as stored."""

    key: str
    parent: str | None
    gone: bool
    edited: frozenset[str] | None  # fields that differ from our last write; None: we never wrote to it
    values: dict[str, Any] | Refusal
    local: int
    bucket: int


@dataclass(slots=True)
class Applied:
    """What the applier remembers of a record here."""

    key: str | None
    record: int
    version: tuple[int, int]
    state: str
    inserted: bool
    base: dict[str, Any] | None


class Holding(EntityReading):
    """One entity of one system, read to be compared."""

    def __init__(self, cursor: Cursor, profile: Profile, entity: str, *, has_applied: bool) -> None:
        super().__init__(cursor, profile, entity, vault=Vault(None), has_applied=has_applied, breaker=Breaker("", Stop()))
        self._remembers = has_applied
        self.is_whole = self.layout.mapping.each is None  # elements of a JSON document have no row of their own to make a digest of
        layout = self.layout
        self._table = sql.SQL("FROM {} WHERE {}").format(layout.source, layout.constants).as_string(cursor).replace("%", "%%")
        self._key = layout.local_key.as_string(cursor).replace("%", "%%")
        self._bucket = f"(hashtextextended({self._key}, 0) & {BUCKETS - 1})::int"
        self._digest = self._local_digest(cursor).replace("%", "%%")
        selected = self._select.replace("%", "%%")
        made = f"{self._digest}, {self._bucket}" if self.is_whole else "0, 0"
        self._select_held = selected.replace("SELECT ", f"SELECT {made}, ", 1)
        self._select_plain = ""

    @property
    def _applied_join(self) -> str:
        return _JOIN

    def _local_digest(self, cursor: Cursor) -> str:
        """The row as stored: the text of every column that the mapping reads, before any reading of it."""
        layout = self.layout
        columns = [str(spec.column) for spec in layout.mapping.fields.values() if spec.column is not None] if self.is_whole else []
        columns += [layout.mapping.deleted.column] if layout.mapping.deleted is not None else []
        columns += layout.mapping.parent.columns if layout.mapping.parent is not None else ()
        refs = [layout.local_key, *(sql.SQL("{}::text").format(layout.ref(column)) for column in dict.fromkeys(columns))]
        return sql.SQL("hashtextextended(ROW({})::text, 0)").format(sql.SQL(", ").join(refs)).as_string(cursor)

    # ------------------------------------------------------------ digests
    def sums(self, cursor: Cursor) -> dict[int, tuple[int, int]]:
        """Bucket -> number of rows and sum of their digests."""
        statement = f"SELECT {self._bucket}, count(*), sum({self._digest}) {self._table} GROUP BY 1"  # noqa: S608
        return {bucket: (count, int(total)) for bucket, count, total in rows(cursor, statement, [])}

    def listed(self, cursor: Cursor, buckets: Collection[int]) -> Iterator[tuple[str, int]]:
        """Key and digest of each row in some buckets."""
        statement = f"SELECT {self._key}, {self._digest} {self._table} AND {self._bucket} = ANY(%(buckets)s)"  # noqa: S608
        return streamed(cursor, statement, {"buckets": list(buckets)})

    def count(self, cursor: Cursor) -> int:
        """How many records there are."""
        return int(rows(cursor, f"SELECT count(*) {self._table}", {})[0][0])  # noqa: S608

    def every_key(self, cursor: Cursor) -> Iterator[str]:
        """The local keys of all records, where rows have no digest of their own."""
        return (key for (key,) in streamed(cursor, f"SELECT {self._key} {self._table}", {}))  # noqa: S608

    # ------------------------------------------------------------ rows
    def held(self, cursor: Cursor, keys: Iterable[str]) -> dict[str, Held]:
        """The rows under some local keys, all in one look."""
        return {one.key: one for one in self._rows(cursor, self._roots(keys))}

    def expect(self, *, is_captured: bool, withheld: Collection[str]) -> None:
        """What `plain` is to look at: of a system that is captured, which fields were edited; of rows, whether we ever wrote a field withheld now."""
        names = f"'{{{','.join(sorted(withheld))}}}'::text[]"
        given = f"coalesce(a.base ?| {names}, false)" if self.has_applied and withheld else "false"
        selected = self._select_held if is_captured else self._select_held.replace(EDITED, _WRITTEN)
        self._select_plain = selected.replace("SELECT ", f"SELECT {given}, ", 1)

    def plain(self, cursor: Cursor, keys: Iterable[str]) -> list[tuple[Held, Applied | None]]:
        """The rows under some local keys, each with what was applied to it, but for its base; without those that want a closer look.

        Of a system that is not captured `edited` tells only whether we ever wrote to the row.
        """
        roots = self._roots(keys)
        if not roots:
            return []
        try:
            found = self._guarded(cursor, self._select_plain + self._by_keys, [array(column, "text") for column in zip(*roots, strict=True)])
        except DataRefused:
            return []
        return [(self._one(row[1], row[2], row[3:]), _applied_of(row)) for row in found if not row[0]]

    def _roots(self, keys: Iterable[str]) -> list[tuple[str, ...]]:
        count = len(self.layout.mapping.key)
        return [split_key(root, count) for root in sorted({self.root_of(key) for key in keys if not is_former(key)})]

    def root_of(self, key: str) -> str:
        """The key of the row a record is in: an element of a JSON document is in its root's."""
        return key if self.is_whole else key.rpartition("|")[0]

    def _rows(self, cursor: Cursor, keys: Sequence[tuple[str, ...]]) -> Iterator[Held]:
        """What the database itself cannot give out is found by halving."""
        if not keys:
            return
        try:
            found = self._guarded(cursor, self._select_held + self._by_keys, [array(column, "text") for column in zip(*keys, strict=True)])
        except DataRefused:
            if len(keys) == 1:
                yield Held(join_key(keys[0]), None, False, None, Refusal("", "unreadable", "the database cannot give this row out"), 0, 0)
                return
            yield from self._rows(cursor, keys[: len(keys) // 2])
            yield from self._rows(cursor, keys[len(keys) // 2 :])
            return
        yield from (self._one(row[0], row[1], row[2:]) for row in reversed(found))  # of a row that is there twice the first counts

    def _one(self, local: int, bucket: int, row: Sequence[Any]) -> Held:
        key, parent, gone, _, _, edited, _ = row[:HEAD]
        if self._as_bytes and (unfit := self._unfit_text(row)) is not None:
            return Held(shown(key), parent, bool(gone), None, unfit, local, bucket)
        values = {} if gone else self.mapper.read(row[HEAD:], complete=edited is None)
        if edited is None or isinstance(values, Refusal) or gone:
            return Held(key, parent, bool(gone), None, values, local, bucket)
        return Held(key, parent, False, frozenset(names_of(self.entity, self._edited(edited, values))), values, local, bucket)

    # ------------------------------------------------------------ what the applier remembers
    def known_to(self, cursor: Cursor, keys: Sequence[str], records: Sequence[int]) -> tuple[set[str], set[int]]:
        """Which of some local keys and records the applier remembers, in whatever state."""
        if not self._remembers or not (keys or records):
            return set(), set()
        found = rows(cursor, _KNOWN, [self.entity, array(keys, "text"), array(records, "bigint")])
        return {key for key, _ in found}, {record for _, record in found}

    def applied(self, cursor: Cursor, keys: Sequence[str], records: Sequence[int]) -> list[Applied]:
        """What was applied here under some local keys or records."""
        if not self._remembers:
            return []
        found = rows(cursor, _APPLIED, [self.entity, array(keys, "text"), array(records, "bigint")])
        return [
            Applied(key, record, (epoch, version), state, inserted, orjson.loads(base) if base else None)
            for key, record, epoch, version, state, inserted, base in found
        ]

    def parked(self, cursor: Cursor, records: Sequence[int]) -> set[int]:
        """Those of some records that this database has refused, until a person has looked."""
        if not self._remembers:
            return set()
        statement = "SELECT record FROM lienthong.parked WHERE state = 'parked' AND entity = %s AND record = ANY(%s)"
        return {record for (record,) in rows(cursor, statement, [self.entity, list(records)])}

    def parents(self, cursor: Cursor, records: Sequence[int]) -> dict[int, str]:
        """The local keys of dossiers that we wrote here."""
        if not self._remembers or not records:
            return {}
        statement = "SELECT record, local_key FROM lienthong.applied WHERE entity = 'dossier' AND state = 'applied' AND record = ANY(%s)"
        return dict(rows(cursor, statement, [list(records)]))


def _applied_of(row: Sequence[Any]) -> Applied | None:
    """What a row of `plain` tells of what was applied to it."""
    key, record, inserted, version = row[3], row[6], row[7], row[9]
    return None if record is None else Applied(key, record, (0, version), "applied", inserted, None)
