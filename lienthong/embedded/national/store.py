"""State of a stand-in service in PostgreSQL: what it saw, what it shall play, whom it lets in, and its own tables."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, LifoQueue
from typing import Any

from connectors.postgres import Connection, Cursor, connect, one, sql, transaction

_HERE = Path(__file__).parent
TAKE_FAULT = """
UPDATE fault SET times = times - 1 WHERE number = (
  SELECT number FROM fault WHERE times > 0 AND (operation IS NULL OR operation = %s) ORDER BY number LIMIT 1 FOR UPDATE
) RETURNING kind, argument
"""
"""The fault that meets a request of an operation, used up once."""
_SCHEMA_LOCK = 0x6E6174  # "nat": two servers of one database make their tables one after the other


@dataclass(frozen=True, slots=True)
class Armed:
    """One fault that meets this request."""

    kind: str
    argument: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """What a request says about itself."""

    operation: str
    request_id: str | None = None
    officer: str | None = None
    unit: str | None = None


class Store:
    """Tables of one service in its schema; connections are kept for the next request."""

    def __init__(self, dsn: str, schema: str, *scripts: str) -> None:
        self._dsn, self._schema = dsn, schema
        self._idle: LifoQueue[Connection] = LifoQueue()
        with self.transaction() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", (_SCHEMA_LOCK,))
            cursor.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(schema)))
            for script in ("tables.sql", *scripts):
                cursor.execute((_HERE / script).read_text("utf-8"))

    @contextmanager
    def transaction(self) -> Iterator[Cursor]:
        """One transaction on a connection nobody else uses."""
        connection = self._taken()
        try:
            with transaction(connection) as cursor:
                yield cursor
        except BaseException:
            connection.close()
            raise
        self._idle.put(connection)

    def _taken(self) -> Connection:
        try:
            return self._idle.get_nowait()
        except Empty:
            connection = connect(self._dsn, application_name=f"national-{self._schema}")
            with transaction(connection) as cursor:
                cursor.execute(sql.SQL("SET search_path TO {}").format(sql.Identifier(self._schema)))
            return connection

    # ------------------------------------------------------------ requests
    def arrived(self, arrival: Arrival) -> tuple[int, Armed | None]:
        """Write down that a request came, committed before anything else happens; its number and the fault it meets."""
        with self.transaction() as cursor:
            armed = _armed(cursor, arrival.operation)
            cursor.execute(
                "INSERT INTO seen (operation, request_id, officer, unit, fault) VALUES (%s, %s, %s, %s, %s) RETURNING number",
                (arrival.operation, arrival.request_id, arrival.officer, arrival.unit, armed and armed.kind),
            )
            (number,) = cursor.fetchone() or (0,)
            return number, armed

    def in_last_second(self, number: int) -> int:
        """Requests of the second that ended when this one arrived, itself included and those refused for their number left out."""
        statement = """
            SELECT count(*) FROM seen AS one, seen AS this WHERE this.number = %s AND one.number <= this.number
            AND one.at > this.at - interval '1 s' AND one.status IS DISTINCT FROM 429"""
        with self.transaction() as cursor:
            (found,) = one(cursor, statement, (number,)) or (0,)
            return int(found)

    def answered(self, number: int, status: int, account: str | None = None) -> None:
        """Write down how a request was answered."""
        with self.transaction() as cursor:
            cursor.execute("UPDATE seen SET status = %s, account = %s WHERE number = %s", (status, account, number))

    def counts(self) -> dict[str, Any]:
        """What came, in numbers: requests, processed, distinct ids processed, most in any one second (sliding)."""
        statement = """
            WITH seconds AS (SELECT count(*) OVER (ORDER BY at RANGE BETWEEN interval '999 ms' PRECEDING AND CURRENT ROW) AS requests FROM seen)
            SELECT count(*), count(*) FILTER (WHERE processed), count(DISTINCT request_id) FILTER (WHERE processed),
                (SELECT coalesce(max(requests), 0) FROM seconds)
            FROM seen"""
        with self.transaction() as cursor:
            found = one(cursor, statement) or (0, 0, 0, 0)
        return dict(zip(("requests", "processed", "distinct", "most_per_second"), found, strict=True))

    # ------------------------------------------------------------ faults and accounts
    def arm(self, kind: str, times: int, argument: Mapping[str, Any], operation: str | None) -> None:
        """Let the next `times` requests of an operation meet a fault."""
        with self.transaction() as cursor:
            cursor.execute(
                "INSERT INTO fault (kind, times, argument, operation) VALUES (%s, %s, %s, %s)", (kind, times, json.dumps(dict(argument)), operation)
            )

    def disarm(self) -> None:
        """Play no fault any more."""
        with self.transaction() as cursor:
            cursor.execute("DELETE FROM fault")

    def account(self, name: str) -> tuple[str | None, str | None] | None:
        """Secret and certificate of an account; None when there is none of that name."""
        with self.transaction() as cursor:
            return one(cursor, "SELECT secret, certificate FROM account WHERE name = %s", (name,))

    def certificates(self) -> list[tuple[str, str]]:
        """Name and certificate of every account that has one."""
        with self.transaction() as cursor:
            cursor.execute("SELECT name, certificate FROM account WHERE certificate IS NOT NULL ORDER BY name")
            return cursor.fetchall()

    def nonce_is_new(self, value: str) -> bool:
        """Use a nonce up; whether it was unused."""
        with self.transaction() as cursor:
            cursor.execute("INSERT INTO nonce VALUES (%s) ON CONFLICT DO NOTHING", (value,))
            return bool(cursor.rowcount == 1)


def _armed(cursor: Cursor, operation: str) -> Armed | None:
    cursor.execute(TAKE_FAULT, (operation,))
    found = cursor.fetchone()
    return None if found is None else Armed(*found)
