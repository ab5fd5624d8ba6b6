"""Lost dossiers: each kind is planted in a city of real databases and found with its last holder and cause; what is healthy is never named."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest

from connectors.postgres import transaction
from lienthong.embedded import PostgresCluster
from lienthong.journey import lost
from lienthong.route import Router
from tests import two_way_kit
from tests.two_way_kit import UNIT_A, UNIT_B, City, two_way_city

ELSEWHERE = "27232"
"""A ward that takes no part."""

FIELDS = two_way_kit.PROFILES["portal"]["entities"]["dossier"]["fields"]
AT_DESK = "INSERT INTO ho_so (ma_qg, thu_tuc, phuong, trang_thai, ho_ten) VALUES (%s, '1.001', '26737', %s, 'TRẦN B') RETURNING id::text"
_numbers = count(1)


@pytest.fixture(scope="module")
def shared(pg: PostgresCluster) -> Iterator[City]:
    """A portal where citizens apply online, and two wards."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(FIELDS, "channel", {"constant": 2})
        with two_way_city(pg, pg.create_database("lost"), patch) as made:
            yield made
    pg.drop_database("lost")


@pytest.fixture
def city(shared: City) -> Iterator[City]:
    """The city at rest, every line of which has just said that it is well; nothing is lost in it."""
    for system, stage in [("*", "merge"), ("*", "route"), *((system, stage) for system in shared.systems for stage in ("capture", "apply"))]:
        line(shared, system, stage)
    yield shared
    for ward in two_way_kit.WARDS:
        shared.sql(ward, "UPDATE ho_so SET trang_thai = 2")
    shared.settle()


@pytest.fixture
def code() -> str:
    """A code that no other dossier has."""
    return f"N{next(_numbers)}"


def line(city: City, system: str, stage: str, state: str = "running", reason: str | None = None) -> None:
    """What a process of ours says of its line."""
    with transaction(city.hub) as cursor:
        cursor.execute(
            """INSERT INTO hub.line (system, stage, through, beat, state, reason) VALUES (%s, %s, now(), now() + INTERVAL '1 hour', %s, %s)
               ON CONFLICT (system, stage, part) DO UPDATE SET state = excluded.state, reason = excluded.reason, through = now()""",
            [system, stage, state, reason],
        )


def swept(city: City, code: str, **later: float) -> dict[str, dict[str, Any]]:
    """What is found of a dossier so much later, by kind."""
    lost.sweep(city.settings, datetime.now(UTC) + timedelta(**later), wait_seconds=0.2)
    mine = [one for one in lost.found(city.settings) if code in (one["local_code"], one["local_key"])]
    found = {one["kind"]: one for one in mine}
    assert len(found) == len(mine), mine
    return found


def told(found: dict[str, dict[str, Any]]) -> dict[str, tuple[str, str, str]]:
    """Kind: who should have it, who had it last, why."""
    return {kind: (one["system"], one["holder"], one["cause"]) for kind, one in found.items()}


def handle(city: City, code: str, status: int, ward: str = "ward-a") -> None:
    city.sql(ward, "UPDATE ho_so SET trang_thai = %s WHERE ma_qg = %s", status, code)


def at_desk(city: City, code: str, status: int = 2) -> str:
    """A dossier of a ward's own counter; its local key."""
    return str(city.sql("ward-a", AT_DESK, code, status)[0][0])


# ------------------------------------------------------------------ nothing to say
def test_what_is_in_hand_paused_or_finished_and_everywhere_is_never_named(city: City) -> None:
    for status in (2, 3, 9):  # handled, the citizen supplements, finished
        for ward, unit in (("ward-a", UNIT_A), ("ward-b", UNIT_B)):
            code = f"H{ward}{status}"
            city.submit(code, unit=unit)
            city.settle()
            handle(city, code, status, ward)
    at_desk(city, "H-desk")
    city.settle()
    for days in (0, 1, 60):
        assert lost.sweep(city.settings, datetime.now(UTC) + timedelta(days=days), wait_seconds=0).found == 0
    assert lost.found(city.settings) == []


def test_a_row_on_its_way_is_not_lost(city: City, code: str) -> None:
    """Its day of submission is long over, its commit is new: the line has its usual time to bring it."""
    at_desk(city, code)
    bringing = threading.Timer(0.5, city.settle)
    bringing.start()
    try:
        lost.sweep(city.settings, wait_seconds=20)
    finally:
        bringing.join()
    assert [one for one in lost.found(city.settings) if one["kind"] == "not_seen"] == []


