"""What a live database says about itself: the server, our schema in it, and the tables a profile names."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from connectors.postgres import Cursor, one, rows
from lienthong.ddl import PUBLICATION
from lienthong.layout import table_parts

SERVER = """
SELECT current_setting('server_version_num')::int, current_setting('server_encoding'), current_setting('wal_level'),
       pg_is_in_recovery(), r.rolname, r.rolsuper, r.rolsuper OR r.rolreplication,
       has_database_privilege(current_database(), 'CREATE'),
       current_setting('max_replication_slots')::int - (SELECT count(*) FROM pg_replication_slots),
       current_setting('max_wal_senders')::int - (SELECT count(*) FROM pg_stat_get_wal_senders()),
       (SELECT setting::bigint FROM pg_settings WHERE name = 'max_slot_wal_keep_size'),
       (SELECT count(*) FROM pg_replication_slots WHERE database = current_database() AND slot_name LIKE 'lienthong%'),
       (SELECT coalesce(array_agg(slot_name::text), '{}') FROM pg_replication_slots
        WHERE database = current_database() AND slot_name LIKE 'lienthong%' AND two_phase),
       (SELECT coalesce(array_agg(slot_name::text), '{}') FROM pg_replication_slots
        WHERE database = current_database() AND slot_name LIKE 'lienthong%' AND wal_status = 'lost'),
       (SELECT system_identifier FROM pg_control_system())
FROM pg_roles r WHERE r.rolname = current_user
"""

OURS = """
SELECT has_schema_privilege(n.oid, 'USAGE'),
       ARRAY(SELECT c.relname::text FROM pg_class c WHERE c.relnamespace = n.oid AND c.relkind = 'r'),
       ARRAY(SELECT c.relname::text FROM pg_class c, unnest('{SELECT,INSERT,UPDATE,DELETE}'::text[]) r
             WHERE c.relnamespace = n.oid AND c.relkind = 'r' AND NOT has_table_privilege(c.oid, r) GROUP BY c.relname),
       (SELECT p.pubname IS NOT NULL FROM pg_publication p WHERE p.pubname = %s)
FROM pg_namespace n WHERE n.nspname = 'lienthong'
"""

TABLES = """
SELECT w.i, c.oid, c.relkind::text, c.relreplident::text, has_schema_privilege(n.oid, 'USAGE'),
       has_table_privilege(c.oid, 'INSERT'), has_table_privilege(c.oid, 'UPDATE'), has_table_privilege(c.oid, 'DELETE'),
       pg_get_userbyid(c.relowner)
FROM unnest(%s::text[], %s::text[]) WITH ORDINALITY w (schema_name, table_name, i)
JOIN pg_namespace n ON n.nspname = w.schema_name
JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = w.table_name AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
"""

COLUMNS = """
SELECT a.attrelid, a.attname, coalesce(b.typname, t.typname), coalesce(b.typtype, t.typtype)::text,
       format_type(a.atttypid, a.atttypmod), a.attnotnull OR t.typnotnull,
       a.atthasdef OR a.attidentity <> '' OR a.attgenerated <> '' OR t.typdefault IS NOT NULL,
       a.attgenerated <> '' OR a.attidentity = 'a', has_column_privilege(a.attrelid, a.attnum, 'SELECT'),
       (SELECT coalesce(array_agg(e.enumlabel::text ORDER BY e.enumsortorder), '{}') FROM pg_enum e
        WHERE e.enumtypid = coalesce(b.oid, t.oid))
FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
LEFT JOIN pg_type b ON t.typtype = 'd' AND b.oid = t.typbasetype
WHERE a.attrelid = ANY (%s::oid[]) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attrelid, a.attnum
"""

INDEXES = """
SELECT i.indrelid, i.indisprimary, i.indisreplident,
       ARRAY(SELECT a.attname::text FROM pg_attribute a
             WHERE a.attrelid = i.indrelid AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1]))
FROM pg_index i
WHERE i.indrelid = ANY (%s::oid[]) AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
"""

TRIGGERS = """
SELECT t.tgrelid, t.tgname::text, t.tgargs, t.tgenabled::text FROM pg_trigger t
WHERE t.tgrelid = ANY (%s::oid[]) AND t.tgname LIKE 'lienthong%%'
"""

PUBLISHED = """
SELECT c.oid, p.attnames::text[] FROM pg_publication_tables p
JOIN pg_namespace n ON n.nspname = p.schemaname JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = p.tablename
WHERE p.pubname = %s AND c.oid = ANY (%s::oid[])
"""

PUBLISHED_14 = PUBLISHED.replace("p.attnames::text[]", "NULL::text[]")

NAMES = """
SELECT CASE WHEN n.nspname = 'public' THEN '' ELSE n.nspname || '.' END || c.relname
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') 
      AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast', 'lienthong')
