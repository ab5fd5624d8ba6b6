"""The door to Avro: records to bytes and back, Confluent framing, and the question whether one schema reads another.

Only this module imports fastavro and avro. Values are plain dictionaries; instants and dates are plain numbers.
Records of our own model take a compiled path (`connectors.avro_compiled`), every other schema fastavro.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from io import BytesIO
from struct import Struct
from typing import Any, cast

import avro.errors
import avro.schema
import fastavro
import fastavro.schema
from avro.compatibility import ReaderWriterCompatibilityChecker

import schemas
from connectors.avro_compiled import Decode, Encode, NotCompilableError, compiled
from connectors.errors import ConfigError, RecordError
from schemas import Schema

DIGEST = "lt_digest"
MAX_RECORD_BYTES = 64 * 1024 * 1024
"""No record is longer, so neither is any string or list in it: an item takes at least one byte."""

_FRAME = Struct(">bI")
_MAGIC = 0
_DAMAGE = (EOFError, IndexError, KeyError, OverflowError, RecursionError, TypeError, UnicodeDecodeError, ValueError)
"""What is raised on bytes that are not a record of the schema."""
_MISFIT = (AttributeError, KeyError, OverflowError, RecursionError, TypeError, ValueError)
"""What is raised on a value that is not of the schema; UnicodeEncodeError is a ValueError."""
_NO_SCHEMA = (
    fastavro.schema.SchemaParseException,
    fastavro.schema.UnknownType,
    AttributeError,
    KeyError,
    TypeError,
    ValueError,
    RecursionError,
)
"""What it raises on JSON that is not a schema."""


class DamagedError(RecordError):
    """The bytes are not a record of their schema; fetch or send the record again."""

    code = "LT-AVRO-001"

    def __init__(self, message: str) -> None:
        super().__init__("damaged", None, message)


class UnfitError(RecordError):
    """A value does not fit its field's type; correct the mapping that made it."""

    code = "LT-AVRO-002"

    def __init__(self, field: str | None, message: str) -> None:
        super().__init__("unfit", field, message)


class SchemaError(ConfigError):
    """This is not a valid Avro schema; see the Avro specification."""

    code = "LT-AVRO-003"


class Codec:
    """Turns records of one schema into bytes and back."""

    __slots__ = ("_read", "_schema", "_write", "name")

    def __init__(self, schema: Schema) -> None:
        self._schema = _parse(schemas.without_logical_types(schema))
        self.name: str = self._schema["name"]
        _refuse_bombs(self._schema, self.name)
        self._write, self._read = _functions(self._schema)

    def encode(self, value: dict[str, Any]) -> bytes:
        """The bytes of a record; a key that is missing is null. Raises UnfitError naming the field, never the value."""
        try:
            data = self._write(value)
        except _MISFIT as error:
            raise self._unfit(value, error) from None
        if len(data) > MAX_RECORD_BYTES:
            raise UnfitError(None, f"a {self.name} of {len(data)} bytes is longer than {MAX_RECORD_BYTES}")
        return data

    def decode(self, data: bytes) -> dict[str, Any]:
        """The record in the bytes, all of them; raises DamagedError."""
        if len(data) > MAX_RECORD_BYTES:
            raise DamagedError(f"a {self.name} of {len(data)} bytes is longer than {MAX_RECORD_BYTES}")
        try:
            return self._read(data)
        except _DAMAGE as error:
            raise DamagedError(f"not a {self.name}: {type(error).__name__} in {len(data)} bytes") from None

    def _unfit(self, value: object, error: Exception) -> UnfitError:
        """Find the field that does not fit, by writing each alone; the error's own text may show the value."""
        if not isinstance(value, dict):
            return UnfitError(None, f"a {self.name} must be a dictionary, not {type(value).__name__}")
        for field in self._schema["fields"]:
            write, _ = _functions({"type": "record", "name": self.name, "fields": [field]})
            try:
                write(value)
            except _MISFIT:
                kind = type(value.get(field["name"])).__name__
                return UnfitError(field["name"], f"{self.name}.{field['name']}: {kind} does not fit {field['type']}")
        return UnfitError(None, f"not a {self.name}: {type(error).__name__}")


def _functions(schema: Schema) -> tuple[Encode, Decode]:
    """The compiled pair for the shapes our model uses, fastavro's for others."""
    try:
        return compiled(schema)
    except NotCompilableError:
        return _general(schema)


def _general(schema: Schema) -> tuple[Encode, Decode]:
    parsed = _parse(schema)

    def encode(value: dict[str, Any]) -> bytes:
        buffer = BytesIO()
        fastavro.schemaless_writer(buffer, parsed, value)
        return buffer.getvalue()

    def decode(data: bytes) -> dict[str, Any]:
        buffer = BytesIO(data)
        value = fastavro.schemaless_reader(buffer, parsed, None)
        if buffer.tell() != len(data):
            raise ValueError
        return cast(dict[str, Any], value)

    return encode, decode


def _parse(schema: object) -> dict[str, Any]:
    try:
        parsed = fastavro.parse_schema(schema)  # type: ignore[arg-type] # anything may be given; it is checked here
    except _NO_SCHEMA as error:
        raise SchemaError(f"not an Avro schema: {error}") from error
    if not isinstance(parsed, dict) or parsed.get("type") != "record":
        raise SchemaError("not the schema of a record")
    return parsed


