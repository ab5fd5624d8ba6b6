"""The merge on a real hub: hand-made frames in, golden records out (design §3; protocol B4, B6, B7, B10, R6)."""

from __future__ import annotations

import base64
import contextlib
import random
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import permutations
from typing import Any

import pytest

from connectors.kafka import Message
from connectors.postgres import rows, transaction
from lienthong import explain, frames, hub, parked
from lienthong.errors import FencedError, TransientError
from lienthong.frames import DELETE, STATE, FrameBuilder, Header, encode_body, mask_of, note_frame, pack_entry
from lienthong.merge import Batch, Merger, read_messages
from lienthong.readers import to_micros
from lienthong.settings import Settings
from lienthong.vault import Vault

CITY_FIRST = {"order": ["portal", "one-stop", "kind:ward"], "basis": "Decree 118: the city keeps it"}
HANDLER_FIRST = {
    "order": ["@processing", "portal", "one-stop", "kind:ward"],
    "basis": "Decree 61: who handles it decides",
}
AGENCY_A, AGENCY_B = "000.00.01.H29", "000.00.02.H29"
DAY = to_micros(datetime(2026, 3, 5, 3, tzinfo=UTC))
DOSSIER = {
    "procedure_code": "1.001",
    "submitted_at": DAY,
    "received_at": DAY,
    "applicant_name": "Nguyễn Văn An",
    "status": 4,
    "processing_agency_code": AGENCY_A,
}


def settings(dsn: str) -> Settings:
    groups = {group: [CITY_FIRST] for group in ("record", "routing", "intake", "payment")}
    dossier = groups | {"processing": [HANDLER_FIRST], "result": [HANDLER_FIRST]}
    child = {"record": [HANDLER_FIRST], "content": [HANDLER_FIRST]}
    person = {group: [CITY_FIRST] for group in ("record", "identity", "residence", "contact")}
    system = {"profile": "p", "dsn": "x"}
    return Settings.model_validate(
        {
            "hub": {"dsn": dsn},
            "kafka": {"bootstrap": "x"},
            "profiles": {"p": {"profile": "p", "entities": {"dossier": {"table": "t", "key": "k", "fields": {"note": "note"}}}}},
            "systems": {
                "portal": {**system, "kind": "portal"},
                "one-stop": {**system, "kind": "one-stop"},
                "ward-a": {**system, "kind": "ward", "agencies": [AGENCY_A]},
                "ward-b": {**system, "kind": "ward", "agencies": [AGENCY_B]},
            },
            "authority": {
                "dossier": dossier,
                "fee": child,
                "dossier_component": child,
                "dossier_event": {"record": [CITY_FIRST], "step": [CITY_FIRST]},
                "citizen": person,
            },
            "contracts": {},
        }
    )


# ------------------------------------------------------------------ hand-made frames
def state(
    system: str,
    key: str,
    version: int,
    values: Mapping[str, Any],
    *,
    entity: str = "dossier",
    parent: str | None = None,
    **more: Any,
) -> bytes:
    """A frame with one state of one record; `more`: record, delivered, edited (names), epoch."""
    mask = mask_of(entity, values)
    bits = {name: mask_of(entity, [name]) for name in values}
    nulls, body = encode_body(entity, dict(values), bits, mask)
    edited = mask_of(entity, more["edited"]) if "edited" in more else None
    packed = pack_entry(
        STATE,
        key,
        parent=parent,
        record=more.get("record"),
        delivered=more.get("delivered", False),
        edited=edited,
        nulls=nulls,
        body=body,
    )
    return framed(Header(system, entity, "records", more.get("epoch", 1), version, mask, DAY), packed)


def gone(system: str, key: str, version: int, *, entity: str = "dossier", parent: str | None = None, delivered: bool = False) -> bytes:
    """A frame that says a record is no longer there."""
    packed = pack_entry(DELETE, key, parent=parent, record=None, delivered=delivered, edited=None, nulls=0, body=b"")
    return framed(Header(system, entity, "records", 1, version, 0, DAY), packed)


