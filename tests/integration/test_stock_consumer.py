"""A stock confluent-kafka client that knows only the broker and the registry's address reads our topics."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from http.client import HTTPConnection
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

import pytest
import uvicorn
from confluent_kafka import DeserializingConsumer
from confluent_kafka.schema_registry import SchemaRegistryClient, topic_record_subject_name_strategy
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.schema_registry.error import SchemaRegistryError
from confluent_kafka.serialization import MessageField, SerializationContext

import schemas
from connectors.avro import frame, out_codec
from connectors.kafka import Admin, Producer
from lienthong.embedded import KafkaBroker
from lienthong.web.registry import create_app

TOPIC = "lienthong.out.test"
WAIT_SECONDS = 30.0


@pytest.fixture(scope="module")
def registry() -> Iterator[str]:
    """The address of a registry for the system `test`, served over real HTTP."""
    server = uvicorn.Server(uvicorn.Config(create_app(["test"]), log_level="warning", lifespan="off"))
    with socket.create_server(("127.0.0.1", 0)) as listener, running(server, listener):
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def client(registry: str) -> Iterator[SchemaRegistryClient]:
    """A stock client that knows only the address."""
    with SchemaRegistryClient({"url": registry}) as client:
        yield client


@contextmanager
def running(server: uvicorn.Server, listener: socket.socket) -> Iterator[None]:
    thread = Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    give_up = time.monotonic() + WAIT_SECONDS
    while not server.started and time.monotonic() < give_up:
        time.sleep(0.01)
    assert server.started
    yield
    server.should_exit = True
    thread.join(WAIT_SECONDS)
    assert not thread.is_alive()


def meta(record: int) -> dict[str, Any]:
    return {
        "record": record,
        "parent": None,
        "epoch": 1,
        "version": 10 + record,
        "withheld": ["note"],
        "held": ["result"],
        "local_key": None,
        "parent_key": None,
        "yields": [],
    }


SUBMITTED = datetime(2026, 11, 23, 1, 30, 0, 123456, tzinfo=UTC)
SUBMITTED_MICROS = 1_795_397_400_123_456
SENT: list[tuple[str, dict[str, Any]]] = [
    (
        "dossier",
        {
            "meta": meta(1),
            "procedure_code": "1.004222",
            "applicant_name": "Nguyễn Thị Ánh",
            "status": 4,
            "submitted_at": SUBMITTED_MICROS,
            "applicant_birth_date": "1980",
            "fee_total": 12_000,
        },
    ),
    (
        "citizen",
        {"meta": meta(2), "personal_number": "079180001234", "full_name": "Đỗ Văn Ơn", "birth_date": "1980-05"},
    ),
    ("unit", {"meta": meta(3), "code": "26734", "name": "Tân Định", "valid_from": 20_270}),
    ("dossier_component", {"meta": meta(4), "component_code": "TP1", "reused": True, "quantity": 2}),
    (
        "removed",
        {
            "entity": "dossier",
            "record": 1,
            "parent": None,
            "epoch": 1,
            "version": 20,
            "reason": "withdraw",
            "local_key": "HS|1",
        },
    ),
    ("merged", {"entity": "citizen", "record": 2, "from": 9, "epoch": 1, "version": 21, "local_key": None}),
    (
        "dossier",
        {
            "meta": meta(5),
            "procedure_code": "2.002492",
            "applicant_name": "Ân",
            "status": 1,
            "submitted_at": SUBMITTED_MICROS,
        },
    ),
]


@pytest.fixture(scope="module")
def filled(kafka: KafkaBroker) -> str:
    """The address of a broker whose topic holds SENT, written as the service writes it."""
    admin = Admin(kafka.bootstrap)
    admin.ensure({TOPIC: 1}, replication=1, settings={"cleanup.policy": "compact"})
    admin.close()
    producer = Producer(kafka.bootstrap, client_id="test")
    for number, (name, value) in enumerate(SENT):
        framed = frame(schemas.schema_id(name), out_codec(name).encode(value))
        headers = [("ce_type", schemas.full_name(name).encode())]
        producer.send(TOPIC, framed, key=f"{name}:{number}".encode(), partition=0, headers=headers)
    producer.flush()
    producer.close()
    return kafka.bootstrap


def read_all(bootstrap: str, deserializer: AvroDeserializer) -> list[tuple[str, dict[str, Any]]]:
    """The type header and the value of every message, by the stock consumer."""
    consumer = DeserializingConsumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": f"agency-{time.monotonic_ns()}",
            "auto.offset.reset": "earliest",
            "value.deserializer": deserializer,
        }
    )
    consumer.subscribe([TOPIC])
    read = []
    give_up = time.monotonic() + WAIT_SECONDS
    while len(read) < len(SENT) and time.monotonic() < give_up:
        message = consumer.poll(0.2)
        if message is not None:
            assert message.error() is None
            read.append((dict(message.headers())["ce_type"].decode(), message.value()))
    consumer.close()
    return read


def assert_all_read(read: list[tuple[str, dict[str, Any]]]) -> None:
    assert [name for name, _ in read] == [schemas.full_name(name) for name, _ in SENT]
    for (name, sent), (_, value) in zip(SENT, read, strict=True):
        assert set(value) == {declared["name"] for declared in schemas.raw(name)["fields"]}
        assert {key: value[key] for key in sent if key not in LOGICAL} == {key: sent[key] for key in sent if key not in LOGICAL}
    assert read[0][1]["submitted_at"] == SUBMITTED
    assert read[2][1]["valid_from"] == date(2025, 7, 1)


LOGICAL = {"submitted_at", "valid_from"}
"""A stock client turns instants and dates into its language's own values."""


