"""A dossier that is to be taken from a ward, and a fee of the ward's own under it: whoever takes the fee away, the dossier follows."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lienthong.embedded import PostgresCluster
from tests.two_way_kit import UNIT_B, City, two_way_city

PARKED = "SELECT entity, reason, field, state FROM lienthong.parked ORDER BY id"
REFUSED = ("dossier", "refused_by_target", "phi_ho_so_id_fkey")


@pytest.fixture
def city(pg: PostgresCluster, database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[City]:
    """A dossier of the portal that the ward holds."""
    with two_way_city(pg, database, monkeypatch) as made:
        made.submit()
        made.settle()
        yield made


def add_a_fee(city: City) -> None:
    city.sql("ward-a", "INSERT INTO phi (ho_so_id, ma, so_tien) SELECT id, 'LP2', 7 FROM ho_so")


def at_rest(city: City) -> None:
    """As the applier does every second, what is told to go through again does."""
    for _ in range(3):
        city.settle()
        city.targets["ward-a"].release()


def test_a_delete_that_a_fee_nobody_had_heard_of_kept_goes_through_when_the_hub_has_heard_of_it(city: City) -> None:
    city.sql("portal", "DELETE FROM application")
    city.say("portal")
    add_a_fee(city)
    city.apply("ward-a")
    assert (len(city.at_ward()), city.sql("ward-a", PARKED)) == (1, [(*REFUSED, "parked")])
    at_rest(city)
    assert (city.at_ward(), city.sql("ward-a", "SELECT * FROM phi")) == ([], [])
    assert city.sql("ward-a", PARKED) == [(*REFUSED, "replayed")]


def test_a_withdrawal_that_a_fee_of_the_ward_kept_goes_through_when_the_ward_takes_it_away(city: City) -> None:
    add_a_fee(city)
    at_rest(city)
    city.sql("portal", "UPDATE application SET unit = %s", UNIT_B)
    at_rest(city)
    assert (len(city.at_ward()), city.sql("ward-a", PARKED)) == (1, [(*REFUSED, "parked")])
    assert len(city.at_ward("ward-b")) == 1
    city.sql("ward-a", "DELETE FROM phi")
    at_rest(city)
    assert city.at_ward() == []
    assert [row[3] for row in city.sql("ward-a", PARKED)] == ["cured"]
    assert len(city.at_ward("ward-b")) == 1