def _refuse_bombs(schema: object, place: str) -> None:
    """A list whose items take no bytes can be of any length in ten bytes; our records have no use for such a list."""
    if isinstance(schema, list):
        for branch in schema:
            _refuse_bombs(branch, place)
    if not isinstance(schema, dict):
        return
    for field in schema.get("fields", ()):
        _refuse_bombs(field["type"], f"{place}.{field['name']}")
    if schema["type"] in ("array", "map"):
        items = schema.get("items", schema.get("values"))
        if schema["type"] == "array" and items not in _SOLID_ITEMS:
            raise SchemaError(f"{place}: a list may hold only {', '.join(_SOLID_ITEMS)}; others could take no bytes")
        _refuse_bombs(items, place)


_SOLID_ITEMS = ("string", "int", "long", "boolean", "bytes", "float", "double")


@lru_cache(maxsize=4096)
def projection_codec(entity: str, mask: int) -> Codec:
    """The codec of a contribution: the fields of an entity whose bit is in the mask."""
    return Codec(schemas.projection(entity, mask))


@lru_cache(maxsize=256)
def out_codec(name: str) -> Codec:
    """The codec of a record as it goes out: its newest *released* schema, the one `schemas.schema_id` names."""
    return id_codec(schemas.schema_id(name))


@lru_cache(maxsize=256)
def id_codec(schema_id: int) -> Codec:
    """The codec of a released schema; raises KeyError when there is none with this id."""
    return Codec(schemas.by_id(schema_id))


def frame(schema_id: int, body: bytes) -> bytes:
    """Confluent framing: a zero byte, the schema id in four bytes, the record."""
    return _FRAME.pack(_MAGIC, schema_id) + body


def unframe(data: bytes) -> tuple[int, bytes]:
    """The schema id and the record in a framed message; raises DamagedError."""
    if len(data) < _FRAME.size:
        raise DamagedError(f"{len(data)} bytes are too few for a framed record")
    magic, schema_id = _FRAME.unpack_from(data)
    if magic != _MAGIC:
        raise DamagedError(f"a framed record starts with byte 0, not {magic & 255}")
    return schema_id, data[_FRAME.size :]


def digest_of(framed: bytes) -> bytes:
    """What the header `lt_digest` of a message holds: a changed byte is read by Avro as another value, silently (reliability.md §0.8)."""
    return blake2b(framed, digest_size=8).digest()


def check_digest(framed: bytes, headers: Iterable[tuple[str, bytes]]) -> None:
    """Raises DamagedError where the message is not what its digest was made of."""
    if any(name == DIGEST and digest != digest_of(framed) for name, digest in headers):
        raise DamagedError("a message whose digest does not fit: it was changed or cut on its way")


def canonical(schema: object) -> str:
    """The parsing canonical form: equal for schemas that write equal bytes. Raises SchemaError."""
    return fastavro.schema.to_parsing_canonical_form(_parse(schema))


@dataclass(frozen=True, slots=True)
class Break:
    """Why a reader cannot rely on what a writer writes; `field` is empty when the whole record is meant."""

    field: str
    reason: str

    def __str__(self) -> str:
        return f"field {self.field}: {self.reason}" if self.field else self.reason


def compatibility(reader: Schema, writer: Schema) -> list[str]:
    """What a reader would miss or misread in what the writer writes, each naming the field; empty when all is well."""
    return [str(found) for found in breaks(reader, writer)]


def breaks(reader: Schema, writer: Schema) -> list[Break]:
    """As `compatibility`, as values. Avro's own rules, and two it lacks: logical types and required fields."""
    plain_writer = _avro_schema(schemas.without_logical_types(writer))
    written = {field["name"]: field for field in writer["fields"]}
    found = [Break("", reason) for reason in _avro_breaks({**reader, "fields": []}, plain_writer)]
    for field in reader["fields"]:
        alone = {"type": "record", "name": plain_writer.fullname, "fields": [field]}
        reasons = [*_avro_breaks(alone, plain_writer), *_house_breaks(field, written.get(field["name"]))]
        found += [Break(field["name"], reason) for reason in reasons]
    return found


def _avro_breaks(reader: Schema, writer: avro.schema.RecordSchema) -> list[str]:
    """The answers of Avro's own checker. They are an unordered set: asked for one field, we know whose they are."""
    plain_reader = _avro_schema(schemas.without_logical_types(reader))
    result = ReaderWriterCompatibilityChecker().get_compatibility(plain_reader, writer)
    found = sorted(result.messages) if result.incompatibilities else []
    return [_MISSING.format(message) if message.isidentifier() else message for message in found]


_MISSING = "the reader has no default for {} and the writer does not write it"
"""Of a missing field the checker's message is the bare name."""


def _house_breaks(reader: Schema, writer: Schema | None) -> Iterator[str]:
    if reader.get("required") and not (writer and writer.get("required")):
        yield "the reader requires it and the writer may leave it out"
    read_as, written_as = (_logical_types(field["type"]) if field else "" for field in (reader, writer))
    if writer and read_as != written_as:
        yield f"the reader takes it for {read_as}, the writer means {written_as}"


def _logical_types(declared: object) -> str:
    branches = declared if isinstance(declared, list) else [declared]
    marks = [branch["logicalType"] for branch in branches if isinstance(branch, dict) and "logicalType" in branch]
    return " or ".join(marks) or "a plain value"


def _avro_schema(schema: Schema) -> avro.schema.RecordSchema:
    try:
        return cast(avro.schema.RecordSchema, avro.schema.parse(json.dumps(schema)))
    except avro.errors.AvroException as error:
        raise SchemaError(f"not an Avro schema: {error}") from error
