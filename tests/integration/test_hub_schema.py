"""The hub's schema is completed at a start, and never in the way of merges."""

from connectors.postgres import connect, one, transaction
from lienthong import hub_schema

LOCKED = "LOCK TABLE hub.record, hub.contribution, hub.history, hub.parked, hub.certificate, hub.proof IN ROW EXCLUSIVE MODE"


def test_a_hub_that_is_complete_is_not_locked(database: str) -> None:
    hub_schema.install(database)
    merging = connect(database, application_name="test")
    try:
        with transaction(merging) as cursor:
            cursor.execute("DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET lock_timeout = 200', current_database()); END $$")
        with transaction(merging) as cursor:
            cursor.execute(LOCKED)  # as every merge does
            hub_schema.install(database)
    finally:
        merging.close()


def test_a_hub_of_an_earlier_version_is_completed(database: str) -> None:
    hub_schema.install(database)
    connection = connect(database, application_name="test")
    try:
        with transaction(connection) as cursor:
            cursor.execute("DROP INDEX hub.record_parent; UPDATE hub.setting SET value = 'earlier' WHERE name = 'schema'")
        hub_schema.install(database)
        with transaction(connection) as cursor:
            assert one(cursor, "SELECT to_regclass('hub.record_parent') IS NOT NULL") == (True,)
    finally:
        connection.close()
