"""The apply process: many targets, one consumer; a target that is away holds up nobody else, its topic waits for it."""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Sequence

from connectors.brokers import PositionLost
from connectors.kafka import Consumer, Message
from connectors.postgres import Connection, ShapeChanged, connect, one, transaction
from lienthong import hub, place, tracing
from lienthong.apply import held, own_keys
from lienthong.apply.target import Target
from lienthong.breaker import Breaker
from lienthong.capture import witness
from lienthong.delays import Delays
from lienthong.errors import FatalError, FencedError, LienThongError, TransientError
from lienthong.merging import moves_of
from lienthong.receivers import forget_receiver, receivers
from lienthong.route import topic_of
from lienthong.settings import Settings
from lienthong.vault import Vault

logger = logging.getLogger(__name__)

GROUP = "lienthong.apply"
BATCH_RECORDS = 1000
RETRY_SECONDS = (0.2, 0.5, 1, 2, 5, 10)
STOPPED_RETRY_SECONDS = 5.0  # a person has mended something and looks whether it goes on
TOLD_SECONDS = 10.0  # so often what is parked at a target is counted, and told to the hub
RELEASE_SECONDS = 1.0
LEAVE_SECONDS = 10.0  # so often it is asked whether a system without a contract still has something to be withdrawn
IDLE_SECONDS = 1.0
ENDED = "ended"  # everything was withdrawn from a system that has no contract any more

_APPLIED = """
INSERT INTO hub.source_mark (system, applied) VALUES (%s, %s) ON CONFLICT (system) DO UPDATE SET applied = excluded.applied
"""


