"""The review of procedures over a hub of 200,000 dossiers: every figure equals one counted by plain SQL in another way."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from datetime import date
from typing import Any

import pytest

from connectors.postgres import connect, transaction
from lienthong import hub_schema, procedures
from lienthong.cli import procedures as commands
from lienthong.embedded import PostgresCluster
from lienthong.settings import Settings
from tests.merge_kit import settings as merge_settings

AS_OF = date(2026, 11, 22)
DOSSIERS = 200_000
# 400 procedures in the catalogue, of which some are used; dossiers of eight years, some after the day of the review; some without code, date or
# channel; some of a code that no catalogue has; some deleted or joined with another.
FILL = """
INSERT INTO hub.record (record, entity, version, body)
SELECT -i, 'procedure', 1, jsonb_strip_nulls(jsonb_build_object('procedure_code', '1.' || i, 'name', 'Procedure ' || i, 'field_code', 'G' || i % 20,
  'agency_code', 'H29.' || i % 30, 'level', CASE i % 7 WHEN 0 THEN NULL ELSE i % 7 END)) FROM generate_series(1, 400) i;
UPDATE hub.record SET deleted = true WHERE record = -400;
INSERT INTO hub.record (record, entity, version, deleted, merged_into, body)
SELECT i, 'dossier', 1, i % 997 = 0, CASE WHEN i % 1009 = 0 THEN i - 1 END, jsonb_strip_nulls(jsonb_build_object(
  'procedure_code', CASE WHEN i % 1501 = 0 THEN NULL WHEN i % 701 = 0 THEN '9.' || i % 3 ELSE '1.' || (sqrt(r * 1.6e5) / 2)::int + 1 END,
  'procedure_name', 'As filed', 'channel', CASE WHEN i % 11 = 0 THEN NULL ELSE (i * 7919) % 3 + 1 END,
  'submitted_at', CASE WHEN i % 1203 <> 0 AND i % 401 <> 0 THEN s END, 'received_at', CASE WHEN i % 1203 <> 0 THEN s + 3600000000 END,
  'due_at', CASE WHEN i % 13 <> 0 THEN s + 5 * d END,
  'finished_at', CASE WHEN i % 17 <> 0 THEN s + (1 + (i * 31) % 8) * d + (i % 5 - 1) * 60000000 END, 'status', CASE i % 17 WHEN 0 THEN 4 ELSE 9 END,
  'status_at', CASE WHEN i % 17 = 0 THEN s + d ELSE s + (1 + (i * 31) % 8) * d + (i % 5 - 1) * 60000000 END, 
  'applicant_name', 'A person', 'note', repeat('x', 120)))
FROM (SELECT i, (i * 7907 % 200000) / 200000.0 AS r, 1543000000000000 + (i * 104729 % 200003) * 1300000000 AS s, 86400000000 AS d
      FROM generate_series(1, {dossiers}::bigint) i) given;
ANALYZE hub.record;
"""
# The same facts as plain columns, so that nothing below shares a word with the product's own statement.
PLAIN = """
CREATE TABLE plain AS SELECT record, body->>'procedure_code' AS code, (body->>'channel')::int AS channel,
  timestamptz 'epoch' + coalesce((body->>'submitted_at')::bigint, (body->>'received_at')::bigint) * interval '1 microsecond' AS at,
  timestamptz 'epoch' + coalesce((body->>'received_at')::bigint, (body->>'submitted_at')::bigint) * interval '1 microsecond' AS received,
  timestamptz 'epoch' + (body->>'due_at')::bigint * interval '1 microsecond' AS due, (body->>'status')::int AS status,
  timestamptz 'epoch' + (body->>'finished_at')::bigint * interval '1 microsecond' AS finished
FROM hub.record WHERE entity = 'dossier' AND NOT deleted AND merged_into IS NULL;
DELETE FROM plain WHERE at >= '2026-11-23 00:00+07';
UPDATE plain SET finished = NULL WHERE finished >= '2026-11-23 00:00+07';
CREATE VIEW three AS SELECT * FROM plain WHERE at >= '2023-11-23 00:00+07';
CREATE VIEW year AS SELECT * FROM plain WHERE at >= '2025-11-23 00:00+07';
CREATE VIEW finished AS SELECT * FROM plain WHERE finished >= '2025-11-23 00:00+07' AND received IS NOT NULL;
CREATE VIEW catalogue AS SELECT body->>'procedure_code' AS code, (body->>'level')::int AS level FROM hub.record
  WHERE entity = 'procedure' AND NOT deleted;
