"""Creating and completing the hub's tables."""

from __future__ import annotations

from hashlib import sha256
from importlib.resources import files

from connectors.postgres import connect, one, transaction
from lienthong.errors import ConfigError

SERVER_VERSION = 180000
SCHEMA_FILES = (
    "hub.sql", "probe.sql", "parked.sql", "reconcile.sql", "certificate.sql", "delivery.sql", "national.sql", "verified.sql", "purge.sql",
    "source_seen.sql",
    "journey.sql", "procedures.sql", "scorecard.sql",
    "web.sql", "delay.sql",
)  # fmt: skip
"""In the order in which they are run."""


def _statements() -> list[str]:
    return [files("lienthong").joinpath("sql", name).read_text("utf-8") for name in SCHEMA_FILES]


def wanted() -> str:
    """The digest of the schema that this release makes, as `hub.setting` keeps it."""
    return sha256("\n".join(_statements()).encode()).hexdigest()


def install(dsn: str) -> None:
    """Create or complete the hub's schema; a hub that has it already is left alone.

    Even statements that find nothing to do lock the tables they name, and so may deadlock with merges under way. Raises `ConfigError` for an older
    PostgreSQL.
    """
    statements, digest = _statements(), wanted()
    connection = connect(dsn, application_name="lienthong install")
    try:
        with transaction(connection) as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(hashtext('lienthong.install')), current_setting('server_version_num')::int")
            if cursor.fetchall()[0][1] < SERVER_VERSION:
                raise ConfigError(f"the hub needs PostgreSQL {SERVER_VERSION // 10000} or later (OLD and NEW in RETURNING)")
            if one(cursor, "SELECT to_regclass('hub.setting')") != (None,) and one(
                cursor, "SELECT 1 FROM hub.setting WHERE name = 'schema' AND value = %s", [digest]
            ):
                return
            for statement in statements:
                cursor.execute(statement)
            cursor.execute("INSERT INTO hub.setting VALUES ('schema', %s) ON CONFLICT (name) DO UPDATE SET value = excluded.value", [digest])
    finally:
        connection.close()
