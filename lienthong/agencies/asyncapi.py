"""The AsyncAPI 3 document of the out-topics: made from the released schemas, the contracts and the configuration, so it cannot say anything else."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import schemas
from connectors.avro import DIGEST, frame, out_codec
from lienthong import __version__
from lienthong.agencies import samples
from lienthong.contracts import Terms, terms_of
from lienthong.route import topic_of
from lienthong.settings import Contract, Kafka, Scope, Settings

SPECIFICATION = "3.0.0"
KAFKA_BINDING = "0.5.0"
AVRO = "application/vnd.apache.avro+json;version=1.9.0"
CONTENT_TYPE = "application/vnd.confluent.avro"
LOG_INS = {"SCRAM-SHA-512": "scramSha512", "SCRAM-SHA-256": "scramSha256", "PLAIN": "plain"}
SERVICE_RECORDS = ("removed", "merged")
CLASSES = ("public", "personal", "sensitive")

DESCRIPTION = """What each agency receives from the city, one compacted topic for each system: the newest state of every record,
as its contract shapes it.

Each channel names its purpose and legal ground; each message, under `x-contract`, the fields, masks and classes of personal data. A masked field is
masked in the message itself, a field that is withheld is null there and named in `meta.withheld`."""
MASKS = {
    "last4": "all but the last four characters are stars, and all of them where there are no more",
    "year": "the year alone",
    "initials": "the first letter of each word",
    "null": "always null",
}


def document(settings: Settings, systems: Iterable[str], *, registry_url: str | None = None) -> dict[str, Any]:
    """The document for some systems that have contracts; without a registry's address that of the configuration is named, or none."""
    registry = registry_url or settings.kafka.registry_url
    contracts = {system: contract for system in systems if (contract := settings.contract_of(system)) is not None}
    terms = _by_system(settings)
    return {
        "asyncapi": SPECIFICATION,
        "info": {
            "title": "Liên Thông: records of the city for its agencies",
            "version": __version__,
            "description": DESCRIPTION,
            "tags": [{"name": f"schemas-release-{max(version.release for version in schemas.released())}"}],
        },
        "defaultContentType": CONTENT_TYPE,
        "servers": _servers(settings.kafka, registry),
        "channels": {system: _channel(settings, contract, terms[system]) for system, contract in contracts.items()},
        "operations": {f"send-{system}": _operation(system, terms[system]) for system in contracts},
        "components": {
            "messages": {
                _message_name(system, name): _message(settings, system, name, terms[system]) for system in contracts for name in _names(terms[system])
            },
            "schemas": {name: _payload(name) for name in _all_names(terms[system] for system in contracts)} | {"headers": _headers()},
        },
    }


def _by_system(settings: Settings) -> dict[str, dict[str, Terms]]:
    found: dict[str, dict[str, Terms]] = defaultdict(dict)
    for entity, granted in terms_of(settings).items():
        for terms in granted:
            found[terms.system][entity] = terms
    return found


def _names(granted: Mapping[str, Terms]) -> list[str]:
    """The records a channel can carry, in the order of the model."""
    return [*(entity for entity in schemas.ENTITIES if entity in granted), *SERVICE_RECORDS]


def _all_names(granted: Iterable[Mapping[str, Terms]]) -> list[str]:
    return list(dict.fromkeys(name for each in granted for name in _names(each)))


def _message_name(system: str, name: str) -> str:
    return f"{system}.{name}"


def _ref(*path: str) -> dict[str, str]:
    return {"$ref": "#/" + "/".join(path)}


def _servers(kafka: Kafka, registry: str | None) -> dict[str, Any]:
    """One for each broker: its address, how to log in, and the registry that answers for its topics."""
    binding = {"bindingVersion": KAFKA_BINDING} | ({"schemaRegistryUrl": registry, "schemaRegistryVendor": "confluent"} if registry else {})
    shared: dict[str, Any] = {"protocol": "kafka", "description": "A broker of the city.", "bindings": {"kafka": binding}}
    if kafka.security is not None:
        log_in = "X509" if kafka.security.protocol == "SSL" else LOG_INS[kafka.security.mechanism]
        shared |= {"protocol": "kafka-secure", "security": [{"type": log_in, "description": "Given with the contract, one for each system."}]}
    return {f"broker-{number}": {"host": address.strip(), **shared} for number, address in enumerate(kafka.bootstrap.split(","), start=1)}


def _channel(settings: Settings, contract: Contract, granted: Mapping[str, Terms]) -> dict[str, Any]:
    system, topic = contract.system, topic_of(contract.system)
    return {
        "address": topic,
        "title": f"Records for {system}",
        "description": "One partition, so one order. Compacted, without a time limit: a group that starts today gets the newest state of everything.",
        "messages": {name: _ref("components", "messages", _message_name(system, name)) for name in _names(granted)},
        "bindings": {
            "kafka": {
                "topic": topic, "partitions": 1, "replicas": settings.kafka.replication,
                "topicConfiguration": {"cleanup.policy": ["compact"]}, "bindingVersion": KAFKA_BINDING,
            }
        },
        "x-purpose": contract.purpose,
        "x-legal-ground": contract.legal_ground,
    }  # fmt: skip


