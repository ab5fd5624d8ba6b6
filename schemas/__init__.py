"""The unified model: Avro schemas, their fields, and the released versions with their schema ids.

Each `.avsc` is what a record looks like today; `released/` holds the versions consumers may rely on, frozen. Ids are
given in `released/index.json`, once and for ever, and are the same on every installation. A field keeps its place: new
fields go at the end, because contributions name fields by the number of their place.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeAlias

__all__ = [
    "ENTITIES",
    "FIELD_TYPES",
    "RECORDS",
    "Field",
    "FieldType",
    "Released",
    "Schema",
    "by_id",
    "field",
    "fields",
    "full_name",
    "groups",
    "physical",
    "projection",
    "raw",
    "released",
    "schema_id",
    "text",
    "without_logical_types",
]

Schema: TypeAlias = dict[str, Any]
"""An Avro record schema as parsed JSON; shared and cached, so treat it as read-only."""

FieldType = Literal["string", "int", "long", "boolean", "instant", "date", "partial-date"]
Pii = Literal["public", "personal", "sensitive"]

ENTITIES: tuple[str, ...] = (
    "citizen",
    "dossier",
    "dossier_event",
    "dossier_component",
    "fee",
    "evaluation",
    "procedure",
    "unit",
    "agency",
)
"""What the city's systems hold records of."""

RECORDS: tuple[str, ...] = (*ENTITIES, "removed", "merged", "parked")
"""Everything that has a schema: the entities and the service's own records."""

FIELD_TYPES: dict[str, FieldType] = {
    "string": "string",
    "int": "int",
    "long": "long",
    "boolean": "boolean",
    "timestamp-micros": "instant",
    "date": "date",
    "partial-date": "partial-date",
}
"""Avro type or logical type: the word the service uses for it."""

_FOLDER = Path(__file__).parent
_META = "meta"


@dataclass(frozen=True, slots=True)
class Field:
    """One field of an entity; `index` is its place among the fields without `meta`."""

    name: str
    index: int
    type: FieldType
    group: str
    pii: Pii
    required: bool
    doc: str


@dataclass(frozen=True, slots=True)
class Released:
    """One frozen version of a record; `text` is the file as released."""

    name: str
    release: int
    id: int
    schema: Schema
    text: str
    sha256: str


@cache
def text(name: str) -> str:
    """The schema file of a record, as written; raises KeyError for an unknown record."""
    if name not in RECORDS:
        raise KeyError(f"no record {name!r}; there are {', '.join(RECORDS)}")
    return (_FOLDER / f"{name}.avsc").read_text("utf-8")


@cache
def raw(name: str) -> Schema:
    """The schema of a record as parsed JSON, with logical types and our own properties."""
    schema: Schema = json.loads(text(name))
    return schema


@cache
def fields(entity: str) -> tuple[Field, ...]:
    """The fields of an entity in order, without `meta`."""
    if entity not in ENTITIES:
        raise KeyError(f"no entity {entity!r}; there are {', '.join(ENTITIES)}")
    own = [declared for declared in raw(entity)["fields"] if declared["name"] != _META]
    return tuple(_field(index, declared) for index, declared in enumerate(own))


def _field(index: int, declared: Schema) -> Field:
    return Field(
        name=declared["name"],
        index=index,
        type=_field_type(declared["type"]),
        group=declared["group"],
        pii=declared["class"],
        required=declared.get("required", False),
        doc=declared["doc"],
    )


def _field_type(union: list[Any]) -> FieldType:
    """Every field is a union of null and one type."""
    null, value = union
    if null != "null":
        raise ValueError("a field's type must be a union that starts with null")
    return FIELD_TYPES[value["logicalType"] if isinstance(value, dict) else value]


@cache
def _fields_by_name(entity: str) -> dict[str, Field]:
    return {field.name: field for field in fields(entity)}


def field(entity: str, name: str) -> Field:
    """One field of an entity; raises KeyError when the entity has no such field."""
    return _fields_by_name(entity)[name]


@cache
def groups(entity: str) -> dict[str, tuple[str, ...]]:
    """Field group: its field names. `record`, the existence of the entity, has no fields and is not listed."""
    names = dict.fromkeys(field.group for field in fields(entity))
    return {name: tuple(field.name for field in fields(entity) if field.group == name) for name in names}


@cache
def full_name(name: str) -> str:
    """A record's name on the wire, such as vn.lienthong.Dossier."""
    schema = raw(name)
    return f"{schema['namespace']}.{schema['name']}"


def released() -> list[Released]:
    """Every released version, by id."""
    return list(_released())


@cache
def _released() -> tuple[Released, ...]:
    index = json.loads((_FOLDER / "released" / "index.json").read_text("utf-8"))
    return tuple(sorted(map(_load_released, index), key=lambda version: version.id))


def _load_released(entry: dict[str, Any]) -> Released:
    name, release = entry["name"], entry["release"]
    frozen = (_FOLDER / "released" / str(release) / f"{name}.avsc").read_text("utf-8")
    return Released(name, release, entry["id"], json.loads(frozen), frozen, entry["sha256"])


@cache
def _newest_ids() -> dict[str, int]:
    return {version.name: version.id for version in sorted(released(), key=lambda version: version.release)}


def schema_id(name: str) -> int:
    """The schema id of a record's newest release: what we write on the wire; raises KeyError for an unknown record."""
    return _newest_ids()[name]


@cache
def _released_by_id() -> dict[int, Schema]:
    return {version.id: version.schema for version in released()}


def by_id(schema_id: int) -> Schema:
    """The released schema with this id; raises KeyError when there is none."""
    return _released_by_id()[schema_id]


@cache
def physical(name: str) -> Schema:
    """A record's whole schema without logical types: instants and dates are plain numbers."""
    schema: Schema = without_logical_types(raw(name))
    return schema


def projection(entity: str, mask: int, physical: bool = True) -> Schema:  # noqa: FBT001, FBT002 - agreed interface
    """The schema of a part of an entity: the fields whose bit `1 << index` is in the mask, in order, without `meta`."""
    if mask < 0 or mask >> len(fields(entity)):
        raise ValueError(f"mask {mask:#x} names fields that {entity} does not have")
    chosen = {field.name for field in fields(entity) if mask >> field.index & 1}
    part = {**raw(entity), "fields": [declared for declared in raw(entity)["fields"] if declared["name"] in chosen]}
    return without_logical_types(part) if physical else part


def without_logical_types(schema: Any) -> Any:
    """A copy of a schema in which every annotated type is the plain type that is written on the wire."""
    if isinstance(schema, list):
        return [without_logical_types(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if "logicalType" in schema:
        return schema["type"]
    return {key: without_logical_types(part) for key, part in schema.items()}