def framed(header: Header, *packed: bytes) -> bytes:
    builder = FrameBuilder(header)
    for one in packed:
        builder.add(one)
    frame = builder.close()
    assert frame is not None
    return frame


def refused(system: str, key: str, version: int, *, reason: str = "unmapped_word") -> bytes:
    payload = base64.b64encode(Vault(None).seal(b'{"status":"?"}')).decode()
    content = {"key": key, "field": "status", "reason": reason, "message": "a word", "payload": payload}
    return note_frame(Header(system, "dossier", "refused", 1, version, 0, DAY), [content])[0]


def message(frame: bytes, offset: int = 0, partition: int = 0) -> Message:
    return Message(frames.TOPIC, partition, offset, 0, None, frame, ())


class Hub:
    """A hub with one merger that reads one partition."""

    def __init__(self, dsn: str, partition: int = 0) -> None:
        self.dsn, self.partition = dsn, partition
        self.settings = settings(dsn)
        self.connection = hub.open_hub(dsn, "merge")
        self.merger = Merger(self.settings, self.connection)
        self._at: int | None = None

    def merge(self, *sent: bytes) -> Batch:
        """Merge frames as one batch."""
        start = self._at or 0
        messages = [message(frame, start + n, self.partition) for n, frame in enumerate(sent)]
        batch = self.merger.merge(messages, {(frames.TOPIC, self.partition): (self._at, start + len(sent))})
        self._at = start + len(sent)
        return batch

    def each(self, *sent: bytes) -> None:
        """Merge frames in a batch of their own each."""
        for frame in sent:
            self.merge(frame)

    def sql(self, statement: str, *arguments: Any) -> list[tuple[Any, ...]]:
        with transaction(self.connection) as cursor:
            return rows(cursor, statement, list(arguments))

    def golden(self, entity: str = "dossier") -> list[dict[str, Any]]:
        """The living golden records of an entity."""
        found = self.sql(
            "SELECT body FROM hub.record WHERE entity = %s AND merged_into IS NULL AND NOT deleted ORDER BY record",
            entity,
        )
        return [body for (body,) in found]

    def counts(self, outcome: str) -> int:
        return int(self.sql("SELECT coalesce(sum(n), 0)::int FROM hub.counter WHERE outcome = %s", outcome)[0][0])

    def parked(self, kind: str) -> list[dict[str, Any]]:
        return [p for p in parked.listing(self.connection) if p["kind"] == kind]

    def corrections(self) -> list[tuple[Any, ...]]:
        return self.sql("SELECT system, field, asked, golden, owner FROM hub.correction ORDER BY id")

    def contents(self) -> dict[str, list[tuple[Any, ...]]]:
        """Everything in the hub but clocks."""
        tables = (
            "contribution",
            "identifier",
            "consumer_offset",
            "counter",
            "changed",
            "history",
            "correction",
            "parked",
            "record",
        )
        return {table: self.sql(f"SELECT to_jsonb(t) - 'at' FROM hub.{table} t ORDER BY 1") for table in tables}  # noqa: S608


@pytest.fixture
def city(database: str) -> Iterator[Hub]:
    hub.install(database)
    made = Hub(database)
    yield made
    made.connection.close()


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
    )
    other = Hub(city.dsn, partition=1)
    barrier, put_records = threading.Barrier(2), hub.put_records

    def wait_for_the_other(cursor: Any, golden: Any) -> None:
        with contextlib.suppress(threading.BrokenBarrierError):
            barrier.wait(0.7)
        put_records(cursor, golden)

    monkeypatch.setattr(hub, "put_records", wait_for_the_other)
    if not locked:
        monkeypatch.setattr(hub, "_LOCK", hub._LOCK.replace("FOR UPDATE OF r", ""))
    raised = _at_once(
        lambda: city.merge(state("portal", "P1", 2, DOSSIER | {"national_code": "N1", "note": "portal"})),
        lambda: other.merge(state("ward-a", "W1", 2, DOSSIER | {"national_code": "N1", "handler_name": "ward"})),
    )
    other.connection.close()
    (golden,) = city.golden()
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