def test_stock_consumer_reads_every_record_type_without_any_setting(filled: str, client: SchemaRegistryClient) -> None:
    assert_all_read(read_all(filled, AvroDeserializer(client)))


def test_stock_consumer_that_wants_the_latest_version_names_the_subject_strategy(filled: str, client: SchemaRegistryClient) -> None:
    settings = {"use.latest.version": True, "subject.name.strategy": topic_record_subject_name_strategy}
    assert_all_read(read_all(filled, AvroDeserializer(client, conf=settings)))


def test_stock_serializer_with_its_default_registration_writes_our_bytes(client: SchemaRegistryClient) -> None:
    settings = {"subject.name.strategy": topic_record_subject_name_strategy}
    serializer = AvroSerializer(client, schemas.text("removed"), conf=settings)
    name, value = SENT[4]
    written = serializer(value, SerializationContext(TOPIC, MessageField.VALUE))
    assert written == frame(schemas.schema_id(name), out_codec(name).encode(value))


def test_stock_serializer_cannot_bring_a_schema_of_its_own(client: SchemaRegistryClient) -> None:
    own = json.dumps({"type": "record", "name": "Own", "fields": [{"name": "x", "type": "int"}]})
    serializer = AvroSerializer(client, own)
    with pytest.raises(SchemaRegistryError) as caught:
        serializer({"x": 1}, SerializationContext(TOPIC, MessageField.VALUE))
    assert (caught.value.http_status_code, caught.value.error_code) == (422, 42205)


def test_stock_client_asks_everything_else(client: SchemaRegistryClient) -> None:
    subject = f"{TOPIC}-vn.lienthong.Fee"
    assert subject in client.get_subjects()
    assert client.get_versions(subject) == [1]
    assert client.get_latest_version(subject).schema_id == client.get_version(subject, 1).schema_id == schemas.schema_id("fee")
    assert client.get_compatibility() == "FULL_TRANSITIVE"
    assert client.test_compatibility(subject, client.get_schema(schemas.schema_id("fee")))
    with pytest.raises(SchemaRegistryError) as caught:
        client.get_schema(999)
    assert caught.value.error_code == 40403


@pytest.mark.parametrize(
    ("escaped", "status"),
    [("lienthong%2Eout%2Etest-vn.lienthong.Fee", 200), ("lienthong%252Eout%252Etest-vn.lienthong.Fee", 404)],
)
def test_subject_is_decoded_exactly_once(registry: str, escaped: str, status: int) -> None:
    address = urlsplit(registry)
    connection = HTTPConnection(address.hostname or "", address.port, timeout=WAIT_SECONDS)
    connection.request("GET", f"/subjects/{escaped}/versions")
    assert connection.getresponse().status == status
    connection.close()
