"""What our slot costs a source, and how its clock goes: seen at the source by the watch, remembered in the hub for `/metrics` and the doctor."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Literal

from connectors.postgres import Cursor, one
from lienthong.capture.wal import slot_name

_SLOT = """
SELECT CASE WHEN wal_status = 'lost' THEN 'lost' WHEN active THEN 'active' ELSE 'inactive' END,
       coalesce(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn), 0)::bigint, safe_wal_size
FROM pg_replication_slots WHERE slot_name = %s AND database = current_database()
"""
_CLOCK = "SELECT extract(epoch FROM clock_timestamp())::float8"
_STORE = """
INSERT INTO hub.source_seen AS s (system, slot_active, wal_retained_bytes, wal_safe_bytes, clock_offset_seconds) VALUES (%s, %s, %s, %s, %s)
ON CONFLICT (system) DO UPDATE SET slot_active = excluded.slot_active, wal_retained_bytes = excluded.wal_retained_bytes,
  wal_safe_bytes = excluded.wal_safe_bytes, clock_offset_seconds = excluded.clock_offset_seconds, at = clock_timestamp()
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """One look at a source. Without capture from the log there is no slot to look at: None. Sizes are bytes, the clock is seconds ahead of ours."""

    slot: Literal["active", "inactive", "lost", "absent"] | None = None
    wal_retained_bytes: int | None = None
    wal_safe_bytes: int | None = None
    clock_ahead_seconds: float = 0.0


def look(cursor: Cursor, system: str, captured: str) -> Sight:
    """What there is to be seen at a source now."""
    ahead = clock_ahead(cursor)
    if captured != "wal":
        return Sight(clock_ahead_seconds=ahead)
    slot = one(cursor, _SLOT, [slot_name(system)])
    if slot is None:
        return Sight(slot="absent", clock_ahead_seconds=ahead)
    return Sight(slot=slot[0], wal_retained_bytes=int(slot[1]), wal_safe_bytes=slot[2], clock_ahead_seconds=ahead)


def clock_ahead(cursor: Cursor) -> float:
    """How many seconds a server's clock is ahead of this machine's, to about the time that a question takes."""
    begun = time.time()
    found = one(cursor, _CLOCK)
    assert found is not None
    return float(found[0]) - (begun + time.time()) / 2


def store(cursor: Cursor, system: str, seen: Sight) -> None:
    """Remember a look in the hub; the source's clock is compared with the hub's there."""
    offset = seen.clock_ahead_seconds - clock_ahead(cursor)
    is_active = None if seen.slot is None else seen.slot == "active"
    cursor.execute(_STORE, [system, is_active, seen.wal_retained_bytes, seen.wal_safe_bytes, round(offset, 3)])
