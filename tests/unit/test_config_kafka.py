"""How to log in at the Kafka brokers: from the environment or a file, complete, and never written in the configuration."""

from __future__ import annotations

from pathlib import Path

import pytest

from connectors.brokers import Brokers
from tests.config_kit import ENV, FILES, load, problems, write

PASSWORD = "mat-khau-thu"  # noqa: S105 - synthetic


def configured(folder: Path, security: str) -> Path:
    """The folder with this log-in, and a password in a file."""
    (folder / "secret").write_text(PASSWORD + "\n")
    kafka = '{bootstrap: "localhost:9092", security: ' + security + "}"
    return write(folder, {**FILES, "systems": FILES["systems"].replace('{bootstrap: "localhost:9092"}', kafka)})


def test_the_log_in_comes_from_outside_of_the_file(tmp_path: Path) -> None:
    security = '{mechanism: PLAIN, username: "${KAFKA_USER}", password: "file:secret", authority: /etc/ca.pem}'
    at = load(configured(tmp_path, security), {**ENV, "KAFKA_USER": "sync"}).kafka.brokers
    assert at == Brokers(
        bootstrap="localhost:9092", protocol="SASL_SSL", mechanism="PLAIN", username="sync", password=PASSWORD, authority="/etc/ca.pem"
    )
    assert PASSWORD not in repr(at)


def test_certificates_need_no_mechanism(tmp_path: Path) -> None:
    at = load(configured(tmp_path, "{protocol: SSL, certificate: c.pem, key: k.pem}")).kafka.brokers
    assert (at.protocol, at.mechanism, at.certificate, at.key) == ("SSL", None, "c.pem", "k.pem")


@pytest.mark.parametrize(
    ("security", "says"),
    [
        (f"{{username: u, password: {PASSWORD}}}", "a password is written in the file"),
        ("{username: u}", "needs username and password"),
        ("{protocol: SSL, certificate: c.pem}", "certificate and key belong together"),
    ],
)
def test_a_log_in_that_cannot_work_is_refused_before_anything_starts(tmp_path: Path, security: str, says: str) -> None:
    found = problems(configured(tmp_path, security))
    assert any(says in line for line in found), found
    assert not any(PASSWORD in line for line in found)