def test_what_a_target_remembers_counts_where_no_reading_has_shown_it(city: City, code: str) -> None:
    city.submit(code)
    city.settle()
    handle(city, code, 2)
    city.settle()
    with transaction(city.hub) as cursor:
        cursor.execute("UPDATE hub.contribution SET seen = seen - 1")
    assert swept(city, code, hours=2) == {}
    assert {("portal",), ("ward-a",)} <= set(city.hub_sql("SELECT system FROM hub.acknowledged"))


# ------------------------------------------------------------------ submitted, not received
def test_submitted_online_and_received_by_nobody(city: City, code: str) -> None:
    city.submit(code)
    city.settle()
    found = swept(city, code)
    assert told(found) == {"not_received": ("ward-a", "ward-a", "nobody")}
    one = found["not_received"]
    assert (one["unit"], one["procedure_code"], one["record"] is not None) == (UNIT_A, "1.001", True)
    assert one["limit_at"] == datetime(2026, 3, 6, 3, tzinfo=UTC), "a working day later, at the same hour"
    handle(city, code, 2)
    city.settle()
    assert swept(city, code) == {}


def test_within_its_working_day_nothing_is_said(city: City, code: str) -> None:
    city.submit(code)
    city.settle()
    friday = datetime(2026, 3, 6, tzinfo=UTC)
    for at, expected in ((friday + timedelta(hours=2, minutes=59), 0), (friday + timedelta(hours=3), 1)):
        assert lost.sweep(city.settings, at, wait_seconds=0.1).found == expected


def test_submitted_and_the_wards_line_has_stopped(city: City, code: str) -> None:
    city.submit(code)
    city.say()
    line(city, "ward-a", "apply", "stopped", "its disk is full")
    found = swept(city, code)
    assert told(found)["not_received"] == ("ward-a", "hub", "line")
    assert "its disk is full" in found["not_received"]["reason"]


def test_submitted_to_a_ward_that_takes_no_part(city: City, code: str) -> None:
    city.submit(code, unit=ELSEWHERE)
    city.settle()
    found = swept(city, code)
    assert told(found) == {"not_received": ("hub", "hub", "contract")}
    assert found["not_received"]["unit"] == ELSEWHERE
    city.sql("portal", "UPDATE application SET state = 'handled' WHERE code = %s", code)


# ------------------------------------------------------------------ handed over, not acknowledged
def test_handed_over_and_the_line_stands_still(city: City, code: str) -> None:
    city.submit(code)
    city.settle()
    handle(city, code, 2)
    city.say()
    city.apply("ward-a")
    line(city, "portal", "apply", "stopped", "no login")
    assert swept(city, code, minutes=50) == {}
    assert told(swept(city, code, minutes=70)) == {"not_acknowledged": ("portal", "hub", "line")}
    city.settle()
    assert swept(city, code, minutes=70) == {}


def test_handed_over_and_refused_by_the_target(city: City, code: str) -> None:
    city.sql("ward-a", "ALTER TABLE ho_so ADD CONSTRAINT refuses CHECK (ho_ten NOT LIKE 'NGUYỄN%%') NOT VALID")
    city.submit(code)
    city.settle()
    city.sql("ward-a", "ALTER TABLE ho_so DROP CONSTRAINT refuses")
    found = swept(city, code, hours=2)
    assert told(found) == {kind: ("ward-a", "hub", "parked") for kind in ("not_acknowledged", "not_received")}
    assert "lienthong parked replay" in found["not_received"]["advice"]
    city.sql("portal", "UPDATE application SET remark = 'x' WHERE code = %s", code)
    city.settle()
    assert set(swept(city, code, hours=2)) == {"not_received"}


def test_handed_over_and_lost_there_without_a_trace(city: City, code: str) -> None:
    city.submit(code)
    city.say()
    city.apply("ward-a")
    ((record,),) = city.hub_sql("SELECT max(record) FROM hub.entitled WHERE system = 'ward-a'")
    for gone in ("lienthong.change", "ho_so WHERE ma_qg = %s", "lienthong.applied WHERE record = %s"):  # as a database that was set back
        city.sql("ward-a", f"DELETE FROM {gone}", *([code] if "ma_qg" in gone else [record] if "record" in gone else []))  # noqa: S608 - ours
    city.settle()
    found = swept(city, code, hours=2)
    assert told(found)["not_acknowledged"] == ("ward-a", "hub", "unknown")
    assert "lienthong repair" in found["not_acknowledged"]["advice"]
    city.sql("portal", "UPDATE application SET remark = 'x' WHERE code = %s", code)


