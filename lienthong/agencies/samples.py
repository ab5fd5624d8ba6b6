"""Sample messages of each record, as a contract shapes them. Every person, number and name is invented."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime
from typing import Any

import schemas
from connectors.avro import DIGEST, digest_of, frame, out_codec
from lienthong.contracts import Terms, terms_of
from lienthong.readers import to_micros
from lienthong.settings import Settings

VERSION = 7
"""The number of the routing pass that all samples share."""

AT = datetime(2026, 11, 23, 1, 30, tzinfo=UTC)
DOSSIER, CITIZEN, ENDED, GONE = 1042, 2001, 2002, 1041
DAY_MICROS = 86_400_000_000

VALUES: dict[str, Mapping[str, Any]] = {
    "dossier": {
        "processing_agency_code": "H29.15", "processing_unit_code": "26734", "processing_unit": "26737", "processing_unit_rule": "whole",
        "receiving_agency_code": "H29.01", "national_code": "000.00.15.H29-261123-0001", "local_code": "HS-0001", "procedure_code": "1.004222",
        "procedure_name": "Cấp bản sao trích lục hộ tịch", "channel": 2, "submitted_at": to_micros(AT), "received_at": to_micros(AT) + 3_600_000_000,
        "applicant_kind": 1, "applicant_name": "Nguyễn Thị Mẫu", "applicant_personal_number": "079180000000", "applicant_birth_date": "1980",
        "applicant_phone": "0900000000", "summary": "Hồ sơ mẫu", "status": 4, "status_at": to_micros(AT) + 7_200_000_000,
        "due_at": to_micros(AT) + 3 * DAY_MICROS, "fee_total": 12_000, "payment_status": 2,
    },
    "citizen": {"personal_number": "079180000000", "full_name": "Nguyễn Thị Mẫu", "birth_date": "1980-05", "sex": 2, "phone": "0900000000"},
    "dossier_event": {"status": 4, "occurred_at": to_micros(AT) + 7_200_000_000, "agency_code": "H29.15", "handler_name": "Cán bộ Mẫu"},
    "dossier_component": {"component_code": "TP1", "name": "Tờ khai", "quantity": 1, "digitised": True, "reused": False},
    "fee": {"fee_code": "LP1", "name": "Lệ phí", "amount": 12_000},
    "evaluation": {"score": 5, "comment": "Tốt", "rated_at": to_micros(AT) + DAY_MICROS},
    "procedure": {"procedure_code": "1.004222", "name": "Cấp bản sao trích lục hộ tịch", "level": 6, "days_limit": 1, "days_kind": "working"},
    "unit": {"code": "26737", "name": "Tân Định", "valid_from": (date(2025, 7, 1) - date(1970, 1, 1)).days},
    "agency": {"agency_code": "H29.15", "name": "Sở Tư pháp"},
}  # fmt: skip
RECORD = {"dossier": DOSSIER, "citizen": CITIZEN}
HAVE_A_DOSSIER = {"dossier_event", "dossier_component", "fee", "evaluation"}


def value(terms: Terms) -> dict[str, Any]:
    """A whole message of an entity as a contract shapes it, with instants and dates as plain numbers."""
    shaped = terms.shape(VALUES[terms.entity])
    meta = {
        "record": RECORD.get(terms.entity, 3001), "parent": DOSSIER if terms.entity in HAVE_A_DOSSIER else None, "epoch": 1, "version": VERSION,
        "withheld": list(terms.withheld), "held": [], "local_key": None, "parent_key": None, "yields": [],
    }  # fmt: skip
    return {"meta": meta, **{field.name: shaped.get(field.name) for field in schemas.fields(terms.entity)}}


def removed(entity: str) -> dict[str, Any]:
    """A record that has left the contract's scope."""
    return {
        "entity": entity, "record": GONE, "parent": None, "epoch": 1, "version": VERSION, "reason": "withdraw", "local_key": None,
    }  # fmt: skip


def merged(entity: str) -> dict[str, Any]:
    """Two records that turned out to be one."""
    return {"entity": entity, "record": CITIZEN, "from": ENDED, "epoch": 1, "version": VERSION, "local_key": None}


def messages(settings: Settings, system: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Key, record and value of one sample of everything a system can receive."""
    granted = [terms for by_entity in terms_of(settings).values() for terms in by_entity if terms.system == system]
    order = {entity: place for place, entity in enumerate(schemas.ENTITIES)}
    granted.sort(key=lambda terms: order[terms.entity])
    for terms in granted:
        made = value(terms)
        yield f"{terms.entity}:{made['meta']['record']}", terms.entity, made
    entities = {terms.entity for terms in granted}
    for entity in sorted(entities, key=lambda entity: order[entity] != order["dossier"])[:1]:
        yield f"{entity}:{GONE}", "removed", removed(entity)
    if "citizen" in entities:
        yield f"citizen:{ENDED}", "merged", merged("citizen")


def lines(settings: Settings, system: str) -> Iterator[dict[str, Any]]:
    """The samples as they lie in the topic: key, headers, and the value's bytes in base64; and what they mean, as JSON."""
    for key, name, made in messages(settings, system):
        framed = frame(schemas.schema_id(name), out_codec(name).encode(made))
        yield {"key": key, "headers": headers(name, framed), "value_base64": base64.b64encode(framed).decode(), "value": made}


def headers(name: str, framed: bytes) -> dict[str, str]:
    """The headers of a message as text; the digest, which is bytes on the wire, in hexadecimal digits."""
    return {
        "ce_specversion": "1.0",
        "ce_type": schemas.full_name(name),
        "ce_id": str(VERSION),
        "ce_source": "/lienthong/hub",
        "ce_time": AT.isoformat(),
        DIGEST: digest_of(framed).hex(),
    }
