"""A group of real consumers: what was paused at one of them is read on after partitions have gone round."""

from __future__ import annotations

import time
import uuid
from contextlib import closing

from connectors.kafka import Admin, Consumer, Producer
from lienthong.embedded.kafka import KafkaBroker

SECONDS = 40


def test_a_partition_that_a_rebalance_gives_back_is_read_on_though_it_was_paused(kafka: KafkaBroker) -> None:
    """A line that failed and waited for its next try when a member of its group came or went stood still for ever, and said that it ran."""
    name = uuid.uuid4().hex
    topics = [f"one-{name}", f"two-{name}"]
    with closing(Admin(kafka.bootstrap)) as admin:
        admin.ensure(dict.fromkeys(topics, 1), replication=1, settings={})

    def member() -> Consumer:
        return Consumer(kafka.bootstrap, topics, group=name, stored=lambda _topic, _partition: None, client_id="test")

    until = time.monotonic() + SECONDS
    with closing(member()) as first:
        while len(first.assigned()) < len(topics) and time.monotonic() < until:
            first.poll(100)
        for topic in topics:
            first.pause(topic, 0)
        with closing(member()) as second:
            while not second.assigned() and time.monotonic() < until:
                second.poll(50)
                first.poll(50)
            with closing(Producer(kafka.bootstrap, client_id="test")) as producer:
                for topic in topics:
                    producer.send(topic, b"x", partition=0)
                producer.flush()
            read: set[str] = set()
            while read != set(topics) and time.monotonic() < until:
                read |= {message.topic for consumer in (first, second) for message in consumer.poll(100)}
            kept = {topic for topic, _ in first.assigned()}
            assert len(kept) == 1, "each has one, so one of them came back to where it was paused"
            assert read == set(topics)
