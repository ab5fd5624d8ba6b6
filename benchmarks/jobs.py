"""The jobs: load, stream and latency, measured from outside and in the same way for every contender."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from benchmarks.contender import Contender
from benchmarks.meters import Cost, Meter
from benchmarks.work import (
    MARKED_ROW,
    TRANSACTIONS_PER_SECOND,
    UPDATES_PER_TRANSACTION,
    Place,
    Work,
    are_equal,
    run_stream,
)

CHECK_SECONDS = 1.0
LOAD_POLL_SECONDS = (0.25, 2.0)
MARK_POLL_SECONDS = 0.02
LATENCY_POLL_SECONDS = 0.005
LATENCY_GRACE_SECONDS = 60
# Per poll of the latency job; far above what waits at 50 transactions a second unless the contender has stalled.
MOST_AWAITED = 400
SETTLE_SECONDS = 120


class JobError(Exception):
    """A contender did not finish a job in time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """From the start of the contender's processes until the target holds every row."""

    rows: int
    seconds: float
    first_row_seconds: float
    rows_per_second: float
    equal: bool
    cost: Cost


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """From the first change on the source until the last one is in the target and both are equal."""

    changes: int
    seconds: float
    source_seconds: float
    changes_per_second: float
    equal: bool
    cost: Cost


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """From the return of the source's commit until a poller sees it in the target, at a steady rate (open loop)."""

    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float
    samples: int
    expected: int
    changes_per_second: float
    cost: Cost


def measure_load(contender: Contender, work: Work) -> Load:
    """Begin the flow and await every row."""
    with Meter(contender.groups) as meter:
        start = time.monotonic()
        contender.begin()
        first_row, seconds = _await_rows(contender, work, start)
        cost = meter.stop()
    return Load(
        rows=work.rows,
        seconds=round(seconds, 2),
        first_row_seconds=round(first_row, 2),
        rows_per_second=round(work.rows / seconds),
        equal=are_equal(contender.source, contender.target),
        cost=cost,
    )


def measure_stream(contender: Contender, work: Work) -> Stream:
    """Commit the change stream and await its end mark, then equality."""
    mark = f"END {time.time_ns()}"
    with Meter(contender.groups) as meter, ThreadPoolExecutor(1) as pool:
        start = time.monotonic()
        writer = pool.submit(_seconds_to_stream, contender.source, work, mark)
        with contender.target.open() as at:
            for _ in _checked(contender, work.timeout_seconds, writer):
                if contender.target.note_of(at, MARKED_ROW) == mark:
                    break
                time.sleep(MARK_POLL_SECONDS)
        seconds, cost, source_seconds = time.monotonic() - start, meter.stop(), writer.result()
    equal, settled = _await_equality(contender)
    return Stream(
        changes=work.changes,
        seconds=round(seconds + settled, 2),
        source_seconds=round(source_seconds, 2),
        changes_per_second=round(work.changes / (seconds + settled)),
        equal=equal,
        cost=cost,
    )


def measure_latency(contender: Contender, work: Work) -> Latency:
    """Commit 50 transactions of 10 updates a second; await one row of each in the target."""
    awaited = _Awaited()
    with Meter(contender.groups) as meter, ThreadPoolExecutor(1) as pool:
        writer = pool.submit(_write_steadily, contender.source, work, awaited)
        with contender.target.open() as at:
            for _ in _checked(contender, work.latency_seconds + LATENCY_GRACE_SECONDS, writer):
                awaited.look(contender.target.notes_of(at, codes) if (codes := awaited.codes()) else {})
                if len(awaited.seen) == work.transactions:
                    break
                time.sleep(LATENCY_POLL_SECONDS)
        seconds, cost = writer.result(), meter.stop()
    ordered = sorted(awaited.seen)
    return Latency(
        p50_ms=percentile(ordered, 0.50),
        p95_ms=percentile(ordered, 0.95),
        p99_ms=percentile(ordered, 0.99),
        max_ms=percentile(ordered, 1.0),
        samples=len(ordered),
        expected=work.transactions,
        changes_per_second=round(work.transactions * UPDATES_PER_TRANSACTION / seconds, 1),
        cost=cost,
    )


