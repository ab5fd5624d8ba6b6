"""The door to PostgreSQL: connections, typed errors, fast COPY and the replication stream. The only importer of psycopg2."""

from __future__ import annotations

import contextlib
import re
import select
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import psycopg2
import psycopg2.extensions
import psycopg2.extras
from psycopg2 import sql as sql

from connectors.errors import ConfigError, FatalError, LienThongError, TransientError

Connection = psycopg2.extensions.connection
Cursor = psycopg2.extensions.cursor
DatabaseError = psycopg2.Error

# SQLSTATE classes and codes that a retry of the whole transaction can cure (PostgreSQL manual, appendix A).
_TRANSIENT_CLASSES = {"08", "53", "57", "58", "40"}
_TRANSIENT_CODES = {"55P03", "55006", "25006"}
# What the data itself caused: bad value, violated constraint, a trigger's RAISE.
_DATA_CLASSES = {"22", "23"}
_DATA_CODES = {"P0001", "44000"}


class DataRefused(LienThongError):
    """The database's own rules refuse this data."""

    code = "LT-DB-002"

    def __init__(self, sqlstate: str, message: str, constraint: str | None, column: str | None) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate
        self.constraint = constraint
        self.column = column


class Unreachable(TransientError):
    """The database does not answer; it is tried again."""

    code = "LT-DB-001"


class LoginRefused(ConfigError):
    """The database answers, but does not let us in; correct the variable of its dsn, or its pg_hba.conf."""

    code = "LT-DB-003"


# What servers say to a login (SQLSTATE 28P01, 28000, 3D000, 42501): libpq gives the text of a failed connection, never its code.
_LOGIN = (
    (re.compile("password authentication failed"), "correct the password in the variable of its dsn"),
    (re.compile("no password supplied"), "put the password into the variable of its dsn"),
    (re.compile("no pg_hba.conf entry"), "its administrator allows our user and address in pg_hba.conf"),
    (re.compile("permission denied for database"), "its administrator runs GRANT CONNECT ON DATABASE"),
    (re.compile("is not permitted to log in"), "its administrator runs ALTER ROLE … LOGIN"),
    (re.compile('role ".*" does not exist'), "correct the user in the variable of its dsn, or have it created"),
    (re.compile('database ".*" does not exist'), "correct the database in the variable of its dsn"),
)


def _login_refused(text: str) -> str | None:
    """What to do about a login that was refused; None when it was not the login."""
    return next((advice for said, advice in _LOGIN if said.search(text)), None) if "FATAL:" in text else None


def describe(error: psycopg2.Error) -> str:
    """SQLSTATE and primary message only: DETAIL and CONTEXT hold row values, that is personal data."""
    primary = error.diag.message_primary if error.diag is not None else None
    if primary is None:
        primary = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return f"{error.pgcode}: {primary}" if error.pgcode else primary


def translated(error: psycopg2.Error) -> LienThongError:
    """Our error for one of the driver's, by what the caller can do about it."""
    state = error.pgcode or ""
    text = describe(error)
    if state[:2] in _DATA_CLASSES or state in _DATA_CODES:
        return DataRefused(state, _without_values(state, error), error.diag.constraint_name, error.diag.column_name)
    if state[:2] in _TRANSIENT_CLASSES or state in _TRANSIENT_CODES:
        return Unreachable(text)
    if not state and isinstance(error, psycopg2.OperationalError | psycopg2.InterfaceError):
        advice = _login_refused(text)
        return Unreachable(text) if advice is None else LoginRefused(f"{text.partition('FATAL:')[2].strip()}: {advice}")
    return FatalError(text)


def _without_values(state: str, error: psycopg2.Error) -> str:
    """Class 22 messages quote the offending value ('invalid input syntax ... "x"'), so only their kind is told."""
    if state[:2] == "22":
        return f"{state}: {type(error).__name__}"
    if state[:2] == "23":
        return f"{state}: {type(error).__name__} {error.diag.constraint_name or error.diag.column_name or ''}".rstrip()
    return f"{state}: refused by a rule of the database"


@contextlib.contextmanager
def errors_translated() -> Iterator[None]:
    """Turn every driver error inside into one of ours, without the row values the driver quotes."""
    try:
        yield
    except psycopg2.Error as error:
        raise translated(error) from None


