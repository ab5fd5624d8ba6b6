# ruff: noqa: S608 - names and numbers of our own in statements
"""Capture in both forms, on real PostgreSQL and Kafka: the same suite for the log and for the outbox."""

from __future__ import annotations

import gc
import random
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from threading import Event, Thread, Timer
from typing import Any

import pytest

from connectors.postgres import transaction
from lienthong import frames, hub, hub_schema, load
from lienthong.capture import outbox, state, wal
from lienthong.capture.line import Line
from lienthong.capture.run import Supervised
from lienthong.embedded import KafkaBroker, PostgresCluster
from lienthong.errors import ConfigError, FatalError, FencedError, TransientError
from lienthong.load import Loader
from lienthong.reading import EntityReading, SourceReadings
from lienthong.vault import Vault
from tests.capture_kit import PROFILE, STATUSES, TABLES, Site, settings_for

_numbers = count(1)
NewSite = Callable[..., Site]


@pytest.fixture(scope="module")
def hub_dsn(pg: PostgresCluster) -> Iterator[str]:
    """One hub for the module; every test has a system of its own. It does not wait for standbys, which a test takes away."""
    dsn = pg.create_database("capture_hub")
    pg.execute("ALTER DATABASE capture_hub SET synchronous_commit = local")
    hub_schema.install(dsn)
    yield dsn
    pg.drop_database("capture_hub")


