"""The merge process: reads `lienthong.in` from where the hub says, merges batch by batch, resumes after anything."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from connectors.kafka import Consumer, Message
from connectors.postgres import Connection, transaction
from lienthong import frames, golden, hub, parked_hold, tracing
from lienthong.batch import Batch
from lienthong.delays import Delays
from lienthong.errors import ConfigError, FencedError, TransientError
from lienthong.merge import Merger
from lienthong.settings import Settings

logger = logging.getLogger(__name__)

GROUP = "lienthong.merge"
FRAMES_PER_BATCH = 16
BEAT_SECONDS = 0.5


class MergeLine:
    """One merge process; several share the partitions."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.connection: Connection = hub.open_hub(settings.hub.dsn, "merge")
        golden.follow_authority(self.connection, settings)
        self.merger = Merger(settings, self.connection)
        self._positions: dict[tuple[str, int], int | None] = {}
        self._seen: dict[tuple[str, int], int] = {}
        self._beat_at = 0.0
        self.delays = Delays()
        self._follows = settings.parking.any_holds() or parked_hold.is_any(self.connection)
        self.consumer = Consumer(
            settings.kafka.brokers,
            [frames.TOPIC],
            group=GROUP,
            stored=self._stored,
            client_id=hub.worker_name("merge"),
            batch_max=FRAMES_PER_BATCH,
        )

    def _stored(self, topic: str, partition: int) -> int | None:
        position = hub.stored_offset(self.connection, topic, partition)
        self._positions[topic, partition] = position
        return position

    def step(self, timeout_ms: int = 200) -> Batch | None:
        """Merge what one poll brings."""
        messages = self.consumer.poll(timeout_ms)
        if not messages:
            self._beat()
            return None
        moves, begun = moves_of(messages, self._positions), tracing.now()
        try:
            batch = self.merger.merge(messages, moves)
        except (FencedError, TransientError):
            self.consumer.seek_stored(list(moves))
            raise
        for place, (_, following) in moves.items():
            self._positions[place] = following
        self._seen.update(batch.through)
        self.delays.merged(batch.counts)
        tracing.merged(batch, begun)
        self._beat()
        return batch

    def _beat(self) -> None:
        if time.monotonic() - self._beat_at < BEAT_SECONDS:
            return
        self._beat_at = time.monotonic()
        now = int(time.time() * 1_000_000)
        drained = self.consumer.drained()
        with transaction(self.connection) as cursor:
            for topic, partition in self.consumer.assigned():
                through = now if (topic, partition) in drained else self._oldest(partition)
                hub.beat(cursor, "*", "merge", partition, through)
            self.delays.store(cursor)
        if self._follows:
            self._follow()

    def _follow(self) -> None:
        """Merge what waited behind refused records that are settled by now."""
        try:
            numbers, messages = parked_hold.due(self.connection, [partition for _, partition in self.consumer.assigned()])
        except ConfigError as error:  # without their key they wait on
            logger.warning(str(error), extra={"action": "held_unreadable", "code": error.code})
            return
        if numbers:
            self.merger.merge(messages, {}, numbers)

    def _oldest(self, partition: int) -> int:
        seen = [at for (_, p), at in self._seen.items() if p == partition and at]
        return min(seen, default=0)

    def close(self) -> None:
        """Leave the group; everything merged is committed."""
        self.consumer.close()
        self.connection.close()


def moves_of(messages: list[Message], positions: dict[tuple[str, int], int | None]) -> dict[tuple[str, int], tuple[int | None, int]]:
    """Per partition the stored offset and the one after the last message."""
    moves: dict[tuple[str, int], tuple[int | None, int]] = {}
    for message in messages:
        place = (message.topic, message.partition)
        moves[place] = (positions.get(place), message.offset + 1)
    return moves


def run(settings: Settings, stop: Callable[[], bool]) -> None:
    """Merge until told to stop."""
    line = MergeLine(settings)
    try:
        while not stop():
            try:
                line.step()
            except (FencedError, TransientError) as error:
                logger.warning(str(error), extra={"action": "merge_retry", "code": error.code})
                time.sleep(0.5)
                if line.connection.closed:
                    raise
    finally:
        line.close()
