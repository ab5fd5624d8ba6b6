"""A portal and two wards in layouts of their own on real databases, whose lines a test turns by hand; Kafka is a list."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from connectors.kafka import Message
from connectors.postgres import connect, transaction
from lienthong import frames, hub, hub_schema, in_doubt, route
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


WARD_ROW = ("N1", 1, "NGUYỄN VĂN AN", "0901", "ban đầu")


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

    def say(self, *names: str) -> None:
        """Bring what these systems (or all) have to say as far as the out-topics; nobody has read it yet."""
        self.capture(*names)
        self.merge()
        self.route()

    def settle(self) -> int:
        """Run all stages until a whole round brings no message; returns how many messages it took."""
        before = self.bus.total()
        for _ in range(ROUNDS_MAX):
            start = self.bus.total()
            self.say()
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


@contextmanager
def two_way_city(pg: PostgresCluster, database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[City]:
    """The city, settled."""
    bus = Bus()
    monkeypatch.setattr(route, "Producer", lambda *_, **__: bus)
    monkeypatch.setattr(in_doubt, "Ends", lambda _: bus)
    hub_schema.install(database)
    prefix = database.rpartition("/")[2]
    names = {name: f"{prefix}_{name.replace('-', '_')}" for name in ("portal", *WARDS)}
    made = City(settings(database, {name: pg.create_database(local) for name, local in names.items()}), bus)
    made.settle()
    yield made
    made.close()
    for local in names.values():
        pg.drop_database(local)
