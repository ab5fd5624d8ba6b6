"""What is kept about people for a time only goes when that time is over, and not an hour before."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from connectors.postgres import connect, transaction
from lienthong import hub_schema, purge
from lienthong.settings import Retention, Settings
from tests.merge_kit import settings as merge_settings

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
DAYS = {"answers": 30, "accesses": 1825, "views": 1825, "payloads": 90, "edits": 90, "history": 365}


@pytest.fixture
def settings(database: str) -> Settings:
    hub_schema.install(database)
    return merge_settings(database)


def sql(settings: Settings, statement: str, *values: Any) -> list[tuple[Any, ...]]:
    connection = connect(settings.hub.dsn, application_name="test")
    try:
        with transaction(connection) as cursor:
            cursor.execute(statement, list(values) or None)
            return list(cursor.fetchall()) if cursor.description else []
    finally:
        connection.close()


def fill(settings: Settings, what: str, at: datetime) -> None:
    """One row of a kind whose time began at a moment."""
    if what == "answers":
        sql(settings, "INSERT INTO hub.remembered (question, is_known, answered_at) VALUES (%s, true, %s)", str(at), at)
    elif what == "accesses":
        sql(
            settings,
            """INSERT INTO hub.access (at, officer, unit, purpose, request_id, operation, subject)
               VALUES (%s, 'o', 'u', 'p', gen_random_uuid(), 'verify', 's')""",
            at,
        )
    elif what == "views":
        sql(settings, "INSERT INTO hub.view_audit (at, viewer, purpose, record) VALUES (%s, 'o', NULL, NULL)", at)
    elif what in ("payloads", "edits"):
        ((number,),) = sql(
            settings,
            """INSERT INTO hub.parked (system, entity, kind, reason, message, payload, state, closed_at)
               VALUES ('ward', 'citizen', 'refused', 'missing', 'm', 'x', 'closed', %s) RETURNING id""",
            at,
        )
        if what == "edits":
            sql(settings, "UPDATE hub.parked SET payload = NULL")
            sql(
                settings,
                "INSERT INTO hub.parked_action (at, officer, action, place, parked, system, edited) VALUES (%s, 'o', 'edit', 'hub', %s, 'ward', 'x')",
                at - timedelta(days=5), number,
            )  # fmt: skip
    else:
        ((record,),) = sql(settings, "SELECT coalesce(max(record), 0) + 1 FROM hub.record")
        sql(settings, "INSERT INTO hub.record (record, entity, deleted, updated_at) VALUES (%s, 'citizen', true, %s)", record, at)
        sql(settings, """INSERT INTO hub.history (record, version, before) VALUES (%s, 1, '{"full_name": "x"}')""", record)


def run(settings: Settings, *, dry_run: bool = False) -> dict[str, int]:
    return purge.purge(settings, officer="an officer", now=NOW, dry_run=dry_run)


@pytest.mark.parametrize("what", DAYS)
def test_it_goes_when_its_time_is_over_and_not_before(settings: Settings, what: str) -> None:
    over = NOW - timedelta(days=DAYS[what])
    fill(settings, what, over - timedelta(minutes=1))
    fill(settings, what, over + timedelta(minutes=1))
    nothing = dict.fromkeys(DAYS, 0)
    assert run(settings, dry_run=True) == nothing | {what: 1}
    assert run(settings) == nothing | {what: 1}
    assert run(settings) == nothing
    assert sql(settings, "SELECT officer, what, rows, before FROM hub.purged") == [("an officer", what, 1, over)]


def test_what_is_open_or_alive_stays_however_old(settings: Settings) -> None:
    old = NOW - timedelta(days=4000)
    for what in ("payloads", "edits", "history"):
        fill(settings, what, old)
    sql(settings, "UPDATE hub.parked SET state = 'open', closed_at = NULL, payload = 'x'")
    sql(settings, "UPDATE hub.record SET deleted = false")
    sql(settings, "INSERT INTO hub.remembered (question, asking_until) VALUES ('asked now', %s)", NOW + timedelta(seconds=5))
    assert run(settings) == dict.fromkeys(DAYS, 0)


def test_the_reason_of_a_closed_record_and_who_did_what_stay(settings: Settings) -> None:
    old = NOW - timedelta(days=4000)
    for what in ("edits", "payloads", "history"):
        fill(settings, what, old)
    run(settings)
    assert sql(settings, "SELECT reason, payload FROM hub.parked") == [("missing", None)] * 2
    assert sql(settings, "SELECT officer, action, edited FROM hub.parked_action") == [("o", "edit", None)]
    assert sql(settings, "SELECT version, before FROM hub.history") == [(1, None)]
    assert sql(settings, "SELECT deleted FROM hub.record") == [(True,)]


def test_many_rows_go_in_small_transactions(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(purge, "AT_ONCE", 10)
    sql(settings, "INSERT INTO hub.remembered (question, answered_at) SELECT n::text, %s FROM generate_series(1, 25) n", NOW - timedelta(days=50))
    assert run(settings)["answers"] == 25
    assert sql(settings, "SELECT rows FROM hub.purged ORDER BY id") == [(10,), (10,), (5,)]


def test_times_are_configured_with_a_floor(settings: Settings) -> None:
    shorter = settings.model_copy(update={"retention": Retention(closed_days=1, access_days=365)})
    fill(settings, "payloads", NOW - timedelta(days=2))
    assert purge.purge(shorter, officer="o", now=NOW, dry_run=False)["payloads"] == 1
    with pytest.raises(ValueError, match="greater than or equal to 365"):
        Retention(access_days=364)
    with pytest.raises(ValueError, match="greater than or equal to 730"):
        Retention(view_days=729)
