"""Looks for personal data where none may be: logs, errors, keys, headers, file names, metrics."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from kafka import KafkaConsumer, TopicPartition

from tests.city import wait
from tests.faults import load
from tests.faults.stack import FaultCity
from tests.faults.words import SYSTEMS

MARKS = tuple(mark.lower().encode() for mark in (load.CANARY, load.CANARY_PHONE, load.CANARY_NUMBER))
TEXTS = {
    "hub": (
        "SELECT message FROM hub.parked", "SELECT reason FROM hub.line", "SELECT system || entity || outcome FROM hub.counter",
        "SELECT field FROM hub.parked", "SELECT name || value FROM hub.setting",
    ),
    "system": ("SELECT message FROM lienthong.parked", "SELECT entity || outcome FROM lienthong.counter"),
}  # fmt: skip
METRICS_PATH, METRICS_SECONDS = "/metrics", 20.0


def leaks(city: FaultCity) -> list[str]:
    """Where a canary was seen; never what."""
    return [*_in_files(city.folder), *_in_database(city)]


def thorough(city: FaultCity) -> list[str]:
    """The same, and every key and header of every topic, and the metrics of every role that serves them."""
    return [*leaks(city), *_in_topics(city), *_in_metrics(city)]


def seen(data: bytes) -> bool:
    """Whether a canary is in these bytes."""
    text = data.lower()
    return any(mark in text for mark in MARKS)


def _in_files(folder: Path) -> Iterator[str]:
    for path in folder.rglob("*"):
        if seen(str(path).encode()):
            yield "a file name"
        if path.suffix == ".log" and "data" not in path.parts:
            with suppress(FileNotFoundError):
                for number, line in enumerate(path.read_bytes().splitlines(), 1):
                    if seen(line):
                        yield f"{path.relative_to(folder)}:{number}"


def _in_database(city: FaultCity) -> Iterator[str]:
    for name in ("hub", *(system.replace("-", "_") for system in SYSTEMS)):
        for statement in TEXTS["hub" if name == "hub" else "system"]:
            if any(seen(str(value).encode()) for (value,) in city.sql(name, statement)):
                yield f"{name}: {statement}"


def _in_topics(city: FaultCity) -> Iterator[str]:
    assert city.stack.kafka is not None
    consumer = KafkaConsumer(bootstrap_servers=city.stack.kafka.bootstrap, group_id=None, enable_auto_commit=False)
    try:
        for topic in consumer.topics():
            if seen(topic.encode()):
                yield "a topic's name"
            yield from _in_topic(consumer, topic)
    finally:
        consumer.close()


def _in_topic(consumer: KafkaConsumer, topic: str) -> Iterator[str]:
    places = [TopicPartition(topic, partition) for partition in consumer.partitions_for_topic(topic) or ()]
    ends = consumer.end_offsets(places)
    consumer.assign(places)
    consumer.seek_to_beginning(*places)
    while any(consumer.position(place) < ends[place] for place in places):
        for messages in consumer.poll(timeout_ms=500).values():
            for message in messages:
                if any(seen(part) for part in _outside(message.key, message.headers)):
                    yield f"{topic}-{message.partition} offset {message.offset}"


def _outside(key: bytes | None, headers: Iterable[tuple[str, bytes]]) -> Iterator[bytes]:
    yield key or b""
    for name, value in headers or ():
        yield name.encode() + b"=" + (value or b"")


def _in_metrics(city: FaultCity) -> Iterator[str]:
    for role, port in city.metrics_ports.items():
        answer: list[bytes] = []
        with suppress(AssertionError):
            wait(lambda port=port, answer=answer: _asked(port, answer), METRICS_SECONDS)
        if not answer:
            yield f"no metrics to look through: {role} does not answer"
        elif seen(answer[0]):
            yield f"metrics of {role}"


def _asked(port: int, answer: list[bytes]) -> bool:
    with suppress(URLError, OSError), urlopen(f"http://127.0.0.1:{port}{METRICS_PATH}", timeout=5) as said:
        answer.append(said.read())
    return bool(answer)
