"""Reconciliation finds every planted fault, names hop, kind and fields, reports nothing that is under way, and repair puts it right."""

# ruff: noqa: S608 - the SQL is made of constants

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from connectors.postgres import connect
from lienthong.config import load_settings
from lienthong.reconcile import look
from lienthong.reconcile.compare import Scope
from lienthong.reconcile.report import as_document, reconcile_systems
from tests.city import AUTHORITY, City, city, wait

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

TABLE = """
CREATE TABLE ho_so (ma text PRIMARY KEY, tthc text NOT NULL, nop timestamptz NOT NULL, ten text NOT NULL, ngay text, tt text NOT NULL, ghi_chu text)
"""
FEES = "CREATE TABLE le_phi (so text PRIMARY KEY, ho_so text NOT NULL, tien bigint NOT NULL)"
DOSSIER = """
  dossier:
    table: ho_so
    key: ma
    identifiers: {national: ma}
    fields:
      procedure_code: tthc
      submitted_at: nop
      applicant_name: ten
      applicant_birth_date: {column: ngay, read: partial_date_text}
      status: {column: tt, values: {moi: 1, dang_xu_ly: 4, xong: 9}}
      note: ghi_chu
"""
FEE = """
  fee:
    table: le_phi
    key: so
    parent: {entity: dossier, columns: ho_so}
    fields: {fee_code: so, amount: tien}
"""
SYSTEMS = """
version: 1
hub: {dsn: "${HUB_DSN}"}
kafka: {bootstrap: "${KAFKA_BOOTSTRAP}"}
systems:
  portal: {profile: full, dsn: "${PORTAL_DSN}", capture: wal, kind: portal}
  ward: {profile: full, dsn: "${WARD_DSN}", capture: outbox, kind: ward}
  archive: {profile: full, dsn: "${ARCHIVE_DSN}", capture: none, kind: other}
"""
CONTRACTS = """
version: 1
contracts:
  portal: {system: portal, purpose: test, legal_ground: decree 1, entities: {dossier: {}, fee: {}}}
  ward: {system: ward, purpose: test, legal_ground: decree 1, entities: {dossier: {}, fee: {}}}
  archive:
    system: archive
    purpose: test
    legal_ground: decree 2
    entities: {dossier: {where: {procedures: ["1.001"]}}, fee: {where: {procedures: ["1.001"]}}}
"""
SYSTEM_NAMES = ("portal", "ward", "archive")
_numbers = count(1)


@pytest.fixture(scope="module")
def town(stack_root: Path) -> Iterator[City]:
    """A portal read from its log, a ward read by triggers, an archive that only receives; the service runs."""
    with city(stack_root / "reconcile", clusters=("hub", "local")) as made:
        for name in SYSTEM_NAMES:
            made.database("local", name, TABLE, FEES)
        made.write("systems.yaml", SYSTEMS)
        made.write("authority.yaml", AUTHORITY)
        made.write("contracts.yaml", CONTRACTS)
        made.write("profiles/full.yaml", f"version: 1\nprofile: full\nentities:{DOSSIER}{FEE}")
        made.install(*SYSTEM_NAMES)
        for name in ("portal", "ward"):
            made.sql(name, *[_insert(f"H{name[0].upper()}-{n:04}") for n in range(30)])
        made.sql("portal", *[f"INSERT INTO le_phi VALUES ('LP-{n:04}', 'HP-{n:04}', {n * 1000})" for n in range(10)])
        made.run()
        for system in ("portal", "ward"):
            assert made.cli("load", system).returncode == 0
        for name in SYSTEM_NAMES:
            made.until(name, "SELECT count(*) FROM ho_so", 60)
            made.until(name, "SELECT count(*) FROM le_phi", 10)
        # A row is equal as soon as it is there; it is proved for good once the system's own word of it has come back to the hub.
        wait(lambda: sum(c["read"] for c in assert_equal(made)["compared"]) == 0)
        yield made


