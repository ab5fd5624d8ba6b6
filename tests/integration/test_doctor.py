"""The doctor at a real city: each problem is really caused, found with the command that mends it, and nothing is found where all is well."""

# ruff: noqa: S608 - names of our own in statements

from __future__ import annotations

import json
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path

import pytest
from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType

from lienthong.certificates.keys import new_key
from lienthong.config import load_settings
from lienthong.doctor import Finding, Report, checks, servers
from lienthong.doctor.look import Look
from lienthong.embedded.ports import free_port
from lienthong.errors import ConfigError
from lienthong.web.metric_list import SAMPLES
from lienthong.web.metrics import HubCollector
from tests.city import TABLE, wait
from tests.lines_kit import ALL_ROLES, Lines, lines
from tests.upgrades import schema

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

SEEN: set[str] = set()
"""The checks that have found what was caused."""


@pytest.fixture(scope="module")
def sick(stack_root: Path) -> Iterator[Lines]:
    """A portal (log), a ward on the same server (triggers) and a ward on its own (log), with the watch."""
    with lines(stack_root / "doctor") as made:
        yield made


def examine(sick: Lines, environment: Mapping[str, str] | None = None, config: Path | None = None) -> Report:
    """What `lienthong doctor` does, in this process."""
    try:
        settings = load_settings(config or sick.city.config, {**sick.city.environment, **(environment or {})})
    except ConfigError as error:
        return checks.of_configuration(error)
    return checks.examine(Look(settings))


def well(sick: Lines) -> None:
    """Nothing is found any more; the roles have taken up what was given back to them."""
    wait(lambda: examine(sick).is_healthy, 60, lambda: f"{examine(sick)}\n{sick.city.logs()[-3000:]}")


def found(report: Report, check: str, where: str) -> Finding:
    """What one check has found in one place."""
    (finding,) = [one for one in report.findings if (one.id, one.where) == (check, where)]
    assert finding.why == next((c.why for c in checks.CHECKS if c.id == check), checks._WHY_CONFIGURATION)
    SEEN.add(check)
    return finding


def measured(sick: Lines, environment: Mapping[str, str] | None = None) -> dict[tuple[str, ...], float]:
    """What /metrics says: the name and its labels in the order of the list, and the value."""
    settings = load_settings(sick.city.config, {**sick.city.environment, **(environment or {})})
    samples = [sample for family in HubCollector(settings).collect() for sample in family.samples]
    return {(s.name, *(s.labels[label] for label in SAMPLES[s.name])): s.value for s in samples}


def ids(report: Report) -> set[str]:
    return {finding.id for finding in report.findings}


# ------------------------------------------------------------------ nothing
def test_nobody_watches(sick: Lines) -> None:
    assert found(examine(sick), "role", "watch").command == "lienthong run watch"
    sick.start("watch")


def test_a_healthy_city_has_nothing_to_be_found(sick: Lines) -> None:
    well(sick)
    done = sick.city.cli("doctor")
    assert (done.returncode, "nothing found" in done.stdout) == (0, True), done.stdout
    document = sick.city.json("doctor")
    assert (document["schema"], document["healthy"], document["findings"]) == ("lienthong/doctor/1", True, [])
    assert tuple(document["looked_at"]) == checks.IDS


