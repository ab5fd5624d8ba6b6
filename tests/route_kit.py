"""A hub whose golden records the test writes itself, a router over it, and topics that remember."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest

import schemas
from connectors.avro import id_codec, unframe
from connectors.kafka import Message
from connectors.postgres import connect, transaction
from lienthong import hub_schema, in_doubt, route
from lienthong.errors import TransientError
from lienthong.readers import to_micros
from lienthong.route import Router
from lienthong.settings import Settings

UNIT_A, UNIT_B = "26737", "26740"
CITY = {"order": ["portal", "kind:ward"], "basis": "Decree 118"}
DAY = to_micros(datetime(2026, 3, 5, 3, tzinfo=UTC))
DOSSIER = {
    "national_code": "N-SECRET",
    "procedure_code": "1.001",
    "submitted_at": DAY,
    "status": 4,
    "processing_unit": UNIT_A,
    "applicant_name": "Nguyễn Văn An",
    "applicant_phone": "0901234567",
    "applicant_personal_number": "079200000001",
    "note": "a note",
}
PERSONAL = ("Nguyễn", "0901234567", "079200000001", "N-SECRET", "a note", "LOCAL-KEY")
WARD: dict[str, Any] = {entity: {"fields": "all", "where": {"units": "own"}} for entity in ("dossier", "fee", "citizen")}


def settings(dsn: str, contracts: Mapping[str, Any] | None = None, **wards: Any) -> Settings:
    """A portal that receives nothing, and two wards that receive what is theirs; `contracts` is ward -> entities."""
    granted = {"ward-a": WARD, "ward-b": WARD} if contracts is None else contracts
    groups = {group: [CITY] for group in ("record", "routing", "intake", "payment", "result", "processing")}
    system = {"profile": "p", "dsn": "x", "capture": "none"}
    return Settings.model_validate(
        {
            "hub": {"dsn": dsn},
            "kafka": {"bootstrap": "x"},
            "profiles": {"p": {"profile": "p", "entities": {"dossier": {"table": "t", "key": "k", "fields": {"note": "note"}}}}},
            "systems": {
                "portal": {**system, "kind": "portal"},
                "ward-a": {**system, "kind": "ward", "units": [UNIT_A], **wards.get("ward_a", {})},
                "ward-b": {**system, "kind": "ward", "units": [UNIT_B]},
            },
            "authority": {"dossier": groups, "fee": {"record": [CITY], "content": [CITY]}},
            "contracts": {
                name: {"system": name, "purpose": "handling", "legal_ground": "a decree", "entities": entities} for name, entities in granted.items()
            },
        }
    )


@dataclass(frozen=True)
class Sent:
    """One message, read back."""

    system: str
    kind: str
    value: dict[str, Any]
    key: bytes
    body: bytes
    headers: list[tuple[str, bytes]]

    @property
    def meta(self) -> dict[str, Any]:
        return dict(self.value["meta"])

    @property
    def record(self) -> int:
        return int(self.value["record"] if "record" in self.value else self.meta["record"])

    @property
    def brief(self) -> tuple[str, str, int]:
        """System, what (withdraw and delete are told apart), record."""
        return self.system, self.value.get("reason", self.kind), self.record


@dataclass
class Topics:
    """Stands in for the producer and the reader of topics' ends: remembers what was sent, and fails when told to."""

    sent: list[Sent] = field(default_factory=list)  # of the present step; a test may clear it
    log: list[Sent] = field(default_factory=list)
    broken: bool = False
    flushed: int = 0

    def send(self, topic: str, value: bytes, *, key: bytes, partition: int, headers: list[tuple[str, bytes]]) -> None:
        assert partition == 0
        schema_id, body = unframe(value)
        (kind,) = (name for name in schemas.RECORDS if schemas.schema_id(name) == schema_id)
        self.log.append(Sent(topic.removeprefix("lienthong.out."), kind, id_codec(schema_id).decode(body), key, value, headers))
        self.sent.append(self.log[-1])

    def flush(self) -> dict[str, tuple[int, int]]:
        if self.broken:
            raise TransientError("the broker is away")
        first, self.flushed = self.flushed, len(self.log)
        before, now = self._ends(first), self._ends(self.flushed)
        return {topic: (before.get(topic, 0), end - 1) for topic, end in now.items() if end > before.get(topic, 0)}

    def _ends(self, count: int) -> Counter[str]:
        return Counter(f"lienthong.out.{sent.system}" for sent in self.log[:count])

    def ends(self, topics: Sequence[str]) -> dict[str, int]:
        self.flushed = len(self.log)
        return {topic: self._ends(len(self.log))[topic] for topic in topics}

    def between(self, topic: str, start: int, end: int) -> list[Message]:
        there = [sent for sent in self.log if f"lienthong.out.{sent.system}" == topic][start:end]
        return [Message(topic, 0, start + n, 0, sent.key, sent.body, ()) for n, sent in enumerate(there)]

    def close(self) -> None:
        pass