# ------------------------------------------------------------------ identity: B7
X1 = state("ward-a", "X", 1, DOSSIER | {"local_code": "L1"})
Y = state("portal", "Y", 2, DOSSIER | {"national_code": "N1"})
X2 = state("ward-a", "X", 3, DOSSIER | {"local_code": "L1", "national_code": "N1"})
FEE_X = state("ward-a", "X|1", 1, {"fee_code": "LP1", "amount": 50_000}, entity="fee", parent="X")
FEE_Y = state("portal", "Y|1", 2, {"fee_code": "LP1", "amount": 50_000, "name": "Lệ phí"}, entity="fee", parent="Y")
PAPER_X = state("ward-a", "X|2", 1, {"component_code": "A"}, entity="dossier_component", parent="X")
PAPER_Y = state("portal", "Y|2", 2, {"component_code": "B"}, entity="dossier_component", parent="Y")


@pytest.mark.parametrize("order", list(permutations(["X1", "Y", "X2"])), ids="-".join)
def test_the_same_inputs_in_any_order_give_one_record(city: Hub, order: tuple[str, ...]) -> None:
    family = {"X1": [X1, FEE_X, PAPER_X], "Y": [Y, FEE_Y, PAPER_Y], "X2": [X2]}
    for name in order:
        city.merge(*family[name])
    (golden,) = city.golden()
    assert golden["national_code"] == "N1"
    assert golden["local_code"] == "L1"
    kept = city.sql("SELECT record FROM hub.record WHERE entity = 'dossier' AND merged_into IS NULL")[0][0]
    assert city.sql("SELECT DISTINCT record FROM hub.contribution WHERE entity = 'dossier'") == [(kept,)]
    assert city.sql("SELECT DISTINCT parent FROM hub.record WHERE entity <> 'dossier' AND merged_into IS NULL") == [(kept,)]
    assert [(fee["fee_code"], fee["name"]) for fee in city.golden("fee")] == [("LP1", "Lệ phí")]
    assert sorted(paper["component_code"] for paper in city.golden("dossier_component")) == ["A", "B"]
    assert all(merged == kept for (merged,) in city.sql("SELECT merged_into FROM hub.record WHERE entity = 'dossier' AND merged_into > 0"))
    assert city.parked("link") == []


def test_the_id_that_went_points_to_the_one_that_stays_and_both_are_routed(city: Hub) -> None:
    city.each(X1, Y)
    (older,), (younger,) = city.sql("SELECT record FROM hub.record ORDER BY record")
    city.sql("DELETE FROM hub.changed RETURNING 1")
    city.merge(X2)
    assert city.sql("SELECT merged_into FROM hub.record WHERE record = %s", younger) == [(older,)]
    assert {r for (r,) in city.sql("SELECT record FROM hub.changed")} == {older, younger}


def test_what_comes_later_for_the_id_that_went_lands_in_the_one_that_stays(city: Hub) -> None:
    city.each(X1, Y, X2, state("portal", "Y", 9, DOSSIER | {"national_code": "N1", "note": "later"}))
    (golden,) = city.golden()
    assert golden["note"] == "later"


def test_a_child_that_arrives_with_the_join_finds_the_record_that_stays(city: Hub) -> None:
    city.each(X1, Y)
    city.merge(X2, FEE_Y)
    kept = city.sql("SELECT record FROM hub.record WHERE entity = 'dossier' AND merged_into IS NULL")
    assert city.sql("SELECT parent FROM hub.record WHERE entity = 'fee'") == kept


