"""A party that only reads its topic: it gets what its contract grants and nothing else, and no command stumbles over its missing database."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import DeserializingConsumer
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer

from connectors.postgres import connect
from lienthong.certificates import chain
from lienthong.certificates.form import Counts, Reason, Statement
from lienthong.certificates.keys import KEY_NAME, Signer
from lienthong.embedded.ports import free_port
from tests.city import AUTHORITY, PROFILE, TABLE, City, city, wait

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

SYSTEMS = """
version: 1
hub: {dsn: "${HUB_DSN}"}
kafka: {bootstrap: "${KAFKA_BOOTSTRAP}", partitions: 1}
systems:
  portal: {profile: simple, dsn: "${PORTAL_DSN}", kind: portal}
  tax:
    capture: none
    apply: false
"""
CONTRACTS = """
version: 1
contracts:
  tax:
    system: tax
    purpose: test
    legal_ground: test
    entities:
      dossier:
        fields: [procedure_code, applicant_name, applicant_phone, status]
        where: {procedures: ["1.001"]}
        mask: {applicant_name: initials}
"""
GRANTED = {"procedure_code", "applicant_name", "applicant_phone", "status"}
NAME, NOTE = "Nguyễn Thị Ánh", "only the portal and the hub know this"
NOTED = "tax, without a database here: reads its topic itself"


class Agency:
    """A stock consumer that follows docs/consuming.md: the newest state of every record it was sent, and all it has ever read."""

    def __init__(self, bootstrap: str, port: int) -> None:
        self.registry = SchemaRegistryClient({"url": f"http://127.0.0.1:{port}"})
        self.consumer = DeserializingConsumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": "tax-office",
                "auto.offset.reset": "earliest",
                "value.deserializer": AvroDeserializer(self.registry),
            }
        )
        self.consumer.subscribe(["lienthong.out.tax"])
        self.records: dict[int, dict[str, Any]] = {}
        self.gone: dict[int, str] = {}
        self.versions: dict[int, tuple[int, int]] = {}
        self.read: list[dict[str, Any]] = []

    def poll(self) -> None:
        """Read what there is."""
        while (message := self.consumer.poll(0.5)) is not None:
            assert message.error() is None
            kind, value = dict(message.headers())["ce_type"].decode(), message.value()
            self.read.append(value)
            record, version = (value, value) if kind.endswith("Removed") else (value["meta"], value["meta"])
            number, newest = record["record"], (version["epoch"], version["version"])
            if newest <= self.versions.get(number, (0, 0)):
                continue
            self.versions[number] = newest
            if kind.endswith("Removed"):
                self.records.pop(number, None)
                self.gone[number] = value["reason"]
            else:
                self.records[number] = {name: v for name, v in value.items() if name != "meta" and v is not None}
                self.gone.pop(number, None)

    def until(self, expected: list[dict[str, Any]]) -> None:
        """Wait until these are the records it holds."""

        def holds() -> bool:
            self.poll()
            return sorted(self.records.values(), key=str) == sorted(expected, key=str)

        wait(holds, story=lambda: f"holds {self.records}, gone {self.gone}")

    def close(self) -> None:
        self.consumer.close()
        self.registry.__exit__(None, None, None)


@pytest.fixture(scope="module")
def town(stack_root: Path) -> Iterator[City]:
    """A portal and an agency without a database; all roles run as processes."""
    with city(stack_root / "without_database", clusters=("hub",)) as made:
        made.database("hub", "portal", TABLE)
        made.write("systems.yaml", SYSTEMS)
        made.write("authority.yaml", AUTHORITY)
        made.write("contracts.yaml", CONTRACTS)
        made.write("profiles/simple.yaml", PROFILE)
        made.install("portal")
        made.environment["LIENTHONG_CERTIFICATE_KEY"] = made.cli("certificate", "key").stdout.strip()
        made.environment["LIENTHONG_PORT"] = str(free_port())
        insert(made, "H1", "H2")
        insert(made, "H3", procedure="1.002")
        made.start("run")
        assert made.cli("load", "portal").returncode == 0
        yield made


@pytest.fixture(scope="module")
def agency(town: City) -> Iterator[Agency]:
    made = Agency(town.environment["KAFKA_BOOTSTRAP"], int(town.environment["LIENTHONG_PORT"]))
    yield made
    made.close()


def insert(town: City, *codes: str, procedure: str = "1.001") -> None:
    for code in codes:
        town.sql("portal", "INSERT INTO ho_so VALUES (%s, %s, now(), %s, 'moi', %s)", arguments=[code, procedure, NAME, NOTE])


def state(status: int) -> dict[str, Any]:
    return {"procedure_code": "1.001", "applicant_name": "N.T.Á.", "status": status}


# ------------------------------------------------------------------ what it reads
def test_it_reads_the_granted_fields_masked_and_of_the_granted_records_only(town: City, agency: Agency) -> None:
    agency.until([state(1), state(1)])
    assert all(set(value["meta"]["withheld"]).isdisjoint(GRANTED) and "note" in value["meta"]["withheld"] for value in agency.read)


def test_it_follows_changes_and_is_told_what_leaves_its_scope_and_what_ends(town: City, agency: Agency) -> None:
    town.sql("portal", "UPDATE ho_so SET tt = 'dang_xu_ly' WHERE ma = 'H1'")
    agency.until([state(4), state(1)])
    town.sql("portal", "UPDATE ho_so SET tthc = '1.002' WHERE ma = 'H1'")
    agency.until([state(1)])
    assert sorted(agency.gone.values()) == ["withdraw"]
    town.sql("portal", "DELETE FROM ho_so WHERE ma = 'H2'")
    agency.until([])
    assert sorted(agency.gone.values()) == ["delete", "withdraw"]
    insert(town, "H4")
    agency.until([state(1)])
    said = json.dumps(agency.read, ensure_ascii=False, default=str)
    assert NAME not in said
    assert NOTE not in said


# ------------------------------------------------------------------ what the city's operators see
COMMANDS = [
    (("check",), "only the files and the topic checked"),
    (("status",), "how far it has read is not known here"),
    (("lag",), "how far it has read is not known here"),
    (("probe",), None),
    (("load", "--all"), "nothing to load"),
    (("reconcile",), "not compared"),
    (("repair",), None),
    (("certificate", "close"), "nothing to certify"),
    (("certificate", "report", "--month", time.strftime("%Y-%m")), None),
    (("parked", "list"), None),
    (("parked", "list", "--system", "tax"), None),
]


@pytest.mark.parametrize(("command", "word"), COMMANDS, ids=[" ".join(c[0]) for c in COMMANDS])
def test_a_command_over_all_systems_goes_through_and_says_whom_it_passes_over(
    town: City, agency: Agency, command: tuple[str, ...], word: str | None
) -> None:
    agency.until([state(1)])
    if command[0] in ("status", "lag"):
        wait(lambda: town.cli(*command).returncode == 0, story=lambda: str(town.cli(*command).stdout))
    done = town.cli(*command)
    assert done.returncode == 0 or command[:2] == ("certificate", "report"), done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert word is None or f"{word}: {NOTED}" in done.stderr
    assert (NOTED in done.stderr) == (word is not None)


NAMED = [
    ("check", "--sql", "tax"), ("load", "tax"), ("reconcile", "--system", "tax"), ("repair", "--system", "tax"), ("resend", "tax"), ("resume", "tax"),
    ("probe", "--system", "tax"), ("certificate", "close", "--system", "tax"), ("run", "capture", "--system", "tax"), ("parked", "show", "tax/1"),
]  # fmt: skip


@pytest.mark.parametrize("command", NAMED, ids=" ".join)
def test_a_command_that_needs_a_database_says_so_when_it_is_named(town: City, command: tuple[str, ...]) -> None:
    done = town.cli(*command)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "tax has no database (no profile and dsn in systems.yaml): it reads lienthong.out.tax itself" in done.stderr


def test_documents_name_the_systems_without_a_database(town: City) -> None:
    for command in (("check",), ("status",), ("lag",), ("reconcile",), ("certificate", "close")):
        assert town.json(*command)["without_database"] == ["tax"], command
    assert {d["system"] for d in town.json("reconcile")["compared"]} == {"portal"}
    assert town.json("reconcile", "--system", "portal")["without_database"] == []
    lines = {(line["system"], line["stage"]) for line in town.json("lag")["lines"]}
    assert {stage for system, stage in lines if system == "tax"} == {"merge", "route"}


def test_probes_of_legs_that_are_there_no_more_are_of_the_past(town: City) -> None:
    """The database that `tax` had before, and what the portal was sent while it had a contract."""
    town.sql("hub", "INSERT INTO hub.probe (system, leg, at) SELECT s, 'out', now() - INTERVAL '1 day' FROM unnest('{tax,portal}'::text[]) s")
    try:
        for command in ("status", "lag"):
            assert {(probe["system"], probe["leg"]) for probe in town.json(command)["probes"]} == {("portal", "in")}
    finally:
        town.sql("hub", "DELETE FROM hub.probe WHERE leg = 'out'")


def test_an_open_day_of_the_database_that_it_had_before_says_that_it_stays_open(town: City) -> None:
    connection = connect(town.environment["HUB_DSN"], application_name="test")
    days = [
        Statement(system=system, entity="dossier", day=date(2026, 1, 2), reading=1, counts=Counts(), target=None, reasons=(Reason("not_compared"),))
        for system in ("portal", "tax")
    ]
    chain.add(connection, Signer(town.environment[KEY_NAME]), days, datetime(2026, 1, 3, tzinfo=UTC))
    connection.close()
    alone = town.cli("certificate", "list", "--open", "--system", "tax")
    assert (alone.returncode, "open, no database" in alone.stdout) == (0, True), alone.stdout
    assert "1 certificates, 1 not closed, of which 1 cannot be: their systems have no database here any more" in alone.stdout
    both = town.cli("certificate", "list", "--open")
    assert both.returncode == 1, "the portal's can be closed"
    found = town.json("certificate", "list", "--open")["certificates"]
    assert {(d["system"], d["has_database"]) for d in found if d["day"] == "2026-01-02"} == {("portal", True), ("tax", False)}


def test_a_trace_shows_what_it_was_sent(town: City, agency: Agency) -> None:
    agency.until([state(1)])
    (record,) = town.json("trace", "H4")["records"]
    assert [sent["system"] for sent in record["sent"]] == ["tax"]


def test_one_that_is_named_to_check_has_its_topic_checked(town: City) -> None:
    done = town.cli("check", "--system", "tax")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "2 systems, files and live systems: 0 errors, 0 warnings")