"""


@pytest.fixture(scope="module")
def settings(pg: PostgresCluster) -> Iterator[Settings]:
    name = "procedure_review"
    dsn = pg.create_database(name)
    hub_schema.install(dsn)
    made = merge_settings(dsn)
    sql(made, FILL.format(dossiers=DOSSIERS))
    sql(made, PLAIN)
    yield made
    pg.drop_database(name)


def sql(settings: Settings, statement: str) -> list[tuple[Any, ...]]:
    connection = connect(settings.hub.dsn, application_name="test")
    try:
        with transaction(connection) as cursor:
            cursor.execute(statement)
            return list(cursor.fetchall()) if cursor.description else []
    finally:
        connection.close()


def number(settings: Settings, statement: str) -> Any:
    return sql(settings, statement)[0][0]


@pytest.fixture(scope="module")
def found(settings: Settings) -> dict[str, procedures.Procedure]:
    return {each.procedure_code: each for each in procedures.review(settings, AS_OF).procedures}


def test_the_totals_are_those_of_plain_sql(settings: Settings, found: dict[str, procedures.Procedure]) -> None:
    counts = {
        "procedures": "SELECT count(*) FROM catalogue",
        "without_dossier_3y": "SELECT count(*) FROM catalogue WHERE code NOT IN (SELECT code FROM three WHERE code IS NOT NULL)",
        "offered_online": "SELECT count(*) FROM catalogue WHERE level >= 3",
        "online_in_use": "SELECT count(*) FROM catalogue WHERE level >= 3 AND code IN (SELECT code FROM year WHERE channel = 2)",
        "not_listed": "SELECT count(*) FROM (SELECT code FROM plain WHERE code IS NOT NULL EXCEPT SELECT code FROM catalogue) x",
        "dossiers_3y": "SELECT count(*) FROM three",
        "dossiers_12m": "SELECT count(*) FROM year",
        "online_12m": "SELECT count(*) FROM year WHERE channel = 2",
        "without_code_3y": "SELECT count(*) FROM three WHERE code IS NULL",
        "undated": "SELECT count(*) FROM plain WHERE at IS NULL",
        "ended_12m": "SELECT count(*) FROM finished WHERE due IS NOT NULL",
        "late_12m": "SELECT count(*) FROM finished WHERE finished > due",
        "overdue_open": "SELECT count(*) FROM plain WHERE received IS NOT NULL AND finished IS NULL AND due < '2026-11-23 00:00+07'",
    }
    made = procedures.totals(found.values())
    counted = {name: number(settings, statement) for name, statement in counts.items()}
    assert {name: made[name] for name in counted} == counted
    assert made["online_share"] == counted["online_12m"] / counted["dossiers_12m"]
    assert all(counted.values())


def test_every_procedure_year_and_channel_is_that_of_plain_sql(settings: Settings, found: dict[str, procedures.Procedure]) -> None:
    counted = sql(
        settings,
        """SELECT coalesce(code, ''), extract(year FROM at AT TIME ZONE 'Asia/Ho_Chi_Minh')::int::text,
           CASE WHEN channel = 2 THEN 'online' WHEN channel = 3 THEN 'post' ELSE 'desk' END, count(*)
           FROM plain WHERE at >= '2023-01-01 00:00+07' GROUP BY 1, 2, 3""",
    )
    told = {
        (code, year, channel): n
        for code, each in found.items()
        for year, channels in each.by_year.items()
        for channel, n in channels.items()
        if n
    }  # fmt: skip
    assert told == {(code, year, channel): n for code, year, channel, n in counted}
    assert len(told) > 1000


def test_use_handling_and_late_ones_of_each_procedure_are_those_of_plain_sql(settings: Settings, found: dict[str, procedures.Procedure]) -> None:
    counted = sql(
        settings,
        """SELECT code, coalesce(t.n, 0), coalesce(y.n, 0), coalesce(y.not_online, 0), p.last, f.handling, coalesce(f.late, 0)
           FROM (SELECT coalesce(code, '') AS code, max((at AT TIME ZONE 'Asia/Ho_Chi_Minh')::date) AS last FROM plain GROUP BY 1) p
           LEFT JOIN (SELECT coalesce(code, '') AS code, count(*) AS n FROM three GROUP BY 1) t USING (code)
           LEFT JOIN (SELECT coalesce(code, '') AS code, count(*) AS n, count(*) FILTER (WHERE channel IS DISTINCT FROM 2) AS not_online
                      FROM year GROUP BY 1) y USING (code)
           LEFT JOIN (SELECT coalesce(code, '') AS code, avg(extract(epoch FROM finished - received) / 86400) FILTER (WHERE finished >= received)
                        AS handling, count(*) FILTER (WHERE finished > due) AS late
                      FROM finished GROUP BY 1) f USING (code)""",
    )
    for code, three, year, not_online, last, handling, late in counted:
        each = found[code]
        told = (each.dossiers_3y, each.dossiers_12m, each.not_online_12m, each.last_submitted, each.late_12m)
        assert told == (three, year, not_online, last, late), code
        assert (each.handling_days is None) == (handling is None), code
        assert handling is None or each.handling_days == pytest.approx(float(handling), abs=0.0051), code
    assert {code for code, each in found.items() if each.dossiers_3y} == {row[0] for row in counted if row[1]}


def test_the_newest_review_is_kept_as_it_was_found(settings: Settings, found: dict[str, procedures.Procedure]) -> None:
    kept = procedures.newest(settings)
    assert {row["as_of"] for row in kept} == {AS_OF}
    assert [procedures.figures.from_row(row) for row in kept] == list(found.values())
    assert [row["rank"] for row in kept if row["rank"]] == list(range(1, 1 + sum(row["rank"] is not None for row in kept)))
    assert procedures.totals(kept) == procedures.totals(found.values())


def test_a_day_reviewed_again_is_the_same_and_an_older_day_is_not_the_newest(settings: Settings, found: dict[str, procedures.Procedure]) -> None:
    again = procedures.review(settings, AS_OF)
    assert again.procedures == list(found.values())
    older = procedures.review(settings, date(2024, 2, 29))
    assert procedures.totals(older.procedures)["dossiers_12m"] != procedures.totals(again.procedures)["dossiers_12m"]
    assert procedures.newest(settings)[0]["as_of"] == AS_OF
    assert sql(settings, "SELECT as_of, count(*) FROM hub.procedure_review GROUP BY 1 ORDER BY 1") == [
        (date(2024, 2, 29), len(older.procedures)),
        (AS_OF, len(again.procedures)),
    ]


def test_a_hub_without_a_review_has_none(database: str) -> None:
    assert procedures.newest(merge_settings(database)) == []
    hub_schema.install(database)
    assert procedures.newest(merge_settings(database)) == []


FRIDAY, MONDAY, TUESDAY = ("2026-11-13 17:00+07", "2026-11-16 17:00+07", "2026-11-17 17:00+07")
LATE = """
CREATE FUNCTION micros(text) RETURNS bigint LANGUAGE sql AS $$ SELECT (extract(epoch FROM $1::timestamptz) * 1000000)::bigint $$;
INSERT INTO hub.record (record, entity, version, body) SELECT n, 'dossier', 1, jsonb_build_object('procedure_code', '1.1', 'status', 9,
  'submitted_at', micros('2026-11-09 08:00+07'), 'received_at', micros('2026-11-09 08:00+07'), 'due_at', micros(%s),
  'finished_at', micros(at), 'status_at', micros(at)) FROM unnest(%s::text[]) WITH ORDINALITY AS given(at, n);
