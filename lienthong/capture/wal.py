"""Capture from the log: pgoutput says which rows changed, a reading that sees those transactions fetches the records (B1)."""

from __future__ import annotations

import time
from collections import deque
from functools import partial
from typing import Any

from connectors.pgoutput import Decoder
from connectors.postgres import Cursor, ReplicationStream, errors_translated, is_bytes, one, rows, transaction
from lienthong.capture import state
from lienthong.capture.line import Line, source_clock
from lienthong.capture.notified import Notified
from lienthong.ddl import PUBLICATION
from lienthong.errors import FatalError, TransientError
from lienthong.layout import table_parts

MESSAGES_PER_STEP = 20_000
KEYS_PER_READING = 10_000
KEYS_WAITING_MAX = 10 * KEYS_PER_READING  # no more is received before some of it is read
CONFIRM_IDLE_SECONDS = 5.0
INVISIBLE_SOON_SECONDS = 0.1
SLOT_WAIT_SECONDS = 30
_OLDEST_WRITER = """
SELECT pid, extract(epoch FROM clock_timestamp() - xact_start)::int, application_name, coalesce(datname, '?') FROM pg_stat_activity
WHERE backend_xid IS NOT NULL AND pid <> pg_backend_pid() ORDER BY xact_start LIMIT 1
"""


def slot_name(system: str) -> str:
    """The replication slot of a system."""
    return "lienthong_" + system.replace("-", "_")


