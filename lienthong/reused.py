"""Local keys that a restored source has given to another record: serial numbers begin again where the copy stood (R4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

import schemas
from connectors.postgres import Cursor, one, rows
from lienthong import hub, links, parked
from lienthong.batch import Batch, Item
from lienthong.frames import DELETE, STATE
from lienthong.identity import agree, claim_of
from lienthong.keys import former_key

_END = """
UPDATE hub.contribution c SET op = 'd' FROM unnest(%s::text[], %s::text[], %s::text[]) AS d(system, entity, local_key)
JOIN hub.contribution n USING (system, entity, local_key)
WHERE n.op = 'd' AND c.record = n.record AND c.system = n.system AND c.epoch < n.epoch AND c.op = 's' AND NOT EXISTS (
  SELECT FROM hub.contribution o WHERE o.record = n.record AND o.system = n.system AND o.op = 's' AND o.epoch = n.epoch)
"""


def part(cursor: Cursor, items: Sequence[Item], batch: Batch) -> None:
    """Let go of what was known under keys that are another record's in the new epoch.

    What the source said before stays with its record, under a key of its own, and a person decides about it as about all that is forgotten.
    """
    for item in items:
        if item.known is not None and item.entry.epoch > item.known.epoch and item.known.op != "p" and _is_another(cursor, item):
            _keep(cursor, item, batch)
            item.known = None
        if item.known is None and item.entry.record is not None and item.entry.epoch > 1 and not item.before:
            item.before = _former_words(cursor, item)


def _is_another(cursor: Cursor, item: Item) -> bool:
    """By the record that we wrote the row for, by the dossier above, by the identifier, and where there is none by what is the same in one record.

    A citizen's number may be corrected, and then the name and the birth year are the same. Dossiers of one procedure and day are many.
    """
    entry, known = item.entry, item.known
    assert known is not None
    if entry.op != STATE:
        return False
    if entry.record is not None:
        return links.living(cursor, entry.record) != links.living(cursor, known.record)
    if entry.parent is not None and known.parent_key == former_key(entry.parent, known.epoch):
        return True
    claim = claim_of(entry.entity, item.values, item.parent)
    before = {known.claim} if known.claim is not None else _claims(cursor, known.record)
    if claim in before:
        return False
    if claim is not None and before and entry.entity != "citizen":
        return True
    said = _golden(cursor, known.record) if known.delivered else hub.bodies(cursor, [item.key]).get(item.key, {})
    return said is None or not agree(entry.entity, item.values, said)


def _former_words(cursor: Cursor, item: Item) -> dict[str, Any]:
    """What the source said in an earlier epoch about a record that it was given back under another key: those fields are its word again."""
    entry = item.entry
    found = one(
        cursor,
        """SELECT coalesce(c.body::text, r.body::text) FROM hub.contribution c JOIN hub.record r USING (record)
           WHERE c.record = %s AND c.system = %s AND c.op = 's' AND c.epoch < %s ORDER BY c.epoch DESC, c.version DESC LIMIT 1""",
        [links.living(cursor, int(entry.record or 0)), entry.system, entry.epoch],
    )
    return orjson.loads(found[0]) if found and found[0] else {}


def _claims(cursor: Cursor, record: int) -> set[str]:
    """The identifiers that anybody has claimed for a record: of a row that we wrote, its system has said nothing."""
    return {claim for (claim,) in rows(cursor, "SELECT DISTINCT claim FROM hub.contribution WHERE record = %s AND claim IS NOT NULL", [record])}


def _golden(cursor: Cursor, record: int) -> dict[str, Any] | None:
    """What a record says; None of one that is deleted."""
    found = one(cursor, "SELECT body FROM hub.record WHERE record = %s AND NOT deleted", [links.living(cursor, record)])
    return found[0] if found else None


def _lives(cursor: Cursor, system: str, record: int, epoch: int) -> bool:
    """Whether the source has it in its new life already, under another key."""
    statement = "SELECT 1 FROM hub.contribution WHERE record = %s AND system = %s AND op = 's' AND epoch = %s LIMIT 1"
    return one(cursor, statement, [record, system, epoch]) is not None


def end(cursor: Cursor, items: Sequence[Item]) -> None:
    """What a source deletes in a new life is gone for it, also where it said in an earlier one, under another key, that it exists."""
    gone = [item.key for item in items if item.entry.op == DELETE and item.entry.epoch > 1]
    if gone:
        cursor.execute(_END, [list(column) for column in zip(*gone, strict=True)])


def _keep(cursor: Cursor, item: Item, batch: Batch) -> None:
    entry, known = item.entry, item.known
    assert known is not None
    key = former_key(entry.key, known.epoch)
    cursor.execute("UPDATE hub.contribution SET local_key = %s WHERE (system, entity, local_key) = (%s, %s, %s)", [key, *item.key])
    if known.op == "s" and _golden(cursor, known.record) is not None and not _lives(cursor, entry.system, known.record, entry.epoch):
        parked.ghost(cursor, batch, entry.at, (entry.system, entry.entity, key), known.version, "its local key is another record's now: ")
    if entry.parent is not None:
        return
    cursor.execute(
        "UPDATE hub.contribution SET parent_key = %s WHERE system = %s AND entity = ANY(%s) AND parent_key = %s AND epoch < %s",
        [former_key(entry.key, known.epoch), entry.system, list(schemas.ENTITIES), entry.key, entry.epoch],
    )
    _part_children(item, batch)


def _part_children(root: Item, batch: Batch) -> None:
    """What the batch says of children that were under the root before: they have another parent, and nobody has ended them."""
    for child in list(batch.items):
        if child.known is None or (child.entry.system, child.entry.parent) != (root.entry.system, root.entry.key):
            continue
        if child.known.parent_key == root.entry.key and child.known.epoch < root.entry.epoch:
            child.known.parent_key = former_key(root.entry.key, child.known.epoch)
            if child.entry.op == DELETE:
                batch.items.remove(child)
                batch.counts[child.entry.at, child.entry.system, child.entry.entity, "older"] += 1
