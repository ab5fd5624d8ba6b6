"""A target with a layout of its own, which tests of applying write to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.apply_kit import Ward


@pytest.fixture
def make(database: str) -> Iterator[Callable[..., Ward]]:
    made: list[Ward] = []

    def _make(**more: Any) -> Ward:
        made.append(Ward(database, **more))
        return made[-1]

    yield _make
    for ward in made:
        ward.close()


@pytest.fixture
def ward(make: Callable[..., Ward]) -> Ward:
    return make()
