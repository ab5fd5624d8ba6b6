"""On-time figures over a hub of which the truth is known: counted, published, computed again, and by command."""

# ruff: noqa: S608 - the SQL is made of constants

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from connectors.postgres import connect
from lienthong import deadlines, hub_schema
from lienthong.days import DAY_MICROS
from lienthong.deadlines.figures import GROUPS, By
from lienthong.embedded import PostgresCluster
from lienthong.readers import to_micros
from lienthong.settings import Settings
from tests import merge_kit
from tests.commands import command
from tests.figures_kit import fill, write_configuration

DOSSIERS = 3_900
OCTOBER = date(2026, 10, 1)
AFTERWARDS = datetime(2026, 11, 5, 3, tzinfo=UTC)


class Filled:
    """A hub with dossiers of every fate."""

    def __init__(self, dsn: str) -> None:
        self.dsn, self.settings = dsn, merge_kit.settings(dsn)

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        connection = connect(self.dsn, application_name="test", autocommit=True)
        try:
            with connection.cursor() as cursor:
                cursor.execute(statement)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()


@pytest.fixture(scope="module")
def filled(pg: PostgresCluster) -> Iterator[Filled]:
    dsn = pg.create_database("figures")
    fill(dsn, DOSSIERS)
    yield Filled(dsn)
    pg.drop_database("figures")


COUNTED = """
SELECT coalesce({by}, '-'), count(*), count(*) FILTER (WHERE last_status IN (7, 9, 10)),
  count(*) FILTER (WHERE fate IN ('on time', 'rescued', 'asked twice', 'known late', 'extended')), count(*) FILTER (WHERE fate = 'late'),
  count(*) FILTER (WHERE fate = 'known late'), count(*) FILTER (WHERE fate = 'extended'), count(*) FILTER (WHERE fate = 'paused'),
  count(*) FILTER (WHERE fate = 'overdue'), count(*) FILTER (WHERE fate = 'late') * 2.0, count(*) FILTER (WHERE fate = 'known late') * 2.0,
  count(*) FILTER (WHERE fate IN ('on time', 'rescued', 'known late', 'extended', 'paused')), count(*) FILTER (WHERE fate IN ('late', 'asked twice'))
FROM truth WHERE fate NOT IN ('old', 'to come', 'submitted') GROUP BY 1
"""
NAMES = (
    "received", "ended", "on_time", "late", "late_only_known", "extended", "open_paused", "open_overdue", "handling_late_hours",
    "synchronisation_late_hours", "official_on_time", "official_late",
)  # fmt: skip


@pytest.mark.parametrize("by", GROUPS)
def test_the_figures_are_those_that_plain_sql_counts(filled: Filled, by: By) -> None:
    rows = deadlines.figures(filled.settings, as_of=AFTERWARDS, by=by, month=OCTOBER)
    found = {row["key"]: tuple(row[name] for name in NAMES) for row in rows}
    expected = {key: (*counts[:8], float(counts[8]), float(counts[9]), *counts[10:]) for key, *counts in filled.sql(COUNTED.format(by=by))}
    city = tuple(sum(column) for column in zip(*expected.values(), strict=True))
    assert rows[0]["key"] == "*"
    # The step that makes a late one known took two seconds, which are late too.
    late = found.pop("*")
    assert late[:9] == city[:9]
    assert late[9] == pytest.approx(city[9] + city[3] * 2 / 3600, abs=0.01)
    assert late[10:] == city[10:]
    assert {key: row[:9] + row[10:] for key, row in found.items()} == {key: row[:9] + row[10:] for key, row in expected.items()}
    total = rows[0]
    assert total["on_time_percent"] == total["on_time"] * 10_000 // (total["on_time"] + total["late"]) / 100


def test_at_an_earlier_instant_only_what_had_happened_counts(filled: Filled) -> None:
    """As of some noons of the month: open, ended and overdue as the steps of before say."""
    for day in (6, 13, 15, 27):
        noon = datetime(2026, 10, day, 5, tzinfo=UTC)
        row = deadlines.figures(filled.settings, as_of=noon, by="agency", month=OCTOBER)[0]
        (expected,) = filled.sql(
            f"""SELECT count(*) FILTER (WHERE ended <= '{noon}'), count(*) FILTER (WHERE coalesce(ended > '{noon}', true)) FROM truth
                CROSS JOIN LATERAL (SELECT min(at) AS ended FROM step WHERE step.record = truth.record AND step.status IN (7, 9, 10)) e
                WHERE fate NOT IN ('old', 'submitted') AND received <= '{noon}'"""
        )
        assert (row["ended"], row["open_in_time"] + row["open_paused"] + row["open_overdue"]) == expected, noon


