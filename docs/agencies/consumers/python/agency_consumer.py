"""Keep what an agency is entitled to: a consumer with the stock confluent-kafka client. Read it as an example; the place to store is yours.

pip install "confluent-kafka[avro,schemaregistry]>=2.8"
python agency_consumer.py BROKERS REGISTRY TOPIC GROUP

Prints what it holds, one JSON object a line, when nothing has come for five seconds.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from datetime import UTC, date, datetime, timedelta

from confluent_kafka import Consumer
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext

IDLE_SECONDS = 5.0
SERVICE = {"vn.lienthong.Removed", "vn.lienthong.Merged"}

held: dict[int, dict] = {}  # record number: its newest state. Yours: a table, written in one transaction with the numbers below
ended: dict[int, tuple[int, int]] = {}  # record number: the (epoch, version) that ended it


def take(type_: str, value: dict) -> None:
    """One record: a greater (epoch, version) replaces a smaller one, and nothing brings back what has ended."""
    meta = value if type_ in SERVICE else value["meta"]
    version = (meta["epoch"], meta["version"])
    if type_ == "vn.lienthong.Merged":
        follow(meta["from"], meta["record"], version)
        return
    record = meta["record"]
    known = held[record]["version"] if record in held else ended.get(record, (0, 0))
    if version < known or (version == known and record in ended):
        return
    if type_ == "vn.lienthong.Removed":
        held.pop(record, None)
        ended[record] = version
    else:
        ended.pop(record, None)
        held[record] = {"type": type_, "version": version, "parent": meta["parent"], "value": value}


def follow(old: int, new: int, version: tuple[int, int]) -> None:
    """Two records turned out to be one: what is held of the old one now belongs to the new one."""
    held.pop(old, None)
    ended[old] = version
    for state in held.values():
        if state["parent"] == old:
            state["parent"] = new


def check(message) -> None:
    """A changed byte is read by Avro as another value, silently: compare the digest before you store."""
    digest = dict(message.headers())["lt_digest"]
    if hashlib.blake2b(message.value(), digest_size=8).digest() != digest:
        sys.exit(f"damaged at offset {message.offset()}: nothing of it was stored; tell the city")


def main(brokers: str, registry: str, topic: str, group: str) -> None:
    """Read until nothing comes; commit only what has been stored."""
    deserialize = AvroDeserializer(SchemaRegistryClient({"url": registry}))
    settings = {"bootstrap.servers": brokers, "group.id": group, "auto.offset.reset": "earliest", "enable.auto.commit": False}
    consumer = Consumer(settings)
    consumer.subscribe([topic])
    heard = time.monotonic()
    try:
        while time.monotonic() - heard < IDLE_SECONDS:
            message = consumer.poll(1.0)
            if message is None:
                continue
            if message.error():
                sys.exit(str(message.error()))
            heard = time.monotonic()
            if message.value() is not None and message.key() != b"probe":
                check(message)
                value = deserialize(message.value(), SerializationContext(topic, MessageField.VALUE))
                take(dict(message.headers())["ce_type"].decode(), value)
            consumer.commit(message, asynchronous=False)
    finally:
        consumer.close()
    for record, state in sorted(held.items()):
        print(json.dumps({"record": record, **state}, default=plain, ensure_ascii=False))


def plain(value: object) -> int:
    """Instants and dates as the numbers that are on the wire, so that all three examples print the same."""
    if isinstance(value, datetime):
        return (value - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    if isinstance(value, date):
        return (value - date(1970, 1, 1)).days
    raise TypeError(type(value).__name__)


if __name__ == "__main__":
    main(*sys.argv[1:])
