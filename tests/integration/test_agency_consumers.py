"""The guide's consumers, in Python, Java and JavaScript with their stock clients, end with the same and right records; and the document is valid."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator

import schemas
from connectors.avro import DIGEST, digest_of, frame, out_codec
from connectors.kafka import Admin, Producer
from connectors.kafka_groups import groups
from lienthong.agencies import asyncapi, samples
from lienthong.embedded import KafkaBroker
from lienthong.settings import Settings
from lienthong.web.registry import create_app
from tests.agency_kit import LANGUAGES, demo_settings, node, node_modules, served, told

pytestmark = [pytest.mark.slow]

SYSTEM = "dept-justice"
TOPIC, DAMAGED = f"lienthong.out.{SYSTEM}", "lienthong.out.damaged"
PARSER = Path(__file__).parents[1] / "interop" / "asyncapi"
Sent = tuple[str, str, dict[str, Any]]


@pytest.fixture(scope="module")
def settings() -> Settings:
    return demo_settings()


@pytest.fixture(scope="module")
def registry() -> Iterator[str]:
    with served(create_app([SYSTEM, "damaged"])) as address:
        yield address


def at(value: dict[str, Any], version: int, *, record: int | None = None, **fields: Any) -> dict[str, Any]:
    """A sample in another version, perhaps of another record."""
    meta = value["meta"] | {"version": version} | ({"record": record} if record is not None else {})
    return {**value, **fields, "meta": meta}


@pytest.fixture(scope="module")
def sent(settings: Settings) -> list[Sent]:
    """What a topic may hold: the samples, then older, repeated and newer states, ends, a state after an end, a join whose children follow."""
    first = list(samples.messages(settings, SYSTEM))
    by_name = {name: value for _, name, value in first}
    dossier, citizen, fee = by_name["dossier"], by_name["citizen"], by_name["fee"]
    return [
        ("dossier:1041", "dossier", at(dossier, 3, record=1041)),
        ("citizen:2002", "citizen", at(citizen, 3, record=2002)),
        *first,
        ("dossier:1042", "dossier", at(dossier, 6, status=2)),
        ("dossier:1042", "dossier", at(dossier, 9, status=9)),
        ("dossier:1042", "dossier", at(dossier, 9, status=9)),
        ("dossier:1042", "dossier", at(dossier, 8, status=5)),
        ("dossier:1041", "dossier", at(dossier, 4, record=1041)),
        ("dossier:1050", "dossier", at(dossier, 7, record=1050)),
        ("fee:3050", "fee", {**fee, "meta": fee["meta"] | {"record": 3050, "parent": 1051}}),
        ("dossier:1051", "merged", samples.merged("dossier") | {"record": 1050, "from": 1051, "version": 8}),
        ("dossier:1060", "removed", samples.removed("dossier") | {"record": 1060, "version": 5}),
        ("dossier:1060", "dossier", at(dossier, 6, record=1060)),
    ]


@pytest.fixture(scope="module")
def filled(kafka: KafkaBroker, sent: list[Sent]) -> str:
    admin = Admin(kafka.bootstrap)
    admin.ensure({TOPIC: 1, DAMAGED: 1}, replication=1, settings={"cleanup.policy": "compact"})
    admin.close()
    producer = Producer(kafka.bootstrap, client_id="test", linger_ms=5)
    for key, name, value in sent:
        framed = frame(schemas.schema_id(name), out_codec(name).encode(value))
        producer.send(TOPIC, framed, key=key.encode(), partition=0, headers=_headers(name, framed))
    producer.send(TOPIC, b"\x00", key=b"probe", partition=0, headers=[])
    key, name, value = sent[3]
    framed = frame(schemas.schema_id(name), out_codec(name).encode(value))
    producer.send(DAMAGED, framed[:-9] + bytes([framed[-9] ^ 1]) + framed[-8:], key=key.encode(), partition=0, headers=_headers(name, framed))
    producer.flush()
    producer.close()
    return kafka.bootstrap


def _headers(name: str, framed: bytes) -> list[tuple[str, bytes]]:
    said = samples.headers(name, framed) | {DIGEST: ""}
    return [(header, text.encode()) for header, text in said.items() if header != DIGEST] + [(DIGEST, digest_of(framed))]


Done = dict[tuple[str, str], subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def done(filled: str, registry: str) -> Done:
    """Every example over both topics, as many at a time as there are languages."""
    runs = [(language, topic) for topic in (TOPIC, DAMAGED) for language in LANGUAGES]
    with ThreadPoolExecutor(len(LANGUAGES)) as pool:
        made = pool.map(lambda run: LANGUAGES[run[0]](filled, registry, run[1], f"agency-{run[0]}"), runs)
        return dict(zip(runs, made, strict=True))


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_example_ends_with_the_newest_state_of_what_it_is_entitled_to(language: str, done: Done, sent: list[Sent]) -> None:
    held = told(done[language, TOPIC])
    newest = {value["meta"]["record"]: value for _, name, value in sent if name not in asyncapi.SERVICE_RECORDS}  # the last sent, but for these:
    newest[1042] = next(value for _, name, value in sent if name == "dossier" and value["status"] == 9)
    expected = {record: value for record, value in newest.items() if record not in (1041, 2002)}
    assert {record: line["value"] for record, line in held.items()} == expected
    assert held[1042]["version"] == [1, 9]
    assert held[1042]["value"]["applicant_phone"] == "******0000"
    assert held[2001]["value"]["full_name"] == "Nguyễn Thị Mẫu"
    assert (held[3050]["parent"], held[1060]["version"]) == (1050, [1, 6])


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_example_stops_at_a_message_that_was_changed_on_its_way(language: str, done: Done) -> None:
    stopped = done[language, DAMAGED]
    assert stopped.returncode == 1
    assert "damaged at offset 0" in stopped.stderr
    assert stopped.stdout == ""


def test_who_reads_is_seen_from_the_groups(done: Done, filled: str) -> None:
    """All have read to the end of the whole topic; who stopped at the first message has committed nothing."""
    assert {told(done[language, TOPIC]) != {} for language in LANGUAGES} == {True}
    seen = [group for group in groups(filled, {TOPIC, DAMAGED}) if group.behind == 0]
    assert [(group.topic, group.name) for group in seen] == [(TOPIC, f"agency-{language}") for language in sorted(LANGUAGES)]


def test_the_sample_file_decodes_without_any_service(settings: Settings) -> None:
    for line in samples.lines(settings, SYSTEM):
        framed = base64.b64decode(line["value_base64"])
        assert framed[0] == 0
        assert schemas.by_id(int.from_bytes(framed[1:5]))["name"] == line["headers"]["ce_type"].rsplit(".", 1)[1]


# ------------------------------------------------------------------ the document
@pytest.fixture(scope="module")
def document(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("asyncapi") / "asyncapi.json"
    systems = [contract.system for contract in settings.contracts.values()]
    file.write_text(json.dumps(asyncapi.document(settings, systems, registry_url="http://registry.example:8081")), "utf-8")
    return file


def test_the_official_schema_accepts_the_document(document: Path) -> None:
    official = node_modules(PARSER) / "node_modules" / "@asyncapi" / "specs" / "schemas" / "3.0.0.json"
    validator = Draft7Validator(json.loads(official.read_text("utf-8")))
    made = json.loads(document.read_text("utf-8"))
    assert [error.message for error in validator.iter_errors(made)] == []
    made["channels"][SYSTEM]["adress"] = "a typing error"
    assert not validator.is_valid(made)


def test_the_official_parser_understands_every_message(document: Path, settings: Settings) -> None:
    done = node(PARSER / "check.mjs", str(document), modules=node_modules(PARSER))
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert [told for told in found["told"] if told["severity"] < 2] == []
    assert found["messages"] == sum(len(contract.entities) + 2 for contract in settings.contracts.values())
    assert found["operations"] == len(settings.contracts)


def test_the_official_parser_notices_a_wrong_document(document: Path, tmp_path: Path) -> None:
    made = json.loads(document.read_text("utf-8"))
    made["channels"][SYSTEM]["messages"]["dossier"]["$ref"] = "#/components/messages/nowhere"
    (tmp_path / "wrong.json").write_text(json.dumps(made), "utf-8")
    done = node(PARSER / "check.mjs", str(tmp_path / "wrong.json"), modules=node_modules(PARSER))
    assert any(told["severity"] == 0 for told in json.loads(done.stdout)["told"])
