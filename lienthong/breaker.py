"""Stops a line on mass failure: when too large a share of its records is refused, a cause is to be cured, not a system to be parked.

A bad release at a vendor, a profile with a mistake or a new rule of a target refuses everything. Parking all of it would divert a whole
system to a list that people work through by hand (reliability.md §3.5). One window for each entity of a line.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from lienthong.errors import FatalError
from lienthong.layout import Layout
from lienthong.mapping import Mapper
from lienthong.readers import Unreadable
from lienthong.settings import Stop

WINDOW_RECORDS = 1000
WINDOW_SECONDS = 600.0
DECISIONS = ("withdraw_kept",)  # parked for a person to decide, not refused


class MassFailure(FatalError):
    """Too many records are refused at once; the line has stopped instead of parking them: cure the cause, then it goes on by itself."""

    code = "LT-LINE-003"


@dataclass(slots=True)
class _Look:
    at: float
    seen: int
    failed: int = 0


@dataclass(slots=True)
class _Window:
    """The last looks of one entity. `is_wary` from a stop on, until a whole look has passed: then one refusal may be too many."""

    looks: deque[_Look] = field(default_factory=deque)
    seen: int = 0
    failed: int = 0
    is_wary: bool = False

    def add(self, look: _Look) -> None:
        now = look.at
        if self.is_wary and self.looks:
            self.is_wary = False
        self.looks.append(look)
        self.seen += look.seen
        while len(self.looks) > 1 and (self.seen - self.looks[0].seen >= WINDOW_RECORDS or now - self.looks[0].at > WINDOW_SECONDS):
            old = self.looks.popleft()
            self.seen, self.failed = self.seen - old.seen, self.failed - old.failed

    def forget(self, look: _Look) -> None:
        if any(one is look for one in self.looks):
            self.looks = deque(one for one in self.looks if one is not look)
            self.seen, self.failed = self.seen - look.seen, self.failed - look.failed

    def fail(self, now: float) -> None:
        if not self.looks:
            self.looks.append(_Look(now, 0))
        self.looks[-1].failed += 1
        self.failed += 1

    def trip(self) -> None:
        self.looks.clear()
        self.seen = self.failed = 0
        self.is_wary = True


class Breaker:
    """Counts what one line sees and refuses; it lives as long as the process, so a line that begins again has not forgotten."""

    def __init__(self, system: str, stop: Stop, *, verb: str = "refused", clock: Callable[[], float] = time.monotonic) -> None:
        self.system, self.stop = system, stop
        self._verb, self._clock = verb, clock
        self._windows: dict[str, _Window] = {}
        self._fresh: list[tuple[str, _Look]] | None = None  # the looks of an attempt
        self._lock = threading.Lock()

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """What is looked at inside counts only when it ends well: what was rolled back comes again, as often as it takes."""
        fresh: list[tuple[str, _Look]] = []
        self._fresh = fresh
        try:
            yield
        except Exception:
            with self._lock:
                for entity, look in fresh:
                    self._windows[entity].forget(look)
            raise
        finally:
            self._fresh = None

    def saw(self, entity: str, count: int) -> None:
        """One look brings so many records; those not refused by its end were good."""
        if count:
            with self._lock:
                look = _Look(self._clock(), count)
                self._windows.setdefault(entity, _Window()).add(look)
                if self._fresh is not None:
                    self._fresh.append((entity, look))

    def failed(self, entity: str | None, reason: str, field_name: str | None) -> None:
        """One record is refused; raises `MassFailure` when there are too many. Bytes of no entity will not come better: those are parked."""
        if entity is None or reason in DECISIONS:
            return
        with self._lock:
            window = self._windows.setdefault(entity, _Window())
            window.fail(self._clock())
            enough = 1 if window.is_wary else self.stop.records
            if window.failed < enough or window.failed <= self.stop.share * window.seen or self.stop.share >= 1:
                return
            failed, seen = window.failed, max(window.seen, window.failed)
            window.trip()
        place = f"{reason} in {field_name}" if field_name else reason
        raise MassFailure(
            f"{self.system}: {failed:,} of {seen:,} {entity} records were {self._verb}, the last for {place}: too many to park. The line "
            "has stopped, the rest is not parked and nothing was lost; cure the cause, and it goes on by itself"
        )


_AT_CAPTURE: dict[str, Breaker] = {}


def at_capture(system: str, stop: Stop | None = None) -> Breaker:
    """The breaker of a source in this process; with `stop`, a new one."""
    if stop is not None or system not in _AT_CAPTURE:
        _AT_CAPTURE[system] = Breaker(system, stop or Stop())
    return _AT_CAPTURE[system]


class WatchedMapper(Mapper):
    """A mapper that tells the breaker of status words nobody has mapped: each would be a parked step of its own."""

    def __init__(self, layout: Layout, breaker: Breaker) -> None:
        super().__init__(layout)
        self._breaker = breaker

    def status_of(self, word: str) -> int:
        """As `Mapper.status_of`; raises `MassFailure` when too many are not mapped."""
        self._breaker.saw("dossier_event", 1)
        try:
            return super().status_of(word)
        except Unreadable as problem:
            self._breaker.failed("dossier_event", problem.reason, "status")
            raise
