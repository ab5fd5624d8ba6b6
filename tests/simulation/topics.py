"""Kafka's place: one list of messages for each topic, and a crash between any two."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from connectors.kafka import Message
from tests.simulation.database import Fuse


class Topics:
    """A producer, and the tails of the topics it writes to; the last one made stands where `connectors.kafka.Ends` is."""

    now: Topics

    def __init__(self, fuse: Fuse) -> None:
        self.topics: dict[str, list[Message]] = defaultdict(list)
        self._fuse = fuse
        self._acknowledged: dict[str, tuple[int, int]] = {}
        Topics.now = self

    def send(self, topic: str, value: bytes | None, *, key: bytes | None = None, partition: int | None = None, headers: Any = ()) -> None:
        """Take one message."""
        self._fuse.burn()
        log = self.topics[topic]
        self._acknowledged[topic] = (self._acknowledged.get(topic, (len(log), 0))[0], len(log))
        log.append(Message(topic, partition or 0, len(log), 0, key, value, tuple(headers)))

    def flush(self) -> dict[str, tuple[int, int]]:
        """All are there: the first and last offset by topic."""
        self._fuse.burn()
        done, self._acknowledged = self._acknowledged, {}
        return done

    def sender_ends(self) -> None:
        """What is not acknowledged is there, but nobody knows."""
        self._acknowledged = {}

    def ends(self, topics: Sequence[str]) -> dict[str, int]:
        """The offset after the last message of each topic that exists."""
        return {topic: len(self.topics[topic]) for topic in topics if topic in self.topics}

    def between(self, topic: str, start: int, end: int) -> Iterator[Message]:
        """The messages from `start` up to before `end`."""
        yield from self.topics[topic][start:end]

    def total(self) -> int:
        """How many messages there are."""
        return sum(map(len, self.topics.values()))

    def close(self) -> None:
        """Nothing is held."""