class Supervised:
    """One target with its state."""

    def __init__(self, settings: Settings, system: str, vault: Vault, hub_connection: Connection) -> None:
        self.settings, self.system, self.vault = settings, system, vault
        self.own_keys = own_keys.OwnKeys(hub_connection, system)
        self.topic = topic_of(system)
        self.target: Target | None = None
        self.state, self.reason = "starting", None
        self.failures, self.next_try, self.through = 0, 0.0, 0
        self.position: int | None = None
        self.shown: int | None = None  # the position that the hub knows
        self.breaker = Breaker(system, settings.parking.stop, verb="refused by the target")
        self.told_at = 0.0

    reason: str | None

    def open(self) -> Target:
        """Connect when not connected."""
        if self.target is None or self.target.connection.closed:
            self.target = Target(self.settings, self.system, self.vault, self.breaker, self.own_keys.renew)
        return self.target

    def failed(self, error: LienThongError) -> None:
        """Remember what went wrong and when to try again."""
        if isinstance(error, ShapeChanged):
            error = FatalError(
                f"{self.system}: {error}; the line has stopped, nothing was parked or lost: `lienthong check --system {self.system}` shows what "
                "is missing; it goes on by itself"
            )
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
        with transaction(self.hub) as cursor:
            served = set(receivers(cursor, settings))
        self.targets = {topic_of(s): Supervised(settings, s, vault, self.hub) for s in systems if s in served}
        self._beat_at = 0.0
        self.delays = Delays()
        self._left_at = 0.0
        self._released_at = 0.0
        self.consumer = Consumer(
            settings.kafka.brokers,
            list(self.targets),
            group=GROUP,
            stored=self._stored,
            client_id=hub.worker_name("apply"),
            batch_max=BATCH_RECORDS,
            lost=self._lost,
        )

    def _stored(self, topic: str, partition: int) -> int | None:
        supervised = self.targets[topic]
        if supervised.state == ENDED:
            self.consumer.pause(topic, partition)
            return None
        try:
            with transaction(supervised.open().connection) as cursor:
                witness.check_written(self.hub, supervised.system, cursor)
            with transaction(self.hub) as cursor:
                supervised.own_keys.begin(own_keys.lives(cursor, self.settings.kafka.partitions))
            supervised.position = supervised.open().stored(topic, partition)
            reason = self._went_back(supervised)
        except LienThongError as error:
            supervised.failed(error)
            self.consumer.pause(topic, partition)
            return None
        supervised.state, supervised.reason, supervised.failures = "running", reason, 0
        return supervised.position or 0  # never "from the beginning": a topic that does not begin at 0 has lost something

    def _went_back(self, supervised: Supervised) -> str | None:
        """Whether a target stands further back than it did: it was restored, with its rows, so what came after is applied again."""
        at = supervised.position or 0
        with transaction(self.hub) as cursor:
            found = one(cursor, "SELECT applied FROM hub.source_mark WHERE system = %s", [supervised.system])
            before = found[0] if found and found[0] is not None else 0
            cursor.execute(_APPLIED, [supervised.system, at])
        if at >= before:
            return None
        reason = f"it went back from position {before} to {at}: what was sent since is applied again"
        logger.warning(reason, extra={"action": "apply_target_went_back", "system": supervised.system})
        return reason

    def _lost(self, problem: PositionLost) -> None:
        """A target's position is not in its topic any more: it waits for a person, and so do its own edits."""
        supervised = self.targets[problem.topic]
        why = place.lost_place(supervised.system, problem.position, *self.consumer.bounds(problem.topic, problem.partition))
        witness.hold(self.hub, supervised.system, why)
        supervised.failed(witness.Held(why))

    def step(self, timeout_ms: int = 100) -> int:
        """Apply what one poll brings; returns how many messages."""
        self._retry()
        messages = self.consumer.poll(timeout_ms)
        by_topic: dict[str, list[Message]] = defaultdict(list)
        for message in messages:
            by_topic[message.topic].append(message)
        for topic, batch in by_topic.items():
            self._apply(self.targets[topic], batch)
        self._release()
        self._beat()
        return len(messages)

    def _apply(self, supervised: Supervised, batch: list[Message]) -> None:
        moves, begun = moves_of(batch, {(supervised.topic, 0): supervised.position}), tracing.now()
        try:
            counts = supervised.open().apply(batch, moves)
        except LienThongError as error:
            supervised.failed(error)
            self.consumer.pause(supervised.topic, 0)
            return
        if any(what in ("parked", held.HELD) for _, what in counts):
            supervised.told_at = 0.0
        tracing.applied(supervised.system, batch, begun)
        self.delays.applied(supervised.system, batch)
        supervised.position = batch[-1].offset + 1
        supervised.through = batch[-1].timestamp_millis * 1000
        supervised.state, supervised.failures = "running", 0

    def _retry(self) -> None:
        """Targets whose time has come: seek to what they have stored and go on."""
        assigned = self.consumer.assigned()
        for topic, supervised in self.targets.items():
            if supervised.state not in ("running", "starting", ENDED) and time.monotonic() >= supervised.next_try and (topic, 0) in assigned:
                self.consumer.seek_stored([(topic, 0)])

    def _release(self) -> None:
        """Parked records that are told to go through again, by a person or by what they waited for, do so also when no message comes."""
        if time.monotonic() - self._released_at < RELEASE_SECONDS:
            return
        self._released_at = time.monotonic()
        for supervised in self._running():
            try:
                if supervised.open().release():
                    supervised.told_at = 0.0
                if time.monotonic() - supervised.told_at > TOLD_SECONDS:
                    self._tell(supervised)
            except LienThongError as error:
                supervised.failed(error)
                self.consumer.pause(supervised.topic, 0)

    def _tell(self, supervised: Supervised) -> None:
        with transaction(supervised.open().connection) as cursor:
            found = held.summary(cursor)
        with transaction(self.hub) as cursor:
            held.tell(cursor, supervised.system, found)
        supervised.told_at = time.monotonic()

    def _running(self) -> list[Supervised]:
        assigned = self.consumer.assigned()
        return [s for s in self.targets.values() if s.state == "running" and (s.topic, 0) in assigned]

    def _beat(self) -> None:
        if time.monotonic() - self._beat_at < 1.0:
            return
        self._beat_at = time.monotonic()
        self._leave()
        self._rest()
        now = int(time.time() * 1_000_000)
        assigned, drained = self.consumer.assigned(), self.consumer.drained()
        with transaction(self.hub) as cursor:
            for supervised in self.targets.values():
                if (supervised.topic, 0) not in assigned or supervised.state == ENDED:
                    continue
                if supervised.state == "running" and (supervised.topic, 0) in drained:
                    supervised.through = now
                hub.beat(cursor, supervised.system, "apply", 0, supervised.through, supervised.state, supervised.reason)
                if supervised.state == "running" and supervised.position != supervised.shown:
                    supervised.shown = supervised.position
                    cursor.execute(_APPLIED, [supervised.system, supervised.position])
            self.delays.store(cursor)

    def _rest(self) -> None:
        """Nothing is written to a system that went back in time before a person has chosen how it goes on, and the hub knows its rows."""
        with transaction(self.hub) as cursor:
            fenced, known = witness.fenced(cursor), own_keys.lives(cursor, self.settings.kafka.partitions)
        for supervised in self._running():
            try:
                if supervised.system in fenced:
                    raise witness.WentBack(fenced[supervised.system])
                supervised.own_keys.begin(known)
            except LienThongError as error:
                supervised.failed(error)
                self.consumer.pause(supervised.topic, 0)

    def _leave(self) -> None:
        """Systems without a contract from which everything is withdrawn are let go of."""
        leaving = [s for s in self._running() if self.settings.contract_of(s.system) is None]
        if not leaving or time.monotonic() - self._left_at < LEAVE_SECONDS:
            return
        self._left_at = time.monotonic()
        for supervised in leaving:
            with transaction(self.hub) as cursor:  # asked before the topic: what was sent before the answer is in it
                gone = forget_receiver(cursor, supervised.system)
                if not gone or (supervised.topic, 0) not in self.consumer.drained():
                    cursor.connection.rollback()
                    continue
            supervised.state = ENDED
            self.consumer.pause(supervised.topic, 0)
            if supervised.target is not None:
                supervised.target.close()
                supervised.target = None
            logger.info("no contract and nothing left there: this target has ended", extra={"action": "apply_ended", "system": supervised.system})

    def close(self) -> None:
        """Leave the group and close every connection."""
        self.consumer.close()
        for supervised in self.targets.values():
            if supervised.target is not None:
                supervised.target.close()
        self.hub.close()


def run(settings: Settings, systems: Sequence[str], vault: Vault, stop: Callable[[], bool]) -> None:
    """Apply until told to stop."""
    line = ApplyLine(settings, systems, vault)
    try:
        while not stop():
            if line.targets:
                line.step()
            else:
                time.sleep(IDLE_SECONDS)
    finally:
        line.close()
