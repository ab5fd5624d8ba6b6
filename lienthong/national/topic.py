"""The portal's out-topic as the role `deliver` reads it: a thread of its own, so that a long batch keeps no message to the portal waiting."""

from __future__ import annotations

import logging
import threading

from connectors.brokers import PositionLost
from connectors.kafka import Consumer
from connectors.postgres import Connection, connect, transaction
from lienthong import hub, tracing
from lienthong.errors import FencedError
from lienthong.merging import moves_of
from lienthong.national.intake import Intake
from lienthong.route import topic_of
from lienthong.settings import Settings

logger = logging.getLogger(__name__)

GROUP = "lienthong.deliver"
BATCH_MESSAGES = 500
POLL_MILLIS = 200
END_SECONDS = 10.0


class TopicReader:
    """Queues what arrives until told to end; the offset moves in the transaction that queues."""

    def __init__(self, settings: Settings, system: str, intake: Intake) -> None:
        self.system, self.topic, self._intake = system, topic_of(system), intake
        self.lost = ""  # why nothing more is queued
        self.is_drained = False
        self._position: int | None = None
        self._error: BaseException | None = None
        self._ending = threading.Event()
        self._hub: Connection = connect(settings.hub.dsn, application_name="lienthong deliver intake")
        with transaction(self._hub) as cursor:
            cursor.execute(hub.KEYED)
        self._consumer = Consumer(
            settings.kafka.brokers,
            [self.topic],
            group=GROUP,
            stored=self._stored,
            client_id=hub.worker_name("deliver"),
            batch_max=BATCH_MESSAGES,
            lost=self._lost,
        )
        self._thread = threading.Thread(target=self._run, name="deliver-intake", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def check(self) -> None:
        """Raise what ended the reading."""
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """End after the batch under way."""
        self._ending.set()
        self._thread.join(END_SECONDS)
        self._consumer.close()
        self._hub.close()

    def _run(self) -> None:
        try:
            while not self._ending.is_set():
                self._step()
        except BaseException as error:  # noqa: BLE001 - handed to the thread that asks
            self._error = error

    def _step(self) -> None:
        batch = self._consumer.poll(POLL_MILLIS)
        if not batch:
            self.is_drained = (self.topic, 0) in self._consumer.drained()
            return
        self.is_drained = False
        moves = moves_of(batch, {(self.topic, 0): self._position})
        try:
            with transaction(self._hub) as cursor:
                hub.move_offsets(cursor, moves)
                self._intake.take(cursor, batch)
                tracing.queued(cursor, self.system, batch)
        except FencedError as error:  # another process has it, or had it until now
            logger.warning(str(error), extra={"action": "deliver_fenced", "system": self.system})
            self._consumer.seek_stored(sorted(self._consumer.assigned()))
            return
        self._position = batch[-1].offset + 1

    def _stored(self, topic: str, partition: int) -> int | None:
        self._position = hub.stored_offset(self._hub, topic, partition)
        return self._position or 0  # a topic that does not begin at 0 has lost something

    def _lost(self, problem: PositionLost) -> None:
        """Nothing more is queued; what is in the ledger goes out."""
        self.lost = str(problem)
        logger.error(self.lost, extra={"action": "deliver_stopped", "system": self.system, "code": problem.code})
