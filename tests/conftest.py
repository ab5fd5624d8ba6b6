"""Real servers for the tests: each is started once, when the first test asks for it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from kafka.net import inet, transport

from lienthong.embedded import KafkaBroker, PostgresCluster, Stack

_numbers = count(1)
_sock_connect = inet.KafkaNetSocket.sock_connect
_handshake = transport.KafkaSSLTransport.handshake


async def _closing_what_fails(self: Any, net: Any, sock: Any, *place: Any, **named: Any) -> Any:
    """kafka-python 3.0.12 leaves the socket of an attempt to connect that fails to the garbage collector, whose warning is an error here."""
    try:
        return await _sock_connect(self, net, sock, *place, **named)
    except BaseException:
        sock.close()
        raise


async def _closing_what_is_not_believed(self: Any) -> None:
    """The same of a TLS handshake that fails."""
    try:
        await _handshake(self)
    except BaseException:
        self._sock.close()
        raise


inet.KafkaNetSocket.sock_connect = _closing_what_fails
transport.KafkaSSLTransport.handshake = _closing_what_is_not_believed

hypothesis.settings.register_profile("shared machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("shared machine")


@pytest.fixture(scope="session")
def stack_root() -> Iterator[Path]:
    """A folder for server data that PostgreSQL's own user can reach when the tests run as root."""
    folder = Path(tempfile.mkdtemp(prefix="lienthong-tests-"))
    if os.geteuid() == 0:
        folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def pg(stack_root: Path) -> Iterator[PostgresCluster]:
    """One PostgreSQL for all tests, with logical decoding; tests that stop or kill a server start their own."""
    with Stack(stack_root / "postgres", clusters=("tests",), with_kafka=False) as stack:
        yield stack.postgres["tests"]


@pytest.fixture(scope="session")
def kafka(stack_root: Path) -> Iterator[KafkaBroker]:
    """One Kafka broker for all tests; each test takes its own topics and groups."""
    with Stack(stack_root / "kafka", clusters=()) as stack:
        assert stack.kafka is not None
        yield stack.kafka


@pytest.fixture
def database(pg: PostgresCluster) -> Iterator[str]:
    """The DSN of an empty database of the test's own."""
    name = f"test_{next(_numbers)}"
    yield pg.create_database(name)
    pg.drop_database(name)
