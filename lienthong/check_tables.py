"""Compares a profile with the live tables of a system: names, types, keys, rights, replica identity. Pure: no I/O."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import schemas
from lienthong.catalogue import Catalogue, Column, Table
from lienthong.ddl import image_columns, notification_columns, quoted, written_tables
from lienthong.problems import Problem, did_you_mean, listed
from lienthong.readers import DEFAULTS
from lienthong.settings import EntityMap, FieldMap, Profile, System

TEXT = frozenset({"text", "varchar", "bpchar", "name", "citext"})
WHOLE = frozenset({"int2", "int4", "int8"})
JSON = frozenset({"json", "jsonb"})
UNREADABLE = frozenset({"bytea", "record", "xid", "oidvector"})

READABLE: dict[str, frozenset[str]] = {
    "integer": TEXT | WHOLE | {"numeric", "float4", "float8"},
    "boolean": TEXT | WHOLE | {"bool"},
    "instant": TEXT | {"timestamptz", "timestamp", "date"},
    "datetime_compact": TEXT | WHOLE | {"numeric"},
    "datetime_text": TEXT,
    "day_compact": TEXT | WHOLE | {"numeric"},
    "day_text": TEXT,
    "date": TEXT | {"date", "timestamp"},
    "date_compact": TEXT | WHOLE | {"numeric"},
    "date_text": TEXT,
    "partial_date": TEXT | WHOLE | {"date", "timestamp"},
    "partial_date_compact": TEXT | WHOLE,
    "partial_date_text": TEXT,
    "money_text": TEXT | WHOLE | {"numeric"},
}
"""The column types each reader can read; a reader that is not listed takes any text form."""

LOSES_ZEROS = ("unit_code", "personal_number")


@dataclass(frozen=True, slots=True, kw_only=True)
class Against:
    """One system's profile held against its catalogue."""

    system: str
    party: System
    profile: Profile
    live: Catalogue

    def problem(self, path: str, code: str, message: str, hint: str = "", severity: Literal["error", "warning"] = "error") -> Problem:
        """A problem of this system."""
        return Problem(file=self.system, path=path, code=code, message=message, hint=hint, severity=severity)

    def writes(self, mapping: EntityMap) -> bool:
        """Whether we write records of this mapping."""
        return self.party.apply and mapping.write and mapping.each is None


def table_problems(against: Against) -> Iterator[Problem]:
    """Everything in which the profile and the live tables differ."""
    yield from _tables(against)
    for entity, mapping in against.profile.entities.items():
        root = against.live.tables.get(mapping.table)
        if root is not None and root.may_use_schema:
            yield from _root_columns(against, entity, mapping, root)
            yield from _fields(against, entity, mapping)
            yield from _part_tables(against, entity, mapping, root)
            if against.writes(mapping):
                yield from _unfilled(against, entity, mapping, root)


# ------------------------------------------------------------------ tables and rights
def _tables(against: Against) -> Iterator[Problem]:
    written = written_tables(against.profile) if against.party.apply else ()
    for name in notification_columns(against.profile):
        table = against.live.tables.get(name)
        if table is None:
            hint = did_you_mean(name, against.live.names) or "is it the right database?"
            yield against.problem(name, "CHK-TABLE", f"the table {name} does not exist", hint)
        elif not table.may_use_schema:
            schema = quoted(name).split(".")[0]
            grant = f"GRANT USAGE ON SCHEMA {schema} TO {against.live.server.user};"
            yield against.problem(name, "CHK-RIGHT", "we may not look into its schema", grant)
        else:
            yield from _rights(against, name, table, writes=name in written)
            if against.party.capture == "wal":
                yield from _identity(against, name, table)
            if table.kind in "vmf" and against.party.capture != "none":
                yield against.problem(
                    name,
                    "CHK-TABLE",
                    "this is not a table, so its changes cannot be captured",
                    "name the table behind it, or set capture: none",
                )


def _rights(against: Against, name: str, table: Table, *, writes: bool) -> Iterator[Problem]:
    rights = {"INSERT": table.may_insert, "UPDATE": table.may_update, "DELETE": table.may_delete}
    missing = [right for right, given in rights.items() if writes and not given]
    if not any(column.may_read for column in table.columns.values()):
        missing.insert(0, "SELECT")
    if missing:
        grant = f"GRANT {', '.join(missing)} ON {quoted(name)} TO {against.live.server.user};"
        yield against.problem(name, "CHK-RIGHT", f"we lack the right to {listed(missing)}", f"its owner {table.owner} runs: {grant}")


