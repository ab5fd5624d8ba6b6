"""What the capture machine is made of: the source's layout, its slot and log, the in-topic."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from connectors.kafka import Message
from lienthong import frames
from lienthong.capture.notified import Notified
from lienthong.settings import Settings
from tests.simulation.database import Fuse
from tests.simulation.system_tables import Row, System, Transaction

SYSTEM = "ward"
PARTITIONS = 2
LEASE_SECONDS = 30
COLUMNS = {
    "dossier": {"id": "int8", "procedure": "varchar(20)", "submitted": "varchar(20)", "name": "varchar(20)", "status": "int4", "note": "varchar(20)"},
    "officer": {"id": "int8", "dossier_id": "int8", "name": "varchar(20)"},
}
PROFILE: dict[str, Any] = {
    "profile": "vendor",
    "entities": {
        "dossier": {
            "table": "dossier",
            "key": "id",
            "events": "status",
            "parts": {"officer": {"table": "officer", "on": {"dossier_id": "id"}}},
            "fields": {
                "procedure_code": "procedure",
                "submitted_at": {"column": "submitted", "read": "datetime_compact"},
                "applicant_name": "name",
                "status": "status",
                "note": "note",
                "handler_name": "officer.name",
            },
        },
    },
}
ROW: Row = {"procedure": "1.001", "submitted": "20260305100000", "name": "An"}
KEYS = ("1", "2")
EDITS = [("dossier", key, status, note) for key in KEYS for status in (1, 2, None) for note in ("a", "b") if status or note == "a"]
EDITS += [("officer", "9", root, name) for root in (1, 2, None) for name in ("x", "y") if root or name == "x"]
"""Table, key, status or root (None: the row is deleted), text."""


def settings(form: str) -> Settings:
    everything = [{"order": ["kind:ward"], "basis": "a simulation"}]
    groups = ("record", "routing", "intake", "processing", "result", "payment")
    return Settings.model_validate(
        {
            "hub": {"dsn": "hub"},
            "kafka": {"bootstrap": "none", "partitions": PARTITIONS},
            "systems": {SYSTEM: {"profile": "vendor", "dsn": "source", "capture": form, "kind": "ward"}},
            "profiles": {"vendor": PROFILE},
            "authority": {"dossier": dict.fromkeys(groups, everything), "dossier_event": {"record": everything, "step": everything}},
            "contracts": {},
        }
    )


def notes(table: str, row: Row) -> tuple[Row, Row]:
    """The columns of a row that name its record, and those whose image is wanted."""
    if table == "officer":
        return {"dossier_id": str(row["dossier_id"])}, {}
    return {"id": str(row["id"])}, {"status": str(row["status"])}


class Stream:
    """A slot's stream: whole transactions in the order of their commits, from the confirmed position on, as far as they have come."""

    def __init__(self, source: System) -> None:
        self._source, self._at, self.server_position = source, source.confirmed, 0

    def messages(self, limit: int) -> Iterator[tuple[int, Transaction]]:
        """What has arrived."""
        for transaction in [t for t in self._source.log if t.position > self._at][:limit]:
            self._at = transaction.position
            yield self._at, transaction

    def confirm(self, position: int) -> None:
        """The slot does not give out again what lies before."""
        self._source.fuse.burn()
        self._source.confirmed = max(self._source.confirmed, position)

    def breathe(self) -> None:
        """It lives."""

    def close(self) -> None:
        """It is gone."""


class Decoder:
    """A transaction of the log as notifications: the log names it by 32 bits, and sends of old rows only what their identity holds."""

    inside = False

    def __init__(self, _wanted: Any, begin: Callable[[int, int], Notified]) -> None:
        self._begin = begin

    def feed(self, transaction: Transaction) -> Notified:
        """The transaction, complete."""
        made = self._begin(transaction.xid % (1 << 32), 1_000)
        for change in transaction.changes:
            new = {n: str(v) for part in notes(change.table, change.new) for n, v in part.items()} if change.new is not None else None
            old = notes(change.table, change.old)[0] if change.old is not None else None
            key_is_same = new is not None and old is not None and all(new[n] == v for n, v in old.items())
            made.change(f"public.{change.table}", change.op, new, None if key_is_same else old)
        made.end(transaction.position)
        return made


class InTopic:
    """The in-topic; of what is sent and not acknowledged a part is there when its sender ends."""

    def __init__(self, fuse: Fuse) -> None:
        self.log: list[list[Message]] = [[] for _ in range(PARTITIONS)]
        self._pending: list[tuple[int, bytes]] = []
        self._fuse = fuse

    def send(self, _topic: str, frame: bytes, *, partition: int) -> None:
        """Take one frame."""
        self._fuse.burn()
        self._pending.append((partition, frame))

    def flush(self) -> None:
        """All are there."""
        self._fuse.burn()
        self._arrive(len(self._pending))

    def sender_ends(self) -> None:
        """Half of it had been sent."""
        self._arrive(len(self._pending) // 2)

    def _arrive(self, count: int) -> None:
        for partition, frame in self._pending[:count]:
            self.log[partition].append(Message(frames.TOPIC, partition, len(self.log[partition]), 0, None, frame, ()))
        self._pending.clear()

    def close(self) -> None:
        """Nothing is held."""
