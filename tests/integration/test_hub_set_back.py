"""A hub that was set back, or is new beside old topics, is refused before anything is merged or sent: it would take rows away in the targets."""

from __future__ import annotations

from itertools import count

import pytest

from connectors.kafka import Admin, Producer
from connectors.postgres import Connection, connect, transaction
from lienthong import hub_schema, in_doubt
from lienthong.embedded import KafkaBroker

_numbers = count(1)


@pytest.fixture
def topic(kafka: KafkaBroker) -> str:
    name = f"lienthong.out.set-back-{next(_numbers)}"
    admin = Admin(kafka.bootstrap)
    admin.ensure({name: 1}, replication=1, settings={"cleanup.policy": "compact"})
    admin.close()
    return name


@pytest.fixture
def hub(database: str) -> Connection:
    hub_schema.install(database)
    return connect(database, application_name="test")


def knows(hub: Connection, *records: int, topic: str = "", following: int = 0) -> None:
    with transaction(hub) as cursor:
        for record in records:
            cursor.execute("INSERT INTO hub.record (record, entity) VALUES (%s, 'dossier') ON CONFLICT DO NOTHING", [record])
        if topic:
            cursor.execute("INSERT INTO hub.out_topic VALUES (%s, %s) ON CONFLICT (topic) DO UPDATE SET next = excluded.next", [topic, following])


def sent(kafka: KafkaBroker, topic: str, *keys: str) -> None:
    producer = Producer(kafka.bootstrap, client_id="test")
    for key in keys:
        producer.send(topic, b"x", key=key.encode(), partition=0)
    producer.flush()
    producer.close()


def test_messages_of_known_records_are_only_a_router_that_died(hub: Connection, kafka: KafkaBroker, topic: str) -> None:
    knows(hub, 1, 2, topic=topic, following=0)
    sent(kafka, topic, "dossier:1", "dossier:2", "probe", "dossier:2")
    in_doubt.refuse_older_hub(hub, kafka.bootstrap, [topic])


def test_messages_about_records_it_never_had_are_a_hub_that_was_set_back(hub: Connection, kafka: KafkaBroker, topic: str) -> None:
    knows(hub, 1, topic=topic, following=1)
    sent(kafka, topic, "dossier:1", "dossier:1", "dossier:7", "fee:8")
    with pytest.raises(in_doubt.HubWentBack, match="at least 2 records that the hub does not know"):
        in_doubt.refuse_older_hub(hub, kafka.bootstrap, [topic])
    knows(hub, 7, 8)
    in_doubt.refuse_older_hub(hub, kafka.bootstrap, [topic])


def test_a_new_hub_beside_old_topics_is_refused_and_beside_empty_ones_is_not(hub: Connection, kafka: KafkaBroker, topic: str) -> None:
    in_doubt.refuse_older_hub(hub, kafka.bootstrap, [topic, "lienthong.out.never-made"])
    sent(kafka, topic, "citizen:5")
    with pytest.raises(in_doubt.HubWentBack, match="Nothing was started"):
        in_doubt.refuse_older_hub(hub, kafka.bootstrap, [topic])


def test_what_the_hub_remembers_is_not_asked_again(hub: Connection, kafka: KafkaBroker, topic: str) -> None:
    sent(kafka, topic, "dossier:9")  # of a record that was erased since, for example
    knows(hub, topic=topic, following=1)
    in_doubt.refuse_older_hub(hub, kafka.bootstrap, [topic])
