"""What agencies are told of their topics follows from schemas and contracts: the document, the samples, the readers, the notices."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pytest

import schemas
from connectors.avro import DIGEST, Codec, check_digest, id_codec, unframe
from connectors.kafka_groups import Group
from lienthong import route, tracing
from lienthong.agencies import asyncapi, samples
from lienthong.agencies.readers import notice, readers
from lienthong.cli import agencies as commands
from lienthong.errors import ConfigError
from lienthong.settings import Contract, Grant, KafkaSecurity, Scope, Settings
from tests.agency_kit import demo_settings

ROOT = Path(__file__).resolve().parents[2]
SYSTEM = "dept-justice"


@pytest.fixture(scope="module")
def settings() -> Settings:
    return demo_settings()


@pytest.fixture(scope="module")
def systems(settings: Settings) -> list[str]:
    return [contract.system for contract in settings.contracts.values()]


@pytest.fixture(scope="module")
def document(settings: Settings, systems: list[str]) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(json.dumps(asyncapi.document(settings, systems, registry_url="http://registry.example:8081")))
    return made


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for child in node.values():
            yield from references(child)
    elif isinstance(node, list):
        for child in node:
            yield from references(child)


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    found = list(references({name: part for name, part in document.items() if name != "components"} | {"m": document["components"]["messages"]}))
    assert len(found) > 100
    for reference in found:
        node: Any = document
        for step in reference.removeprefix("#/").split("/"):
            assert step in node, reference
            node = node[step]


def test_every_system_with_a_contract_has_its_topic_and_nobody_else(document: dict[str, Any], systems: list[str]) -> None:
    assert {name: channel["address"] for name, channel in document["channels"].items()} == {name: f"lienthong.out.{name}" for name in systems}


def test_every_message_has_the_schema_that_is_on_the_wire(document: dict[str, Any]) -> None:
    for message in document["components"]["messages"].values():
        name = message["payload"]["$ref"].rsplit("/", 1)[1]
        payload = document["components"]["schemas"][name]
        assert payload["schema"] == schemas.by_id(schemas.schema_id(name))
        Codec(payload["schema"])
        assert message["name"] == schemas.full_name(name)


def test_every_example_is_a_message_of_its_schema_and_key(document: dict[str, Any]) -> None:
    for message in document["components"]["messages"].values():
        codec = id_codec(schemas.schema_id(message["payload"]["$ref"].rsplit("/", 1)[1]))
        for example in message["examples"]:
            assert codec.decode(codec.encode(example["payload"])) == example["payload"]
            assert example["headers"]["ce_type"] == message["name"]
    dossier = document["components"]["messages"][f"{SYSTEM}.dossier"]
    assert re.match(dossier["bindings"]["kafka"]["key"]["pattern"], "dossier:1042")
    assert not re.match(dossier["bindings"]["kafka"]["key"]["pattern"], "079180000000")


def test_masks_and_what_is_withheld_are_said_and_shown(document: dict[str, Any]) -> None:
    justice, portal = (document["components"]["messages"][f"{system}.dossier"] for system in (SYSTEM, "city-portal"))
    assert justice["x-contract"]["fields"]["applicant_phone"]["mask"] == "last4"
    assert justice["examples"][0]["payload"]["applicant_phone"] == "******0000"
    assert "mask" not in portal["x-contract"]["fields"]["applicant_phone"]
    assert portal["examples"][0]["payload"]["applicant_phone"] == "0900000000"
    assert justice["x-contract"]["scope"] == "agencies H29.15"
    citizen = document["components"]["messages"][f"{SYSTEM}.citizen"]
    sensitive = [field.name for field in schemas.fields("citizen") if field.pii == "sensitive"]
    assert citizen["x-contract"]["withheld"] == citizen["examples"][0]["payload"]["meta"]["withheld"] == sensitive
    assert citizen["x-contract"]["classes"]["sensitive"] == []


def test_fields_and_classes_are_those_of_contract_and_schema(document: dict[str, Any]) -> None:
    for name, message in document["components"]["messages"].items():
        if "x-contract" not in message:
            assert name.rsplit(".", 1)[1] in asyncapi.SERVICE_RECORDS
            continue
        said, entity = message["x-contract"], message["x-contract"]["entity"]
        every = {field.name: field for field in schemas.fields(entity)}
        assert set(said["fields"]) | set(said["withheld"]) == set(every)
        assert {field: given["class"] for field, given in said["fields"].items()} == {field: every[field].pii for field in said["fields"]}
        assert sorted(field for fields in said["classes"].values() for field in fields) == sorted(said["fields"])


def test_a_field_that_a_contract_does_not_list_is_in_no_sample(settings: Settings) -> None:
    narrow = {"justice": settings.contracts["justice"].model_copy(update={"entities": {"dossier": Grant(fields=("status", "procedure_code"))}})}
    less = settings.model_copy(update={"contracts": narrow})
    sample = next(value for key, _, value in samples.messages(less, SYSTEM) if key == "dossier:1042")
    assert {name for name, value in sample.items() if value is not None} == {"meta", "status", "procedure_code"}
    assert "applicant_name" in sample["meta"]["withheld"]
    assert "Nguyễn" not in json.dumps(asyncapi.document(less, [SYSTEM]), ensure_ascii=False)


def test_a_scope_is_said_with_its_own_units_spelled_out() -> None:
    scope = Scope(units=("own", "26740"), any_of=(Scope(procedures=("1.004222",)), Scope(agencies=("own",))))
    assert asyncapi.scope_said(scope, ["26737"], ["H29.1"]) == "units 26737, 26740 and one of: procedures 1.004222; agencies H29.1"
    assert asyncapi.scope_said(Scope(), ["26737"], []) == "all records"


@pytest.mark.parametrize(
    ("security", "log_in"),
    [
        (KafkaSecurity(username="u", password="p"), "scramSha512"),  # noqa: S106 - not one
        (KafkaSecurity(username="u", password="p", mechanism="PLAIN"), "plain"),  # noqa: S106 - not one
        (KafkaSecurity(protocol="SSL"), "X509"),
    ],
)
def test_servers_say_how_to_log_in_and_nothing_secret(settings: Settings, security: KafkaSecurity, log_in: str) -> None:
    kafka = settings.kafka.model_copy(update={"security": security, "bootstrap": "b1.example:9093, b2.example:9093"})
    servers = asyncapi.document(settings.model_copy(update={"kafka": kafka}), [SYSTEM])["servers"]
    assert [server["host"] for server in servers.values()] == ["b1.example:9093", "b2.example:9093"]
    assert {server["protocol"] for server in servers.values()} == {"kafka-secure"}
    assert servers["broker-1"]["security"][0]["type"] == log_in
    assert "password" not in json.dumps(servers)


def test_the_headers_are_those_that_the_router_sends(document: dict[str, Any]) -> None:
    sent = {name for name, _ in route._headers("dossier", 7, 1)} | {DIGEST, tracing.HEADER}
    assert set(document["components"]["schemas"]["headers"]["properties"]) == sent
    required = {name for name, _ in route._headers("dossier", 7, 0)} | {DIGEST}
    assert set(document["components"]["schemas"]["headers"]["required"]) == required
    assert set(samples.headers("dossier", b"")) == sent - {tracing.HEADER}


# ------------------------------------------------------------------ samples
@pytest.mark.parametrize("entity", schemas.ENTITIES)
def test_sample_values_are_fields_of_their_entity(entity: str) -> None:
    assert set(samples.VALUES[entity]) <= {field.name for field in schemas.fields(entity)}


def test_sample_lines_are_messages_as_they_lie_in_the_topic(settings: Settings) -> None:
    lines = list(samples.lines(settings, SYSTEM))
    assert [line["key"] for line in lines][-2:] == ["dossier:1041", "citizen:2002"]
    for line in lines:
        framed = base64.b64decode(line["value_base64"])
        number, body = unframe(framed)
        assert id_codec(number).decode(body) == line["value"]
        check_digest(framed, [("lt_digest", bytes.fromhex(line["headers"]["lt_digest"]))])


def test_the_sample_file_of_the_guide_is_what_the_command_writes(settings: Settings) -> None:
    """When this is red: lienthong asyncapi --system dept-justice --samples docs/agencies/samples.jsonl, with the demo's configuration."""
    kept = (ROOT / "docs" / "agencies" / "samples.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line) for line in kept] == list(samples.lines(settings, SYSTEM))


# ------------------------------------------------------------------ who reads what
SEEN = [Group(name="agency-a", topic="lienthong.out.dept-justice", behind=1200), Group(name="other", topic="lienthong.out.one-stop", behind=0)]


def test_readers_of_a_field_are_those_whose_contract_gives_it(settings: Settings) -> None:
    found = {each.system: each for each in readers(settings, "dossier", "applicant_phone", SEEN)}
    assert set(found) == {contract.system for contract in settings.contracts.values() if "dossier" in contract.entities}
    assert found[SYSTEM].mask == "last4"
    assert [group.name for group in found[SYSTEM].groups] == ["agency-a"]
    assert readers(settings, "citizen", "religion") == []


def test_readers_of_an_entity_list_their_fields(settings: Settings) -> None:
    only = {"a": Contract(system=SYSTEM, purpose="x y z", legal_ground="x y z", entities={"fee": Grant(fields=("amount",))})}
    (reader,) = readers(settings.model_copy(update={"contracts": only}), "fee", None)
    assert (reader.fields, reader.contract) == (("amount",), "a")


def test_a_notice_names_who_still_reads_and_comes_ninety_days_before(settings: Settings) -> None:
    found, today = readers(settings, "dossier", "note", SEEN), date(2026, 11, 23)
    said = notice(found, "dossier.note", ends=date(2027, 2, 21), today=today, instead="summary")
    assert "| dept-justice | justice | - |" in said
    assert "agency-a (1,200 behind)" in said
    assert "Instead: summary" in said
    with pytest.raises(ConfigError, match="2027-02-21 is the first day possible"):
        notice(found, "dossier.note", ends=date(2027, 2, 20), today=today, instead="summary")
    assert "Nobody" in notice([], "citizen.religion", ends=date(2027, 3, 1), today=today, instead="nothing")


# ------------------------------------------------------------------ commands
@pytest.fixture
def commanded(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "settings_of", lambda _: settings)


@pytest.mark.usefixtures("commanded")
def test_the_command_writes_document_and_samples_of_one_system(tmp_path: Path, settings: Settings) -> None:
    file, sampled = tmp_path / "a.json", tmp_path / "s.jsonl"
    assert commands.asyncapi(system=[SYSTEM], registry="http://r", file=file, samples=sampled) == 0
    assert list(json.loads(file.read_text("utf-8"))["channels"]) == [SYSTEM]
    assert [json.loads(line) for line in sampled.read_text("utf-8").splitlines()] == list(samples.lines(settings, SYSTEM))
    with pytest.raises(ConfigError, match="exactly one --system"):
        commands.asyncapi(system=None, file=file, samples=sampled)
    with pytest.raises(ConfigError, match="no system with a contract dept-justic"):
        commands.asyncapi(system=["dept-justic"], file=file)


@pytest.mark.usefixtures("commanded")
def test_the_command_says_who_reads_and_gives_the_notice(capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.schemas_readers("dossier.note", offline=True, as_json=True) == 0
    assert {each["system"] for each in json.loads(capsys.readouterr().out)["readers"]} >= {SYSTEM, "one-stop"}
    assert commands.schemas_readers("dossier", offline=True) == 0
    assert "dept-justice" in capsys.readouterr().out
    assert commands.schemas_readers("dossier.note", offline=True, ends=datetime(2099, 1, 1), instead="summary") == 0  # noqa: DTZ001 - a day
    assert "# `dossier.note` ends on 2099-01-01" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="no field of dossier notes"):
        commands.schemas_readers("dossier.notes", offline=True)
    with pytest.raises(ConfigError, match="only a field can end"):
        commands.schemas_readers("dossier", offline=True, ends=datetime(2099, 1, 1))  # noqa: DTZ001 - a day