def _identity(against: Against, name: str, table: Table) -> Iterator[Problem]:
    """Deletes and moves must say which record they belong to (protocol B3)."""
    needed = set(notification_columns(against.profile)[name])
    if needed <= table.identity or not needed <= set(table.columns):
        return
    alter = f"ALTER TABLE {quoted(name)} REPLICA IDENTITY FULL;"
    if not table.identity:
        message = "the table has no replica identity: once it is published, its own UPDATE and DELETE would fail"
    else:
        message = f"a DELETE would not tell {listed(sorted(needed - table.identity))}, so its record could not be found"
    yield against.problem(name, "CHK-IDENTITY", message, f"its owner {table.owner} runs: {alter}")


# ------------------------------------------------------------------ columns
def _missing(against: Against, path: str, table: str, live: Table, names: Iterable[str]) -> Iterator[Problem]:
    for name in dict.fromkeys(names):
        if name not in live.columns:
            hint = did_you_mean(name, live.columns) or f"it has: {listed(tuple(live.columns))}"
            yield against.problem(path, "CHK-COLUMN", f"table {table} has no column {name}", hint)
        elif not live.columns[name].may_read:
            grant = f"GRANT SELECT ON {quoted(table)} TO {against.live.server.user};"
            yield against.problem(path, "CHK-RIGHT", f"we may not read column {name} of {table}", grant)


def _root_columns(against: Against, entity: str, mapping: EntityMap, root: Table) -> Iterator[Problem]:
    places: dict[str, Sequence[str]] = {
        "key": mapping.key,
        "where": tuple(mapping.where),
        "insert": tuple(mapping.insert),
        "parent": mapping.parent.columns if mapping.parent else (),
        "events": (mapping.events,) if mapping.events else (),
        "deleted": (mapping.deleted.column,) if mapping.deleted else (),
        "each": (mapping.each.column,) if mapping.each else (),
    }
    for place, columns in places.items():
        yield from _missing(against, f"{entity}.{place}", mapping.table, root, columns)
    if set(mapping.key) <= set(root.columns) and not any(found <= set(mapping.key) for found in root.unique):
        message = f"nothing makes {listed(mapping.key)} unique in {mapping.table}"
        yield against.problem(f"{entity}.key", "CHK-KEY", message, "name the columns of its primary key or of a unique index")
    array = root.columns.get(mapping.each.column) if mapping.each else None
    if array is not None and array.base not in JSON | TEXT:
        message = f"{mapping.each.column if mapping.each else ''} is {array.declared}, not JSON"
        yield against.problem(f"{entity}.each", "CHK-TYPE", message, "name the column that holds the array")


def origin(mapping: EntityMap, column: str) -> tuple[str, str]:
    """Table and column behind `column` or `part.column`."""
    part, dot, name = column.partition(".")
    return (mapping.parts[part].table, name) if dot and part in mapping.parts else (mapping.table, column)


def _fields(against: Against, entity: str, mapping: EntityMap) -> Iterator[Problem]:
    for name, spec in mapping.fields.items():
        if spec.column is None or mapping.each is not None:
            continue
        table, column = origin(mapping, spec.column)
        live = against.live.tables.get(table)
        if live is None or not live.may_use_schema:
            continue
        path = f"{entity}.{name}"
        yield from _missing(against, path, table, live, [column])
        if column in live.columns:
            yield from _type(against, path, (entity, name), spec, live.columns[column])
            yield from _labels(against, path, spec, live.columns[column], writes=against.writes(mapping) and spec.write)


def _type(against: Against, path: str, field: tuple[str, str], spec: FieldMap, column: Column) -> Iterator[Problem]:
    reader = spec.read or DEFAULTS[schemas.field(*field).type]
    base = "text" if column.kind == "e" else column.base
    if spec.path:
        if base not in JSON | TEXT:
            yield against.problem(path, "CHK-TYPE", f"`path` needs a JSON column, {spec.column} is {column.declared}", "delete `path`")
    elif spec.values is not None:
        return
    elif base in UNREADABLE or (reader in READABLE and base not in READABLE[reader]):
        fitting = [name for name, bases in READABLE.items() if base in bases and _gives(name, schemas.field(*field).type)]
        hint = f"readers for it: {listed(fitting)}" if fitting else "map its words with `values`, or another column"
        yield against.problem(path, "CHK-TYPE", f"the reader {reader} cannot read {spec.column} ({column.declared})", hint)
    elif reader in LOSES_ZEROS and base not in TEXT:
        message = f"{spec.column} is {column.declared}: codes that start with 0 have lost it there"
        yield against.problem(path, "CHK-TYPE", message, "read a text column if there is one", "warning")