@contextmanager
def city_in_memory(dsn: str, patch: pytest.MonkeyPatch) -> Iterator[City]:
    """A city whose router speaks to topics in memory."""
    topics = Topics()
    patch.setattr(route, "Producer", lambda *_, **__: topics)
    patch.setattr(in_doubt, "Ends", lambda _: topics)
    hub_schema.install(dsn)
    made = City(dsn, topics)
    yield made
    made.close()


class City:
    """A hub whose golden records the test writes itself, and a router."""

    def __init__(self, dsn: str, topics: Topics) -> None:
        self.dsn, self.topics = dsn, topics
        self.connection = connect(dsn, application_name="test")
        self.router = Router(settings(dsn))

    def reconfigure(self, contracts: Mapping[str, Any] | None = None, **wards: Any) -> int:
        """Restart the router with other contracts; returns how many records it will look at again."""
        self.router.connection.close()
        self.router = Router(settings(self.dsn, contracts, **wards))
        return self.router.note_contracts()

    def sql(self, statement: str, *arguments: Any) -> list[tuple[Any, ...]]:
        with transaction(self.connection) as cursor:
            cursor.execute(statement, arguments)
            return cursor.fetchall() if cursor.description else []

    def put(self, record: int, values: Mapping[str, Any] = DOSSIER, **more: Any) -> None:
        """Write a golden record and note it; `more`: entity, parent, deleted, merged_into, who, lane, resend."""
        who = more.get("who") or {group: "portal" for group in schemas.groups(more.get("entity", "dossier"))}
        self.sql(
            """INSERT INTO hub.record (record, entity, parent, deleted, merged_into, body, who)
               VALUES (%s, %s, %s, %s, %s, %s, %s)
               ON CONFLICT (record) DO UPDATE SET parent = excluded.parent, deleted = excluded.deleted,
                 body = excluded.body,
                 who = excluded.who, merged_into = excluded.merged_into""",
            record,
            more.get("entity", "dossier"),
            more.get("parent"),
            more.get("deleted", False),
            more.get("merged_into"),
            json.dumps(values),
            json.dumps(who),
        )
        self.sql(
            "INSERT INTO hub.changed (record, lane, resend) VALUES (%s, %s, %s)",
            record,
            more.get("lane", 0),
            more.get("resend"),
        )

    def fee(self, record: int, parent: int, **more: Any) -> None:
        self.put(record, {"fee_code": "LP1", "amount": more.pop("amount", 5)}, entity="fee", parent=parent, **more)

    def contribution(self, system: str, record: int, key: str, entity: str = "dossier") -> None:
        self.sql(
            """INSERT INTO hub.contribution (system, entity, local_key, record, epoch, version, op)
               VALUES (%s, %s, %s, %s, 1, 1, 's')""",
            system,
            entity,
            key,
            record,
        )

    def step(self) -> list[Sent]:
        """Route everything that is noted; returns what was sent."""
        self.topics.sent.clear()
        while self.router.step():
            pass
        return list(self.topics.sent)

    def briefs(self) -> list[tuple[str, str, int]]:
        return [sent.brief for sent in self.step()]

    def close(self) -> None:
        self.connection.close()
        self.router.connection.close()
