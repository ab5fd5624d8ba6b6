"""Two databases at once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lienthong.embedded import PostgresCluster


@pytest.fixture
def pg_databases(pg: PostgresCluster, database: str) -> Iterator[tuple[str, str]]:
    """The DSNs of two empty databases of the test's own."""
    other = f"{database.rsplit('/', 1)[1]}_other"
    yield database, pg.create_database(other)
    pg.drop_database(other)