def test_a_published_month_stays_and_what_arrives_later_is_shown(filled: Filled) -> None:
    settings = filled.settings
    assert deadlines.recompute(settings, OCTOBER) is None
    number, published = deadlines.store(settings, OCTOBER, AFTERWARDS)
    assert number == 1
    assert deadlines.store(settings, OCTOBER, datetime(2026, 11, 20, tzinfo=UTC))[0] == 1  # the same figures are no new issue
    again = deadlines.recompute(settings, OCTOBER)
    assert again is not None
    assert (again.is_same, again.differences, again.dossiers_with_later_steps) == (True, (), 0)
    # The end of an overdue dossier was recorded in time, and arrives only now.
    ((record, agency),) = filled.sql("SELECT record, agency FROM truth WHERE fate = 'overdue' ORDER BY record LIMIT 1")
    filled.sql(f"""INSERT INTO hub.record (record, entity, parent, version, body, arrived_at) SELECT {record + 9}, 'dossier_event', {record}, 1,
        jsonb_build_object('status', 9, 'occurred_at', (body->>'due_at')::bigint - 1), clock_timestamp() FROM hub.record WHERE record = {record}""")
    again = deadlines.recompute(settings, OCTOBER)
    assert again is not None
    found = {(d.key, d.figure): (d.published, d.now) for d in again.differences if d.by == "agency" and not d.figure.endswith("percent")}
    expected = {}
    for key in ("*", agency):
        before = next(row for row in published.rows["agency"] if row["key"] == key)
        for figure, change in (("ended", 1), ("on_time", 1), ("open_overdue", -1), ("official_on_time", 1)):
            expected[key, figure] = (before[figure], before[figure] + change)
    assert found == expected
    assert again.dossiers_with_later_steps == 1
    assert deadlines.store(settings, OCTOBER, datetime(2026, 11, 21, tzinfo=UTC))[0] == 2
    after = deadlines.recompute(settings, OCTOBER)
    assert after is not None
    assert after.is_same
    kept = deadlines.newest(settings, by="unit", month=OCTOBER)
    assert kept is not None
    assert (kept["issue"], kept["rows"]) == (2, after.now.rows["unit"])
    first = filled.sql("SELECT digest FROM hub.deadline_figures WHERE month = '2026-10-01' AND issue = 1")
    assert first == [(published.digest,)]  # what was published is not touched


def test_the_running_month_is_kept_in_place_of_what_was_kept(filled: Filled) -> None:
    november = date(2026, 11, 1)
    for day in (12, 13):
        assert deadlines.store(filled.settings, november, datetime(2026, 11, day, tzinfo=UTC))[0] == 0
    found = filled.sql("SELECT as_of::date FROM hub.deadline_figures WHERE month = '2026-11-01'")
    assert found == [(date(2026, 11, 13),)]


def test_the_catalogues_limit_counts_where_nothing_was_promised(pg: PostgresCluster) -> None:
    dsn = pg.create_database("limits")
    fill(dsn, 260)
    limited = Filled(dsn)
    limited.sql("UPDATE hub.record SET body = body - 'due_at' WHERE entity = 'dossier'; DELETE FROM hub.history")
    row = deadlines.figures(limited.settings, as_of=AFTERWARDS, by="agency", month=OCTOBER)[0]
    assert (row["ended"], row["late"], row["without_due"]) == (0, 0, limited.sql(
        "SELECT count(*) FROM truth WHERE fate NOT IN ('old', 'to come', 'submitted')")[0][0])  # fmt: skip
    for days in (5, 4):
        limited.sql(f"""INSERT INTO hub.record (record, entity, version, body) SELECT 900000 + n, 'procedure', 1,
            jsonb_build_object('procedure_code', '1.00' || n, 'days_limit', {days}, 'days_kind', 'working') FROM generate_series(0, 6) n
            ON CONFLICT (record) DO UPDATE SET body = excluded.body""")
        row = deadlines.figures(limited.settings, as_of=AFTERWARDS, by="agency", month=OCTOBER)[0]
        after = "('late', 'extended')" if days == 5 else "('late', 'extended', 'on time', 'rescued', 'asked twice', 'known late')"
        ((late,),) = limited.sql(f"SELECT count(*) FROM truth WHERE fate IN {after} AND NOT (fate = 'on time' AND last_status = 7)")
        assert (row["late"], row["without_due"]) == (late, 0)
    pg.drop_database("limits")


