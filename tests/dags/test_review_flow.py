"""The yearly review of procedures, run by Airflow's scheduler against a real city: what it keeps is what plain SQL counts."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from connectors.postgres import connect, transaction
from lienthong import procedures
from lienthong.days import yesterday
from lienthong.demo.airflow import CityWithAirflow
from tests.airflow_kit import Api

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

DOSSIERS = """
SELECT count(*), count(*) FILTER (WHERE channel = '2') FROM (
  SELECT body->>'channel' AS channel, (to_timestamp(coalesce((body->>'submitted_at')::bigint, (body->>'received_at')::bigint) / 1e6)
    AT TIME ZONE 'Asia/Ho_Chi_Minh')::date AS day FROM hub.record WHERE entity = 'dossier' AND NOT deleted AND merged_into IS NULL) dossier
WHERE day <= %s AND day >= %s::date + 1 - interval '1 year'
"""


def test_the_review_is_counted_and_kept(flows: CityWithAirflow, api: Api) -> None:
    flows.demo.quiet(delivery=False)
    day = yesterday(datetime.now(UTC)).isoformat()
    api.switch_on("procedure_review")
    run = api.start("procedure_review", as_of=day)
    assert api.wait("procedure_review", run, 180) == "success"
    connection = connect(flows.demo.settings.hub.dsn, application_name="test")
    try:
        with transaction(connection) as cursor:
            cursor.execute(DOSSIERS, [day, day])
            (counted,) = cursor.fetchall()
    finally:
        connection.close()
    kept = procedures.newest(flows.demo.settings)
    made = procedures.totals(kept)
    assert {row["as_of"].isoformat() for row in kept} == {day}
    assert (made["dossiers_12m"], made["online_12m"]) == counted
    assert counted[0] > 0
    assert made == api.result("procedure_review", run, "review")
    assert procedures.said(made)[0] in api.log("procedure_review", run, "review")
