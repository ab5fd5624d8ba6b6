"""Sets: a document names all its elements, so contributions under it that are not named are gone at the source (S1).

A list that no message carries comes in parts, each for the keys between two of its own.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from connectors.postgres import Cursor, rows
from lienthong import parked_hold
from lienthong.batch import Batch, Key
from lienthong.frames import DELETE, Entry
from lienthong.settings import Parking

KINDS = ("set", "set_part")


def missing(cursor: Cursor, parking: Parking, batch: Batch, latest: Collection[Key]) -> list[Entry]:
    """The deletes that the batch's sets stand for; what waits behind a refused element is ended too."""
    made: dict[Key, Entry] = {}
    for note in batch.notes:
        if note.header.kind not in KINDS:
            continue
        head, root = note.header, note.content["root"]
        had = {
            key
            for (key,) in rows(
                cursor,
                "SELECT local_key FROM hub.contribution WHERE system = %s AND entity = %s AND parent_key = %s AND op = 's'",
                [head.system, head.entity, root],
            )
        }
        if parking.holds(head.entity):
            had |= parked_hold.children_of(cursor, head.system, head.entity, root, batch)
        for key in sorted(key for key in had - set(note.content["keys"]) if _is_within(key, note.content)):
            full = (head.system, head.entity, key)
            if full not in latest and full not in made:
                made[full] = Entry(head.system, head.entity, key, DELETE, head.epoch, head.version, 0, 0, b"", root, None, False, None, head.at)
    return list(made.values())


def _is_within(key: str, content: Mapping[str, Any]) -> bool:
    """Whether a set, or this part of one, answers for a key."""
    above, through = content.get("above"), content.get("through")
    return (above is None or above < key) and (through is None or key <= through)
