"""Both ways at once: a portal and two wards, each with its own tables, through capture, merge, route and apply in turn.

All but Kafka is real; the topics are lists, so that a test decides when each stage goes on and counts every message.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from connectors.kafka import Message
from connectors.postgres import connect, transaction
from lienthong import frames, golden, hub, in_doubt, route
from lienthong.apply.target import Target
from lienthong.capture.outbox import OutboxLine
from lienthong.ddl import ddl_for
from lienthong.embedded import PostgresCluster
from lienthong.frames import Header
from lienthong.merge import Merger
from lienthong.route import Router
from lienthong.settings import Settings
from lienthong.vault import Vault

UNIT_A, UNIT_B = "26737", "26740"
ROUNDS_MAX = 12
WARDS = ("ward-a", "ward-b")

PORTAL_TABLES = """
CREATE TABLE application (
  id bigserial PRIMARY KEY, code text UNIQUE, procedure text NOT NULL, unit text, state text NOT NULL DEFAULT 'sent',
  submitted timestamptz NOT NULL DEFAULT '2026-03-05 03:00+00',
  name text NOT NULL, phone text, remark text, officer text
);
CREATE TABLE charge (
  id bigserial PRIMARY KEY, application_id bigint NOT NULL REFERENCES application ON DELETE CASCADE, code text, amount bigint);
"""
WARD_TABLES = """
CREATE TABLE ho_so (
  id serial PRIMARY KEY, ma_qg text UNIQUE, thu_tuc text NOT NULL, phuong text, trang_thai int NOT NULL,
  ngay_nop timestamp NOT NULL DEFAULT '2026-03-05 10:00',
  ho_ten text NOT NULL, dien_thoai text, ghi_chu text, can_bo text
);
CREATE TABLE phi (id serial PRIMARY KEY, ho_so_id int NOT NULL REFERENCES ho_so, ma text, so_tien bigint);
-- The ward's product keeps names in capitals and assigns an officer to whatever comes in.
CREATE FUNCTION chuan_hoa() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
  NEW.ho_ten := upper(NEW.ho_ten); NEW.can_bo := coalesce(NEW.can_bo, 'unassigned'); RETURN NEW; END$$;
