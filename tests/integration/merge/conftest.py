"""The hub that the merge's tests work on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lienthong import hub_schema
from tests.merge_kit import Hub


@pytest.fixture
def city(database: str) -> Iterator[Hub]:
    hub_schema.install(database)
    made = Hub(database)
    yield made
    made.connection.close()