# ------------------------------------------------------------------ finished, not shown
def test_finished_and_the_portal_does_not_show_it(city: City, code: str) -> None:
    city.submit(code)
    city.settle()
    handle(city, code, 9)
    city.say()
    city.apply("ward-a")
    line(city, "portal", "apply", "stopped", "no login")
    assert set(swept(city, code, hours=2)) == {"not_acknowledged"}
    assert told(swept(city, code, days=6)) == {"not_shown": ("portal", "hub", "line")}


def test_finished_and_still_on_the_routers_list(city: City, code: str) -> None:
    city.submit(code)
    city.settle()
    handle(city, code, 9)
    city.capture()
    city.merge()
    line(city, "*", "route", "stopped", "no broker")
    found = swept(city, code, days=6)
    assert told(found) == {"not_shown": ("portal", "hub", "line")}
    assert "no broker" in found["not_shown"]["reason"]


# ------------------------------------------------------------------ never seen
def test_a_wards_dossier_that_the_city_never_saw(city: City, code: str) -> None:
    key = at_desk(city, code)
    city.sql("ward-a", "DELETE FROM lienthong.change")  # as when its triggers were switched off
    city.settle()
    found = swept(city, key)
    assert told(found) == {"not_seen": ("ward-a", "ward-a", "unknown")}
    one = found["not_seen"]
    assert (one["record"], one["unit"], one["procedure_code"]) == (None, UNIT_A, "1.001")
    assert swept(city, key)["not_seen"]["found_at"] == one["found_at"]
    city.sql("ward-a", "UPDATE ho_so SET ghi_chu = 'x' WHERE ma_qg = %s", code)
    city.settle()
    assert swept(city, key) == {}


def test_a_wards_dossier_whose_line_has_stopped(city: City, code: str) -> None:
    key = at_desk(city, code)
    line(city, "ward-a", "capture", "stopped", "its server is away")
    assert told(swept(city, key)) == {"not_seen": ("ward-a", "ward-a", "line")}


def test_a_wards_dossier_that_is_parked_at_the_hub(city: City, code: str) -> None:
    key = at_desk(city, code, 77)
    city.settle()
    found = swept(city, key)
    assert told(found) == {"not_seen": ("ward-a", "ward-a", "parked")}
    assert "status unmapped_word" in found["not_seen"]["reason"]
    assert "TRẦN" not in str(found)


def test_who_cannot_be_asked_is_told_and_what_was_found_there_stays(city: City, code: str) -> None:
    key = at_desk(city, code)
    city.sql("ward-a", "DELETE FROM lienthong.change")
    assert set(swept(city, key)) == {"not_seen"}
    systems = dict(city.settings.systems)
    systems["ward-a"] = systems["ward-a"].model_copy(update={"dsn": "postgresql://127.0.0.1:1/none"})
    away = city.settings.model_copy(update={"systems": systems})
    assert lost.sweep(away, wait_seconds=0.1).unasked == ["ward-a"]
    assert [one["local_key"] for one in lost.found(away) if one["kind"] == "not_seen"] == [key]
    last = lost.last_sweep(away)
    assert last is not None
    assert last["unasked"] == ["ward-a"]


# ------------------------------------------------------------------ runs last: it changes the city's contracts
def test_submitted_and_the_wards_contract_does_not_include_it(city: City, code: str) -> None:
    ward = city.settings.contracts["ward-a"].model_dump() | {"entities": {"dossier": {"where": {"procedures": ["9.999"]}}}}
    contracts = {**{name: contract.model_dump() for name, contract in city.settings.contracts.items()}, "ward-a": ward}
    city.settings = type(city.settings).model_validate({**city.settings.model_dump(), "contracts": contracts})
    city.router.connection.close()
    city.router = Router(city.settings)
    city.submit(code)
    city.settle()
    found = swept(city, code)
    assert told(found) == {"not_received": ("ward-a", "hub", "contract")}
    assert "the contract of ward-a does not include it" in found["not_received"]["reason"]
