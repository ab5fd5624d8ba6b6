"""Scorecards over a hub of which the truth is known: every figure against plain SQL, closed days only, the same digest again."""

# ruff: noqa: S608 - the SQL is made of constants

from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from connectors.postgres import connect, transaction
from lienthong import scorecards
from lienthong.certificates import chain
from lienthong.certificates.form import Counts, Holding, Reason, Statement, Target
from lienthong.certificates.keys import Signer
from lienthong.embedded import PostgresCluster
from lienthong.errors import ConfigError
from lienthong.flows import scoring
from lienthong.scorecards.compute import share
from tests import merge_kit
from tests.commands import command
from tests.figures_kit import fill, write_configuration

FIRST, LAST = date(2026, 10, 1), date(2026, 10, 31)
NOW = datetime(2026, 11, 5, 3, tzinfo=UTC)
IN_OCTOBER = "BETWEEN '2026-10-01 00:00+07' AND '2026-10-31 23:59:59.999999+07'"


class Scored:
    """A filled hub with certificates and parked records."""

    def __init__(self, dsn: str) -> None:
        self.dsn, self.settings = dsn, merge_kit.settings(dsn)
        self.connection = connect(dsn, application_name="test")

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        with transaction(self.connection) as cursor:
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def cards(self) -> dict[str, dict[str, Any]]:
        return {card["system"]: card for card in scorecards.compute(self.settings, FIRST, LAST, now=NOW)}


