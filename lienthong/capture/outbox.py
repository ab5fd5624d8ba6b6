"""Capture from an outbox: triggers note which rows changed; read by snapshot difference, never by number or time (reliability §3.2)."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from connectors.postgres import Cursor, one, rows, streamed, transaction
from lienthong.capture import state
from lienthong.capture.line import Line, source_clock
from lienthong.capture.notified import Notified
from lienthong.capture.witness import mark_of
from lienthong.ddl import TRIGGER, TRUNCATE_TRIGGER
from lienthong.errors import FatalError
from lienthong.layout import full_name, identifier

POLL_BUSY_SECONDS = 0.02
POLL_QUIET_SECONDS = 0.5
KEEP_INTERVAL = "3 days"  # republishing from the outbox stays possible that long (reliability.md §3.4)
PURGE_EVERY_SECONDS = 600
AT_ONCE = 5000

_DIFFERENCE = """
SELECT id, tbl, op::text, key, old_key, image, xid::text, (extract(epoch FROM at) * 1000000)::int8
FROM lienthong.change
WHERE xid >= pg_snapshot_xmin(%(old)s::pg_snapshot)
  AND pg_visible_in_snapshot(xid, pg_current_snapshot())
  AND NOT pg_visible_in_snapshot(xid, %(old)s::pg_snapshot)
ORDER BY id
"""
_UNCAPTURED = """
SELECT name FROM unnest(%s) name, unnest(%s) needed
WHERE NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = to_regclass(name) AND t.tgname = needed AND t.tgenabled IN ('A', 'O'))
"""


class OutboxLine(Line):
    """A source read through its `lienthong.change` table; the hub holds the resume point, a snapshot."""

    _position = ""
    _next_poll = 0.0
    _pause = POLL_BUSY_SECONDS
    _purge_at = 0.0

    def first_position(self) -> str:
        """The present snapshot: every later commit is notified."""
        assert self.connection is not None
        with transaction(self.connection) as cursor:
            if not one(cursor, "SELECT 1 WHERE to_regclass('lienthong.change') IS NOT NULL"):
                raise FatalError(f"{self.system}: table lienthong.change is missing: `lienthong check --sql {self.system}` prints what to run there")
            found = one(cursor, "SELECT pg_current_snapshot()::text")
        assert found is not None
        return str(found[0])

    def resume(self, stored: state.Stored) -> None:
        """Go on after the stored snapshot."""
        self._position = stored.position or ""
        self._next_poll, self._purge_at = 0.0, time.monotonic() + PURGE_EVERY_SECONDS

    def uncaptured(self, cursor: Cursor) -> list[str]:
        """Tables without our triggers, or with disabled ones."""
        assert self.readings is not None
        names = [identifier(table).as_string(cursor) for table in self.readings.tables]
        return sorted({name for (name,) in rows(cursor, _UNCAPTURED, [names, [TRIGGER, TRUNCATE_TRIGGER]])})

    def work(self) -> bool:
        """Poll when it is time: notifications and records are read in one snapshot, so every answer sees its transaction."""
        if time.monotonic() < self._next_poll:
            return False
        number = self.numbers.draw()
        with self.look() as cursor:
            days, position = self._difference(cursor)
            outputs = [self.read(cursor, notified, number) for notified in days]
        if not outputs:
            self._quiet(position)
            return False
        for output in outputs:
            self.publish(output)
        self._position = position
        self.done(number, position, days[-1].at)
        self._pause = POLL_BUSY_SECONDS
        return True

    def _difference(self, cursor: Cursor) -> tuple[list[Notified], str]:
        """What was noted since the last reading, cut at midnight: it counts for its own day."""
        old = {"old": self._position}
        first = rows(cursor, f"{_DIFFERENCE} LIMIT {AT_ONCE}", old)
        now = one(cursor, "SELECT pg_current_snapshot()::text")
        assert now is not None
        if next_xid(str(now[0])) < next_xid(self._position):
            self.witness.went_back("transactions that were read there have not happened yet", mark_of(cursor, self.system))
        if not first:
            return [], resume_point(self._position, str(now[0]), 0)
        found = first if len(first) < AT_ONCE else streamed(cursor, _DIFFERENCE, old)
        by_transaction: dict[str, Notified] = {}
        days: list[Notified] = []
        newest = 0
        for number, table, op, key, old_key, image, xid, at in found:
            newest = max(newest, int(xid))
            one_transaction = by_transaction.setdefault(xid, Notified(self.uses))
            one_transaction.at = max(one_transaction.at, int(at))
            self._take(one_transaction, full_name(table), op, key, old_key, image)
            one_transaction.position = max(one_transaction.position, int(number))
        for one_transaction in sorted(by_transaction.values(), key=lambda t: t.position):
            one_transaction.end(one_transaction.position)
            if not days or one_transaction.is_of_a_later_day(days[-1]):
                days.append(Notified(self.uses))
            days[-1].absorb(one_transaction)
        return days, resume_point(self._position, str(now[0]), newest)

    def _take(
        self,
        notified: Notified,
        table: str,
        op: str,
        key: Mapping[str, Any] | None,
        old_key: Mapping[str, Any] | None,
        image: Mapping[str, Any] | None,
    ) -> None:
        if op == "T":
            notified.truncate(table)
            return
        new = None if key is None else {**key, **(image or {})}
        notified.change(table, op, new, old_key)

    def _quiet(self, position: str) -> None:
        self._pause = min(self._pause * 1.5, POLL_QUIET_SECONDS)
        self._next_poll = time.monotonic() + self._pause
        self._position = position
        assert self.connection is not None
        if self.heartbeat():
            with transaction(self.connection) as cursor:
                now = source_clock(cursor)
                self._purge(cursor)
            self._unsaved = (self.numbers.finished, position)
            self.idle(now - int(self._pause * 1_000_000))

    def _purge(self, cursor: Cursor) -> None:
        """Old notifications that were read long ago go; in small steps."""
        if time.monotonic() < self._purge_at:
            return
        self._purge_at = time.monotonic() + PURGE_EVERY_SECONDS
        cursor.execute(
            """DELETE FROM lienthong.change WHERE id IN (SELECT id FROM lienthong.change
               WHERE at < clock_timestamp() - %s::interval AND pg_visible_in_snapshot(xid, %s::pg_snapshot) ORDER BY id LIMIT 50000)""",
            [KEEP_INTERVAL, self._position],
        )


def next_xid(snapshot: str) -> int:
    """The first transaction number that a snapshot has not seen given out."""
    return int(snapshot.split(":")[1])


def resume_point(old: str, now: str, newest: int) -> str:
    """The snapshot to resume after: what `now` sees, but nothing above the newest transaction that was read.

    A server that crashes gives out again the numbers of transactions that left nothing in its log. One whose notification was read
    did, so only up to there a number says which transaction it was.
    """
    low, high, running = now.split(":")
    end = min(int(high), max(next_xid(old), newest + 1))
    still = ",".join(xid for xid in running.split(",") if xid and int(xid) < end)
    return f"{min(int(low), end)}:{end}:{still}"
