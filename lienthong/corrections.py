"""Edits by systems that do not own the field: kept as requests to the owner, and the golden value is sent back (design §3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import schemas
from connectors.postgres import Cursor
from lienthong import frames, hub
from lienthong.authority import RECORD, Golden
from lienthong.batch import Batch, Item
from lienthong.frames import DELETE


def keep(cursor: Cursor, batch: Batch, items: Sequence[Item], folded: Golden) -> list[tuple[int, int, str | None, int]]:
    """Keep what the items ask for against the golden record; returns the entries for the change list that send it back."""
    back: list[tuple[int, int, str | None, int]] = []
    for item in items:
        entry = item.entry
        asked = _asked(item, folded)
        if asked:
            hub.put_corrections(cursor, entry.system, entry.entity, item.record, entry.version, asked)
            batch.counts[entry.at, entry.system, entry.entity, "correction"] += len(asked)
            back.append((item.record, 0, entry.system, entry.at))
    return back


def _asked(item: Item, folded: Golden) -> list[tuple[str, Any, Any, str | None]]:
    entry = item.entry
    if entry.op == DELETE:
        if entry.delivered and entry.record is None:
            return []  # a row of its own that the owner's delete took away
        owner = folded.who.get(RECORD)
        return [(RECORD, None, None, owner)] if not folded.deleted and owner != entry.system else []
    if not entry.edited:
        return []
    out = []
    for name in frames.names_of(entry.entity, entry.edited):
        owner = folded.who.get(schemas.field(entry.entity, name).group, entry.system if not folded.who else None)
        if name in item.before and item.before[name] == item.values.get(name):
            continue  # it has said so before: no new edit
        if owner != entry.system and item.values.get(name) != folded.values.get(name):
            out.append((name, item.values.get(name), folded.values.get(name), owner))
    return out