def test_the_same_code_twice_in_one_system_is_a_parked_decision_and_both_flow(city: Hub) -> None:
    city.merge(*[state("ward-a", key, 1, DOSSIER | {"national_code": "N1", "note": key}) for key in ("1", "2")])
    assert sorted(g["note"] for g in city.golden()) == ["1", "2"]
    (decision,) = city.parked("link")
    assert decision["reason"] == "duplicate_identifier"
    city.merge(state("ward-a", "2", 2, DOSSIER | {"national_code": "N1", "note": "2, edited"}))
    assert sorted(g["note"] for g in city.golden()) == ["1", "2, edited"]
    assert len(city.parked("link")) == 1, "asked once"


@pytest.mark.parametrize(
    ("entity", "mine", "yours"),
    [
        ("dossier", DOSSIER | {"national_code": "N1"}, {"procedure_code": "2.002"}),
        ("dossier", DOSSIER | {"national_code": "N1"}, {"received_at": DAY + 86_400_000_000}),
        (
            "citizen",
            {"personal_number": "079200000001", "full_name": "Lê An", "birth_date": "1980"},
            {"birth_date": "1981-01-01"},
        ),
        (
            "citizen",
            {"personal_number": "079200000001", "full_name": "Lê An", "birth_date": "1980"},
            {"full_name": "Lê Bình"},
        ),
    ],
    ids=["procedure", "reception day", "birth year", "name"],
)
def test_a_link_in_doubt_waits_and_the_data_flows(city: Hub, entity: str, mine: dict[str, Any], yours: dict[str, Any]) -> None:
    city.each(state("portal", "1", 1, mine, entity=entity), state("ward-a", "7", 1, mine | yours, entity=entity))
    assert len(city.golden(entity)) == 2
    (decision,) = city.parked("link")
    assert (decision["reason"], decision["system"], decision["local_key"]) == ("link_in_doubt", "ward-a", "7")
    assert not any(str(value) in decision["message"] for value in (mine | yours).values()), "no personal data in a reason"
    changed = state("ward-a", "7", 2, mine | yours | ({"note": "x"} if entity == "dossier" else {"email": "x"}), entity=entity)
    city.merge(changed)
    assert sum("x" in g.values() for g in city.golden(entity)) == 1


def test_a_code_that_was_corrected_is_free_again(city: Hub) -> None:
    """A clerk typed another dossier's national code and corrected it: that puts the right dossier in no doubt."""
    city.each(
        state("ward-a", "1", 1, DOSSIER | {"national_code": "N1"}),
        state("ward-a", "1", 2, DOSSIER | {"national_code": "N2"}),
        state("ward-a", "2", 3, DOSSIER | {"national_code": "N1"}),
    )
    assert city.parked("link") == []
    assert sorted(g["national_code"] for g in city.golden()) == ["N1", "N2"]


# ------------------------------------------------------------------ children
def test_a_child_that_came_before_its_parent_is_attached_to_it(city: Hub) -> None:
    city.each(FEE_X, X1)
    (dossier,) = city.sql("SELECT record FROM hub.record WHERE entity = 'dossier'")
    assert city.sql("SELECT parent FROM hub.record WHERE entity = 'fee'") == [dossier]


def test_a_child_that_came_first_follows_its_parent_into_another_record(city: Hub) -> None:
    city.each(Y, FEE_X, X2)
    assert len(city.golden()) == 1
    kept = city.sql("SELECT record FROM hub.record WHERE entity = 'dossier' AND merged_into IS NULL")
    assert city.sql("SELECT parent FROM hub.record WHERE entity = 'fee' AND merged_into IS NULL") == kept


def test_a_set_names_all_children_and_ends_the_others(city: Hub) -> None:
    papers = [state("ward-a", f"X|{n}", 1, {"component_code": str(n)}, entity="dossier_component", parent="X") for n in range(3)]
    city.merge(X1, *papers)
    left = note_frame(Header("ward-a", "dossier_component", "set", 1, 2, 0, DAY), [{"root": "X", "keys": ["X|1"]}])
    city.merge(*left)
    assert [p["component_code"] for p in city.golden("dossier_component")] == ["1"]
    stale = note_frame(Header("ward-a", "dossier_component", "set", 1, 1, 0, DAY), [{"root": "X", "keys": []}])
    city.merge(*stale)
    assert [p["component_code"] for p in city.golden("dossier_component")] == ["1"], "an older set ends nothing newer"


