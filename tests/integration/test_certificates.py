"""Days are closed when everything is accounted for and held, stay open with a reason when not, and the chain that is published proves it."""

# ruff: noqa: S608 - the SQL is made of constants

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaConsumer, TopicPartition

from connectors.kafka import Producer
from lienthong import frames
from tests.city import AUTHORITY, PROFILE, TABLE, City, city, wait
from tests.merge_kit import framed

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

DAY_MICROS = 86_400_000_000


# ------------------------------------------------------------------ days of a city
SYSTEMS = """
version: 1
hub: {dsn: "${HUB_DSN}"}
kafka: {bootstrap: "${KAFKA_BOOTSTRAP}", partitions: 1}
systems:
  ward: {profile: simple, dsn: "${WARD_DSN}", capture: outbox, kind: ward, units: ["26740"]}
  archive: {profile: simple, dsn: "${ARCHIVE_DSN}", capture: none, kind: other}
"""
CONTRACTS = """
version: 1
contracts:
  archive: {system: archive, purpose: test, legal_ground: decree 2, entities: {dossier: {}}}
"""
NAME = "Nguyễn Thị Ánh"
KEY = "LIENTHONG_CERTIFICATE_KEY"
TOPIC = "lienthong.certificates"
_numbers = count(1)


@pytest.fixture(scope="module")
def town(stack_root: Path) -> Iterator[City]:
    """A ward read by triggers, an archive that only receives; the service runs, and all that was loaded counts for yesterday."""
    with city(stack_root / "certificates", clusters=("hub", "local")) as made:
        for name in ("ward", "archive"):
            made.database("local", name, TABLE)
        made.write("systems.yaml", SYSTEMS)
        made.write("authority.yaml", AUTHORITY.replace("portal", '"kind:portal"'))
        made.write("contracts.yaml", CONTRACTS)
        made.write("profiles/simple.yaml", PROFILE)
        made.install("ward", "archive")
        made.sql("ward", *[_insert(f"H-{n:04}") for n in range(20)])
        made.environment[KEY] = made.cli("certificate", "key").stdout.strip()
        (made.folder / "public.pem").write_text(made.cli("certificate", "public-key").stdout)
        made.run()
        assert made.cli("load", "ward").returncode == 0
        made.until("archive", "SELECT count(*) FROM ho_so", 20)
        shift(made)
        yield made


def _insert(code: str, word: str = "moi") -> str:
    return f"INSERT INTO ho_so VALUES ('{code}', '1.001', '2026-03-02 08:00+07', '{NAME}', '{word}', 'ban đầu')"


def day(town: City, back: int = 1) -> str:
    """A day before today, in the city's time."""
    today: date = town.sql("hub", "SELECT (now() AT TIME ZONE 'Asia/Ho_Chi_Minh')::date")[0][0]
    return (today - timedelta(days=back)).isoformat()


def shift(town: City) -> None:
    """What was counted today counts for yesterday, as if it were tomorrow already."""
    town.sql(
        "hub",
        f"""WITH moved AS (DELETE FROM hub.day_count WHERE day = '{day(town, 0)}' RETURNING *)
            INSERT INTO hub.day_count AS c SELECT '{day(town)}', system, entity, outcome, n, reading FROM moved
            ON CONFLICT (day, system, entity, outcome) DO UPDATE SET n = c.n + excluded.n, reading = greatest(c.reading, excluded.reading)""",
    )


def close(town: City, *arguments: str) -> tuple[int, dict[str, Any]]:
    done = town.cli("certificate", "close", "--json", *arguments)
    assert done.stdout.startswith("{"), done.stderr
    return done.returncode, json.loads(done.stdout)


def newest(town: City, system: str, of: str) -> dict[str, Any]:
    """The newest issue about the dossiers of a system."""
    statement = "SELECT body FROM hub.certificate WHERE (system, entity, day) = (%s, 'dossier', %s) ORDER BY issue DESC LIMIT 1"
    document: dict[str, Any] = json.loads(town.sql("hub", statement, arguments=[system, of])[0][0])
    return document


def export(town: City) -> Path:
    file = town.folder / "chain.jsonl"
    file.write_text(town.cli("certificate", "export").stdout, "utf-8")
    return file


