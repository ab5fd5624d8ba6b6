"""One suite for the hub in memory and the hub on real PostgreSQL: what the simulation stands on must do what the real statements do."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from connectors.postgres import transaction
from lienthong import hub, hub_schema
from lienthong.errors import FencedError, TransientError
from lienthong.frames import Header, Note
from tests.simulation.database import Crash, Fuse, MemoryConnection
from tests.simulation.hub_tables import VIEWS, empty_hub, view
from tests.simulation.merging_city import CODES, PARTITIONS, SYSTEMS
from tests.simulation.test_merge_machine import DOSSIERS, PLACES, POLLS, MergeAndRoute

Store = Any
PLACE = ("portal", "dossier", "1")
CALLS = 80


@pytest.fixture(params=["memory", "postgresql"])
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    """A connection to an empty hub."""
    if request.param == "memory":
        yield MemoryConnection(empty_hub())
        return
    dsn = request.getfixturevalue("database")
    hub_schema.install(dsn)
    connection = hub.open_hub(dsn, "test")
    yield connection
    connection.close()


def contribution(version: int, values: dict[str, Any] | None, *, place: tuple[str, str, str] = PLACE, **more: Any) -> tuple[Any, ...]:
    """A row for the hub; without values it is a sole contributor's, whose golden record is its word."""
    body = None if values is None else orjson.dumps(values).decode()
    given = {"record": 1, "epoch": 1, "op": "s", "claim": None, "parent_key": None} | more
    return (*place, given["record"], given["epoch"], version, given["op"], False, 3, body, given["claim"], given["parent_key"], 0, None)


def record(number: int, values: dict[str, Any], *, sole: str | None = "portal", parent: int | None = None, deleted: bool = False) -> tuple[Any, ...]:
    who = None if sole else orjson.dumps({"intake": "portal"}).decode()
    return number, "dossier", parent, deleted, sole, 1, orjson.dumps(values).decode(), who


def sole(store: Store, version: int, values: dict[str, Any], **more: Any) -> list[tuple[int, int, bool, bool]]:
    given = {"place": PLACE, "parent_key": None, "claim": None, "epoch": 1} | more
    with transaction(store) as cursor:
        row = (0, *given["place"], given["parent_key"], given["claim"], given["epoch"], version, False, 3, 0, orjson.dumps(values).decode())
        return hub.update_sole(cursor, [row])


def start(store: Store, **values: Any) -> None:
    """One sole record of one system."""
    with transaction(store) as cursor:
        hub.add_contributions(cursor, [contribution(5, None)])
        hub.add_records(cursor, [record(1, values)])


def held(store: Store) -> dict[str, Any]:
    with transaction(store) as cursor:
        return hub.bodies(cursor, [PLACE])[PLACE]


# ------------------------------------------------------------------ contributions
def test_only_a_newer_contribution_is_stored(store: Store) -> None:
    with transaction(store) as cursor:
        hub.add_contributions(cursor, [contribution(5, {"note": "a"})])
        assert hub.put_contributions(cursor, [contribution(4, {"note": "older"})]) == 0
        assert hub.put_contributions(cursor, [contribution(5, {"note": "same"})]) == 0
        assert hub.put_contributions(cursor, [contribution(6, {"note": "b"})]) == 1
        assert hub.put_contributions(cursor, [contribution(1, {"note": "c"}, epoch=2)]) == 1
        assert hub.put_contributions(cursor, [contribution(9, {}, place=("ward-a", "dossier", "1"))]) == 0, "never seen before"
    assert held(store) == {"note": "c"}


def test_a_contribution_that_is_there_already_is_not_added(store: Store) -> None:
    with transaction(store) as cursor:
        hub.add_contributions(cursor, [contribution(5, {})])
    with pytest.raises(TransientError), transaction(store) as cursor:
        hub.add_contributions(cursor, [contribution(6, {})])


def test_a_promise_takes_no_place_that_is_taken(store: Store) -> None:
    with transaction(store) as cursor:
        hub.add_contributions(cursor, [contribution(5, {"note": "a"})])
        hub.promise(cursor, [contribution(0, None, op="p"), contribution(0, None, op="p", place=("portal", "dossier", "2"))])
        assert {key[2]: known.op for key, known in hub.existing(cursor, [PLACE, ("portal", "dossier", "2")]).items()} == {"1": "s", "2": "p"}
        assert [row[1] for row in hub.of_records(cursor, [1])] == ["portal"], "a promise says nothing"


def test_what_a_transaction_did_before_it_failed_never_was(store: Store) -> None:
    def half_way() -> None:
        with transaction(store) as cursor:
            hub.add_contributions(cursor, [contribution(5, {})])
            hub.move_offsets(cursor, {("in", 0): (7, 8)})

    with pytest.raises(FencedError):
        half_way()
    assert view(store, "contribution") == []