def connect(dsn: str, *, application_name: str, autocommit: bool = False, connect_timeout_seconds: int = 10) -> Connection:
    """Open a connection in UTC with UTF-8; raises `Unreachable` when the server does not answer."""
    with errors_translated():
        connection = psycopg2.connect(
            dsn,
            application_name=application_name,
            connect_timeout=connect_timeout_seconds,
            options="-c timezone=UTC -c datestyle=ISO -c extra_float_digits=1",
            keepalives_idle=30,
        )
        connection.autocommit = autocommit
        return connection


@contextlib.contextmanager
def transaction(connection: Connection) -> Iterator[Cursor]:
    """One READ COMMITTED transaction; rolled back on any error, driver errors translated."""
    try:
        with errors_translated():
            with connection.cursor() as cursor:
                yield cursor
            connection.commit()
    except BaseException:
        with contextlib.suppress(psycopg2.Error):
            connection.rollback()
        raise


@contextlib.contextmanager
def snapshot(connection: Connection) -> Iterator[Cursor]:
    """One read-only REPEATABLE READ transaction: everything inside is seen at one instant."""
    with transaction(connection) as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        yield cursor


_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})


def _copy_text(value: object) -> str:
    if value is None:
        return "\\N"
    if isinstance(value, str):
        return value.translate(_ESCAPES)
    if isinstance(value, bytes):
        return "\\\\x" + value.hex()
    if value is True or value is False:
        return "t" if value else "f"
    return str(value)


class _Lines:
    """A file-like reader over lines of bytes, for COPY."""

    def __init__(self, data: bytes) -> None:
        self._view = memoryview(data)
        self._at = 0

    def read(self, size: int) -> bytes:
        part = self._view[self._at : self._at + size]
        self._at += len(part)
        return bytes(part)


def copy_rows(cursor: Cursor, table: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """COPY rows into a table (identifiers already quoted by the caller's composer or constants of ours)."""
    text = _copy_text
    data = "".join(["\t".join([text(value) for value in row]) + "\n" for row in rows])
    statement = f"COPY {table} ({', '.join(columns)}) FROM STDIN"
    cursor.copy_expert(statement, _Lines(data.encode()), size=262144)


def rows(cursor: Cursor, statement: Any, arguments: Sequence[Any] | dict[str, Any] | None = None) -> list[tuple[Any, ...]]:
    """Run a query and fetch all of it."""
    cursor.execute(statement, arguments)
    return cursor.fetchall()


def one(cursor: Cursor, statement: Any, arguments: Sequence[Any] | dict[str, Any] | None = None) -> tuple[Any, ...] | None:
    """Run a query and fetch its first row, if there is one."""
    cursor.execute(statement, arguments)
    return cursor.fetchone()


class ReplicationStream:
    """A logical replication slot read through pgoutput, protocol 1 with streaming off (rule R3)."""

    def __init__(self, dsn: str, *, slot: str, publication: str, application_name: str) -> None:
        self._slot = slot
        with errors_translated():
            self._connection = psycopg2.connect(
                dsn, application_name=application_name, connection_factory=psycopg2.extras.LogicalReplicationConnection
            )
            self._cursor = self._connection.cursor()
            self._cursor.start_replication(
                slot_name=slot,
                decode=False,
                status_interval=10,
                options={"proto_version": "1", "publication_names": publication},
            )

    def fileno(self) -> int:
        """The socket, for a selector."""
        return int(self._connection.fileno())

    def messages(self, limit: int) -> Iterator[tuple[int, bytes]]:
        """Up to `limit` (position, payload) pairs that have already arrived, without waiting."""
        read = self._cursor.read_message
        with errors_translated():
            for _ in range(limit):
                message = read()
                if message is None:
                    return
                yield message.data_start, message.payload

    @property
    def server_position(self) -> int:
        """The newest end of WAL the server has told about."""
        return int(self._cursor.wal_end)

    def confirm(self, position: int) -> None:
        """Tell the server that everything before `position` is safe with us."""
        with errors_translated():
            self._cursor.send_feedback(write_lsn=position, flush_lsn=position, apply_lsn=position, force=True)

    def close(self) -> None:
        """Drop the connection; the slot stays."""
        with contextlib.suppress(psycopg2.Error):
            self._connection.close()


def wait_readable(sockets: Sequence[Any], timeout_seconds: float) -> list[Any]:
    """Those of the sockets that have something to read, waiting at most the given time."""
    if not sockets:
        select.select([], [], [], timeout_seconds)
        return []
    return select.select(sockets, [], [], timeout_seconds)[0]
