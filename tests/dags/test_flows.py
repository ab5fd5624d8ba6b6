"""Every flow really run by Airflow's scheduler against a real city: what it reports, what it did, and what it says when something is wrong."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lienthong.demo.airflow import CityWithAirflow
from lienthong.demo.holdings import read
from lienthong.demo.verify import verify
from tests.airflow_kit import Api, Receiver, locked, sql
from tests.national_kit import unit_register

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

NEW, OTHER, THIRD = "ward-tan-dinh", "ward-sai-gon", "ward-binh-thoi"


def hub(flows: CityWithAirflow, statement: str, *values: Any) -> list[tuple[Any, ...]]:
    return sql(flows.demo.settings.hub.dsn, statement, *values)


def assert_loaded(flows: CityWithAirflow, system: str) -> None:
    """Each row of the system is the hub's word once, or is parked; and the system is open."""
    flows.demo.quiet(delivery=False)
    for entity, mapping in flows.demo.settings.profile_of(system).entities.items():
        (held,) = sql(flows.demo.dsns[system], f"SELECT count(*) FROM {mapping.table}")[0]  # noqa: S608 - names of the demo
        known = hub(flows, "SELECT count(DISTINCT local_key) FROM hub.contribution WHERE (system, entity, op) = (%s, %s, 's')", system, entity)
        parked = hub(
            flows,
            "SELECT count(DISTINCT local_key) FROM hub.parked WHERE (system, entity, kind, state) = (%s, %s, 'refused', 'open')",
            system,
            entity,
        )
        assert known[0][0] + parked[0][0] == held, entity
    partitions = flows.demo.settings.kafka.partitions
    assert hub(flows, "SELECT count(*) FROM hub.loaded WHERE system = %s", system) == [(partitions,)]


# ------------------------------------------------------------------ loading
def test_a_new_ward_is_loaded_from_its_form(flows: CityWithAirflow, api: Api) -> None:
    """First as a dry run, which changes nothing; then really: each range by a task of its own."""
    api.switch_on("load_system")
    dry = api.start("load_system", system=NEW)
    assert api.wait("load_system", dry) == "success"
    assert api.states("load_system", dry)["load"] == {"skipped"}
    assert f"{NEW} dossier: " in api.log("load_system", dry, "plan")
    assert hub(flows, "SELECT count(*) FROM hub.load_chunk WHERE system = %s", NEW) == [(0,)]

    run = api.start("load_system", system=NEW, dry_run=False)
    assert api.wait("load_system", run) == "success"
    labels = {t["rendered_map_index"] for t in api.tasks("load_system", run) if t["task_id"] == "load"}
    assert {"citizen 0", "dossier 0"} <= labels
    assert_loaded(flows, NEW)


def test_a_task_killed_in_the_middle_is_tried_again_and_nothing_is_lost_or_doubled(flows: CityWithAirflow, api: Api) -> None:
    """SIGKILL of the process that reads a range; the run completes by itself. A part of a system, loaded before, has opened nothing."""
    api.switch_on("load_system")
    run = api.start("load_system", system=OTHER, entity="citizen", dry_run=False, rows_per_range=10)
    assert api.wait("load_system", run) == "success"
    assert hub(flows, "SELECT count(*) FROM hub.loaded WHERE system = %s", OTHER) == [(0,)]

    kill_in_the_middle(flows, api, OTHER, lambda pid: os.kill(pid, signal.SIGKILL))
    assert_loaded(flows, OTHER)


def test_a_worker_killed_in_the_middle_is_missed_and_its_task_tried_again(flows: CityWithAirflow, api: Api) -> None:
    """SIGKILL of the executor's worker above the task: nobody tells of it, its heartbeat stays away. The task itself lives on, unwatched, and what
    it still does beside the second try has no effect of its own."""
    api.switch_on("load_system")
    kill_in_the_middle(flows, api, THIRD, lambda pid: os.kill(worker_of(pid), signal.SIGKILL))
    assert_loaded(flows, THIRD)
    flows.load(leave=[name for (name,) in hub(flows, "SELECT DISTINCT system FROM hub.loaded")])
    flows.demo.quiet(delivery=False)
    assert [row for row in verify(flows.demo.dsns) if not row.right] == []


