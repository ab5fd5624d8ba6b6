"""The work every contender does: one table, its seed, the change stream, and the proof that two tables are equal."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg2
from psycopg2 import errors, sql
from psycopg2.extensions import connection, cursor

COLUMNS = (
    "dossier_code",
    "procedure_code",
    "agency_code",
    "applicant_name",
    "citizen_id",
    "status",
    "submitted_at",
    "due_at",
    "finished_at",
    "ward_code",
    "note",
    "updated_at",
)

TABLE = """
CREATE TABLE dossier (
  dossier_code text PRIMARY KEY, procedure_code text NOT NULL, agency_code text NOT NULL,
  applicant_name text NOT NULL, citizen_id text NOT NULL, status int NOT NULL,
  submitted_at timestamptz NOT NULL, due_at timestamptz NOT NULL, finished_at timestamptz,
  ward_code text NOT NULL, note text NOT NULL, updated_at timestamptz NOT NULL)"""

# Sent with parameters, so its own percent signs are doubled.
SEED = """
INSERT INTO dossier
SELECT 'D' || lpad(i::text, 10, '0'), 'TTHC.' || lpad((i %% 1900)::text, 4, '0'), 'SO-' || (i %% 22),
       'Nguyễn Văn ' || md5((i * 31)::text)::varchar(12), lpad((79000000000 + i * 13)::text, 12, '0'),
       i %% 7, t, t + interval '15 days', CASE WHEN i %% 3 = 0 THEN t + interval '9 days' END,
       'W' || lpad((i %% 312)::text, 5, '0'),
       md5(i::text) || ' hồ sơ ' || md5((i + 1)::text) || md5((i + 2)::text)::varchar(30), t
FROM (SELECT i, timestamptz '2025-01-01 00:00:00.123456+07' + i * interval '17.000321 s' AS t
      FROM generate_series(0, %(rows)s - 1) i) s"""

# 45 changes are 40 updates, 4 inserts and a delete; 5,000 such groups are 200,000 / 20,000 / 5,000, in transactions of
# 100. The last transaction is one more update of row 0: the end mark.
STREAM = """
CREATE PROCEDURE change_stream(n bigint, groups bigint, mark text) LANGUAGE plpgsql AS $$
DECLARE g bigint; k int; i bigint := 0; u bigint := 0; ins bigint := 0; now_ts timestamptz;
BEGIN
  FOR g IN 0 .. groups - 1 LOOP
    FOR k IN 0 .. 44 LOOP
      now_ts := clock_timestamp();
      IF k < 40 THEN
        UPDATE dossier SET status = (status + 1) % 7, updated_at = now_ts,
               note = CASE WHEN u % 4 = 0 THEN md5(u::text) || ' đã cập nhật ' || md5((u + 7)::text)
                                               || md5((u + 9)::text)::varchar(24) ELSE note END,
               finished_at = CASE WHEN u % 5 = 0 THEN now_ts ELSE finished_at END
         WHERE dossier_code = 'D' || lpad((1 + (u * 7919) % (n - groups - 1))::text, 10, '0');
        u := u + 1;
      ELSIF k < 44 THEN
        INSERT INTO dossier VALUES ('N' || lpad(ins::text, 10, '0'), 'TTHC.9999', 'SO-1', 'Trần Thị ' || ins,
               lpad((79900000000 + ins)::text, 12, '0'), 0, now_ts, now_ts + interval '15 days', NULL, 'W00001',
               md5(ins::text) || md5((ins + 1)::text) || md5((ins + 2)::text), now_ts);
        ins := ins + 1;
      ELSE
        DELETE FROM dossier WHERE dossier_code = 'D' || lpad((n - 1 - g)::text, 10, '0');
      END IF;
      i := i + 1;
      IF i % 100 = 0 THEN COMMIT; END IF;
    END LOOP;
  END LOOP;
  COMMIT;
  UPDATE dossier SET note = mark, updated_at = clock_timestamp() WHERE dossier_code = 'D0000000000';
  COMMIT;
