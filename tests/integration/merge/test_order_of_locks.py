"""The merge on a real hub: two merges that want the same things in opposite order wait for each other and never deadlock (B7, R6).

Each of the two has got its first and waits for something a stranger holds; then the strangers let go. Without a common order each would
now want what the other has.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from connectors.postgres import connect, rows, transaction
from lienthong import hub
from lienthong.errors import FencedError
from tests.merge_kit import DOSSIER, Hub, state

WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"


def crossing(dsn: str, held: Sequence[str], *works: Callable[[], object]) -> list[BaseException]:
    """Run the works at once while strangers hold what each statement of `held` takes, until all works wait; returns what they raised."""
    strangers = [connect(dsn, application_name="stranger") for _ in held]
    watch = connect(dsn, application_name="watch")
    for stranger, statement in zip(strangers, held, strict=True):
        stranger.cursor().execute(statement)
    with ThreadPoolExecutor(len(works)) as pool:
        jobs = [pool.submit(work) for work in works]
        try:
            wait_for(watch, len(works))
        finally:
            for connection in (*strangers, watch):
                connection.rollback()
                connection.close()
        return [error for job in jobs if (error := job.exception(60)) is not None]


def wait_for(watch: Any, count: int) -> None:
    """Until so many sessions wait for a lock."""
    give_up = time.monotonic() + 20
    while True:
        with transaction(watch) as cursor:
            if rows(cursor, WAITING) == [(count,)]:
                return
        assert time.monotonic() < give_up, "they do not wait for each other"
        time.sleep(0.01)


def coded(system: str, version: int, codes: str) -> list[bytes]:
    """One dossier for each letter."""
    return [state(system, code, version, DOSSIER | {"national_code": code, "handler_name": f"{system} {version}"}) for code in codes]


def test_claims_in_opposite_order_do_not_deadlock(city: Hub) -> None:
    other = Hub(city.dsn, partition=1)
    held = [f"INSERT INTO hub.identifier VALUES ('dossier:{code}', 999)" for code in "MN"]  # noqa: S608 - letters of our own
    raised = crossing(
        city.dsn, held,
        lambda: city.merge(*coded("portal", 1, "AMB")),
        lambda: other.merge(*coded("ward-a", 1, "BNA")),
    )  # fmt: skip
    other.connection.close()
    assert raised == []
    assert sorted(golden["national_code"] for golden in city.golden()) == ["A", "B", "M", "N"]


def test_records_locked_in_opposite_order_do_not_deadlock(city: Hub) -> None:
    other = Hub(city.dsn, partition=1)
    city.merge(*coded("portal", 1, "ABMN"))
    other.merge(*coded("ward-a", 1, "ABMN"))
    other.merge(*coded("ward-a", 1, "Z"))  # after a batch that links the next runs alone: this one
    held = [f"SELECT FROM hub.record JOIN hub.identifier USING (record) WHERE claim = 'dossier:{code}' FOR UPDATE OF record" for code in "MN"]
    raised = crossing(
        city.dsn, held,
        lambda: city.merge(*coded("portal", 2, "AMB")),
        lambda: other.merge(*coded("ward-a", 2, "BNA")),
    )  # fmt: skip
    other.connection.close()
    assert raised == []
    assert {g["national_code"]: g["handler_name"] for g in city.golden()} == {
        "A": "ward-a 2", "B": "ward-a 2", "M": "ward-a 1", "N": "ward-a 2", "Z": "ward-a 1"
    }  # fmt: skip


def test_records_of_one_system_alone_are_not_waited_for_by_who_joins_them(city: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    other = Hub(city.dsn, partition=1)
    city.merge(*coded("portal", 1, "A"))
    other.merge(*coded("ward-a", 1, "B"))
    numbers = dict(city.sql("SELECT body->>'national_code', record FROM hub.record"))
    both, waited, lock = threading.Barrier(2), set(), hub.lock

    def when_both_have_stored_their_own(*given: Any) -> Any:
        if threading.get_ident() not in waited:
            waited.add(threading.get_ident())
            both.wait(20)
        return lock(*given)

    monkeypatch.setattr(hub, "lock", when_both_have_stored_their_own)
    with ThreadPoolExecutor(2) as pool:
        jobs = [
            pool.submit(merger.merge, *coded(system, 2, own), state(system, f"copy of {joined}", 1, {"note": joined}, record=numbers[joined]))
            for merger, system, own, joined in ((city, "portal", "A", "B"), (other, "ward-a", "B", "A"))
        ]
        raised = [job.exception(60) for job in jobs]
    other.connection.close()
    assert raised == [None, None]
    assert {g["national_code"]: (g["handler_name"], g["note"]) for g in city.golden()} == {"A": ("portal 2", "A"), "B": ("ward-a 2", "B")}


def test_offsets_moved_in_opposite_order_do_not_deadlock(city: Hub) -> None:
    other = Hub(city.dsn, partition=1)
    with transaction(city.connection) as cursor:
        hub.move_offsets(cursor, {("in", partition): (None, 0) for partition in range(4)})

    def move(merger: Hub, *partitions: int) -> None:
        with transaction(merger.connection) as cursor:
            hub.move_offsets(cursor, {("in", partition): (0, 1) for partition in partitions})

    held = [f"SELECT FROM hub.consumer_offset WHERE partition = {partition} FOR UPDATE" for partition in (2, 3)]
    raised = crossing(city.dsn, held, lambda: move(city, 0, 2, 1), lambda: move(other, 1, 3, 0))
    other.connection.close()
    assert [type(error) for error in raised] == [FencedError], "one was faster, the other is told so"


def test_counters_raised_in_opposite_order_do_not_deadlock(city: Hub) -> None:
    other = Hub(city.dsn, partition=1)

    def count(merger: Hub, entities: str) -> None:
        counts: Mapping[tuple[int, str, str, str], int] = {(20_000, "portal", entity, "merged"): 1 for entity in entities}
        with transaction(merger.connection) as cursor:
            hub.count(cursor, counts)

    count(city, "ABMN")
    held = [f"SELECT FROM hub.day_count WHERE entity = '{entity}' FOR UPDATE" for entity in "MN"]
    raised = crossing(city.dsn, held, lambda: count(city, "AMB"), lambda: count(other, "BNA"))
    other.connection.close()
    assert raised == []
    assert city.sql("SELECT entity, n::int FROM hub.day_count ORDER BY entity") == [("A", 3), ("B", 3), ("M", 2), ("N", 2)]
