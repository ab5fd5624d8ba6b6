"""One reading: the notified records of a source, whole, in one snapshot, as packed contributions (design §3, protocol S1)."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

import schemas
from connectors.avro import UnfitError
from connectors.postgres import Connection, Cursor, one, rows, sql
from lienthong import frames
from lienthong.errors import ConfigError
from lienthong.frames import DELETE, STATE, FrameBuilder, Header
from lienthong.layout import Layout
from lienthong.mapping import Mapper, Refusal
from lienthong.settings import Profile
from lienthong.vault import Vault

Note = tuple[str, str | None, dict[str, Any]]  # kind, root key, content

_HEAD = 6  # local key, parent key, deleted, applied record, inserted by us, edited fields


@dataclass(slots=True)
class Output:
    """What a reading yields: per partition the packed contributions of each mask, and notes."""

    partitions: int
    system: str
    epoch: int
    version: int
    at: int
    builders: dict[tuple[str, int, int], FrameBuilder] = field(default_factory=dict)
    frames: list[tuple[int, bytes]] = field(default_factory=list)
    refused: dict[tuple[str, int], list[dict[str, Any]]] = field(default_factory=dict)
    sets: dict[tuple[str, int], list[dict[str, Any]]] = field(default_factory=dict)
    records: int = 0

    def add(self, entity: str, root: str, mask: int, packed: bytes) -> None:
        """Put one contribution into the frame of its partition."""
        partition = frames.partition_of(self.system, root, self.partitions)
        key = (entity, partition, mask)
        builder = self.builders.get(key)
        if builder is None:
            builder = self.builders[key] = FrameBuilder(Header(self.system, entity, "records", self.epoch, self.version, mask, self.at))
        done = builder.add(packed)
        if done is not None:
            self.frames.append((partition, done))
        self.records += 1

    def note(self, store: dict[tuple[str, int], list[dict[str, Any]]], entity: str, root: str, content: dict[str, Any]) -> None:
        """Put one refusal or set with its partition."""
        store.setdefault((entity, frames.partition_of(self.system, root, self.partitions)), []).append(content)

    def close(self) -> list[tuple[int, bytes]]:
        """All frames: parents before children, contributions before sets."""
        order = {entity: place for place, entity in enumerate(schemas.ENTITIES)}
        for (_, partition, _), builder in sorted(self.builders.items(), key=lambda kv: order[kv[0][0]]):
            done = builder.close()
            if done is not None:
                self.frames.append((partition, done))
        for kind, store in (("refused", self.refused), ("set", self.sets)):
            for (entity, partition), contents in store.items():
                header = Header(self.system, entity, kind, self.epoch, self.version, 0, self.at)  # type: ignore[arg-type]
                self.frames += [(partition, frame) for frame in frames.note_frame(header, contents)]
        self.records += sum(len(c) for c in self.refused.values())
        return self.frames


class EntityReading:
    """Reads records of one entity of one system: by keys, by key range, and packs them."""

    def __init__(self, cursor: Cursor, profile: Profile, entity: str, *, vault: Vault, has_applied: bool) -> None:
        self.entity = entity
        self.layout = Layout.of(cursor, profile, entity)
        self.mapper = Mapper(self.layout)
        self.vault = vault
        self.bits = {f.name: 1 << f.index for f in schemas.fields(entity)}
        self.has_applied = has_applied and bool(self.layout.writable())
        self._select = self._build_select().as_string(cursor)
        self._key_types = [self.layout.types[self.layout.mapping.table][c].declared for c in self.layout.mapping.key]
        self._by_keys = self._build_by_keys().as_string(cursor)

    # ------------------------------------------------------------ SQL
    def _build_select(self) -> sql.Composable:
        layout = self.layout
        head = [layout.local_key, layout.parent_key, layout.deleted]
        source = layout.source
        if self.has_applied:
            head += [sql.SQL("a.record"), sql.SQL("a.inserted"), sql.SQL(_EDITED)]
            source = sql.SQL(_APPLIED).format(source, sql.Literal(self.entity), layout.local_key, layout.current())
        else:
            head += [sql.SQL("NULL::bigint"), sql.SQL("false"), sql.SQL("NULL::text[]")]
        values = [layout.value(name) for name in self.mapper.selected]
        return sql.SQL("SELECT {} FROM {} WHERE {} AND ").format(sql.SQL(", ").join([*head, *values]), source, layout.constants)

    def _build_by_keys(self) -> sql.Composable:
        key = self.layout.mapping.key
        if len(key) == 1:
            return sql.SQL("{} = ANY(%s::text[]::{}[])").format(self.layout.root(key[0]), sql.SQL(self._key_types[0]))
        arrays = sql.SQL(", ").join([sql.SQL("%s::text[]::{}[]").format(sql.SQL(kind)) for kind in self._key_types])
        columns = sql.SQL(", ").join([self.layout.root(c) for c in key])
        return sql.SQL("({}) IN (SELECT * FROM unnest({}))").format(columns, arrays)

    def read_keys(self, cursor: Cursor, keys: Sequence[tuple[str, ...]], output: Output) -> None:
        """Read root rows by key; a key with no row is a record that is gone there."""
        found = self._run(cursor, self._by_keys, [list(column) for column in zip(*keys, strict=True)])
        seen = self._pack(found, output)
        if self.layout.mapping.each is not None:
            self._note_sets(keys, seen, output)
            return
        missing = [key for key in map(join_key, keys) if key not in seen]
        self._pack_missing(cursor, missing, output)

    def read_range(self, cursor: Cursor, low: Sequence[str] | None, high: Sequence[str] | None, output: Output) -> None:
        """Read root rows with low < key <= high; None is open."""
        columns = sql.SQL(", ").join([self.layout.root(c) for c in self.layout.mapping.key]).as_string(cursor)
        marks = ", ".join(f"%s::text::{kind}" for kind in self._key_types)
        conditions, arguments = [], []
        if low is not None:
            conditions.append(f"({columns}) > ({marks})")
            arguments += list(low)
        if high is not None:
            conditions.append(f"({columns}) <= ({marks})")
            arguments += list(high)
        self._pack(self._run(cursor, " AND ".join(conditions) or "true", arguments), output)

    def _run(self, cursor: Cursor, condition: str, arguments: Sequence[Any]) -> list[tuple[Any, ...]]:
        # The profile's own literals may hold a percent sign, so only the condition is a format.
        return rows(cursor, self._select.replace("%", "%%") + condition, arguments)

    # ------------------------------------------------------------ packing
    def _pack(self, found: Iterable[Sequence[Any]], output: Output) -> dict[str, str | None]:
        read, bits, mask, entity = self.mapper.read, self.bits, self.mapper.mask, self.entity
        seen: dict[str, str | None] = {}
        for row in found:
            key, parent = row[0], row[1]
            if key in seen:
                continue
            seen[key] = parent
            root = parent if parent is not None else key
            if row[2]:
                output.add(entity, root, 0, _gone(key, parent, row[3], row[4]))
                continue
            values = read(row[_HEAD:])
            if isinstance(values, Refusal):
                output.note(output.refused, entity, root, self._refused(key, values, row[_HEAD:]))
                continue
            edited = None if row[5] is None else sum(bits[name] for name in row[5] if name in bits)
            if edited:
                edited |= self._derived(edited)
            try:
                nulls, body = frames.encode_body(entity, values, bits, mask)
            except UnfitError as error:
                refusal = Refusal(error.field or "", "unfit", str(error))
                output.note(output.refused, entity, root, self._refused(key, refusal, row[_HEAD:]))
                continue
            packed = frames.pack_entry(
                STATE, key, parent=parent, record=row[3], delivered=bool(row[4]), edited=edited, nulls=nulls, body=body
            )
            output.add(entity, root, mask, packed)
        return seen

    def _derived(self, edited: int) -> int:
        """An edited unit code edits the unit derived from it."""
        extra = 0
        for name, bit in self.bits.items():
            if name.endswith("_unit_code") and edited & bit:
                stem = name.removesuffix("_code")
                extra |= self.bits.get(stem, 0) | self.bits.get(stem + "_rule", 0)
        return extra

    def _refused(self, key: str, refusal: Refusal, raws: Sequence[Any]) -> dict[str, Any]:
        payload = orjson.dumps(dict(zip(self.mapper.selected, map(_plain, raws), strict=False)))
        return {
            "key": key, "field": refusal.field, "reason": refusal.reason, "message": refusal.message,
            "payload": base64.b64encode(self.vault.seal(payload[:200_000])).decode(),
        }

    def _pack_missing(self, cursor: Cursor, missing: Sequence[str], output: Output) -> None:
        """Keys without a row: deleted there, unless `applied` says that we took the row away ourselves."""
        ours = self._taken_by_us(cursor, missing)
        for key in missing:
            if key not in ours:
                output.add(self.entity, key, 0, _gone(key, None, None, False))

    def _taken_by_us(self, cursor: Cursor, keys: Sequence[str]) -> set[str]:
        if not self.has_applied or not keys:
            return set()
        found = rows(
            cursor,
            "SELECT local_key FROM lienthong.applied WHERE entity = %s AND local_key = ANY(%s) AND state IN ('withdrawn', 'deleted')",
            [self.entity, list(keys)],
        )
        return {key for (key,) in found}

    def _note_sets(self, keys: Sequence[tuple[str, ...]], seen: dict[str, str | None], output: Output) -> None:
        by_root: dict[str, list[str]] = {join_key(key): [] for key in keys}
        for child, parent in seen.items():
            by_root.setdefault(parent or "", []).append(child)
        for root, children in by_root.items():
            output.note(output.sets, self.entity, root, {"root": root, "keys": children})


_APPLIED = """{} LEFT JOIN lienthong.applied a ON a.entity = {} AND a.local_key = {} AND a.state = 'applied'
LEFT JOIN LATERAL (SELECT {} AS doc OFFSET 0) now ON a.base IS NOT NULL"""
_EDITED = """CASE WHEN a.base IS NULL THEN NULL WHEN a.base @> now.doc THEN '{}'::text[]
ELSE ARRAY(SELECT n.key FROM jsonb_each(now.doc) n WHERE n.value IS DISTINCT FROM a.base -> n.key) END"""


def _gone(key: str, parent: str | None, record: int | None, delivered: bool) -> bytes:  # noqa: FBT001
    return frames.pack_entry(DELETE, key, parent=parent, record=record, delivered=delivered, edited=None, nulls=0, body=b"")


def _plain(value: Any) -> Any:
    return value if isinstance(value, str | int | bool | None.__class__) else str(value)


def join_key(parts: Sequence[str]) -> str:
    """The local key of key column texts."""
    if len(parts) == 1:
        return parts[0]
    return "|".join(part.replace("\\", "\\\\").replace("|", "\\|") for part in parts)


def split_key(key: str, count: int) -> tuple[str, ...]:
    """The key column texts of a local key."""
    if count == 1:
        return (key,)
    parts, current, escaped = [], [], False
    for character in key:
        if escaped or character not in "\\|":
            current.append(character)
            escaped = False
        elif character == "\\":
            escaped = True
        else:
            parts.append("".join(current))
            current = []
    parts.append("".join(current))
    return tuple(parts)


class SourceReadings:
    """All mapped entities of one system, bound to its live tables."""

    def __init__(self, connection: Connection, system: str, profile: Profile, vault: Vault) -> None:
        self.system = system
        self.profile = profile
        with connection.cursor() as cursor:
            found = one(cursor, "SELECT to_regclass('lienthong.applied') IS NOT NULL")
            has_applied = bool(found and found[0])
            order = [entity for entity in schemas.ENTITIES if entity in profile.entities]
            self.entities = {
                entity: EntityReading(cursor, profile, entity, vault=vault, has_applied=has_applied) for entity in order
            }
        if not self.entities:
            raise ConfigError(f"{system}: its profile maps no entity")

    def in_order(self) -> Iterator[EntityReading]:
        """Parents before children."""
        yield from self.entities.values()
