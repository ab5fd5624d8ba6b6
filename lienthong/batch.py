"""What one merge transaction works on: entries read from frames, the newest of each source record, notes, counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, get_args

import orjson

import schemas
from connectors.avro import DamagedError
from connectors.kafka import Message
from lienthong import frames
from lienthong.frames import DELETE, STATE, Entry, Header, Note
from lienthong.hub import Known

Key = tuple[str, str, str]


@dataclass(slots=True, eq=False)
class Item:
    """One entry on its way through the merge."""

    entry: Entry
    known: Known | None
    values: dict[str, Any]
    before: dict[str, Any] = field(default_factory=dict)  # what the system said itself up to now, of a row that we write to
    claim: str | None = None
    record: int = 0
    parent: int | None = None
    fresh: bool = False

    @property
    def key(self) -> Key:
        """System, entity, local key."""
        return self.entry.system, self.entry.entity, self.entry.key


@dataclass(slots=True)
class Batch:
    """What one transaction works on."""

    items: list[Item] = field(default_factory=list)
    stored: list[Entry] = field(default_factory=list)  # beside them: what one statement has stored whole
    stored_records: list[int] = field(default_factory=list)  # where
    rerouted: list[int] = field(default_factory=list)  # dossiers of those whose roles have changed
    held: list[Entry] = field(default_factory=list)  # what waits behind a refused state of its record
    notes: list[Note] = field(default_factory=list)
    counts: Counter[tuple[int, str, str, str]] = field(default_factory=Counter)  # by the source's commit (µs), system, entity, outcome
    readings: dict[tuple[int, str, str], int] = field(default_factory=dict)  # their newest reading, by commit, system, entity
    damaged: list[tuple[Message, str]] = field(default_factory=list)
    through: dict[tuple[str, int], int] = field(default_factory=dict)
    again: set[int] = field(default_factory=set)  # records to fold again, though nothing came for them

    def saw(self, header: Header) -> None:
        """Remember how far the readings are."""
        place = (header.at, header.system, header.entity)
        self.readings[place] = max(self.readings.get(place, 0), header.version)


def read_messages(messages: Iterable[Message]) -> tuple[list[Entry], Batch]:
    """Open the frames; what cannot be opened is kept as bytes with its position."""
    batch = Batch()
    entries: list[Entry] = []
    for message in messages:
        try:
            header, packed = frames.open_frame(message.value or b"")
            _check_model(header)
            if header.kind == "records":
                entries += list(frames.unpack_entries(header, packed))  # all of a frame, or nothing of it
            else:
                batch.notes += frames.unpack_notes(header, packed)
            batch.through[header.system, message.partition] = header.at
            batch.saw(header)
        except (DamagedError, KeyError, ValueError) as error:
            batch.damaged.append((message, str(error) if isinstance(error, DamagedError) else type(error).__name__))
            _count_parked(batch, message.value or b"")
    return entries, batch


def _count_parked(batch: Batch, frame: bytes) -> None:
    """The entries of a frame that is parked unopened, when what is left of it proves whose they were and how many."""
    found = frames.proved(frame)
    if found is not None and found[0].kind in ("records", "refused"):
        header, entries = found
        for outcome in ("captured", "parked"):
            batch.counts[header.at, header.system, header.entity, outcome] += entries


def _check_model(header: frames.Header) -> None:
    """Raises `DamagedError` for what a newer version of the service may send and this one cannot read."""
    known = header.kind in get_args(frames.Kind)
    if header.kind == "records":
        known = header.entity in schemas.ENTITIES and not header.mask >> len(schemas.fields(header.entity))
    if not known:
        raise DamagedError("a kind, entity or field that this version does not know")


def newest(entries: Iterable[Entry], batch: Batch) -> dict[Key, Entry]:
    """The newest entry of each source record; the others are counted, never lost from the sum."""
    latest: dict[Key, Entry] = {}
    counts = batch.counts
    for entry in entries:
        counts[entry.at, entry.system, entry.entity, "captured"] += 1
        key = (entry.system, entry.entity, entry.key)
        held = latest.get(key)
        if held is None:
            latest[key] = entry
            continue
        older = (entry.epoch, entry.version) < (held.epoch, held.version)
        same = (entry.epoch, entry.version) == (held.epoch, held.version)
        left = entry if older or same else held
        counts[left.at, left.system, left.entity, "duplicate" if same else "older"] += 1
        if left is held:
            latest[key] = entry
    return latest


def contribution_of(item: Item, *, whole: bool = False) -> tuple[Any, ...]:
    """As a row for the hub; `whole` when the golden record will be its word as it stands."""
    entry = item.entry
    body = orjson.dumps(item.values).decode() if entry.op == STATE and not whole else None
    delivered = entry.delivered or (entry.op == DELETE and item.known is not None and item.known.delivered)
    return (
        entry.system,
        entry.entity,
        entry.key,
        item.record,
        entry.epoch,
        entry.version,
        "s" if entry.op == STATE else "d",
        delivered,
        entry.mask,
        body,
        item.claim,
        entry.parent,
        entry.at,
        entry.seen if entry.seen is not None or item.known is None else item.known.seen,
    )