def verify(town: City, file: Path, *more: str) -> Any:
    """The offline command: it gets no hub, no brokers and no secret key."""
    nothing = {KEY: "", "HUB_DSN": "", "KAFKA_BOOTSTRAP": "", "LIENTHONG_CONFIG": "/nowhere"}
    return town.cli("certificate", "verify", str(file), "--public-key", "public.pem", *more, environment=nothing)


def test_a_day_is_closed_when_all_is_accounted_for_and_held(town: City) -> None:
    code, document = close(town)
    assert code == 0, document
    assert document["open"] == 0
    assert document["published"] == len(document["issued"])
    ward, archive = newest(town, "ward", day(town)), newest(town, "archive", day(town))
    assert (ward["state"], ward["issue"], ward["target"], ward["reasons"]) == ("closed", 1, None, [])
    assert ward["counts"] == {"captured": 20, "merged": 20, "unchanged": 0, "older": 0, "duplicate": 0, "refused": 0, "parked": 0}
    assert ward["reading"] >= town.sql("hub", "SELECT max(version) FROM hub.contribution")[0][0] > 0
    assert archive["target"]["entitled"] == archive["target"]["held"]
    assert archive["target"]["held"]["records"] == 20
    assert archive["counts"]["captured"] == 0
    again, document = close(town)
    assert (again, document["issued"], document["published"]) == (0, [], 0)


def test_without_a_key_nothing_is_closed_and_the_command_that_makes_one_is_named(town: City) -> None:
    done = town.cli("certificate", "close", environment={KEY: ""})
    assert done.returncode == 2
    assert "lienthong certificate key" in done.stderr


def test_today_cannot_be_closed(town: City) -> None:
    done = town.cli("certificate", "close", "--day", day(town, 0))
    assert done.returncode == 2
    assert "not over yet" in done.stderr


def test_a_party_that_does_not_hold_what_it_should_keeps_the_day_open(town: City) -> None:
    of = day(town, 3)
    town.sql("archive", "UPDATE ho_so SET ghi_chu = 'tay' WHERE ma = 'H-0003'", "DELETE FROM ho_so WHERE ma = 'H-0004'")
    code, _ = close(town, "--day", of)
    assert code == 1
    archive = newest(town, "archive", of)
    assert (archive["state"], archive["issue"], archive["reasons"]) == ("open", 1, [{"code": "delivery_differs", "records": 2}])
    assert archive["target"]["entitled"]["records"] == 20
    assert archive["target"]["held"]["records"] == 19
    assert newest(town, "ward", of)["state"] == "closed"
    assert close(town, "--day", of)[1]["issued"] == []  # nothing new to say
    assert town.cli("repair").returncode == 0
    code, document = close(town, "--day", of)
    assert (code, [c["issue"] for c in document["issued"]]) == (0, [2])
    archive = newest(town, "archive", of)
    assert (archive["state"], archive["target"]["entitled"]) == ("closed", archive["target"]["held"])


def test_what_capture_missed_keeps_the_day_open(town: City) -> None:
    of = day(town, 4)
    town.sql("ward", f"{_insert('H-UNSEEN')}; DELETE FROM lienthong.change WHERE xid = pg_current_xact_id()")
    assert close(town, "--day", of, "--system", "ward")[0] == 1
    assert newest(town, "ward", of)["reasons"] == [{"code": "capture_differs", "records": 1}]
    assert town.cli("load", "ward", "--entity", "dossier", "--key", "H-UNSEEN").returncode == 0
    town.until("archive", "SELECT count(*) FROM ho_so WHERE ma = 'H-UNSEEN'", 1)
    assert close(town, "--day", of)[0] == 0
    town.sql("hub", f"DELETE FROM hub.day_count WHERE day = '{day(town, 0)}'")


def test_late_arrivals_open_a_closed_day_again_and_it_is_closed_anew(town: City) -> None:
    of = day(town)
    issue = newest(town, "ward", of)["issue"]
    late = [f"L-{next(_numbers):04}" for _ in range(3)]
    town.sql("ward", *[_insert(code) for code in late])
    town.until("archive", "SELECT count(*) FROM ho_so WHERE ma LIKE 'L-%'", 3)
    shift(town)
    listed = town.cli("certificate", "list", "--open", "--json", "--day", of)
    assert listed.returncode == 1
    assert [(c["system"], c["late"]) for c in json.loads(listed.stdout)["certificates"]] == [("ward", 3)]
    code, document = close(town, "--day", of)
    assert code == 0
    opened, closed = [c for c in document["issued"] if c["system"] == "ward"]
    assert (opened["issue"], opened["state"], opened["reasons"]) == (issue + 1, "open", [{"code": "late_arrivals", "records": 3}])
    assert (closed["issue"], closed["state"], closed["reasons"]) == (issue + 2, "closed", [])
    assert closed["counts"]["captured"] == opened["counts"]["captured"] == 23
    assert town.cli("certificate", "list", "--open", "--day", of).returncode == 0


