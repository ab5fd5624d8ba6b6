"""Contested identifier claims: accept the link, or keep the records apart and park the decision; data flows on either way (B7)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from connectors.postgres import Cursor, rows
from lienthong import hub
from lienthong.batch import Batch, Item, Key
from lienthong.hub import Row
from lienthong.identity import agree, is_claim_of


def settle(cursor: Cursor, contested: Sequence[tuple[Item, int]], batch: Batch) -> None:
    """Decide each claim whose identifier belongs to another record already.

    A link is accepted by itself when both sides agree on the check set and no second contribution comes from the same system.
    """
    mine: dict[int, list[Item]] = defaultdict(list)
    for item in batch.items:
        mine[item.record].append(item)
    for item, first_holder in contested:
        holder = living(cursor, first_holder)
        if holder == item.record:
            continue
        body, systems = _holder(cursor, holder, mine.get(holder, []))
        joining = {item.entry.system} if item.fresh else _systems(cursor, item.record) | {item.entry.system}
        if item.entry.entity == "dossier_event" and joining & systems:
            item.claim = None  # two rows of one system are two steps, even within one second
            continue
        if joining & systems or not agree(item.entry.entity, item.values, body):
            _park(cursor, item, holder, batch, same_system=bool(joining & systems))
            continue
        if item.fresh:
            _move(mine, item, holder)
            hub.note_changed(cursor, [(holder, 0, item.entry.system, item.entry.at)])  # its row shows nothing yet of what it was sent before
        else:
            batch.again |= _join(cursor, item, holder, mine)


def living(cursor: Cursor, record: int) -> int:
    """The record that a record was merged into, or itself."""
    while True:
        found = rows(cursor, "SELECT merged_into FROM hub.record WHERE record = %s", [record])
        if not found or found[0][0] is None:
            return record
        record = int(found[0][0])


def follow_parents(cursor: Cursor, children: Sequence[Item]) -> None:
    """A dossier that was joined with another, in this batch or meanwhile, is no parent any more: the one that stays is."""
    parents = sorted({item.parent for item in children if item.parent is not None})
    if not parents:
        return
    gone = rows(cursor, "SELECT record FROM hub.record WHERE record = ANY(%s) AND merged_into IS NOT NULL", [parents])
    stays = {record: living(cursor, record) for (record,) in gone}
    for item in children:
        item.parent = stays.get(item.parent or 0, item.parent)


def _holder(cursor: Cursor, record: int, here: Sequence[Item]) -> tuple[Mapping[str, Any], set[str]]:
    """Golden values and contributing systems of the record that holds the claim, in the hub or in this very batch."""
    row = hub.lock(cursor, [record]).get(record)
    systems = _systems(cursor, record, deleted=row is not None and row.deleted) | {item.entry.system for item in here}
    body: Mapping[str, Any] = row.body if row is not None and row.body else (here[0].values if here else {})
    return body, systems


def _systems(cursor: Cursor, record: int, *, deleted: bool = False) -> set[str]:
    """The systems that hold a record; of one that is deleted, our copies are on their way out and hold nothing."""
    if deleted:
        return set(_own_rows(cursor, record))
    found = rows(cursor, "SELECT DISTINCT system FROM hub.contribution WHERE record = %s AND op = 's'", [record])
    return {system for (system,) in found}


def _move(mine: dict[int, list[Item]], item: Item, holder: int) -> None:
    mine[item.record].remove(item)
    item.record, item.fresh = holder, all(other.fresh for other in mine.get(holder, [])) and bool(mine.get(holder))
    mine[holder].append(item)


def _join(cursor: Cursor, item: Item, holder: int, mine: dict[int, list[Item]]) -> set[int]:
    """Two records turn out to be one: the older id stays, the other keeps pointing to it. Returns the records to fold again."""
    keep, gone = sorted((holder, item.record))
    hub.lock(cursor, [keep, gone])
    again = merge_records(cursor, keep, gone)
    for other in mine.pop(gone, []):
        other.record, other.fresh = keep, False
        mine[keep].append(other)
    return again


def merge_records(cursor: Cursor, keep: int, gone: int) -> set[int]:
    """Move everything of one record into another, and its children with it; returns the records to fold again.

    A merge beside it could add a child to the record that goes, unseen from here: raises `CrowdedError` when there is one.
    """
    hub.stay_alone(cursor)
    cursor.execute(
        "UPDATE hub.identifier SET record = %s WHERE claim IN (SELECT claim FROM hub.contribution WHERE record = %s AND claim IS NOT NULL)",
        [keep, gone],
    )
    hub.part(cursor, [keep, gone])
    cursor.execute("UPDATE hub.contribution SET record = %s WHERE record = %s", [keep, gone])
    cursor.execute("UPDATE hub.record SET merged_into = %s, sole = NULL, updated_at = now() WHERE record = %s", [keep, gone])
    cursor.execute("UPDATE hub.record SET sole = NULL WHERE record = %s", [keep])
    hub.note_changed(cursor, [(gone, 0, None, 0), (keep, 0, None, 0), *((keep, 0, system, 0) for system in _own_rows(cursor, keep))])
    return {keep} | keep_promise(cursor, keep, gone)


def _own_rows(cursor: Cursor, record: int) -> list[str]:
    """Systems with a row of their own: it may be new here and show nothing yet of what its system was sent before."""
    found = rows(cursor, "SELECT DISTINCT system FROM hub.contribution WHERE record = %s AND op = 's' AND NOT delivered ORDER BY system", [record])
    return [system for (system,) in found]


def keep_promise(cursor: Cursor, keep: int, promised: int) -> set[int]:
    """The parent that children waited for turns out to be a record we know: they become its children, to be folded again."""
    hub.stay_alone(cursor)
    again: set[int] = set()
    for child, entity in rows(cursor, "SELECT record, entity FROM hub.record WHERE parent = %s ORDER BY record", [promised]):
        again |= _adopt(cursor, int(child), entity, keep, promised)
    return again


def _adopt(cursor: Cursor, child: int, entity: str, keep: int, gone: int) -> set[int]:
    """A child of the record that went: its claim is renewed under the record that stays; an equal one there absorbs it."""
    prefix, renewed = f"{entity}:{gone}:", f"{entity}:{keep}:"
    cursor.execute("UPDATE hub.record SET parent = %s WHERE record = %s", [keep, child])
    claims = rows(
        cursor,
        "SELECT DISTINCT claim FROM hub.contribution WHERE record = %s AND claim LIKE %s",
        [child, prefix + "%"],
    )
    hub.note_changed(cursor, [(child, 0, None, 0)])
    for (old,) in claims:
        new = renewed + old[len(prefix) :]
        cursor.execute("INSERT INTO hub.identifier VALUES (%s, %s) ON CONFLICT DO NOTHING", [new, child])
        cursor.execute("UPDATE hub.contribution SET claim = %s WHERE record = %s AND claim = %s", [new, child, old])
        cursor.execute("DELETE FROM hub.identifier WHERE claim = %s", [old])
        holder = rows(cursor, "SELECT record FROM hub.identifier WHERE claim = %s", [new])
        if holder and int(holder[0][0]) != child:
            return merge_records(cursor, int(holder[0][0]), child)
    return {child}


def follow(cursor: Cursor, record: int, by_record: dict[int, list[Item]], old: dict[int, Row]) -> None:
    """Entries for a record that was merged meanwhile belong to the one it was merged into."""
    target = living(cursor, record)
    old.pop(record)
    for item in by_record.pop(record):
        item.record, item.fresh = target, False
        by_record[target].append(item)
    if target not in old:
        old.update(hub.lock(cursor, [target]))


def _park(cursor: Cursor, item: Item, holder: int, batch: Batch, *, same_system: bool) -> None:
    """A person decides; the record goes on under its own id without the contested code."""
    entry = item.entry
    reason = "duplicate_identifier" if same_system else "link_in_doubt"
    why = "the same code twice in one system" if same_system else "the code is another record's and the check values differ"
    words = f"record {item.record} and record {holder} claim one identifier: {why}; the data flows on under both"
    cursor.execute("INSERT INTO hub.waiting VALUES (%s, %s, %s, %s) ON CONFLICT DO NOTHING", [item.claim, *item.key])
    item.claim = None
    cursor.execute(
        """INSERT INTO hub.parked (system, entity, local_key, kind, field, reason, message, version)
           SELECT %s, %s, %s, 'link', %s, %s, %s, %s
           WHERE NOT EXISTS (SELECT 1 FROM hub.parked WHERE system = %s AND entity = %s AND local_key = %s AND kind = 'link'
                             AND (state = 'open' OR (state = 'apart' AND message = %s)))""",  # a person has kept these two apart
        [
            entry.system,
            entry.entity,
            entry.key,
            "identifier",
            reason,
            words,
            entry.version,
            entry.system,
            entry.entity,
            entry.key,
            words,
        ],
    )
    batch.counts[entry.at, entry.system, entry.entity, "link_parked"] += cursor.rowcount


_WAITING = """
SELECT w.claim, w.system, w.entity, w.local_key, c.parent_key, c.record, i.record
FROM hub.waiting w JOIN hub.contribution c USING (system, entity, local_key)
LEFT JOIN hub.identifier i ON i.claim = w.claim WHERE w.claim = ANY(%s) AND c.op = 's' AND c.claim IS NULL ORDER BY w.claim, w.system, w.local_key
"""


def try_again(cursor: Cursor, let_go: Collection[str]) -> set[int]:
    """Give identifiers that their holders let go to the source records that waited for them; returns the records to fold again.

    A dossier that is deleted and filed anew under its code comes by two partitions: the new row may be here before the old one is gone.
    """
    again: set[int] = set()
    for claim, system, entity, key, parent, record, first_holder in rows(cursor, _WAITING, [sorted(let_go)]) if let_go else ():
        values = hub.bodies(cursor, [(system, entity, key)])[system, entity, key]
        if not is_claim_of(claim, entity, values, child=parent is not None):
            continue
        holder = record if first_holder is None else living(cursor, int(first_holder))
        if holder != record and not _may_join(cursor, entity, values, record, holder):
            continue
        again |= _give(cursor, claim, (system, entity, key), record, holder)
    return again


def _may_join(cursor: Cursor, entity: str, values: Mapping[str, Any], record: int, holder: int) -> bool:
    locked = hub.lock(cursor, [record, holder])
    return not _systems(cursor, record) & _systems(cursor, holder, deleted=locked[holder].deleted) and agree(entity, values, locked[holder].body)


def _give(cursor: Cursor, claim: str, key: Key, record: int, holder: int) -> set[int]:
    cursor.execute("INSERT INTO hub.identifier VALUES (%s, %s) ON CONFLICT DO NOTHING", [claim, record])
    cursor.execute("UPDATE hub.contribution SET claim = %s WHERE (system, entity, local_key) = (%s, %s, %s)", [claim, *key])
    _wait_no_more(cursor, key)
    return set() if record == holder else merge_records(cursor, *sorted((record, holder)))


def close_answered(cursor: Cursor) -> None:
    """Close what waited and is answered by now: the claim was accepted with a later state, or the source record is gone."""
    answered = rows(
        cursor,
        """SELECT DISTINCT w.system, w.entity, w.local_key FROM hub.waiting w JOIN hub.contribution c USING (system, entity, local_key)
           WHERE c.claim IS NOT NULL OR c.op = 'd'""",
    )
    for key in answered:
        _wait_no_more(cursor, key)


def _wait_no_more(cursor: Cursor, key: Key) -> None:
    cursor.execute("DELETE FROM hub.waiting WHERE (system, entity, local_key) = (%s, %s, %s)", list(key))
    cursor.execute(
        """UPDATE hub.parked SET state = 'closed', closed_at = clock_timestamp()
           WHERE state = 'open' AND kind = 'link' AND (system, entity, local_key) = (%s, %s, %s)""",
        list(key),
    )