def worker_of(pid: int) -> int:
    """The process that watches over a task's own: a child of the scheduler."""
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line)
    worker = int(status["PPid"])
    assert "airflow worker" in Path(f"/proc/{worker}/cmdline").read_text()
    return worker


def kill_in_the_middle(flows: CityWithAirflow, api: Api, system: str, kill: Callable[[int], None]) -> None:
    """Load a system, kill one of those that read a range while they are at it, and see the run complete."""
    table = flows.demo.settings.profile_of(system).entities["dossier"].table
    run = api.start("load_system", system=system, dry_run=False, rows_per_range=20)
    api.until("load_system", run, lambda tasks: any((t["task_id"], t["state"]) == ("plan", "success") for t in tasks), 120)
    with locked(flows.demo.dsns[system], table):  # so that whoever reads a range is in the middle of it
        found = api.until("load_system", run, lambda tasks: any(map(_reads, tasks)) and _is_blocked(flows, system), 120)
        victim = next(filter(_reads, found))
        kill(victim["pid"])
        place = ("load", victim["map_index"])
        killed = {(*place, "up_for_retry")}
        api.until("load_system", run, lambda tasks: killed <= {(t["task_id"], t["map_index"], t["state"]) for t in tasks}, 120)
    assert api.wait("load_system", run, 240) == "success"
    assert next(t["try_number"] for t in api.tasks("load_system", run) if (t["task_id"], t["map_index"]) == place) >= 2
    assert len(api.tasks("load_system", run)) >= 5


def _reads(task: dict[str, Any]) -> bool:
    """Whether a task is in the middle of reading a range."""
    return task["task_id"] == "load" and task["state"] == "running" and bool(task["pid"])


def _is_blocked(flows: CityWithAirflow, system: str) -> bool:
    """Whether somebody who loads this system waits for its table."""
    blocked = "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name LIKE %s"
    return bool(sql(flows.demo.dsns[system], blocked, f"lienthong load {system}")[0][0])


def test_a_range_that_is_cleared_is_read_again_and_changes_nothing(flows: CityWithAirflow, api: Api) -> None:
    api.switch_on("load_system")
    run = api.start("load_system", system=NEW, entity="dossier", dry_run=False)
    assert api.wait("load_system", run) == "success"
    flows.demo.quiet(delivery=False)
    before = hub(flows, "SELECT record, version, body FROM hub.record ORDER BY record")
    api.post("dags/load_system/clearTaskInstances", {"dry_run": False, "dag_run_id": run, "task_ids": [["load", 0]], "only_failed": False})
    api.until("load_system", run, lambda tasks: all(t["state"] == "success" for t in tasks))
    flows.demo.quiet(delivery=False)
    assert hub(flows, "SELECT record, version, body FROM hub.record ORDER BY record") == before


def test_a_form_takes_no_range_of_personal_keys_and_no_unknown_system(api: Api) -> None:
    """Both end at once and are not tried again: trying again would not help."""
    api.switch_on("load_system")
    run = api.start("load_system", system="dept-justice", entity="citizen", low="0")
    assert api.wait("load_system", run) == "failed"
    assert "personal data: load the whole entity" in api.log("load_system", run, "plan")
    assert next(t["try_number"] for t in api.tasks("load_system", run) if t["task_id"] == "plan") == 1
    run = api.start("load_system", system="ward-tan-din")
    assert api.wait("load_system", run) == "failed"
    with pytest.raises(AssertionError, match="non-empty"):
        api.start("load_system")


