"""Real consumers: what was paused at one of them is read on, also after others were read or partitions have gone round."""

from __future__ import annotations

import threading
import time
import uuid
from contextlib import closing

from connectors.kafka import Admin, Consumer, Producer
from lienthong.embedded.kafka import KafkaBroker

SECONDS = 90


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
        before, read, is_over = first.generation, set[str](), threading.Event()

        def another() -> None:  # polls without a pause, as processes do
            with closing(member()) as second:
                while not is_over.is_set():
                    read.update(message.topic for message in second.poll(100))

        thread = threading.Thread(target=another)
        thread.start()
        try:
            while first.generation == before and time.monotonic() < until:
                first.poll(100)
            with closing(Producer(kafka.bootstrap, client_id="test")) as producer:
                for topic in topics:
                    producer.send(topic, b"x", partition=0)
                producer.flush()
            while read != set(topics) and time.monotonic() < until:
                read.update(message.topic for message in first.poll(100))
        finally:
            is_over.set()
            thread.join()
    assert first.generation > before, "the partitions must have gone round"
    assert read == set(topics)


def test_a_partition_that_was_paused_in_the_middle_of_a_fetch_is_read_on_after_another_was_read(kafka: KafkaBroker) -> None:
    """A target that failed with a backlog, beside one that went on, stood still for ever when its time to try again had come."""
    name = uuid.uuid4().hex
    paused, other = topics = [f"one-{name}", f"two-{name}"]
    with closing(Admin(kafka.bootstrap)) as admin:
        admin.ensure(dict.fromkeys(topics, 1), replication=1, settings={})
    with closing(Producer(kafka.bootstrap, client_id="test")) as producer:
        for number in range(50):
            producer.send(paused, b"%d" % number, partition=0)
        producer.flush()
        until = time.monotonic() + SECONDS
        with closing(Consumer(kafka.bootstrap, topics, group=name, stored=lambda _topic, _partition: None, client_id="test", batch_max=10)) as one:
            while not one.poll(100):
                assert time.monotonic() < until
            one.pause(paused, 0)
            producer.send(other, b"x", partition=0)
            producer.flush()
            while not one.poll(100):
                assert time.monotonic() < until
            one.seek_stored([(paused, 0)])
            read: list[bytes | None] = []
            until = time.monotonic() + 15
            while len(read) < 50 and time.monotonic() < until:
                read += [message.value for message in one.poll(100)]
    assert read == [b"%d" % number for number in range(50)]
