"""Upgrading: a hub or system set up by any release becomes one of today with its rows, twice is once, and the release's code goes on meanwhile.

`tests/upgrades/VERSION/` holds the schema files of each release as they were shipped, put one after another; they are never changed again.
"""

from __future__ import annotations

from importlib.resources import files

import pytest

from lienthong import __version__, hub_schema
from tests.upgrades.schema import HERE, RELEASES, Database, refused, statements

TODAY = {
    "hub": [files("lienthong").joinpath("sql", name).read_text("utf-8") for name in hub_schema.SCHEMA_FILES],
    "lienthong": [files("lienthong").joinpath("sql", "target.sql").read_text("utf-8")],
}
FILE = {"hub": "hub.sql", "lienthong": "system.sql"}
SCHEMAS = pytest.mark.parametrize("schema", FILE)


def upgrade(database: Database) -> None:
    """As the product does it: the hub by itself, a system by its administrator, who runs what `lienthong check --sql` prints."""
    if database.schema == "hub":
        hub_schema.install(database.dsn)
    else:
        database.run(TODAY["lienthong"][0])


def released(dsn: str, schema: str, release: str) -> Database:
    made = Database(dsn, schema)
    made.run((HERE / release / FILE[schema]).read_text("utf-8"))
    return made


def test_the_version_of_today_is_among_the_releases() -> None:
    assert __version__ in RELEASES


@SCHEMAS
def test_every_statement_can_be_run_again_and_only_adds(schema: str) -> None:
    for text in TODAY[schema]:
        assert len(list(statements(text))) > 0
        assert refused(text) == []


@pytest.mark.parametrize("statement", [
    "ALTER TABLE hub.record DROP COLUMN sole",
    "ALTER TABLE hub.record RENAME COLUMN sole TO only",
    "ALTER TABLE hub.record ALTER COLUMN record TYPE text",
    "ALTER TABLE hub.record ADD COLUMN IF NOT EXISTS x text NOT NULL",
    "ALTER TABLE hub.record ADD COLUMN x text",
    "ALTER TABLE hub.record ADD COLUMN IF NOT EXISTS x text, DROP COLUMN sole",
    "ALTER TABLE hub.record ADD CONSTRAINT c CHECK (version > 0)",
    "ALTER TABLE hub.record ALTER sole SET NOT NULL",
    "CREATE TABLE hub.new (x text)",
    "CREATE INDEX new ON hub.record (sole)",
    "DROP INDEX IF EXISTS hub.record_parent",
    "DELETE FROM hub.changed",
    "UPDATE hub.record SET version = version + 1",
])  # fmt: skip
def test_a_statement_that_takes_something_away_is_noticed(statement: str) -> None:
    assert refused(f"-- why\n{statement};") == [statement]
    assert refused("ALTER TABLE hub.record ADD COLUMN IF NOT EXISTS x int NOT NULL DEFAULT 0; -- a; b") == []


@SCHEMAS
@pytest.mark.parametrize("release", RELEASES)
def test_a_database_of_a_release_is_upgraded_with_its_rows_and_twice_is_once(database: str, release: str, schema: str) -> None:
    made = released(database, schema, release)
    made.fill()
    old = {place: kind for place, kind in made.columns().items() if place[0] != "hub.setting"}  # it tells which schema is installed
    before = made.content(old)
    assert all(len(found) == 1 for found in before.values())
    upgrade(made)
    assert made.content(old) == before
    now, others, content = made.columns(), made.others(), made.content(made.columns())
    if schema == "hub":  # so that the statements themselves are run again, not only their digest compared
        made.run("UPDATE hub.setting SET value = 'earlier' WHERE name = 'schema'")
    upgrade(made)
    assert (made.columns(), made.others(), made.content(now)) == (now, others, content)


@SCHEMAS
@pytest.mark.parametrize("release", RELEASES)
def test_an_upgraded_database_is_like_a_new_one(pg_databases: tuple[str, str], release: str, schema: str) -> None:
    upgraded, new = released(pg_databases[0], schema, release), Database(pg_databases[1], schema)
    upgrade(upgraded)
    upgrade(new)
    assert upgraded.columns() == new.columns()
    assert upgraded.others() == new.others()


@SCHEMAS
@pytest.mark.parametrize("release", RELEASES)
def test_the_code_of_a_release_finds_everything_it_knows(pg_databases: tuple[str, str], release: str, schema: str) -> None:
    """Every table, column, index and function of it with the same type, and nothing new that it would have to give."""
    before, after = released(pg_databases[0], schema, release), released(pg_databases[1], schema, release)
    upgrade(after)
    old, now = before.columns(), after.columns()
    assert {place: now.get(place) for place in old} == old
    asked = [f"{table}.{column}" for (table, column), (_, needed, default) in now.items() if (table, column) not in old and needed and not default]
    new_tables = {table for table, _ in now} - {table for table, _ in old}
    assert [one for one in asked if one.rsplit(".", 1)[0] not in new_tables] == []
    known = before.others()
    assert [key for key in known if key not in after.others()] == []
    added = [name for kind, name in after.others() if kind == "constraint" and (kind, name) not in known]
    assert [name for name in added if name.split()[0] not in new_tables] == []
