"""Later states of a record that was refused on its way into the hub: with `hold` they wait behind it and follow it, with `pass` they go by."""

# ruff: noqa: S608 - the SQL is made of constants

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lienthong import frames, hub_schema, parked_hold
from lienthong.errors import TransientError
from lienthong.frames import Header, note_frame
from lienthong.merging import MergeLine
from lienthong.settings import Parking
from tests.city import AUTHORITY, PROFILE, TABLE, City, city, wait
from tests.merge_kit import DAY, DOSSIER, Hub, gone, refused
from tests.merge_kit import state as said

FEE = {"fee_code": "LP1", "amount": 50_000}
EVERY = range(4)


# ------------------------------------------------------------------ in the merge
@pytest.fixture
def hub(database: str) -> Iterator[Hub]:
    hub_schema.install(database)
    made = Hub(database)
    policy(made, dossier="hold", fee="hold")
    yield made
    made.connection.close()


def policy(hub: Hub, **later: Any) -> None:
    hub.merger.settings = hub.settings.model_copy(update={"parking": Parking(later=later)})


def good(version: int, note: str, key: str = "1") -> bytes:
    return said("ward-a", key, version, DOSSIER | {"note": note})


def follow(hub: Hub) -> int:
    """As a merge process does between its batches."""
    numbers, messages = parked_hold.due(hub.connection, EVERY)
    hub.merger.merge(messages, {}, numbers)
    return len(numbers)


def settle(hub: Hub, number: int, state: str = "discarded") -> None:
    hub.sql("UPDATE hub.parked SET state = %s WHERE id = %s RETURNING 1", state, number)


def open_rows(hub: Hub) -> list[tuple[str, int]]:
    return hub.sql("SELECT kind, version::int FROM hub.parked WHERE state = 'open' ORDER BY id")


def notes(hub: Hub) -> list[Any]:
    return [golden.get("note") for golden in hub.golden()]


def test_later_states_wait_behind_the_refused_one_and_follow_when_it_is_settled(hub: Hub) -> None:
    hub.merge(good(1, "first"))
    hub.each(refused("ward-a", "1", 5), good(6, "second"), good(7, "third"), good(6, "other", key="2"))
    assert notes(hub) == ["first", "other"], "another key is not held up"
    assert open_rows(hub) == [("refused", 5), ("held", 6), ("held", 7)]
    (first, *behind) = [p for p in hub.parked("refused") + hub.parked("held")]
    assert {p["reason"] for p in behind} == {"held"}
    assert {p["message"] for p in behind} == {f"it waits behind entry {first['id']}, an earlier state of it that was refused"}
    assert follow(hub) == 0
    settle(hub, first["id"])
    assert follow(hub) == 2
    assert notes(hub) == ["third", "other"]
    assert open_rows(hub) == []
    hub.merge(good(8, "fourth"))
    assert notes(hub) == ["fourth", "other"], "the key is free again"
    assert hub.counts("captured") == sum(hub.counts(o) for o in ("merged", "unchanged", "older", "duplicate", "refused", "parked"))


def test_what_stands_behind_a_second_refused_state_waits_for_that_one(hub: Hub) -> None:
    hub.each(refused("ward-a", "1", 5), good(6, "second"), refused("ward-a", "1", 7), good(8, "fourth"), refused("ward-a", "1", 7))
    assert open_rows(hub) == [("refused", 5), ("held", 6), ("refused", 7), ("held", 8)]
    one, two = [p["id"] for p in hub.parked("refused")]
    assert f"behind entry {two}," in hub.parked("held")[-1]["message"]
    settle(hub, one)
    assert follow(hub) == 1
    assert notes(hub) == ["second"]
    assert open_rows(hub) == [("refused", 7), ("held", 8)]
    settle(hub, two)
    follow(hub)
    assert notes(hub) == ["fourth"]


def test_the_refused_state_read_again_goes_first_and_settles_itself(hub: Hub) -> None:
    """A replay gives what it reads the number of the refused state."""
    hub.each(refused("ward-a", "1", 5), good(6, "second"))
    hub.merge(good(5, "corrected"))
    assert notes(hub) == ["corrected"]
    assert open_rows(hub) == [("held", 6)]
    hub.merge(good(7, "third"))
    assert notes(hub) == ["corrected"], "nothing goes by what still waits"
    follow(hub)
    assert notes(hub) == ["third"]


