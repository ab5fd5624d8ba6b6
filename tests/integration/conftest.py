"""Fixtures that several modules of integration tests share: the stand-ins of the population database, and a town that looks people up there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from lienthong.embedded import KafkaBroker, PostgresCluster, Stack
from tests import stock_kit
from tests.lookup_kit import RATE, SECRET, Town, town_of
from tests.national_kit import BA, MAI, Authority, National, population

_numbers = count(1)


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Whose certificates the national services and their callers have."""
    return Authority(tmp_path_factory.mktemp("authority"))


# ------------------------------------------------------------------ the stand-in alone, asked by a stock client
@pytest.fixture(scope="session")
def signing(authority: Authority) -> tuple[Path, Path]:
    """Key and certificate the stand-in signs with."""
    return authority.issue("population")


@pytest.fixture(scope="module")
def signed_server(pg: PostgresCluster, tmp_path_factory: pytest.TempPathFactory, signing: tuple[Path, Path]) -> Iterator[National]:
    """One server without proof of who asks, which signs its answers."""
    name = f"national_signing_{next(_numbers)}"
    with population(tmp_path_factory.mktemp("server"), pg.create_database(name), "--sign", *map(str, signing)) as server:
        yield server
    pg.drop_database(name)


@pytest.fixture
def server(signed_server: National) -> Iterator[National]:
    """That server as new; every connection a test opened to it is closed when it ends."""
    signed_server.heal()
    signed_server.forget()
    yield signed_server
    stock_kit.close()


@pytest.fixture
def guarded(pg: PostgresCluster, tmp_path: Path) -> Iterator[Callable[..., National]]:
    """Starts a server with arguments of its own."""
    name, open_ones = f"national_{next(_numbers)}", []
    dsn = pg.create_database(name)

    def start(*arguments: str) -> National:
        context = population(tmp_path / "server", dsn, *arguments)
        open_ones.append(context)
        return context.__enter__()

    yield start
    stock_kit.close()
    for context in open_ones:
        context.__exit__(None, None, None)
    pg.drop_database(name)


# ------------------------------------------------------------------ a town that looks people up
@pytest.fixture(scope="module")
def broker(stack_root: Path) -> Iterator[KafkaBroker]:
    """A broker of its own: what look-ups send is read from an in-topic of one partition."""
    with Stack(stack_root / f"look-ups-{next(_numbers)}", clusters=()) as stack:
        assert stack.kafka is not None
        yield stack.kafka


@pytest.fixture(scope="module")
def served(pg: PostgresCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[National]:
    """A service that wants the hash header and answers twenty requests a second."""
    arguments, name = ("--auth", "hmac", "--rate", str(RATE)), f"national_population_{next(_numbers)}"
    with population(tmp_path_factory.mktemp("population"), pg.create_database(name), *arguments) as made:
        made.account(SECRET.user, SECRET.secret)
        yield made
    pg.drop_database(name)


@pytest.fixture
def service(served: National) -> Iterator[National]:
    """The service as new."""
    served.heal()
    served.forget()
    served.people(MAI, BA)
    yield served
    served.heal()


@pytest.fixture
def town(database: str, broker: KafkaBroker, service: National) -> Iterator[Town]:
    """A hub with its merger, and look-ups at that service."""
    with town_of(database, broker.bootstrap, service.url()) as made:
        yield made
