"""A hub with a merger over it, and hand-made frames to merge."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from connectors.kafka import Message
from connectors.postgres import rows, transaction
from lienthong import frames, hub, parked
from lienthong.frames import DELETE, STATE, FrameBuilder, Header, encode_body, mask_of, note_frame, pack_entry
from lienthong.merge import Batch, Merger
from lienthong.readers import to_micros
from lienthong.settings import Settings
from lienthong.vault import Vault

CITY_FIRST = {"order": ["portal", "one-stop", "kind:ward"], "basis": "Decree 118: the city keeps it"}
HANDLER_FIRST = {
    "order": ["@processing", "portal", "one-stop", "kind:ward"],
    "basis": "Decree 61: who handles it decides",
}
AGENCY_A, AGENCY_B = "000.00.01.H29", "000.00.02.H29"
DAY = to_micros(datetime(2026, 3, 5, 3, tzinfo=UTC))
DOSSIER = {
    "procedure_code": "1.001",
    "submitted_at": DAY,
    "received_at": DAY,
    "applicant_name": "Nguyễn Văn An",
    "status": 4,
    "processing_agency_code": AGENCY_A,
}


def settings(dsn: str) -> Settings:
    groups = {group: [CITY_FIRST] for group in ("record", "routing", "intake", "payment")}
    dossier = groups | {"processing": [HANDLER_FIRST], "result": [HANDLER_FIRST]}
    child = {"record": [HANDLER_FIRST], "content": [HANDLER_FIRST]}
    person = {group: [CITY_FIRST] for group in ("record", "identity", "residence", "contact")}
    system = {"profile": "p", "dsn": "x"}
    return Settings.model_validate(
        {
            "hub": {"dsn": dsn},
            "kafka": {"bootstrap": "x"},
            "profiles": {"p": {"profile": "p", "entities": {"dossier": {"table": "t", "key": "k", "fields": {"note": "note"}, "events": "s"}}}},
            "systems": {
                "portal": {**system, "kind": "portal"},
                "one-stop": {**system, "kind": "one-stop"},
                "ward-a": {**system, "kind": "ward", "agencies": [AGENCY_A]},
                "ward-b": {**system, "kind": "ward", "agencies": [AGENCY_B]},
            },
            "authority": {
                "dossier": dossier,
                "fee": child,
                "dossier_component": child,
                "dossier_event": {"record": [CITY_FIRST], "step": [CITY_FIRST]},
                "citizen": person,
            },
            "contracts": {},
        }
    )


# ------------------------------------------------------------------ hand-made frames
def state(
    system: str,
    key: str,
    version: int,
    values: Mapping[str, Any],
    *,
    entity: str = "dossier",
    parent: str | None = None,
    **more: Any,
) -> bytes:
    """A frame with one state of one record; `more`: record, delivered, edited (names), epoch."""
    mask = mask_of(entity, values)
    bits = {name: mask_of(entity, [name]) for name in values}
    nulls, body = encode_body(entity, dict(values), bits, mask)
    edited = mask_of(entity, more["edited"]) if "edited" in more else None
    packed = pack_entry(
        STATE,
        key,
        parent=parent,
        record=more.get("record"),
        delivered=more.get("delivered", False),
        edited=edited,
        nulls=nulls,
        body=body,
    )
    return framed(Header(system, entity, "records", more.get("epoch", 1), version, mask, DAY), packed)


def gone(
    system: str, key: str, version: int, *, entity: str = "dossier", parent: str | None = None, delivered: bool = False, epoch: int = 1
) -> bytes:
    """A frame that says a record is no longer there."""
    packed = pack_entry(DELETE, key, parent=parent, record=None, delivered=delivered, edited=None, nulls=0, body=b"")
    return framed(Header(system, entity, "records", epoch, version, 0, DAY), packed)


def framed(header: Header, *packed: bytes) -> bytes:
    builder = FrameBuilder(header)
    for one in packed:
        builder.add(one)
    frame = builder.close()
    assert frame is not None
    return frame


def refused(system: str, key: str, version: int, *, reason: str = "unmapped_word") -> bytes:
    payload = base64.b64encode(Vault(None).seal(b'{"status":"?"}')).decode()
    content = {"key": key, "field": "status", "reason": reason, "message": "a word", "payload": payload}
    return note_frame(Header(system, "dossier", "refused", 1, version, 0, DAY), [content])[0]


def message(frame: bytes, offset: int = 0, partition: int = 0) -> Message:
    return Message(frames.TOPIC, partition, offset, 0, None, frame, ())


X1 = state("ward-a", "X", 1, DOSSIER | {"local_code": "L1"})
Y = state("portal", "Y", 2, DOSSIER | {"national_code": "N1"})
X2 = state("ward-a", "X", 3, DOSSIER | {"local_code": "L1", "national_code": "N1"})
FEE_X = state("ward-a", "X|1", 1, {"fee_code": "LP1", "amount": 50_000}, entity="fee", parent="X")
FEE_Y = state("portal", "Y|1", 2, {"fee_code": "LP1", "amount": 50_000, "name": "Lệ phí"}, entity="fee", parent="Y")
PAPER_X = state("ward-a", "X|2", 1, {"component_code": "A"}, entity="dossier_component", parent="X")
PAPER_Y = state("portal", "Y|2", 2, {"component_code": "B"}, entity="dossier_component", parent="Y")


class Hub:
    """A hub with one merger that reads one partition."""

    def __init__(self, dsn: str, partition: int = 0) -> None:
        self.dsn, self.partition = dsn, partition
        self.settings = settings(dsn)
        self.connection = hub.open_hub(dsn, "merge")
        self.merger = Merger(self.settings, self.connection)
        self._at: int | None = None

    def merge(self, *sent: bytes) -> Batch:
        """Merge frames as one batch."""
        start = self._at or 0
        messages = [message(frame, start + n, self.partition) for n, frame in enumerate(sent)]
        batch = self.merger.merge(messages, {(frames.TOPIC, self.partition): (self._at, start + len(sent))})
        self._at = start + len(sent)
        return batch

    def each(self, *sent: bytes) -> None:
        """Merge frames in a batch of their own each."""
        for frame in sent:
            self.merge(frame)

    def sql(self, statement: str, *arguments: Any) -> list[tuple[Any, ...]]:
        with transaction(self.connection) as cursor:
            return rows(cursor, statement, list(arguments))

    def golden(self, entity: str = "dossier") -> list[dict[str, Any]]:
        """The living golden records of an entity."""
        found = self.sql(
            "SELECT body FROM hub.record WHERE entity = %s AND merged_into IS NULL AND NOT deleted ORDER BY record",
            entity,
        )
        return [body for (body,) in found]

    def counts(self, outcome: str) -> int:
        return int(self.sql("SELECT coalesce(sum(n), 0)::int FROM hub.counter WHERE outcome = %s", outcome)[0][0])

    def parked(self, kind: str) -> list[dict[str, Any]]:
        return [p for p in parked.listing(self.connection) if p["kind"] == kind]

    def corrections(self) -> list[tuple[Any, ...]]:
        return self.sql("SELECT system, field, asked, golden, owner FROM hub.correction ORDER BY id")

    def contents(self) -> dict[str, list[tuple[Any, ...]]]:
        """Everything in the hub but clocks."""
        tables = (
            "contribution",
            "identifier",
            "consumer_offset",
            "counter",
            "changed",
            "history",
            "correction",
            "parked",
            "record",
        )
        return {table: self.sql(f"SELECT to_jsonb(t) - 'at' FROM hub.{table} t ORDER BY 1") for table in tables}  # noqa: S608