# ------------------------------------------------------------------ comparing
def test_what_differs_is_red_and_repaired_only_after_approval(flows: CityWithAirflow, api: Api) -> None:
    """A golden record that is not what its words say: the comparison finds it, a person approves the plan, then it is folded again."""
    flows.demo.quiet(delivery=False)
    api.switch_on("repair")
    run = api.first("reconcile_hourly")
    assert api.wait("reconcile_hourly", run, 240) == "success", api.states("reconcile_hourly", run)
    some = """SELECT min(r.record) FROM hub.contribution c JOIN hub.record r USING (record)
              WHERE (c.system, c.entity, c.op) = (%s, 'dossier', 's') AND r.sole IS NULL AND NOT r.deleted"""
    ((record,),) = hub(flows, some, OTHER)
    note = "SELECT body ->> 'note' FROM hub.record WHERE record = %s"
    before = hub(flows, note, record)
    hub(flows, """UPDATE hub.record SET body = body || '{"note": "nhầm lẫn"}' WHERE record = %s""", record)

    run = api.start("reconcile_hourly", system=OTHER)
    assert api.wait("reconcile_hourly", run, 90) == "failed"
    said = api.log("reconcile_hourly", run, "reconcile", 0)
    assert "dossier different" in said
    assert "nhầm lẫn" not in said

    rejected = api.start("repair", system=OTHER)
    _decide(flows, api, rejected, "Reject")
    assert api.wait("repair", rejected) == "success"
    assert api.states("repair", rejected)["carry_out"] == {"skipped"}
    run = api.start("repair", system=OTHER)
    _decide(flows, api, run, "Approve")
    assert api.wait("repair", run, 120) == "success", api.log("repair", run, "carry_out")[-3000:]
    assert hub(flows, note, record) == before
    again = api.start("repair", system=OTHER)
    assert api.wait("repair", again) == "success"
    assert set().union(*api.states("repair", again).values()) == {"skipped"}


def _decide(flows: CityWithAirflow, api: Api, run: str, choice: str) -> None:
    """What a person does under Required Actions."""
    api.until("repair", run, lambda tasks: any(t["task_id"] == "approve" and t["state"] in ("awaiting_input", "deferred") for t in tasks))
    _until_let_go(flows, run)
    path = f"dags/repair/dagRuns/{run}/taskInstances/approve/-1/hitlDetails"
    asked = api.get(path)
    assert "| dossier | different | fold again | 1 |" in asked["body"]
    api.patch(path, {"chosen_options": [choice], "params_input": {}})


def _until_let_go(flows: CityWithAirflow, run: str) -> None:
    """Wait until the scheduler knows that the process that asked has ended. Answered before, Airflow takes its end for a failure and asks again."""
    ended, log = f"state success for task instance TaskInstanceKey(dag_id='repair', task_id='approve', run_id='{run}'", "airflow-scheduler.log"
    until = time.monotonic() + 30
    while ended not in (flows.airflow.folder / log).read_text("utf-8", "replace"):
        assert time.monotonic() < until, "the scheduler has not said so"
        time.sleep(0.2)


def test_every_record_of_every_system_is_compared_at_night(flows: CityWithAirflow, api: Api) -> None:
    flows.demo.quiet(delivery=False)
    run = api.first("reconcile_nightly")
    assert api.wait("reconcile_nightly", run, 240) == "success"
    compared = {t["rendered_map_index"] for t in api.tasks("reconcile_nightly", run) if t["task_id"] == "reconcile"}
    assert compared == set(flows.demo.settings.with_database())


# ------------------------------------------------------------------ days
def test_days_are_closed_and_their_arrival_starts_the_proof(flows: CityWithAirflow, api: Api) -> None:
    """Nobody starts `verify_certificates`: the message on the topic does."""
    api.switch_on("verify_certificates")
    run = api.first("close_day")
    assert api.wait("close_day", run, 240) in {"success", "failed"}  # a day with refused records stays open, and says so
    assert api.states("close_day", run)["publish"] == {"success"}
    published = api.result("close_day", run, "publish")
    assert hub(flows, "SELECT count(*) FROM hub.certificate WHERE is_published") == [(published,)]
    assert published >= len(flows.demo.settings.with_database())
    proof = api.first("verify_certificates", "asset_triggered")
    assert api.wait("verify_certificates", proof) == "success"
    assert api.result("verify_certificates", proof, "verify")["certificates"] > 0


