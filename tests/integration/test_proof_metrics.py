"""What Prometheus is told of proofs: differences that stand, and the newest day that is closed for the whole of a system."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest

from connectors.postgres import connect, transaction
from lienthong import hub_schema, status
from lienthong.settings import Settings

TODAY = datetime.now(UTC).date()
CERTIFICATE = "INSERT INTO hub.certificate VALUES (%s, %s, %s, %s, %s, %s, 0, '', '', '')"


@pytest.fixture
def settings(database: str) -> Settings:
    hub_schema.install(database)
    return cast(Settings, SimpleNamespace(hub=SimpleNamespace(dsn=database)))


def fill(settings: Settings, statement: str, *given: tuple[Any, ...]) -> None:
    connection = connect(settings.hub.dsn, application_name="test")
    with transaction(connection) as cursor:
        for arguments in given:
            cursor.execute(statement, arguments)
    connection.close()


def ago(days: int) -> date:
    return TODAY - timedelta(days=days)


def end_of(day: date) -> float:
    """Midnight in Asia/Ho_Chi_Minh is 17:00 of the day before in UTC."""
    return datetime(day.year, day.month, day.day, 17, tzinfo=UTC).timestamp()


def test_a_day_counts_when_the_newest_certificate_of_every_entity_is_closed(settings: Settings) -> None:
    assert status.closed_days(settings) == []
    fill(
        settings, CERTIFICATE,
        (1, "ward", "dossier", ago(3), 1, "closed"), (2, "ward", "fee", ago(3), 1, "open"), (3, "ward", "fee", ago(3), 2, "closed"),
        (4, "ward", "dossier", ago(2), 1, "closed"), (5, "ward", "fee", ago(2), 1, "closed"), (6, "ward", "fee", ago(2), 2, "open"),
        (7, "portal", "dossier", ago(1), 1, "closed"), (8, "gone", "dossier", ago(60), 1, "closed"),
    )  # fmt: skip
    assert status.closed_days(settings) == [("portal", end_of(ago(1))), ("ward", end_of(ago(3)))]


def test_differences_are_counted_by_system_and_entity(settings: Settings) -> None:
    assert status.differences(settings) == []
    statement = "INSERT INTO hub.difference (system, entity, hop, kind, fields) VALUES (%s, %s, 'capture', 'missing', '{}')"
    fill(settings, statement, ("ward", "dossier"), ("ward", "dossier"), ("ward", "fee"))
    assert status.differences(settings) == [("ward", "dossier", 2), ("ward", "fee", 1)]