def _operation(system: str, granted: Mapping[str, Terms]) -> dict[str, Any]:
    return {
        "action": "send",
        "channel": _ref("channels", system),
        "summary": f"The city sends every record that {system} is entitled to, whenever it changes.",
        "messages": [_ref("channels", system, "messages", name) for name in _names(granted)],
    }


def _message(settings: Settings, system: str, name: str, granted: Mapping[str, Terms]) -> dict[str, Any]:
    full_name = schemas.full_name(name)
    made: dict[str, Any] = {
        "name": full_name,
        "title": full_name.rsplit(".", 1)[1],
        "summary": schemas.by_id(schemas.schema_id(name))["doc"],
        "contentType": CONTENT_TYPE,
        "headers": _ref("components", "schemas", "headers"),
        "payload": _ref("components", "schemas", name),
        "bindings": {"kafka": _message_binding(name, granted)},
        "examples": [_example(each, headers) for each, headers in _samples(settings, system, name)],
    }
    if name in granted:
        made["x-contract"] = _contract(settings, granted[name])
    return made


def _message_binding(name: str, granted: Mapping[str, Terms]) -> dict[str, Any]:
    entities = "|".join(sorted(granted)) if name in SERVICE_RECORDS else name
    return {
        "key": {"type": "string", "pattern": f"^({entities}):[0-9]+$", "description": "Entity and record number; never a personal number."},
        "schemaIdLocation": "payload",
        "schemaIdPayloadEncoding": "4",
        "schemaLookupStrategy": "TopicRecordNameStrategy",
        "bindingVersion": KAFKA_BINDING,
    }


def _samples(settings: Settings, system: str, name: str) -> list[tuple[dict[str, Any], dict[str, str]]]:
    return [
        (value, samples.headers(each, frame(schemas.schema_id(each), out_codec(each).encode(value))))
        for _, each, value in samples.messages(settings, system)
        if each == name
    ]


def _example(value: dict[str, Any], headers: dict[str, str]) -> dict[str, Any]:
    return {"name": "sample", "summary": "Everything in it is invented.", "headers": headers, "payload": value}


def _contract(settings: Settings, terms: Terms) -> dict[str, Any]:
    """Scope, fields with class, group and mask, and what is withheld, of one entity of one contract."""
    declared = {field.name: field for field in schemas.fields(terms.entity)}
    by_class: dict[str, list[str]] = {name: [] for name in CLASSES}
    given = {}
    for name in terms.fields:
        field = declared[name]
        by_class[field.pii].append(name)
        given[name] = {"class": field.pii, "group": field.group, "type": field.type}
        if name in terms.masks:
            given[name] |= {"mask": terms.masks[name], "masked": MASKS[terms.masks[name]]}
    return {
        "entity": terms.entity,
        "scope": scope_said(terms.scope, settings.systems[terms.system].units, settings.systems[terms.system].agencies),
        "fields": given,
        "withheld": list(terms.withheld),
        "classes": by_class,
    }


def scope_said(scope: Scope, units: Iterable[str], agencies: Iterable[str]) -> str:
    """A scope in words; `own` is spelled out."""
    said = []
    own = {"units": list(units), "agencies": list(agencies), "procedures": []}
    for what in ("units", "agencies", "procedures"):
        given = getattr(scope, what)
        if given is not None:
            codes = [code for entry in given for code in (own[what] if entry == "own" else [entry])]
            said.append(f"{what} {', '.join(codes)}")
    if scope.any_of:
        said.append("one of: " + "; ".join(scope_said(part, units, agencies) for part in scope.any_of))
    return " and ".join(said) or "all records"


def _payload(name: str) -> dict[str, Any]:
    """The newest released schema of a record, as consumers get it from the registry."""
    return {"schemaFormat": AVRO, "schema": schemas.by_id(schemas.schema_id(name))}


def _headers() -> dict[str, Any]:
    text = {"type": "string"}
    return {
        "type": "object",
        "required": ["ce_specversion", "ce_type", "ce_id", "ce_source", DIGEST],
        "properties": {
            "ce_specversion": {"const": "1.0"},
            "ce_type": text | {"description": "The record type, such as vn.lienthong.Dossier."},
            "ce_id": text | {"description": "The number of the routing pass; several messages share it."},
            "ce_source": {"const": "/lienthong/hub"},
            "ce_time": text | {"format": "date-time", "description": "When the source committed the change; not there when it is not known."},
            DIGEST: text | {"description": "BLAKE2b of the whole value, 8 bytes; compare it before you store. Bytes on the wire, digits here."},
            "traceparent": text | {"description": "W3C trace context, when tracing is on."},
        },
    }
