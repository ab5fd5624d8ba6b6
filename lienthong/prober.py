"""The watch: sends a probe down every line, looks where it is, and says of one that is late at which stage it is stuck.

Where a probe is, is read from what the stages leave behind, never from their signs of life: the slot or the resume point has passed it
(captured), the merge has stored it (merged), it is off the router's list (routed), it stands in the target (applied).
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from connectors.postgres import Connection, Cursor, connect, one, rows, transaction
from lienthong import probe, source_seen
from lienthong.capture import witness
from lienthong.capture.wal import slot_name
from lienthong.errors import LienThongError, TransientError
from lienthong.hub import named
from lienthong.settings import Settings

logger = logging.getLogger(__name__)

TICK_SECONDS = 0.2
FIRST_LOOK_SECONDS = 1.0  # after a probe was sent; then twice as long, up to the interval
HUNG_SECONDS = 10.0
AGAIN_SECONDS = {"in": 15, "out": 600}  # an unanswered probe is sent once more: the first may have left its topic

_WRITE = """
INSERT INTO lienthong.probe AS p (leg, number) VALUES ('in', %s)
ON CONFLICT (leg) DO UPDATE SET number = greatest(excluded.number, p.number + 1), at = clock_timestamp() RETURNING number
"""
_SENT_IN = """
UPDATE hub.probe SET number = %(number)s, place = %(place)s, since = CASE WHEN arrived >= %(number)s THEN NULL ELSE coalesce(since, %(at)s) END
WHERE system = %(system)s AND leg = 'in'
"""
_SENT_OUT = """
UPDATE hub.probe SET number = %(number)s, since = coalesce(since, clock_timestamp()) WHERE system = %(system)s AND leg = 'out'
"""
_ARRIVED_OUT = """
UPDATE hub.probe SET arrived = %(n)s, arrived_at = %(at)s, since = CASE WHEN %(n)s >= number THEN NULL ELSE since END,
  took_seconds = greatest(extract(epoch FROM %(at)s) - %(n)s / 1e6, 0)
WHERE system = %(system)s AND leg = 'out' AND arrived < %(n)s
"""
_WHERE = """
SELECT p.system, p.leg, p.number, p.arrived, p.place, extract(epoch FROM clock_timestamp() - p.since)::float8,
       EXISTS (SELECT FROM hub.changed c WHERE c.resend = p.system AND c.record = 0),
       CASE WHEN s.position ~ '^[0-9]+:' AND p.place IS NOT NULL THEN pg_visible_in_snapshot(p.place::text::xid8, s.position::pg_snapshot) END,
       coalesce(m.fenced, m.held)
FROM hub.probe p LEFT JOIN hub.capture_state s USING (system) LEFT JOIN hub.source_mark m USING (system)
WHERE p.system = ANY(%s) ORDER BY p.system, p.leg FOR UPDATE OF p
"""
_LINE = """
SELECT stage, state, reason, extract(epoch FROM clock_timestamp() - beat)::float8 FROM hub.line WHERE system IN (%s, '*') AND stage = %s
ORDER BY beat DESC LIMIT 1
"""


@dataclass(slots=True)
class Seen:
    """What one look at a system's database showed."""

    system: str
    before: witness.Mark | None = None  # what the hub knew before this look: the system must have reached it
    mark: witness.Mark | None = None
    confirmed: int | None = None  # of its slot
    out: int = 0
    out_at: datetime | None = None
    number: int | None = None  # of the probe written
    place: int | None = None  # of the probe written: end of the log after it, or its transaction
    sight: source_seen.Sight | None = None
    problem: str | None = None


@dataclass(slots=True)
class Party:
    """One system under watch."""

    system: str
    due: float = 0.0
    pause: float = FIRST_LOOK_SECONDS
    started: float | None = None
    seen: Seen | None = None
    sent_in: float = -1e9
    sent_out: float = -1e9


