"""Which row of the target a record is written to: the one that we knew, else the one that the hub knows as the target's own."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from connectors.postgres import Cursor, rows
from lienthong.apply.table import TargetEntity, Write
from lienthong.authority import RECORD

if TYPE_CHECKING:
    from lienthong.apply.target import Arrived, Known


def write_of(item: Arrived, had: Known | None, parents: Mapping[int, str | None]) -> Write:
    """What a message wants written, and where; `parents` are the local keys of dossiers that were applied here, None of one that is gone."""
    meta = item.value["meta"]
    base = had.base if had is not None and had.state == "applied" else None
    key = had.local_key if had is not None and had.local_key is not None and had.state == "applied" else meta["local_key"]
    withheld = frozenset(meta["withheld"])
    return Write(
        item.record,
        meta["parent"],
        item.version,
        item.value,
        frozenset(meta["held"]),
        frozenset(meta["yields"]),
        withheld,
        key,
        parents.get(meta["parent"], meta["parent_key"]) if meta["parent"] is not None else None,
        base,
        had.inserted if had is not None and had.state == "applied" else False,
        had is not None and had.state == "applied" and had.parent != meta["parent"] and RECORD not in meta["held"],
        frozenset(name for name in withheld if base is not None and base.get(name) is not None),
        told_key=meta["local_key"],
    )


def parents_of(cursor: Cursor, items: Sequence[Arrived], dossiers: TargetEntity | None) -> dict[int, str | None]:
    """The keys of the dossiers above; of one that was here and is gone there is none: what is under it waits for its return.

    A dossier that was never applied here is the target's own; where its row is not there, it is not there yet, or not any more.
    """
    named = {item.value["meta"]["parent"]: item.value["meta"]["parent_key"] for item in items if item.value["meta"]["parent"] is not None}
    if not named:
        return {}
    found: dict[int, str | None] = dict(
        rows(
            cursor,
            "SELECT record, CASE state WHEN 'applied' THEN local_key END FROM lienthong.applied WHERE entity = 'dossier' AND record = ANY(%s)",
            [list(named)],
        )
    )
    own = {record: key for record, key in named.items() if record not in found and key is not None}
    if own and dossiers is not None:
        there = dossiers.documents(cursor, sorted(set(own.values())), lock=False)
        found |= {record: None for record, key in own.items() if key not in there}
    return found


def key_of(item: Arrived, had: Known | None) -> str | None:
    """The row that a removal is about."""
    return had.local_key if had is not None and had.local_key is not None else item.value["local_key"]


def keys(writes: Sequence[Write]) -> list[str]:
    """All rows that may be the records'."""
    return sorted({key for write in writes for key in (write.local_key, write.told_key) if key is not None})


def bind(writes: Sequence[Write], there: Collection[str]) -> None:
    """Where the row that we knew is gone and the target has filed the record anew, its new row is the record's from here on."""
    for write in writes:
        if write.local_key not in there and write.told_key in there:
            write.local_key, write.base, write.inserted, write.erase = write.told_key, None, False, frozenset()


def taken_away(writes: list[Write], there: Collection[str]) -> list[Write]:
    """Take out whose row the target has taken away itself, where its word decides whether the record exists: nothing is put back.

    Put back, the row would be worked on there until the delete has gone round, and then be an edited row that a removal may not take.
    It was not us who took it, so no row is named here, and capture tells of it.
    """
    gone = [write for write in writes if write.told_key is not None and RECORD in write.held and write.local_key not in there]
    for write in gone:
        writes.remove(write)
        write.local_key = None
    return gone
