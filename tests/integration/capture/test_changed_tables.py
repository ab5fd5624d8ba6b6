# ruff: noqa: S608 - names and numbers of our own in statements
"""Tables that are emptied, rewritten, changed or dropped under a line, in both forms of capture."""

from __future__ import annotations

import time
from threading import Timer
from typing import Any

import pytest

from lienthong.capture.run import Supervised
from lienthong.errors import FatalError, TransientError
from lienthong.reading import SourceReadings
from tests.capture_kit import TABLES, Site
from tests.capture_scenes import (
    NewSite,
    work_for,
)


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
