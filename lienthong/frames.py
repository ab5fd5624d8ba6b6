"""The frames of `lienthong.in`: up to 500 entries of one reading and one entity in one Kafka message.

A frame is a header and length-prefixed entries, each with its own hash over header and entry: Avro alone reads most flipped bits
silently as other values (reliability.md §0.8). A contribution's body is an Avro record of exactly the fields that have a value;
`mask` (of the frame) tells which fields the system speaks about, `nulls` (of the entry) which of them are null.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Literal
from zlib import crc32

import orjson

import schemas
from connectors.avro import Codec, DamagedError

TOPIC = "lienthong.in"
ENTRIES_MAX = 500
FRAME_BYTES_MAX = 256 * 1024
ENTRY_BYTES_MAX = 640 * 1024

MAGIC = b"LTF1"
_HEADER = struct.Struct(">4sHI")
_ENTRY = struct.Struct(">BBqqqqHH")
_PREFIX = struct.Struct(">I8s")
_DIGEST_BYTES = 8

STATE, DELETE = 0, 1
DELIVERED = 1  # flag: the row was inserted by us, so it is no claim that the record exists
UNKNOWN = -1  # record not known at the source; no base to compare with

Kind = Literal["records", "refused", "set", "set_part", "step", "overwritten", "heartbeat", "load_complete", "probe"]


@dataclass(frozen=True, slots=True)
class Header:
    """What all entries of a frame share. `version` is the reading's number, `at` the newest commit it answers for (µs)."""

    system: str
    entity: str
    kind: Kind
    epoch: int
    version: int
    mask: int
    at: int

    def encode(self) -> bytes:
        """As compact JSON."""
        return orjson.dumps([self.system, self.entity, self.kind, self.epoch, self.version, self.mask, self.at])


@dataclass(slots=True)
class Entry:
    """One contribution of one system: a state of the record at its source, or its absence there."""

    system: str
    entity: str
    key: str
    op: int
    epoch: int
    version: int
    mask: int
    nulls: int
    body: bytes
    parent: str | None
    record: int | None
    delivered: bool
    edited: int | None
    at: int
    seen: int | None = None  # the version of our last write to the row, when the reading saw one

    def values(self) -> dict[str, Any]:
        """The unified values the system speaks about."""
        return decode_body(self.entity, self.mask, self.nulls, self.body)


@dataclass(frozen=True, slots=True)
class Note:
    """An entry of another kind than a contribution: refused, set, overwritten, heartbeat, load_complete, probe."""

    header: Header
    content: dict[str, Any]


@lru_cache(maxsize=8192)
def body_codec(entity: str, present: int) -> Codec:
    """The codec of a body that has exactly these fields, none of them null."""
    part = schemas.projection(entity, present)
    solid = [{**field, "type": field["type"][1]} for field in part["fields"]]
    for field in solid:
        field.pop("default", None)
    return Codec({**part, "fields": solid})


@lru_cache(maxsize=8192)
def names_of(entity: str, mask: int) -> tuple[str, ...]:
    """The fields a mask names, in order."""
    return tuple(f.name for f in schemas.fields(entity) if mask >> f.index & 1)


def mask_of(entity: str, names: Iterable[str]) -> int:
    """The mask of some fields."""
    mask = 0
    for name in names:
        mask |= 1 << schemas.field(entity, name).index
    return mask


def encode_body(entity: str, values: dict[str, Any], bits: dict[str, int], mask: int) -> tuple[int, bytes]:
    """Null mask and Avro body of the values; `bits` is the mask bit of each of their names."""
    nulls = 0
    for name, value in values.items():
        if value is None:
            nulls |= bits[name]
    return nulls, body_codec(entity, mask & ~nulls).encode(values)


def decode_body(entity: str, mask: int, nulls: int, body: bytes) -> dict[str, Any]:
    """The values of a body, with its nulls."""
    values = body_codec(entity, mask & ~nulls).decode(body)
    for name in names_of(entity, nulls):
        values[name] = None
    return values


def partition_of(system: str, root_key: str, partitions: int) -> int:
    """The partition of everything under one root record of one system."""
    return crc32(f"{system}|{root_key}".encode()) % partitions


def pack_entry(  # noqa: PLR0913 - the fields of the format
    op: int,
    key: str,
    *,
    parent: str | None,
    record: int | None,
    delivered: bool,
    edited: int | None,
    nulls: int,
    body: bytes,
    seen: int | None = None,
) -> bytes:
    """One contribution as bytes."""
    k = key.encode()
    p = parent.encode() if parent is not None else b""
    flags = (DELIVERED if delivered else 0) | (2 if parent is not None else 0)
    head = _ENTRY.pack(
        op,
        flags,
        UNKNOWN if record is None else record,
        UNKNOWN if edited is None else edited,
        UNKNOWN if seen is None else seen,
        nulls,
        len(k),
        len(p),
    )
    return b"".join((head, k, p, body))


