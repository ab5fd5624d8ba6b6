"""Where readers stand in topics, and whether that place is still there."""

from __future__ import annotations

from connectors.kafka import Ends
from connectors.postgres import Connection, Cursor, connect, one, rows, transaction
from lienthong import frames
from lienthong.route import topic_of
from lienthong.settings import Settings


def lost_place(system: str, stored: int, start: int, end: int) -> str:
    """Why a system cannot go on from where it stands in its topic, and what cures it."""
    where = f"its topic begins at {start}" if stored < start else f"its topic ends at {end}"
    return (
        f"{system} has applied its topic up to {stored}, but {where}: what was sent in between is not there any more. Nothing is passed over, and "
        f"its own edits wait. `lienthong resend {system}` compares it with the hub, sends what it has missed, and lets both go on"
    )


class Places:
    """Tells of systems that are written to whether their place in their topic is still there."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._ends: Ends | None = None

    def lost(self, cursor: Cursor, system: str) -> str | None:
        """Why the system, in whose database the cursor is, has lost its place; None when it has not."""
        if not self._settings.systems[system].apply or self._settings.contract_of(system) is None:
            return None
        found = one(cursor, "SELECT to_regclass('lienthong.consumer_offset') IS NOT NULL")
        if found is None or not found[0]:
            return None
        topic = topic_of(system)
        stored = one(cursor, "SELECT next FROM lienthong.consumer_offset WHERE topic = %s AND partition = 0", [topic])
        self._ends = self._ends or Ends(self._settings.kafka.brokers)
        start, end = self._ends.starts(topic).get(0, 0), self._ends.of(topic).get(0, 0)
        at = int(stored[0]) if stored else 0
        return None if start <= at <= end else lost_place(system, at, start, end)

    def close(self) -> None:
        """Close the connection to the brokers."""
        if self._ends is not None:
            self._ends.close()


def regain_merge(settings: Settings) -> dict[int, int]:
    """Move the merge's lost positions to where the in-topic begins now; returns those. What was passed over, all sources must say again."""
    ends, hub = Ends(settings.kafka.brokers), connect(settings.hub.dsn, application_name="lienthong load")
    try:
        starts, until = ends.starts(frames.TOPIC), ends.of(frames.TOPIC)
        with transaction(hub) as cursor:
            found = rows(cursor, "SELECT partition, next FROM hub.consumer_offset WHERE topic = %s ORDER BY partition FOR UPDATE", [frames.TOPIC])
            moved = {p: starts[p] for p, at in found if p in starts and not starts[p] <= at <= until[p]}
            for partition, start in moved.items():
                cursor.execute("UPDATE hub.consumer_offset SET next = %s WHERE topic = %s AND partition = %s", [start, frames.TOPIC, partition])
        return moved
    finally:
        ends.close()
        hub.close()


def merged_up_to(hub: Connection, ends: dict[int, int]) -> bool:
    """Whether the merge has passed these ends of the in-topic."""
    with transaction(hub) as cursor:
        stored = dict(rows(cursor, "SELECT partition, next FROM hub.consumer_offset WHERE topic = %s", [frames.TOPIC]))
    return all(stored.get(partition, 0) >= end for partition, end in ends.items())
