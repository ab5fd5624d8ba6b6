"""Bad input, end to end: what the operator sees of it, and that nothing else stopped or was lost.

The service is started with everything that can be wrong at once, on real servers: brokers and a database that are down, a wrong
password, a profile with a column that is not there; then rows that fit nowhere go into two wards, and bytes that are nothing into
the topics. Good records lie between all of them.
"""

# ruff: noqa: E501, S608 - one case a line reads best; the SQL is made of constants

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from connectors.avro import frame
from connectors.kafka import Consumer, Message, Producer
from tests.bad_rows import ASCII, CANARIES, CASES, CONTRACTS, GOOD, GOOD_NUMBER, NAME, PASSWORD, PROFILE, SYSTEMS, TABLE
from tests.city import AUTHORITY, City, city, wait

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def service(stack_root: Path) -> Iterator[City]:
    """Everything is wrong at the start; the first tests put it right one by one."""
    with city(stack_root / "bad", clusters=("hub", "central", "gone")) as made:
        for name in ("portal", "ward", "ward_locked", "ward_typo"):
            made.database("central", name, TABLE)
        made.database("gone", "ward_gone", TABLE)
        central = made.stack.postgres["central"]
        central.execute("CREATE DATABASE ward_ascii TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE_PROVIDER libc LOCALE 'C'")
        made.environment["WARD_ASCII_DSN"] = central.dsn("ward_ascii")
        made.sql("ward_ascii", TABLE)
        for name, text in (("systems", SYSTEMS), ("authority", AUTHORITY), ("contracts", CONTRACTS)):
            made.write(f"{name}.yaml", text)
        made.write("profiles/loose.yaml", PROFILE)
        made.write("profiles/typo.yaml", PROFILE.replace("profile: loose", "profile: typo").replace("trich_yeu", "trich_yueu"))
        made.install("portal", "ward", "ward-ascii", "ward-gone", "ward-locked", "ward-typo")
        lock(made)
        yield made


def lock(made: City) -> None:
    """The ward's own user, whose password was changed without telling us."""
    script = made.cli("check", "--sql", "ward-locked").stdout.replace('"postgres"', '"lt_ward"').replace("'postgres'", "'lt_ward'")
    made.sql("ward_locked", "CREATE ROLE lt_ward LOGIN PASSWORD 'another'")
    made.psql("ward_locked", script)
    hba = Path(made.sql("ward_locked", "SHOW hba_file")[0][0])
    hba.write_text(f"host all lt_ward 127.0.0.1/32 scram-sha-256\n{hba.read_text()}")
    made.sql("ward_locked", "SELECT pg_reload_conf()")
    made.environment["WARD_LOCKED_DSN"] = made.environment["WARD_LOCKED_DSN"].replace("postgres@", f"lt_ward:{PASSWORD}@")


def put(service: City, at: str, code: str, changes: dict[str, Any] | None = None) -> None:
    """One row; its code."""
    row = {**GOOD, "ma": code, **(changes or {})}
    names = ", ".join(row)
    service.sql(at, f"INSERT INTO ho_so ({names}) VALUES ({', '.join(['%s'] * len(row))})", arguments=list(row.values()))


def arrives(service: City, code: str) -> None:
    service.until("portal", f"SELECT ten, cccd FROM ho_so WHERE ma = '{code}'", [(NAME, GOOD_NUMBER)])


def line(service: City, system: str, stage: str = "capture") -> dict[str, Any]:
    found = {(x["system"], x["stage"]): x for x in service.json("lag")["lines"]}
    return dict(found[system, stage])


def parked(service: City, system: str | None = None) -> list[dict[str, Any]]:
    return list(service.json("parked", "list", *(("--system", system) if system else ()))["records"])


# ------------------------------------------------------------------ wrong before the first record
def test_check_names_everything_that_is_wrong_in_one_pass(service: City) -> None:
    service.stack.postgres["gone"].stop()
    assert service.stack.kafka is not None
    service.stack.kafka.stop()
    begun = time.monotonic()
    done = service.cli("check")
    assert time.monotonic() - begun < 15
    assert done.returncode == 3, done.stdout
    said = {text.partition(":")[0]: text for text in done.stdout.splitlines() if ": " in text}
    assert "no Kafka broker can be reached at 127.0.0.1" in said["kafka"]
    assert "Connection refused" in said["ward-gone"]
    assert 'password authentication failed for user "lt_ward": correct the password in the variable of its dsn' in said["ward-locked"]
    assert "dossier.summary: table ho_so has no column trich_yueu (did you mean trich_yeu?)" in said["ward-typo"]
    assert "SQL_ASCII" in said["ward-ascii"]
    assert "ward" not in said
    assert PASSWORD in service.environment["WARD_LOCKED_DSN"]  # it was there to be leaked


