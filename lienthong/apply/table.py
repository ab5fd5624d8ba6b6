"""Writing one entity of one target: set-based INSERT, UPDATE, DELETE over its root table and parts, in the target's own layout."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

import schemas
from connectors.postgres import Cursor, rows, sql
from lienthong.errors import ConfigError, RecordError
from lienthong.keys import join_key, split_key
from lienthong.layout import Column, Layout, identifier
from lienthong.mapping import Mapper
from lienthong.readers import Unreadable

Document = dict[str, Any]

_REMEMBER = """
INSERT INTO lienthong.applied AS a (entity, record, local_key, epoch, version, base, state, inserted, parent)
SELECT d.entity, d.record, d.local_key, d.epoch, d.version,
       n.doc - d.unwritten, 'applied', d.inserted, d.parent
FROM jsonb_to_recordset(%s) AS d(entity text, record bigint, local_key text, epoch bigint, version bigint, inserted boolean, parent bigint,
       unwritten text[], {keys})
JOIN LATERAL (SELECT {current} AS doc FROM {source} WHERE {match} LIMIT 1) n ON true
ORDER BY d.entity, d.record
ON CONFLICT (entity, record) DO UPDATE SET local_key = excluded.local_key, epoch = excluded.epoch, version = excluded.version,
  base = excluded.base, state = excluded.state, inserted = excluded.inserted, parent = excluded.parent, body = NULL