CREATE TRIGGER chuan_hoa BEFORE INSERT OR UPDATE ON ho_so FOR EACH ROW EXECUTE FUNCTION chuan_hoa();
"""
PROFILES: dict[str, Any] = {
    "portal": {
        "profile": "portal",
        "entities": {
            "dossier": {
                "table": "application",
                "key": "id",
                "fields": {
                    "national_code": "code",
                    "procedure_code": "procedure",
                    "processing_unit_code": "unit",
                    "status": {"column": "state", "values": {"sent": 1, "handled": 4, "more": 5, "done": 9}},
                    "submitted_at": "submitted",
                    "applicant_name": "name",
                    "applicant_phone": "phone",
                    "note": "remark",
                    "handler_name": "officer",
                },
            },
            "fee": {
                "table": "charge",
                "key": "id",
                "parent": {"entity": "dossier", "columns": "application_id"},
                "fields": {"fee_code": "code", "amount": "amount"},
            },
        },
    },
    "ward": {
        "profile": "ward",
        "entities": {
            "dossier": {
                "table": "ho_so",
                "key": "id",
                "fields": {
                    "national_code": "ma_qg",
                    "procedure_code": "thu_tuc",
                    "processing_unit_code": "phuong",
                    "status": {"column": "trang_thai", "values": {1: 1, 2: 4, 3: 5, 9: 9}},
                    "submitted_at": "ngay_nop",
                    "applicant_name": {"column": "ho_ten", "read": "vietnamese_name"},
                    "applicant_phone": "dien_thoai",
                    "note": "ghi_chu",
                    "handler_name": "can_bo",
                },
            },
            "fee": {
                "table": "phi",
                "key": "id",
                "parent": {"entity": "dossier", "columns": "ho_so_id"},
                "fields": {"fee_code": "ma", "amount": "so_tien"},
            },
        },
    },
}


def settings(hub_dsn: str, dsns: dict[str, str]) -> Settings:
    city = {"order": ["portal", "kind:ward"], "basis": "Decree 118: the place of intake keeps the dossier"}
    handler = {"order": ["@processing", "portal", "kind:ward"], "basis": "Decree 61: the competent agency decides"}
    own = {entity: {"where": {"units": "own"}} for entity in ("dossier", "fee")}
    every: dict[str, Any] = {entity: {} for entity in ("dossier", "fee")}
    legal = {"purpose": "handling dossiers", "legal_ground": "Decree 118/2025"}
    ward = {"profile": "ward", "kind": "ward"}
    return Settings.model_validate(
        {
            "hub": {"dsn": hub_dsn},
            "kafka": {"bootstrap": "none", "partitions": 1},
            "profiles": PROFILES,
            "systems": {
                "portal": {"profile": "portal", "kind": "portal", "dsn": dsns["portal"]},
                "ward-a": {**ward, "dsn": dsns["ward-a"], "units": [UNIT_A]},
                "ward-b": {**ward, "dsn": dsns["ward-b"], "units": [UNIT_B]},
            },
            "authority": {
                "dossier": {
                    **{group: [city] for group in ("record", "routing", "intake", "payment")},
                    **{group: [handler] for group in ("processing", "result")},
                },
                "fee": {"record": [handler], "content": [handler]},
            },
            "contracts": {
                "portal": {"system": "portal", **legal, "entities": every},
                **{name: {"system": name, **legal, "entities": own} for name in WARDS},
            },
        }
    )


class Bus:
    """Kafka's place: one list of messages per topic."""

    def __init__(self) -> None:
        self.topics: dict[str, list[Message]] = defaultdict(list)

    def send(
        self,
        topic: str,
        value: bytes | None,
        *,
        key: bytes | None = None,
        partition: int | None = None,
        headers: Any = (),
    ) -> None:
        log = self.topics[topic]
        log.append(Message(topic, partition or 0, len(log), 0, key, value, tuple(headers)))

    def flush(self) -> dict[str, tuple[int, int]]:
        return {}

    def ends(self, _topics: Sequence[str]) -> dict[str, int]:
        return {}

    def close(self) -> None:
        pass

    def total(self) -> int:
        return sum(map(len, self.topics.values()))


