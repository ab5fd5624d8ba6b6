# ruff: noqa: S608 - names of our own in statements
"""One captured source for tests: its tables, its line in either form, what was published, and the hub it is merged into.

Run as a module it is a capture process that a test may kill: its settings come on standard input.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kafka import KafkaConsumer, TopicPartition

from connectors.kafka import Admin, Message, Producer
from connectors.postgres import Connection, connect, one, rows, transaction
from lienthong import frames, hub, parked
from lienthong.capture.line import Line
from lienthong.capture.outbox import OutboxLine
from lienthong.capture.run import line_for
from lienthong.capture.run import run as run_capture
from lienthong.capture.wal import WalLine, slot_name
from lienthong.ddl import ddl_for
from lienthong.frames import STATE, Entry, Header, Note
from lienthong.merge import Merger
from lienthong.merging import moves_of
from lienthong.settings import Settings
from lienthong.vault import Vault

PARTITIONS = 2
QUIET_SECONDS = 30.0
STATUSES = {"new": 1, "accepted": 2, "working": 4, "waiting": 5, "done": 9}

TABLES = """
CREATE TABLE address (id bigint PRIMARY KEY, line text);
CREATE TABLE dossier (
    id bigint PRIMARY KEY, procedure text NOT NULL DEFAULT '1.004222', submitted timestamptz NOT NULL DEFAULT '2026-03-02 08:00+07',
    applicant text DEFAULT 'Nguyễn Thị Ánh', status text DEFAULT 'new', note text, summary text, address_id bigint
);
CREATE TABLE officer (id serial PRIMARY KEY, dossier_id bigint, name text);
CREATE TABLE "Lệ phí" (unit text, "Mã" text, dossier_id bigint NOT NULL, amount bigint NOT NULL, PRIMARY KEY (unit, "Mã"));
"""

PROFILE: dict[str, Any] = {
    "profile": "vendor",
    "entities": {
        "dossier": {
            "table": "dossier",
            "key": "id",
            "events": "status",
            "parts": {
                "officer": {"table": "officer", "on": {"dossier_id": "id"}},
                "address": {"table": "address", "on": {"id": "address_id"}},
            },
            "fields": {
                "procedure_code": "procedure",
                "submitted_at": "submitted",
                "applicant_name": "applicant",
                "applicant_address": "address.line",
                "status": {"column": "status", "values": STATUSES},
                "handler_name": "officer.name",
                "note": "note",
                "summary": "summary",
            },
        },
        "fee": {
            "table": '"Lệ phí"',
            "key": ["unit", "Mã"],
            "parent": {"entity": "dossier", "columns": ["dossier_id"]},
            "fields": {"fee_code": "Mã", "amount": "amount"},
        },
    },
}

_TRUTH = """
SELECT d.id::text, d.applicant, a.line, d.status, o.name, d.note, d.summary
FROM dossier d LEFT JOIN officer o ON o.dossier_id = d.id LEFT JOIN address a ON a.id = d.address_id
"""
FIELDS = ("applicant_name", "applicant_address", "status", "handler_name", "note", "summary")


def settings_for(form: str, system: str, dsn: str, hub_dsn: str, bootstrap: str, profile: Mapping[str, Any] = PROFILE) -> Settings:
    """The configuration of one captured system whose word counts for everything."""
    return Settings.model_validate(
        {
            "hub": {"dsn": hub_dsn},
            "kafka": {"bootstrap": bootstrap, "partitions": PARTITIONS},
            "systems": {system: {"profile": profile["profile"], "dsn": dsn, "capture": form, "kind": "ward"}},
            "profiles": {profile["profile"]: profile},
            "authority": {},
            "contracts": {},
        }
    )


class Published:
    """Frames of the in-topic, opened."""

    def __init__(self, messages: Iterable[Message]) -> None:
        self.entries: list[Entry] = []
        self.notes: list[Note] = []
        self.headers: list[Header] = []
        for message in messages:
            header, packed = frames.open_frame(message.value or b"")
            self.headers.append(header)
            if header.kind == "records":
                self.entries += frames.unpack_entries(header, packed)
            else:
                self.notes += frames.unpack_notes(header, packed)

    def states(self) -> dict[tuple[str, str], dict[str, Any] | None]:
        """The newest values of each record; None where it is gone."""
        newest: dict[tuple[str, str], Entry] = {}
        for entry in self.entries:
            held = newest.get((entry.entity, entry.key))
            if held is None or (entry.epoch, entry.version) > (held.epoch, held.version):
                newest[entry.entity, entry.key] = entry
        return {key: entry.values() if entry.op == STATE else None for key, entry in newest.items()}

    def field(self, name: str, entity: str = "dossier") -> dict[str, Any]:
        """One field of the newest states, by key; 'gone' for records that are."""
        return {key: "gone" if values is None else values[name] for (e, key), values in self.states().items() if e == entity}

    def refused(self) -> list[tuple[str, str, str]]:
        """Key, field, reason of what was refused."""
        contents = [note.content for note in self.notes if note.header.kind == "refused"]
        return sorted((c["key"], c["field"], c["reason"]) for c in contents)

    def steps(self) -> list[tuple[str, int | None]]:
        """Root and status of the step notes, in their order."""
        found = sorted((n.content["order"], n.content["root"], n.content["status"]) for n in self.notes if n.header.kind == "step")
        return [(root, status) for _, root, status in found]


class Site:
    """A source with its line; opened and closed by a fixture."""

    def __init__(self, settings: Settings, system: str) -> None:
        self.settings, self.system = settings, system
        self.form = settings.systems[system].capture
        self.dsn = settings.systems[system].dsn
        self._opened: list[Any] = []
        self._lines: list[Line] = []
        self.admin = self.open()
        self.producer = Producer(settings.kafka.bootstrap, client_id="test")
        self.hub = hub.open_hub(settings.hub.dsn, "test")
        self.merger = Merger(settings, self.hub)
        self._positions: dict[tuple[str, int], int | None] = {}
        topics = Admin(settings.kafka.bootstrap)
        topics.ensure({frames.TOPIC: PARTITIONS}, replication=1, settings={})
        topics.close()
        self._consumer = KafkaConsumer(bootstrap_servers=settings.kafka.bootstrap, group_id=None, enable_auto_commit=False)
        self._places = [TopicPartition(frames.TOPIC, partition) for partition in range(PARTITIONS)]
        self._consumer.assign(self._places)
        self._consumer.seek_to_beginning()

    # ------------------------------------------------------------ the source
    def open(self) -> Connection:
        """One more session at the source."""
        connection = connect(self.dsn, application_name="test source")
        self._opened.append(connection)
        return connection

    def sql(self, *statements: str) -> None:
        """Run statements at the source, in one transaction."""
        with transaction(self.admin) as cursor:
            for statement in statements:
                cursor.execute(statement)

    def ask(self, statement: str) -> list[tuple[Any, ...]]:
        """Rows of a query at the source."""
        with transaction(self.admin) as cursor:
            return rows(cursor, statement)

    def install(self, *tables: str) -> None:
        """Create the vendor's tables and what capture needs there."""
        self.sql(*tables, ddl_for(self.system, self.settings))

    def truth(self) -> dict[str, dict[str, Any]]:
        """What the dossiers are at the source, by plain SQL."""
        found = {}
        for key, *values in self.ask(_TRUTH):
            named = dict(zip(FIELDS, values, strict=True))
            found[key] = named | {"status": STATUSES[named["status"]]}
        return found

    # ------------------------------------------------------------ the line
    def line(self) -> Line:
        """A line that has started, as a process of its own would have it."""
        connection = connect(self.settings.hub.dsn, application_name="test line")
        self._opened.append(connection)
        line = line_for(self.settings, self.system, connection, self.producer, Vault(None))
        self._lines.append(line)
        line.start()
        return line

    def drain(self, line: Line) -> Published:
        """Work until everything committed so far has been read; returns what was published by it."""
        found = one(self.admin.cursor(), "SELECT pg_current_wal_lsn() - '0/0'::pg_lsn")
        self.admin.rollback()
        assert found is not None
        give_up = time.monotonic() + QUIET_SECONDS
        while not self._work_once(line, int(found[0])):
            assert time.monotonic() < give_up, "the line does not get through"
        return self.published()

    @staticmethod
    def _work_once(line: Line, target: int) -> bool:
        if isinstance(line, OutboxLine):
            line._next_poll = 0.0
            line.work()
            return True
        assert isinstance(line, WalLine)
        assert line._stream is not None
        if not line.work():
            time.sleep(0.001)
        return not line._waiting and not line._decoder.inside and line._stream.server_position >= target

    def line_after_crash(self, line: Line) -> Line:
        """A new line after the old one has ended as in a crash: nothing is saved, the connections are just gone."""
        line.close()
        line.hub.close()
        self.expire_lease()
        self._await_slot()
        return self.line()

    def expire_lease(self) -> None:
        """As if the holder had been away for long."""
        with transaction(self.hub) as cursor:
            cursor.execute("UPDATE hub.capture_state SET lease_until = '-infinity' WHERE system = %s", [self.system])

    def _await_slot(self) -> None:
        """The server notices a moment later that its reader is gone."""
        for _ in range(200):
            slots = self.ask(f"SELECT active FROM pg_replication_slots WHERE slot_name = '{slot_name(self.system)}'")
            if not slots or not slots[0][0]:
                return
            time.sleep(0.02)

    @contextmanager
    def capture_process(self) -> Iterator[subprocess.Popen[bytes]]:
        """A capture process of its own; killed at the end if it still lives."""
        command = [sys.executable, "-m", "tests.capture_kit"]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, cwd=Path(__file__).parents[1])
        assert process.stdin is not None
        process.stdin.write(f"{frames.TOPIC}\n{self.settings.model_dump_json()}".encode())
        process.stdin.close()
        try:
            yield process
        finally:
            process.kill()
            process.wait()
            self._await_slot()

    # ------------------------------------------------------------ what was published
    def messages(self) -> list[Message]:
        """What has arrived in the in-topic since the last call."""
        ends = self._consumer.end_offsets(self._places)
        found: list[Message] = []
        while any(self._consumer.position(place) < ends[place] for place in self._places):
            for batch in self._consumer.poll(timeout_ms=200).values():
                found += [Message(r.topic, r.partition, r.offset, r.timestamp, r.key, r.value, ()) for r in batch]
        return found

    def published(self) -> Published:
        """The same, opened and merged into the hub."""
        messages = self.messages()
        self.merge(messages)
        return Published(messages)

    def merge(self, messages: Sequence[Message]) -> None:
        """Merge messages into the hub."""
        if messages:
            moves = moves_of(list(messages), self._positions)
            self.merger.merge(list(messages), moves)
            self._positions |= {place: following for place, (_, following) in moves.items()}

    def in_hub(self, entity: str = "dossier") -> dict[str, dict[str, Any]]:
        """What this source says in the hub, by local key."""
        with transaction(self.hub) as cursor:
            found = rows(
                cursor,
                """SELECT local_key, coalesce(c.body::jsonb, r.body) FROM hub.contribution c LEFT JOIN hub.record r USING (record)
                   WHERE (c.system, c.entity) = (%s, %s) AND c.op = 's'""",
                [self.system, entity],
            )
        return dict(found)

    def history(self, root: str) -> list[int]:
        """The statuses of a dossier's steps in the hub, in order."""
        return self.histories()[root]

    def histories(self) -> dict[str, list[int]]:
        """The same of all dossiers."""
        steps: dict[str, list[tuple[int, int]]] = {}
        for key, values in self.in_hub("dossier_event").items():
            root, order = key.split("@")
            steps.setdefault(root, []).append((int(order.rpartition(".")[2], 16), values["status"]))
        return {root: [status for _, status in sorted(found)] for root, found in steps.items()}

    def parked(self) -> list[dict[str, Any]]:
        """What is parked of this source."""
        return parked.listing(self.hub, parked.Wanted(system=self.system))

    def assert_same(self) -> None:
        """The hub holds exactly what the source does."""
        expected, held = self.truth(), self.in_hub()
        found = {key: {name: values[name] for name in FIELDS} for key, values in held.items()}
        wrong = {key: (found.get(key), expected.get(key)) for key in found.keys() | expected.keys() if found.get(key) != expected.get(key)}
        assert wrong == {}, f"hub and source: {wrong}"

    def state(self) -> dict[str, Any]:
        """The source's row in the hub."""
        with transaction(self.hub) as cursor:
            found = rows(cursor, "SELECT to_jsonb(s) FROM hub.capture_state s WHERE system = %s", [self.system])
        return dict(found[0][0])

    def close(self) -> None:
        """Close everything, and drop the slot, which would hold the log of the tests' server."""
        for line in self._lines:
            line.close()
        self.producer.close()
        self._consumer.close(autocommit=False)
        self.admin.rollback()
        self._await_slot()
        self.sql(f"SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = '{slot_name(self.system)}'")
        for connection in [*self._opened, self.hub]:
            connection.close()


def main() -> None:
    """Capture until killed: the first line is the topic, the rest the settings."""
    topic, document = sys.stdin.read().split("\n", 1)
    frames.TOPIC = topic
    settings = Settings.model_validate_json(document)
    run_capture(settings, list(settings.systems), Vault(None), lambda: False)


if __name__ == "__main__":
    main()