# ------------------------------------------------------------------ the others
def test_parked_records_are_replayed_within_a_budget(flows: CityWithAirflow, api: Api) -> None:
    api.switch_on("parked_replay")
    ((parked,),) = hub(flows, "SELECT count(*) FROM hub.parked WHERE (state, kind) = ('open', 'refused')")
    assert parked > 0
    dry = api.start("parked_replay", budget=2)
    assert api.wait("parked_replay", dry) == "success"
    assert api.result("parked_replay", dry, "replay") == {"chosen": min(parked, 2), "replayed": 0}
    run = api.start("parked_replay", budget=2, dry_run=False, why="a test")
    assert api.wait("parked_replay", run) == "failed"  # nobody has corrected them
    assert "stay parked: lienthong parked list" in api.log("parked_replay", run, "replay")
    assert hub(flows, "SELECT count(*), min(why), min(officer) FROM hub.parked_action WHERE action = 'replay'") == [
        (min(parked, 2), "a test", "admin")
    ]


def test_citizens_are_asked_about_within_the_budget_and_not_twice(flows: CityWithAirflow, api: Api) -> None:
    flows.demo.quiet(delivery=False)
    run = api.first("national_look_ups")
    assert api.wait("national_look_ups", run) == "success"
    first = api.result("national_look_ups", run, "look_up")
    assert first["unconfirmed"] == 0
    everybody = first["yes"] + first["no"] + first["refused"]
    assert hub(flows, "SELECT count(*), min(officer) FROM hub.access WHERE outcome <> 'remembered'") == [(everybody, "airflow")]

    hub(flows, "DELETE FROM hub.verified")  # as if all of them had changed
    run = api.start("national_look_ups", budget=7)
    assert api.wait("national_look_ups", run) == "success"
    assert api.result("national_look_ups", run, "look_up")["unconfirmed"] == everybody - 7
    remembered = "SELECT count(*) FILTER (WHERE outcome = 'remembered'), count(*) FROM hub.access"
    assert hub(flows, remembered) == [(7, everybody + 7)]


def test_every_line_is_watched(flows: CityWithAirflow, api: Api) -> None:
    flows.demo.quiet()
    run = api.first("watch")
    assert api.wait("watch", run) == "success", api.log("watch", run, "look")[-3000:]
    assert "lines, all normal" in api.log("watch", run, "look")


def test_the_outbox_is_watched(flows: CityWithAirflow, api: Api) -> None:
    flows.demo.quiet()
    ((refused,),) = hub(flows, "SELECT count(*) FROM hub.delivery WHERE state = 'refused' AND cured_at IS NULL")
    run = api.first("national_outbox")
    assert api.wait("national_outbox", run) == ("failed" if refused else "success")
    hub(flows, "UPDATE hub.delivery SET state = 'refused', cured_at = NULL WHERE id = (SELECT max(id) FROM hub.delivery WHERE kind = 'update')")
    run = api.start("national_outbox")
    assert api.wait("national_outbox", run) == "failed"
    assert "lienthong national outbox --state refused" in api.log("national_outbox", run, "watch")
    run = api.start("national_outbox", resend=True, dry_run=False, why="a test")
    api.wait("national_outbox", run)
    assert api.result("national_outbox", run, "resend")["refused"] == refused + 1