# ------------------------------------------------------------------ records of one contributor
def test_a_sole_contributors_word_is_the_golden_record_until_it_is_parted(store: Store) -> None:
    start(store, note="a")
    assert held(store) == {"note": "a"}
    with transaction(store) as cursor:
        hub.part(cursor, [1])
        hub.put_records(cursor, [record(1, {"note": "golden"}, sole=None)])
    assert held(store) == {"note": "a"}


def test_a_sole_update_stores_record_contribution_history_and_change(store: Store) -> None:
    start(store, note="a")
    assert sole(store, 6, {"note": "b"}) == [(0, 1, True, False)]
    assert held(store) == {"note": "b"}
    assert [(row["version"], row["body"]) for row in view(store, "record")] == [(2, {"note": "b"})]
    assert [(row["version"], row["before"]) for row in view(store, "history")] == [(1, {"note": "a"})]
    assert [row["record"] for row in view(store, "changed")] == [1]


def test_a_sole_update_that_says_the_same_changes_nothing_but_the_version_read(store: Store) -> None:
    start(store, note="a")
    assert sole(store, 6, {"note": "a"}) == [(0, 1, False, False)]
    assert (view(store, "changed"), view(store, "history")) == ([], [])
    assert [row["version"] for row in view(store, "contribution")] == [6]


def test_a_sole_update_leaves_alone_what_others_speak_about(store: Store) -> None:
    start(store, note="a")
    with transaction(store) as cursor:
        hub.put_records(cursor, [record(1, {"note": "a"}, sole=None)])
    assert sole(store, 6, {"note": "b"}) == []
    assert held(store) == {"note": "a"}


@pytest.mark.parametrize(
    "given",
    [
        {"version": 5}, {"epoch": 2}, {"parent_key": "9"}, {"claim": "dossier:N1"}, {"place": ("portal", "dossier", "2")},
        {"place": ("ward-a", "dossier", "1")},
    ],
    ids=["read before", "new life", "other parent", "other identifier", "unknown key", "other system"],
)  # fmt: skip
def test_a_sole_update_leaves_alone_what_is_not_the_next_state_of_its_source_record(store: Store, given: dict[str, Any]) -> None:
    start(store, note="a")
    assert sole(store, **({"version": 6} | given), values={"note": "b"}) == []
    assert held(store) == {"note": "a"}
    assert [row["version"] for row in view(store, "contribution")] == [5]


@pytest.mark.parametrize("change", [{"op": "d"}, {"body": "{}"}, {"body": None, "record": 2}], ids=["gone", "with a body", "without a record"])
def test_a_sole_update_leaves_alone_what_the_golden_record_does_not_stand_for(store: Store, change: dict[str, Any]) -> None:
    start(store, note="a")
    more = {name: value for name, value in change.items() if name != "body"}
    with transaction(store) as cursor:
        hub.put_contributions(cursor, [contribution(6, orjson.loads(change.get("body") or "null"), **more)])
    assert sole(store, 7, {"note": "b"}) == []


def test_a_sole_update_of_a_child_knows_its_identifier_under_its_parents_record(store: Store) -> None:
    place = ("portal", "fee", "9")
    with transaction(store) as cursor:
        hub.add_contributions(cursor, [contribution(5, None, place=place, claim="fee:77:LP1", parent_key="1")])
        hub.put_records(cursor, [record(1, {"note": "a"}, parent=77)])
    fee = {"place": place, "parent_key": "1"}
    assert sole(store, 6, {"note": "b"}, claim="fee:LP2", **fee) == []
    assert sole(store, 6, {"note": "b"}, claim="fee:LP1", **fee) == [(0, 1, True, False)]


def test_a_sole_update_knows_when_the_roles_change(store: Store) -> None:
    start(store, processing_unit="26737")
    assert sole(store, 6, {"processing_unit": "26740"}) == [(0, 1, True, True)]


# ------------------------------------------------------------------ identifiers
def test_a_claim_belongs_to_who_was_first_and_is_freed_by_its_last_holder(store: Store) -> None:
    with transaction(store) as cursor:
        assert hub.claim(cursor, {"dossier:N1": 1, "dossier:N2": 2}) == {}
        assert hub.claim(cursor, {"dossier:N1": 3, "dossier:N2": 2}) == {"dossier:N1": 1}
        hub.add_contributions(
            cursor, [contribution(1, {}, claim="dossier:N1"), contribution(1, {}, claim="dossier:N1", place=("ward-a", "dossier", "9"))]
        )
        hub.release(cursor, [("dossier:N1", 1, *PLACE)])
        assert hub.claim(cursor, {"dossier:N1": 3}) == {"dossier:N1": 1}, "another contribution of the record still makes it"
        hub.release(cursor, [("dossier:N2", 2, "portal", "dossier", "2")])
        assert hub.claim(cursor, {"dossier:N2": 3}) == {}