def _gives(reader: str, kind: str) -> bool:
    from lienthong.readers import READERS

    return kind in READERS[reader].types


def _labels(against: Against, path: str, spec: FieldMap, column: Column, *, writes: bool) -> Iterator[Problem]:
    """An enumeration's labels and the profile's words are the same, or records will be refused."""
    if column.kind != "e" or spec.values is None:
        return
    words = [str(word).lower() if isinstance(word, bool) else str(word) for word in spec.values]
    unmapped = [label for label in column.labels if label not in words]
    if unmapped:
        hint = f"add them to `values`: {{{listed([f'{label}: …' for label in unmapped])}}}"
        yield against.problem(path, "CHK-ENUM", f"{column.declared} has words that are not mapped: {listed(unmapped)}", hint, "warning")
    for word in words:
        if word not in column.labels:
            hint = did_you_mean(word, column.labels) or f"it has: {listed(column.labels)}"
            message = f"{column.declared} has no word {word}"
            yield against.problem(path, "CHK-ENUM", message, hint, "error" if writes else "warning")


# ------------------------------------------------------------------ parts
def _part_tables(against: Against, entity: str, mapping: EntityMap, root: Table) -> Iterator[Problem]:
    for name, part in mapping.parts.items():
        path, live = f"{entity}.parts.{name}", against.live.tables.get(part.table)
        yield from _missing(against, path, mapping.table, root, part.on.values())
        if live is None or not live.may_use_schema:
            continue
        picked = part.pick.order_by if part.pick else ()
        yield from _missing(against, path, part.table, live, (*part.on, *part.where, *picked))
        named = {*part.on, *part.where}
        if part.pick is None and named <= set(live.columns) and not any(unique <= named for unique in live.unique):
            message = f"several rows of {part.table} can belong to one row of {mapping.table}"
            yield against.problem(path, "CHK-PART", message, "add `pick: {order_by: COLUMN, last: true}` or a `where`")


# ------------------------------------------------------------------ columns that our INSERT would leave empty
def _unfilled(against: Against, entity: str, mapping: EntityMap, root: Table) -> Iterator[Problem]:
    filled = {*mapping.insert, *(mapping.parent.columns if mapping.parent else ())}
    yield from _needs(against, (f"{entity}.insert", mapping.table), root, filled | _written(mapping, ""))
    for name, part in mapping.parts.items():
        live = against.live.tables.get(part.table)
        if live is not None and part.pick is None:
            filled = {*part.on, *part.where} | _written(mapping, f"{name}.")
            yield from _needs(against, (f"{entity}.parts.{name}", part.table), live, filled)


def _written(mapping: EntityMap, prefix: str) -> set[str]:
    """The columns of one table that fields are written to."""
    columns = [spec.column for spec in mapping.fields.values() if spec.column and spec.write and not spec.path]
    if prefix:
        return {column.removeprefix(prefix) for column in columns if column.startswith(prefix)}
    return {column for column in columns if column.partition(".")[0] not in mapping.parts}


def _needs(against: Against, place: tuple[str, str], table: Table, filled: set[str]) -> Iterator[Problem]:
    path, name = place
    empty = [column for column, live in table.columns.items() if live.not_null and not live.has_default and column not in filled]
    if empty:
        example = ", ".join(f"{column}: …" for column in empty[:5])
        message = f"{name} needs a value in {listed(empty)}, which a new row of ours would not have"
        hint = f"map a field to it, or add insert: {{{example}}}, or write: false if nothing is to be delivered there"
        yield against.problem(path, "CHK-INSERT", message, hint)
    fixed = [column for column in filled if column in table.columns and table.columns[column].is_generated]
    if fixed:
        message = f"{listed(fixed)} is generated by the database and cannot be written"
        yield against.problem(path, "CHK-INSERT", message, "set write: false on its field")


def captured_columns(profile: Profile) -> dict[str, frozenset[str]]:
    """Per table, every column that capture must be told."""
    images = image_columns(profile)
    return {table: frozenset({*columns, *images.get(table, ())}) for table, columns in notification_columns(profile).items()}
