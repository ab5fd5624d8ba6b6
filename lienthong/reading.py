"""One reading: the notified records of a source, whole, in one snapshot, as packed contributions (design §3, protocol S1)."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import orjson

import schemas
from connectors.avro import UnfitError
from connectors.postgres import Cursor, DataRefused, errors_translated, is_bytes, one, rows, shared_locks, sql
from lienthong import frames
from lienthong.breaker import Breaker, WatchedMapper, at_capture
from lienthong.errors import ConfigError
from lienthong.frames import DELETE, STATE
from lienthong.keys import join_key
from lienthong.layout import TEXT_CHARACTERS_MAX, Layout, identifier
from lienthong.mapping import Refusal
from lienthong.output import Output
from lienthong.settings import Profile
from lienthong.vault import Vault

HEAD = 7  # local key, parent key, deleted, applied record, inserted by us, edited fields, version of our last write
KEY_CHARACTERS_MAX = 4000
OF_A_SET = {"of_a_set": True}  # a refusal of all elements of a document, under the root's key
_SAME_TEXT = {"int2", "int4", "int8", "text", "varchar", "uuid", "name"}  # types whose text is the same wherever it is made
_REASONS = {"22P05": "nul_character", "22P02": "malformed", "22032": "malformed", "22008": "impossible_date"}


class EntityReading:
    """Reads records of one entity of one system: by keys, by key range, and packs them."""

    def __init__(self, cursor: Cursor, profile: Profile, entity: str, *, vault: Vault, has_applied: bool, breaker: Breaker) -> None:
        self.entity, self.breaker = entity, breaker
        self.layout = Layout.of(cursor, profile, entity)
        self.mapper = WatchedMapper(self.layout, breaker)
        self.vault = vault
        self.bits = {f.name: 1 << f.index for f in schemas.fields(entity)}
        self.has_applied = has_applied and bool(self.layout.writable())
        self._select = self._build_select().as_string(cursor)
        columns = self.layout.types[self.layout.mapping.table]
        self._key_types = [columns[c].declared for c in self.layout.mapping.key]
        self._by_keys = self._build_by_keys().as_string(cursor)
        written = set(self.layout.writable())
        self._never_written = [name for name in self.mapper.selected if name not in written]  # so never an echo of ours
        self._as_bytes = is_bytes(cursor)
        self._same_text = all(columns[c].base in _SAME_TEXT or columns[c].kind == "e" for c in self.layout.mapping.key)
        self._key_text = self._build_key_text().as_string(cursor)

    # ------------------------------------------------------------ SQL
    def _build_select(self) -> sql.Composable:
        layout = self.layout
        head = [layout.local_key, layout.parent_key, layout.deleted]
        source = layout.source
        if self.has_applied:
            head += [sql.SQL("a.record"), sql.SQL("a.inserted"), sql.SQL(EDITED), sql.SQL("a.version")]
            source = sql.SQL(self._applied_join).format(source, sql.Literal(self.entity), layout.local_key, layout.current())
        else:
            head += [sql.SQL("NULL::bigint"), sql.SQL("false"), sql.SQL("NULL::text[]"), sql.SQL("NULL::bigint")]
        values = [layout.value(name) for name in self.mapper.selected]
        return sql.SQL("SELECT {} FROM {} WHERE {} AND ").format(sql.SQL(", ").join([*head, *values]), source, layout.constants)

    @property
    def _applied_join(self) -> str:
        """How a row is joined with what the applier remembers of it, which `EDITED` speaks of."""
        return _APPLIED

    def _build_by_keys(self) -> sql.Composable:
        key = self.layout.mapping.key
        if len(key) == 1:
            return sql.SQL("{} = ANY(%s::text[]::{}[])").format(self.layout.root(key[0]), sql.SQL(self._key_types[0]))
        arrays = sql.SQL(", ").join([sql.SQL("%s::text[]::{}[]").format(sql.SQL(kind)) for kind in self._key_types])
        columns = sql.SQL(", ").join([self.layout.root(c) for c in key])
        return sql.SQL("({}) IN (SELECT * FROM unnest({}))").format(columns, arrays)

    def _build_key_text(self) -> sql.Composable:
        """From key texts as notified to local keys, as this connection writes them."""
        key = self.layout.mapping.key
        arrays = sql.SQL(", ").join([sql.SQL("%s::text[]::{}[]").format(sql.SQL(kind)) for kind in self._key_types])
        names = sql.SQL(", ").join([*map(sql.Identifier, key), sql.Identifier("its place")])
        text = self.layout.key_text(key)
        return sql.SQL('SELECT {} FROM unnest({}) WITH ORDINALITY AS t({}) ORDER BY "its place"').format(text, arrays, names)

    def local_keys(self, cursor: Cursor, keys: Sequence[tuple[str, ...]]) -> list[str]:
        """The local keys of notified ones. A char(10), a time or a boolean is written in another way in log, trigger and query."""
        if self._same_text or not keys:
            return [shown(join_key(key)) for key in keys]
        return [shown(text) for (text,) in self._guarded(cursor, self._key_text, _columns(keys))]

    def read_keys(self, cursor: Cursor, keys: Sequence[tuple[str, ...]], output: Output) -> None:
        """Read root rows by key; a key with no row is a record that is gone there.

        What the database itself cannot give out (a JSON text with a NUL, a time out of range) is found by halving and refused alone.
        """
        try:
            found = self._run(cursor, self._by_keys, _columns(keys))
        except DataRefused as error:
            if len(keys) == 1:
                refused = self._unreadable(cursor, keys, error)
                output.refuse(self.entity, shown(join_key(keys[0])), refused | OF_A_SET if self.layout.mapping.each is not None else refused)
                return
            middle = len(keys) // 2
            self.read_keys(cursor, keys[:middle], output)
            self.read_keys(cursor, keys[middle:], output)
            return
        seen = self._pack(found, output)
        if self.layout.mapping.each is not None:
            self._note_sets(cursor, keys, seen, output)
        elif len(seen) < len(keys):
            missing = [key for key in keys if join_key(key) not in seen]
            self._pack_missing(cursor, [key for key in self.local_keys(cursor, missing) if key not in seen], output)

    def _unreadable(self, cursor: Cursor, keys: Sequence[tuple[str, ...]], error: DataRefused) -> dict[str, Any]:
        """A refusal of the one record that cannot be selected, naming the field if it is one."""
        values: dict[str, Any] = {}
        field_name = ""
        for name in () if self.layout.mapping.each is not None else self.mapper.selected:
            layout = self.layout
            alone = sql.SQL("SELECT {} FROM {} WHERE {} AND ").format(layout.value(name), layout.source, layout.constants)
            try:
                found = self._guarded(cursor, alone.as_string(cursor).replace("%", "%%") + self._by_keys, _columns(keys))
                values[name] = found[0][0] if found else None
            except DataRefused as cause:
                field_name, error = field_name or name, cause
        reason = _REASONS.get(error.sqlstate, "unreadable")
        refusal = Refusal(field_name, reason, f"the database cannot give this value out ({error})")
        return self._refused(shown(join_key(keys[0])), refusal, values)

    def read_range(self, cursor: Cursor, low: Sequence[str] | None, high: Sequence[str] | None, output: Output) -> None:
        """Read root rows with low < key <= high; None is open."""
        condition, arguments = self.between(cursor, low, high)
        try:
            self._pack(self._run(cursor, condition, arguments), output)
        except DataRefused:
            self.read_keys(cursor, self._keys_where(cursor, condition, arguments), output)

    def between(self, cursor: Cursor, low: Sequence[str] | None, high: Sequence[str] | None) -> tuple[str, list[Any]]:
        """The condition low < key <= high on the root table `t`, and its arguments."""
        columns = sql.SQL(", ").join([self.layout.root(c) for c in self.layout.mapping.key]).as_string(cursor)
        marks = ", ".join(f"%s::text::{kind}" for kind in self._key_types)
        conditions, arguments = [], list[Any]()
        if low is not None:
            conditions.append(f"({columns}) > ({marks})")
            arguments += list(low)
        if high is not None:
            conditions.append(f"({columns}) <= ({marks})")
            arguments += list(high)
        return " AND ".join(conditions) or "true", arguments

    def _keys_where(self, cursor: Cursor, condition: str, arguments: Sequence[Any]) -> list[tuple[str, ...]]:
        layout = self.layout
        texts = sql.SQL(", ").join([sql.SQL("{}::text").format(layout.root(c)) for c in layout.mapping.key])
        statement = sql.SQL("SELECT {} FROM {} t WHERE {} AND ").format(texts, identifier(layout.mapping.table), layout.constants)
        return rows(cursor, statement.as_string(cursor).replace("%", "%%") + condition, arguments)

    def _run(self, cursor: Cursor, condition: str, arguments: Sequence[Any]) -> list[tuple[Any, ...]]:
        # The profile's own literals may hold a percent sign, so only the condition is a format.
        return self._guarded(cursor, self._select.replace("%", "%%") + condition, arguments)

    def _guarded(self, cursor: Cursor, statement: str, arguments: Sequence[Any]) -> list[tuple[Any, ...]]:
        """Run a query that data may break, without losing the snapshot; raises `DataRefused`."""
        try:
            with errors_translated():
                return rows(cursor, "SAVEPOINT reading; " + statement, arguments)
        except DataRefused:
            cursor.execute("ROLLBACK TO SAVEPOINT reading")
            raise

    # ------------------------------------------------------------ packing
    def _pack(self, found: Sequence[Sequence[Any]], output: Output) -> dict[str, str | None]:
        entity, mask, make = self.entity, self.mapper.mask, self._entry
        seen: dict[str, str | None] = {}
        self.breaker.saw(entity, len(found))
        for row in found:
            key, parent = row[0], row[1]
            if key in seen:
                continue
            seen[key] = parent
            root = parent if parent is not None else key
            made = make(row)
            if isinstance(made, Refusal):
                output.refuse(entity, shown(root), self._refused(shown(key), made, self._named(row)))
            else:
                output.add(entity, root, 0 if row[2] else mask, made)
        return seen

    def _entry(self, row: Sequence[Any]) -> bytes | Refusal:
        """One row as a packed contribution, or why it is none."""
        key, parent, gone, record, delivered = row[:5]
        if (self._as_bytes or len(key) > KEY_CHARACTERS_MAX) and (unfit := self._unfit_text(row)) is not None:
            return unfit
        if gone:
            return _gone(key, parent, record, delivered=delivered)
        values = self.mapper.read(row[HEAD:], complete=row[5] is None)
        if isinstance(values, Refusal):
            return values
        try:
            nulls, body = frames.encode_body(self.entity, values, self.bits, self.mapper.mask)
        except UnfitError as error:
            return Refusal(error.field or "", "unfit", str(error))
        if len(body) > frames.ENTRY_BYTES_MAX:
            return Refusal("", "too_large", f"{len(body):,} bytes in all fields together where at most {frames.ENTRY_BYTES_MAX:,} are carried")
        edited = None if row[5] is None else self._edited(row[5], values)
        return frames.pack_entry(
            STATE, key, parent=parent, record=record, delivered=bool(delivered), edited=edited, nulls=nulls, body=body, seen=row[6]
        )

    def _edited(self, names: Iterable[str], values: Mapping[str, Any]) -> int:
        """The mask of the fields that differ from our last write."""
        edited = sum(self.bits[name] for name in names if name in self.bits)
        edited |= sum(self.bits[name] for name in self._never_written if values[name] is not None)
        return edited | self._derived(edited) if edited else edited

    def _derived(self, edited: int) -> int:
        """An edited unit code edits the unit derived from it."""
        extra = 0
        for name, bit in self.bits.items():
            if name.endswith("_unit_code") and edited & bit:
                stem = name.removesuffix("_code")
                extra |= self.bits.get(stem, 0) | self.bits.get(stem + "_rule", 0)
        return extra

    def _unfit_text(self, row: Sequence[Any]) -> Refusal | None:
        """What no record can hold: a key without end, bytes that are no text."""
        for name, raw in (("", row[0]), ("", row[1]), *zip(self.mapper.selected, row[HEAD:], strict=True)):
            if isinstance(raw, str) and shown(raw) is not raw:
                return Refusal(name, "invalid_utf8", "bytes that are not UTF-8 text; correct them at the source (its database is SQL_ASCII)")
        if len(row[0]) > KEY_CHARACTERS_MAX:
            return Refusal("", "too_large", f"a key of {len(row[0]):,} characters where at most {KEY_CHARACTERS_MAX:,} are carried")
        return None

    def _named(self, row: Sequence[Any]) -> dict[str, Any]:
        return dict(zip(self.mapper.selected, row[HEAD:], strict=True))

    def _refused(self, key: str, refusal: Refusal, raws: Mapping[str, Any]) -> dict[str, Any]:
        self.breaker.failed(self.entity, refusal.reason, refusal.field)
        payload = orjson.dumps({name: _plain(value) for name, value in raws.items()})
        return {
            "key": key[:KEY_CHARACTERS_MAX],
            "field": refusal.field,
            "reason": refusal.reason,
            "message": refusal.message,
            "payload": base64.b64encode(self.vault.seal(payload[:200_000])).decode(),
        }

    def _pack_missing(self, cursor: Cursor, missing: Sequence[str], output: Output) -> None:
        """Keys without a row: deleted there, unless `applied` says that we took the row away ourselves.

        Of a row of its own that the owner's delete took, its system says nothing any more: told as gone, and not as its word (`delivered`).
        """
        ours = self._taken_by_us(cursor, missing)
        for key in missing:
            if not ours.get(key):
                output.add(self.entity, key, 0, _gone(key, None, None, delivered=key in ours))

    def _taken_by_us(self, cursor: Cursor, keys: Sequence[str]) -> dict[str, bool]:
        """Of the rows that we took away, whether we had inserted them."""
        if not self.has_applied or not keys:
            return {}
        found = rows(
            cursor,
            """SELECT local_key, inserted FROM lienthong.applied
               WHERE entity = %s AND local_key = ANY(%s) AND state IN ('withdrawn', 'deleted') ORDER BY epoch, version""",
            [self.entity, list(keys)],
        )
        return dict(found)

    def _note_sets(self, cursor: Cursor, keys: Sequence[tuple[str, ...]], seen: dict[str, str | None], output: Output) -> None:
        by_root: dict[str, list[str]] = {key: [] for key in self.local_keys(cursor, keys)}
        for child, parent in seen.items():
            by_root.setdefault(parent or "", []).append(child)
        for root, children in by_root.items():
            output.note_set(self.entity, root, [key for key in children if len(key) <= KEY_CHARACTERS_MAX])  # a longer one was never taken


_APPLIED = """{} LEFT JOIN lienthong.applied a ON a.entity = {} AND a.local_key = {} AND a.state = 'applied'
LEFT JOIN LATERAL (SELECT {} AS doc OFFSET 0) now ON a.base IS NOT NULL"""
EDITED = """CASE WHEN a.base IS NULL THEN NULL WHEN a.base @> now.doc THEN '{}'::text[]
ELSE ARRAY(SELECT n.key FROM jsonb_each(now.doc) n WHERE n.value IS DISTINCT FROM a.base -> n.key) END"""


def _gone(key: str, parent: str | None, record: int | None, *, delivered: bool) -> bytes:
    return frames.pack_entry(DELETE, key, parent=parent, record=record, delivered=delivered, edited=None, nulls=0, body=b"")


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return shown(value if len(value) <= TEXT_CHARACTERS_MAX else value[:10_000] + "…")
    return value if isinstance(value, int | bool | None.__class__) else str(value)


def shown(text: str) -> str:
    r"""The text itself, or, where bytes in it are no UTF-8, with those written as \xff."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return text