def test_states_of_one_batch_wait_too_and_none_waits_twice(hub: Hub) -> None:
    hub.merge(good(4, "before"), refused("ward-a", "1", 5), good(6, "second"))
    hub.each(good(6, "second"), good(3, "older"))
    assert notes(hub) == ["before"]
    assert open_rows(hub) == [("refused", 5), ("held", 6)]
    assert hub.counts("duplicate") == hub.counts("older") == 1


def test_a_delete_waits_behind_a_refused_state(hub: Hub) -> None:
    hub.each(good(1, "first"), refused("ward-a", "1", 5), gone("ward-a", "1", 6))
    assert notes(hub) == ["first"]
    settle(hub, hub.parked("refused")[0]["id"])
    follow(hub)
    assert hub.golden() == []


def test_an_element_that_waits_ends_with_its_document(hub: Hub) -> None:
    """It was never merged, so that no contribution says that it is there."""
    element = said("ward-a", "X|1", 6, FEE, entity="fee", parent="X")
    (bad,) = note_frame(
        Header("ward-a", "fee", "refused", 1, 5, 0, DAY), [{"key": "X|1", "field": None, "reason": "missing", "message": "", "payload": "AA=="}]
    )
    (left,) = note_frame(Header("ward-a", "fee", "set", 1, 7, 0, DAY), [{"root": "X", "keys": ["X|2"]}])
    hub.each(said("ward-a", "X", 1, DOSSIER), bad, element, left)
    assert open_rows(hub) == [("refused", 5), ("held", 6), ("held", 7)]
    settle(hub, hub.parked("refused")[0]["id"])
    follow(hub)
    assert hub.golden("fee") == []