class WalLine(Line):
    """A source read through a replication slot; the slot holds the resume point."""

    _stream: ReplicationStream | None = None

    def first_position(self) -> str:
        """Create the slot: from here on nothing is missed. Waits for every open writer of the cluster (R1), so it says so."""
        assert self.connection is not None
        slot = slot_name(self.system)
        with transaction(self.connection) as cursor:
            if one(cursor, "SELECT 1 FROM pg_publication WHERE pubname = %s", [PUBLICATION]) is None:
                raise FatalError(f"{self.system}: publication {PUBLICATION} is missing: `lienthong check --sql {self.system}` prints it")
            # A load and a capture process that meet a new source at the same time make one slot.
            cursor.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", [slot])
            found = one(cursor, "SELECT two_phase FROM pg_replication_slots WHERE slot_name = %s AND database = current_database()", [slot])
            if found is None:
                self._create_slot(cursor, slot)
        return f"slot {slot}"

    def _create_slot(self, cursor: Cursor, slot: str) -> None:
        """Make the slot, or say who kept us waiting: a transaction that never ends would hold up everything else of this process."""
        cursor.execute(f"SAVEPOINT slot; SET LOCAL statement_timeout = '{SLOT_WAIT_SECONDS}s'")
        try:
            with errors_translated():
                cursor.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", [slot])
        except (FatalError, TransientError) as error:
            if not str(error).startswith("57014"):
                raise
            cursor.execute("ROLLBACK TO SAVEPOINT slot")
            raise TransientError(f"{self.system}: {_who_writes(cursor)}; {slot} is tried again and nothing is lost") from None
        cursor.execute("SET LOCAL statement_timeout = 0")

    def forget_position(self) -> None:
        """Drop the slot, which is lost or stands in another past."""
        assert self.connection is not None
        with transaction(self.connection) as cursor:
            cursor.execute(
                "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = %s AND NOT active",
                [slot_name(self.system)],
            )

    def resume(self, stored: state.Stored) -> None:
        """Open the stream where the slot stands; a slot that is gone or was invalidated stops the line."""
        slot = slot_name(self.system)
        assert self.connection is not None
        with transaction(self.connection) as cursor:
            found = rows(
                cursor,
                "SELECT wal_status, two_phase FROM pg_replication_slots WHERE slot_name = %s AND database = current_database()",
                [slot],
            )
            as_bytes = is_bytes(cursor)
        if not found or found[0][0] == "lost":
            raise FatalError(
                f"{self.system}: replication slot {slot} is gone or was invalidated, so changes were missed; "
                f"run `lienthong load {self.system} --new-epoch` to read everything again"
            )
        if found[0][1]:
            raise FatalError(f"{self.system}: slot {slot} is two_phase, which shows changes before their commit: drop it")
        if self._stream is not None:
            self._stream.close()
        dsn = self.settings.dsn_of(self.system)
        self._stream = ReplicationStream(
            dsn, slot=slot, publication=PUBLICATION, application_name=f"lienthong capture {self.system}", as_bytes=as_bytes
        )
        self._decoder: Decoder[Notified] = Decoder(self.wanted, partial(Notified.begin, self.uses))
        self._waiting: deque[Notified] = deque()
        self._waiting_keys = 0
        self._invisible_since: float | None = None
        self._confirmed_at = time.monotonic()

    def close(self) -> None:
        """Drop the stream and the connection."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None
        super().close()

    def sockets(self) -> list[Any]:
        """The replication socket."""
        return [self._stream] if self._stream is not None else []

    def alive(self) -> None:
        """Keep the replication connection."""
        if self._stream is not None:
            self._stream.breathe()

    def uncaptured(self, cursor: Cursor) -> list[str]:
        """Tables that our publication does not hold, such as after a DROP COLUMN … CASCADE of a column that it lists."""
        found = rows(cursor, "SELECT schemaname, tablename FROM pg_publication_tables WHERE pubname = %s", [PUBLICATION])
        assert self.readings is not None
        return [table for table in self.readings.tables if table_parts(table) not in set(found)]

    def work(self) -> bool:
        """Take what has arrived; read what is waiting."""
        arrived = self._receive() if self._waiting_keys < KEYS_WAITING_MAX else False
        if not self._waiting:
            self._confirm_idle()
            return arrived
        while self._waiting and self._waiting[0].empty:
            self._finish_empty(self._next())
        if self._waiting:
            return self._reading()
        return True

    def _next(self) -> Notified:
        following = self._waiting.popleft()
        self._waiting_keys -= following.size
        return following

    def _receive(self) -> bool:
        assert self._stream is not None
        arrived = False
        for _, payload in self._stream.messages(MESSAGES_PER_STEP):
            arrived = True
            done = self._decoder.feed(payload)
            if done is not None:
                self._waiting.append(done)
                self._waiting_keys += done.size
        return arrived

    def _finish_empty(self, notified: Notified) -> None:
        self.through = max(self.through, notified.at)
        if not self._waiting:
            self._confirm(notified.position)

    def _reading(self) -> bool:
        """One reading of as many whole transactions as fit and are visible; the others wait for the next (B1)."""
        number = self.numbers.draw()
        with self.look() as cursor:
            batch = self._visible(cursor)
            output = None if batch is None else self.read(cursor, batch, number)
        if batch is None or output is None:
            return self._wait_for_visibility()
        self._invisible_since = None
        self.publish(output)
        self._confirm(batch.position)
        self.done(number, None, batch.at)
        return True

    def _wait_for_visibility(self) -> bool:
        """Mostly a millisecond; a commit that waits for a standby may take as long as the standby is away."""
        now = time.monotonic()
        self._invisible_since = self._invisible_since or now
        if now - self._invisible_since < INVISIBLE_SOON_SECONDS:
            time.sleep(0.001)
            return True
        self._breathe()
        return False

    def _visible(self, cursor: Cursor) -> Notified | None:
        """The leading transactions that this snapshot sees, as one; None when it does not see the first."""
        seen = _Snapshot.of(cursor)
        batch: Notified | None = None
        while self._waiting and seen.sees(self._waiting[0].xids):
            if batch is not None and (self._waiting[0].emptied or self._waiting[0].is_of_a_later_day(batch)):
                break  # what came before a TRUNCATE still goes out, and counts for its own day what came before midnight
            following = self._next()
            if batch is None:
                batch = following
            else:
                batch.absorb(following)
            if batch.size >= KEYS_PER_READING:
                break
        return batch

    def _confirm(self, position: int) -> None:
        assert self._stream is not None
        self._stream.confirm(position)
        self._confirmed_at = time.monotonic()

    def _confirm_idle(self) -> None:
        """With nothing pending, the slot follows the server, so that a quiet table does not hold its log (field.md §2)."""
        if self._decoder.inside or self._stream is None or self.connection is None:
            return
        if self.heartbeat():
            self.numbers.draw()  # a quiet source keeps its lease
            with self.look() as cursor:
                now = source_clock(cursor)
            self.idle(now - 1_000_000)
        if time.monotonic() - self._confirmed_at > CONFIRM_IDLE_SECONDS and self._stream.server_position:
            self._confirm(self._stream.server_position)


def _who_writes(cursor: Cursor) -> str:
    """The open transaction of the cluster that a new slot waits for longest, without what it does: that may be personal."""
    found = one(cursor, _OLDEST_WRITER)
    waited = f"its replication slot was not ready within {SLOT_WAIT_SECONDS} s, because it waits for every open writer of the cluster"
    if found is None:
        return waited
    pid, seconds, name, database = found
    return f"{waited}; the oldest is pid {pid}, open for {seconds} s, application {name or '(none)'}, database {database}: let it end, or end it"


class _Snapshot:
    """Which transactions a snapshot sees."""

    def __init__(self, text: str) -> None:
        low, high, running = text.split(":")
        self._low, self._high = int(low), int(high)
        self._running = {int(xid) for xid in running.split(",") if xid}

    @classmethod
    def of(cls, cursor: Cursor) -> _Snapshot:
        """The snapshot of the cursor's transaction."""
        found = one(cursor, "SELECT pg_current_snapshot()::text")
        assert found is not None
        return cls(str(found[0]))

    def sees(self, xids: set[int]) -> bool:
        """Whether every one of these 32-bit transaction ids is visible (Begin carries no epoch, so it is widened here)."""
        return all(self._sees(self._widened(xid)) for xid in xids)

    def _widened(self, xid: int) -> int:
        epoch = self._high >> 32
        wide = (epoch << 32) | xid
        return wide if wide <= self._high + (1 << 31) else wide - (1 << 32)

    def _sees(self, xid: int) -> bool:
        return xid < self._high and xid not in self._running