def _columns(keys: Sequence[tuple[str, ...]]) -> list[list[str]]:
    return [list(column) for column in zip(*keys, strict=True)]


LOCK_SECONDS = 5
_SHAPE = """
SELECT md5(string_agg(concat_ws(' ', a.attrelid, a.attnum, a.attname, a.atttypid, a.atttypmod), ',' ORDER BY a.attrelid, a.attnum))
FROM pg_attribute a WHERE a.attrelid = ANY(ARRAY(SELECT to_regclass(name) FROM unnest(%s) name)) AND a.attnum > 0 AND NOT a.attisdropped
"""


def shape_of(cursor: Cursor, tables: Sequence[str]) -> str:
    """A digest of the columns of some tables; another one means that a layout must be bound again."""
    found = one(cursor, _SHAPE, [[identifier(table).as_string(cursor) for table in tables]])
    return str(found[0]) if found else ""


class SourceReadings:
    """All mapped entities of one system, bound to its live tables."""

    def __init__(self, cursor: Cursor, system: str, profile: Profile, vault: Vault) -> None:
        self.system = system
        self.profile = profile
        found = one(cursor, "SELECT to_regclass('lienthong.applied') IS NOT NULL")
        has_applied = bool(found and found[0])
        order = [entity for entity in schemas.ENTITIES if entity in profile.entities]
        watch = at_capture(system)
        self.entities = {e: EntityReading(cursor, profile, e, vault=vault, has_applied=has_applied, breaker=watch) for e in order}
        self.tables = sorted({table for reading in self.entities.values() for table in reading.layout.types})
        self.shape = shape_of(cursor, self.tables)
        if not self.entities:
            raise ConfigError(f"{system}: its profile maps no entity")

    def locks(self, cursor: Cursor) -> str:
        """For `snapshot`: nobody changes the shape of these tables while they are read."""
        return shared_locks(cursor, [identifier(table) for table in self.tables], timeout_seconds=LOCK_SECONDS)

    def in_order(self) -> Iterator[EntityReading]:
        """Parents before children."""
        yield from self.entities.values()
