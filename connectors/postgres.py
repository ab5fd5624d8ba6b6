"""The door to PostgreSQL: connections, typed errors, fast COPY and the replication stream. The only importer of psycopg2."""

from __future__ import annotations

import codecs
import contextlib
import re
import select
from collections.abc import Callable, Collection, Iterator, Sequence
from io import BytesIO
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
_TRANSIENT_CODES = {"55P03", "55006", "25006", "25P03"}
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


class Contended(TransientError):
    """Another transaction was in the way: a deadlock, a lock not got in time; it is tried again."""

    code = "LT-DB-005"


class LoginRefused(ConfigError):
    """The database answers, but does not let us in; correct the variable of its dsn, or its pg_hba.conf."""

    code = "LT-DB-003"


class ShapeChanged(FatalError):
    """A table or column is not there any more, or may not be read; `lienthong check` shows what differs."""

    code = "LT-DB-004"


# Undefined column, table, schema, function; insufficient privilege.
_SHAPE_CODES = {"42703", "42P01", "3F000", "42883", "42501"}

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


def address_of(dsn: str) -> tuple[str, int, str]:
    """Host, port and database that a DSN names, without who logs in; raises `ConfigError` when it is none."""
    try:
        parts = psycopg2.extensions.parse_dsn(dsn)
    except psycopg2.ProgrammingError:
        raise ConfigError("not a PostgreSQL DSN; correct the variable that holds it") from None
    return parts.get("host", "localhost").split(",")[0], int(parts.get("port", "5432").split(",")[0]), parts.get("dbname", parts.get("user", ""))


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
    if state[:2] == "40" or state == "55P03":
        return Contended(text)
    if state[:2] in _TRANSIENT_CLASSES or state in _TRANSIENT_CODES:
        return Unreachable(text)
    if not state and isinstance(error, psycopg2.OperationalError | psycopg2.InterfaceError):
        advice = _login_refused(text)
        return Unreachable(text) if advice is None else LoginRefused(f"{text.partition('FATAL:')[2].strip()}: {advice}")
    if not state and type(error) is psycopg2.DatabaseError:  # the driver's word for a connection that broke in a stream
        return Unreachable(text)
    return ShapeChanged(text) if state in _SHAPE_CODES else FatalError(text)


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


# A SQL_ASCII database holds bytes of any kind. They are asked for in an encoding that the server neither checks nor converts, and
# which the driver then reads as what it mostly is, UTF-8: a byte that is not comes as a lone surrogate, and goes back as that byte.
_BYTES_AS = "LATIN10"


def _decode_bytes(data: Any, _errors: str = "strict") -> tuple[str, int]:
    return codecs.utf_8_decode(data, "surrogateescape", True)  # noqa: FBT003 - positional in C


def _encode_bytes(text: str, _errors: str = "strict") -> tuple[bytes, int]:
    return codecs.utf_8_encode(text, "surrogateescape")


def _find_codec(name: str) -> codecs.CodecInfo | None:
    return codecs.CodecInfo(_encode_bytes, _decode_bytes, name=name) if name == "lienthong_bytes" else None


codecs.register(_find_codec)
psycopg2.extensions.encodings[_BYTES_AS] = "lienthong_bytes"

_SESSION = "-c timezone=UTC -c datestyle=ISO,MDY -c intervalstyle=postgres -c extra_float_digits=1"


def _is_bytes(connection: Connection) -> bool:
    return connection.get_parameter_status("server_encoding") == "SQL_ASCII"


def connect(dsn: str, *, application_name: str, autocommit: bool = False, connect_timeout_seconds: int = 10) -> Connection:
    """Open a connection in UTC; raises `Unreachable` when the server does not answer.

    On a SQL_ASCII server, bytes that are not UTF-8 come as lone surrogates.
    """
    with errors_translated():
        connection = psycopg2.connect(
            dsn,
            application_name=application_name,
            connect_timeout=connect_timeout_seconds,
            options=_SESSION,
            keepalives_idle=30,
        )
        if _is_bytes(connection):
            connection.set_client_encoding(_BYTES_AS)
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
    except BaseException:  # also an interruption must not leave the transaction open with its locks
        with contextlib.suppress(psycopg2.Error):
            connection.rollback()
        raise


