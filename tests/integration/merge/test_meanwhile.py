"""The merge on a real hub: a newer word of the same source record that is stored between our look and our write is not overwritten.

A child that moves to another dossier comes by another partition, so that two merges can have words of one source record in hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest

from connectors.postgres import connect
from lienthong import hub
from lienthong.errors import TransientError
from lienthong.hub import Known
from tests.integration.merge.test_order_of_locks import wait_for
from tests.merge_kit import DOSSIER, Hub, state

N1 = DOSSIER | {"national_code": "N1"}


def merged_after_the_look(city: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """The portal's reading 5 is merged; just after it was looked up, the portal's reading 9 is merged by another."""
    other, existing = Hub(city.dsn, partition=1), hub.existing

    def looked_up(cursor: Any, keys: Sequence[tuple[str, str, str]]) -> dict[tuple[str, str, str], Known]:
        monkeypatch.setattr(hub, "existing", existing)
        found = existing(cursor, keys)
        other.merge(state("portal", "P", 9, N1 | {"note": "newest"}))
        return found

    monkeypatch.setattr(hub, "existing", looked_up)
    with suppress(TransientError):  # it is merged again
        city.merge(state("portal", "P", 5, N1 | {"note": "older"}))
    other.connection.close()


def test_a_newer_word_that_was_stored_meanwhile_is_not_overwritten(city: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    city.each(state("portal", "P", 1, N1), state("ward-a", "W", 1, N1))
    city.merge(state("portal", "Q", 1, DOSSIER))  # after a batch that links the next runs alone: this one
    merged_after_the_look(city, monkeypatch)
    assert city.golden()[0]["note"] == "newest"
    city.merge(state("portal", "P", 5, N1 | {"note": "older"}))
    assert city.golden()[0]["note"] == "newest"
    assert city.counts("older") == 1


def test_a_newer_word_of_a_sole_contributor_is_not_overwritten(city: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    city.merge(state("portal", "P", 1, N1))
    merged_after_the_look(city, monkeypatch)
    assert [golden["note"] for golden in city.golden()] == ["newest"]
    assert city.sql("SELECT version FROM hub.contribution") == [(9,)]


def test_a_newer_word_of_a_sole_contributor_that_was_waited_for_is_not_overwritten(city: Hub) -> None:
    city.merge(state("portal", "P", 1, N1))
    other, watch = connect(city.dsn, application_name="other"), connect(city.dsn, application_name="watch")
    other.cursor().execute("""UPDATE hub.record SET body = body || '{"note": "newest"}'; UPDATE hub.contribution SET version = 9""")
    with ThreadPoolExecutor(1) as pool:
        job = pool.submit(city.merge, state("portal", "P", 5, N1 | {"note": "older"}))
        try:
            wait_for(watch, 1)
        finally:
            other.commit()
            other.close()
            watch.close()
        assert isinstance(job.exception(60), TransientError), "it is merged again"
    assert [golden["note"] for golden in city.golden()] == ["newest"]
    assert city.sql("SELECT version FROM hub.contribution") == [(9,)]