class Prober:
    """Watches some systems."""

    def __init__(self, settings: Settings, systems: Sequence[str]) -> None:
        self.settings = settings
        with named():
            self.hub: Connection = connect(settings.hub.dsn, application_name="lienthong watch")
        self.interval = probe.interval_seconds(len(systems))
        self.parties = {s: Party(s) for s in systems if probe.legs_of(settings, s)}
        self._judged_at = 0.0
        self._answers: queue.SimpleQueue[Seen] = queue.SimpleQueue()
        with transaction(self.hub) as cursor:
            for system in self.parties:
                for leg in probe.legs_of(settings, system):
                    cursor.execute("INSERT INTO hub.probe (system, leg) VALUES (%s, %s) ON CONFLICT DO NOTHING", [system, leg])

    # ------------------------------------------------------------ rounds
    def step(self) -> None:
        """Start what is due, take what has come back, judge."""
        now = time.monotonic()
        for party in self.parties.values():
            if now >= party.due and party.started is None:
                party.started = now
                self._begin(party)
                party.due, party.pause = now + min(party.pause, self.interval), party.pause * 2
        answered = {seen.system for seen in self._take()}
        hung = {s for s, party in self.parties.items() if party.started is not None and now - party.started > HUNG_SECONDS}
        if answered or (hung and now - self._judged_at > 1):
            self._judged_at = now
            self._judge(sorted(answered | hung), hung)

    def _begin(self, party: Party) -> None:
        fresh, ours = [], time.monotonic()
        known = witness.load(self.hub, party.system)
        with transaction(self.hub) as cursor:
            for leg, number, arrived in rows(cursor, "SELECT leg, number, arrived FROM hub.probe WHERE system = %s", [party.system]):
                sent = party.sent_in if leg == "in" else party.sent_out
                if arrived >= number or ours - sent > AGAIN_SECONDS[leg]:
                    fresh.append((leg, number))
            for leg, number in fresh:
                if leg == "out":
                    party.sent_out = ours
                    self._send_out(cursor, party.system, number)
        writes = any(leg == "in" for leg, _ in fresh) and known.fenced is None
        if writes:
            party.sent_in = ours
        if writes or any(leg == "out" for leg, _ in fresh):
            party.pause = FIRST_LOOK_SECONDS
        threading.Thread(target=self._look, args=(party.system, known, writes), name=f"watch-{party.system}", daemon=True).start()

    @staticmethod
    def _send_out(cursor: Cursor, system: str, before: int) -> None:
        number = max(before + 1, int(time.time() * 1_000_000))
        cursor.execute(_SENT_OUT, {"number": number, "system": system})
        cursor.execute("DELETE FROM hub.changed WHERE lane = 0 AND record = %s AND resend = %s", [probe.RECORD, system])
        cursor.execute("INSERT INTO hub.changed (record, lane, resend, at) VALUES (%s, 0, %s, %s)", [probe.RECORD, system, number])

    # ------------------------------------------------------------ at the system, in a thread of its own: it may hang
    def _look(self, system: str, known: witness.Known, writes: bool) -> None:
        seen = Seen(system, known.mark)
        try:
            connection = connect(self.settings.dsn_of(system), application_name="lienthong watch", connect_timeout_seconds=3)
            try:
                self._look_at(connection, seen, known, writes)
            finally:
                connection.close()
        except LienThongError as error:
            seen.problem = str(error)
        self._answers.put(seen)

    def _look_at(self, connection: Connection, seen: Seen, known: witness.Known, writes: bool) -> None:
        captured = self.settings.systems[seen.system].capture
        with transaction(connection) as cursor:
            if one(cursor, "SELECT 1 WHERE to_regclass('lienthong.probe') IS NULL"):
                raise TransientError(f"table lienthong.probe is missing there: `lienthong check --sql {seen.system}` prints what to run")
            if captured != "none":
                seen.mark = witness.mark_of(cursor, seen.system)
            found = one(cursor, "SELECT number, at FROM lienthong.probe WHERE leg = 'out'")
            seen.out, seen.out_at = found or (0, None)
            slot = one(
                cursor,
                "SELECT (confirmed_flush_lsn - '0/0'::pg_lsn)::bigint FROM pg_replication_slots WHERE slot_name = %s",
                [slot_name(seen.system)],
            )
            seen.confirmed = int(slot[0]) if slot and slot[0] is not None else None
            seen.sight = source_seen.look(cursor, seen.system, captured)
        if not writes or _moved(known.mark, seen.mark):
            return
        with transaction(connection) as cursor:
            written = one(cursor, _WRITE, [int(time.time() * 1_000_000)])
            xid = one(cursor, "SELECT pg_current_xact_id()::text::bigint")
        with transaction(connection) as cursor:
            end = one(cursor, "SELECT (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint")
        assert written is not None
        assert xid is not None
        assert end is not None
        seen.number, seen.place = int(written[0]), int(end[0] if captured == "wal" else xid[0])

    # ------------------------------------------------------------ judging
    def _take(self) -> list[Seen]:
        taken = []
        while not self._answers.empty():
            seen = self._answers.get()
            self.parties[seen.system].started, self.parties[seen.system].seen = None, seen
            self._note(seen)
            taken.append(seen)
        return taken

    def _note(self, seen: Seen) -> None:
        known = witness.load(self.hub, seen.system)
        fresh = known.fenced is None and not _moved(seen.before, known.mark)  # nobody has chosen anything meanwhile
        if fresh and seen.before is not None and seen.mark is not None and _moved(seen.before, seen.mark):
            try:
                timelines = (seen.before.timeline, seen.mark.timeline)
                witness.Witness(self.hub, seen.system).went_back(witness.missing(seen.before, seen.mark), seen.mark, timelines)
            except witness.WentBack as error:
                logger.warning(str(error), extra={"action": "source_went_back", "system": seen.system, "code": error.code})
        with transaction(self.hub) as cursor:
            if seen.number is not None:
                found = one(cursor, "SELECT clock_timestamp()")
                assert found is not None
                cursor.execute(_SENT_IN, {"number": seen.number, "place": seen.place, "at": found[0], "system": seen.system})
            if seen.out:
                cursor.execute(_ARRIVED_OUT, {"n": seen.out, "at": seen.out_at, "system": seen.system})
            if seen.sight is not None:
                source_seen.store(cursor, seen.system, seen.sight)

    def _judge(self, systems: Sequence[str], hung: Iterable[str]) -> None:
        with transaction(self.hub) as cursor:
            for system, leg, number, arrived, place, waiting, listed, passed, stopped in rows(cursor, _WHERE, [list(systems)]):
                seen = self.parties[system].seen or Seen(system)
                problem = f"its database has not answered for {HUNG_SECONDS:.0f} s" if system in hung else seen.problem
                if leg == "in":
                    captured = passed if passed is not None else seen.confirmed is not None and place is not None and seen.confirmed >= place
                    stage = "merge" if captured else "capture"
                else:
                    stage = "route" if listed else "apply"
                if leg == "in" and stopped is not None:
                    state, reason = "stopped", stopped
                else:
                    state, reason = self._state(cursor, system, stage, problem, waiting if arrived < number else None)
                cursor.execute(
                    "UPDATE hub.probe SET state = %s, stage = %s, reason = %s, at = clock_timestamp() WHERE system = %s AND leg = %s",
                    [state, None if state == "normal" else stage, reason, system, leg],
                )

    def _state(self, cursor: Cursor, system: str, stage: str, problem: str | None, waiting: float | None) -> tuple[str, str | None]:
        """A probe that is late where the line itself says why is no stall: the line's own word is given."""
        if problem is not None and (waiting is None or stage in ("capture", "apply")):
            return "unreachable", problem
        if waiting is None:
            return "normal", None
        line = one(cursor, _LINE, [system if stage in ("capture", "apply") else "*", stage])
        if line is not None and line[1] in ("stopped", "retrying") and line[3] < HUNG_SECONDS:
            return line[1], line[2]
        if waiting <= self.settings.systems[system].lag_limit_seconds:
            return "waiting", None
        alive = line is not None and line[3] < HUNG_SECONDS
        said = "though it gives signs of life" if alive else "and it gives no sign of life"
        return "late", f"a probe is stuck at {stage}, {said}"

    def close(self) -> None:
        """Close the connection to the hub; looks that hang end with the process."""
        self.hub.close()