WHERE (a.epoch, a.version) < (excluded.epoch, excluded.version) OR a.state = 'waiting'
"""


@dataclass(slots=True)
class Write:
    """One record on its way into the target."""

    record: int
    parent: int | None
    version: tuple[int, int]
    values: Mapping[str, Any]
    held: frozenset[str]
    yields: frozenset[str]
    withheld: frozenset[str]
    local_key: str | None
    parent_key: str | None
    base: Document | None = None
    inserted: bool = False
    moved: bool = False  # its parent is another than at our last write, and where it belongs is not the target's own word
    erase: frozenset[str] = frozenset()
    local: dict[str, Any] = field(default_factory=dict)
    spoken: frozenset[str] = frozenset()  # fields of yielded groups that the target has edited and that are on their way to us
    told_key: str | None = None  # of the target's own row, as the hub knows it
    back: frozenset[str] = frozenset()  # fields that are the target's own word again and still show what we wrote there


class TargetEntity:
    """One entity of a target's profile, compiled for writing."""

    def __init__(self, cursor: Cursor, layout: Layout) -> None:
        self.layout = layout
        self.entity = layout.entity
        self.mapper = mapper = Mapper(layout)
        self.fields = layout.writable()
        self.writers = {name: mapper.writer(name) for name in self.fields}
        self.group_of = {name: schemas.field(self.entity, name).group for name in self.fields}
        self._where = {name: layout.origin(str(layout.mapping.fields[name].column)) for name in self.fields}
        self.key = layout.mapping.key
        self.table = identifier(layout.mapping.table).as_string(cursor)
        columns = layout.types[layout.mapping.table]
        self._key_types = [columns[c].declared for c in self.key]
        self._key_fields = {c: n for n, (part, c) in self._where.items() if part is None and c in self.key}
        parent = layout.mapping.parent
        self._parent_columns = parent.columns if parent is not None else ()
        self._drawn = [c for c in self.key if c not in self._key_fields and c not in self._parent_columns]
        self._defaults = {c: _default(cursor, layout.mapping.table, c) for c in self._drawn}
        self._references = {
            name: next(iter(part.on.items()))
            for name, part in layout.mapping.parts.items()
            if part.pick is None and not set(part.on.values()) <= {*self.key, *self._parent_columns}
        }

    # ------------------------------------------------------------ values
    def localize(self, write: Write) -> None:
        """Fill in the local values of a record; raises `RecordError` naming the field that has none."""
        for name in self.fields:
            if name in write.withheld:
                continue
            try:
                write.local[name] = self.writers[name](write.values.get(name))
            except Unreadable as problem:
                raise RecordError(problem.reason, name, str(problem)) from None

    def written(self, write: Write) -> tuple[str, ...]:
        """The fields an update writes: those of groups the target does not own, and those it may no longer have."""
        return tuple(
            n
            for n in self.fields
            if (n not in write.withheld and n not in write.spoken and self.group_of[n] not in write.held) or n in write.erase or n in write.back
        )

    def own_edits(self, write: Write, now: Document) -> frozenset[str]:
        """Fields in which the target's own word counts above ours and which it has changed since our last write."""
        base = write.base or {}
        return frozenset(n for n in self.fields if self.group_of[n] in write.yields and now.get(n) != base.get(n))

    def left_of_ours(self, write: Write, now: Document) -> frozenset[str]:
        """Fields that are the target's own word again, because who outranked it speaks no more, and in which our last write still stands."""
        base = write.base or {}
        return frozenset(
            n
            for n in self.fields
            if self.group_of[n] in write.held
            and n not in write.withheld
            and n in base
            and now.get(n) == base[n]
            and self.mapper.unified(n, base[n]) != write.values.get(n)
        )

    def told(self, name: str, local: Any) -> str:
        """A local value as JSON in the unified model's words, which capture uses for the same edit."""
        return orjson.dumps(self.mapper.unified(name, local)).decode()

    # ------------------------------------------------------------ reading
    def documents(self, cursor: Cursor, keys: Sequence[str], *, lock: bool) -> dict[str, Document]:
        """The writable columns of rows by local key, optionally locked in key order."""
        if not keys:
            return {}
        layout = self.layout
        condition, arguments = self._by_keys(keys)
        if lock and layout.mapping.parts:
            self._lock_parts(cursor, condition, arguments)
        statement = sql.SQL("SELECT {}, ({})::text FROM {} WHERE {} ORDER BY {}{}").format(
            layout.local_key,
            layout.current(),
            layout.source,
            condition,
            sql.SQL(", ").join([layout.root(c) for c in self.key]),
            sql.SQL(" FOR UPDATE OF t" if lock else ""),
        )
        return {key: orjson.loads(document) for key, document in rows(cursor, statement, arguments)}

    def _lock_parts(self, cursor: Cursor, condition: sql.Composable, arguments: list[Any]) -> None:
        """Lock the rows of parts too, roots first: an edit of a part between our look and our write would leave no trace.

        It is a statement of its own, before the look: what it has waited for is seen, and an outer join cannot lock its optional side.
        """
        order = sql.SQL(", ").join([self.layout.root(c) for c in self.key])
        table = identifier(self.layout.mapping.table)
        cursor.execute(sql.SQL("SELECT FROM {} t WHERE {} ORDER BY {} FOR UPDATE").format(table, condition, order), arguments)
        for part in self.layout.mapping.parts.values():
            on = [sql.SQL("p.{} = t.{}").format(sql.Identifier(a), sql.Identifier(b)) for a, b in part.on.items()]
            on += [sql.SQL("p.{} = {}").format(sql.Identifier(c), sql.Literal(v)) for c, v in part.where.items()]
            statement = sql.SQL("SELECT FROM {} p JOIN {} t ON {} WHERE {} ORDER BY {} FOR UPDATE OF p")
            cursor.execute(statement.format(identifier(part.table), table, sql.SQL(" AND ").join(on), condition, order), arguments)

    def _by_keys(self, keys: Sequence[str]) -> tuple[sql.Composable, list[Any]]:
        parts = [split_key(key, len(self.key)) for key in keys]
        arrays = sql.SQL(", ").join([sql.SQL("%s::text[]::{}[]").format(sql.SQL(kind)) for kind in self._key_types])
        columns = sql.SQL(", ").join([self.layout.root(c) for c in self.key])
        if len(self.key) == 1:
            return sql.SQL("{} = ANY(%s::text[]::{}[])").format(columns, sql.SQL(self._key_types[0])), [[p[0] for p in parts]]
        return sql.SQL("({}) IN (SELECT * FROM unnest({}))").format(columns, arrays), [list(c) for c in zip(*parts, strict=True)]

    # ------------------------------------------------------------ inserting
    def insert(self, cursor: Cursor, writes: Sequence[Write]) -> None:
        """Insert new rows with every mapped column, constants the profile gives, and keys; sets each write's local key."""
        if not writes:
            return
        documents = [self._new_document(write) for write in writes]
        for column in self._drawn:
            self._draw(cursor, column, documents, self.layout.mapping.table, self._defaults[column])
        for reference, (theirs, ours) in self._references.items():
            self._insert_reference(cursor, reference, theirs, ours, documents, writes)
        for write, document in zip(writes, documents, strict=True):
            write.local_key = join_key([str(document[c]) for c in self.key])
            write.inserted = True
        root = self.layout.mapping.table
        self._insert_rows(cursor, root, documents)
        for name, part in self.layout.mapping.parts.items():
            if part.pick is None and name not in self._references:
                self._insert_rows(cursor, part.table, [self._part_document(name, w, d) for w, d in zip(writes, documents, strict=True)])

    def _new_document(self, write: Write) -> Document:
        document: Document = dict(self.layout.mapping.insert) | dict(self.layout.mapping.where)
        for name, (part, column) in self._where.items():
            if part is None and name in write.local:
                document[column] = write.local[name]
        if self._parent_columns:
            document |= dict(zip(self._parent_columns, split_key(str(write.parent_key), len(self._parent_columns)), strict=True))
        return document

    def _draw(self, cursor: Cursor, column: str, documents: Sequence[Document], table: str, default: str | None) -> None:
        if default is None:
            raise ConfigError(f"{table}.{column}: new rows need a key, and the column has no default: map it to a field or give it one")
        statement = sql.SQL("SELECT ({})::text FROM generate_series(1, {})")
        drawn = rows(cursor, statement.format(sql.SQL(default.replace("%", "%%")), sql.Literal(len(documents))), [])
        for document, (value,) in zip(documents, drawn, strict=True):
            document[column] = value

    def _insert_reference(self, cursor: Cursor, part: str, theirs: str, ours: str, documents: Sequence[Document], writes: Sequence[Write]) -> None:
        """A part the root row refers to is written first, and its key goes into the root row."""
        table = self.layout.mapping.parts[part].table
        made = [self._part_columns(part, write) for write in writes]
        self._draw(cursor, theirs, made, table, _default(cursor, table, theirs))
        self._insert_rows(cursor, table, made)
        for document, row in zip(documents, made, strict=True):
            document[ours] = row[theirs]

    def _part_columns(self, part: str, write: Write) -> Document:
        document: Document = dict(self.layout.mapping.parts[part].where)
        document |= {c: write.local[n] for n, (p, c) in self._where.items() if p == part and n in write.local}
        return document

    def _part_document(self, part: str, write: Write, root: Document) -> Document:
        on = self.layout.mapping.parts[part].on
        return self._part_columns(part, write) | {theirs: root[ours] for theirs, ours in on.items()}

    def _insert_rows(self, cursor: Cursor, table: str, documents: Sequence[Document]) -> None:
        by_shape: dict[tuple[str, ...], list[Document]] = {}
        for document in documents:
            by_shape.setdefault(tuple(sorted(document)), []).append(document)
        for columns, same in by_shape.items():
            names = sql.SQL(", ").join(map(sql.Identifier, columns))
            statement = sql.SQL("INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM jsonb_to_recordset(%s) AS d({})").format(
                identifier(table), names, names, self._record_type(table, columns)
            )
            cursor.execute(statement, [orjson.dumps(same).decode()])

    def _record_type(self, table: str, columns: Iterable[str]) -> sql.Composable:
        types: Mapping[str, Column] = self.layout.types[table]
        return sql.SQL(", ").join([sql.SQL("{} {}").format(sql.Identifier(c), sql.SQL(types[c].declared)) for c in columns])

    # ------------------------------------------------------------ remembering
    def remember(self, cursor: Cursor, rows_: Sequence[Document]) -> None:
        """Store `applied` rows with the new base: the columns we wrote, read back after the target's own triggers had their say.

        Fields we did not write have no base: what stands there is the target's own word.
        """
        documents = []
        for row in rows_:
            key = split_key(str(row["local_key"]), len(self.key))
            documents.append(row | {f"k{n}": part for n, part in enumerate(key)})
        keys = sql.SQL(", ").join([sql.SQL("{} {}").format(sql.Identifier(f"k{n}"), sql.SQL(kind)) for n, kind in enumerate(self._key_types)])
        match = sql.SQL(" AND ").join([sql.SQL("{} = d.{}").format(self.layout.root(c), sql.Identifier(f"k{n}")) for n, c in enumerate(self.key)])
        cursor.execute(
            sql.SQL(_REMEMBER).format(keys=keys, current=self.layout.current(), source=self.layout.source, match=match),
            [orjson.dumps(documents).decode()],
        )

    # ------------------------------------------------------------ updating
    def move(self, cursor: Cursor, writes: Sequence[Write]) -> None:
        """Put existing rows under another parent; where the parent's key is part of their own, each write gets its new local key."""
        if not writes or not self._parent_columns:
            return
        columns = self._parent_columns
        assign = sql.SQL(", ").join([sql.SQL("{} = d.{}").format(sql.Identifier(c), sql.Identifier(f"p{n}")) for n, c in enumerate(columns)])
        types = self.layout.types[self.layout.mapping.table]
        record = sql.SQL(", ").join(
            [sql.SQL("{} {}").format(sql.Identifier(f"k{n}"), sql.SQL(kind)) for n, kind in enumerate(self._key_types)]
            + [sql.SQL("{} {}").format(sql.Identifier(f"p{n}"), sql.SQL(types[c].declared)) for n, c in enumerate(columns)]
        )
        match = sql.SQL(" AND ").join([sql.SQL("t.{} = d.{}").format(sql.Identifier(c), sql.Identifier(f"k{n}")) for n, c in enumerate(self.key)])
        documents = []
        for write in writes:
            key = split_key(str(write.local_key), len(self.key))
            parent = dict(zip(columns, split_key(str(write.parent_key), len(columns)), strict=True))
            documents.append({f"k{n}": part for n, part in enumerate(key)} | {f"p{n}": parent[c] for n, c in enumerate(columns)})
            write.local_key = join_key([parent.get(c, part) for c, part in zip(self.key, key, strict=True)])
        statement = sql.SQL("UPDATE {} t SET {} FROM jsonb_to_recordset(%s) AS d({}) WHERE {}")
        cursor.execute(statement.format(identifier(self.layout.mapping.table), assign, record, match), [orjson.dumps(documents).decode()])

    def update(self, cursor: Cursor, writes: Sequence[Write]) -> None:
        """Update existing rows, each only in the columns the target does not own."""
        by_shape: dict[tuple[str, ...], list[Write]] = {}
        for write in writes:
            by_shape.setdefault(self.written(write), []).append(write)
        for names, same in by_shape.items():
            tables: dict[str | None, list[str]] = {}
            for name in names:
                tables.setdefault(self._where[name][0], []).append(name)
            for part, fields in tables.items():
                if part is None:
                    self._update_root(cursor, fields, same)
                else:
                    self._update_part(cursor, part, fields, same)

    def _changes(self, fields: Sequence[str], writes: Sequence[Write]) -> str:
        documents = []
        for write in writes:
            key = split_key(str(write.local_key), len(self.key))
            document: Document = {f"k{n}": part for n, part in enumerate(key)}
            document |= {f"v{n}": None if name in write.erase else write.local.get(name) for n, name in enumerate(fields)}
            documents.append(document)
        return orjson.dumps(documents).decode()

    def _update_root(self, cursor: Cursor, fields: Sequence[str], writes: Sequence[Write]) -> None:
        fields = [n for n in fields if self._where[n][1] not in self.key]
        if not fields:
            return
        table = self.layout.mapping.table
        assign, record = self._assignments(table, fields)
        match = sql.SQL(" AND ").join([sql.SQL("t.{} = d.{}").format(sql.Identifier(c), sql.Identifier(f"k{n}")) for n, c in enumerate(self.key)])
        statement = sql.SQL("UPDATE {} t SET {} FROM jsonb_to_recordset(%s) AS d({}) WHERE {}").format(identifier(table), assign, record, match)
        cursor.execute(statement, [self._changes(fields, writes)])

    def _assignments(self, table: str, fields: Sequence[str]) -> tuple[sql.Composable, sql.Composable]:
        types = self.layout.types[table]
        assign = sql.SQL(", ").join(
            [sql.SQL("{} = d.{}").format(sql.Identifier(self._where[n][1]), sql.Identifier(f"v{i}")) for i, n in enumerate(fields)]
        )
        keys = [sql.SQL("{} {}").format(sql.Identifier(f"k{n}"), sql.SQL(kind)) for n, kind in enumerate(self._key_types)]
        values = [sql.SQL("{} {}").format(sql.Identifier(f"v{i}"), sql.SQL(types[self._where[n][1]].declared)) for i, n in enumerate(fields)]
        return assign, sql.SQL(", ").join([*keys, *values])

    def _update_part(self, cursor: Cursor, part: str, fields: Sequence[str], writes: Sequence[Write]) -> None:
        """Update a part's row; where a record has none yet, insert it."""
        spec = self.layout.mapping.parts[part]
        assign, record = self._assignments(spec.table, fields)
        root = sql.SQL(" AND ").join([sql.SQL("t.{} = d.{}").format(sql.Identifier(c), sql.Identifier(f"k{n}")) for n, c in enumerate(self.key)])
        joined = sql.SQL(" AND ").join(
            [sql.SQL("p.{} = t.{}").format(sql.Identifier(a), sql.Identifier(b)) for a, b in spec.on.items()]
            + [sql.SQL("p.{} = {}").format(sql.Identifier(c), sql.Literal(v)) for c, v in spec.where.items()]
        )
        data = self._changes(fields, writes)
        cursor.execute(
            sql.SQL("UPDATE {} p SET {} FROM jsonb_to_recordset(%s) AS d({}), {} t WHERE {} AND {}").format(
                identifier(spec.table), assign, record, identifier(self.layout.mapping.table), root, joined
            ),
            [data],
        )
        if cursor.rowcount >= len(writes) or part in self._references:
            return
        columns = [sql.Identifier(c) for c in [*spec.on, *spec.where, *(self._where[n][1] for n in fields)]]
        values = (
            [sql.Identifier("t", c) for c in spec.on.values()]
            + [sql.Literal(v) for v in spec.where.values()]
            + [sql.Identifier("d", f"v{i}") for i in range(len(fields))]
        )
        cursor.execute(
            sql.SQL(
                "INSERT INTO {} ({}) SELECT {} FROM jsonb_to_recordset(%s) AS d({}) JOIN {} t ON {} WHERE NOT EXISTS (SELECT 1 FROM {} p WHERE {})"
            ).format(
                identifier(spec.table),
                sql.SQL(", ").join(columns),
                sql.SQL(", ").join(values),
                record,
                identifier(self.layout.mapping.table),
                root,
                identifier(spec.table),
                joined,
            ),
            [data],
        )

    # ------------------------------------------------------------ deleting
    def delete(self, cursor: Cursor, keys: Sequence[str]) -> None:
        """Take rows away, or mark them deleted where the layout has a column for it; parts first."""
        if not keys:
            return
        condition, arguments = self._by_keys(keys)
        table, soft = identifier(self.layout.mapping.table), self.layout.mapping.deleted
        if soft is not None:
            value = soft.write if soft.write is not None else (soft.when[0] if soft.when else None)
            mark = sql.SQL("now()") if value is None else sql.Literal(value)
            cursor.execute(sql.SQL("UPDATE {} t SET {} = {} WHERE {}").format(table, sql.Identifier(soft.column), mark, condition), arguments)
            return
        for name, part in self.layout.mapping.parts.items():
            if part.pick is None and name not in self._references:
                on = sql.SQL(" AND ").join([sql.SQL("p.{} = t.{}").format(sql.Identifier(a), sql.Identifier(b)) for a, b in part.on.items()])
                cursor.execute(sql.SQL("DELETE FROM {} p USING {} t WHERE {} AND {}").format(identifier(part.table), table, on, condition), arguments)
        cursor.execute(sql.SQL("DELETE FROM {} t WHERE {}").format(table, condition), arguments)


def _default(cursor: Cursor, table: str, column: str) -> str | None:
    """The SQL that makes a new value of a column: its default, or its identity sequence."""
    name = identifier(table).as_string(cursor)
    found = rows(
        cursor,
        """SELECT CASE WHEN a.attidentity <> '' THEN format('nextval(%%L)', pg_get_serial_sequence(%s, %s))
                  ELSE pg_get_expr(d.adbin, d.adrelid) END
           FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
           WHERE a.attrelid = to_regclass(%s) AND a.attname = %s""",
        [name, column, name, column],
    )
    return str(found[0][0]) if found and found[0][0] is not None else None