def certified(system: str, entity: str, day: date, captured: int, bad: int, differing: int) -> Statement:
    """A certificate about one day; `differing` records leave it open."""
    counts = Counts(captured=captured, merged=captured - bad, refused=bad - bad // 2, parked=bad // 2)
    reasons = (Reason("delivery_differs", differing), Reason("refused", bad)) if differing else ()
    target = Target(Holding(captured, "0" * 32), Holding(captured - differing, "0" * 32))
    return Statement(system=system, entity=entity, day=day, reading=1, counts=counts, target=target, reasons=reasons)


@pytest.fixture(scope="module")
def scored(pg: PostgresCluster) -> Iterator[Scored]:
    dsn = pg.create_database("scorecards")
    fill(dsn, 2_600)
    made = Scored(dsn)
    signer = Signer(base64.b64encode(bytes(32)).decode())
    days = [FIRST + timedelta(days=n) for n in range(-1, 31)]
    statements = [certified("ward-a", entity, day, 100 + day.day, day.day % 5, 3 if day.day % 10 == 7 and entity == "dossier" else 0)
                  for day in days for entity in ("dossier", "fee")]  # fmt: skip
    statements += [certified("ward-b", "dossier", day, 50, 0, 0) for day in days[:11]]
    chain.add(made.connection, signer, statements, NOW)
    chain.add(made.connection, signer, [certified("ward-a", "dossier", date(2026, 10, 17), 117, 2, 0)], NOW)  # closed in the end
    made.sql("INSERT INTO hub.day_count VALUES ('2026-10-03', 'ward-a', 'fee', 'captured', 104)")  # one more than was certified: it is late
    made.sql("""INSERT INTO hub.parked (system, entity, kind, reason, message, state, parked_at, closed_at)
        SELECT 'ward-' || (ARRAY['a', 'b'])[n % 2 + 1], 'dossier', 'refused', 'missing', 'a word', CASE WHEN n % 4 = 0 THEN 'open' ELSE 'closed' END,
          timestamptz '2026-10-02 10:00+07' + n * interval '1h',
          CASE WHEN n % 4 > 0 THEN timestamptz '2026-10-02 10:00+07' + n * interval '1h' + n * n * interval '1min' END
        FROM generate_series(1, 200) n""")
    yield made
    made.connection.close()
    pg.drop_database("scorecards")


def test_what_needs_proof_comes_from_closed_days_alone(scored: Scored) -> None:
    """Of ward-a 7 and 27 October are open, 17 was closed later, and of the 3rd more has come since."""
    card = scored.cards()["ward-a"]
    days = [FIRST + timedelta(days=n) for n in range(31) if n + 1 not in (3, 7, 27)]
    captured = sum(2 * (100 + day.day) for day in days)
    bad = sum(2 * (day.day % 5) for day in days)
    assert (card["days"], card["closed_days"]) == (31, 28)
    assert (card["captured"], card["refused"] + card["parked"]) == (captured, bad)
    assert card["completeness_percent"] == (captured - bad) * 10_000 // captured / 100
    assert (card["entitled"], card["held"]) == (262, 262)  # on the last closed day
    assert card["divergence_found"] == 3
    other = scored.cards()["ward-b"]
    assert (other["closed_days"], other["captured"], other["divergence_found"]) == (10, 500, 0)
    none = scored.cards()["portal"]
    assert (none["closed_days"], none["captured"], none["completeness_percent"], none["entitled"]) == (0, 0, None, None)
    city = scored.cards()["*"]
    assert (city["closed_days"], city["captured"], city["divergence_found"]) == (0, captured + 500, 3)


def test_the_handling_is_what_plain_sql_counts(scored: Scored) -> None:
    """A dossier belongs to the system of its agency; the third agency is nobody's, and stands only in the city's card."""
    counted = f"""SELECT CASE WHEN system <> 'portal' THEN system ELSE '-' END,
          count(*) FILTER (WHERE received {IN_OCTOBER}), count(*) FILTER (WHERE received {IN_OCTOBER} AND channel = 2),
          2 * count(*) FILTER (WHERE received {IN_OCTOBER}), 2 * count(*) FILTER (WHERE received {IN_OCTOBER} AND n % 5 > 0),
          2 * count(*) FILTER (WHERE received {IN_OCTOBER} AND n % 4 = 0),
          count(*) FILTER (WHERE last_status IN (9, 10) AND last_at + interval '1h' {IN_OCTOBER}),
          coalesce(sum(1 + n % 5) FILTER (WHERE last_status IN (9, 10) AND last_at + interval '1h' {IN_OCTOBER}), 0),
          count(*) FILTER (WHERE last_status IN (7, 9, 10) AND fate <> 'old'),
          count(*) FILTER (WHERE last_status IN (7, 9, 10) AND fate NOT IN ('old', 'late')), count(*) FILTER (WHERE fate = 'overdue')
        FROM truth GROUP BY 1"""
    expected = {system: tuple(int(n) for n in numbers) for system, *numbers in scored.sql(counted)}
    expected["*"] = tuple(sum(column) for column in zip(*expected.values(), strict=True))
    cards = scored.cards()
    for system in ("*", "ward-a", "ward-b"):
        dossiers, online, papers, digitised, reused, ratings, score, ended, on_time, overdue = expected[system]
        card = cards[system]
        assert (card["dossiers"], card["online"], card["papers"], card["digitised"], card["reused"]) == (dossiers, online, papers, digitised, reused)
        assert (card["ratings"], card["rating_average"]) == (ratings, score * 100 // ratings / 100)
        assert (card["ended"], card["on_time"], card["open_overdue"]) == (ended, on_time, overdue)
        assert card["online_percent"] == online * 10_000 // dossiers / 100
        assert card["on_time_percent"] == on_time * 10_000 // ended / 100
    assert cards["one-stop"]["dossiers"] == 0
    assert cards["one-stop"]["on_time_percent"] is None


def test_freshness_is_measured_from_the_commit_at_the_system_to_the_hub(scored: Scored) -> None:
    expected = scored.sql(f"""
        SELECT system, count(*), percentile_disc(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY extract(epoch FROM delay)) FROM (
          SELECT system, delay FROM step WHERE at + interval '1min' {IN_OCTOBER}
          UNION ALL SELECT system, delay FROM truth WHERE last_at + interval '1min' {IN_OCTOBER}) samples GROUP BY 1""")
    cards = scored.cards()
    for system, measured, seconds in expected:
        card = cards[system]
        assert (card["changes"], card["measured"]) == (measured, measured)
        assert [card[f"freshness_p{p}_seconds"] for p in (50, 95, 99)] == [float(value) for value in seconds]
    assert cards["*"]["changes"] == sum(row[1] for row in expected)


def test_a_delay_that_another_word_has_covered_is_not_measured(database: str) -> None:
    """What the hub no longer knows exactly is left out, and how many were is told."""
    fill(database, 0)
    made = Scored(database)
    made.sql("""INSERT INTO hub.record (record, entity, sole, version, body, updated_at, arrived_at) VALUES
          (1, 'dossier', NULL, 2, '{}', '2026-10-05 10:00:50', '2026-10-01 10:00:00'),  -- changed by ward-a, then by the portal
          (2, 'dossier', NULL, 2, '{}', '2026-10-05 10:00:07', '2026-10-01 10:00:00'),  -- changed by ward-a; the portal spoke earlier
          (3, 'dossier', 'ward-a', 1, '{}', '2026-10-05 09:00:00', '2026-10-05 09:00:00'),  -- read again later, unchanged
          (4, 'dossier', NULL, 1, '{}', '2026-10-05 10:01:00', '2026-10-05 10:00:03')  -- new from ward-a, delivered to the portal
    """)
    made.sql("""INSERT INTO hub.contribution (system, entity, local_key, record, epoch, version, op, delivered, at)
        SELECT system, 'dossier', record, record, 1, 1, 's', delivered, extract(epoch FROM at::timestamptz) * 1000000 FROM (VALUES
          (1, 'ward-a', false, '2026-10-05 10:00:00'), (1, 'portal', false, '2026-10-05 10:00:45'),
          (2, 'ward-a', false, '2026-10-05 10:00:00'), (2, 'portal', false, '2026-10-04 10:00:00'),
          (3, 'ward-a', false, '2026-10-05 10:00:00'),
          (4, 'ward-a', false, '2026-10-05 10:00:00'), (4, 'portal', true, '2026-10-05 10:00:58')) v (record, system, delivered, at)""")
    cards = made.cards()
    assert (cards["ward-a"]["changes"], cards["ward-a"]["measured"]) == (4, 2)
    assert (cards["ward-a"]["freshness_p50_seconds"], cards["ward-a"]["freshness_p99_seconds"]) == (3.0, 7.0)
    assert (cards["portal"]["changes"], cards["portal"]["measured"], cards["portal"]["freshness_p50_seconds"]) == (2, 1, 5.0)
    made.connection.close()


def test_the_hub_keeps_when_a_record_first_came(database: str) -> None:
    """Through the merge itself: a new version moves the last change and not the arrival."""
    fill(database, 0)
    hub = merge_kit.Hub(database)
    hub.each(merge_kit.X1)
    ((arrived, updated),) = hub.sql("SELECT arrived_at, updated_at FROM hub.record")
    assert arrived == updated
    hub.each(merge_kit.state("ward-a", "X", 5, merge_kit.DOSSIER | {"local_code": "L1", "note": "b"}))
    ((again, later),) = hub.sql("SELECT arrived_at, updated_at FROM hub.record")
    assert again == arrived < later
    hub.connection.close()


def test_repairs_are_timed_from_parking_to_closing(scored: Scored) -> None:
    expected = scored.sql(f"""
        SELECT system, count(*) FILTER (WHERE closed_at {IN_OCTOBER}),
          percentile_disc(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM closed_at - parked_at)) FILTER (WHERE closed_at {IN_OCTOBER}),
          percentile_disc(0.95) WITHIN GROUP (ORDER BY extract(epoch FROM closed_at - parked_at)) FILTER (WHERE closed_at {IN_OCTOBER}),
          count(*) FILTER (WHERE state = 'open' OR closed_at > '2026-10-31 23:59:59+07')
        FROM hub.parked GROUP BY 1""")
    for system, repaired, p50, p95, left in expected:
        card = scored.cards()[system]
        found = (card["repaired"], card["repair_p50_seconds"], card["repair_p95_seconds"], card["not_repaired"])
        assert found == (repaired, float(p50), float(p95), left)


def test_the_same_inputs_give_the_same_digest_and_others_another(scored: Scored) -> None:
    first, again = scored.cards(), scored.cards()
    assert {name: card["digest"] for name, card in first.items()} == {name: card["digest"] for name, card in again.items()}
    assert scorecards.newest(scored.settings, "ward-a") == [again["ward-a"]]
    ((record,),) = scored.sql("SELECT min(record) FROM truth WHERE system = 'ward-a' AND channel = 1 AND fate = 'late'")
    scored.sql(f"UPDATE hub.record SET body = body || '{{\"channel\": 2}}' WHERE record = {record}")
    other = scored.cards()
    changed = {name for name, card in other.items() if card["digest"] != first[name]["digest"]}
    assert changed == {"*", "ward-a"}
    assert other["ward-a"]["online"] == first["ward-a"]["online"] + 1
    scored.sql(f"UPDATE hub.record SET body = body || '{{\"channel\": 1}}' WHERE record = {record}")
    assert [card["system"] for card in scorecards.newest(scored.settings)] == ["*", "one-stop", "portal", "ward-a", "ward-b"]


def test_a_range_that_is_not_over_is_refused(scored: Scored) -> None:
    for first, last in ((FIRST, NOW.date()), (LAST, FIRST)):
        with pytest.raises(ConfigError, match="days that are over"):
            scorecards.compute(scored.settings, first, last, now=NOW)


def test_a_small_share_is_rounded_up_so_that_only_none_is_nothing() -> None:
    assert (share(1, 10_000_000), share(0, 5), share(1, 1), share(1, 0)) == (0.0001, 0.0, 100.0, None)


# ------------------------------------------------------------------ by command
def test_the_command_says_the_same_in_all_its_forms(scored: Scored, tmp_path: Path) -> None:
    write_configuration(tmp_path, {"portal": "portal", "one-stop": "one-stop", "ward-a": "ward", "ward-b": "ward"})

    def run(*words: str) -> Any:
        environment = {"HUB_DSN": scored.dsn, "COLUMNS": "300"}
        return command(["scorecard", "--config", str(tmp_path), *words], environment=environment, folder=tmp_path, seconds=60)

    computed = json.loads(run("--month", "2026-10", "--json").stdout)["scorecards"]
    kept = json.loads(run("--json").stdout)["scorecards"]
    assert computed == kept == scorecards.newest(scored.settings)
    lines = list(csv.DictReader(io.StringIO(run("--csv").stdout)))
    assert [(line["system"], line["digest"]) for line in lines] == [(card["system"], card["digest"]) for card in kept]
    one = run("--system", "ward-a")
    assert one.returncode == 0
    assert "completeness_percent" in one.stdout
    assert "ward-b" not in one.stdout
    assert "complete %" in run("--from", "2026-10-01", "--to", "2026-10-31").stdout
    for words, complaint in (
        (["--from", "2026-10-01"], "together"), (["--month", "2026-10", "--to", "2026-10-31"], "or --from and --to"),
        (["--system", "ward-c"], "no system ward-c"), (["--from", "x", "--to", "y"], "is no day"),
    ):  # fmt: skip
        done = run(*words)
        assert done.returncode == 2
        assert complaint in done.stderr


def test_the_flow_keeps_the_running_month_and_publishes_one_that_is_over(scored: Scored, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "settings", lambda: scored.settings)
    scored.sql("DELETE FROM hub.scorecard")
    found = scoring.score(now=datetime(2026, 10, 20, 23, tzinfo=UTC))  # six in the morning of the 21st
    assert (found["issue"], found["scorecards"]) == (0, 5)
    assert {(card["day_from"], card["day_to"]) for card in scorecards.newest(scored.settings)} == {("2026-10-01", "2026-10-20")}
    found = scoring.score(now=datetime(2026, 10, 31, 22, 30, tzinfo=UTC))  # half past five on the first of November
    assert found["issue"] == 1
    assert scorecards.newest(scored.settings)[0]["day_to"] == "2026-10-31"
    assert scoring.score("2026-10", now=NOW)["issue"] == 1
    assert scored.sql("SELECT issue FROM hub.deadline_figures") == [(1,)]