def _moved(known: witness.Mark | None, now: witness.Mark | None) -> bool:
    return known is not None and now is not None and (witness.missing(known, now) is not None or now.timeline != known.timeline)


def run(settings: Settings, systems: Sequence[str], stop: Callable[[], bool]) -> None:
    """Watch until told to stop; raises `TransientError` when the hub is away."""
    prober = Prober(settings, systems)
    try:
        while not stop():
            prober.step()
            time.sleep(TICK_SECONDS)
    finally:
        prober.close()


def once(settings: Settings, systems: Sequence[str], told: Callable[[], Any] = lambda: None) -> list[dict[str, Any]]:
    """Send one probe down each line and wait until all have arrived, at most a system's lag limit; how each leg then stands."""
    prober = Prober(settings, systems)
    until = time.monotonic() + max((settings.systems[s].lag_limit_seconds for s in prober.parties), default=0) + prober.interval
    try:
        prober.interval = 0.5
        for party in prober.parties.values():
            party.sent_in = party.sent_out = -1e9
        begun = _numbers(prober)
        while time.monotonic() < until and not _passed(prober, begun):
            prober.step()
            told()
            time.sleep(TICK_SECONDS)
        now = _numbers(prober)
        with transaction(prober.hub) as cursor:
            found = [line for line in probe.standing(cursor, settings) if line["system"] in prober.parties]
        for line in found:
            place = line["system"], line["leg"]
            if line["state"] in ("normal", "waiting"):
                line["state"] = "normal" if now[place] > begun[place] else "late"
        return found
    finally:
        prober.close()


def _numbers(prober: Prober) -> dict[tuple[str, str], int]:
    with transaction(prober.hub) as cursor:
        found = rows(cursor, "SELECT system, leg, arrived FROM hub.probe WHERE system = ANY(%s)", [list(prober.parties)])
    return {(system, leg): arrived for system, leg, arrived in found}


def _passed(prober: Prober, begun: dict[tuple[str, str], int]) -> bool:
    now = _numbers(prober)
    return all(now[place] > before for place, before in begun.items())
