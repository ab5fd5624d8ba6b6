"""The apply process: many targets, one consumer; a target that is away holds up nobody else, its topic waits for it."""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Sequence

from connectors.kafka import Consumer, Message
from connectors.postgres import Connection, connect, transaction
from lienthong import hub
from lienthong.apply.target import Target
from lienthong.errors import FencedError, LienThongError, TransientError
from lienthong.merging import moves_of
from lienthong.route import topic_of
from lienthong.settings import Settings
from lienthong.vault import Vault

logger = logging.getLogger(__name__)

GROUP = "lienthong.apply"
BATCH_RECORDS = 1000
RETRY_SECONDS = (0.2, 0.5, 1, 2, 5, 10)
STOPPED_RETRY_SECONDS = 30.0


class Supervised:
    """One target with its state."""

    def __init__(self, settings: Settings, system: str, vault: Vault) -> None:
        self.settings, self.system, self.vault = settings, system, vault
        self.topic = topic_of(system)
        self.target: Target | None = None
        self.state, self.reason = "starting", None
        self.failures, self.next_try, self.through = 0, 0.0, 0
        self.position: int | None = None

    reason: str | None

    def open(self) -> Target:
        """Connect when not connected."""
        if self.target is None or self.target.connection.closed:
            self.target = Target(self.settings, self.system, self.vault)
        return self.target

    def failed(self, error: LienThongError) -> None:
        """Remember what went wrong and when to try again."""
        transient = isinstance(error, TransientError | FencedError)
        state = "retrying" if transient else "stopped"
        if state != self.state or str(error) != self.reason:
            logger.warning(str(error), extra={"action": f"apply_{state}", "system": self.system, "code": error.code})
        self.state, self.reason = state, str(error)
        wait = RETRY_SECONDS[min(self.failures, len(RETRY_SECONDS) - 1)] if transient else STOPPED_RETRY_SECONDS
        self.next_try = time.monotonic() + wait
        self.failures += 1
        if self.target is not None:
            self.target.close()
            self.target = None


class ApplyLine:
    """Applies to many targets."""

    def __init__(self, settings: Settings, systems: Sequence[str], vault: Vault) -> None:
        self.settings = settings
        self.hub: Connection = connect(settings.hub.dsn, application_name="lienthong apply")
        self.targets = {topic_of(s): Supervised(settings, s, vault) for s in systems}
        self._beat_at = 0.0
        self.consumer = Consumer(
            settings.kafka.bootstrap, list(self.targets), group=GROUP, stored=self._stored, client_id=hub.worker_name("apply"),
            batch_max=BATCH_RECORDS,
        )

    def _stored(self, topic: str, partition: int) -> int | None:
        supervised = self.targets[topic]
        try:
            supervised.position = supervised.open().stored(topic, partition)
        except LienThongError as error:
            supervised.failed(error)
            self.consumer.pause(topic, partition)
            return None
        supervised.state, supervised.reason, supervised.failures = "running", None, 0
        return supervised.position

    def step(self, timeout_ms: int = 100) -> int:
        """Apply what one poll brings; returns how many messages."""
        self._retry()
        messages = self.consumer.poll(timeout_ms)
        by_topic: dict[str, list[Message]] = defaultdict(list)
        for message in messages:
            by_topic[message.topic].append(message)
        for topic, batch in by_topic.items():
            self._apply(self.targets[topic], batch)
        self._beat()
        return len(messages)

    def _apply(self, supervised: Supervised, batch: list[Message]) -> None:
        moves = moves_of(batch, {(supervised.topic, 0): supervised.position})
        try:
            supervised.open().apply(batch, moves)
        except LienThongError as error:
            supervised.failed(error)
            self.consumer.pause(supervised.topic, 0)
            return
        supervised.position = batch[-1].offset + 1
        supervised.through = batch[-1].timestamp_millis * 1000
        supervised.state, supervised.reason, supervised.failures = "running", None, 0

    def _retry(self) -> None:
        """Targets whose time has come: seek to what they have stored and go on."""
        assigned = self.consumer.assigned()
        for topic, supervised in self.targets.items():
            if supervised.state not in ("running", "starting") and time.monotonic() >= supervised.next_try and (topic, 0) in assigned:
                self.consumer.resume(topic, 0)
                self.consumer.seek_stored([(topic, 0)])

    def _beat(self) -> None:
        if time.monotonic() - self._beat_at < 1.0:
            return
        self._beat_at = time.monotonic()
        now = int(time.time() * 1_000_000)
        assigned, drained = self.consumer.assigned(), self.consumer.drained()
        with transaction(self.hub) as cursor:
            for supervised in self.targets.values():
                if (supervised.topic, 0) not in assigned:
                    continue
                if supervised.state == "running" and (supervised.topic, 0) in drained:
                    supervised.through = now
                hub.beat(cursor, supervised.system, "apply", 0, supervised.through, supervised.state, supervised.reason)

    def close(self) -> None:
        """Leave the group and close every connection."""
        self.consumer.close()
        for supervised in self.targets.values():
            if supervised.target is not None:
                supervised.target.close()
        self.hub.close()


def run(settings: Settings, systems: Sequence[str], vault: Vault, stop: Callable[[], bool]) -> None:
    """Apply until told to stop."""
    line = ApplyLine(settings, [s for s in systems if settings.systems[s].apply and settings.contract_of(s)], vault)
    try:
        while not stop():
            line.step()
    finally:
        line.close()