def _insert(code: str, procedure: str = "1.001") -> str:
    return f"INSERT INTO ho_so VALUES ('{code}', '{procedure}', '2026-03-02 08:00+07', 'Nguyễn Thị Ánh', '02/03/1980', 'moi', 'ban đầu')"


def new(town: City, at: str = "portal", procedure: str = "1.001") -> str:
    """A new dossier that has arrived everywhere; its code."""
    code = f"N{at[0].upper()}-{next(_numbers):05}"
    town.sql(at, _insert(code, procedure))
    for system in SYSTEM_NAMES if procedure == "1.001" else ("portal", "ward"):
        town.until(system, f"SELECT count(*) FROM ho_so WHERE ma = '{code}'", 1)
    return code


def reconcile(town: City, *arguments: str) -> dict[str, Any]:
    done = town.cli("reconcile", "--json", *arguments)
    assert done.stdout.startswith("{"), done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    assert document["not_compared"] == [], document["not_compared"]
    assert (done.returncode == 1) == bool(document["differences"])
    return document


def found(document: dict[str, Any]) -> list[tuple[str, str, str, str, tuple[str, ...]]]:
    """System, key, hop, kind and fields of each difference."""
    return sorted((d["system"], d["key"] or "", d["hop"], d["kind"], tuple(d["fields"])) for d in document["differences"])


def assert_equal(town: City, *arguments: str) -> dict[str, Any]:
    document = reconcile(town, *arguments)
    assert found(document) == []
    if not arguments:
        assert all(c["entitled"] == c["held"] for c in document["compared"]), document
    return document


def repair(town: City) -> dict[str, Any]:
    document: dict[str, Any] = town.json("repair")
    assert document["actions"] == [], document
    return document


def write_unseen(town: City, at: str, *statements: str) -> None:
    """Statements whose changes capture is never told of; in one transaction, so that capture never sees the triggers off."""
    connection = connect(town.environment[f"{at.upper()}_DSN"], application_name="test")
    try:
        with connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            cursor.execute("DELETE FROM lienthong.change WHERE xid = pg_current_xact_id()")
        connection.commit()
    finally:
        connection.close()


def test_a_city_at_rest_is_equal_and_is_not_read_twice(town: City) -> None:
    document = assert_equal(town)
    assert {(c["system"], c["entity"], c["rows"]) for c in document["compared"] if c["entity"] == "dossier"} >= {("archive", "dossier", 60)}
    assert sum(c["read"] for c in document["compared"]) == 0
    again = assert_equal(town, "--full")
    assert all(c["read"] >= c["rows"] for c in again["compared"])


def test_a_change_that_no_trigger_has_noted_is_found_and_read_again(town: City) -> None:
    changed, gone = new(town, "ward"), new(town, "ward")
    assert_equal(town)
    write_unseen(
        town, "ward", f"UPDATE ho_so SET ghi_chu = 'sửa', tt = 'xong' WHERE ma = '{changed}'", f"DELETE FROM ho_so WHERE ma = '{gone}'",
        _insert("HW-UNSEEN"),
    )  # fmt: skip
    document = reconcile(town)
    assert found(document) == [
        ("ward", "HW-UNSEEN", "capture", "missing", ()),
        ("ward", changed, "capture", "stale", ("note", "status")),
        ("ward", gone, "capture", "extra", ()),
    ]
    plan = town.json("repair", "--plan")
    assert {(a["key"], a["repair"]) for a in plan["actions"]} == {(changed, "re-read"), (gone, "re-read"), ("HW-UNSEEN", "re-read")}
    assert {a["basis"] for a in plan["actions"]} == {"a test"}
    assert repair(town)["repaired"] == 3
    assert_equal(town)
    town.until("archive", f"SELECT tt, ghi_chu FROM ho_so WHERE ma = '{changed}'", [("xong", "sửa")])
    town.until("archive", f"SELECT count(*) FROM ho_so WHERE ma = '{gone}'", 0)
    town.until("portal", "SELECT count(*) FROM ho_so WHERE ma = 'HW-UNSEEN'", 1)