@pytest.fixture
def new_site(pg: PostgresCluster, kafka: KafkaBroker, hub_dsn: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[NewSite]:
    """Makes sources with a database and an in-topic of their own."""
    sites: list[tuple[Site, str]] = []

    def make(form: str, profile: dict[str, Any] = PROFILE, dsn: str | None = None) -> Site:
        number = next(_numbers)
        name = f"capture_{number}"
        monkeypatch.setattr(frames, "TOPIC", f"lienthong.in.{number}")
        dsn = dsn or pg.create_database(name)
        site = Site(settings_for(form, f"ward-{number}", dsn, hub_dsn, kafka.bootstrap, profile), f"ward-{number}")
        sites.append((site, name))
        return site

    yield make
    for site, name in sites:
        site.close()
        pg.drop_database(name)


@pytest.fixture(params=["wal", "outbox"])
def form(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def site(form: str, new_site: NewSite) -> Site:
    """The vendor's tables, empty, ready to be captured."""
    made = new_site(form)
    made.install(TABLES)
    return made


# ------------------------------------------------------------------ what changes
def test_inserts_updates_and_deletes_arrive(site: Site) -> None:
    line = site.line()
    site.sql("INSERT INTO dossier (id, note) VALUES (1, 'a'), (2, 'b'), (3, 'c')")
    assert site.drain(line).field("note") == {"1": "a", "2": "b", "3": "c"}
    site.sql("UPDATE dossier SET note = 'B' WHERE id = 2", "DELETE FROM dossier WHERE id = 3")
    assert site.drain(line).field("note") == {"2": "B", "3": "gone"}
    site.assert_same()


def test_a_new_primary_key_is_the_end_of_one_record_and_the_begin_of_another(site: Site) -> None:
    line = site.line()
    site.sql("INSERT INTO dossier (id, note) VALUES (1, 'a')")
    site.drain(line)
    site.sql("UPDATE dossier SET id = 2 WHERE id = 1")
    assert site.drain(line).field("note") == {"1": "gone", "2": "a"}
    site.assert_same()


def test_a_part_that_moves_changes_both_roots(site: Site) -> None:
    line = site.line()
    site.sql("INSERT INTO dossier (id) VALUES (1), (2)", "INSERT INTO officer VALUES (7, 1, 'Bình')")
    assert site.drain(line).field("handler_name") == {"1": "Bình", "2": None}
    site.sql("UPDATE officer SET dossier_id = 2 WHERE id = 7")
    assert site.drain(line).field("handler_name") == {"1": None, "2": "Bình"}
    site.sql("UPDATE officer SET name = 'Bích' WHERE id = 7")
    assert site.drain(line).field("handler_name") == {"2": "Bích"}
    site.sql("DELETE FROM officer")
    assert site.drain(line).field("handler_name") == {"2": None}
    site.assert_same()


def test_a_part_that_roots_refer_to_changes_all_of_them(site: Site) -> None:
    line = site.line()
    site.sql("INSERT INTO address VALUES (1, 'A'), (2, 'B')", "INSERT INTO dossier (id, address_id) VALUES (1, 1), (2, 1), (3, 2)")
    assert site.drain(line).field("applicant_address") == {"1": "A", "2": "A", "3": "B"}
    site.sql("UPDATE address SET line = 'A2' WHERE id = 1")
    assert site.drain(line).field("applicant_address") == {"1": "A2", "2": "A2"}
    site.sql("UPDATE address SET id = 9 WHERE id = 1")
    assert site.drain(line).field("applicant_address") == {"1": None, "2": None}
    site.sql("UPDATE dossier SET address_id = 9 WHERE id = 2")
    assert site.drain(line).field("applicant_address") == {"2": "A2"}
    site.assert_same()


def test_rollbacks_and_savepoints_leave_only_what_was_committed(site: Site) -> None:
    line = site.line()
    session = site.open()
    session.cursor().execute("INSERT INTO dossier (id, note) VALUES (1, 'never')")
    session.rollback()
    session.cursor().execute(
        "INSERT INTO dossier (id, note) VALUES (2, 'kept'); SAVEPOINT s; INSERT INTO dossier (id) VALUES (3);"
        "UPDATE dossier SET note = 'lost' WHERE id = 2; ROLLBACK TO s; INSERT INTO dossier (id, note) VALUES (4, 'after')"
    )
    session.commit()
    assert site.drain(line).field("note") == {"2": "kept", "4": "after"}
    site.assert_same()


def test_one_transaction_over_several_tables_is_one_reading(site: Site) -> None:
    line = site.line()
    site.sql(
        "INSERT INTO dossier (id) VALUES (1)",
        "INSERT INTO officer VALUES (1, 1, 'Chi')",
        """INSERT INTO "Lệ phí" VALUES ('P1', 'LP', 1, 50000)""",
        "UPDATE dossier SET note = 'x' WHERE id = 1",
    )
    published = site.drain(line)
    assert len({header.version for header in published.headers}) == 1
    assert published.field("handler_name") == {"1": "Chi"}
    assert published.field("amount", "fee") == {"P1|LP": 50000}
    assert [entry.parent for entry in published.entries if entry.entity == "fee"] == ["1"]


# ------------------------------------------------------------------ values
TRICKY = {
    1: "NULL",
    2: "'quote' \"double\"",
    3: "tab\tnewline\nreturn\r",
    4: "back\\slash \\N \\t",
    5: "Nguyễn",
    6: "Nguye\u0302\u0303n",
    7: "",
    8: "  spaces  ",
    9: "😀 \u200b %s %(x)s {0}",
    10: "\x01\x7f",
}


def test_values_arrive_as_they_are(site: Site) -> None:
    line = site.line()
    site.sql("INSERT INTO dossier (id, note) VALUES (0, NULL)")
    with site.admin.cursor() as cursor:
        for key, value in TRICKY.items():
            cursor.execute("INSERT INTO dossier (id, note) VALUES (%s, %s)", [key, value])
    site.admin.commit()
    assert site.drain(line).field("note") == {"0": None} | {str(key): value for key, value in TRICKY.items()}
    site.assert_same()


def test_keys_of_any_text_and_of_several_columns_arrive(site: Site) -> None:
    line = site.line()
    keys = [("a|b", "c"), ("a", "b|c"), ("a\\", "|b"), ("a\\|", "b"), ("Đ\u1ed3ng", "Đo\u0302\u0300ng"), ("", "'\"\t")]
    with site.admin.cursor() as cursor:
        cursor.execute("INSERT INTO dossier (id) VALUES (1)")
        for key in keys:
            cursor.execute('INSERT INTO "Lệ phí" VALUES (%s, %s, 1, 1)', key)
    site.admin.commit()
    site.drain(line)
    held = site.in_hub("fee")
    assert len(held) == len(keys)
    assert {values["fee_code"] for values in held.values()} == {code for _, code in keys}
    site.sql("""DELETE FROM "Lệ phí" WHERE unit = 'a|b' OR "Mã" = '|b'""", """UPDATE "Lệ phí" SET "Mã" = 'z' WHERE unit = ''""")
    site.drain(line)
    assert {values["fee_code"] for values in site.in_hub("fee").values()} == {"b|c", "b", keys[4][1], "z"}


ODD_KEYS = {
    "char(8)": ("'ab'", "'cd'"),
    "timestamptz": ("'2026-01-01 07:00+07'", "'2026-01-02 07:00:00.5+07'"),
    "boolean": ("true", "false"),
    "date": ("'2026-02-01'", "'2026-02-03'"),
    "numeric(9,2)": ("1.50", "2"),
}


@pytest.mark.parametrize("kind", ODD_KEYS)
def test_a_key_has_one_text_whoever_writes_it(form: str, kind: str, new_site: NewSite) -> None:
    """In the log, in a trigger and in a query a char(8), a time or a boolean look different."""
    profile = {
        **PROFILE,
        "entities": {
            "dossier": {
                **PROFILE["entities"]["dossier"],
                "parts": {},
                "fields": {name: spec for name, spec in PROFILE["entities"]["dossier"]["fields"].items() if "." not in str(spec)},
            }
        },
    }
    site = new_site(form, profile)
    site.install(TABLES, f"ALTER TABLE dossier ALTER COLUMN id TYPE {kind} USING NULL")
    line = site.line()
    kept, removed = ODD_KEYS[kind]
    site.sql(
        "SET LOCAL timezone = 'Asia/Ho_Chi_Minh'; SET LOCAL datestyle = 'SQL, DMY'",
        f"INSERT INTO dossier (id, note) VALUES ({kept}::{kind}, 'kept'), ({removed}::{kind}, 'removed')",
    )
    assert sorted(values["note"] for values in site.drain(line).states().values() if values) == ["kept", "removed"]
    site.sql("SET LOCAL timezone = 'Asia/Ho_Chi_Minh'; SET LOCAL datestyle = 'SQL, DMY'", f"DELETE FROM dossier WHERE id = {removed}::{kind}")
    published = site.drain(line)
    assert list(published.states().values()) == [None]
    held = site.in_hub()
    assert [values["note"] for values in held.values()] == ["kept"]
    assert site.history(next(iter(held))) == [1]


def test_what_is_too_large_is_refused_and_the_rest_flows(site: Site) -> None:
    line = site.line()
    site.sql(
        "INSERT INTO dossier (id, note) VALUES (1, repeat('ă', 150000)), (2, repeat('x', 1000000)), (4, 'small')",
        "INSERT INTO dossier (id, note) VALUES (3, repeat('y', 10000000))",
        "INSERT INTO dossier (id, note, summary, applicant) SELECT 5, s, s, s FROM (SELECT repeat('ộ', 199000) AS s) x",
    )
    published = site.drain(line)
    assert published.refused() == [("2", "note", "too_large"), ("3", "note", "too_large"), ("5", "", "too_large")]
    assert {key: len(note) for key, note in published.field("note").items()} == {"1": 150000, "4": 5}
    site.sql("UPDATE dossier SET summary = 'touched' WHERE id = 1")  # the unchanged large value is not in the log
    assert len(site.drain(line).field("note")["1"]) == 150000
    site.sql("UPDATE dossier SET note = 'cured', summary = NULL, applicant = 'An'")
    site.drain(line)
    site.assert_same()


def test_refusals_name_field_and_reason_and_nothing_else_stops(site: Site) -> None:
    line = site.line()
    site.sql("INSERT INTO dossier (id, status, applicant) VALUES (1, 'nope', 'a'), (2, 'new', NULL), (3, NULL, 'c'), (4, 'new', 'd')")
    published = site.drain(line)
    assert published.refused() == [("1", "status", "unmapped_word"), ("2", "applicant_name", "missing"), ("3", "status", "missing")]
    assert published.field("applicant_name") == {"4": "d"}


def test_json_that_cannot_be_read_refuses_its_own_record_only(form: str, new_site: NewSite) -> None:
    fields = {**PROFILE["entities"]["dossier"]["fields"], "summary": {"column": "paper", "path": ["summary"]}}
    papers = {
        "table": "dossier",
        "key": "id",
        "each": {"column": "paper", "path": ["parts"], "key": "no"},
        "fields": {"component_code": "no", "name": "name"},
        "write": False,
    }
    profile = {**PROFILE, "entities": {"dossier": {**PROFILE["entities"]["dossier"], "fields": fields}, "dossier_component": papers}}
    site = new_site(form, profile)
    site.install(TABLES, "ALTER TABLE dossier ADD paper json")
    line = site.line()
    site.sql(
        """INSERT INTO dossier (id, paper) SELECT n, '{"summary": "fine", "parts": [{"no": "A", "name": "đơn"}, {"no": "B"}]}'
           FROM generate_series(1, 30) n""",
        r"""UPDATE dossier SET paper = '{"summary": "a\u0000b"}' WHERE id IN (7, 20)""",
    )
    published = site.drain(line)
    assert set(published.refused()) >= {("7", "summary", "nul_character"), ("20", "summary", "nul_character")}
    assert len(site.in_hub()) == 28
    assert len(site.in_hub("dossier_component")) == 56
    assert {entry.parent for entry in published.entries if entry.entity == "dossier_component"} == set(site.in_hub())
    site.sql("""UPDATE dossier SET paper = '{"summary": "cured", "parts": [{"no": "B", "name": "b"}]}' WHERE id IN (1, 7)""")
    site.drain(line)
    assert site.in_hub()["7"]["summary"] == "cured"
    assert {key for key in site.in_hub("dossier_component") if key.startswith(("1|", "7|"))} == {"1|B", "7|B"}


def test_a_sql_ascii_database_gives_its_utf8_and_its_broken_bytes_are_refused(form: str, new_site: NewSite, pg: PostgresCluster) -> None:
    pg.execute("DROP DATABASE IF EXISTS ascii_source WITH (FORCE)")
    pg.execute("CREATE DATABASE ascii_source TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE_PROVIDER libc LOCALE 'C'")
    site = new_site(form, dsn=pg.dsn("ascii_source"))
    try:
        site.install(TABLES)
        line = site.line()
        site.sql(
            "INSERT INTO dossier (id, note, summary) VALUES (1, 'Nguyễn Đồng', 'x'), (2, E'caf\\xe9', 'bad')",
            "INSERT INTO dossier (id, note, summary) VALUES (3, 'ok', E'\\xff\\xfe'), (4, 'tốt', NULL)",
            """INSERT INTO "Lệ phí" VALUES ('Phí đợt', 'P1', 1, 5), (E'\\xe9', 'P2', 1, 5)""",
        )
        published = site.drain(line)
        assert published.refused() == [("2", "note", "invalid_utf8"), ("3", "summary", "invalid_utf8"), ("\\xe9|P2", "", "invalid_utf8")]
        assert published.field("note") == {"1": "Nguyễn Đồng", "4": "tốt"}
        assert published.field("fee_code", "fee") == {"Phí đợt|P1": "P1"}
        site.sql("UPDATE dossier SET note = 'được', summary = 'đ'", """DELETE FROM "Lệ phí" WHERE "Mã" = 'P1'""")
        site.drain(line)
        site.assert_same()
        assert site.in_hub("fee") == {}
    finally:
        site.close = lambda: None  # type: ignore[method-assign]
        Site.close(site)
        pg.drop_database("ascii_source")


# ------------------------------------------------------------------ status steps
def test_every_status_step_is_kept_and_only_those(site: Site) -> None:
    line = site.line()
    site.sql("INSERT INTO dossier (id) VALUES (1)")
    for status in ("accepted", "working", "waiting", "working", "done"):
        site.sql(f"UPDATE dossier SET status = '{status}' WHERE id = 1")
    site.sql("UPDATE dossier SET note = 'touched' WHERE id = 1", "UPDATE dossier SET status = status WHERE id = 1")
    site.drain(line)
    assert site.history("1") == [1, 2, 4, 5, 4, 9]


def test_steps_inside_one_transaction_are_kept_in_order(site: Site) -> None:
    line = site.line()
    site.sql(
        "INSERT INTO dossier (id, status) VALUES (1, 'working')",
        "UPDATE dossier SET status = 'waiting' WHERE id = 1",
        "UPDATE dossier SET status = 'working', note = 'n' WHERE id = 1",
        "UPDATE dossier SET note = 'm' WHERE id = 1",
    )
    site.drain(line)
    assert site.history("1") == [4, 5, 4]
    site.sql("UPDATE dossier SET status = 'waiting' WHERE id = 1", "UPDATE dossier SET status = 'working' WHERE id = 1")
    site.drain(line)
    assert site.history("1") == [4, 5, 4, 5, 4]


def test_a_replay_makes_no_step_twice(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    line = site.line()
    site.sql("INSERT INTO dossier (id, status) VALUES (1, 'working')", "UPDATE dossier SET status = 'waiting' WHERE id = 1")
    forget_the_position(monkeypatch, line)
    assert site.drain(line).steps() == [("1", 4), ("1", 5)]
    again = site.line_after_crash(line)
    assert site.drain(again).steps() == [("1", 4), ("1", 5)]
    site.sql("UPDATE dossier SET status = 'working' WHERE id = 1")
    site.drain(again)
    assert site.history("1") == [4, 5, 4]


def test_an_unmapped_status_step_is_parked_and_the_others_stay(site: Site) -> None:
    line = site.line()
    site.sql(
        "INSERT INTO dossier (id, status) VALUES (1, 'working')",
        "UPDATE dossier SET status = 'mystery' WHERE id = 1",
        "UPDATE dossier SET status = 'done' WHERE id = 1",
    )
    site.drain(line)
    assert site.history("1") == [4, 9]
    assert ("1", "status", "unmapped_word") in [(p["local_key"], p["field"], p["reason"]) for p in site.parked()]


def forget_the_position(monkeypatch: pytest.MonkeyPatch, line: Line) -> None:
    """A crash after publishing: the frames are out, the resume point of this line has not moved."""
    monkeypatch.setattr(line, "_confirm", lambda _position: None, raising=False)
    monkeypatch.setattr(line, "_save", lambda **_: None)


# ------------------------------------------------------------------ visibility
@contextmanager
def commits_held(pg: PostgresCluster) -> Iterator[None]:
    """Every commit waits for a standby that does not exist: it is in the log, and nobody sees it."""
    pg.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
    pg.execute("SELECT pg_reload_conf()")
    try:
        wait_until(lambda: pg.execute("SHOW synchronous_standby_names").strip() == "nobody")
        yield
    finally:
        pg.execute("ALTER SYSTEM RESET synchronous_standby_names")
        pg.execute("SELECT pg_reload_conf()")


def wait_until(true: Callable[[], bool], seconds: float = 10.0) -> None:
    give_up = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < give_up
        time.sleep(0.01)


def hold_a_commit(site: Site, pg: PostgresCluster) -> Thread:
    """Commit in a thread, until the change is in the log but not visible."""
    session = site.open()
    session.cursor().execute("UPDATE dossier SET note = 'new' WHERE id = 1")
    thread = Thread(target=session.commit, daemon=True)
    thread.start()
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
    wait_until(lambda: pg.execute(waiting).strip() == "1")
    return thread


def work_for(line: Line, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        line.work()
        time.sleep(0.002)


def test_a_commit_between_log_and_visibility_is_waited_for(site: Site, pg: PostgresCluster) -> None:
    line = site.line()
    site.sql("INSERT INTO dossier (id, note) VALUES (1, 'old')")
    site.drain(line)
    before = resume_point(site)
    with commits_held(pg):
        thread = hold_a_commit(site, pg)
        work_for(line, 0.5)
        assert site.messages() == []
        if site.form == "wal":
            assert resume_point(site) == before
    thread.join()
    assert site.drain(line).field("note") == {"1": "new"}


def test_without_the_visibility_check_the_log_form_reads_the_old_state(
    new_site: NewSite, pg: PostgresCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = new_site("wal")
    site.install(TABLES)
    line = site.line()
    site.sql("INSERT INTO dossier (id, note) VALUES (1, 'old')")
    site.drain(line)
    monkeypatch.setattr(wal._Snapshot, "sees", lambda *_: True)
    with commits_held(pg):
        thread = hold_a_commit(site, pg)
        work_for(line, 0.5)
    thread.join()
    assert site.published().field("note") == {"1": "old"}
    site.drain(line)
    with pytest.raises(AssertionError):
        site.assert_same()


def resume_point(site: Site) -> str:
    if site.form == "outbox":
        return str(site.state()["position"])
    return str(site.ask(f"SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = '{wal.slot_name(site.system)}'")[0][0])


def test_a_transaction_that_commits_late_is_not_lost(site: Site) -> None:
    line = site.line()
    late = site.open()
    late.cursor().execute("INSERT INTO dossier (id, note) VALUES (1, 'late')")
    site.sql("INSERT INTO dossier (id, note) VALUES (2, 'early')")
    assert site.drain(line).field("note") == {"2": "early"}
    site.sql("INSERT INTO dossier (id, note) VALUES (3, 'later')")
    assert site.drain(line).field("note") == {"3": "later"}
    late.commit()
    assert site.drain(line).field("note") == {"1": "late"}
    site.assert_same()


def test_an_outbox_read_by_number_would_lose_it(new_site: NewSite, monkeypatch: pytest.MonkeyPatch) -> None:
    site = new_site("outbox")
    site.install(TABLES)
    line = site.line()
    by_number = outbox._DIFFERENCE.split("WHERE")[0] + "WHERE id > (SELECT coalesce(max(id), 0) FROM seen) AND %(old)s <> '' ORDER BY id"
    monkeypatch.setattr(outbox, "_DIFFERENCE", by_number)
    site.sql("CREATE TABLE seen (id bigint)")
    late = site.open()
    late.cursor().execute("INSERT INTO dossier (id, note) VALUES (1, 'late')")
    site.sql("INSERT INTO dossier (id, note) VALUES (2, 'early')")
    assert site.drain(line).field("note") == {"2": "early"}
    site.sql("INSERT INTO seen SELECT max(id) FROM lienthong.change")
    late.commit()
    assert site.drain(line).entries == []


# ------------------------------------------------------------------ large transactions
def test_a_transaction_of_100_000_rows_takes_little_memory(site: Site) -> None:
    line = site.line()
    site.sql("INSERT INTO dossier (id, note) SELECT n, repeat('dài ', 200) FROM generate_series(1, 100000) n")
    gc.collect()
    with peak_memory() as peak:
        work_through(site, line)
    assert peak.growth_bytes < 150_000_000
    messages = site.messages()
    keys = {e.key for m in messages for h, p in [frames.open_frame(m.value or b"")] if h.kind == "records" for e in frames.unpack_entries(h, p)}
    assert len(keys) == 100_000


def work_through(site: Site, line: Line) -> None:
    end = time.monotonic() + 60
    site.sql("SELECT 1")
    target = int(site.ask("SELECT pg_current_wal_lsn() - '0/0'::pg_lsn")[0][0])
    while not site._work_once(line, target):
        assert time.monotonic() < end


class peak_memory:  # noqa: N801 - reads as a word of the test
    """How much the process grows at most inside, by its own account (VmHWM, which can be reset)."""

    growth_bytes = 0

    def __enter__(self) -> peak_memory:
        Path("/proc/self/clear_refs").write_text("5")
        self._before = self._read("VmRSS")
        return self

    def __exit__(self, *_: object) -> None:
        self.growth_bytes = self._read("VmHWM") - self._before

    @staticmethod
    def _read(name: str) -> int:
        found = next(row for row in Path("/proc/self/status").read_text().splitlines() if row.startswith(name))
        return int(found.split()[1]) * 1024


def test_many_small_transactions_are_received_in_parts(new_site: NewSite, monkeypatch: pytest.MonkeyPatch) -> None:
    site = new_site("wal")
    site.install(TABLES)
    line = site.line()
    monkeypatch.setattr(wal, "KEYS_WAITING_MAX", 20)
    monkeypatch.setattr(wal, "KEYS_PER_READING", 10)
    monkeypatch.setattr(wal, "MESSAGES_PER_STEP", 30)
    for first in range(0, 200, 4):
        site.sql(f"INSERT INTO dossier (id) SELECT n FROM generate_series({first}, {first + 3}) n")
    assert isinstance(line, wal.WalLine)
    most = 0
    while len(site.in_hub()) < 200:
        line.work()
        most = max(most, line._waiting_keys)
        if not line._waiting:
            site.published()
    assert most <= 50


# ------------------------------------------------------------------ tables that change
def test_a_truncate_stops_the_line_by_name_and_deletes_nothing(site: Site) -> None:
    line = site.line()
    site.sql("INSERT INTO dossier (id) VALUES (1), (2)", """INSERT INTO "Lệ phí" VALUES ('P', 'L', 1, 5)""")
    site.drain(line)
    site.sql('TRUNCATE "Lệ phí"')
    with pytest.raises(FatalError, match=r"TRUNCATE of public\.Lệ phí.*nothing was deleted.*--new-epoch"):
        site.drain(line)
    line = site.line_after_crash(line)
    with pytest.raises(FatalError, match="TRUNCATE"):
        site.drain(line)
    assert site.published().entries == []
    assert len(site.in_hub("fee")) == 1


def test_what_was_committed_before_a_truncate_still_goes_out_of_the_log(new_site: NewSite) -> None:
    site = new_site("wal")
    site.install(TABLES)
    line = site.line()
    site.sql("INSERT INTO dossier (id) VALUES (1)")
    site.sql('TRUNCATE "Lệ phí"')
    with pytest.raises(FatalError, match="TRUNCATE"):
        site.drain(line)
    assert list(site.published().field("note")) == ["1"]


def rewritten_while_it_is_read(site: Site) -> dict[str, Any]:
    """The notes a reading finds whose snapshot is older than the end of an ALTER TABLE that rewrites the table."""
    line = site.line()
    site.sql("INSERT INTO dossier (id, note) VALUES (1, 'a')")
    site.drain(line)
    site.sql("UPDATE dossier SET note = 'b'")
    other = site.open()
    other.cursor().execute("ALTER TABLE dossier ALTER COLUMN note TYPE varchar(900)")
    timer = Timer(0.3, other.commit)
    timer.start()
    found = site.drain(line).field("note")
    timer.join()
    return found


def test_a_reading_is_not_fooled_by_a_table_that_is_rewritten_under_it(site: Site) -> None:
    """TRUNCATE and rewriting ALTER TABLE are not MVCC-safe: an older snapshot sees an empty table."""
    assert rewritten_while_it_is_read(site) == {"1": "b"}


def test_without_the_lock_it_would_take_all_records_for_deleted(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SourceReadings, "locks", lambda *_: "")
    assert rewritten_while_it_is_read(site) == {"1": "gone"}


def test_a_lock_that_is_held_long_is_tried_again(form: str, new_site: NewSite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lienthong.reading.LOCK_SECONDS", 1)
    site = new_site(form)
    site.install(TABLES)
    line = site.line()
    site.sql("INSERT INTO dossier (id) VALUES (1)")
    other = site.open()
    other.cursor().execute("LOCK TABLE dossier")
    with pytest.raises(TransientError, match="55P03"):
        site.drain(line)
    other.rollback()
    line.start()
    assert list(site.drain(line).field("note")) == ["1"]


def test_an_added_column_is_ignored_and_a_changed_type_is_read_anew(site: Site) -> None:
    line = site.line()
    site.sql("INSERT INTO dossier (id) VALUES (1)")
    site.drain(line)
    site.sql("ALTER TABLE dossier ADD extra text DEFAULT 'x'", "INSERT INTO dossier (id, note) VALUES (2, 'after')")
    assert site.drain(line).field("note") == {"2": "after"}
    site.sql("ALTER TABLE dossier ALTER submitted TYPE timestamp USING submitted AT TIME ZONE 'Asia/Ho_Chi_Minh'")
    site.sql("INSERT INTO dossier (id, submitted) VALUES (3, '2026-03-02 08:00')")
    assert site.drain(line).field("submitted_at") == {"3": 1_772_413_200_000_000}


def test_a_dropped_column_stops_its_own_line_until_it_is_back(site: Site) -> None:
    line = site.line()
    site.sql("INSERT INTO dossier (id, summary) VALUES (1, 's')")
    site.drain(line)
    site.sql("ALTER TABLE dossier DROP summary", "UPDATE dossier SET note = 'n'")
    missing = r"vendor: dossier\.summary: table dossier has no column summary"
    what_to_do = rf"{site.system}: {missing}.*nothing was lost.*lienthong check --system {site.system}"
    with pytest.raises(FatalError, match=what_to_do):
        site.drain(line)
    with pytest.raises(FatalError, match=what_to_do):
        line.start()
    assert site.published().entries == []
    site.sql("ALTER TABLE dossier ADD summary text DEFAULT 'back'")
    line.start()
    assert site.drain(line).field("summary") == {"1": "back"}


def test_another_line_flows_while_one_is_stopped(form: str, new_site: NewSite) -> None:
    sites = [new_site(form), new_site(form)]
    for site in sites:
        site.install(TABLES)
    stopped, flowing = (Supervised(site.line()) for site in sites)
    sites[0].sql("ALTER TABLE dossier DROP summary", "INSERT INTO dossier (id) VALUES (1)")
    sites[1].sql("INSERT INTO dossier (id) VALUES (2)")
    end = time.monotonic() + 10
    found: list[str] = []
    while time.monotonic() < end and not (found and stopped.state == "stopped"):
        stopped.step(), flowing.step()
        found += sites[1].published().field("note")
    assert found == ["2"]
    assert (stopped.state, flowing.state) == ("stopped", "running")
    assert "has no column summary" in str(stopped.reason)


def test_a_dropped_table_stops_the_line_with_what_to_do(site: Site) -> None:
    line = site.line()
    site.sql("INSERT INTO dossier (id) VALUES (1)", "DROP TABLE officer")
    with pytest.raises(FatalError, match=r"officer.*nothing was lost.*lienthong check"):
        site.drain(line)


def test_changes_that_are_not_captured_any_more_stop_the_line(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lienthong.capture.line.CAPTURED_SECONDS", 0)
    line = site.line()
    if site.form == "wal":
        site.sql("ALTER TABLE dossier DROP COLUMN status CASCADE", "ALTER TABLE dossier ADD status text DEFAULT 'new'")
    else:
        site.sql("ALTER TABLE dossier DISABLE TRIGGER ALL")
    with pytest.raises(FatalError, match=r"changes of .*dossier.* are not captured any more.*check --sql"):
        work_for(line, 5)
    site.install()
    line.start()
    site.sql("INSERT INTO dossier (id) VALUES (1)")
    assert list(site.drain(line).field("note")) == ["1"]


# ------------------------------------------------------------------ who reads, and from where
def test_a_second_reader_is_fenced_and_takes_over_when_the_first_is_gone(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    first = site.line()
    site.sql("INSERT INTO dossier (id, note) VALUES (1, 'first')")
    site.drain(first)
    monkeypatch.setattr(hub, "worker_name", lambda role: f"{role}@elsewhere:1")
    with pytest.raises(FencedError, match="another process reads this source"):
        site.line()
    first.stop()
    second = site.line()
    site.sql("UPDATE dossier SET note = 'second'")
    assert site.drain(second).field("note") == {"1": "second"}


def test_the_numbers_of_a_reader_that_lost_its_lease_never_win(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    zombie = site.line()
    numbers = zombie.numbers
    held = numbers.draw()
    site.expire_lease()
    monkeypatch.setattr(hub, "worker_name", lambda role: f"{role}@elsewhere:1")
    zombie.close()
    line = site.line()
    site.sql("INSERT INTO dossier (id) VALUES (1)")
    versions = [entry.version for entry in site.drain(line).entries]
    assert held < numbers.draw() < min(versions)
    with pytest.raises(FencedError):
        numbers.save(held, None)
    with pytest.raises(FencedError):
        numbers.renew()
    numbers._renew_at = 0.0
    with pytest.raises(FencedError):
        numbers.draw()


def test_a_reader_of_an_earlier_epoch_is_fenced_and_begins_anew_in_the_new_one(site: Site) -> None:
    line = site.line()
    number = line.numbers.draw()
    stored = state.load(site.hub, site.system)
    assert stored is not None
    state.new_epoch(site.hub, site.system, stored.position or "", stored.identity or "")
    with pytest.raises(FencedError, match="new life"):
        line.numbers.save(number, None)
    line.start()
    assert line.numbers.epoch == stored.epoch + 1


def test_an_idle_source_does_not_hold_the_log(new_site: NewSite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wal, "CONFIRM_IDLE_SECONDS", 0.1)
    site = new_site("wal")
    site.install(TABLES)
    line = site.line()
    site.sql("CREATE TABLE foreign_traffic (x text)")
    before = resume_point(site)
    site.sql("INSERT INTO foreign_traffic SELECT repeat('x', 1000) FROM generate_series(1, 1000)")
    written = site.ask("SELECT pg_current_wal_lsn()")[0][0]
    wait_until(lambda: bool(line.work()) or site.ask(f"SELECT '{resume_point(site)}'::pg_lsn >= '{written}'::pg_lsn")[0][0])
    assert resume_point(site) != before


def test_another_database_under_the_same_name_stops_the_line(site: Site) -> None:
    line = site.line()
    line.close()
    with transaction(site.hub) as cursor:
        cursor.execute("UPDATE hub.capture_state SET identity = 'other/1' WHERE system = %s", [site.system])
    with pytest.raises(FatalError, match="not the database it was.*--new-epoch"):
        line.start()


# ------------------------------------------------------------------ crashes
def test_published_but_not_confirmed_is_published_again_and_does_no_harm(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    line = site.line()
    site.sql("INSERT INTO dossier (id, note) VALUES (1, 'a'), (2, 'b')")
    forget_the_position(monkeypatch, line)
    first = site.drain(line).states()
    again = site.line_after_crash(line)
    assert site.drain(again).states() == first
    site.assert_same()


def test_a_crash_in_the_middle_of_a_reading_loses_nothing(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    line = site.line()
    site.sql("INSERT INTO dossier (id, note) SELECT n, 'x' FROM generate_series(1, 5000) n")
    sent: list[int] = []

    def send_some(partition: int, frame: bytes) -> None:
        if len(sent) == 3:
            raise TransientError("the broker has gone")
        sent.append(partition)
        site.producer.send(frames.TOPIC, frame, partition=partition)

    monkeypatch.setattr(line, "_send", send_some)
    with pytest.raises(TransientError):
        site.drain(line)
    again = site.line_after_crash(line)
    site.drain(again)
    site.assert_same()


def the_broker_is_away(monkeypatch: pytest.MonkeyPatch, producer: Any) -> None:
    """What is sent is lost, and the wait for its acknowledgement fails."""

    def refuse() -> None:
        raise TransientError("the broker is away")

    monkeypatch.setattr(producer, "send", lambda *_, **__: None)
    monkeypatch.setattr(producer, "flush", refuse)


def test_what_the_broker_did_not_acknowledge_is_read_again(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    line = site.line()
    site.sql("INSERT INTO dossier (id, note) VALUES (1, 'a')")
    with monkeypatch.context() as broken:
        the_broker_is_away(broken, site.producer)
        with pytest.raises(TransientError, match="the broker is away"):
            site.drain(line)
    site.drain(site.line_after_crash(line))
    site.assert_same()


KILLS = 6


def test_killed_at_any_moment_it_goes_on_without_loss(site: Site) -> None:
    """A capture process under load is killed again and again; at the end the hub equals the source, and so do the steps."""
    choice = random.Random(site.form)
    site.line().stop()
    load = Load(site)
    load.start()
    for _ in range(KILLS):
        with site.capture_process() as process:
            time.sleep(choice.uniform(0.7, 1.6))
            process.send_signal(signal.SIGKILL)
        site.expire_lease()
    load.stop()
    assert load.failed is None
    line = site.line()
    site.drain(line)
    site.assert_same()
    assert {key: steps[-1] for key, steps in site.histories().items()} == {key: values["status"] for key, values in site.truth().items()}


class Load(Thread):
    """A vendor's users: they insert, change, move and delete until stopped."""

    def __init__(self, site: Site) -> None:
        super().__init__(daemon=True)
        self.session, self.failed = site.open(), None
        self._stopped = Event()

    def run(self) -> None:
        choice = random.Random(4)
        words = list(STATUSES)
        number = 0
        while not self._stopped.is_set():
            number += 1
            key = choice.randrange(60)
            with transaction(self.session) as cursor:
                cursor.execute(
                    "INSERT INTO dossier (id, note, status) VALUES (%s, %s, 'new') ON CONFLICT (id) DO UPDATE SET note = excluded.note",
                    [key, f"n{number}"],
                )
                cursor.execute("UPDATE dossier SET status = %s WHERE id = %s", [choice.choice(words), key])
                cursor.execute("DELETE FROM officer WHERE dossier_id = %s", [key])
                cursor.execute("UPDATE officer SET dossier_id = %s WHERE id = (SELECT min(id) FROM officer)", [key])
                if choice.random() < 0.3:
                    cursor.execute("DELETE FROM officer WHERE dossier_id = %s", [key])
                    cursor.execute("INSERT INTO officer (dossier_id, name) VALUES (%s, %s)", [key, f"o{number}"])
            time.sleep(0.002)

    def stop(self) -> None:
        self._stopped.set()
        self.join()


def test_a_source_that_goes_away_comes_back(site: Site, pg: PostgresCluster) -> None:
    line = site.line()
    site.sql("INSERT INTO dossier (id) VALUES (1)")
    site.drain(line)
    name = site.dsn.rsplit("/", 1)[1]
    pg.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}' AND application_name LIKE 'lienthong capture%'")
    site.sql("INSERT INTO dossier (id) VALUES (2)")
    with pytest.raises(TransientError):
        work_for(line, 3)
    line.start()
    site.drain(line)
    site.assert_same()


# ------------------------------------------------------------------ loads
@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "CHUNK_ROWS", 50)


@contextmanager
def loader_of(site: Site) -> Iterator[Loader]:
    loader = Loader(site.settings, site.system, Vault(None))
    try:
        yield loader
    finally:
        loader.close()


@pytest.mark.usefixtures("small_chunks")
def test_a_load_in_parallel_beside_live_changes_ends_equal(site: Site) -> None:
    site.sql(
        "INSERT INTO dossier (id, note) SELECT n, 'before' FROM generate_series(1, 1000) n",
        "INSERT INTO officer (dossier_id, name) SELECT n, 'o' || n FROM generate_series(1, 1000, 3) n",
        """INSERT INTO "Lệ phí" SELECT 'P' || n % 7, n::text, n, 1 FROM generate_series(1, 300) n""",
    )
    line = site.line()
    live = Load(site)
    live.start()
    seen: list[tuple[str, int, int]] = []
    with loader_of(site) as loader:
        pool = ThreadPoolExecutor(1)
        job = pool.submit(loader.run, workers=3, progress=lambda *told: seen.append(told))
        while not job.done():
            line.work()
        live.stop()
        loaded = job.result()
        pool.shutdown()
    site.drain(line)
    assert (loaded.chunks >= 26, loaded.skipped_chunks) == (True, 0)  # key 0 may come meanwhile
    assert seen[-1] == ("fee", 300, 300)
    site.assert_same()
    assert len(site.in_hub("fee")) == 300


def late_chunk(site: Site, line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    """A chunk reads; then the source changes and the line publishes; only then is the chunk published."""
    read_range = EntityReading.read_range

    def read_then_change(self: EntityReading, *arguments: Any) -> None:
        read_range(self, *arguments)
        site.sql("UPDATE dossier SET note = 'new' WHERE id = 1")
        work_through(site, line)

    monkeypatch.setattr(EntityReading, "read_range", read_then_change)
    with loader_of(site) as loader:
        loader.run(entities=["dossier"])
    messages = sorted(site.messages(), key=lambda message: message.timestamp_millis)
    for message in messages:
        site.merge([message])


def test_a_chunk_that_comes_late_does_not_undo_a_change(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.sql("INSERT INTO dossier (id, note) VALUES (1, 'old')")
    line = site.line()
    late_chunk(site, line, monkeypatch)
    site.assert_same()


def test_a_chunk_with_the_last_drawn_number_would_undo_it(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.sql("INSERT INTO dossier (id, note) VALUES (1, 'old')")
    line = site.line()
    monkeypatch.setattr(Loader, "_finished", lambda self: (int(site.state()["drawn"]), 1))
    late_chunk(site, line, monkeypatch)
    assert site.in_hub()["1"]["note"] == "old"


def test_the_number_of_a_chunk_is_taken_before_its_look(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Taken later, it could be that of a reading which has seen what the chunk has not."""
    site.sql("INSERT INTO dossier (id, note) VALUES (1, 'old'), (2, 'old')")
    line, finished = site.line(), Loader._finished

    def after_two_readings(self: Loader) -> tuple[int, int]:
        for key in (1, 2):
            site.sql(f"UPDATE dossier SET note = 'new' WHERE id = {key}")
            work_through(site, line)
            line._save(force=True)
        return finished(self)

    monkeypatch.setattr(Loader, "_finished", after_two_readings)
    with loader_of(site) as loader:
        loader.run(entities=["dossier"])
    for message in sorted(site.messages(), key=lambda message: message.timestamp_millis):
        site.merge([message])
    site.assert_same()


def test_a_chunk_that_the_broker_did_not_acknowledge_is_loaded_again(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.sql("INSERT INTO dossier (id) VALUES (1)")
    with loader_of(site) as loader, monkeypatch.context() as broken:
        the_broker_is_away(broken, loader.producer)
        with pytest.raises(TransientError, match="the broker is away"):
            loader.run()
    with loader_of(site) as loader:
        loader.run(resume=True)
    site.published()
    site.assert_same()


@pytest.mark.usefixtures("small_chunks")
def test_an_interrupted_load_goes_on_where_it_was(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.sql("INSERT INTO dossier (id) SELECT n FROM generate_series(1, 400) n")
    read_range, calls = EntityReading.read_range, count(1)

    def read_some(self: EntityReading, *arguments: Any) -> None:
        if next(calls) > 3:
            raise TransientError("the source went away")
        read_range(self, *arguments)

    with monkeypatch.context() as patched, loader_of(site) as loader:
        patched.setattr(EntityReading, "read_range", read_some)
        with pytest.raises(TransientError):
            loader.run(workers=1)
    with loader_of(site) as loader:
        loaded = loader.run(resume=True)
    assert loaded.skipped_chunks == 3
    site.published()
    site.assert_same()


def test_a_record_a_key_range_or_an_entity_is_loaded_alone(site: Site) -> None:
    site.sql(
        "INSERT INTO dossier (id) SELECT n FROM generate_series(1, 30) n",
        """INSERT INTO "Lệ phí" SELECT 'P|' || n, 'L', n, 1 FROM generate_series(1, 5) n""",
    )
    with loader_of(site) as loader:
        loader.run(entities=["dossier"], keys=["7", "99"])
        assert {key: bool(values) for (_, key), values in site.published().states().items()} == {"7": True, "99": False}
        loader.run(entities=["dossier"], low="10", high="20")
        assert set(site.published().field("note")) == {str(n) for n in range(11, 21)}
        loader.run(entities=["fee"], keys=["P\\|3|L"])
        assert set(site.published().field("amount", "fee")) == {"P\\|3|L"}
        loader.run(entities=["fee"])
        published = site.published()
        assert len(published.field("amount", "fee")) == 5
        assert {header.entity for header in published.headers} == {"fee"}
        with pytest.raises(ConfigError, match="has no citizen"):
            loader.run(entities=["citizen"])


@pytest.mark.usefixtures("small_chunks")
def test_one_unreadable_record_does_not_stop_a_load(form: str, new_site: NewSite) -> None:
    fields = {**PROFILE["entities"]["dossier"]["fields"], "summary": {"column": "paper", "path": ["summary"]}}
    site = new_site(form, {**PROFILE, "entities": {"dossier": {**PROFILE["entities"]["dossier"], "fields": fields}}})
    site.install(TABLES, "ALTER TABLE dossier ADD paper text")
    site.sql(
        """INSERT INTO dossier (id, paper) SELECT n, '{"summary": "fine"}' FROM generate_series(1, 120) n""",
        r"""UPDATE dossier SET paper = '{"summary": "a\u0000b"}' WHERE id = 20""",
        "UPDATE dossier SET paper = '{' WHERE id = 70",
    )
    with loader_of(site) as loader:
        assert loader.run().records == 120
    published = site.published()
    assert published.refused() == [("20", "summary", "nul_character"), ("70", "summary", "malformed")]
    assert len(site.in_hub()) == 118
