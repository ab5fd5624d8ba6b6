"""What stands in the topics, read and written again by a client of the tests' own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewPartitions

from lienthong import frames

IN = "lienthong.in"
OUTS = ("lienthong.out.portal", "lienthong.out.ward-a", "lienthong.out.ward-b")
Place = tuple[str, int]


@contextmanager
def _consumer(bootstrap: str) -> Iterator[Any]:
    with closing(KafkaConsumer(bootstrap_servers=bootstrap, group_id=None, enable_auto_commit=False)) as consumer:
        yield consumer


def ends(bootstrap: str, topics: Iterable[str] = (IN, *OUTS)) -> dict[Place, int]:
    """The offset after the last message of every partition."""
    with _consumer(bootstrap) as consumer:
        places = [TopicPartition(topic, p) for topic in topics for p in consumer.partitions_for_topic(topic) or ()]
        return {(place.topic, place.partition): end for place, end in consumer.end_offsets(places).items()}


def messages(bootstrap: str, topic: str, start: dict[Place, int] | None = None) -> list[Any]:
    """All messages of a topic, or those from given offsets on; in order within a partition."""
    with _consumer(bootstrap) as consumer:
        places = [TopicPartition(topic, p) for p in sorted(consumer.partitions_for_topic(topic) or ())]
        last = consumer.end_offsets(places)
        consumer.assign(places)
        for place in places:
            consumer.seek(place, (start or {}).get((topic, place.partition), consumer.beginning_offsets([place])[place]))
        found = []
        while any(consumer.position(place) < last[place] for place in places):
            for batch in consumer.poll(timeout_ms=500).values():
                found += batch
        return found


def told(frame: bytes) -> Iterator[str]:
    """What a frame of the in-topic says, a line for each entry: kind, system, entity and local key; no value."""
    header, packed = frames.open_frame(frame)
    for entry in packed:
        if header.kind == "records":
            (one,) = frames.unpack_entries(header, [entry])
            yield f"records of {header.system}: {header.entity} {one.key}"
        else:
            yield f"{header.kind} of {header.system}"


def send_again(bootstrap: str, again: Iterable[Any]) -> int:
    """Send messages a second time, as they were, into their partitions; how many."""
    count = 0
    with closing(KafkaProducer(bootstrap_servers=bootstrap, acks="all", max_request_size=1_000_000)) as producer:
        for message in again:
            producer.send(
                message.topic, value=message.value, key=message.key, partition=message.partition, headers=list(message.headers or ()) or None
            )
            count += 1
        producer.flush()
    return count


def send_raw(bootstrap: str, values: Iterable[tuple[str, int, bytes | None, bytes, Sequence[tuple[str, bytes]]]]) -> int:
    """Send (topic, partition, key, value, headers) as they are; how many."""
    count = 0
    with closing(KafkaProducer(bootstrap_servers=bootstrap, acks="all", max_request_size=1_000_000)) as producer:
        for topic, partition, key, value, headers in values:
            producer.send(topic, value=value, key=key, partition=partition, headers=list(headers))
            count += 1
        producer.flush()
    return count


def delete_all(bootstrap: str, topic: str) -> None:
    """What retention does: everything up to now is gone."""
    last = {TopicPartition(name, partition): end for (name, partition), end in ends(bootstrap, [topic]).items()}
    with closing(KafkaAdminClient(bootstrap_servers=bootstrap)) as admin:
        admin.delete_records(last)


def raise_partitions(bootstrap: str, topic: str, count: int) -> None:
    """Give a topic more partitions."""
    with closing(KafkaAdminClient(bootstrap_servers=bootstrap)) as admin:
        admin.create_partitions({topic: NewPartitions(count)})