def test_with_pass_nothing_is_asked_and_later_states_go_by(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    policy(hub, fee="pass")
    for name in ("keep_back", "park", "is_between", "children_of", "due", "let_go"):
        monkeypatch.delattr(parked_hold, name)
    hub.each(refused("ward-a", "1", 5), good(6, "second"))
    assert notes(hub) == ["second"]
    assert open_rows(hub) == []


def test_entities_without_the_policy_are_not_held(hub: Hub) -> None:
    policy(hub, fee="hold")
    hub.each(refused("ward-a", "1", 5), good(6, "second"))
    assert notes(hub) == ["second"]


def test_what_two_processes_want_to_take_is_taken_once(hub: Hub) -> None:
    hub.each(refused("ward-a", "1", 5), good(6, "second"))
    settle(hub, hub.parked("refused")[0]["id"])
    numbers, messages = parked_hold.due(hub.connection, EVERY)
    assert parked_hold.due(hub.connection, [p for p in EVERY if p != messages[0].partition]) == ([], [])
    hub.merger.merge(messages, {}, numbers)
    with pytest.raises(TransientError, match="was taken or given up meanwhile"):
        hub.merger.merge(messages, {}, numbers)
    assert notes(hub) == ["second"]


def test_what_waits_is_sealed_and_what_cannot_be_opened_stops_nothing(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    from cryptography.fernet import Fernet

    monkeypatch.setenv("LIENTHONG_PARKED_KEY", Fernet.generate_key().decode())
    hub.each(refused("ward-a", "1", 5), good(6, "sealed-canary"))
    ((kept,),) = hub.sql("SELECT payload FROM hub.parked WHERE kind = 'held'")
    assert b"sealed-canary" not in bytes(kept)
    settle(hub, hub.parked("refused")[0]["id"])
    monkeypatch.delenv("LIENTHONG_PARKED_KEY")
    line = MergeLine.__new__(MergeLine)
    line.connection, line.merger = hub.connection, hub.merger
    line.consumer = type("Assigned", (), {"assigned": lambda _: [(frames.TOPIC, p) for p in EVERY]})()
    line._follow()
    assert open_rows(hub) == [("held", 6)]


# ------------------------------------------------------------------ as an operator sees it
SYSTEMS = """
version: 1
hub: {dsn: "${HUB_DSN}"}
kafka: {bootstrap: "${KAFKA_BOOTSTRAP}"}
parking: {later: {dossier: hold}}
systems:
  portal: {profile: simple, dsn: "${PORTAL_DSN}", capture: none, kind: portal}
  ward: {profile: simple, dsn: "${WARD_DSN}", kind: ward}
"""
CONTRACTS = """
version: 1
contracts:
  portal: {system: portal, purpose: test, legal_ground: test, entities: {dossier: {}}}
"""
CANARY = "Trần Thị Chim Chích"


@pytest.fixture(scope="module")
def service(stack_root: Path) -> Iterator[City]:
    with city(stack_root / "hold", clusters=("hub", "central")) as made:
        for name in ("portal", "ward"):
            made.database("central", name, TABLE)
        made.environment["USER"] = "lê.an"
        for name, text in (("systems", SYSTEMS), ("authority", AUTHORITY), ("contracts", CONTRACTS), ("profiles/simple", PROFILE)):
            made.write(f"{name}.yaml", text)
        made.install("portal", "ward")
        made.run()
        wait(lambda: made.cli("load", "ward").returncode == 0, 30)
        yield made


def put(service: City, code: str, word: str = "moi") -> None:
    service.sql("ward", f"INSERT INTO ho_so VALUES ('{code}', '1.001', '2026-03-05', '{CANARY}', '{word}')")


def change(service: City, code: str, word: str, note: str, parked: int) -> None:
    """Change a dossier at the ward, and wait until so much of it is parked."""
    service.sql("ward", f"UPDATE ho_so SET tt = '{word}', ghi_chu = '{note}' WHERE ma = '{code}'")
    waits(service, code, parked)


def waits(service: City, code: str, parked: int) -> list[dict[str, Any]]:
    service.until("hub", f"SELECT count(*)::int FROM hub.parked WHERE state = 'open' AND local_key = '{code}'", parked)
    return [p for p in service.json("parked", "list")["records"] if p["local_key"] == code]


def arrives(service: City, code: str, word: str, note: str) -> None:
    service.until("portal", f"SELECT tt, ghi_chu FROM ho_so WHERE ma = '{code}'", [(word, note)])


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_one_replay_takes_a_refused_record_and_what_waits_behind_it(service: City) -> None:
    put(service, "H1", "la")
    waits(service, "H1", 1)
    change(service, "H1", "moi", "second", 2)
    change(service, "H1", "dang_xu_ly", "third", 3)
    put(service, "H2")
    service.until("portal", "SELECT ma FROM ho_so", "H2")
    first, second, third = [p["ref"] for p in waits(service, "H1", 3)]
    assert CANARY not in service.cli("parked", "show", second).stdout
    assert "applicant_name" in service.json("parked", "show", second)["record"]["payload"]
    alone = service.cli("parked", "replay", third)
    assert (alone.returncode, f"it waits behind entry {first}" in alone.stdout) == (1, True), alone.stdout
    done = service.json("parked", "replay", "--system", "ward", "--wait", "30")["records"]
    assert [(r["ref"], r["outcome"]) for r in done] == [(first, "merged"), (second, "merged"), (third, "merged")]
    arrives(service, "H1", "dang_xu_ly", "third")
    assert waits(service, "H1", 0) == []


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_what_waits_follows_by_itself_when_the_first_is_given_up_or_corrected(service: City, tmp_path: Path) -> None:
    put(service, "H3", "la")
    waits(service, "H3", 1)
    change(service, "H3", "moi", "second", 2)
    change(service, "H3", "la_nua", "third", 3)
    change(service, "H3", "dang_xu_ly", "fourth", 4)
    first, _, third, fourth = waits(service, "H3", 4)
    assert (third["kind"], third["reason"]) == ("refused", "unmapped_word")
    assert f"behind entry {third['ref']}," in fourth["message"]
    assert service.cli("parked", "discard", first["ref"], "--why", "a test").returncode == 0
    arrives(service, "H3", "moi", "second")
    waits(service, "H3", 2)
    edit = tmp_path / "edit.json"
    edit.write_text(json.dumps({"status": "xong"}), "utf-8")
    done = service.cli("parked", "replay", third["ref"], "--edit", str(edit), "--why", "a test", "--wait", "30")
    assert done.returncode == 0, done.stdout + done.stderr
    arrives(service, "H3", "dang_xu_ly", "fourth")
    assert waits(service, "H3", 0) == []


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_delete_that_waits_follows_a_replay(service: City) -> None:
    put(service, "H4")
    service.until("portal", "SELECT count(*)::int FROM ho_so WHERE ma = 'H4'", 1)
    change(service, "H4", "la", "second", 1)
    service.sql("ward", "DELETE FROM ho_so WHERE ma = 'H4'")
    first, second = waits(service, "H4", 2)
    assert service.json("parked", "show", second["ref"])["record"]["payload"] == {"deleted": "• bool"}
    assert service.sql("portal", "SELECT count(*)::int FROM ho_so WHERE ma = 'H4'") == [(1,)]
    done = service.cli("parked", "replay", first["ref"], "--wait", "30")
    assert done.returncode == 0, done.stdout + done.stderr
    service.until("portal", "SELECT count(*)::int FROM ho_so WHERE ma = 'H4'", 0)
    assert waits(service, "H4", 0) == []