# ------------------------------------------------------------------ golden records, offsets, the rest
def test_records_are_read_as_they_were_written(store: Store) -> None:
    with transaction(store) as cursor:
        hub.add_records(cursor, [record(2, {"processing_unit": "26737"}, parent=1), record(1, {"note": "a"}, sole=None, deleted=True)])
        rows = hub.lock(cursor, [2, 1, 7])
        assert {n: (r.parent, r.deleted, r.sole, r.body, r.who, r.merged_into) for n, r in rows.items()} == {
            1: (None, True, None, {"note": "a"}, {"intake": "portal"}, None),
            2: (1, False, "portal", {"processing_unit": "26737"}, None, None),
        }
        hub.update_records(cursor, [record(1, {"note": "b"}), record(9, {})])
        assert set(hub.lock(cursor, [1, 9])) == {1}
        assert hub.routing_of(cursor, [2])[2]["processing_unit"] == "26737"


def test_an_offset_moves_only_from_where_it_is_expected(store: Store) -> None:
    with transaction(store) as cursor:
        hub.move_offsets(cursor, {("in", 0): (None, 3)})
    for expected in (None, 2):
        with pytest.raises(FencedError), transaction(store) as cursor:
            hub.move_offsets(cursor, {("in", 0): (expected, 9)})
    assert hub.stored_offset(store, "in", 0) == 3


def test_counters_add_up_and_corrections_are_kept_once(store: Store) -> None:
    with transaction(store) as cursor:
        for _ in range(2):
            hub.count(cursor, {(20_000, "portal", "dossier", "merged"): 2})
            hub.put_corrections(cursor, "portal", "dossier", 1, 5, [("note", "a", None, "ward-a")])
    assert [row["n"] for row in view(store, "counter")] == [4]
    assert [(row["field"], row["asked"], row["owner"]) for row in view(store, "correction")] == [("note", "a", "ward-a")]


# ------------------------------------------------------------------ whole histories
def calls(seed: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """A history of the merge machine, without crashes, drawn from a seed."""
    draw = random.Random(seed)  # noqa: S311 - a test
    for _ in range(CALLS):
        yield draw.choice(
            [
                ("edit", {"dossier": draw.choice(DOSSIERS)}),
                ("edit", {"dossier": draw.choice(DOSSIERS)}),
                ("delete", {"place": draw.choice(PLACES)}),
                ("charge", {"place": draw.choice(PLACES), "amount": draw.randint(1, 2)}),
                ("spoil", {"place": draw.choice(PLACES)}),
                ("read", {"system": draw.choice(SYSTEMS)}),
                ("read", {"system": draw.choice(SYSTEMS)}),
                ("merge", {"poll": draw.choice(POLLS), "crash": None}),
                ("merge", {"poll": draw.choice(POLLS), "crash": None}),
                ("route", {"crash": None}),
                ("repeat", {"partition": draw.randrange(PARTITIONS), "back": draw.randint(1, 5)}),
            ]
        )


def play(machine: MergeAndRoute, seed: int) -> dict[str, list[str]]:
    """Run a history to its quiet end; everything the hub holds then."""
    for name, arguments in calls(seed):
        if name == "read":
            machine.city.read(arguments["system"])
        elif name == "repeat":
            log = machine.city.log[arguments["partition"]]
            if len(log) >= arguments["back"]:
                machine.city.append(arguments["partition"], log[-arguments["back"]].value or b"")
        else:
            getattr(machine, name)(**arguments)
    machine.city.settle()
    machine.city.check()
    written = {table: [orjson.dumps(row, default=bytes.hex, option=orjson.OPT_SORT_KEYS) for row in view(machine.city.hub, table)] for table in VIEWS}
    return {table: sorted(row.decode() for row in rows) for table, rows in written.items()}


@pytest.mark.parametrize("seed", range(4))
def test_a_history_leaves_the_same_in_memory_as_in_postgresql(seed: int, database: str) -> None:
    assert len(CODES) == 2
    hub_schema.install(database)
    opened: list[Any] = []

    def connect() -> Any:
        opened.append(hub.open_hub(database, "test"))
        return opened[-1]

    real = MergeAndRoute(connect)
    try:
        stored = play(real, seed)
    finally:
        for connection in opened:
            connection.close()
    simulated = play(MergeAndRoute(), seed)
    assert {t: (simulated[t], stored[t]) for t in VIEWS if simulated[t] != stored[t]} == {}
    assert stored["record"], "a history in which nothing happens shows nothing"


def test_a_crash_in_memory_rolls_back_like_a_lost_connection() -> None:
    fuse = Fuse()
    database = empty_hub(fuse)
    connection = MemoryConnection(database)

    def write(number: int) -> None:
        with transaction(connection) as cursor:  # type: ignore[arg-type]
            for system in SYSTEMS:
                hub.note_loaded(cursor, [Note(Header(system, "?", "load_complete", 1, 1, 0, 0), {"partition": number})])

    for n in range(5):
        fuse.left = n
        with pytest.raises(Crash):
            write(n)
    # Operations 0 to 2 are the statements, 3 comes before the commit, 4 after it: then all is stored, though its answer was lost.
    assert sorted(database["loaded"]) == [("portal", 4), ("ward-a", 4), ("ward-b", 4)]
