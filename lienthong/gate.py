"""The gate before a national service: its contract rate and its breaker, shared in the hub by all processes, on the hub's clock.

An in-process limit or breaker is one for each process: twenty of them are twenty times the rate, and none ever sees enough failures to open.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime

from connectors.postgres import connect, one, transaction
from lienthong.errors import ConfigError, TransientError

PACE = 0.9
"""Share of the contract rate that is used: requests that left evenly arrive less so."""

AHEAD_SECONDS = 1.0
"""How far ahead permits are given out; those who would wait longer ask again."""

LOOK_SECONDS = 0.2
"""How often one who waits looks whether it shall stop."""


class GateClosed(TransientError):
    """The service is down or the caller shall stop; nothing was sent. `until`: when to try again, if that is known."""

    code = "LT-NAT-007"

    def __init__(self, message: str, until: datetime | None = None) -> None:
        super().__init__(message)
        self.until = until


class Gate:
    """Permits to call one service, from any thread of this process; each is one statement in the hub (its address is `hub`).

    In no second more than `per_second` permits are given out in all processes together, `burst` of them at once. After `failures` in a row the
    gate closes for all for `rest_seconds`; then one caller, the probe, is let through, and what it reports opens the gate or closes it again.
    A probe that never reports is given up after `probe_seconds`.
    """

    def __init__(
        self,
        hub: str,
        service: str,
        per_second: float,
        burst: int = 1,
        *,
        failures: int = 5,
        rest_seconds: float = 30,
        probe_seconds: float = 60,
    ) -> None:
        if burst > 1 and burst >= per_second:
            raise ConfigError(f"{service}: a burst of {burst} leaves nothing of {per_second:g} requests a second")
        self.service = service
        self._hub = connect(hub, application_name=f"lienthong gate {service}", autocommit=True)
        with transaction(self._hub) as cursor:
            cursor.execute("SET synchronous_commit = off")  # permits lost in a crash of the hub's server are no loss
        self._refill, self._burst = (per_second - burst + 1) * PACE, burst
        self._failures, self._rest_seconds, self._probe_seconds = failures, rest_seconds, probe_seconds
        self._lock = threading.Lock()
        self._mine = threading.local()

    def enter(self, stop: Callable[[], bool], permits: int = 1) -> None:
        """Wait for permits; raises `GateClosed` while the service is down, and when `stop` says so."""
        if permits > self._burst:
            raise ConfigError(f"{self.service}: {permits} permits at once where {self._burst} may be had")
        while True:
            wait, again, closed_until, is_probe = self._ask(permits)
            if closed_until is not None:
                raise GateClosed(f"{self.service} is down; it is tried again after {closed_until:%H:%M:%S} UTC", closed_until)
            self._mine.is_probe = is_probe
            try:
                self._sleep(wait if again is None else again, stop)
            except GateClosed:
                if is_probe:
                    self._change("probe_until = NULL")
                raise
            if again is None:
                return

    def succeeded(self) -> None:
        """The service answered, if only with a refusal; the probe's word opens the gate, the others' end a row of failures."""
        if self._was_probe():
            self._change("failures = 0, opened_until = NULL, probe_until = NULL")
        else:
            self._change("failures = 0", "opened_until IS NULL AND failures > 0")

    def failed(self) -> None:
        """The service did not answer; the probe's word closes the gate again, the others' are counted."""
        rest = "clock_timestamp() + make_interval(secs => %(rest)s)"
        if self._was_probe():
            self._change(f"opened_until = {rest}, probe_until = NULL")
            return
        opens = "failures + 1 >= %(failures)s"
        self._change(
            f"failures = failures + 1, opened_until = CASE WHEN {opens} THEN {rest} END, openings = openings + ({opens})::int",
            "opened_until IS NULL",
        )

    def hold(self, seconds: float) -> None:
        """Give out no permits for this long: the service asked for a pause."""
        self._change("tokens = least(tokens, -%(seconds)s * %(refill)s), at = clock_timestamp()", seconds=seconds)

    def state(self) -> dict[str, object]:
        """For a status: failures in a row, until when it is closed, how often it was."""
        with self._lock, transaction(self._hub) as cursor:
            found = one(cursor, "SELECT failures, opened_until, openings FROM hub.gate WHERE service = %s", [self.service])
        failures, until, openings = found or (0, None, 0)
        return {"service": self.service, "failures": failures, "closed_until": until and until.astimezone(UTC), "openings": openings}

    def close(self) -> None:
        """Drop the connection."""
        self._hub.close()

    def _ask(self, permits: int) -> tuple[float, float | None, datetime | None, bool]:
        arguments = [self.service, permits, self._refill, self._burst, AHEAD_SECONDS, self._probe_seconds]
        with self._lock, transaction(self._hub) as cursor:
            found = one(cursor, "SELECT * FROM hub.enter_gate(%s, %s, %s, %s, %s, %s)", arguments)
        assert found is not None
        wait, again, closed_until, is_probe = found
        return wait, again, closed_until, is_probe

    def _sleep(self, seconds: float, stop: Callable[[], bool]) -> None:
        ends = time.monotonic() + seconds
        while not stop():
            left = ends - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(left, LOOK_SECONDS))
        raise GateClosed(f"{self.service}: stopped while waiting for its turn")

    def _was_probe(self) -> bool:
        was, self._mine.is_probe = getattr(self._mine, "is_probe", False), False
        return was

    def _change(self, what: str, condition: str = "true", seconds: float = 0.0) -> None:
        arguments = {"service": self.service, "rest": self._rest_seconds, "failures": self._failures, "refill": self._refill, "seconds": seconds}
        with self._lock, transaction(self._hub) as cursor:
            cursor.execute(f"UPDATE hub.gate SET {what} WHERE service = %(service)s AND {condition}", arguments)  # noqa: S608 - our own texts
