"""The owner's delete of a record of which a ward has a row of its own that it was never sent, with children under it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from lienthong.embedded import PostgresCluster
from tests.two_way_kit import UNIT_A, City, two_way_city

STAGES = ("capture", "merge", "route", "apply")


@pytest.fixture
def city(pg: PostgresCluster, database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[City]:
    """A dossier with a fee that the portal and the ward have each entered by themselves; nothing has been routed yet."""
    with two_way_city(pg, database, monkeypatch) as made:
        file_at_portal(made)
        made.sql(
            "ward-a",
            """INSERT INTO ho_so (ma_qg, thu_tuc, phuong, trang_thai, ho_ten, ghi_chu)
               VALUES ('N1', '1.001', %s, 2, 'Nguyễn Văn An', 'ward')""",
            UNIT_A,
        )
        made.sql("ward-a", "INSERT INTO phi (ho_so_id, ma, so_tien) SELECT id, 'LP1', 50000 FROM ho_so")
        made.capture()
        made.merge()
        yield made


def file_at_portal(city: City) -> None:
    city.submit()
    city.sql("portal", "INSERT INTO charge (application_id, code, amount) SELECT max(id), 'LP1', 50000 FROM application")


def quiet(city: City) -> None:
    """What is applied in the last round is captured in one more."""
    city.settle()
    city.settle()


def told(city: City) -> list[tuple[Any, ...]]:
    """How each record ended at the ward."""
    return city.sql("ward-a", "SELECT entity, state FROM lienthong.applied ORDER BY entity, record")


def kept(city: City) -> list[tuple[Any, ...]]:
    """What stood at the ward where we wrote over it or took it away."""
    return city.sql("ward-a", "SELECT entity, field, was ->> 'note', was ->> 'amount', base FROM lienthong.overwritten ORDER BY id")


def test_the_row_and_what_is_under_it_go_and_what_stood_there_is_kept(city: City) -> None:
    city.sql("portal", "DELETE FROM charge")
    city.capture()
    city.merge()
    city.sql("portal", "DELETE FROM application")
    city.settle()
    assert (city.at_ward(), city.sql("ward-a", "SELECT * FROM phi")) == ([], [])
    assert told(city) == [("dossier", "deleted"), ("fee", "deleted")]
    assert kept(city) == [("fee", "record", None, "50000", None), ("dossier", "record", "ward", None, None)]
    assert city.sql("ward-a", "SELECT * FROM lienthong.parked") == []


def test_a_child_that_nobody_has_heard_of_keeps_the_row_until_it_is_gone(city: City) -> None:
    """The ward has added a fee meanwhile: its own rule refuses the delete, which is parked and goes through once nothing is under the row."""
    city.sql("portal", "DELETE FROM application")
    city.say("portal")
    city.sql("ward-a", "INSERT INTO phi (ho_so_id, ma, so_tien) SELECT id, 'LP2', 7 FROM ho_so")
    city.apply("ward-a")
    assert len(city.at_ward()) == 1
    parked = "SELECT entity, reason, state FROM lienthong.parked"
    city.targets["ward-a"].release()  # the other fee, which left in the same batch, had told it to try again
    assert city.sql("ward-a", parked) == [("dossier", "refused_by_target", "parked")]
    city.settle()
    assert kept(city) == [("fee", "record", None, "50000", None), ("fee", "record", None, "7", None)]
    assert (len(city.at_ward()), city.sql("ward-a", "SELECT * FROM phi")) == (1, [])
    city.targets["ward-a"].release()
    assert (city.at_ward(), kept(city)[-1][:3]) == ([], ("dossier", "record", "ward"))
    assert city.sql("ward-a", parked) == [("dossier", "refused_by_target", "replayed")]


@pytest.mark.parametrize("is_delivered", [False, True])
@pytest.mark.parametrize("until", STAGES)
def test_deleted_part_by_part_and_filed_again_everybody_has_the_same(city: City, until: str, *, is_delivered: bool) -> None:
    """Root and child are deleted in transactions of their own, and all stages up to one of them run after each."""

    def turn() -> None:
        for stage in STAGES[: STAGES.index(until) + 1]:
            getattr(city, stage)()

    if is_delivered:
        quiet(city)
    for statement in ("DELETE FROM charge", "DELETE FROM application"):
        city.sql("portal", statement)
        turn()
    file_at_portal(city)
    turn()
    quiet(city)
    assert [row[0] for row in city.at_portal()] == [row[0] for row in city.at_ward()] == ["N1"]
    assert city.sql("portal", "SELECT code, amount FROM charge") == city.sql("ward-a", "SELECT ma, so_tien FROM phi") == [("LP1", 50000)]
    assert city.sql("ward-a", "SELECT * FROM lienthong.parked") == []
    assert city.hub_sql("SELECT * FROM hub.parked WHERE state = 'open'") == []
    assert [asked for system, _, asked, _ in city.corrections() if system == "ward-a" and asked is None] == [], "the ward has deleted nothing"
    ((last,),) = city.sql("ward-a", "SELECT id FROM phi")
    assert city.hub_sql("SELECT local_key FROM hub.contribution WHERE (system, entity, op) = ('ward-a', 'fee', 's')") == [(str(last),)]


def test_what_the_owner_took_and_filed_again_is_gone_when_the_owner_takes_it_again(city: City) -> None:
    """Nobody's word of the first time holds it."""
    for _ in range(2):
        city.sql("portal", "DELETE FROM application")
        quiet(city)
        assert (city.at_ward(), city.sql("ward-a", "SELECT * FROM phi")) == ([], [])
        file_at_portal(city)
        quiet(city)
        assert len(city.at_ward()) == 1
    city.sql("portal", "DELETE FROM charge")
    quiet(city)
    assert (city.sql("portal", "SELECT * FROM charge"), city.sql("ward-a", "SELECT * FROM phi")) == ([], [])


def test_what_the_ward_took_away_itself_is_not_put_back_by_a_message_that_was_under_way(
    pg: PostgresCluster, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ward's word decides whether its dossier exists; the hub has not heard yet that it is gone."""
    with two_way_city(pg, database, monkeypatch) as city:
        filed = "INSERT INTO ho_so (ma_qg, thu_tuc, phuong, trang_thai, ho_ten) VALUES ('W1', '1.001', %s, 2, 'Nguyễn Văn An')"
        city.sql("ward-a", filed, UNIT_A)
        quiet(city)
        city.hub_sql("INSERT INTO hub.changed (record, resend) SELECT record, 'ward-a' FROM hub.record WHERE entity = 'dossier' RETURNING record")
        city.route()
        city.sql("ward-a", "DELETE FROM ho_so")
        city.apply("ward-a")
        assert city.at_ward() == []
        quiet(city)
        assert (city.at_ward(), city.at_portal()) == ([], [])
        assert city.sql("ward-a", "SELECT * FROM lienthong.parked") == []
        city.sql("ward-a", filed, UNIT_A)  # the same code again: it comes back everywhere
        quiet(city)
        assert [row[0] for row in city.at_portal()] == [row[0] for row in city.at_ward()] == ["W1"]