END $$"""

CHANGES_PER_GROUP = 45
UPDATES_PER_TRANSACTION = 10
TRANSACTIONS_PER_SECOND = 50
MARKED_ROW = "D0000000000"
FIRST_LATENCY_ROW = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """How much is asked: rows to load, changes to stream, and seconds of steady changes."""

    rows: int
    changes: int
    latency_seconds: int
    timeout_seconds: int = 900

    def __post_init__(self) -> None:
        if self.changes % CHANGES_PER_GROUP:
            raise ValueError(f"changes must be a multiple of {CHANGES_PER_GROUP}")
        if self.rows < self.groups + 1000:
            raise ValueError(f"{self.changes} changes need at least {self.groups + 1000} rows")

    @property
    def groups(self) -> int:
        """How often the stream repeats its 40 updates, 4 inserts and a delete."""
        return self.changes // CHANGES_PER_GROUP

    @property
    def transactions(self) -> int:
        """How many transactions the latency job commits."""
        return self.latency_seconds * TRANSACTIONS_PER_SECOND

    def latency_keys(self, transaction: int) -> list[str]:
        """The rows that a transaction of the latency job updates: none of those that the stream deletes."""
        usable = self.rows - self.groups - FIRST_LATENCY_ROW - 1
        first = transaction * UPDATES_PER_TRANSACTION
        return [f"D{FIRST_LATENCY_ROW + (first + j) % usable:010d}" for j in range(UPDATES_PER_TRANSACTION)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A relation with the twelve columns in some database: where the work is written, or where it is awaited.

    `count_from` names a relation with the same number of rows that is cheaper to count, where `relation` is a view.
    """

    dsn: str
    relation: str = "dossier"
    count_from: str | None = None

    @contextmanager
    def open(self) -> Iterator[cursor]:
        """A cursor in autocommit; the connection is closed at the end."""
        with connect(self.dsn) as opened, opened.cursor() as found:
            yield found

    def count(self, at: cursor) -> int:
        """How many rows are there."""
        at.execute(sql.SQL("SELECT count(*) FROM {}").format(_identifier(self.count_from or self.relation)))
        return _one(at)[0]

    def digest(self) -> tuple[int, int]:
        """The number of rows and an aggregate over all twelve columns that does not depend on their order."""
        with self.open() as at:
            at.execute("SET TimeZone = 'UTC'")
            at.execute(_DIGEST.format(row=_ROW, relation=_identifier(self.relation)))
            rows, total = _one(at)
        return rows, int(total)  # the sum is a numeric

    def note_of(self, at: cursor, code: str) -> str | None:
        """The note of one dossier, if it is there."""
        return self.notes_of(at, [code]).get(code)

    def notes_of(self, at: cursor, codes: list[str]) -> dict[str, str]:
        """The notes of those of the dossiers that are there."""
        query = sql.SQL("SELECT dossier_code, note FROM {} WHERE dossier_code = ANY(%s)")
        at.execute(query.format(_identifier(self.relation)), (codes,))
        return dict(at.fetchall())


_DIGEST = sql.SQL("SELECT count(*), coalesce(sum(('x' || left(md5({row}), 15))::bit(60)::bigint), 0) FROM {relation}")
_ROW = sql.SQL(" || '|' || ").join(sql.SQL("coalesce({}::text, '~')").format(sql.Identifier(c)) for c in COLUMNS)


def are_equal(source: Place, target: Place) -> bool:
    """Whether both places hold the same rows in all twelve columns."""
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(Place.digest, (source, target))
    return first == second


def prepare_source(admin_dsn: str, database_dsn: str, seed_dsn: str, work: Work) -> None:
    """Make the source database anew from its seeded template, so that every run starts from the same rows."""
    source, seed = _database_of(database_dsn), _database_of(seed_dsn)
    with connect(admin_dsn) as server, server.cursor() as at:
        _drop_slots(at, source)
        at.execute("SELECT 1 FROM pg_database WHERE datname = %s", (seed,))
        if at.fetchone() is None:
            at.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(seed)))
            _fill(seed_dsn, work)
        at.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(source)))
        at.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(source), sql.Identifier(seed)))
        at.execute("CHECKPOINT")


def prepare_target(admin_dsn: str, database_dsn: str) -> None:
    """Make the target database anew: the empty table with its primary key."""
    target = sql.Identifier(_database_of(database_dsn))
    with connect(admin_dsn) as server, server.cursor() as at:
        at.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(target))
        at.execute(sql.SQL("CREATE DATABASE {}").format(target))
        at.execute("CHECKPOINT")
    with connect(database_dsn) as database, database.cursor() as at:
        at.execute(TABLE)


def run_stream(source: Place, work: Work, mark: str) -> None:
    """Commit the change stream on the source as fast as one procedure does, the end mark last."""
    with source.open() as at:
        at.execute("CALL change_stream(%s, %s, %s)", (work.rows, work.groups, mark))


@contextmanager
def connect(dsn: str) -> Iterator[connection]:
    """A connection in autocommit that is closed at the end."""
    opened = psycopg2.connect(dsn)
    opened.autocommit = True
    try:
        yield opened
    finally:
        opened.close()


def _fill(seed_dsn: str, work: Work) -> None:
    with connect(seed_dsn) as database, database.cursor() as at:
        at.execute(TABLE)
        at.execute(SEED, {"rows": work.rows})
        at.execute(STREAM)
        at.execute("VACUUM ANALYZE dossier")


def _drop_slots(at: cursor, database: str, tries: int = 40) -> None:
    """Drop the slots of a database whose reader was just ended; the server may take a moment to notice that."""
    at.execute("SELECT slot_name FROM pg_replication_slots WHERE database = %s", (database,))
    for (slot,) in at.fetchall():
        for attempt in range(tries):
            try:
                at.execute("SELECT pg_drop_replication_slot(%s)", (slot,))
                break
            except errors.ObjectInUse:
                if attempt == tries - 1:
                    raise
                time.sleep(0.25)


def _database_of(dsn: str) -> str:
    return str(psycopg2.extensions.parse_dsn(dsn)["dbname"])


def _identifier(relation: str) -> sql.Identifier:
    return sql.Identifier(*relation.split("."))


def _one(at: cursor) -> tuple[int, ...]:
    row = at.fetchone()
    if row is None:
        raise LookupError("the query answered no row")
    return row