def test_manual_edits_in_a_target_are_found_by_field_and_sent_again(town: City) -> None:
    edited, removed = new(town), new(town)
    assert_equal(town)
    town.sql("archive", f"UPDATE ho_so SET ten = 'Trần Văn B', ngay = '1981' WHERE ma = '{edited}'", f"DELETE FROM ho_so WHERE ma = '{removed}'")
    document = reconcile(town)
    assert found(document) == [
        ("archive", edited, "delivery", "different", ("applicant_birth_date", "applicant_name")),
        ("archive", removed, "delivery", "missing", ()),
    ]
    plan = town.json("repair", "--plan")
    assert {(a["key"], a["repair"], tuple(a["whose_word"])) for a in plan["actions"]} == {
        (edited, "re-send", ("portal",)), (removed, "re-send", ("portal",)),
    }  # fmt: skip
    assert town.sql("archive", f"SELECT ten FROM ho_so WHERE ma = '{edited}'") == [("Trần Văn B",)]
    assert repair(town)["repaired"] == 2
    assert_equal(town)
    assert town.sql("archive", f"SELECT ten, ngay FROM ho_so WHERE ma = '{edited}'") == [("Nguyễn Thị Ánh", "02/03/1980")]


def test_an_edit_that_a_captured_target_hid_is_read_and_then_overruled(town: City) -> None:
    code = new(town)
    assert_equal(town)
    write_unseen(town, "ward", f"UPDATE ho_so SET ten = 'Trần Văn B' WHERE ma = '{code}'")
    assert found(reconcile(town)) == [("ward", code, "capture", "stale", ("applicant_name",))]
    repair(town)
    assert_equal(town)
    assert town.sql("ward", f"SELECT ten FROM ho_so WHERE ma = '{code}'") == [("Nguyễn Thị Ánh",)]
    asked = "SELECT count(*) FROM hub.correction WHERE system = 'ward' AND field = 'applicant_name' AND asked = '\"Trần Văn B\"'"
    assert town.sql("hub", asked) == [(1,)]


def test_a_message_that_was_lost_on_its_way_leaves_a_stale_row(town: City) -> None:
    stale, missing, removed = new(town), new(town), new(town)
    assert_equal(town)
    offset = "SELECT next FROM lienthong.consumer_offset WHERE topic = 'lienthong.out.archive'"
    before = town.sql("archive", "SELECT to_jsonb(h) FROM ho_so h WHERE ma IN (%s, %s, %s) ORDER BY ma", arguments=[stale, missing, removed])
    applied = "SELECT to_jsonb(a) FROM lienthong.applied a WHERE entity = 'dossier' AND local_key IN (%s, %s, %s) ORDER BY local_key"
    remembered = town.sql("archive", applied, arguments=[stale, missing, removed])
    place = town.sql("archive", offset)
    town.sql("portal", f"UPDATE ho_so SET ghi_chu = 'mới hơn' WHERE ma = '{stale}'", f"DELETE FROM ho_so WHERE ma = '{removed}'")
    town.until("archive", f"SELECT ghi_chu FROM ho_so WHERE ma = '{stale}'", "mới hơn")
    town.until("archive", f"SELECT count(*) FROM ho_so WHERE ma = '{removed}'", 0)
    assert town.sql("archive", offset) != place
    _put_back(town, before, remembered, [stale, missing, removed])
    town.sql("archive", f"DELETE FROM ho_so WHERE ma = '{missing}'", f"DELETE FROM lienthong.applied WHERE local_key = '{missing}'")
    assert found(reconcile(town)) == [
        ("archive", stale, "delivery", "stale", ("note",)),
        ("archive", missing, "delivery", "missing", ()),
        ("archive", removed, "delivery", "extra", ()),
    ]
    assert {(a["kind"], a["repair"]) for a in town.json("repair", "--plan")["actions"]} == {
        ("missing", "re-send"), ("stale", "re-send"), ("extra", "withdraw"),
    }  # fmt: skip
    assert repair(town)["repaired"] == 3
    assert_equal(town)