@pytest.mark.parametrize("order", list(permutations(range(4))), ids=str)
def test_a_hand_over_gives_the_same_fee_in_any_order(city: Hub, order: tuple[int, ...]) -> None:
    """A child's `@processing` is its dossier's routing, also when that changed after the child was folded (R5)."""
    common = {"national_code": "N1"}
    sent = [
        state("portal", "P", 1, DOSSIER | common),
        state("portal", "P", 5, DOSSIER | common | {"processing_agency_code": AGENCY_B}),
        state("ward-a", "A|1", 4, {"fee_code": "LP1", "amount": 1}, entity="fee", parent="A"),
        state("ward-b", "B|1", 3, {"fee_code": "LP1", "amount": 2}, entity="fee", parent="B"),
    ]
    city.each(*[state(ward, key, 1, DOSSIER | common) for ward, key in (("ward-a", "A"), ("ward-b", "B"))])
    city.each(*[sent[n] for n in order])
    assert [fee["amount"] for fee in city.golden("fee")] == [2]


# ------------------------------------------------------------------ existence: B10
def _both(city: Hub) -> None:
    city.each(
        state("portal", "P", 1, DOSSIER | {"national_code": "N1"}),
        state("ward-a", "W", 1, DOSSIER | {"national_code": "N1"}),
    )


def test_a_delete_by_another_than_the_owner_is_a_correction_request(city: Hub) -> None:
    _both(city)
    city.merge(gone("ward-a", "W", 2))
    assert len(city.golden()) == 1
    assert city.corrections() == [("ward-a", "record", None, None, "portal")]
    assert city.sql("SELECT resend FROM hub.changed WHERE resend IS NOT NULL") == [("ward-a",)], "the row is sent there again"


def test_the_owners_delete_deletes_and_history_keeps_what_stood_there(city: Hub) -> None:
    _both(city)
    city.merge(gone("portal", "P", 2))
    assert city.golden() == []
    ((before, system),) = city.sql("SELECT before, system FROM hub.history ORDER BY version DESC LIMIT 1")
    assert system == "portal"
    city.merge(gone("ward-a", "W", 3))
    kept: dict[str, Any] = {}
    for (changes,) in city.sql("SELECT before FROM hub.history ORDER BY version DESC"):
        kept |= changes
    assert kept["applicant_name"] == "Nguyễn Văn An"
    assert city.corrections() == []


def test_a_dossier_that_comes_back_under_a_new_key_is_the_same_record(city: Hub) -> None:
    city.each(
        state("portal", "1", 1, DOSSIER | {"national_code": "N1"}),
        gone("portal", "1", 2),
        state("portal", "2", 3, DOSSIER | {"national_code": "N1"}),
    )
    assert len(city.golden()) == 1
    assert city.sql("SELECT count(*) FROM hub.record") == [(1,)]
    assert city.parked("link") == []


def test_a_fee_deleted_by_the_ward_that_handles_the_dossier_is_gone(city: Hub) -> None:
    """The delete of a child carries no parent, yet its `@processing` is the parent's routing."""
    _both(city)
    city.merge(state("portal", "P|1", 1, {"fee_code": "LP1", "amount": 1}, entity="fee", parent="P"))
    city.merge(state("ward-a", "W|1", 1, {"fee_code": "LP1", "amount": 2}, entity="fee", parent="W"))
    assert [fee["amount"] for fee in city.golden("fee")] == [2]
    city.merge(gone("ward-a", "W|1", 2, entity="fee"))
    assert city.golden("fee") == []


