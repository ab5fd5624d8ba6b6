# ruff: noqa: S608 - names and numbers of our own in statements
"""Who reads a source and from where, and crashes of every part, in both forms of capture."""

from __future__ import annotations

import random
import signal
import time

import pytest

from connectors.postgres import transaction
from lienthong import frames, hub
from lienthong.capture import state, wal
from lienthong.embedded import PostgresCluster
from lienthong.errors import FatalError, FencedError, TransientError
from tests.capture_kit import TABLES, Site
from tests.capture_scenes import (
    Load,
    NewSite,
    forget_the_position,
    resume_point,
    the_broker_is_away,
    wait_until,
    work_for,
)


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