def test_units_are_compared_where_a_register_is_configured(flows: CityWithAirflow, api: Api, tmp_path: Path) -> None:
    run = api.first("units_compare")
    assert api.wait("units_compare", run) == "success"
    assert api.states("units_compare", run)["compare"] == {"skipped"}
    configured = flows.demo.config / "national.yaml"
    before = configured.read_text("utf-8")
    with unit_register(tmp_path, flows.stack.postgres["central"].create_database("register")) as served:
        configured.write_text(f"{before}unit_register: {{endpoint: {served.register_url}, rate_per_second: 500}}\n", "utf-8")
        try:
            run = api.start("units_compare", on="2026-01-01")
            assert api.wait("units_compare", run) == "success", api.log("units_compare", run, "compare")[-2000:]
            served.sql("UPDATE unit SET name = 'Phường Khác' WHERE code = '26740'")
            run = api.start("units_compare", on="2026-01-01")
            assert api.wait("units_compare", run) == "failed"
            assert "26740" in api.log("units_compare", run, "compare")
        finally:
            configured.write_text(before, "utf-8")


def test_schemas_and_retention(flows: CityWithAirflow, api: Api) -> None:
    long_ago = "closed_at = now() - INTERVAL '400 days', payload = 'x'"
    hub(flows, f"UPDATE hub.parked SET state = 'discarded', {long_ago} WHERE id = (SELECT min(id) FROM hub.parked)")  # noqa: S608
    runs = {flow: api.first(flow) for flow in ("schema_gate", "retention")}
    for flow, run in runs.items():
        assert api.wait(flow, run) == "success", [api.log(flow, run, task["task_id"])[-3000:] for task in api.tasks(flow, run)]
    assert hub(flows, "SELECT what, rows, officer FROM hub.purged WHERE what = 'payloads'") == [("payloads", 1, "airflow")]


# ------------------------------------------------------------------ what is told
def test_lineage_names_the_datasets_of_a_load(flows: CityWithAirflow, api: Api, lineage: Receiver) -> None:
    api.switch_on("load_system")
    run = api.start("load_system", system=NEW, entity="dossier", dry_run=False)
    assert api.wait("load_system", run) == "success"
    until = time.monotonic() + 20
    while not (events := [e for e in lineage.events() if e["job"]["name"] == "load_system.load" and e["eventType"] == "COMPLETE" and e["inputs"]]):
        assert time.monotonic() < until, [(e["job"]["name"], e["eventType"]) for e in lineage.events()]
        time.sleep(0.3)
    port, broker = flows.stack.postgres["local"].port, flows.stack.kafka
    assert broker is not None
    named = {(d["namespace"], d["name"]) for d in events[-1]["inputs"]}
    assert (f"postgres://127.0.0.1:{port}", "ward_tan_dinh.public.dossier") in named
    assert {(d["namespace"], d["name"]) for d in events[-1]["outputs"]} == {(f"kafka://{broker.bootstrap}", "lienthong.in")}
    assert all(e["job"]["namespace"] == "lienthong" for e in events)
    assert "sourceCode" not in json.dumps(lineage.events())


def test_no_person_stands_in_logs_results_forms_or_lineage(flows: CityWithAirflow, lineage: Receiver) -> None:
    """Runs last: names and numbers of everybody in the systems against everything that Airflow has kept."""
    people = {
        str(value)
        for holdings in read(flows.demo.dsns).values()
        for citizen in holdings["citizen"]
        for value in (citizen["personal_number"], citizen["full_name"], citizen["phone"])
        if value and len(str(value)) > 8
    }
    assert len(people) > 50
    home = Path(flows.airflow.environment["AIRFLOW_HOME"])
    kept = [path.read_text("utf-8", "replace") for path in home.rglob("*") if path.is_file()]
    kept += [path.read_text("utf-8", "replace") for path in flows.airflow.folder.glob("*.log")]
    for table in ("xcom", "dag_run", "rendered_task_instance_fields", "hitl_detail", "asset_event", "log"):
        kept.append(str(sql(flows.stack.postgres["hub"].dsn("airflow"), f"SELECT to_jsonb(t)::text FROM {table} t")))  # noqa: S608
    kept.append(lineage.file.read_text("utf-8"))
    everything = "\n".join(kept)
    assert "load_system" in everything
    assert sorted(person for person in people if person in everything) == []