# ------------------------------------------------------------------ edits of what others own
def test_an_edit_of_a_field_another_system_owns_is_a_request_and_the_golden_value_goes_back(city: Hub) -> None:
    _both(city)
    city.sql("DELETE FROM hub.changed RETURNING 1")
    record = city.sql("SELECT record FROM hub.record")[0][0]
    edit = DOSSIER | {"national_code": "N1", "applicant_name": "Trần Thị B"}
    city.merge(state("ward-a", "W", 2, edit, record=record, edited=["applicant_name"]))
    assert [g["applicant_name"] for g in city.golden()] == ["Nguyễn Văn An"]
    assert city.corrections() == [("ward-a", "applicant_name", "Trần Thị B", "Nguyễn Văn An", "portal")]
    assert (record, "ward-a") in city.sql("SELECT record, resend FROM hub.changed")


def test_an_edit_of_ones_own_field_counts_and_asks_nobody(city: Hub) -> None:
    _both(city)
    record = city.sql("SELECT record FROM hub.record")[0][0]
    city.merge(state("ward-a", "W", 2, DOSSIER | {"national_code": "N1", "status": 8}, record=record, edited=["status"]))
    assert [g["status"] for g in city.golden()] == [8]
    assert city.corrections() == []


def test_a_delivered_value_never_becomes_the_receivers_own_word(city: Hub) -> None:
    """Read back from the receiver, it must not outlive the owner's word (B4)."""
    city.merge(state("portal", "P", 1, DOSSIER | {"note": "draft"}))
    record = city.sql("SELECT record FROM hub.record")[0][0]
    city.merge(state("ward-a", "W", 2, DOSSIER | {"note": "draft"}, record=record, edited=[], delivered=True))
    assert city.sql("SELECT mask FROM hub.contribution WHERE system = 'ward-a'") == [(0,)]
    city.merge(gone("portal", "P", 3))
    assert city.golden() == []


# ------------------------------------------------------------------ damaged, unknown, refused
def _frame_of_many() -> bytes:
    values = DOSSIER | {"note": "ghi chú"}
    mask = mask_of("dossier", values)
    bits = {name: mask_of("dossier", [name]) for name in values}
    packed = []
    for n in range(12):
        nulls, body = encode_body(
            "dossier",
            values | {"fee_total": None} | {"note": f"ghi chú {n}"},
            bits | {"fee_total": mask_of("dossier", ["fee_total"])},
            mask | mask_of("dossier", ["fee_total"]),
        )
        packed.append(pack_entry(STATE, f"H{n}", parent=None, record=None, delivered=bool(n % 2), edited=None, nulls=nulls, body=body))
    return framed(Header("ward-a", "dossier", "records", 1, 7, mask | mask_of("dossier", ["fee_total"]), DAY), *packed)


def _mutant(frame: bytes, chance: random.Random) -> bytes:
    data, at = bytearray(frame), chance.randrange(len(frame))
    kind = chance.choice(("flip", "byte", "cut", "drop", "insert", "swap", "repeat", "zeros"))
    if kind == "flip":
        data[at] ^= 1 << chance.randrange(8)
    elif kind == "byte":
        data[at] = chance.randrange(256)
    elif kind == "cut":
        del data[at:]
    elif kind == "drop":
        del data[at : at + chance.randint(1, 40)]
    elif kind == "insert":
        data[at:at] = chance.randbytes(chance.randint(1, 40))
    elif kind == "swap":
        other = chance.randrange(len(frame))
        data[at], data[other] = data[other], data[at]
    elif kind == "repeat":
        data += data[at:]
    else:
        data[at : at + 16] = bytes(min(16, len(data) - at))
    return bytes(data)


def test_a_damaged_frame_is_never_read_as_another_one() -> None:
    """Avro alone reads most flipped bits silently as other values (reliability.md §0.8): 2,000 mutants."""
    frame, chance, ends = _frame_of_many(), random.Random(1), Counter[str]()
    original = [(e.key, e.values()) for e in read_messages([message(frame)])[0]]
    assert len(original) == 12
    for _ in range(2000):
        mutant = _mutant(frame, chance)
        entries, batch = read_messages([message(mutant)])
        if batch.damaged:
            assert entries == []
            ends["parked"] += 1
        else:
            assert mutant == frame
            ends["same"] += 1
    assert ends["parked"] > 1900


