"""Two records that turned out to be one, at a target that has a row for each: the row that goes waits until our children have left it.

The target's foreign keys would refuse it earlier. A child of ours comes again under the record that stays, in this batch or a later one;
until then `applied.body` of the row that goes keeps the message.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from connectors.kafka import Message
from connectors.postgres import Cursor, rows

if TYPE_CHECKING:
    from lienthong.apply.target import Arrived


def repoint(cursor: Cursor, item: Arrived) -> bool:
    """Give the row of the record that went to the one that stays; False when that has a row of its own, or there is none to give.

    A row that the one that stays had before, and that was taken away, is none.
    """
    places = {"keep": item.value["record"], "gone": item.record, "entity": item.entity, "epoch": item.version[0]}
    cursor.execute(
        """DELETE FROM lienthong.applied k WHERE entity = %(entity)s AND record = %(keep)s AND state IN ('deleted', 'withdrawn')
           AND EXISTS (SELECT 1 FROM lienthong.applied g WHERE g.entity = %(entity)s AND g.record = %(gone)s AND g.state = 'applied')""",
        places,
    )
    cursor.execute(
        """UPDATE lienthong.applied a SET record = %(keep)s, epoch = %(epoch)s, version = 0 WHERE entity = %(entity)s AND record = %(gone)s
           AND NOT EXISTS (SELECT 1 FROM lienthong.applied k WHERE k.entity = %(entity)s AND k.record = %(keep)s)""",
        places,
    )
    return bool(cursor.rowcount)


def still_theirs(cursor: Cursor, entity: str, keys: Mapping[int, str | None]) -> dict[int, str | None]:
    """The rows of records that go, by record; a row that has become another record's is none of theirs any more."""
    wanted = [key for key in keys.values() if key is not None]
    held = rows(
        cursor,
        "SELECT local_key, record FROM lienthong.applied WHERE entity = %s AND local_key = ANY(%s) AND state = 'applied'",
        [entity, wanted],
    )
    others = {key for key, record in held if keys.get(record) != key}
    return {record: None if key in others else key for record, key in keys.items()}


def keep_for_later(cursor: Cursor, item: Arrived) -> bool:
    """Keep the message with the row that goes; False when no row of ours is there, or it heard something newer."""
    cursor.execute(
        "UPDATE lienthong.applied SET body = %s WHERE entity = %s AND record = %s AND state = 'applied' AND (epoch, version) < (%s, %s)",
        [item.message.value, item.entity, item.record, *item.version],
    )
    return bool(cursor.rowcount)


def without_children(cursor: Cursor) -> list[Message]:
    """The kept messages whose rows have no child of ours any more; they are kept no longer."""
    found = rows(
        cursor,
        """UPDATE lienthong.applied a SET body = NULL FROM (
             SELECT entity, record, body FROM lienthong.applied l WHERE l.state = 'applied' AND l.body IS NOT NULL
             AND NOT EXISTS (SELECT 1 FROM lienthong.applied c WHERE c.parent = l.record AND c.state = 'applied')
             ORDER BY entity, record FOR UPDATE) l
           WHERE (a.entity, a.record) = (l.entity, l.record) RETURNING l.body""",
    )
    return [Message("joined", 0, 0, 0, None, bytes(body), ()) for (body,) in found]