def test_what_the_doctor_looks_at_is_measured_too(sick: Lines) -> None:
    sick.submit()
    wait(lambda: ("lienthong_source_slot_active", "portal") in measured(sick), 30)
    found = measured(sick)
    assert {name for name, *_ in found} <= SAMPLES.keys()
    for system in ("portal", "ward-far"):
        assert found["lienthong_source_slot_active", system] == 1
        assert 0 <= found["lienthong_source_wal_retained_bytes", system] < 2**30
    assert ("lienthong_source_slot_active", "ward-near") not in found  # read from triggers
    wait(lambda: measured(sick).get(("lienthong_delay_seconds_count", "ward-near", "source_to_target"), 0) >= 1, 30)
    found = measured(sick)
    for system, hop in (("portal", "source_to_hub"), ("ward-near", "hub_to_target"), ("ward-near", "source_to_target")):
        records = found["lienthong_delay_seconds_count", system, hop]
        minute, every = (found["lienthong_delay_seconds_bucket", system, hop, le] for le in ("60.0", "+Inf"))
        assert records == every >= minute > 0
        assert 0 <= found["lienthong_delay_seconds_sum", system, hop] / records < 60
    for system in ("portal", "ward-near", "ward-far"):
        assert abs(found["lienthong_source_clock_offset_seconds", system]) < 1
        assert found["lienthong_line_lag_seconds", system, "capture"] < 10  # also where nobody has written anything
        assert abs(found["lienthong_line_heartbeat_timestamp_seconds", system, "capture"] - time.time()) < 10
        assert found["lienthong_load_waiting_ranges", system] == 0
    today = "(clock_timestamp() AT TIME ZONE 'Asia/Ho_Chi_Minh')::date"
    for system, outcome, n in sick.city.sql(
        "hub", f"SELECT system, outcome, sum(n)::int FROM hub.day_count WHERE day = {today} AND system = 'ward-near' GROUP BY 1, 2"
    ):
        assert found["lienthong_day_records", system, outcome] <= n  # counted a moment later


# ------------------------------------------------------------------ configuration, servers
def test_a_variable_that_is_missing(sick: Lines) -> None:
    environment = {name: value for name, value in sick.city.environment.items() if name != "WARD_FAR_DSN"}
    with pytest.raises(ConfigError) as told:
        load_settings(sick.city.config, environment)
    report = checks.of_configuration(told.value)
    (finding,) = report.findings
    assert found(report, "configuration", finding.where).command == "export WARD_FAR_DSN=…"
    assert (finding.where.startswith("systems.yaml:"), report.not_looked_at) == (True, checks.IDS[1:])


def test_a_wrong_password(sick: Lines) -> None:
    rules = sick.data_of_far() / "pg_hba.conf"
    before = rules.read_text()
    sick.city.sql("ward_far", "CREATE ROLE clerk LOGIN PASSWORD 'right'")
    rules.write_text(f"host all clerk 127.0.0.1/32 scram-sha-256\n{before}")
    sick.city.sql("ward_far", "SELECT pg_reload_conf()")
    dsn = sick.city.environment["WARD_FAR_DSN"]
    try:
        wrong = {"WARD_FAR_DSN": dsn.replace("postgres@", "clerk:wrong@")}
        wait(lambda: "login" in ids(examine(sick, wrong)), 20)
        report = examine(sick, wrong)
        assert found(report, "login", "ward-far").command == "lienthong check --system ward-far"
        assert "wrong" not in json.dumps(report.as_dict()["findings"]).replace("is wrong", "")  # the password itself
        refused = examine(sick, {"WARD_FAR_DSN": dsn.replace("postgres@", "clerk:right@")})
        assert "lienthong check --sql ward-far" in found(refused, "installation", "ward-far").command  # it may use nothing of ours
    finally:
        rules.write_text(before)
        sick.city.sql("ward_far", "SELECT pg_reload_conf()", "DROP ROLE clerk")


def test_a_hub_that_is_away_explains_what_cannot_be_looked_at(sick: Lines) -> None:
    host = sick.city.environment["HUB_DSN"].rpartition(":")[0]
    report = examine(sick, {"HUB_DSN": f"{host}:{free_port()}/hub"})
    assert found(report, "unreachable", "hub").command == "systemctl start postgresql"
    assert set(report.not_looked_at) == {check.id for check in checks.CHECKS if check.needs != "nothing"}
    done = sick.city.cli("doctor", environment={"HUB_DSN": f"{host}:{free_port()}/hub"})
    assert done.returncode == 1
    assert "not looked at" in done.stderr


def test_brokers_and_a_ward_that_are_away(sick: Lines) -> None:
    bootstrap = f"127.0.0.1:{free_port()}"
    finding = found(examine(sick, {"KAFKA_BOOTSTRAP": bootstrap}), "unreachable", "kafka")
    assert (finding.command, bootstrap in finding.note) == ("systemctl start kafka", True)
    sick.far.stop()
    try:
        assert "127.0.0.1" in found(examine(sick), "unreachable", "ward-far").note
    finally:
        sick.far.start()
    well(sick)


