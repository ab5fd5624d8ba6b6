"""One entity of one profile against the live tables, as SQL: what to select, how tables join, how a row is named."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import schemas
from connectors.postgres import Cursor, rows, sql
from lienthong.errors import ConfigError
from lienthong.readers import DEFAULTS
from lienthong.settings import EntityMap, FieldMap, Part, Profile

PAIRS_MAX = 45  # jsonb_build_object takes at most 100 arguments

_TYPES = """
SELECT a.attname, CASE WHEN t.typtype = 'd' THEN b.typname ELSE t.typname END,
       CASE WHEN t.typtype = 'd' THEN b.typtype ELSE t.typtype END, format_type(a.atttypid, a.atttypmod)
FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid LEFT JOIN pg_type b ON b.oid = t.typbasetype
WHERE a.attrelid = to_regclass(%s) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
"""

INTEGERS = {"int2", "int4", "int8"}
LONG = {"text", "varchar", "json", "jsonb", "xml", "citext"}
TEXT_CHARACTERS_MAX = 200_000


@dataclass(frozen=True, slots=True)
class Column:
    """A live column: its base type's name (domains looked through), whether it is an enum, its declared type."""

    base: str
    kind: str
    declared: str


def table_parts(table: str) -> tuple[str, str]:
    """Schema and name of a table as written in a profile; quotes keep accents, capitals and dots."""
    parts: list[str] = []
    rest = table
    while rest:
        if rest.startswith('"'):
            end = rest.index('"', 1)
            parts.append(rest[1:end])
            rest = rest[end + 1 :].removeprefix(".")
        else:
            part, _, rest = rest.partition(".")
            parts.append(part)
    return ("public", parts[0]) if len(parts) == 1 else (parts[0], parts[1])


def full_name(table: str) -> str:
    """`schema.name` without quotes, as the replication stream names it."""
    return ".".join(table_parts(table))


def identifier(table: str) -> sql.Composable:
    """The quoted name for use in SQL."""
    return sql.Identifier(*table_parts(table))


def columns_of(cursor: Cursor, table: str) -> dict[str, Column]:
    """The live columns of a table; raises `ConfigError` when it does not exist or may not be seen."""
    found = rows(cursor, _TYPES, [identifier(table).as_string(cursor)])
    if not found:
        raise ConfigError(f"table {table} does not exist in this database; run `lienthong check`")
    return {name: Column(base, kind, declared) for name, base, kind, declared in found}


def _cut(text: sql.Composable) -> sql.Composable:
    """A text with one character more than is carried, at most: 2,000 rows of 10 MB must not be fetched to be refused."""
    return sql.SQL("CASE WHEN octet_length({0}) > {1} THEN left({0}, {1}) ELSE {0} END").format(text, sql.Literal(TEXT_CHARACTERS_MAX + 1))


