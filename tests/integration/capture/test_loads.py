# ruff: noqa: S608 - names and numbers of our own in statements
"""Loads beside live changes, interrupted, resumed, in a new life of their source, and of single records."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any

import pytest

from lienthong import load
from lienthong.capture.line import Line
from lienthong.errors import ConfigError, FencedError, TransientError
from lienthong.load import Loader
from lienthong.load_chunks import Chunk, RangeSize
from lienthong.reading import EntityReading
from tests.capture_kit import PROFILE, TABLES, Site
from tests.capture_scenes import (
    Load,
    NewSite,
    loader_of,
    the_broker_is_away,
    work_through,
)


# ------------------------------------------------------------------ loads
@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "CHUNK_ROWS", 50)


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
    line, finished, times = site.line(), Loader._finished, count(1)

    def after_two_readings(self: Loader) -> tuple[int, int]:
        note = f"new {next(times)}"  # it is asked for the plan too
        for key in (1, 2):
            site.sql(f"UPDATE dossier SET note = '{note}' WHERE id = {key}")
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


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("new_life", [False, True])
@pytest.mark.parametrize("read", [0, 1])
def test_a_load_that_begins_anew_owes_nothing_to_the_one_before(site: Site, monkeypatch: pytest.MonkeyPatch, *, new_life: bool, read: int) -> None:
    """It is interrupted after some key ranges; what an earlier load had finished is read again all the same."""
    site.sql(
        "INSERT INTO dossier (id) SELECT n FROM generate_series(1, 120) n",
        """INSERT INTO "Lệ phí" SELECT 'P', n::text, n, 1 FROM generate_series(1, 80) n""",
    )
    with loader_of(site) as loader:
        loader.run()
    site.published()
    read_range, calls = EntityReading.read_range, count(1)

    def read_some(self: EntityReading, *arguments: Any) -> None:
        if next(calls) > read:
            raise TransientError("the source went away")
        read_range(self, *arguments)

    with monkeypatch.context() as patched, loader_of(site) as loader:
        patched.setattr(EntityReading, "read_range", read_some)
        if new_life:
            loader.begin_epoch()
        with pytest.raises(TransientError):
            loader.run(workers=1)
    with loader_of(site) as loader:
        assert loader.run(resume=True).skipped_chunks == read
    entries = site.published().entries
    assert Counter(entry.entity for entry in entries) == {"dossier": 120, "fee": 80}
    assert {entry.epoch for entry in entries} == {2 if new_life else 1}


def test_a_range_that_is_read_in_an_earlier_life_is_not_done_in_the_new_one(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A load of the old life still runs when the new one has planned its own."""
    site.sql("INSERT INTO dossier (id) VALUES (1)")
    read_range = EntityReading.read_range

    def new_life_meanwhile(self: EntityReading, *arguments: Any) -> None:
        with monkeypatch.context() as plain, loader_of(site) as other:
            plain.setattr(EntityReading, "read_range", read_range)
            other.begin_epoch()
            for reading in other._connection()[1].in_order():
                other._plan(reading, resume=False)
        read_range(self, *arguments)

    with monkeypatch.context() as patched, loader_of(site) as loader:
        patched.setattr(EntityReading, "read_range", new_life_meanwhile)
        with pytest.raises(FencedError, match="somebody else reads it now"):
            loader.run(entities=["dossier"], workers=1)
    site.published()
    with loader_of(site) as loader:
        assert loader.run(resume=True).skipped_chunks == 0
    assert {entry.epoch for entry in site.published().entries} == {2}


# ------------------------------------------------------------ in steps, each by any process
def planned(site: Site, **how: Any) -> list[Chunk]:
    with loader_of(site) as loader:
        return loader.plan(size=RangeSize(rows=50), **how)


def read(site: Site, chunk: Chunk) -> int:
    with loader_of(site) as loader:
        return loader.load_chunk(chunk.entity, chunk.number, chunk.plan)


def test_a_planned_load_is_done_by_many_and_completed_once_all_are_done(site: Site) -> None:
    site.sql("INSERT INTO dossier (id) SELECT n FROM generate_series(1, 120) n")
    chunks = planned(site)
    assert [(c.entity, c.number, c.rows) for c in chunks] == [("dossier", 0, 50), ("dossier", 1, 50), ("dossier", 2, 20), ("fee", 0, 0)]
    assert sum(read(site, chunk) for chunk in chunks[:-1]) == 120
    with loader_of(site) as loader:
        assert not loader.complete(120)
    assert [c.entity for c in planned(site)] == ["fee"]  # what is left
    read(site, chunks[-1])
    with loader_of(site) as loader:
        assert loader.complete(120)
    published = site.published()
    assert len(published.states()) == 120
    assert {header.kind for header in published.headers} >= {"load_complete"}


def test_two_at_the_same_range_publish_it_once(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second begins while the first still reads: the first has lost its ticket and publishes nothing."""
    site.sql("INSERT INTO dossier (id) SELECT n FROM generate_series(1, 40) n")
    chunk = planned(site)[0]
    read_range = EntityReading.read_range

    def second_meanwhile(self: EntityReading, *arguments: Any) -> None:
        with monkeypatch.context() as plain:
            plain.setattr(EntityReading, "read_range", read_range)
            read(site, chunk)
        read_range(self, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(EntityReading, "read_range", second_meanwhile)
        with pytest.raises(FencedError, match="somebody else reads it now"):
            read(site, chunk)
    assert len(site.published().entries) == 40
    with loader_of(site) as loader:
        assert loader._is_done(chunk)


def test_a_range_of_a_plan_that_was_replaced_is_not_read(site: Site) -> None:
    site.sql("INSERT INTO dossier (id) SELECT n FROM generate_series(1, 40) n")
    chunk = planned(site)[0]
    planned(site, anew=True)
    with pytest.raises(FencedError, match="another load of it has begun"):
        read(site, chunk)
    assert site.published().entries == []


def test_a_part_of_an_entity_is_planned_within_its_keys_and_opens_nothing(site: Site) -> None:
    site.sql("INSERT INTO dossier (id) SELECT n FROM generate_series(1, 120) n")
    chunks = planned(site, entities=["dossier"], low="10", high="80")
    assert [c.rows for c in chunks] == [50, 20]
    for chunk in chunks:
        read(site, chunk)
    assert sorted(map(int, site.published().field("note"))) == list(range(11, 81))
    with loader_of(site) as loader:
        assert not loader.complete(70)
    assert sum(c.rows for c in planned(site)) == 120  # the whole is planned anew, not gone on with


def test_a_dry_run_plans_nothing(site: Site) -> None:
    site.sql("INSERT INTO dossier (id) SELECT n FROM generate_series(1, 120) n")
    before = planned(site)
    read(site, before[0])
    assert [c.number for c in planned(site, dry_run=True)] == [1, 2, 0]
    assert [(c.entity, c.number, c.plan) for c in planned(site)] == [(c.entity, c.number, c.plan) for c in before[1:]]


def test_an_entity_with_very_many_rows_has_larger_ranges_instead_of_more(site: Site) -> None:
    site.sql("INSERT INTO dossier (id) SELECT n FROM generate_series(1, 120) n")
    with loader_of(site) as loader:
        assert [c.rows for c in loader.plan(entities=["dossier"], size=RangeSize(rows=10, ranges_max=3))] == [40, 40, 40]


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