def test_damaged_frames_are_parked_as_they_came_and_the_rest_flows(city: Hub) -> None:
    chance, frame = random.Random(2), _frame_of_many()
    mutants = [m for m in (_mutant(frame, chance) for _ in range(40)) if m != frame]
    city.merge(*mutants[:20], frame, *mutants[20:])
    assert len(city.golden()) == 12
    assert len(city.parked("damaged")) == len(mutants) == city.counts("damaged")
    kept = [Vault(None).open(bytes(payload)) for (payload,) in city.sql('SELECT payload FROM hub.parked ORDER BY "offset"')]
    assert kept == mutants


@pytest.mark.parametrize(
    "header",
    [
        Header("ward-a", "dossier_of_tomorrow", "records", 1, 1, 1, DAY),
        Header("ward-a", "dossier", "records", 1, 1, 1 << 60, DAY),
        Header("ward-a", "dossier", "telepathy", 1, 1, 1, DAY),  # type: ignore[arg-type]
    ],
    ids=["entity", "field", "kind"],
)
def test_a_frame_of_a_model_this_version_does_not_know_is_parked_and_the_rest_flows(city: Hub, header: Header) -> None:
    strange = framed(header, pack_entry(STATE, "1", parent=None, record=None, delivered=False, edited=None, nulls=0, body=b"\x00"))
    city.merge(strange, state("portal", "1", 1, DOSSIER))
    assert len(city.golden()) == 1
    assert len(city.parked("damaged")) == 1


def test_a_body_that_is_not_what_its_mask_says_is_parked_and_the_rest_flows(city: Hub) -> None:
    """Its hash fits, so it was packed wrongly: one bad record must not stop the merge for ever."""
    header = Header("ward-a", "dossier", "records", 1, 1, mask_of("dossier", ["status", "note"]), DAY)
    wrong = framed(header, pack_entry(STATE, "1", parent=None, record=None, delivered=False, edited=None, nulls=0, body=b"\xff"))
    city.merge(wrong, state("portal", "1", 1, DOSSIER))
    assert len(city.golden()) == 1
    assert [(p["local_key"], p["reason"]) for p in city.parked("refused")] == [("1", "damaged")]
    assert (city.counts("captured"), city.counts("merged"), city.counts("refused")) == (2, 1, 1)


def test_a_refused_record_is_parked_and_a_later_good_state_cures_it(city: Hub) -> None:
    city.each(
        refused("ward-a", "1", 3),
        refused("ward-a", "1", 5, reason="missing"),
        refused("ward-a", "2", 5),
        refused("ward-a", "1", 5),
    )
    assert [(p["local_key"], p["reason"]) for p in city.parked("refused")] == [("1", "missing"), ("2", "unmapped_word")]
    assert (city.counts("captured"), city.counts("refused"), city.counts("duplicate")) == (4, 3, 1)
    city.merge(state("ward-a", "1", 6, DOSSIER))
    assert [p["local_key"] for p in city.parked("refused")] == ["2"]
    assert len(city.golden()) == 1


def test_an_older_good_state_does_not_cure_a_later_refusal(city: Hub) -> None:
    city.each(refused("ward-a", "1", 5), state("ward-a", "1", 3, DOSSIER))
    assert [p["local_key"] for p in city.parked("refused")] == ["1"]


def test_what_a_refused_record_held_stays_in_the_payload_alone(city: Hub) -> None:
    city.merge(refused("ward-a", "1", 3))
    ((payload,),) = city.sql("SELECT payload FROM hub.parked")
    assert Vault(None).open(bytes(payload)) == b'{"status":"?"}'


