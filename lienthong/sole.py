"""States of records that only their system speaks about: its word is the golden record, so one statement stores it all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from connectors.postgres import Cursor
from lienthong import hub
from lienthong.batch import Batch, Item, contribution_of
from lienthong.errors import TransientError


def store(cursor: Cursor, batch: Batch, whole: Mapping[int, Item]) -> tuple[list[Item], list[int]]:
    """Store items by record id; returns those whose record others speak about meanwhile, and the records whose roles have changed."""
    stored, in_place = hub.update_sole(cursor, [_row(whole[record]) for record in sorted(whole)])
    for record, differs, _ in stored:
        entry = whole[record].entry
        batch.counts[entry.at, entry.system, entry.entity, "merged" if differs else "unchanged"] += 1
    done = {record for record, *_ in stored}
    batch.stored = [whole[record] for record in done]
    if in_place != len(done):
        in_place += hub.put_contributions(cursor, [contribution_of(item, whole=True) for item in batch.stored])
    if in_place != len(done):
        raise TransientError("a newer contribution was stored meanwhile; the batch is merged again")
    return [item for record, item in whole.items() if record not in done], [record for record, _, rerouted in stored if rerouted]


def _row(item: Item) -> tuple[Any, ...]:
    entry, known = item.entry, item.known
    assert known is not None
    return (
        known.place,
        entry.system,
        entry.entity,
        item.record,
        entry.epoch,
        entry.version,
        entry.delivered,
        entry.mask,
        entry.at,
        orjson.dumps(item.values).decode(),
    )
