"""What is in a database's schema and tables, as values; and the statements of our SQL files, sorted by what they do to those who still run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from connectors.postgres import connect, rows, transaction

HERE = Path(__file__).resolve().parent
RELEASES = sorted(folder.name for folder in HERE.iterdir() if (folder / "hub.sql").is_file())

# What a statement may do: make what is not there, replace a function, add a column, fill what is still empty. Nothing else: the code of the
# release before still runs while it is executed, and for as long as a rolling restart takes.
ALLOWED = (
    r"CREATE SCHEMA IF NOT EXISTS",
    r"CREATE TABLE IF NOT EXISTS",
    r"CREATE (UNIQUE )?INDEX IF NOT EXISTS",
    r"CREATE SEQUENCE IF NOT EXISTS",
    r"CREATE OR REPLACE (FUNCTION|VIEW)",
    r"ALTER TABLE \S+ ADD COLUMN IF NOT EXISTS (?!.*\bNOT NULL\b(?!.*\bDEFAULT\b))[^,]*$",
    r"ALTER TABLE \S+( ALTER \w+ SET STATISTICS \d+,?)+$",
    r"ALTER TABLE \S+ ALTER \w+ SET DEFAULT now\(\)$",  # for rows to come; of those that are there the time is unknown
    r"COMMENT ON",
    r"SET client_min_messages",
    r"UPDATE .* IS NULL$",
    r"INSERT .* ON CONFLICT .*DO NOTHING$",
)
# The counters of before the first release became a view over those by day; it finds nothing to do in the hub of any release.
EXCEPTIONS = ("DO $$ BEGIN IF (SELECT relkind FROM pg_class WHERE oid = to_regclass('hub.counter')) = 'r' THEN",)


def statements(text: str) -> Iterator[str]:
    """The statements of a script on one line each, without comments."""
    pieces = re.split(r"(\$\w*\$.*?\$\w*\$|'(?:[^']|'')*'|--[^\n]*|;)", text, flags=re.S)
    made = ""
    for piece in pieces:
        if piece == ";":
            yield " ".join(made.split())
            made = ""
        elif not piece.startswith("--"):
            made += piece
    if made.strip():
        yield " ".join(made.split())


def refused(text: str) -> list[str]:
    """The statements of a script that do more than is allowed."""
    return [
        statement
        for statement in statements(text)
        if not statement.startswith(EXCEPTIONS) and not any(re.match(form, statement, flags=re.I) for form in ALLOWED)
    ]


_COLUMNS = """
SELECT n.nspname || '.' || c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
  pg_get_expr(d.adbin, d.adrelid) IS NOT NULL OR a.attidentity <> ''
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
WHERE n.nspname = %s AND c.relkind = 'r' ORDER BY 1, 2
"""
_OTHERS = """
SELECT 'index', indexname::text, regexp_replace(indexdef, '\\s+', ' ', 'g') FROM pg_indexes WHERE schemaname = %s
UNION ALL SELECT 'function', p.proname || '(' || pg_get_function_identity_arguments(p.oid) || ')', md5(p.prosrc)
  FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = %s
UNION ALL SELECT 'view', viewname::text, definition FROM pg_views WHERE schemaname = %s
UNION ALL SELECT 'constraint', r.conrelid::regclass || ' ' || r.conname, pg_get_constraintdef(r.oid)
  FROM pg_constraint r JOIN pg_namespace n ON n.oid = r.connamespace WHERE n.nspname = %s AND r.contype <> 'n'
ORDER BY 1, 2
"""


class Database:
    """One database, looked at with plain SQL."""

    def __init__(self, dsn: str, schema: str) -> None:
        self.dsn, self.schema = dsn, schema

    def run(self, text: str, arguments: list[Any] | None = None) -> list[tuple[Any, ...]]:
        """Run a script or a query; its rows, if it has any."""
        connection = connect(self.dsn, application_name="test")
        try:
            with transaction(connection) as cursor:
                if arguments is not None or text.lstrip().upper().startswith("SELECT"):
                    return rows(cursor, text, arguments or [])
                cursor.execute(text)
                return []
        finally:
            connection.close()

    def columns(self) -> dict[tuple[str, str], tuple[str, bool, bool]]:
        """Type, whether it must be given, and whether it has a default, of each column of each table."""
        return {(table, column): (kind, needed, default) for table, column, kind, needed, default in self.run(_COLUMNS, [self.schema])}

    def others(self) -> dict[tuple[str, str], str]:
        """Indexes, functions and constraints with their definitions."""
        return {(kind, name): text for kind, name, text in self.run(_OTHERS, [self.schema] * 4)}

    def content(self, columns: dict[tuple[str, str], tuple[str, bool, bool]]) -> dict[str, list[tuple[Any, ...]]]:
        """What stands in these columns, table by table."""
        tables = sorted({table for table, _ in columns})
        named = {table: ", ".join(f'"{column}"' for of, column in columns if of == table) for table in tables}
        return {table: sorted(self.run(f"SELECT {named[table]} FROM {table}"), key=repr) for table in tables}  # noqa: S608 - names of the catalogue

    def fill(self) -> None:
        """A row in every table, with every column that may have a value."""
        columns = self.columns()
        for table in sorted({table for table, _ in columns}):
            given = {column: VALUES[kind] for (of, column), (kind, _, _) in columns.items() if of == table}
            given |= {column: value for (of, column), value in SPECIAL.items() if of == table}
            names, marks = ", ".join(f'"{name}"' for name in given), ", ".join(["%s"] * len(given))
            statement = f"INSERT INTO {table} ({names}) OVERRIDING SYSTEM VALUE VALUES ({marks}) RETURNING 1"  # noqa: S608 - names of the catalogue
            self.run(statement, list(given.values()))


VALUES: dict[str, Any] = {
    "text": "x",
    "bigint": 7,
    "integer": 7,
    "smallint": 0,
    "boolean": True,
    '"char"': "s",
    "bytea": b"x",
    "json": "{}",
    "jsonb": "{}",
    "date": "2026-01-01",
    "timestamp with time zone": "2026-01-01T00:00:00Z",
    "double precision": 1.5,
    "numeric(39,0)": 12,
    "text[]": ["x"],
    "xid8": "1",
    "uuid": "00000000-0000-0000-0000-000000000001",
}
SPECIAL: dict[tuple[str, str], Any] = {
    ("hub.probe", "leg"): "in",
    ("hub.delivery", "kind"): "create",
    ("hub.delivery", "state"): "pending",
    ("lienthong.probe", "leg"): "in",
    ("lienthong.applied", "state"): "applied",
    ("lienthong.change", "op"): "U",
}
