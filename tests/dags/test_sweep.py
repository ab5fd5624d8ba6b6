"""The flow that looks for lost dossiers, run by Airflow's scheduler: green in a healthy city, red with counts when one is planted."""

from __future__ import annotations

from typing import Any

import pytest

from lienthong.demo.airflow import CityWithAirflow
from tests.airflow_kit import Api, sql

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

PORTAL = "city-portal"


def hub(flows: CityWithAirflow, statement: str, *values: Any) -> list[tuple[Any, ...]]:
    return sql(flows.demo.settings.hub.dsn, statement, *values)


def test_a_planted_loss_turns_the_sweep_red_without_naming_anybody(flows: CityWithAirflow, api: Api) -> None:
    flows.demo.quiet(delivery=False)
    api.switch_on("dossier_sweep")
    run = api.start("dossier_sweep")
    api.wait("dossier_sweep", run, 150)
    ((before,),) = hub(flows, "SELECT found FROM hub.lost_sweep ORDER BY id DESC LIMIT 1")
    ((record, version, code),) = hub(
        flows,
        """SELECT e.record, e.version, r.body->>'national_code' FROM hub.entitled e JOIN hub.record r USING (record)
           WHERE (e.system, e.entity, e.state) = (%s, 'dossier', 's') ORDER BY 1 LIMIT 1""",
        PORTAL,
    )
    earlier = version - 86_400_000 * 30
    sql(flows.demo.dsns[PORTAL], "UPDATE lienthong.applied SET version = %s WHERE (entity, record) = ('dossier', %s)", earlier - 1, record)
    for table, column in (("contribution", "seen"), ("acknowledged", "version")):
        hub(flows, f"UPDATE hub.{table} SET {column} = %s WHERE record = %s AND system = %s", earlier - 1, record, PORTAL)  # noqa: S608 - ours
    hub(flows, "UPDATE hub.entitled SET version = %s WHERE record = %s AND system = %s", earlier, record, PORTAL)
    run = api.start("dossier_sweep")
    assert api.wait("dossier_sweep", run, 150) == "failed"
    log = api.log("dossier_sweep", run, "sweep")
    assert "lienthong lost --no-sweep" in log
    assert code not in log
    found = hub(flows, "SELECT kind FROM hub.lost_dossier WHERE record = %s AND system = %s", record, PORTAL)
    assert found in ([("not_acknowledged",)], [("not_shown",)])
    assert hub(flows, "SELECT found FROM hub.lost_sweep ORDER BY id DESC LIMIT 1") == [(before + 1,)]