@contextlib.contextmanager
def snapshot(connection: Connection, locks: str = "") -> Iterator[Cursor]:
    """One read-only REPEATABLE READ transaction: everything inside is seen at one instant.

    `locks` are statements that run before the instant is fixed, see `shared_locks`.
    """
    with transaction(connection) as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY; " + locks)
        yield cursor


def shared_locks(cursor: Cursor, tables: Collection[sql.Composable], *, timeout_seconds: int) -> str:
    """Statements for `snapshot` that keep the tables' shape as it is until it ends.

    TRUNCATE and the rewriting forms of ALTER TABLE are not MVCC-safe (PostgreSQL manual, 13.6): to an older snapshot the table is
    simply empty, and every record in it would be taken for deleted.
    """
    names = sql.SQL(", ").join(tables)
    statement = sql.SQL("SET LOCAL lock_timeout = {}; LOCK TABLE {} IN ACCESS SHARE MODE")
    return statement.format(sql.Literal(f"{timeout_seconds}s"), names).as_string(cursor)


def _escaped(text: str) -> str:
    # Looking first is ten times cheaper than str.translate, and hardly any text needs it.
    if "\\" in text:
        text = text.replace("\\", "\\\\")
    if "\n" in text or "\t" in text or "\r" in text:
        text = text.replace("\n", "\\n").replace("\t", "\\t").replace("\r", "\\r")
    return text


_COPY: dict[type, Callable[[Any], str]] = {
    str: _escaped,
    int: str,
    bytes: lambda value: "\\\\x" + value.hex(),
    bool: lambda value: "t" if value else "f",
    type(None): lambda _: "\\N",
}


def copy_rows(cursor: Cursor, table: str, columns: Sequence[str], rows: Collection[Sequence[object]]) -> None:
    """COPY rows into a table (identifiers already quoted by the caller's composer or constants of ours)."""
    if not rows:
        return
    forms = _COPY
    data = "".join(["\t".join([forms.get(type(value), str)(value) for value in row]) + "\n" for row in rows])
    statement = f"COPY {table} ({', '.join(columns)}) FROM STDIN"
    cursor.copy_expert(statement, BytesIO(data.encode()), size=262144)


def streamed(cursor: Cursor, statement: str, arguments: dict[str, Any]) -> Iterator[tuple[Any, ...]]:
    """Run a query whose answer may be large: it is fetched in parts, through a cursor in the server."""
    with cursor.connection.cursor(name="lienthong_streamed") as part:
        part.itersize = 5000
        part.execute(statement, arguments)
        yield from part


def is_bytes(cursor: Cursor) -> bool:
    """Whether the database is SQL_ASCII, so that text in it may be anything."""
    return _is_bytes(cursor.connection)


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

    def __init__(self, dsn: str, *, slot: str, publication: str, application_name: str, as_bytes: bool = False) -> None:
        self._slot = slot
        with errors_translated():
            self._connection = psycopg2.connect(
                dsn,
                application_name=application_name,
                connection_factory=psycopg2.extras.LogicalReplicationConnection,
                # Keys must have the same text here as in a reading.
                options=_SESSION + ("" if as_bytes else " -c client_encoding=UTF8"),
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

    def breathe(self) -> None:
        """Show the server that we live, while we are busy with something else (its `wal_sender_timeout`)."""
        with errors_translated():
            self._cursor.send_feedback(force=True)  # type: ignore[no-untyped-call]

    def confirm(self, position: int) -> None:
        """Tell the server that everything before `position` is safe with us."""
        with errors_translated():
            self._cursor.send_feedback(write_lsn=position, flush_lsn=position, apply_lsn=position, force=True)  # type: ignore[no-untyped-call]

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
