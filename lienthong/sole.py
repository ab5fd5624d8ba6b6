"""States of records that only their system speaks about: its word is the golden record, so one statement finds them and stores it all."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import orjson

from connectors.avro import DamagedError
from connectors.postgres import Cursor
from lienthong import hub
from lienthong.batch import Batch, Key
from lienthong.frames import STATE, Entry
from lienthong.identity import claim_of


def store(cursor: Cursor, batch: Batch, latest: dict[Key, Entry], is_static: Callable[[Entry], bool], among: Collection[Key]) -> None:
    """Store what can be, of the entries of some keys, and take it out of `latest`; the rest goes the general way."""
    tried: list[Key] = []
    given: list[tuple[Any, ...]] = []
    for key in among:
        entry = latest.get(key)
        if entry is not None and _may_be_whole(entry) and is_static(entry):
            try:
                given.append(_row(len(given), entry))
            except DamagedError:  # it is parked on the general way
                continue
            tried.append(key)
    for n, record, differs, rerouted in hub.update_sole(cursor, given):
        entry = latest.pop(tried[n])
        batch.stored.append(entry)
        batch.stored_records.append(record)
        batch.counts[entry.at, entry.system, entry.entity, "merged" if differs else "unchanged"] += 1
        if rerouted:
            batch.rerouted.append(record)


def _may_be_whole(entry: Entry) -> bool:
    """Whether a state is the system's own, of a row that we have not written to."""
    return entry.op == STATE and entry.edited is None and entry.seen is None and entry.record is None


def _row(n: int, entry: Entry) -> tuple[Any, ...]:
    values = entry.values()
    return (
        n,
        entry.system,
        entry.entity,
        entry.key,
        entry.parent,
        claim_of(entry.entity, values, None),
        entry.epoch,
        entry.version,
        entry.delivered,
        entry.mask,
        entry.at,
        orjson.dumps(values).decode(),
    )
