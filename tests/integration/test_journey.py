"""The journey of a dossier between a portal and two wards on real databases: every word in order, who holds it, what is proven, who has looked."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from connectors.postgres import connect, rows, transaction
from lienthong import hub_schema, journey
from lienthong.embedded import PostgresCluster
from lienthong.journey import find, lost
from lienthong.settings import Settings
from tests import two_way_kit
from tests.two_way_kit import UNIT_A, City, two_way_city

PORTAL = two_way_kit.PROFILES["portal"]["entities"]["dossier"]["fields"]


@pytest.fixture
def city(pg: PostgresCluster, database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[City]:
    """A portal where citizens apply online and get a local code and a linked one, and two wards."""
    monkeypatch.setattr(two_way_kit, "PORTAL_TABLES", two_way_kit.PORTAL_TABLES.replace("officer text\n", "officer text, paper text, linked text\n"))
    for name, column in (("channel", {"constant": 2}), ("local_code", "paper"), ("linked_code", "linked")):
        monkeypatch.setitem(PORTAL, name, column)
    with two_way_city(pg, database, monkeypatch) as made:
        yield made


def of(city: City, code: str, purpose: str | None = None, settings: Settings | None = None) -> dict[str, Any]:
    """The only journey under a code."""
    found = journey.of(settings or city.settings, code, viewer="tester", purpose=purpose)
    assert len(found) == 1, found
    return found[0]


def words(document: dict[str, Any]) -> list[tuple[str, str]]:
    return [(step["system"], step["kind"]) for step in document["steps"]]


def step(document: dict[str, Any], system: str, kind: str) -> dict[str, Any]:
    found = [one for one in document["steps"] if (one["system"], one["kind"]) == (system, kind)]
    assert found, document["steps"]
    return dict(found[-1])


def submitted(city: City) -> None:
    city.submit()
    city.sql("portal", "UPDATE application SET paper = 'BN-77', linked = 'LT-5'")


def test_everything_said_and_acknowledged_stands_in_order_with_its_times(city: City) -> None:
    submitted(city)
    city.settle()
    city.sql("ward-a", "UPDATE ho_so SET trang_thai = 2, can_bo = 'Lê Thị C'")
    city.settle()
    found = of(city, "N1")
    assert words(found)[0] == ("portal", "said")
    assert found["steps"][0]["what"] == "brings it"
    handled = next(one for one in found["steps"] if one["what"].startswith("status 1 Mới đăng ký → 4 Đang xử lý"))
    assert (handled["system"], handled["proof"]) == ("ward-a", "both")
    assert handled["delay_seconds"] >= 0
    assert "handler_name" in handled["what"]
    back = step(found, "portal", "acknowledged")
    assert back["proof"] == "both"
    times = [one["at"] or one["arrived_at"] for one in found["steps"]]
    assert times == sorted(times)
    assert all(one["delay_seconds"] is None or one["delay_seconds"] >= 0 for one in found["steps"])
    assert (found["holder"], found["expected"]) == ("ward-a", {"what": "ward-a finishes it", "by": None})
    assert [(one["system"], one["acknowledged"]) for one in found["sent"]] == [("portal", True), ("ward-a", True)]


def test_what_only_one_side_shows_is_told_as_that(city: City) -> None:
    submitted(city)
    city.say()
    found = of(city, "N1")
    assert step(found, "ward-a", "handed over")["proof"] == "one-sided"
    assert found["holder"] == "hub"
    assert found["expected"]["what"] == "ward-a acknowledges what was handed over"
    by, at = datetime.fromisoformat(found["expected"]["by"]), datetime.fromisoformat(step(found, "ward-a", "handed over")["at"])
    assert 3590 <= (by - at).total_seconds() <= 3610
    city.apply()  # nobody has read it back yet: the target's own memory is asked
    found = of(city, "N1")
    assert step(found, "ward-a", "acknowledged")["proof"] == "both"
    assert (found["holder"], found["expected"]["what"]) == ("ward-a", "ward-a receives it")
    assert found["expected"]["by"] == "2026-03-06T03:00:00+00:00"


def test_a_target_that_does_not_answer_leaves_its_step_one_sided(city: City) -> None:
    submitted(city)
    city.say()
    city.apply()
    systems = dict(city.settings.systems)
    systems["ward-a"] = systems["ward-a"].model_copy(update={"dsn": "postgresql://127.0.0.1:1/none"})
    found = of(city, "N1", settings=city.settings.model_copy(update={"systems": systems}))
    assert step(found, "ward-a", "handed over")["proof"] == "one-sided"


def test_what_is_parked_at_a_target_stands_in_the_journey(city: City) -> None:
    city.sql("ward-a", "ALTER TABLE ho_so ADD CHECK (ho_ten NOT LIKE 'NGUYỄN%%')")
    submitted(city)
    city.settle()
    found = of(city, "N1")
    assert "refused there: refused_by_target" in step(found, "ward-a", "handed over")["what"]


@pytest.mark.parametrize("code", ["N1", "BN-77", "LT-5", "record", "1"])
@pytest.mark.parametrize("is_swept", [False, True])
def test_any_code_finds_it(city: City, code: str, is_swept: bool) -> None:  # noqa: FBT001 - a case of the table
    submitted(city)
    city.settle()
    ((record,),) = city.hub_sql("SELECT record FROM hub.record WHERE entity = 'dossier'")
    if is_swept:
        lost.sweep(city.settings, wait_seconds=0)
        assert city.hub_sql("SELECT code FROM hub.dossier_code ORDER BY 1") == [("BN-77",), ("LT-5",)]
    found = of(city, str(record) if code == "record" else code)
    assert found["record"] == record
    schemes = {(one["scheme"], one["value"]) for one in found["codes"]}
    assert {("national", "N1"), ("local", "BN-77"), ("linked", "LT-5"), ("key", "1")} <= schemes


def test_personal_data_is_masked_without_a_purpose_and_every_look_is_recorded(city: City) -> None:
    submitted(city)
    city.settle()
    assert "Nguyễn" not in str(of(city, "N1"))
    assert "0901" not in str(of(city, "N1")), "a short value has no last four characters"
    assert "Nguyễn Văn An" in str(of(city, "N1", purpose="complaint 7"))
    assert journey.of(city.settings, "079200000001", viewer="tester", purpose=None) == []
    audit = city.hub_sql("SELECT viewer, purpose, record IS NOT NULL FROM hub.view_audit ORDER BY id")
    assert audit == [("tester", None, True), ("tester", None, True), ("tester", "complaint 7", True), ("tester", None, False)]
    assert "079200000001" not in str(city.hub_sql("SELECT to_jsonb(a)::text FROM hub.view_audit a"))


def test_the_applicant_has_it_while_papers_are_missing(city: City) -> None:
    submitted(city)
    city.settle()
    city.sql("ward-a", "UPDATE ho_so SET trang_thai = 3")
    city.settle()
    expected = of(city, "N1")["expected"]
    assert expected == {"what": "the applicant hands in the missing papers; the time limit rests", "by": None}


def test_children_corrections_and_comparisons_are_part_of_it(city: City) -> None:
    submitted(city)
    city.sql("portal", "INSERT INTO charge (application_id, code, amount) VALUES (1, 'LP1', 50000)")
    city.settle()
    city.sql("ward-a", "UPDATE ho_so SET dien_thoai = '0999888777'")
    city.settle()
    found = of(city, "N1")
    assert step(found, "portal", "fee")["what"] == "fee LP1"
    asked = step(found, "ward-a", "correction")
    assert asked["what"] == "asks for another applicant_phone than portal (open)"
    assert asked["proof"] == "one-sided"
    assert "0999888777" not in str(found)


def test_joined_records_are_one_journey(city: City) -> None:
    """The ward's own row of the same dossier, told before the portal's reached it."""
    city.sql("ward-a", "INSERT INTO ho_so (ma_qg, thu_tuc, phuong, trang_thai, ho_ten) VALUES ('N1', '1.001', %s, 1, 'Nguyễn Văn An')", UNIT_A)
    submitted(city)
    city.settle()
    found = of(city, "N1")
    assert found["systems"] == ["portal", "ward-a"]
    assert of(city, "BN-77")["record"] == found["record"]


MANY = """
INSERT INTO hub.record (record, entity, sole, version, body)
SELECT n, 'dossier', 'ward-a', 1, jsonb_build_object('local_code', 'B-' || n) FROM generate_series(1, 100000) n;
INSERT INTO hub.setting VALUES ('dossier codes record', '99000');
ANALYZE hub.record
"""


def test_an_unknown_code_is_searched_only_where_no_sweep_has_been(pg: PostgresCluster, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    hub_schema.install(database)
    asked: list[str] = []
    connection = connect(database, application_name="test")
    try:
        with transaction(connection) as cursor:
            cursor.execute(MANY)
        monkeypatch.setattr(find, "_BY_SCAN", f"EXPLAIN (ANALYZE, FORMAT TEXT) {find._BY_SCAN}")
        with transaction(connection) as cursor:
            asked += find._scan(cursor, {"code": "unknown", "limit": 20})  # type: ignore[arg-type]
        monkeypatch.undo()
        plan = "\n".join(asked)
        assert "Index" in plan, plan
        assert "Seq Scan" not in plan, plan
        with transaction(connection) as cursor:
            assert find._scan(cursor, {"code": "B-99500", "limit": 20}) == [99_500]
            assert find._scan(cursor, {"code": "B-500", "limit": 20}) == [], "a sweep has noted that one elsewhere"
            assert rows(cursor, "SHOW statement_timeout") == [("0",)]
            cursor.execute("DELETE FROM hub.setting")
            monkeypatch.setattr(find, "SCAN_RECORDS", 1000)
            assert find._scan(cursor, {"code": "B-99500", "limit": 20}) == [99_500], "before the first sweep the newest are searched"
            assert find._scan(cursor, {"code": "B-500", "limit": 20}) == []
    finally:
        connection.close()