class City:
    """The systems and the stages between them."""

    def __init__(self, configured: Settings, bus: Bus) -> None:
        self.settings, self.bus = configured, bus
        self.systems = {name: connect(system.dsn, application_name=name) for name, system in configured.systems.items()}
        for name in self.systems:
            self.sql(name, PORTAL_TABLES if name == "portal" else WARD_TABLES)
            self.sql(name, ddl_for(name, configured))
        self.hub = hub.open_hub(configured.hub.dsn, "test")
        self.merger = Merger(configured, self.hub)
        self.router = Router(configured)
        vault = Vault(None)
        self.targets = {name: Target(configured, name, vault) for name in self.systems}
        self.lines = {name: OutboxLine(configured, name, self.hub, bus, vault) for name in self.systems}  # type: ignore[arg-type]
        self._read: dict[str, int | None] = {}
        for name, line in self.lines.items():
            line.start()
            self._loaded(name)

    def _loaded(self, name: str) -> None:
        """An empty source is loaded at once."""
        header = Header(name, "?", "load_complete", 1, 1, 0, 0)
        self.bus.send(frames.TOPIC, frames.note_frame(header, [{"partition": 0, "counts": {}, "entities": [], "epoch": 1}])[0])

    def sql(self, system: str, statement: str, *arguments: Any) -> list[tuple[Any, ...]]:
        """What the system's own application does."""
        with transaction(self.systems[system]) as cursor:
            cursor.execute(statement, arguments or None)
            return cursor.fetchall() if cursor.description else []

    def hub_sql(self, statement: str) -> list[tuple[Any, ...]]:
        with transaction(self.hub) as cursor:
            cursor.execute(statement)
            return cursor.fetchall()

    # ------------------------------------------------------------ the stages
    def capture(self, *names: str) -> None:
        for name in names or tuple(self.lines):
            line = self.lines[name]
            line._next_poll = 0.0
            while line.work():
                line._next_poll = 0.0

    def _unread(self, topic: str) -> tuple[Sequence[Message], dict[tuple[str, int], tuple[int | None, int]]]:
        log, at = self.bus.topics[topic], self._read.get(topic)
        return log[at or 0 :], {(topic, 0): (at, len(log))}

    def merge(self) -> None:
        messages, moves = self._unread(frames.TOPIC)
        if messages:
            self.merger.merge(messages, moves)
            self._read[frames.TOPIC] = len(self.bus.topics[frames.TOPIC])

    def route(self) -> None:
        self.router.open_loaded()
        while self.router.step():
            pass

    def apply(self, *names: str) -> None:
        for name in names or tuple(self.targets):
            topic = route.topic_of(name)
            messages, moves = self._unread(topic)
            if messages:
                self.targets[name].apply(messages, moves)
                self._read[topic] = len(self.bus.topics[topic])

    def settle(self) -> int:
        """Run all stages until a whole round brings no message; returns how many messages it took."""
        before = self.bus.total()
        for _ in range(ROUNDS_MAX):
            start = self.bus.total()
            self.capture()
            self.merge()
            self.route()
            self.apply()
            if self.bus.total() == start:
                return start - before
        raise AssertionError(f"still moving after {ROUNDS_MAX} rounds: an echo goes round")

    # ------------------------------------------------------------ what people do and see
    def submit(self, code: str = "N1", *, unit: str = UNIT_A, note: str = "ban đầu") -> None:
        self.sql(
            "portal",
            """INSERT INTO application (code, procedure, unit, name, phone, remark)
               VALUES (%s, '1.001', %s, 'Nguyễn Văn An', '0901', %s)""",
            code,
            unit,
            note,
        )

    def at_portal(self) -> list[tuple[Any, ...]]:
        return self.sql("portal", "SELECT code, state, name, phone, remark FROM application ORDER BY id")

    def at_ward(self, ward: str = "ward-a") -> list[tuple[Any, ...]]:
        return self.sql(ward, "SELECT ma_qg, trang_thai, ho_ten, dien_thoai, ghi_chu FROM ho_so ORDER BY id")

    def corrections(self) -> list[tuple[Any, ...]]:
        return self.hub_sql("SELECT system, field, asked, owner FROM hub.correction ORDER BY id")

    def close(self) -> None:
        for line in self.lines.values():
            line.close()
        for target in self.targets.values():
            target.close()
        for connection in (*self.systems.values(), self.hub, self.router.connection):
            connection.close()


