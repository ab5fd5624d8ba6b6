# ruff: noqa: S608 - names and numbers of our own in statements
"""Sources that are captured into one hub."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest

from lienthong import frames, hub_schema
from lienthong.embedded import KafkaBroker, PostgresCluster
from tests.capture_kit import PROFILE, TABLES, Site, settings_for
from tests.capture_scenes import NewSite

_numbers = count(1)


@pytest.fixture(scope="module")
def hub_dsn(pg: PostgresCluster) -> Iterator[str]:
    """One hub for the module; every test has a system of its own. It does not wait for standbys, which a test takes away."""
    dsn = pg.create_database("capture_hub")
    pg.execute("ALTER DATABASE capture_hub SET synchronous_commit = local")
    hub_schema.install(dsn)
    yield dsn
    pg.drop_database("capture_hub")


@pytest.fixture
def new_site(pg: PostgresCluster, kafka: KafkaBroker, hub_dsn: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[NewSite]:
    """Makes sources with a database and an in-topic of their own."""
    sites: list[tuple[Site, str]] = []

    def make(form: str, profile: dict[str, Any] = PROFILE, dsn: str | None = None) -> Site:
        number = next(_numbers)
        name = f"capture_{number}"
        monkeypatch.setattr(frames, "TOPIC", f"lienthong.in.{number}")
        dsn = dsn or pg.create_database(name)
        site = Site(settings_for(form, f"ward-{number}", dsn, hub_dsn, kafka.bootstrap, profile), f"ward-{number}")
        sites.append((site, name))
        return site

    yield make
    for site, name in sites:
        site.close()
        pg.drop_database(name)


@pytest.fixture(params=["wal", "outbox"])
def form(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def site(form: str, new_site: NewSite) -> Site:
    """The vendor's tables, empty, ready to be captured."""
    made = new_site(form)
    made.install(TABLES)
    return made
