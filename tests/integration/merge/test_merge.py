"""The merge on a real hub: offsets, versions, concurrency."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from connectors.postgres import Connection, rows, transaction
from lienthong import frames, hub, hub_statements
from lienthong.errors import FencedError, TransientError
from tests.merge_kit import DOSSIER, FEE_X, X1, Hub, gone, message, refused, state


# ------------------------------------------------------------------ offsets
def test_a_zombie_is_fenced_and_writes_nothing(city: Hub) -> None:
    city.merge(state("portal", "1", 1, DOSSIER))
    before = city.contents()
    zombie = Hub(city.dsn)
    with pytest.raises(FencedError):
        zombie.merge(state("portal", "1", 2, DOSSIER | {"note": "from the dead"}))
    zombie.connection.close()
    assert city.contents() == before


def test_offsets_are_compared_too_when_one_of_several_partitions_moved(city: Hub) -> None:
    city.merge(state("portal", "1", 1, DOSSIER))
    moves: dict[tuple[str, int], tuple[int | None, int]] = {(frames.TOPIC, 0): (0, 5), (frames.TOPIC, 1): (None, 1)}
    with pytest.raises(FencedError):
        city.merger.merge([message(state("portal", "2", 1, DOSSIER), 0, 1)], moves)
    assert hub.stored_offset(city.connection, frames.TOPIC, 1) is None
    assert hub.stored_offset(city.connection, frames.TOPIC, 0) == 1
    assert len(city.golden()) == 1


# ------------------------------------------------------------------ versions
@pytest.mark.parametrize("together", [True, False], ids=["one batch", "two batches"])
def test_older_never_overwrites_newer(city: Hub, together: bool) -> None:  # noqa: FBT001
    newer, older = (state("portal", "1", version, DOSSIER | {"status": status}) for version, status in ((9, 8), (3, 2)))
    if together:
        city.merge(newer, older)
    else:
        city.each(newer, older)
    assert [g["status"] for g in city.golden()] == [8]
    assert (city.counts("captured"), city.counts("merged"), city.counts("older")) == (2, 1, 1)


def test_a_later_epoch_wins_over_a_higher_version(city: Hub) -> None:
    city.each(state("portal", "1", 9, DOSSIER | {"status": 8}), state("portal", "1", 3, DOSSIER | {"status": 2}, epoch=2))
    assert [g["status"] for g in city.golden()] == [2]


def test_duplicates_are_counted_and_change_nothing(city: Hub) -> None:
    frame = state("portal", "1", 5, DOSSIER)
    city.merge(frame, frame)
    city.merge(frame)
    assert len(city.golden()) == 1
    assert city.counts("duplicate") == 2
    assert city.counts("captured") == city.counts("merged") + city.counts("duplicate")
    assert city.sql("SELECT count(*) FROM hub.changed") == [(1,)]


def test_a_newer_reading_without_a_change_is_unchanged_and_routed_to_nobody(city: Hub) -> None:
    city.each(state("portal", "1", 5, DOSSIER), state("portal", "1", 6, DOSSIER))
    assert city.counts("unchanged") == 1
    assert city.sql("SELECT count(*) FROM hub.changed") == [(1,)]
    assert city.sql("SELECT version FROM hub.contribution") == [(6,)]


def test_every_captured_entry_is_accounted_for(city: Hub) -> None:
    """Per hop: captured = merged + unchanged + older + duplicate + refused (R8)."""
    chance = random.Random(4)
    for _ in range(12):
        sent = [
            state("portal", str(chance.randint(1, 3)), chance.randint(1, 9), DOSSIER | {"status": chance.randint(1, 10)})
            for _ in range(chance.randint(1, 5))
        ]
        city.merge(*sent, gone("ward-a", "9", chance.randint(1, 5)), refused("ward-a", "7", chance.randint(1, 5)))
    ends = ("merged", "unchanged", "older", "duplicate", "refused")
    assert city.counts("captured") == sum(map(city.counts, ends)) > 40


def test_a_deleted_dossier_does_not_rise_from_an_older_state(city: Hub) -> None:
    city.each(state("portal", "1", 1, DOSSIER), gone("portal", "1", 5), state("portal", "1", 3, DOSSIER))
    assert city.golden() == []
    assert city.counts("older") == 1


# ------------------------------------------------------------------ concurrency: B6, B7a
def _at_once(*works: Any) -> list[BaseException]:
    """Run the works in threads; returns what they raised."""
    raised: list[BaseException] = []

    def guarded(work: Any) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - handed to the test
            raised.append(error)

    threads = [threading.Thread(target=guarded, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return raised


@pytest.mark.parametrize("locked", [True, False], ids=["rule on", "mutation: fold without the lock"])
def test_two_merges_of_one_dossier_lose_no_contribution(
    city: Hub,
    monkeypatch: pytest.MonkeyPatch,
    locked: bool,  # noqa: FBT001
) -> None:  # noqa: FBT001
    """Both are held just before they write the golden record, so without the lock neither fold sees the other's word."""
    city.each(
        state("portal", "P1", 1, DOSSIER | {"national_code": "N1"}),
        state("ward-a", "W1", 1, DOSSIER | {"national_code": "N1"}),
        state("portal", "P2", 1, DOSSIER),  # the batch after one with a link runs alone
    )
    other = Hub(city.dsn, partition=1)
    barrier, update_records = threading.Barrier(2), hub.update_records

    def wait_for_the_other(cursor: Any, golden: Any) -> None:
        with contextlib.suppress(threading.BrokenBarrierError):
            barrier.wait(0.7 if locked else 30)  # with the rule on, the other one waits for the lock and cannot come
        update_records(cursor, golden)

    monkeypatch.setattr(hub, "update_records", wait_for_the_other)
    if not locked:
        monkeypatch.setattr(hub_statements, "LOCK", hub_statements.LOCK.replace("FOR UPDATE OF r", ""))
    raised = _at_once(
        lambda: city.merge(state("portal", "P1", 2, DOSSIER | {"national_code": "N1", "note": "portal"})),
        lambda: other.merge(state("ward-a", "W1", 2, DOSSIER | {"national_code": "N1", "handler_name": "ward"})),
    )
    other.connection.close()
    golden = city.golden()[0]
    both_kept = not raised and (golden.get("note"), golden.get("handler_name")) == ("portal", "ward")
    assert both_kept is locked