def test_the_service_waits_for_brokers_that_are_down_at_its_start(service: City) -> None:
    process = service.run()
    wait(lambda: any(event.get("action") == "run_waits" for event in service.events()), 30, service.logs)
    waits = [event for event in service.events() if event.get("action") == "run_waits"]
    assert "no Kafka broker can be reached" in waits[0]["message"]
    assert waits[0]["retry_seconds"] > 0
    assert process.poll() is None
    assert service.stack.kafka is not None
    service.stack.kafka.start()
    for case in (*CASES[::2], None):  # half of the bad rows are there before the load, with good ones around them
        put(service, "ward", "before" if case is None else case.name, {} if case is None else case.row)
    put(service, "ward_ascii", "ascii good")
    for system in ("ward", "ward-ascii"):
        wait(lambda system=system: service.cli("load", system).returncode == 0, 30)  # type: ignore[misc]
    arrives(service, "before")
    arrives(service, "ascii good")


def test_a_database_that_is_down_at_the_start_holds_up_nobody(service: City) -> None:
    done = service.cli("load", "ward-gone")
    assert done.returncode == 3
    assert "ward-gone cannot be reached: " in done.stderr
    wait(lambda: line(service, "ward-gone")["state"] == "retrying")
    assert "Connection refused" in line(service, "ward-gone")["reason"]
    service.stack.postgres["gone"].start()
    put(service, "ward_gone", "gone and back")
    assert service.cli("load", "ward-gone").returncode == 0
    arrives(service, "gone and back")


def test_a_wrong_password_stops_one_line_and_says_what_to_do(service: City) -> None:
    done = service.cli("load", "ward-locked")
    assert done.returncode == 2
    assert "ward-locked cannot be reached: password authentication failed" in done.stderr
    wait(lambda: line(service, "ward-locked")["state"] == "stopped")
    status = service.cli("status")
    assert status.returncode == 1
    assert 'password authentication failed for user "lt_ward": correct the password' in status.stdout
    service.sql("ward", f"ALTER ROLE lt_ward PASSWORD '{PASSWORD}'")
    put(service, "ward_locked", "unlocked")
    assert service.cli("load", "ward-locked").returncode == 0
    arrives(service, "unlocked")


def test_a_profile_that_names_a_missing_column_stops_one_line(service: City) -> None:
    done = service.cli("load", "ward-typo")
    assert done.returncode == 2
    assert "dossier.summary: table ho_so has no column trich_yueu" in done.stderr
    wait(lambda: line(service, "ward-typo")["state"] == "stopped")
    assert "table ho_so has no column trich_yueu" in service.cli("status").stdout
    service.sql("ward_typo", "ALTER TABLE ho_so RENAME trich_yeu TO trich_yueu")
    put(service, "ward_typo", "typo")
    assert service.cli("load", "ward-typo").returncode == 0
    arrives(service, "typo")


def test_a_topic_of_another_partition_count_is_refused_before_anything_starts(service: City) -> None:
    other = service.folder / "seven"
    shutil.copytree(service.config, other, dirs_exist_ok=True)
    (other / "systems.yaml").write_text(SYSTEMS.replace('KAFKA_BOOTSTRAP}"}', 'KAFKA_BOOTSTRAP}", partitions: 7}'))
    for arguments in (("run", "capture", "merge"), ("run", "merge"), ("load", "ward")):
        done = service.cli(*arguments, "--config", str(other))
        assert done.returncode == 2, done.stderr
        assert "topic lienthong.in has 4 partitions where 7 are configured" in done.stderr
        assert "set kafka.partitions back" in done.stderr
    done = service.cli("check", "--config", str(other), "--system", "ward")
    assert done.returncode == 1
    assert "kafka: lienthong.in: the topic has 4 partitions where kafka.partitions says 7 (write partitions: 4;" in done.stdout