def _checked(contender: Contender, timeout_seconds: float, writer: Future[float] | None = None) -> Iterator[None]:
    """Turns of a waiting loop: each second the contender is checked, and it ends with an error after the timeout."""
    end, next_check = time.monotonic() + timeout_seconds, 0.0
    while (now := time.monotonic()) < end:
        if now >= next_check:
            contender.check()
            if writer is not None and writer.done():
                writer.result()
            next_check = now + CHECK_SECONDS
        yield
    raise JobError(f"{contender.name} did not finish within {timeout_seconds:g} seconds")


def _await_rows(contender: Contender, work: Work, start: float) -> tuple[float, float]:
    """Seconds from `start` to the first row seen in the target, and to the last."""
    seen: list[tuple[float, int]] = []
    with contender.target.open() as at:
        for _ in _checked(contender, work.timeout_seconds):
            if present := contender.target.count(at):
                seen.append((time.monotonic() - start, present))
            if present >= work.rows:
                break
            time.sleep(_pause(seen, work.rows))
    return seen[0][0], seen[-1][0]


def _pause(seen: list[tuple[float, int]], rows: int) -> float:
    """Half of the time that the rest should take: counting is not free, so it is done seldom until the end is near."""
    shortest, longest = LOAD_POLL_SECONDS
    if len(seen) < 2:
        return shortest
    (before, fewer), (now, present) = seen[-2:]
    left = (rows - present) * (now - before) / max(present - fewer, 1)
    return min(max(left / 2, shortest), longest)


def _seconds_to_stream(source: Place, work: Work, mark: str) -> float:
    start = time.monotonic()
    run_stream(source, work, mark)
    return time.monotonic() - start


def _await_equality(contender: Contender) -> tuple[bool, float]:
    """Whether both places become equal, and how many seconds after the mark that was (0 when at once)."""
    if are_equal(contender.source, contender.target):
        return True, 0.0
    start = time.monotonic()
    while (settled := time.monotonic() - start) < SETTLE_SECONDS:
        time.sleep(0.5)
        if are_equal(contender.source, contender.target):
            return True, settled
    return False, settled


@dataclass(slots=True)
class _Awaited:
    """Commits not yet seen in the target, and the seconds that those already seen took."""

    seen: list[float] = field(default_factory=list)
    _committed: dict[str, tuple[str, float]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def commit(self, code: str, note: str) -> None:
        with self._lock:
            self._committed[code] = (note, time.monotonic())

    def codes(self) -> list[str]:
        with self._lock:
            return list(self._committed)[:MOST_AWAITED]

    def look(self, notes: dict[str, str]) -> None:
        now = time.monotonic()
        with self._lock:
            for code, note in notes.items():
                awaited, committed = self._committed[code]
                if note == awaited:
                    del self._committed[code]
                    self.seen.append(now - committed)


def _write_steadily(source: Place, work: Work, awaited: _Awaited) -> float:
    """Commit each transaction at its own planned moment, however long the one before took."""
    run = f"L{time.time_ns()}"
    start = time.monotonic()
    with source.open() as at:
        for i in range(work.transactions):
            time.sleep(max(0.0, start + i / TRANSACTIONS_PER_SECOND - time.monotonic()))
            keys, note = work.latency_keys(i), f"{run}.{i}"
            at.execute(
                "UPDATE dossier SET note = %s, updated_at = clock_timestamp() WHERE dossier_code = ANY(%s)",
                (note, keys),
            )
            awaited.commit(keys[-1], note)
    return time.monotonic() - start


def percentile(ordered: list[float], share: float) -> float:
    """The value, in milliseconds, that this share of the ordered seconds does not exceed."""
    return round(ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000, 1) if ordered else math.nan