def test_what_the_merge_has_stored_is_what_is_counted(database: str) -> None:
    """A promise moved later: before it came, the old one counts; the earlier one is found in the history of the golden record."""
    hub_schema.install(database)
    hub = merge_kit.Hub(database)
    monday = to_micros(datetime(2026, 10, 5, 2, tzinfo=UTC))
    values = merge_kit.DOSSIER | {"submitted_at": monday, "received_at": monday, "local_code": "L1", "status": 9, "due_at": monday + 7 * DAY_MICROS}
    hub.each(
        merge_kit.state("ward-a", "X", 1, values),
        merge_kit.state("ward-a", "X|1", 1, {"status": 2, "occurred_at": monday}, entity="dossier_event", parent="X"),
        merge_kit.state("ward-a", "X|2", 1, {"status": 9, "occurred_at": monday + 8 * DAY_MICROS}, entity="dossier_event", parent="X"),
        merge_kit.state("ward-a", "X", 2, values | {"due_at": monday + 9 * DAY_MICROS}),
    )
    then, now = (deadlines.figures(hub.settings, as_of=at, by="agency")[0] for at in (AFTERWARDS, datetime.now(UTC)))
    assert (then["late"], then["on_time"], then["extended"], then["handling_late_hours"]) == (1, 0, 0, 8.0)
    assert (now["late"], now["on_time"], now["extended"], now["late_only_known"]) == (0, 1, 1, 1)  # its commit is of March
    hub.connection.close()


# ------------------------------------------------------------------ by command
@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_configuration(tmp_path, {"portal": "portal", "ward": "ward"})
    return tmp_path


def run(filled: Filled, folder: Path, *words: str) -> Any:
    return command(["sla", "--config", str(folder), *words], environment={"HUB_DSN": filled.dsn, "COLUMNS": "300"}, folder=folder, seconds=60)


def test_the_command_says_the_same_in_all_its_forms(filled: Filled, folder: Path) -> None:
    said = json.loads(run(filled, folder, "--month", "2026-10", "--as-of", "2026-11-05", "--by", "unit", "--json").stdout)
    assert said["rows"] == deadlines.figures(filled.settings, as_of=AFTERWARDS, by="unit", month=OCTOBER)
    lines = list(csv.DictReader(io.StringIO(run(filled, folder, "--month", "2026-10", "--as-of", "2026-11-05", "--by", "unit", "--csv").stdout)))
    assert [(line["key"], line["on_time"]) for line in lines] == [(row["key"], str(row["on_time"])) for row in said["rows"]]
    shown = run(filled, folder, "--month", "2026-10", "--as-of", "2026-11-05")
    assert f" {said['rows'][0]['on_time_percent']:.2f} " in shown.stdout
    assert shown.returncode == 0


def test_the_command_ends_with_1_when_a_published_month_is_another_now(filled: Filled, folder: Path) -> None:
    assert run(filled, folder, "--month", "2026-09", "--store").returncode == 0
    same = run(filled, folder, "--month", "2026-09")
    assert same.returncode == 0
    assert "as published (issue 1" in same.stdout
    (folder / "deadlines.yaml").write_text('version: 1\ndays: {"2026-09-08": {kind: "off", source: "a letter"}}\n', "utf-8")
    filled.sql("UPDATE hub.record SET body = body || '{\"due_at\": 1}' WHERE record = (SELECT min(record) FROM truth WHERE fate = 'old')")
    other = run(filled, folder, "--month", "2026-09")
    assert other.returncode == 1
    assert "other than published (issue 1)" in other.stdout
    assert "the calendar is another" in other.stdout


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--month", "2026-13"], "is no month"),
        (["--as-of", "soon"], "is no time"),
        (["--month", "2026-10", "--as-of", "2026-09-01"], "has not begun"),
        (["--json", "--csv"], "not both"),
        (["--store"], "--month"),
    ],
)
def test_what_cannot_be_asked_is_explained(filled: Filled, folder: Path, words: list[str], complaint: str) -> None:
    done = run(filled, folder, *words)
    assert done.returncode == 2
    assert complaint in done.stderr


def test_a_hub_that_is_empty_is_explained(database: str) -> None:
    settings: Settings = merge_kit.settings(database)
    with pytest.raises(Exception, match="the hub is empty"):
        deadlines.figures(settings, as_of=AFTERWARDS, by="agency")