def test_duplicates_refusals_and_damaged_frames_are_in_the_sum(town: City) -> None:
    of = day(town)
    before = newest(town, "ward", of)["counts"]
    town.sql("ward", _insert("BAD-1", "chua_biet"), _insert("GOOD-1"))
    town.until("hub", "SELECT count(*) FROM hub.parked WHERE state = 'open' AND kind = 'refused'", 1)
    town.until("archive", "SELECT count(*) FROM ho_so WHERE ma = 'GOOD-1'", 1)
    whole = next(frame for frame in reversed(in_topic(town)) if frames.open_frame(frame)[0].kind == "records")
    header, entries = frames.open_frame(whole)
    broken = bytearray(framed(header, *entries, *entries))
    broken[-1] ^= 1
    producer = Producer(town.environment["KAFKA_BOOTSTRAP"], client_id="test")
    for frame in (whole, bytes(broken)):
        producer.send(frames.TOPIC, frame, partition=0)
    producer.flush()
    producer.close()
    town.until("hub", "SELECT count(*) FROM hub.parked WHERE state = 'open' AND kind = 'damaged'", 1)
    shift(town)
    assert close(town, "--day", of)[0] == 1
    ward = newest(town, "ward", of)
    grown = {name: ward["counts"][name] - before[name] for name in before}
    assert grown == {"captured": 2 + 3 * len(entries), "merged": 1, "unchanged": 0, "older": 0, "duplicate": len(entries), "refused": 1,
                     "parked": 2 * len(entries)}  # fmt: skip
    assert (ward["state"], ward["reasons"]) == ("open", [{"code": "unreadable_frames", "records": 1}])
    number = town.sql("hub", "SELECT id FROM hub.parked WHERE state = 'open' AND kind = 'damaged'")[0][0]
    assert town.cli("parked", "discard", str(number), "--why", "a copy").returncode == 0
    assert close(town, "--day", of)[0] == 0
    assert newest(town, "ward", of)["counts"] == ward["counts"]


def in_topic(town: City) -> list[bytes]:
    return [value for _, value in topic(town, frames.TOPIC)]


def topic(town: City, name: str) -> list[tuple[bytes | None, bytes]]:
    """Keys and values of everything in a topic of one partition."""
    consumer = KafkaConsumer(bootstrap_servers=town.environment["KAFKA_BOOTSTRAP"], group_id=None, enable_auto_commit=False)
    place = TopicPartition(name, 0)
    consumer.assign([place])
    consumer.seek_to_beginning()
    end, found = consumer.end_offsets([place])[place], []
    while consumer.position(place) < end:
        for batch in consumer.poll(timeout_ms=500).values():
            found += [(record.key, record.value) for record in batch]
    consumer.close()
    return found


def test_the_chain_is_published_and_proves_itself_offline(town: City) -> None:
    file = export(town)
    lines = file.read_bytes().splitlines()
    published = topic(town, TOPIC)
    assert [value for _, value in published] == lines
    assert published[0][0] in {f"{system}:dossier:{day(town)}".encode() for system in ("ward", "archive")}
    done = verify(town, file)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{len(lines)} certificates" in done.stdout
    altered = town.folder / "altered.jsonl"
    altered.write_bytes(b"\n".join([*lines[:2], lines[2].replace(b"closed", b"opened"), *lines[3:]]))
    removed = town.folder / "removed.jsonl"
    removed.write_bytes(b"\n".join([*lines[:1], *lines[2:]]))
    for wrong, named in ((altered, f"{altered}:3: number 3 "), (removed, f"{removed}:2: number 3 ")):
        done = verify(town, wrong)
        assert done.returncode == 1
        assert named in done.stdout
    shown = town.json("certificate", "show", str(len(lines)))
    assert verify(town, file, "--last", shown["hash"]).returncode == 0
    file.write_bytes(b"\n".join(lines[:-1]))
    assert verify(town, file, "--last", shown["hash"]).returncode == 1


