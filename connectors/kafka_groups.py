"""The door to Kafka's consumer groups: which groups have read which topics, and how far they are."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from connectors.brokers import Brokers
from connectors.kafka import Admin, Ends, errors_translated


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """A consumer group with a place in a topic: `behind` counts offsets up to the end, all partitions together."""

    name: str
    topic: str
    behind: int


class _Groups(Admin):
    def committed(self) -> dict[str, dict[tuple[str, int], int]]:
        """Group -> topic and partition -> the offset it reads next."""
        with errors_translated():
            names = sorted({str(group["group_id"]) for group in self._admin.list_groups()})
            found = self._admin.list_group_offsets(names) if names else {}
        return {name: {(place.topic, place.partition): int(stored.offset) for place, stored in by_place.items()} for name, by_place in found.items()}


def groups(at: Brokers | str, topics: Collection[str]) -> list[Group]:
    """The groups that have ever committed a place in one of these topics, for as long as the brokers keep it; by topic and name."""
    admin = _Groups(at)
    try:
        committed = admin.committed()
    finally:
        admin.close()
    ends = Ends(at)
    try:
        known = {topic: ends.of(topic) for topic in {topic for places in committed.values() for topic, _ in places} & set(topics)}
    finally:
        ends.close()
    behind: dict[tuple[str, str], int] = {}
    for name, places in committed.items():
        for (topic, partition), offset in places.items():
            if topic in known:
                behind[topic, name] = behind.get((topic, name), 0) + max(known[topic].get(partition, offset) - offset, 0)
    return [Group(name=name, topic=topic, behind=left) for (topic, name), left in sorted(behind.items())]