def test_a_hub_of_an_older_release_and_an_empty_one(sick: Lines) -> None:
    for name, older in (("hub_older", True), ("hub_empty", False)):
        dsn = sick.city.stack.postgres["hub"].create_database(name)
        if older:
            sick.city.environment["HUB_OLDER_DSN"] = dsn
            sick.city.psql("hub_older", (schema.HERE / schema.RELEASES[0] / "hub.sql").read_text("utf-8"))
        report = examine(sick, {"HUB_DSN": dsn})
        assert found(report, "hub_schema", "hub").command == "lienthong run"
        assert "hub_schema" in report.looked_at
    assert measured(sick, {"HUB_DSN": sick.city.environment["HUB_OLDER_DSN"]})[("lienthong_hub_up",)] == 1  # what it has is told
    assert measured(sick, {"HUB_DSN": dsn})[("lienthong_hub_up",)] == 0


def test_a_system_without_our_schema(sick: Lines) -> None:
    dsn = sick.city.database("central", "ward_bare", TABLE)
    command = found(examine(sick, {"WARD_NEAR_DSN": dsn}), "installation", "ward-near").command
    assert command == "lienthong check --sql ward-near > ward-near.sql"
    script = sick.city.cli("check", "--sql", "ward-near").stdout
    sick.city.psql("ward_bare", script)
    assert "installation" not in ids(examine(sick, {"WARD_NEAR_DSN": dsn}))


def test_topics_that_let_go_too_early_are_missing_or_have_other_partitions(sick: Lines) -> None:
    admin = KafkaAdminClient(bootstrap_servers=sick.city.environment["KAFKA_BOOTSTRAP"])

    def change(topic: str, **settings: str) -> None:
        named = {name.replace("_", "."): value for name, value in settings.items()}
        admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, named)])

    change("lienthong.out.ward-far", cleanup_policy="delete", retention_ms="-1", retention_bytes="-1")
    change("lienthong.in", retention_ms="3600000")
    try:
        wait(lambda: len([f for f in examine(sick).findings if f.id == "topics"]) == 2, 20)
        report = examine(sick)
        assert "cleanup.policy=compact" in found(report, "topics", "lienthong.out.ward-far").command
        assert sick.city.environment["KAFKA_BOOTSTRAP"] in found(report, "topics", "lienthong.in").command
    finally:
        change("lienthong.out.ward-far", cleanup_policy="compact", retention_ms="-1", retention_bytes="-1")
        change("lienthong.in", retention_ms="604800000")
        admin.close()
    config = elsewhere(sick, "partitions", ("bootstrap: ", "partitions: 8, bootstrap: "))
    assert "write partitions: 4" in found(examine(sick, config=config), "topics", "lienthong.in").note


def elsewhere(sick: Lines, name: str, *changes: tuple[str, str]) -> Path:
    """The configuration as another folder, with its systems.yaml changed."""
    folder = sick.city.folder / name
    shutil.copytree(sick.city.config, folder)
    file = folder / "systems.yaml"
    text = file.read_text("utf-8")
    for before, after in changes:
        assert before in text
        text = text.replace(before, after)
    file.write_text(text, "utf-8")
    return folder


def test_the_clock_of_this_machine_is_an_hour_ahead(sick: Lines) -> None:
    spec = find_spec("libfaketime")
    assert spec is not None
    assert spec.origin is not None
    skew = {
        "LD_PRELOAD": str(Path(spec.origin).parent / "vendor/libfaketime/src/libfaketime.so.1"), "FAKETIME": "+1h",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }  # fmt: skip
    call = [sys.executable, "-m", "lienthong", "doctor", "--json"]
    done = subprocess.run(call, env={**sick.city.environment, **skew}, capture_output=True, text=True, timeout=60, check=False)
    (finding,) = json.loads(done.stdout)["findings"]
    assert (finding["id"], finding["where"]) == ("clock", "this machine")
    assert "3,600" in finding["found"]
    assert "ahead of" in finding["found"]
    SEEN.add("clock")