def _put_back(town: City, rows: Sequence[Any], applied: Sequence[Any], codes: Sequence[str]) -> None:
    """The archive's rows as they were, and what our schema there remembers of them: as if the messages had never come."""
    names = ", ".join(f"'{code}'" for code in codes)
    documents, memory = json.dumps([row for (row,) in rows]), json.dumps([row for (row,) in applied])
    town.sql(
        "archive", f"DELETE FROM ho_so WHERE ma IN ({names})", f"DELETE FROM lienthong.applied WHERE local_key IN ({names}) AND entity = 'dossier'"
    )
    town.sql("archive", "INSERT INTO ho_so SELECT * FROM jsonb_populate_recordset(NULL::ho_so, %s)", arguments=[documents])
    town.sql("archive", "INSERT INTO lienthong.applied SELECT * FROM jsonb_populate_recordset(NULL::lienthong.applied, %s)", arguments=[memory])


def test_a_wrong_merge_is_found_on_its_hop_and_folded_again(town: City) -> None:
    code = new(town)
    town.sql("ward", f"UPDATE ho_so SET tt = 'dang_xu_ly' WHERE ma = '{code}'")
    town.until("archive", f"SELECT tt FROM ho_so WHERE ma = '{code}'", "dang_xu_ly")
    wait(lambda: found(reconcile(town)) == [])
    record = "record = (SELECT record FROM hub.identifier WHERE claim = 'dossier:%s')" % code  # noqa: UP031
    town.sql("hub", f"""UPDATE hub.record SET body = body || '{{"note": "nhầm"}}' WHERE {record}""")
    document = reconcile(town)
    merge = {(d["system"], d["kind"], tuple(d["fields"])) for d in document["differences"] if d["hop"] == "merge"}
    assert merge == {(system, "different", ("note",)) for system in SYSTEM_NAMES}
    assert {a["repair"] for a in town.json("repair", "--plan")["actions"] if a["hop"] == "merge"} == {"fold again"}
    repair(town)
    assert_equal(town)
    assert town.sql("archive", f"SELECT ghi_chu FROM ho_so WHERE ma = '{code}'") == [("ban đầu",)]


def test_a_contribution_that_was_changed_in_the_hub_is_different_from_its_source(town: City) -> None:
    code = new(town)
    town.sql("ward", f"UPDATE ho_so SET tt = 'dang_xu_ly' WHERE ma = '{code}'")
    town.until("portal", f"SELECT tt FROM ho_so WHERE ma = '{code}'", "dang_xu_ly")
    wait(lambda: found(reconcile(town)) == [])
    where = f"system = 'portal' AND entity = 'dossier' AND local_key = '{code}'"
    town.sql("hub", f"""UPDATE hub.contribution SET body = (body::text::jsonb || '{{"applicant_name": "Sai Tên"}}')::json WHERE {where}""")
    document = reconcile(town)
    assert ("portal", code, "capture", "different", ("applicant_name",)) in found(document)
    repair(town)
    assert_equal(town)
    for system in SYSTEM_NAMES:
        assert town.sql(system, f"SELECT ten FROM ho_so WHERE ma = '{code}'") == [("Nguyễn Thị Ánh",)]


def test_a_deleted_record_that_rose_again_in_a_target_is_withdrawn(town: City) -> None:
    code = new(town)
    town.sql("portal", f"DELETE FROM ho_so WHERE ma = '{code}'")
    town.until("archive", f"SELECT count(*) FROM ho_so WHERE ma = '{code}'", 0)
    assert_equal(town)
    town.sql("archive", _insert(code))
    assert found(reconcile(town)) == [("archive", code, "delivery", "extra", ())]
    assert [(a["repair"], a["basis"]) for a in town.json("repair", "--plan")["actions"]] == [("withdraw", "not in its contract: decree 2")]
    repair(town)
    assert_equal(town)
    assert town.sql("archive", f"SELECT count(*) FROM ho_so WHERE ma = '{code}'") == [(0,)]