@dataclass(frozen=True)
class Layout:
    """An entity of a profile bound to live column types."""

    entity: str
    profile: Profile
    mapping: EntityMap
    types: Mapping[str, Mapping[str, Column]]  # table as written -> columns

    @classmethod
    def of(cls, cursor: Cursor, profile: Profile, entity: str) -> Layout:
        """Bind to the live tables; raises `ConfigError` naming what is missing."""
        mapping = profile.entities[entity]
        tables = {mapping.table, *(part.table for part in mapping.parts.values())}
        layout = cls(entity, profile, mapping, {table: columns_of(cursor, table) for table in tables})
        for table, column in layout.named_columns():
            if column not in layout.types[table]:
                raise ConfigError(f"{profile.profile}: {entity}: table {table} has no column {column}")
        for name in mapping.fields:
            layout.column_type(name)
        return layout

    def named_columns(self) -> Iterator[tuple[str, str]]:
        """Table and column of everything the profile names beside its fields."""
        mapping = self.mapping
        roots = [*mapping.key, *mapping.where, *(mapping.parent.columns if mapping.parent else ())]
        roots += [mapping.deleted.column] if mapping.deleted else []
        roots += [mapping.each.column] if mapping.each else []
        roots += [mapping.events] if mapping.events else []
        yield from ((mapping.table, column) for column in roots)
        for part in mapping.parts.values():
            yield from ((mapping.table, column) for column in part.on.values())
            ordered = part.pick.order_by if part.pick else ()
            yield from ((part.table, column) for column in (*part.on, *part.where, *ordered))

    # ------------------------------------------------------------ names
    def origin(self, column: str) -> tuple[str | None, str]:
        """Part name (None = root table) and column name of `column` or `part.column`."""
        part, dot, name = column.partition(".")
        return (part, name) if dot and part in self.mapping.parts else (None, column)

    def ref(self, column: str) -> sql.Composable:
        """The column's SQL expression."""
        if self.mapping.each is not None:
            return sql.SQL("(e.value ->> {})").format(sql.Literal(column))
        part, name = self.origin(column)
        return sql.Identifier("t" if part is None else f"p_{part}", name)

    def root(self, column: str) -> sql.Composable:
        """A column of the root table."""
        return sql.Identifier("t", column)

    def column_type(self, field: str) -> Column | None:
        """The live type behind a field; None for constants and members of JSON elements."""
        spec = self.mapping.fields[field]
        if spec.column is None or self.mapping.each is not None:
            return None
        part, name = self.origin(spec.column)
        table = self.mapping.table if part is None else self.mapping.parts[part].table
        if name not in self.types[table]:
            raise ConfigError(f"{self.profile.profile}: {self.entity}.{field}: table {table} has no column {name}")
        return self.types[table][name]

    def key_text(self, columns: Sequence[str]) -> sql.Composable:
        """The local key as text: the column itself, or several joined by | with \\ as escape."""
        if len(columns) == 1:
            return sql.SQL("{}::text").format(self.root(columns[0]))
        escaped = sql.SQL("replace(replace({}::text, '\\', '\\\\'), '|', '\\|')")
        return sql.SQL(" || '|' || ").join([escaped.format(self.root(column)) for column in columns])

    # ------------------------------------------------------------ selecting
    def value(self, field: str) -> sql.Composable:
        """The expression that reads a field: native types become numbers here, everything else text."""
        spec = self.mapping.fields[field]
        if spec.column is None:
            return sql.SQL("NULL")
        ref, column = self.ref(spec.column), self.column_type(field)
        if column is None:
            return _cut(ref)
        if spec.path:
            return _cut(sql.SQL("({}::jsonb #>> {})").format(ref, sql.Literal([str(step) for step in spec.path])))
        reader = spec.read or DEFAULTS[schemas.field(self.entity, field).type]
        if reader == "instant":
            return self._instant(ref, column, spec)
        if reader == "date" and column.base in ("date", "timestamp"):
            return sql.SQL("CASE WHEN isfinite({0}) THEN {0}::date - DATE '1970-01-01' END").format(ref)
        if column.base in INTEGERS or column.base == "bool":
            return ref
        text = sql.SQL("{}::text").format(ref)
        return _cut(text) if self.may_be_long(field) else text

    def may_be_long(self, field: str) -> bool:
        """Whether the column behind a field may hold a text of any length."""
        column = self.column_type(field)
        return column is None or (column.base in LONG and "(" not in column.declared)

    def _instant(self, ref: sql.Composable, column: Column, spec: FieldMap) -> sql.Composable:
        micros = "CASE WHEN isfinite({0}) THEN (extract(epoch FROM {1}) * 1000000)::int8 END"
        if column.base == "timestamptz":
            return sql.SQL(micros).format(ref, ref)
        if column.base in ("timestamp", "date"):
            zone = sql.Literal(spec.zone or self.profile.zone)
            return sql.SQL(micros).format(ref, sql.SQL("{}::timestamp AT TIME ZONE {}").format(ref, zone))
        return sql.SQL("{}::text").format(ref)

    def is_native(self, field: str) -> bool:
        """Whether the selected value is already the unified one (no reader needed)."""
        spec, column = self.mapping.fields[field], self.column_type(field)
        if column is None or spec.path:
            return False
        reader = spec.read or DEFAULTS[schemas.field(self.entity, field).type]
        native = {
            "instant": column.base in ("timestamptz", "timestamp", "date"),
            "date": column.base in ("date", "timestamp"),
            "integer": column.base in INTEGERS,
            "boolean": column.base == "bool",
            "text": True,
        }
        return native.get(reader, False)

    @cached_property
    def source(self) -> sql.Composable:
        """FROM: the root table with its parts, one row per record."""
        out: list[sql.Composable] = [sql.SQL("{} t").format(identifier(self.mapping.table))]
        for name, part in self.mapping.parts.items():
            out.append(self._join(name, part))
        if self.mapping.each is not None:
            out.append(sql.SQL("CROSS JOIN LATERAL jsonb_array_elements(CASE WHEN jsonb_typeof({0}) = 'array' THEN {0} END) e").format(self._array()))
        return sql.SQL(" ").join(out)

    def _array(self) -> sql.Composable:
        assert self.mapping.each is not None
        path = [str(step) for step in self.mapping.each.path]
        return sql.SQL("({}::jsonb #> {})").format(self.root(self.mapping.each.column), sql.Literal(path))

    def _join(self, name: str, part: Part) -> sql.Composable:
        alias = sql.Identifier(f"p_{name}")
        inner = alias if part.pick is None else sql.Identifier("x")
        conditions = [sql.SQL("{}.{} = {}").format(inner, sql.Identifier(theirs), self.root(ours)) for theirs, ours in part.on.items()] + [
            sql.SQL("{}.{} = {}").format(inner, sql.Identifier(c), sql.Literal(v)) for c, v in part.where.items()
        ]
        where = sql.SQL(" AND ").join(conditions)
        if part.pick is None:
            return sql.SQL("LEFT JOIN {} {} ON {}").format(identifier(part.table), alias, where)
        direction = sql.SQL(" DESC NULLS LAST" if part.pick.last else " ASC NULLS LAST")
        order = sql.SQL(", ").join([sql.SQL("x.{}{}").format(sql.Identifier(c), direction) for c in part.pick.order_by])
        return sql.SQL("LEFT JOIN LATERAL (SELECT * FROM {} x WHERE {} ORDER BY {} LIMIT 1) {} ON true").format(
            identifier(part.table), where, order, alias
        )

    @cached_property
    def constants(self) -> sql.Composable:
        """The profile's own conditions on root rows."""
        conditions = [sql.SQL("{} = {}").format(self.root(c), sql.Literal(v)) for c, v in self.mapping.where.items()]
        return sql.SQL(" AND ").join(conditions) if conditions else sql.SQL("true")

    @cached_property
    def deleted(self) -> sql.Composable:
        """Whether the row is softly deleted."""
        spec = self.mapping.deleted
        if spec is None:
            return sql.SQL("false")
        column = self.root(spec.column)
        if not spec.when:
            return sql.SQL("{} IS NOT NULL").format(column)
        words = sql.SQL(", ").join([sql.Literal(str(word).lower() if isinstance(word, bool) else str(word)) for word in spec.when])
        return sql.SQL("coalesce({}::text IN ({}), false)").format(column, words)

    @cached_property
    def local_key(self) -> sql.Composable:
        """The record's local key as text."""
        key = self.key_text(self.mapping.key)
        if self.mapping.each is None:
            return key
        member = sql.Literal(self.mapping.each.key)
        return sql.SQL("{} || '|' || coalesce(e.value ->> {}, '?')").format(key, member)

    @cached_property
    def parent_key(self) -> sql.Composable:
        """The parent's local key as text, NULL for roots."""
        if self.mapping.each is not None:
            return self.key_text(self.mapping.key)
        if self.mapping.parent is None:
            return sql.SQL("NULL::text")
        return self.key_text(self.mapping.parent.columns)

    def writable(self) -> tuple[str, ...]:
        """The fields that can be written back into these tables."""
        if self.mapping.each is not None or not self.mapping.write:
            return ()
        out = []
        for name, spec in self.mapping.fields.items():
            if spec.column is None or spec.path or not spec.write:
                continue
            part, _ = self.origin(spec.column)
            if part is None or self.mapping.parts[part].pick is None:
                out.append(name)
        return tuple(out)

    def current(self) -> sql.Composable:
        """The writable columns as one jsonb document by field name: what `base` is compared with and made of."""
        pairs = [sql.SQL("{}, to_jsonb({})").format(sql.Literal(name), self.ref(str(self.mapping.fields[name].column))) for name in self.writable()]
        slices = [pairs[i : i + PAIRS_MAX] for i in range(0, len(pairs), PAIRS_MAX)] or [[]]
        return sql.SQL(" || ").join([sql.SQL("jsonb_build_object({})").format(sql.SQL(", ").join(s)) for s in slices])