# ------------------------------------------------------------------ status steps from row images
def _step(root: str, status: int | None, order: int, *, ours: bool = False) -> dict[str, Any]:
    step = {"root": root, "at": DAY + order * 1_000_000, "order": order, "ours": ours, "status": status}
    return step if status is not None else step | {"problem": "a word", "reason": "unmapped_word"}


def _steps(version: int, *contents: dict[str, Any]) -> bytes:
    return note_frame(Header("ward-a", "dossier_event", "step", 1, version, 0, DAY), contents)[0]


def test_every_change_of_status_is_one_event_and_a_replay_none(city: Hub) -> None:
    sent = _steps(1, _step("W", 2, 1), _step("W", 4, 2), _step("W", 4, 3), _step("W", 5, 4, ours=True), _step("W", 9, 5))
    city.merge(X1, sent)
    city.merge(sent)
    assert sorted(event["status"] for event in city.golden("dossier_event")) == [2, 4, 9]


def test_a_step_with_an_unmapped_word_is_parked(city: Hub) -> None:
    city.merge(_steps(1, _step("W", None, 1), _step("W", 4, 2)))
    assert [(p["reason"], p["field"]) for p in city.parked("refused")] == [("unmapped_word", "status")]
    assert [event["status"] for event in city.golden("dossier_event")] == [4]


def test_a_loaded_dossiers_first_other_change_is_no_step(city: Hub) -> None:
    city.merge(state("ward-a", "W", 1, DOSSIER | {"status": 4}))
    city.merge(_steps(2, _step("W", 4, 1), _step("W", 5, 2)))
    assert [event["status"] for event in city.golden("dossier_event")] == [5]


def test_a_new_epoch_counts_its_steps_from_the_beginning(city: Hub) -> None:
    city.merge(X1, _steps(1, _step("W", 2, 900)))
    again = note_frame(Header("ward-a", "dossier_event", "step", 2, 2, 0, DAY), [_step("W", 4, 1)])[0]
    city.merge(again)
    assert sorted(event["status"] for event in city.golden("dossier_event")) == [2, 4]


# ------------------------------------------------------------------ history and provenance
def test_history_has_every_earlier_value_with_whose_word_it_was(city: Hub) -> None:
    _both(city)
    city.each(*[state("portal", "P", n, DOSSIER | {"national_code": "N1", "note": f"note {n}"}) for n in (2, 3, 4)])
    before = [changes.get("note") for (changes,) in city.sql("SELECT before FROM hub.history ORDER BY version")]
    assert before[-3:] == [None, "note 2", "note 3"]
    ((who,),) = city.sql("SELECT who FROM hub.history ORDER BY version DESC LIMIT 1")
    assert who["intake"] == "portal"
    assert who["processing"] == "ward-a"


def test_provenance_tells_who_says_so_since_when_and_by_which_rule(city: Hub) -> None:
    millis = int(datetime(2026, 3, 6, tzinfo=UTC).timestamp() * 1000)
    city.each(
        state("portal", "P", millis, DOSSIER | {"national_code": "N1", "status": 2}),
        state("ward-a", "W", millis + 60_000, DOSSIER | {"national_code": "N1", "status": 8}),
    )
    (found,) = explain.explain(city.settings, "N1", purpose=None, officer="tester")
    assert found["systems"] == ["portal", "ward-a"]
    fields = {field["field"]: field for field in found["fields"]}
    assert fields["status"] == {
        "field": "status",
        "value": 8,
        "system": "ward-a",
        "since": "2026-03-06T00:01:00+00:00",
        "basis": HANDLER_FIRST["basis"],
    }
    assert fields["note" if "note" in fields else "applicant_name"]["system"] == "portal"
    assert fields["applicant_name"]["basis"] == CITY_FIRST["basis"]
    assert "Nguyễn" not in str(found), "masked without a purpose"
    (shown,) = explain.explain(city.settings, "N1", purpose="complaint 7", officer="tester")
    assert "Nguyễn Văn An" in str(shown)


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