def test_an_extra_row_that_nobody_sent_is_left_to_a_person(town: City) -> None:
    town.sql("archive", _insert("STRANGER"))
    assert found(reconcile(town)) == [("archive", "STRANGER", "delivery", "extra", ())]
    done = town.cli("repair", "--json")
    assert done.returncode == 1
    assert "a person decides" in done.stdout
    assert town.sql("archive", "SELECT count(*) FROM ho_so WHERE ma = 'STRANGER'") == [(1,)]
    town.sql("archive", "DELETE FROM ho_so WHERE ma = 'STRANGER'")
    assert_equal(town)


def test_children_are_compared_under_their_dossier(town: City) -> None:
    town.sql("archive", "UPDATE le_phi SET tien = 7 WHERE so = 'LP-0003'", "UPDATE le_phi SET ho_so = 'HP-0009' WHERE so = 'LP-0004'")
    write_unseen(town, "ward", "UPDATE le_phi SET tien = 8 WHERE so = 'LP-0005'")
    assert found(reconcile(town, "--entity", "fee")) == [
        ("archive", "LP-0003", "delivery", "different", ("amount",)),
        ("archive", "LP-0004", "delivery", "different", ("parent",)),
        ("ward", "LP-0005", "capture", "stale", ("amount",)),
    ]
    town.sql("archive", "UPDATE le_phi SET ho_so = 'HP-0004' WHERE so = 'LP-0004'")
    repair(town)
    assert_equal(town)


def test_a_contract_that_gives_more_or_less_is_compared_anew(town: City) -> None:
    outside = new(town, procedure="2.002")
    assert_equal(town)
    assert town.sql("archive", f"SELECT count(*) FROM ho_so WHERE ma = '{outside}'") == [(0,)]
    town.sql("archive", _insert(outside, "2.002"))
    assert found(reconcile(town)) == [("archive", outside, "delivery", "extra", ())]
    town.sql("archive", f"DELETE FROM ho_so WHERE ma = '{outside}'")
    assert_equal(town)


def test_single_records_can_be_asked_for(town: City) -> None:
    one, other = new(town), new(town)
    town.sql("archive", f"UPDATE ho_so SET ghi_chu = NULL WHERE ma IN ('{one}', '{other}')")
    here = ("--system", "archive", "--entity", "dossier", "--keys", one)
    assert found(reconcile(town, *here)) == [("archive", one, "delivery", "different", ("note",))]
    assert found(reconcile(town, "--system", "archive", "--since", "2020-01-01"))[-1][2:] == ("delivery", "different", ("note",))
    assert len(found(reconcile(town))) == 2
    repair(town)
    assert_equal(town)


def test_what_is_under_way_is_not_reported(town: City) -> None:
    codes = [new(town) for _ in range(5)]
    stop = threading.Event()
    written = count()

    def live() -> None:
        connection = connect(town.environment["PORTAL_DSN"], application_name="test", autocommit=True)
        cursor = connection.cursor()
        while not stop.wait(0.005):
            n = next(written)
            cursor.execute("UPDATE ho_so SET ghi_chu = %s WHERE ma = %s", [f"bản {n}", f"HP-{n % 30:04}"])
            if n % 7 == 0:
                cursor.execute(_insert(f"LIVE-{n}"))
            if n % 11 == 0:
                cursor.execute("DELETE FROM ho_so WHERE ma = %s", [f"LIVE-{n - 77}"])
        connection.close()

    thread = threading.Thread(target=live)
    thread.start()
    try:
        town.sql("archive", f"UPDATE ho_so SET ghi_chu = 'tay' WHERE ma = '{codes[0]}'")
        for _ in range(3):
            document = reconcile(town)
            assert found(document) == [("archive", codes[0], "delivery", "different", ("note",))]
    finally:
        stop.set()
        thread.join()
    assert next(written) > 200
    repair(town)
    assert_equal(town)