ORDER BY 1 LIMIT 5000
"""


@dataclass(frozen=True, slots=True)
class Server:
    """The server, and what our user may do there."""

    version: int
    encoding: str
    wal_level: str
    is_standby: bool
    user: str
    is_superuser: bool
    may_replicate: bool
    may_create: bool
    free_slots: int
    free_senders: int
    wal_keep_mb: int
    own_slots: int
    two_phase_slots: tuple[str, ...]
    lost_slots: tuple[str, ...]
    identity: int


@dataclass(frozen=True, slots=True)
class Ours:
    """Our schema in the database: is it there, may we use it."""

    usable: bool
    tables: frozenset[str]
    forbidden: tuple[str, ...]
    has_publication: bool


@dataclass(frozen=True, slots=True)
class Column:
    """A live column; `base` looks through a domain, `kind` is e for enumerations."""

    base: str
    kind: str
    declared: str
    not_null: bool
    has_default: bool
    is_generated: bool
    may_read: bool
    labels: tuple[str, ...]


@dataclass(slots=True)
class Table:
    """A live table that the profile names."""

    oid: int
    kind: str
    identity_kind: str
    may_use_schema: bool
    may_insert: bool
    may_update: bool
    may_delete: bool
    owner: str
    columns: dict[str, Column] = field(default_factory=dict)
    unique: list[frozenset[str]] = field(default_factory=list)
    identity: frozenset[str] = frozenset()
    triggers: dict[str, tuple[tuple[str, ...], str]] = field(default_factory=dict)
    published: frozenset[str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """One database as far as a check needs it; `names` are all its tables, read only when one was not found."""

    server: Server
    ours: Ours | None
    tables: dict[str, Table]
    names: tuple[str, ...]


def read_server(cursor: Cursor) -> Server:
    """The server's version, settings and our rights."""
    found = one(cursor, SERVER)
    assert found is not None
    return Server(*_frozen(found))


def _frozen(values: Iterable[Any]) -> list[Any]:
    return [tuple(value) if isinstance(value, list) else value for value in values]


def read_catalogue(cursor: Cursor, wanted: Iterable[str], server: Server) -> Catalogue:
    """Our schema and the tables with these names (as a profile writes them)."""
    written = list(dict.fromkeys(wanted))
    parts = [table_parts(name) for name in written]
    found = rows(cursor, TABLES, [[schema for schema, _ in parts], [table for _, table in parts]])
    tables = {written[position - 1]: Table(*rest) for position, *rest in found}
    by_oid = {table.oid: table for table in tables.values()}
    _fill(cursor, by_oid, server)
    return Catalogue(
        server=server,
        ours=_read_ours(cursor),
        tables=tables,
        names=tuple(name for (name,) in rows(cursor, NAMES)) if len(tables) < len(written) else (),
    )


def _read_ours(cursor: Cursor) -> Ours | None:
    found = one(cursor, OURS, [PUBLICATION])
    if found is None:
        return None
    usable, tables, forbidden, publication = found
    return Ours(usable, frozenset(tables), tuple(forbidden), bool(publication))


def _fill(cursor: Cursor, by_oid: dict[int, Table], server: Server) -> None:
    oids: list[Any] = [list(by_oid)]
    for oid, name, *rest in rows(cursor, COLUMNS, oids):
        by_oid[oid].columns[name] = Column(*_frozen(rest))
    for oid, is_primary, is_identity, columns in rows(cursor, INDEXES, oids):
        table = by_oid[oid]
        table.unique.append(frozenset(columns))
        if (table.identity_kind == "d" and is_primary) or (table.identity_kind == "i" and is_identity):
            table.identity = frozenset(columns)
    for oid, name, arguments, enabled in rows(cursor, TRIGGERS, oids):
        given = bytes(arguments).split(b"\0")[:-1]
        by_oid[oid].triggers[name] = (tuple(one_.decode("utf-8", "replace") for one_ in given), enabled)
    for oid, columns in rows(cursor, PUBLISHED if server.version >= 150000 else PUBLISHED_14, [PUBLICATION, *oids]):
        by_oid[oid].published = frozenset(by_oid[oid].columns if columns is None else columns)
    for table in by_oid.values():
        if table.identity_kind == "f":
            table.identity = frozenset(table.columns)
