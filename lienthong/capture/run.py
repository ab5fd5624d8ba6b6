"""The capture process: many sources, one loop; a source that fails is tried again alone and holds up nobody."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from connectors.kafka import Producer
from connectors.postgres import Connection, connect, transaction, wait_readable
from lienthong import breaker, hub
from lienthong.capture.line import Line
from lienthong.capture.outbox import OutboxLine
from lienthong.capture.wal import WalLine
from lienthong.errors import FatalError, FencedError, LienThongError, TransientError
from lienthong.place import Places
from lienthong.settings import Settings
from lienthong.vault import Vault

logger = logging.getLogger(__name__)

WAIT_SECONDS = 0.01
RETRY_SECONDS = (0.2, 0.5, 1, 2, 5, 10)
STOPPED_RETRY_SECONDS = 5.0  # a person has mended something and looks whether it goes on


class Supervised:
    """One line with its state: running, waiting for a retry, or stopped for a person."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self.state = "starting"
        self.reason: str | None = None
        self.next_try = 0.0
        self.failures = 0
        self.beat_at = 0.0

    def step(self) -> bool:
        """Start or work; never raises for what happens at this source."""
        if self.state != "running" and time.monotonic() < self.next_try:
            return False
        try:
            if self.state != "running":
                self.line.start()
            worked = self.line.work()
        except (FencedError, TransientError) as error:
            self._failed("retrying", error, RETRY_SECONDS[min(self.failures, len(RETRY_SECONDS) - 1)])
        except LienThongError as error:
            self._failed("stopped", error, STOPPED_RETRY_SECONDS)
        else:
            if self.state != "running":
                self.state, self.reason, self.failures = "running", None, 0
                logger.info("capture runs", extra={"action": "capture_runs", "system": self.line.system})
            return worked
        return False

    def _failed(self, state: str, error: LienThongError, wait_seconds: float) -> None:
        if state != self.state or str(error) != self.reason:
            logger.warning(
                str(error), extra={"action": f"capture_{state}", "system": self.line.system, "code": error.code, "retry_seconds": wait_seconds}
            )
        self.state, self.reason = state, str(error)
        self.next_try = time.monotonic() + wait_seconds
        self.failures += 1
        self.line.close()


def line_for(settings: Settings, system: str, connection: Connection, producer: Producer, vault: Vault) -> Line:
    """The line of a system, in its form of capture."""
    breaker.at_capture(system, settings.parking.stop)
    kind = {"wal": WalLine, "outbox": OutboxLine}[settings.systems[system].capture]
    return kind(settings, system, connection, producer, vault)


def run(settings: Settings, systems: Sequence[str], vault: Vault, stop: Callable[[], bool]) -> None:
    """Capture from the systems until told to stop; raises `TransientError` when hub or broker are away."""
    connection = connect(settings.hub.dsn, application_name="lienthong capture")
    producer = Producer(settings.kafka.brokers, client_id="lienthong-capture")
    lines = [Supervised(line_for(settings, s, connection, producer, vault)) for s in systems if settings.systems[s].capture != "none"]
    places = Places(settings)
    for supervised in lines:
        supervised.line.witness.place = places.lost
    try:
        while not stop():
            busy = [supervised.step() for supervised in lines]
            _beat(connection, lines)
            if not any(busy):
                sockets = [socket for s in lines if s.state == "running" for socket in s.line.sockets()]
                wait_readable(sockets, WAIT_SECONDS)
    finally:
        places.close()
        _close(lines, producer, connection)


def _beat(connection: Connection, lines: Sequence[Supervised]) -> None:
    due = [s for s in lines if time.monotonic() - s.beat_at > 0.5]
    if not due:
        return
    with transaction(connection) as cursor:
        for supervised in due:
            supervised.beat_at = time.monotonic()
            hub.beat(cursor, supervised.line.system, "capture", 0, supervised.line.through, supervised.state, supervised.reason)


def _close(lines: Sequence[Supervised], producer: Producer, connection: Connection) -> None:
    for supervised in lines:
        try:
            if supervised.state == "running":
                supervised.line.stop()
            else:
                supervised.line.close()
        except (FatalError, TransientError) as error:
            logger.warning(str(error), extra={"action": "capture_close", "system": supervised.line.system})
    producer.close()
    connection.close()