# ------------------------------------------------------------------ records that fit nowhere
def test_rows_that_do_not_fit_are_parked_each_with_its_reason_and_the_rest_flows(service: City) -> None:
    for case in CASES[1::2]:  # the other half comes live, each between two good ones
        put(service, "ward", case.name, case.row)
        put(service, "ward", f"beside {case.name}")
    service.sql(
        "ward_ascii", r"INSERT INTO ho_so (ma, tthc, nop, ten, tt) VALUES ('not UTF-8', '1.001', '20250801083000', E'CHIMSECRET\xff\xfe', 'moi')"
    )
    put(service, "ward_ascii", "ascii after")
    wait(lambda: len(parked(service)) >= len(CASES) + 1, story=lambda: str(parked(service)))
    keys = {code: str(key) for code, key in service.sql("ward", "SELECT ma, id FROM ho_so")}
    found = {p["local_key"]: p for p in parked(service, "ward")}
    assert len(found) == len(CASES)
    for case in CASES:
        it = found[keys[case.name]]
        assert (it["entity"], it["kind"], it["field"], it["reason"]) == ("dossier", "refused", case.field, case.reason), case.name
        assert case.says in it["message"], case.name
        assert it["advice"], case.name
    (bytes_,) = parked(service, "ward-ascii")
    assert (bytes_["field"], bytes_["reason"]) == (ASCII.field, ASCII.reason)
    assert ASCII.says in bytes_["message"]
    for case in CASES[1::2]:
        arrives(service, f"beside {case.name}")
    arrives(service, "ascii after")
    assert service.sql("portal", "SELECT count(*) FROM ho_so WHERE ma = ANY(%s)", arguments=[[case.name for case in CASES]]) == [(0,)]


def test_the_operator_reads_record_field_problem_and_what_to_do(service: City) -> None:
    done = service.cli("parked", "list", "--system", "ward", "--reason", "malformed_personal_number")
    assert done.returncode == 1
    (key,) = service.sql("ward", "SELECT id FROM ho_so WHERE ma = '13 digits'")[0]
    (row,) = [text for text in done.stdout.splitlines() if "13 digits" in text]
    said = " ".join(row.split())
    assert f"ward dossier {key} applicant_personal_number 13 digits where 12 digits are required correct it at ward" in said
    status = service.cli("status")
    assert "malformed_personal_number" in status.stdout
    assert "next: lienthong parked list" in status.stdout


def test_the_payload_is_kept_for_those_who_may_see_it_and_for_nobody_else(service: City) -> None:
    assert "payload" not in json.dumps(parked(service))
    kept = service.sql("hub", "SELECT payload FROM hub.parked WHERE reason = 'missing' AND state = 'open'")
    assert GOOD_NUMBER.encode() in bytes(kept[0][0])


def test_the_same_code_twice_in_one_system_is_shown_and_both_records_flow(service: City) -> None:
    for number in (1, 2):
        put(service, "ward", "twice", {"ghi_chu": f"number {number}"})
    wait(lambda: any(p["reason"] == "duplicate_identifier" for p in parked(service, "ward")))
    (it,) = [p for p in parked(service, "ward") if p["reason"] == "duplicate_identifier"]
    keys = [str(key) for (key,) in service.sql("ward", "SELECT id FROM ho_so WHERE ma = 'twice' ORDER BY id")]
    assert it["local_key"] in keys
    assert "claim one identifier: the same code twice in one system" in it["message"]
    service.until("portal", "SELECT count(*) FROM ho_so WHERE ma = 'twice'", 2)
    assert service.sql("portal", "SELECT ghi_chu FROM ho_so WHERE ma = 'twice' ORDER BY 1") == [("number 1",), ("number 2",)]


def test_what_is_corrected_at_the_source_is_taken_and_leaves_the_list(service: City) -> None:
    before = len(parked(service, "ward"))
    for case in CASES:
        names = [name for name in case.row]
        assignments = ", ".join(f"{name} = %s" for name in names)
        repaired = [GOOD.get(name) for name in names]
        service.sql("ward", f"UPDATE ho_so SET {assignments} WHERE ma = %s", arguments=[*repaired, case.name])
    for case in CASES:
        arrives(service, case.name)
    wait(lambda: len(parked(service, "ward")) == before - len(CASES), story=lambda: str(parked(service, "ward")))