@pytest.fixture
def city(pg: PostgresCluster, database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[City]:
    bus = Bus()
    monkeypatch.setattr(route, "Producer", lambda *_, **__: bus)
    monkeypatch.setattr(in_doubt, "Ends", lambda _: bus)
    hub.install(database)
    prefix = database.rpartition("/")[2]
    names = {name: f"{prefix}_{name.replace('-', '_')}" for name in ("portal", *WARDS)}
    made = City(settings(database, {name: pg.create_database(local) for name, local in names.items()}), bus)
    made.settle()
    yield made
    made.close()
    for local in names.values():
        pg.drop_database(local)


WARD_ROW = ("N1", 1, "NGUYỄN VĂN AN", "0901", "ban đầu")


# ------------------------------------------------------------------ there and back
def test_what_is_submitted_at_the_portal_arrives_in_the_ward_responsible_and_nowhere_else(city: City) -> None:
    city.submit()
    city.settle()
    assert city.at_ward("ward-a") == [WARD_ROW]
    assert city.at_ward("ward-b") == []


def test_the_wards_edit_of_its_own_field_reaches_the_portal(city: City) -> None:
    city.submit()
    city.settle()
    city.sql("ward-a", "UPDATE ho_so SET trang_thai = 2, can_bo = 'Lê Thị C'")
    city.settle()
    assert city.sql("portal", "SELECT state, officer FROM application") == [("handled", "Lê Thị C")]
    assert city.corrections() == []


def test_a_dossier_received_at_the_wards_desk_reaches_the_portal_and_comes_back_with_its_corrections(
    city: City,
) -> None:
    city.sql(
        "ward-a",
        "INSERT INTO ho_so (ma_qg, thu_tuc, phuong, trang_thai, ho_ten) VALUES ('N7', '1.001', %s, 2, 'Trần B')",
        UNIT_A,
    )
    city.settle()
    assert city.at_portal() == [("N7", "handled", "TRẦN B", None, None)]
    city.sql("portal", "UPDATE application SET phone = '0777'")
    city.settle()
    assert city.at_ward() == [("N7", 2, "TRẦN B", "0777", None)]


def test_children_travel_both_ways(city: City) -> None:
    city.submit()
    city.sql("portal", "INSERT INTO charge (application_id, code, amount) VALUES (1, 'LP1', 50000)")
    city.settle()
    assert city.sql("ward-a", "SELECT ma, so_tien FROM phi") == [("LP1", 50000)]
    city.sql("ward-a", "UPDATE phi SET so_tien = 70000")
    city.sql("ward-a", "INSERT INTO phi (ho_so_id, ma, so_tien) VALUES (1, 'LP2', 5)")
    city.settle()
    assert city.sql("portal", "SELECT code, amount FROM charge ORDER BY code") == [("LP1", 70000), ("LP2", 5)]
    city.sql("ward-a", "DELETE FROM phi WHERE ma = 'LP2'")
    city.settle()
    assert city.sql("portal", "SELECT code FROM charge") == [("LP1",)]


def test_edits_on_both_sides_at_the_same_time_are_both_kept(city: City) -> None:
    city.submit()
    city.settle()
    city.sql("ward-a", "UPDATE ho_so SET trang_thai = 3")
    city.sql("portal", "UPDATE application SET phone = '0999', remark = 'mới'")
    city.settle()
    assert city.at_portal() == [("N1", "more", "Nguyễn Văn An", "0999", "mới")]
    assert city.at_ward() == [("N1", 3, "NGUYỄN VĂN AN", "0999", "mới")]
    assert [c for c in city.corrections() if c[0] == "ward-a"] == []


# ------------------------------------------------------------------ edits of what others own
def test_an_edit_of_the_portals_field_in_the_ward_is_kept_as_a_correction_and_reverted(city: City) -> None:
    city.submit()
    city.settle()
    city.sql("ward-a", "UPDATE ho_so SET dien_thoai = '0123'")
    city.settle()
    assert city.corrections() == [("ward-a", "applicant_phone", "0123", "portal")]
    assert city.at_ward() == [WARD_ROW]
    assert city.at_portal()[0][3] == "0901"


def test_an_edit_that_capture_never_read_is_witnessed_by_the_applier(city: City) -> None:
    """The ward's line is down; the portal's next word overwrites the edit, and still it becomes a request."""
    city.submit()
    city.settle()
    city.sql("ward-a", "UPDATE ho_so SET ghi_chu = 'ward wrote this'")
    city.sql("portal", "UPDATE application SET remark = 'portal wrote this'")
    city.capture("portal")
    city.merge()
    city.route()
    city.apply("ward-a")
    assert city.at_ward()[0][4] == "portal wrote this"
    city.settle()
    assert [(system, field, asked) for system, field, asked, _ in city.corrections()] == [("ward-a", "note", "ward wrote this")]


def test_an_own_edit_that_is_on_its_way_is_not_overwritten(city: City) -> None:
    """The ward has not spoken yet, so the portal holds the status: the ward's first word must survive a crossing write."""
    city.submit()
    city.settle()
    city.sql("ward-a", "UPDATE ho_so SET trang_thai = 2")
    city.sql("portal", "UPDATE application SET remark = 'mới'")
    city.capture("portal")
    city.merge()
    city.route()
    city.apply("ward-a")
    city.settle()
    assert city.at_ward()[0][1] == 2
    assert city.at_portal()[0][1] == "handled"
    assert city.corrections() == []


# ------------------------------------------------------------------ quiet
def test_after_quiet_not_one_message_more(city: City) -> None:
    """The ward's trigger changes every row we write; neither that nor our own writes go round again."""
    for n in range(5):
        city.submit(f"N{n}")
    city.sql("portal", "INSERT INTO charge (application_id, code, amount) SELECT id, 'LP1', 1 FROM application")
    city.settle()
    city.sql("ward-a", "UPDATE ho_so SET trang_thai = 2")
    city.sql("ward-a", "UPDATE ho_so SET dien_thoai = '1' WHERE ma_qg = 'N0'")
    city.settle()
    total = city.bus.total()
    assert city.settle() == 0
    assert city.bus.total() == total


def test_a_touch_without_a_change_ends_at_the_hub(city: City) -> None:
    city.submit()
    city.settle()
    sent = sum(len(log) for topic, log in city.bus.topics.items() if topic != frames.TOPIC)
    city.sql("ward-a", "UPDATE ho_so SET ghi_chu = ghi_chu")
    city.sql("portal", "UPDATE application SET remark = 'x'; UPDATE application SET remark = 'ban đầu'")
    city.settle()
    assert sum(len(log) for topic, log in city.bus.topics.items() if topic != frames.TOPIC) == sent


# ------------------------------------------------------------------ existence
def test_the_owners_delete_empties_the_ward(city: City) -> None:
    city.submit()
    city.settle()
    city.sql("portal", "DELETE FROM application")
    city.settle()
    assert city.at_ward() == []
    assert city.settle() == 0


def test_a_delete_in_the_ward_is_a_request_and_the_row_comes_back(city: City) -> None:
    city.submit()
    city.settle()
    city.sql("ward-a", "DELETE FROM ho_so")
    city.settle()
    assert [(system, field) for system, field, _, _ in city.corrections()] == [("ward-a", "record")]
    assert city.at_ward() == [WARD_ROW]
    assert len(city.at_portal()) == 1
    assert city.settle() == 0


# ------------------------------------------------------------------ ward A → city → ward B
def test_a_dossier_that_is_handed_over_leaves_one_ward_and_arrives_in_the_other(city: City) -> None:
    city.submit()
    city.settle()
    city.sql("portal", "UPDATE application SET unit = %s", UNIT_B)
    city.settle()
    assert (city.at_ward("ward-a"), city.at_ward("ward-b")) == ([], [WARD_ROW])
    city.sql("ward-b", "UPDATE ho_so SET trang_thai = 9")
    city.settle()
    assert city.at_portal()[0][1] == "done"
    assert city.settle() == 0


def test_what_the_first_ward_did_reaches_the_second_through_the_city(city: City) -> None:
    city.submit()
    city.settle()
    city.sql("ward-a", "UPDATE ho_so SET trang_thai = 3, can_bo = 'Lê Thị C'")
    city.settle()
    city.sql("portal", "UPDATE application SET unit = %s", UNIT_B)
    city.settle()
    assert city.sql("ward-b", "SELECT trang_thai, can_bo FROM ho_so") == [(3, "Lê Thị C")]
    city.sql("ward-b", "UPDATE ho_so SET trang_thai = 9")
    city.settle()
    assert city.at_portal()[0][1] == "done"
    kept = city.sql("ward-a", "SELECT reason FROM lienthong.parked")
    assert kept == [("withdraw_kept",)], "A worked on its row, so it is kept there and shown, never silently deleted"
    assert city.settle() == 0


def test_a_dossier_handed_there_and_back_is_whole_again(city: City) -> None:
    city.submit()
    city.settle()
    for unit in (UNIT_B, UNIT_A):
        city.sql("portal", "UPDATE application SET unit = %s", unit)
        city.settle()
    assert (city.at_ward("ward-a"), city.at_ward("ward-b")) == ([WARD_ROW], [])
    city.sql("ward-a", "UPDATE ho_so SET trang_thai = 9")
    city.settle()
    assert city.at_portal()[0][1] == "done"


def test_a_new_authority_table_folds_what_is_there_already(city: City) -> None:
    city.submit()
    city.settle()
    city.sql("ward-a", "UPDATE ho_so SET trang_thai = 2")
    city.settle()
    assert golden.follow_authority(city.hub, city.settings) == 0  # the first start only remembers
    changed = city.settings.model_dump()
    changed["authority"]["dossier"]["processing"] = [{"order": ["portal", "kind:ward"], "basis": "a new decree"}]
    assert golden.follow_authority(city.hub, Settings.model_validate(changed)) > 0
    assert city.hub_sql("SELECT body->>'status' FROM hub.record WHERE entity = 'dossier'") == [("1",)]
    assert golden.follow_authority(city.hub, Settings.model_validate(changed)) == 0