# ------------------------------------------------------------------ lines
def test_a_capture_that_does_not_run_and_a_slot_that_nobody_reads(sick: Lines) -> None:
    well(sick)
    sick.stop("capture")
    wait(lambda: "role" in ids(examine(sick)), 40)
    report = examine(sick)
    assert found(report, "role", "capture").command == "lienthong run capture"
    wait(lambda: measured(sick)["lienthong_source_slot_active", "portal"] == 0, 30)
    behind = measured(sick)["lienthong_line_lag_seconds", "ward-near", "capture"]
    wait(lambda: measured(sick)["lienthong_line_lag_seconds", "ward-near", "capture"] > behind + 1, 10)  # it grows for a stopped process
    for system in ("portal", "ward-far"):
        assert found(report, "slot", system).command == f"lienthong run capture --system {system}"
    sick.city.sql("ward_far", "SELECT pg_drop_replication_slot('lienthong_ward_far')")
    command = found(examine(sick), "slot", "ward-far").command
    assert command == "lienthong load ward-far --new-epoch"
    assert sick.city.cli(*command.split()[1:]).returncode == 0  # the command mends it
    sick.start("capture")
    well(sick)


def cured(sick: Lines, command: str, database: str) -> None:
    """What the statements of a `psql -c "…" -c '…'` do, at a server."""
    words = shlex.split(command)
    assert (words[0], set(words[1::2])) == ("psql", {"-c"})
    sick.city.sql(database, *words[2::2])


def test_a_source_that_will_soon_give_our_slot_up(sick: Lines) -> None:
    sick.stop("capture")
    sick.city.sql("ward_far", "ALTER SYSTEM SET max_slot_wal_keep_size = '128MB'", "SELECT pg_reload_conf()")
    try:
        for _ in range(20):
            sick.city.sql("ward_far", "SELECT pg_logical_emit_message(false, 'x', repeat('x', 1000))", "SELECT pg_switch_wal()")
            if "space" in ids(examine(sick)):
                break
        finding = found(examine(sick), "space", "ward-far")
        assert "128MB" not in finding.command
        assert "lienthong run capture" in finding.note
        cured(sick, finding.command, "ward_far")
        wait(lambda: "space" not in ids(examine(sick)), 20)
        assert sick.city.sql("ward_far", "SHOW max_slot_wal_keep_size") == [("1GB",)]
    finally:
        sick.city.sql("ward_far", "ALTER SYSTEM RESET max_slot_wal_keep_size", "SELECT pg_reload_conf()")
        sick.start("capture")
    well(sick)


def test_a_slot_whose_reader_is_gone_and_a_broker_whose_disk_is_full(sick: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "IDLE_LIMIT_BYTES", 2**20)
    sick.city.sql("hub", "SELECT pg_create_physical_replication_slot('standby_of_old', true)")
    for _ in range(2):
        sick.city.sql("hub", "SELECT pg_logical_emit_message(false, 'x', 'x')", "SELECT pg_switch_wal()")
    (finding,) = [each for each in examine(sick).findings if each.id == "space"]
    assert "standby_of_old" in finding.found
    cured(sick, finding.command, "hub")
    well(sick)
    (disk,) = Look(load_settings(sick.city.config, sick.city.environment)).disks
    assert 0 < disk.free_bytes < disk.total_bytes
    monkeypatch.setattr(servers, "DISK_SHARE", 1.0)  # so that the disk of this machine counts as full
    finding = found(examine(sick), "space", f"broker {disk.broker}")
    assert (disk.folder in finding.found, sick.city.environment["KAFKA_BOOTSTRAP"] in finding.command) == (True, True)


def test_days_that_nobody_has_certified_and_one_that_stays_open(sick: Lines) -> None:
    day = "(now() AT TIME ZONE 'Asia/Ho_Chi_Minh')::date - 3"
    of = "('ward-near', 'dossier')"
    sick.city.sql("hub", f"INSERT INTO hub.day_count SELECT {day}, 'ward-near', 'dossier', o, n FROM (VALUES ('captured', 2), ('merged', 1)) v(o, n)")
    close = "lienthong certificate close --system ward-near"
    assert found(examine(sick), "certificate", "ward-near").command == close
    key = {"LIENTHONG_CERTIFICATE_KEY": new_key()}
    assert sick.city.cli(*close.split()[1:], environment=key, seconds=150).returncode == 1
    finding = found(examine(sick), "certificate", "ward-near")
    assert ("counts_differ" in finding.found, close in finding.note) == (True, True)
    assert finding.command == "lienthong certificate list --open --system ward-near"
    sick.city.sql("hub", f"UPDATE hub.day_count SET n = 2 WHERE (system, entity) = {of} AND day = {day} AND outcome = 'merged'")
    assert sick.city.cli(*close.split()[1:], environment=key, seconds=150).returncode == 0
    well(sick)


