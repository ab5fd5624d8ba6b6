# ruff: noqa: S608 - names and numbers of our own in statements
"""Status steps, and which transactions a reading answers for, in both forms of capture."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import pytest

from lienthong import frames
from lienthong.capture import outbox, wal
from lienthong.embedded import PostgresCluster
from tests.capture_kit import TABLES, Site
from tests.capture_scenes import (
    NewSite,
    forget_the_position,
    resume_point,
    wait_until,
    work_for,
    work_through,
)


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


def hold_a_commit(site: Site, pg: PostgresCluster) -> Thread:
    """Commit in a thread, until the change is in the log but not visible."""
    session = site.open()
    session.cursor().execute("UPDATE dossier SET note = 'new' WHERE id = 1")
    thread = Thread(target=session.commit, daemon=True)
    thread.start()
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
    wait_until(lambda: pg.execute(waiting).strip() == "1")
    return thread


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