class FrameBuilder:
    """Collects the packed entries of one header into frames of bounded size."""

    def __init__(self, header: Header) -> None:
        self.header = header
        self._head = header.encode()
        self._salt = blake2b(self._head, digest_size=16).digest()
        self._parts: list[bytes] = []
        self._bytes = 0
        self.count = 0

    def add(self, packed: bytes) -> bytes | None:
        """Add one entry; returns a finished frame when it was full before."""
        done = None
        if self.count and (self.count >= ENTRIES_MAX or self._bytes + len(packed) > FRAME_BYTES_MAX):
            done = self.close()
        digest = blake2b(packed, digest_size=_DIGEST_BYTES, key=self._salt).digest()
        self._parts += (_PREFIX.pack(len(packed), digest), packed)
        self._bytes += len(packed) + _PREFIX.size
        self.count += 1
        return done

    def close(self) -> bytes | None:
        """The frame of what is open, if anything is."""
        if not self.count:
            return None
        frame = b"".join((_HEADER.pack(MAGIC, len(self._head), self.count), self._head, *self._parts))
        self._parts, self._bytes, self.count = [], 0, 0
        return frame


def note_frame(header: Header, contents: Iterable[dict[str, Any]]) -> list[bytes]:
    """Frames of notes: everything that is not a contribution, as JSON."""
    builder = FrameBuilder(header)
    frames = [builder.add(orjson.dumps(content)) for content in contents]
    frames.append(builder.close())
    return [frame for frame in frames if frame is not None]


def open_frame(data: bytes) -> tuple[Header, list[bytes]]:
    """Header and checked entries; raises DamagedError when anything in the frame is not what was sent."""
    header, salt, at, count = _open_header(data)
    entries = []
    for _ in range(count):
        if at + _PREFIX.size > len(data):
            raise DamagedError("a frame that ends before its entries do")
        length, digest = _PREFIX.unpack_from(data, at)
        at += _PREFIX.size
        packed = data[at : at + length]
        at += length
        if len(packed) != length or blake2b(packed, digest_size=_DIGEST_BYTES, key=salt).digest() != digest:
            raise DamagedError("an entry whose hash does not fit: it was changed or cut on its way")
        entries.append(packed)
    if at != len(data):
        raise DamagedError("a frame with bytes after its last entry")
    return header, entries


def proved(data: bytes) -> tuple[Header, int] | None:
    """Header and number of entries of a frame that may be damaged: known when all lengths add up and one entry's hash fits the header."""
    try:
        header, salt, at, count = _open_header(data)
    except DamagedError:
        return None
    is_proved = False
    for _ in range(count):
        if at + _PREFIX.size > len(data):
            return None
        length, digest = _PREFIX.unpack_from(data, at)
        at += _PREFIX.size
        is_proved = is_proved or blake2b(data[at : at + length], digest_size=_DIGEST_BYTES, key=salt).digest() == digest
        at += length
    return (header, count) if is_proved and at == len(data) else None


def _open_header(data: bytes) -> tuple[Header, bytes, int, int]:
    try:
        magic, length, count = _HEADER.unpack_from(data)
        head = data[_HEADER.size : _HEADER.size + length]
        if magic != MAGIC or len(head) != length:
            raise DamagedError("not a frame of this service")
        header = Header(*orjson.loads(head))
    except (struct.error, orjson.JSONDecodeError, TypeError) as error:
        raise DamagedError(f"not a frame of this service: {type(error).__name__}") from None
    return header, blake2b(head, digest_size=16).digest(), _HEADER.size + length, count


def unpack_entries(header: Header, packed: Iterable[bytes]) -> Iterator[Entry]:
    """The contributions of a `records` frame."""
    size = _ENTRY.size
    for data in packed:
        op, flags, record, edited, seen, nulls, key_length, parent_length = _ENTRY.unpack_from(data)
        end = size + key_length
        yield Entry(
            header.system,
            header.entity,
            data[size:end].decode(),
            op,
            header.epoch,
            header.version,
            header.mask if op == STATE else 0,
            nulls,
            data[end + parent_length :],
            data[end : end + parent_length].decode() if flags & 2 else None,
            None if record == UNKNOWN else record,
            bool(flags & DELIVERED),
            None if edited == UNKNOWN else edited,
            header.at,
            None if seen == UNKNOWN else seen,
        )


def unpack_notes(header: Header, packed: Iterable[bytes]) -> list[Note]:
    """The contents of a frame of notes."""
    return [Note(header, orjson.loads(data)) for data in packed]
