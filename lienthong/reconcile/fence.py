"""A fence: places in every line, recorded now; behind it, whatever was under way when it was set has arrived."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from connectors.kafka import Ends
from connectors.postgres import Connection, connect, one, rows, transaction
from lienthong import frames
from lienthong.capture.line import source_clock
from lienthong.errors import TransientError
from lienthong.route import topic_of
from lienthong.settings import Settings

POLL_SECONDS = 0.1


@dataclass(slots=True)
class Fence:
    """Waits for one system: its capture passes its own clock, the merge the end of the in-topic, then route and apply what came of it.

    Every place is recorded once and only then waited for, so that a fence is passed under any load. Each stage's place is taken
    after the stage before has passed its own: a merged frame stands on the change list, a routed change in the out-topic.
    """

    settings: Settings
    system: str
    hub: Connection
    timeout_seconds: float
    told: Callable[[str], None] = lambda _: None

    def wait(self) -> float:
        """Wait until all lines have passed; returns the seconds. Raises `TransientError` naming the one that has not."""
        begun = time.monotonic()
        self._until = begun + self.timeout_seconds
        ends = Ends(self.settings.kafka.brokers)
        try:
            if self.settings.systems[self.system].capture != "none":
                moment = self._source_now()
                self._wait("capture", lambda: self._captured(moment))
            places = ends.of(frames.TOPIC)
            self._wait("merge", lambda: self._merged(places))
            newest = self._newest_change()
            self._wait("route", lambda: self._routed(newest))
            if self.settings.systems[self.system].apply and self.settings.contract_of(self.system):
                end = ends.of(topic_of(self.system)).get(0, 0)
                self._wait("apply", lambda: self._applied(end))
        finally:
            ends.close()
        return time.monotonic() - begun

    _until: float = 0.0

    def _wait(self, stage: str, passed: Callable[[], bool]) -> None:
        while not passed():
            self.told(f"{stage} of {self.system}")
            if time.monotonic() > self._until:
                raise TransientError(
                    f"{self.system}: what seemed different may still be under way: {stage} has not passed within {self.timeout_seconds:.0f} s; "
                    "see `lienthong status`, and whether `lienthong run` is running"
                )
            time.sleep(POLL_SECONDS)

    def _source_now(self) -> int:
        connection = connect(self.settings.dsn_of(self.system), application_name="lienthong fence")
        try:
            with transaction(connection) as cursor:
                return source_clock(cursor)
        finally:
            connection.close()

    def _captured(self, moment: int) -> bool:
        with transaction(self.hub) as cursor:
            found = one(
                cursor,
                """SELECT through >= TIMESTAMPTZ 'epoch' + %s * INTERVAL '1 microsecond' FROM hub.line
                   WHERE system = %s AND stage = 'capture'""",
                [moment, self.system],
            )
        return bool(found and found[0])

    def _merged(self, places: dict[int, int]) -> bool:
        with transaction(self.hub) as cursor:
            stored = dict(rows(cursor, "SELECT partition, next FROM hub.consumer_offset WHERE topic = %s", [frames.TOPIC]))
        return all(stored.get(partition, 0) >= end for partition, end in places.items())

    def _newest_change(self) -> int:
        with transaction(self.hub) as cursor:
            found = one(cursor, "SELECT coalesce(max(id), 0) FROM hub.changed")
        return int(found[0]) if found else 0

    def _routed(self, newest: int) -> bool:
        with transaction(self.hub) as cursor:
            return one(cursor, "SELECT 1 FROM hub.changed WHERE id <= %s LIMIT 1", [newest]) is None

    def _applied(self, end: int) -> bool:
        if not end:
            return True
        connection = connect(self.settings.dsn_of(self.system), application_name="lienthong fence")
        try:
            with transaction(connection) as cursor:
                found = one(cursor, "SELECT next FROM lienthong.consumer_offset WHERE topic = %s", [topic_of(self.system)])
        finally:
            connection.close()
        return found is not None and int(found[0]) >= end