# ------------------------------------------------------------------ bytes that are nothing
def messages(service: City, topic: str) -> list[Message]:
    assert service.stack.kafka is not None
    consumer = Consumer(service.stack.kafka.bootstrap, [topic], group=f"test-{topic}", stored=lambda _topic, _partition: None, client_id="test")
    found: list[Message] = []
    try:
        quiet, until = 0, time.monotonic() + 30
        while quiet < 5 and time.monotonic() < until:
            more = consumer.poll(200)
            found += more
            quiet = 0 if more or not consumer.assigned() else quiet + 1
    finally:
        consumer.close()
    return found


def send(service: City, topic: str, values: list[bytes]) -> None:
    assert service.stack.kafka is not None
    producer = Producer(service.stack.kafka.bootstrap, client_id="test")
    try:
        for value in values:
            producer.send(topic, value, key=b"test", partition=0)
        producer.flush()
    finally:
        producer.close()


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :]


def test_frames_that_were_cut_or_changed_are_kept_with_their_position(service: City) -> None:
    whole = max((m.value or b"" for m in messages(service, "lienthong.in") if NAME.encode() in (m.value or b"")), key=len)
    before = service.sql("portal", "SELECT count(*), max(ten), min(ten), max(cccd), min(cccd) FROM ho_so")
    in_name = whole.index(NAME.encode()) + 3  # Avro alone reads this as another name
    spoiled = [
        b"",
        b"not a frame",
        whole[: len(whole) // 2],
        whole[:-1],
        whole + b"x",
        flipped(whole, in_name),
        flipped(whole, 12),
        flipped(whole, len(whole) - 1),
    ]
    send(service, "lienthong.in", spoiled)
    wait(lambda: len([p for p in parked(service) if p["kind"] == "damaged"]) == len(spoiled), story=lambda: str(parked(service)))
    found = [p for p in parked(service) if p["kind"] == "damaged"]
    assert all((p["topic"], p["partition"]) == ("lienthong.in", 0) and p["offset"] is not None for p in found)
    assert all("a frame that cannot be opened" in p["message"] and p["advice"] for p in found)
    listing = service.cli("parked", "list", "--reason", "damaged").stdout
    assert f"lienthong.in partition 0 offset {found[0]['offset']}" in listing
    put(service, "ward", "after the damage")
    arrives(service, "after the damage")
    after = service.sql("portal", "SELECT count(*) - 1, max(ten), min(ten), max(cccd), min(cccd) FROM ho_so")
    assert after == before


def test_messages_nobody_wrote_are_parked_at_the_target(service: City) -> None:
    whole = max((m.value or b"" for m in messages(service, "lienthong.out.portal")), key=len)
    send(service, "lienthong.out.portal", [frame(999_999, b"CHIMSECRET"), whole[: len(whole) // 2], b"\x01CHIMSECRET", b""])
    wait(lambda: len(parked(service, "portal")) == 4, story=lambda: str(parked(service, "portal")))
    reasons = sorted((p["reason"], p["topic"], p["partition"]) for p in parked(service, "portal"))
    assert reasons == [("damaged", "lienthong.out.portal", 0)] * 3 + [("unknown_schema", "lienthong.out.portal", 0)]
    put(service, "ward", "after the nonsense")
    arrives(service, "after the nonsense")


# ------------------------------------------------------------------ and never a value
def test_nothing_that_was_said_or_logged_holds_a_value(service: City) -> None:
    service.cli("parked", "list", "--limit", "1000")
    service.cli("status")
    text = service.logs() + service.said
    stored = json.dumps(service.sql("hub", "SELECT field, reason, message, local_key FROM hub.parked"), ensure_ascii=False)
    lines = json.dumps(service.sql("hub", "SELECT reason FROM hub.line"), ensure_ascii=False)
    at_target = json.dumps(service.sql("portal", "SELECT field, reason, message FROM lienthong.parked"), ensure_ascii=False)
    for canary in CANARIES:
        for form in (canary, json.dumps(canary)[1:-1], repr(canary)):
            assert form not in text + stored + lines + at_target, canary


def test_the_sums_agree_and_the_service_ends_cleanly(service: City) -> None:
    counts = {(c["system"], c["entity"], c["outcome"]): c["records"] for c in service.json("status")["counts"]}
    for system in ("ward", "ward-ascii"):
        parts = ("merged", "unchanged", "older", "duplicate", "refused", "parked")
        assert counts[system, "dossier", "captured"] == sum(counts.get((system, "dossier", part), 0) for part in parts), counts
    assert service.stop() == [0]