def test_two_processes_want_one_line(sick: Lines) -> None:
    second = sick.city.start("run", "capture", log="second.log")
    try:
        leases: list[Finding] = []
        wait(lambda: bool(leases.extend(f for f in examine(sick).findings if f.id == "lease") or leases), 40, sick.city.logs)
        assert {f.command for f in leases} <= {f"kill {process.pid}" for process in (second, sick.roles["capture"])}
        SEEN.add("lease")
    finally:
        second.send_signal(signal.SIGTERM)
        second.wait(40)
        sick.city.running.remove(second)
    well(sick)


def test_a_line_that_has_stopped_says_what_to_do(sick: Lines) -> None:
    sick.city.sql("ward_near", "ALTER TABLE ho_so RENAME ten TO ten_cu")
    try:
        wait(lambda: "stopped" in ids(examine(sick)), 40)
        finding = found(examine(sick), "stopped", "ward-near capture")
        assert finding.command == "lienthong check --system ward-near"
        assert "nothing was lost" in finding.found
    finally:
        sick.city.sql("ward_near", "ALTER TABLE ho_so RENAME ten_cu TO ten")
    well(sick)


def test_a_system_that_was_never_loaded_and_a_load_that_was_interrupted(sick: Lines) -> None:
    dsn = sick.city.database(
        "central", "ward_new", TABLE, "INSERT INTO ho_so SELECT 'N-' || n, '1.001', now(), 'x', 'moi' FROM generate_series(1, 40000) n"
    )
    new = '  ward-new: {profile: simple, dsn: "${WARD_NEW_DSN}", capture: outbox, kind: ward}\n'
    config = elsewhere(sick, "with-new", ("systems:\n", f"systems:\n{new}"))
    at = {"LIENTHONG_CONFIG": str(config)}
    sick.city.psql("ward_new", sick.city.cli("check", "--sql", "ward-new", environment=at).stdout)
    assert dsn == sick.city.environment["WARD_NEW_DSN"]
    assert found(examine(sick, config=config), "load", "ward-new").command == "lienthong load ward-new"
    process = sick.city.start("load", "ward-new", "--workers", "1", log="load.log", environment=at)
    some = "SELECT count(*) FILTER (WHERE done_at IS NULL) > 0 AND count(done_at) > 0 FROM hub.load_chunk WHERE system = 'ward-new'"
    sick.city.until("hub", some, True)
    process.kill()
    process.wait()
    wait(lambda: "load" in ids(examine(sick, config=config)), 20)
    command = found(examine(sick, config=config), "load", "ward-new").command
    assert command == "lienthong load ward-new --resume"
    assert sick.city.cli(*command.split()[1:], environment=at).returncode == 0
    wait(lambda: "load" not in ids(examine(sick, config=config)), 60)


def test_many_parked_at_once(sick: Lines) -> None:
    insert = "INSERT INTO ho_so SELECT 'BAD-' || n, '1.001', now(), 'x', 'khong_biet' FROM generate_series(1, 60) n"
    sick.city.sql("ward_near", insert)
    wait(lambda: "parked" in ids(examine(sick)), 40)
    assert found(examine(sick), "parked", "ward-near").command == "lienthong parked list --system ward-near --reason unmapped_word"
    sick.city.sql("ward_near", "UPDATE ho_so SET tt = 'moi' WHERE ma LIKE 'BAD-%'")  # corrected at the source
    well(sick)


def test_every_problem_was_caused(sick: Lines) -> None:
    """The portal's outage is caused where a portal is: test_delivery.py."""
    assert set(checks.IDS) - {"portal"} == SEEN
    assert set(ALL_ROLES) <= sick.roles.keys()