def test_several_slices_at_once_list_what_one_by_one_lists(town: City, monkeypatch: pytest.MonkeyPatch) -> None:
    edited, removed, hidden, wrong = (new(town) for _ in range(4))
    town.sql("ward", f"UPDATE ho_so SET tt = 'dang_xu_ly' WHERE ma = '{wrong}'")
    town.until("archive", f"SELECT tt FROM ho_so WHERE ma = '{wrong}'", "dang_xu_ly")
    wait(lambda: found(reconcile(town)) == [])
    town.sql("archive", f"UPDATE ho_so SET ten = 'Trần Văn B' WHERE ma = '{edited}'", f"DELETE FROM ho_so WHERE ma = '{removed}'", _insert("BY-HAND"))
    write_unseen(town, "ward", f"UPDATE ho_so SET ten = 'Trần Văn B' WHERE ma = '{hidden}'", _insert("UNSEEN"))
    record = "record = (SELECT record FROM hub.identifier WHERE claim = 'dossier:%s')" % wrong  # noqa: UP031
    town.sql("hub", "CREATE TABLE kept AS SELECT record, body FROM hub.record WHERE " + record)
    town.sql("hub", f"""UPDATE hub.record SET body = body || '{{"note": "nhầm"}}' WHERE {record}""")
    listed = []
    for size, lookers in ((3, 3), (3, 1), (100_000, 1)):
        monkeypatch.setattr(look, "SLICE", size)
        monkeypatch.setattr(look, "LOOKERS", lookers)
        done = reconcile_systems(load_settings(town.config, town.environment), SYSTEM_NAMES, (), Scope(full=True), wait_seconds=60)
        listed.append((found(as_document(done)), [(c.system, c.entity, c.rows, c.entitled, c.held) for c in done.compared]))
    assert listed[0] == listed[1] == listed[2]
    differences = listed[0][0]
    assert {
        ("archive", edited, "delivery", "different", ("applicant_name",)),
        ("archive", removed, "delivery", "missing", ()),
        ("archive", "BY-HAND", "delivery", "extra", ()),
        ("archive", wrong, "merge", "different", ("note",)),
        ("ward", hidden, "capture", "different", ("applicant_name",)),
        ("ward", "UNSEEN", "capture", "missing", ()),
    } <= set(differences)
    town.sql("archive", "DELETE FROM ho_so WHERE ma = 'BY-HAND'")
    write_unseen(town, "ward", f"UPDATE ho_so SET ten = 'Nguyễn Thị Ánh' WHERE ma = '{hidden}'", "DELETE FROM ho_so WHERE ma = 'UNSEEN'")
    town.sql("hub", "UPDATE hub.record r SET body = k.body FROM kept k WHERE k.record = r.record", "DROP TABLE kept")
    reconcile(town)
    repair(town)
    assert_equal(town)


def test_a_killed_run_goes_on_where_it_stopped(town: City) -> None:
    town.sql("hub", "DELETE FROM hub.proof")
    assert_equal(town, "--system", "archive", "--entity", "dossier", "--keys", "HP-0001", "--keys", "HP-0002")
    rows = town.sql("archive", "SELECT count(*) FROM ho_so")[0][0]
    (compared,) = assert_equal(town, "--system", "archive", "--entity", "dossier")["compared"]
    assert compared["rows"] == rows
    assert compared["read"] == rows - 2


def test_a_line_that_stands_still_is_named_and_nothing_is_reported_by_guess(town: City) -> None:
    town.sql("archive", "UPDATE ho_so SET ghi_chu = 'tay' WHERE ma = 'HP-0007'")
    town.stop()
    town.sql("portal", "UPDATE ho_so SET ghi_chu = 'mới' WHERE ma = 'HP-0008'")
    try:
        done = town.cli("reconcile", "--system", "portal", "--wait", "2")
        assert done.returncode == 3
        assert "capture has not passed" in done.stderr
    finally:
        town.run()
    town.until("ward", "SELECT ghi_chu FROM ho_so WHERE ma = 'HP-0008'", "mới")
    assert found(reconcile(town)) == [("archive", "HP-0007", "delivery", "different", ("note",))]
    repair(town)
    assert_equal(town)


def test_no_value_of_a_person_is_printed(town: City) -> None:
    assert "Nguyễn Thị Ánh" not in town.said
    assert "Trần Văn B" not in town.said
