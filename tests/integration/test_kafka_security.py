"""Brokers that ask who we are: every client logs in over TLS with a password or a certificate; what is refused says what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from connectors.brokers import BrokerRefuses, Brokers, BrokerUnavailable
from connectors.kafka import Admin, Consumer, Ends, Producer
from connectors.kafka_groups import groups
from lienthong.embedded import KafkaBroker
from tests.national_kit import Authority

USER, OTHER, PASSWORD = "lienthong", "co-quan-a", "mat-khau-thu"
LOGIN = "org.apache.kafka.common.security.plain.PlainLoginModule required"
WAYS = ("password", "certificate")
Made = Callable[..., Brokers]


class Guarded(KafkaBroker):
    """A broker with a listener for passwords and one for certificates, both over TLS; the plain one is its own."""

    port_names = ("port", "control-port", "password-port", "certificate-port")

    def at(self, way: str) -> str:
        return f"localhost:{self._ports[f'{way}-port']}"

    def _prepare(self) -> None:
        outside = ",".join(f"{way.upper()}://{self.at(way)}" for way in WAYS)
        own = f"PLAINTEXT://{self.bootstrap}"
        self._settings |= {
            "listeners": f"{own},CONTROLLER://127.0.0.1:{self._ports['control-port']},{outside}",
            "advertised.listeners": f"{own},{outside}",
        }
        super()._prepare()


@pytest.fixture(scope="module")
def guarded(stack_root: Path, authority: Authority) -> Iterator[Made]:
    """Its address by way of logging in, with whatever is changed."""
    key, certificate = authority.issue("broker")
    own_key, own_certificate = authority.issue(USER)
    folder = stack_root / "guarded-kafka"
    folder.mkdir()
    (folder / "broker.pem").write_text(key.read_text() + certificate.read_text())
    settings = {
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,PASSWORD:SASL_SSL,CERTIFICATE:SSL",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(folder / "broker.pem"),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(authority.ca),
        "sasl.enabled.mechanisms": "PLAIN",
        "listener.name.password.plain.sasl.jaas.config": f'{LOGIN} user_{USER}="{PASSWORD}" user_{OTHER}="{PASSWORD}";',
        "listener.name.certificate.ssl.client.auth": "required",
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": f"User:ANONYMOUS;User:{USER};User:CN={USER}",
    }
    with Guarded(folder / "kafka", settings=settings) as broker:

        def made(way: str = "password", **changed: Any) -> Brokers:
            at = Brokers(bootstrap=broker.at(way), protocol="SSL", authority=str(authority.ca))
            if way == "password":
                at = replace(at, protocol="SASL_SSL", mechanism="PLAIN", username=USER, password=PASSWORD)
            else:
                at = replace(at, certificate=str(own_certificate), key=str(own_key))
            return replace(at, **changed)

        yield made


@pytest.mark.parametrize("way", WAYS)
def test_every_client_logs_in(guarded: Made, way: str) -> None:
    at, topic = guarded(way), f"by-{way}"
    with closing(Admin(at)) as admin:
        admin.ensure({topic: 1}, replication=1, settings={})
    with closing(Producer(at, client_id="test")) as producer:
        producer.send(topic, b"one")
        producer.flush()
    with closing(Ends(at)) as ends:
        assert ends.of(topic) == {0: 1}
    with closing(Consumer(at, [topic], group=f"group-{way}", stored=lambda *_: None, client_id="test")) as consumer:
        polled = (message for _ in range(60) for message in consumer.poll(500))
        assert next(polled).value == b"one"
    assert isinstance(groups(at, {topic}), list)


@pytest.mark.parametrize("changed", [{"password": "sai"}, {"username": OTHER}])
def test_a_refused_log_in_and_missing_rights_say_where_to_look(guarded: Made, changed: dict[str, str]) -> None:
    with pytest.raises((BrokerRefuses, BrokerUnavailable), match=r"kafka\.security") as refused, closing(Admin(guarded(**changed))) as admin:
        admin.ensure({"not-allowed": 1}, replication=1, settings={})
    assert PASSWORD not in str(refused.value)


def test_a_broker_of_another_authority_is_not_believed(guarded: Made, tmp_path: Path) -> None:
    stranger = Authority(tmp_path / "stranger", "Stranger")
    with pytest.raises(BrokerUnavailable), closing(Admin(guarded(authority=str(stranger.ca)))) as admin:
        admin.partitions("any")


def test_nobody_gets_in_without_tls(guarded: Made) -> None:
    with pytest.raises(BrokerUnavailable), closing(Admin(guarded(protocol="PLAINTEXT", mechanism=None))):
        pass
