"""Parked records inside hub and target: what closes them, what waits behind them, who decides, and when a line stops instead."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from connectors.kafka import Message
from connectors.postgres import transaction
from lienthong import frames, hub_schema, links, parked
from lienthong.breaker import MassFailure
from lienthong.embedded import KafkaBroker, PostgresCluster
from lienthong.frames import Header, note_frame
from lienthong.load import Loader
from lienthong.parked import Wanted
from lienthong.parked_desk import Desk
from lienthong.parked_replay import Order, Replayer
from lienthong.settings import Parking, Stop
from lienthong.vault import Vault
from tests.apply_kit import DOSSIER, TABLES, TOPIC, Ward, fee, removed, state
from tests.capture_kit import TABLES as SOURCE_TABLES
from tests.capture_kit import Site, settings_for
from tests.merge_kit import DOSSIER as CITY_DOSSIER
from tests.merge_kit import Hub, refused
from tests.merge_kit import state as said

BAD = DOSSIER | {"note": "forbidden"}
LOG = """
CREATE TABLE nhat_ky (n serial, ghi_chu text);
CREATE FUNCTION ghi_lai() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN INSERT INTO nhat_ky (ghi_chu) VALUES (NEW.ghi_chu); RETURN NULL; END$$;
CREATE TRIGGER ghi_lai AFTER INSERT OR UPDATE ON "Hồ sơ" FOR EACH ROW EXECUTE FUNCTION ghi_lai();
"""
REFUSE_ALL = """
CREATE FUNCTION khong() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 'no'; END$$;
CREATE TRIGGER khong BEFORE INSERT OR UPDATE ON "Hồ sơ" FOR EACH ROW EXECUTE FUNCTION khong();
"""


@pytest.fixture
def ward(database: str) -> Iterator[Ward]:
    made = Ward(database, tables=TABLES + LOG)
    yield made
    made.close()


@pytest.fixture
def city(database: str) -> Iterator[Hub]:
    hub_schema.install(database)
    made = Hub(database)
    yield made
    made.connection.close()


def policy(ward: Ward, **parking: Any) -> None:
    ward.target.settings = ward.settings.model_copy(update={"parking": Parking(**parking)})


def rows_of(ward: Ward) -> list[tuple[Any, ...]]:
    return ward.sql("SELECT record::int, reason, state FROM lienthong.parked ORDER BY id")


def lift(ward: Ward) -> None:
    ward.sql('ALTER TABLE "Hồ sơ" DROP CONSTRAINT "Hồ sơ_ghi_chu_check"')


def told(ward: Ward) -> None:
    """As a replay tells the applier."""
    ward.sql("UPDATE lienthong.parked SET state = 'replay' WHERE state = 'parked'")


# ------------------------------------------------------------------ later records of the same key, at a target
def test_with_pass_a_later_state_goes_by_and_the_parked_one_is_of_the_past(ward: Ward) -> None:
    ward.apply(state(7, 1, BAD))
    ward.apply(state(7, 2, DOSSIER | {"note": "later"}))
    assert ward.dossiers()[0]["ghi_chu"] == "later"
    assert rows_of(ward) == [(7, "refused_by_target", "cured")]
    lift(ward)
    ward.sql("UPDATE lienthong.parked SET state = 'replay'")  # as if it had been told just before
    assert ward.target.release() == 1
    assert ward.dossiers()[0]["ghi_chu"] == "later", "an older state never wins"
    assert rows_of(ward) == [(7, "refused_by_target", "replayed")]


def test_with_hold_later_states_wait_behind_the_first_and_leave_in_order(ward: Ward) -> None:
    policy(ward, later={"dossier": "hold"})
    ward.apply(state(7, 1, BAD))
    counts = ward.apply(state(7, 2, DOSSIER | {"note": "second"}), state(8, 1, DOSSIER | {"national_code": "N8", "note": "other"}))
    ward.apply(state(7, 3, DOSSIER | {"note": "third"}))
    assert counts["dossier", "held"] == 1
    assert [row["ghi_chu"] for row in ward.dossiers()] == ["other"], "another key is not held up"
    waiting = [(7, "refused_by_target", "parked"), (7, "held", "parked"), (7, "held", "parked")]
    assert rows_of(ward) == waiting

    told(ward)
    assert ward.target.release() == 3
    assert rows_of(ward) == waiting, "refused again: it stays the first, and what is behind it stays behind it"

    lift(ward)
    told(ward)
    ward.target.release()
    assert [note for (note,) in ward.sql("SELECT ghi_chu FROM nhat_ky ORDER BY n")] == ["other", "forbidden", "second", "third"]
    assert {row[2] for row in rows_of(ward)} == {"replayed"}
    ward.apply(state(7, 4, DOSSIER | {"note": "fourth"}))
    assert ward.dossiers()[-1]["ghi_chu"] == "fourth", "the key is free again"


def test_a_delete_behind_a_parked_state_comes_after_it(ward: Ward) -> None:
    policy(ward, later={"dossier": "hold"})
    ward.apply(state(7, 1, BAD))
    ward.apply(removed(7, 2, "delete"))
    lift(ward)
    told(ward)
    ward.target.release()
    assert ward.dossiers() == []
    assert ward.applied() == [(7, 2, "deleted", True)]


def test_children_that_waited_for_a_parked_dossier_follow_it_and_are_parked_by_themselves(ward: Ward) -> None:
    ward.apply(state(7, 1, BAD), fee(8, 1, 7), fee(9, 1, 7, code="LP2", amount=-1))
    lift(ward)
    told(ward)
    ward.target.release()
    assert ward.sql("SELECT ma FROM phi") == [("LP1",)]
    assert rows_of(ward) == [(7, "refused_by_target", "replayed"), (9, "refused_by_target", "parked")]


def test_bytes_that_become_readable_are_parked_under_their_record_when_it_is_refused(ward: Ward) -> None:
    ward.apply(state(7, 1, BAD)[:-1])
    ward.sql("UPDATE lienthong.parked SET payload = %s", Vault(None).seal(state(7, 1, BAD)))
    told(ward)
    ward.target.release()
    assert rows_of(ward) == [(None, "damaged", "replayed"), (7, "refused_by_target", "parked")]


def test_entities_without_the_policy_are_not_held(ward: Ward) -> None:
    policy(ward, later={"fee": "hold"})
    ward.apply(state(7, 1), fee(8, 1, 7, amount=-1))
    counts = ward.apply(state(7, 2, DOSSIER | {"note": "on"}), fee(8, 2, 7, amount=3), fee(9, 1, 7, code="LP2"))
    assert ward.dossiers()[0]["ghi_chu"] == "on"
    assert counts == {("dossier", "applied"): 1, ("fee", "held"): 1, ("fee", "applied"): 1}
    assert ward.sql("SELECT ma FROM phi") == [("LP2",)]


# ------------------------------------------------------------------ mass failure at a target
def states(number: int) -> list[bytes]:
    return [state(n, 1, DOSSIER | {"national_code": f"N{n}"}) for n in range(1, number + 1)]


def test_a_target_that_refuses_everything_stops_the_line_and_nothing_is_parked(ward: Ward) -> None:
    ward.sql(REFUSE_ALL)
    for _ in range(3):
        with pytest.raises(MassFailure, match="ward: 100 of 300 dossier records were refused"):
            ward.apply(*states(300))
        assert rows_of(ward) == []
        assert ward.target.stored(TOPIC, 0) is None, "they wait in their topic"
        ward.target.breaker._windows.clear()
    ward.sql('DROP TRIGGER khong ON "Hồ sơ"')
    counts = ward.apply(*states(300))
    assert counts == {("dossier", "applied"): 300}


def test_after_a_stop_small_batches_do_not_leak_into_the_parked_records(ward: Ward) -> None:
    ward.sql(REFUSE_ALL)
    with pytest.raises(MassFailure):
        ward.apply(*states(300))
    for one in states(20):
        with pytest.raises(MassFailure):
            ward.apply(one)
    assert rows_of(ward) == []


def test_a_few_that_are_refused_are_parked_and_the_line_goes_on(ward: Ward) -> None:
    bad = [state(1000 + n, 1, BAD | {"national_code": f"B{n}"}) for n in range(90)]
    counts = ward.apply(*bad, *states(300))
    assert counts == {("dossier", "parked"): 90, ("dossier", "applied"): 300}


def test_the_share_that_stops_is_configuration(ward: Ward) -> None:
    ward.sql(REFUSE_ALL)
    ward.target.breaker.stop = Stop(share=1)
    assert ward.apply(*states(150)) == {("dossier", "parked"): 150}


def test_a_load_of_records_that_do_not_fit_stops_and_sends_nothing_of_that_range(
    database: str, pg: PostgresCluster, kafka: KafkaBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frames, "TOPIC", "lienthong.in.parked-load")
    hub_dsn = pg.create_database("parked_load_hub")
    hub_schema.install(hub_dsn)
    site = Site(settings_for("outbox", "ward-load", database, hub_dsn, kafka.bootstrap), "ward-load")
    try:
        word = "CASE WHEN n % 2 = 0 THEN 'odd' ELSE 'new' END"
        site.install(SOURCE_TABLES, f"INSERT INTO dossier (id, status) SELECT n, {word} FROM generate_series(1, 400) n")  # noqa: S608
        loader = Loader(site.settings, "ward-load", Vault(None))
        with pytest.raises(MassFailure, match="ward-load: 121 of 400 dossier records were refused, the last for unmapped_word in status"):
            loader.run()
        assert site.messages() == []
        site.sql("UPDATE dossier SET status = 'done' WHERE status = 'odd' AND id > 200")
        loader.run()
        loader.close()
        assert len(site.published().refused()) == 100, "a quarter is parked"
    finally:
        site.close()
        pg.drop_database("parked_load_hub")


# ------------------------------------------------------------------ what closes a refused record
def test_a_refusal_that_a_newer_state_has_overtaken_is_not_parked(city: Hub) -> None:
    city.merge(refused("ward-a", "1", 5), said("ward-a", "1", 6, CITY_DOSSIER))
    assert city.parked("refused") == []
    city.merge(refused("ward-a", "1", 5))
    assert city.parked("refused") == [], "nor when it comes again later"
    assert city.counts("captured") == city.counts("merged") + city.counts("older")
    city.merge(refused("ward-a", "1", 7))
    assert len(city.parked("refused")) == 1


def test_a_good_state_read_again_under_the_same_number_closes_it(city: Hub) -> None:
    """What is read again carries the number of the last finished reading, which may be the one that refused it."""
    city.merge(refused("ward-a", "1", 5))
    city.merge(said("ward-a", "1", 5, CITY_DOSSIER))
    assert city.parked("refused") == []
    assert len(city.golden()) == 1


def test_an_older_state_does_not_close_it(city: Hub) -> None:
    city.merge(refused("ward-a", "1", 5))
    city.merge(said("ward-a", "1", 4, CITY_DOSSIER))
    assert len(city.parked("refused")) == 1


# ------------------------------------------------------------------ a link in doubt
def in_doubt(city: Hub) -> list[dict[str, Any]]:
    mine = CITY_DOSSIER | {"national_code": "N1"}
    city.each(said("portal", "1", 1, mine), said("ward-a", "7", 1, mine | {"procedure_code": "2.002"}))
    return parked.listing(city.connection, Wanted(kind="link"))


def decide(city: Hub, records: list[dict[str, Any]], what: str) -> list[str]:
    desk = Desk(city.settings, Vault(None), "an officer")
    replayer = Replayer(desk)
    try:
        return [result.outcome for result in replayer.run(records, Order(decide=what, why="both wards were asked"))]
    finally:
        replayer.close()
        desk.close()


def test_a_link_that_a_person_accepts_joins_the_two(city: Hub) -> None:
    assert decide(city, in_doubt(city), "accept") == ["joined"]
    (golden,) = city.golden()
    assert golden["national_code"] == "N1"
    assert city.sql("SELECT count(DISTINCT record)::int FROM hub.contribution") == [(1,)]
    assert parked.listing(city.connection) == []
    assert city.sql("SELECT officer, action, place, why, outcome FROM hub.parked_action") == [
        ("an officer", "accept", "hub", "both wards were asked", "joined")
    ]
    city.merge(said("ward-a", "7", 2, CITY_DOSSIER | {"national_code": "N1", "procedure_code": "2.002", "note": "x"}))
    assert len(city.golden()) == 1
    assert parked.listing(city.connection) == []


def test_records_that_a_person_keeps_apart_are_not_asked_about_again(city: Hub) -> None:
    records = in_doubt(city)
    assert decide(city, records, "keep") == ["kept_apart"]
    city.merge(said("ward-a", "7", 2, CITY_DOSSIER | {"national_code": "N1", "procedure_code": "2.002", "note": "x"}))
    assert len(city.golden()) == 2
    assert parked.listing(city.connection) == []
    city.merge(said("ward-a", "7", 3, CITY_DOSSIER | {"national_code": "N2"}))
    city.merge(said("portal", "2", 3, CITY_DOSSIER | {"national_code": "N3", "procedure_code": "3.003"}))
    city.merge(said("ward-a", "7", 4, CITY_DOSSIER | {"national_code": "N3"}))
    assert len(parked.listing(city.connection)) == 1, "another record is another question"


def test_one_system_cannot_have_a_record_twice(city: Hub) -> None:
    city.merge(*[said("ward-a", key, 1, CITY_DOSSIER | {"national_code": "N1"}) for key in ("1", "2")])
    assert decide(city, parked.listing(city.connection), "accept") == ["still_wrong"]
    assert len(city.golden()) == 2


def test_a_joined_record_stays_joined_when_it_was_merged_meanwhile(city: Hub) -> None:
    """Between listing and decision the two have become one by themselves: there is nothing left to decide."""
    records = in_doubt(city)
    with transaction(city.connection) as cursor:
        links.merge_records(cursor, *sorted(int(r) for (r,) in city.sql("SELECT DISTINCT record FROM hub.contribution")))
    assert decide(city, records, "accept") == ["still_wrong"]


# ------------------------------------------------------------------ a source that was restored
def complete(system: str, epoch: int, version: int) -> bytes:
    """The end of a load, as the only partition is told it."""
    (frame,) = note_frame(Header(system, "?", "load_complete", epoch, version, 0, 0), [{"records": 1, "partition": 0, "partitions": 1}])
    return frame


def test_what_a_restored_source_does_not_hold_is_shown_until_it_is_back(city: Hub) -> None:
    city.merge(*[said("ward-a", key, 5, CITY_DOSSIER) for key in ("1", "2", "3")])
    city.merge(said("ward-a", "1", 9, CITY_DOSSIER, epoch=2), complete("ward-a", 2, 9))
    assert sorted(p["local_key"] for p in city.parked("ghost")) == ["2", "3"]
    city.merge(said("ward-a", "2", 10, CITY_DOSSIER, epoch=2))
    assert [p["local_key"] for p in city.parked("ghost")] == ["3"]


# ------------------------------------------------------------------ damaged bytes in the hub
def test_damaged_bytes_are_sealed_like_every_payload(city: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    from cryptography.fernet import Fernet

    key = Fernet.generate_key().decode()
    monkeypatch.setenv("LIENTHONG_PARKED_KEY", key)
    city.merger.merge([Message("lienthong.in", 0, 0, 0, None, b"079199000777", ())], {})
    ((stored,),) = city.sql("SELECT payload FROM hub.parked WHERE kind = 'damaged'")
    assert b"079199000777" not in bytes(stored)
    assert Vault(key).open(bytes(stored)) == b"079199000777"