INSERT INTO hub.record (record, entity, parent, version, body) SELECT 100 + n, 'dossier_event', 4, 1, jsonb_build_object('status', status,
  'occurred_at', micros(at)) FROM (VALUES (1, '2026-11-11 08:00+07', 5), (2, '2026-11-12 08:00+07', 4)) given(n, at, status);
"""


def test_delay_is_in_working_days_and_what_was_paused_is_not_late(database: str) -> None:
    """Due on a Friday at closing time, ended on Friday, Monday, Tuesday and Monday: the last one waited a working day for its citizen."""
    settings = merge_settings(database)
    hub_schema.install(database)
    connection = connect(database, application_name="test")
    try:
        with transaction(connection) as cursor:
            cursor.execute(LATE, [FRIDAY, [FRIDAY, MONDAY, TUESDAY, MONDAY]])
    finally:
        connection.close()
    (found,) = procedures.review(settings, AS_OF).procedures
    assert (found.ended_12m, found.late_12m, found.delay_days, found.overdue_open) == (4, 2, 1.5, 0)
    assert found.handling_days == pytest.approx((4 + 7 + 8 + 7) / 4 + 9 / 24, abs=0.01)
    (before,) = procedures.review(settings, date(2026, 11, 14)).procedures
    assert (before.ended_12m, before.late_12m, before.delay_days, before.overdue_open) == (1, 0, None, 2)


@pytest.fixture
def command(settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """The command's output with some of its options."""
    monkeypatch.setattr(commands, "settings_of", lambda _: settings)

    def call(**options: Any) -> str:
        assert commands.review_command(as_of=commands.datetime(2026, 11, 22), **options) == 0
        return capsys.readouterr().out

    return call


def test_the_command_says_the_totals(command: Any, found: dict[str, procedures.Procedure]) -> None:
    said = command()
    for line in procedures.said(procedures.totals(found.values())):
        assert line in said
    assert "without a dossier in three years" in said


def test_json_and_csv_hold_every_procedure(command: Any, found: dict[str, procedures.Procedure]) -> None:
    told = json.loads(command(as_json=True))
    assert told["schema"] == "lienthong/procedures/1"
    assert told["totals"] == procedures.totals(found.values())
    assert [each["procedure_code"] for each in told["procedures"]] == list(found)
    lines = list(csv.DictReader(io.StringIO(command(as_csv=True))))
    assert [line["procedure_code"] for line in lines] == list(found)
    assert sum(int(line["2025_online"]) for line in lines) == sum(each.by_year["2025"]["online"] for each in found.values())