def test_a_row_that_was_changed_in_the_hub_itself_shows(town: City) -> None:
    body = town.sql("hub", "SELECT body FROM hub.certificate WHERE number = 1")[0][0]
    town.sql("hub", "UPDATE hub.certificate SET body = replace(body, '\"merged\":', '\"merged\":1') WHERE number = 1")
    try:
        assert "number 1 " in verify(town, export(town)).stdout
    finally:
        town.sql("hub", "UPDATE hub.certificate SET body = %s WHERE number = 1", arguments=[body])
    assert verify(town, export(town)).returncode == 0


def test_the_month_is_summed_up_by_system_and_by_unit(town: City) -> None:
    month = day(town)[:7]
    document = town.json("certificate", "report", "--month", month)
    ward = next(s for s in document["sums"] if s["system"] == "ward")
    certified = town.json("certificate", "list", "--system", "ward")["certificates"]
    within = [c for c in certified if c["day"].startswith(month)]
    assert ward["units"] == ["26740"]
    assert ward["closed"] == len(within)
    assert ward["closed"] + ward["open"] + ward["missing"] == document["days"]
    assert ward["counts"]["captured"] == sum(c["counts"]["captured"] for c in within) >= 23
    march = town.json("certificate", "report", "--month", "2026-03")
    assert {u["system"]: u["dossiers"] == u["equal"] for u in march["units"]} == {"ward": True, "archive": True}
    assert {u["dossiers"] for u in march["units"]} == {town.sql("archive", "SELECT count(*) FROM ho_so")[0][0]}
    assert town.cli("certificate", "report", "--month", "2026-3").returncode == 2


def test_a_line_that_stands_still_leaves_the_day_open_and_it_closes_later(town: City) -> None:
    of = day(town, 2)
    town.stop()
    try:
        code, document = close(town, "--day", of, "--wait", "1")
        assert code == 3
        assert [n["system"] for n in document["not_compared"]] == ["ward"]  # the archive has all that has come to the hub
        assert newest(town, "ward", of)["reasons"] == [{"code": "not_compared", "records": 0}]
    finally:
        town.run()
    wait(lambda: close(town, "--day", of)[0] == 0)
    assert newest(town, "ward", of)["issue"] == 2


def test_what_is_committed_before_midnight_and_merged_after_it_counts_for_its_day(town: City) -> None:
    """The service is away over midnight; what the ward wrote before and after it is read, merged and applied in one go, on the new day."""
    of, today = day(town), day(town, 0)
    before = newest(town, "ward", of)
    town.stop()
    try:
        town.sql("ward", _insert("M-BEFORE"))
        town.sql("ward", "UPDATE lienthong.change SET at = (date_trunc('day', at AT TIME ZONE 'Asia/Ho_Chi_Minh') - interval '1 microsecond') "
                         "AT TIME ZONE 'Asia/Ho_Chi_Minh' WHERE key ->> 'ma' = 'M-BEFORE'")  # fmt: skip
        town.sql("ward", _insert("M-AFTER-1"), _insert("M-AFTER-2"))
    finally:
        town.run()
    town.until("archive", "SELECT count(*) FROM ho_so WHERE ma LIKE 'M-%'", 3)
    counted = "SELECT day::text, n FROM hub.day_count WHERE (system, entity, outcome) = ('ward', 'dossier', %s) AND day >= %s ORDER BY day"
    for outcome in ("captured", "merged"):
        assert town.sql("hub", counted, arguments=[outcome, of]) == [(of, before["counts"][outcome] + 1), (today, 2)], outcome
    code, document = close(town, "--day", of)
    said = [(c["state"], c["reasons"], c["counts"]["captured"]) for c in document["issued"] if c["system"] == "ward"]
    captured = before["counts"]["captured"] + 1
    assert code == 0
    assert said == [("open", [{"code": "late_arrivals", "records": 1}], captured), ("closed", [], captured)]
    shift(town)
    assert close(town, "--day", of)[0] == 0


def test_no_value_of_a_person_is_in_a_certificate_or_was_printed(town: City) -> None:
    said = town.said + "".join(value.decode() for _, value in topic(town, TOPIC))
    assert NAME not in said
    assert "H-0003" not in said