def test_two_merges_of_a_dossier_nobody_knew_make_one_record(city: Hub) -> None:
    other = Hub(city.dsn, partition=1)
    for n in range(10):
        values = DOSSIER | {"national_code": f"N{n}"}
        raised = _at_once(
            lambda n=n, v=values: city.merge(state("portal", f"P{n}", 1, v | {"note": "portal"})),
            lambda n=n, v=values: other.merge(state("ward-a", f"W{n}", 1, v | {"handler_name": "ward"})),
        )
        assert not raised
    other.connection.close()
    golden = city.golden()
    assert len(golden) == 10
    assert {(g["note"], g["handler_name"]) for g in golden} == {("portal", "ward")}
    assert city.parked("link") == []


def _batches(system: str, order: Sequence[int]) -> Iterator[list[bytes]]:
    for start in range(0, len(order), 20):
        yield [state(system, f"{system}-{n}", 1, DOSSIER | {"national_code": f"N{n:04}"}) for n in order[start : start + 20]]


def test_claims_of_two_mergers_in_opposite_order_do_not_deadlock(city: Hub) -> None:
    other = Hub(city.dsn, partition=1)

    def work(merger: Hub, system: str, order: Sequence[int]) -> None:
        for sent in _batches(system, order):
            merger.merge(*sent)

    up = list(range(300))
    raised = _at_once(lambda: work(city, "portal", up), lambda: work(other, "ward-a", up[::-1]))
    other.connection.close()
    assert not raised
    assert len(city.golden()) == 300
    assert city.sql("SELECT count(*), count(DISTINCT record) FROM hub.contribution") == [(600, 300)]
    assert city.sql("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()") == [(0,)]


def test_a_batch_that_fails_half_way_leaves_nothing_and_can_be_repeated(city: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    before = city.contents()

    def fail(*_: Any) -> None:
        raise TransientError("the hub went away")

    with monkeypatch.context() as broken:
        broken.setattr(hub, "put_history", fail)
        with pytest.raises(TransientError):
            city.merge(X1, FEE_X)
    assert city.contents() == before
    city.merge(X1, FEE_X)
    assert len(city.golden()) == len(city.golden("fee")) == 1


def test_batches_that_link_the_same_records_in_opposite_order_do_not_deadlock(city: Hub) -> None:
    codes = [f"N{n}" for n in range(12)]
    city.merge(*[state("portal", code, 1, DOSSIER | {"national_code": code}) for code in codes])
    other = Hub(city.dsn, 1)

    def linking(hub_: Hub, system: str, order: Sequence[str]) -> None:
        for version in (2, 3):
            dossiers = [state(system, code, version, DOSSIER | {"national_code": code, "note": f"{system} {version}"}) for code in order]
            fees = [state(system, f"{code}|1", version, {"fee_code": code, "amount": version}, entity="fee", parent=code) for code in order]
            hub_.merge(*dossiers, *fees)

    errors = _at_once(lambda: linking(city, "ward-a", codes), lambda: linking(other, "ward-b", codes[::-1]))
    other.connection.close()
    assert errors == []
    assert len(city.golden()) == len(city.golden("fee")) == len(codes)
    assert city.sql("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()") == [(0,)]


def test_a_merge_that_is_frozen_inside_its_transaction_loses_it(city: Hub) -> None:
    frozen = hub.open_hub(city.dsn, "merge")
    with transaction(frozen) as cursor:
        assert rows(cursor, "SHOW idle_in_transaction_session_timeout") == [("1min",)]
        cursor.execute("SET idle_in_transaction_session_timeout = '50ms'")
    with pytest.raises(TransientError):
        _freeze(frozen)
    city.merge(state("portal", "1", 1, DOSSIER))
    assert len(city.golden()) == 1


def _freeze(frozen: Connection) -> None:
    with transaction(frozen) as cursor:
        hub.enter(cursor, alone=True)
        time.sleep(0.5)
        hub.move_offsets(cursor, {(frames.TOPIC, 7): (None, 1)})
