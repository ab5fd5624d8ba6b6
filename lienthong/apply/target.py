"""One target: a batch of its out-topic becomes one transaction in its database (design §3, Apply; protocol B5, B9, R6)."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import orjson

import schemas
from connectors.avro import DamagedError, check_digest, id_codec, unframe
from connectors.kafka import Message
from connectors.postgres import Connection, Cursor, DataRefused, connect, errors_translated, rows, transaction
from lienthong import hub, probe
from lienthong.apply import freed, held, joined, own_row
from lienthong.apply.table import Document, TargetEntity, Write
from lienthong.breaker import Breaker
from lienthong.errors import RecordError
from lienthong.layout import Layout
from lienthong.settings import Settings
from lienthong.vault import Vault

_ORDER = {entity: place for place, entity in enumerate(schemas.ENTITIES)}
_NAMES = {schemas.schema_id(name): name for name in schemas.RECORDS}
_APPLIED = ("entity", "record", "local_key", "epoch", "version", "base", "state", "inserted", "parent", "body")
_PUT_APPLIED = """
INSERT INTO lienthong.applied AS a (entity, record, local_key, epoch, version, base, state, inserted, parent, body)
SELECT entity, record, local_key, epoch, version, base, state, inserted, parent, decode(body, 'hex') FROM jsonb_to_recordset(%s)
  AS d(entity text, record bigint, local_key text, epoch bigint, version bigint, base jsonb, state text, inserted boolean, parent bigint, body text)
ORDER BY entity, record
ON CONFLICT (entity, record) DO UPDATE SET local_key = excluded.local_key, epoch = excluded.epoch, version = excluded.version,
  base = excluded.base, state = excluded.state, inserted = excluded.inserted, parent = excluded.parent, body = excluded.body
WHERE (a.epoch, a.version) < (excluded.epoch, excluded.version) OR a.state = 'waiting'
"""


@dataclass(slots=True)
class Known:
    """What was applied here before."""

    local_key: str | None
    version: tuple[int, int]
    base: Document | None
    state: str
    inserted: bool
    parent: int | None


@dataclass(slots=True)
class Arrived:
    """One decoded message."""

    kind: str
    entity: str
    record: int
    version: tuple[int, int]
    value: dict[str, Any]
    message: Message


@dataclass(slots=True)
class Outcome:
    """What a batch did."""

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    settled: list[tuple[str, int, int]] = field(default_factory=list)  # entity, record, version of what has had its end here
    freed: freed.Freed = field(default_factory=lambda: freed.Freed())


class Target:
    """Writes one system's database."""

    def __init__(
        self, settings: Settings, system: str, vault: Vault, breaker: Breaker | None = None, renew: Callable[[list[Arrived]], list[Arrived]] = list
    ) -> None:
        self.system = system
        self._renew = renew  # lets messages name its own rows as they are now
        self.breaker = breaker or Breaker(system, settings.parking.stop)
        self.settings = settings
        self.vault = vault
        self.profile = settings.profile_of(system)
        self.connection: Connection = connect(settings.dsn_of(system), application_name=f"lienthong apply {system}")
        self.entities: dict[str, TargetEntity] = {}
        with transaction(self.connection) as cursor:
            cursor.execute(f"SET lock_timeout = '5s'; {hub.KEYED}")
            for entity in (e for e in schemas.ENTITIES if e in self.profile.entities):
                layout = Layout.of(cursor, self.profile, entity)
                if layout.writable():
                    self.entities[entity] = TargetEntity(cursor, layout)

    def stored(self, topic: str, partition: int) -> int | None:
        """The next offset to apply, as committed with the rows."""
        with transaction(self.connection) as cursor:
            found = rows(cursor, "SELECT next FROM lienthong.consumer_offset WHERE topic = %s AND partition = %s", [topic, partition])
        return int(found[0][0]) if found else None

    # ------------------------------------------------------------ one batch
    def apply(self, messages: Sequence[Message], moves: Mapping[tuple[str, int], tuple[int | None, int]]) -> Counter[tuple[str, str]]:
        """Apply the messages and move the offsets, all or nothing."""
        outcome = Outcome()
        with self.breaker.attempt(), transaction(self.connection) as cursor:
            hub.move_offsets(cursor, moves, "lienthong.consumer_offset")
            probe.applied(cursor, messages)
            arrived = list(self._decode(cursor, messages, outcome))
            self._take(cursor, held.keep_back(cursor, self.settings.parking, self.vault, arrived, outcome.counts), outcome)
            for left in self._decode(cursor, joined.without_children(cursor), outcome):
                self._withdraw(cursor, left, outcome)
            self._settle(cursor, outcome)
            self._count(cursor, outcome.counts)
        return outcome.counts

    def release(self) -> int:
        """Put through again what a person told to replay; returns how many rows. They were counted when they came."""
        outcome = Outcome()
        with self.breaker.attempt(), transaction(self.connection) as cursor:
            done = held.release(cursor, self.vault, lambda one: self._take(cursor, list(self._decode(cursor, [one], outcome)), outcome))
            self._settle(cursor, outcome)
            return done

    def _settle(self, cursor: Cursor, outcome: Outcome) -> None:
        """What is parked of what has had its end here is of the past; what waited for it goes through again."""
        if outcome.settled and held.is_any(cursor):
            held.cure(cursor, outcome.settled)
            outcome.freed.wake(cursor)

    def _take(self, cursor: Cursor, arrived: Sequence[Arrived], outcome: Outcome) -> None:
        for merged in [a for a in arrived if a.kind == "merged"]:
            self._merge(cursor, merged, outcome)
        self._apply(cursor, self._renew([a for a in arrived if a.kind != "merged"]), outcome)
        self._release_waiting(cursor, outcome)

    def _decode(self, cursor: Cursor, messages: Iterable[Message], outcome: Outcome) -> Iterable[Arrived]:
        for message in messages:
            if message.value is None:
                continue  # the purge of a record that this system has long deleted
            try:
                check_digest(message.value, message.headers)
                schema_id, body = unframe(message.value)
                kind = _NAMES[schema_id]
                value = id_codec(schema_id).decode(body)
                entity = value["entity"] if kind in ("removed", "merged") else kind
                if entity not in _ORDER:
                    raise DamagedError("it names no entity that is delivered")
            except KeyError:
                self._park(cursor, None, None, RecordError("unknown_schema", None, "a schema id nobody released"), message, outcome)
                continue
            except DamagedError as error:
                self._park(cursor, None, None, error, message, outcome)
                continue
            meta = value.pop("meta", value)
            record = value["from"] if kind == "merged" else meta["record"]
            yield Arrived(kind, entity, record, (meta["epoch"], meta["version"]), {**value, "meta": meta}, message)

    def _apply(self, cursor: Cursor, arrived: Sequence[Arrived], outcome: Outcome) -> None:
        newest: dict[tuple[str, int], Arrived] = {}
        for one in arrived:
            held = newest.get((one.entity, one.record))
            if held is not None:
                outcome.counts[one.entity, "older"] += 1
            if held is None or held.version <= one.version:
                newest[one.entity, one.record] = one
        known = self._known(cursor, newest)
        by_entity: dict[str, list[Arrived]] = defaultdict(list)
        for key, one in sorted(newest.items(), key=lambda kv: (_ORDER[kv[0][0]], kv[0][1])):
            had = known.get(key)
            if had is not None and had.version >= one.version:
                outcome.counts[one.entity, "duplicate" if had.version == one.version else "older"] += 1
            elif one.entity not in self.entities:
                outcome.counts[one.entity, "not_stored"] += 1
            else:
                by_entity[one.entity].append(one)
        for entity in reversed([*by_entity]):
            self.breaker.saw(entity, len(by_entity[entity]))
            removals = [a for a in by_entity[entity] if a.kind == "removed"]
            self._each(cursor, removals, partial(self._remove, cursor, entity, known, outcome), outcome)
        for entity, items in by_entity.items():
            states = [a for a in items if a.kind != "removed"]
            self._each(cursor, states, partial(self._write, cursor, entity, known, outcome), outcome)

    def _known(self, cursor: Cursor, keys: Iterable[tuple[str, int]]) -> dict[tuple[str, int], Known]:
        wanted = list(keys)
        found = rows(
            cursor,
            """SELECT a.entity, a.record, a.local_key, a.epoch, a.version, a.base::text, a.state, a.inserted, a.parent FROM lienthong.applied a
               JOIN unnest(%s::text[], %s::bigint[]) AS k(entity, record) USING (entity, record)
               ORDER BY a.entity, a.record FOR UPDATE OF a""",
            [[k[0] for k in wanted], [k[1] for k in wanted]],
        )
        return {
            (entity, record): Known(key, (epoch, version), orjson.loads(base) if base else None, state, inserted, parent)
            for entity, record, key, epoch, version, base, state, inserted, parent in found
        }

    # ------------------------------------------------------------ halving
    def _each(
        self, cursor: Cursor, items: Sequence[Arrived], work: Callable[[Sequence[Arrived]], list[dict[str, Any]]], outcome: Outcome
    ) -> None:
        """Do the work on all; what the target's own rules refuse is found by halving and parked, the rest goes on."""
        if not items:
            return
        cursor.execute("SAVEPOINT part")
        try:
            with errors_translated():
                done = work(items)
                cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
                self._put_applied(cursor, done)
            cursor.execute("RELEASE SAVEPOINT part")
        except (DataRefused, RecordError) as error:
            cursor.execute("ROLLBACK TO SAVEPOINT part; RELEASE SAVEPOINT part")
            if len(items) == 1:
                self._park(cursor, items[0].entity, items[0].record, error, items[0].message, outcome, items[0].version[1])
                return
            half = len(items) // 2
            self._each(cursor, items[:half], work, outcome)
            self._each(cursor, items[half:], work, outcome)
            return
        for row in done:
            outcome.counts[row["entity"], row["outcome"]] += 1
            if row["state"] != "waiting":
                outcome.settled.append((row["entity"], row["record"], row["version"]))
                outcome.freed.note(row)

    def _put_applied(self, cursor: Cursor, done: Sequence[dict[str, Any]]) -> None:
        applied = [row for row in done if row["state"] == "applied"]
        rest = [row for row in done if row["state"] != "applied"]
        if applied:
            self.entities[applied[0]["entity"]].remember(cursor, applied)
        if rest:
            cursor.execute(_PUT_APPLIED, [orjson.dumps([{name: row.get(name) for name in _APPLIED} for row in rest]).decode()])

    # ------------------------------------------------------------ states
    def _write(
        self, cursor: Cursor, entity: str, known: Mapping[tuple[str, int], Known], outcome: Outcome, items: Sequence[Arrived]
    ) -> list[dict[str, Any]]:
        target = self.entities[entity]
        done: list[dict[str, Any]] = []
        writes = []
        parents = own_row.parents_of(cursor, items, self.entities.get("dossier"))
        for item in items:
            write = own_row.write_of(item, known.get((entity, item.record)), parents)
            if target.layout.mapping.parent is not None and write.parent_key is None:
                done.append(_row(entity, write, "waiting", "waiting", None) | {"body": (item.message.value or b"").hex()})
                continue
            target.localize(write)
            writes.append(write)
        before = target.documents(cursor, own_row.keys(writes), lock=True)
        own_row.bind(writes, before)
        for write in own_row.taken_away(writes, before):
            done.append(_row(entity, write, "deleted", "deleted", None) | freed.by_removal(known.get((entity, write.record)), write))
        existing = [w for w in writes if w.local_key in before]
        before = self._moved(cursor, target, existing, before)
        for write in existing:
            write.spoken = target.own_edits(write, before[str(write.local_key)])
            write.back = target.left_of_ours(write, before[str(write.local_key)])
        target.insert(cursor, [w for w in writes if w.local_key not in before])
        target.update(cursor, existing)
        self._witness(cursor, target, existing, before, target.documents(cursor, [str(w.local_key) for w in existing], lock=False))
        for write in writes:
            ours = set(target.fields if write.local_key not in before else target.written(write)) - write.back
            row = _row(entity, write, "applied", "applied", None) | {"unwritten": [n for n in target.fields if n not in ours]}
            done.append(row | freed.by_state(target, known.get((entity, write.record)), write, is_new=write.local_key not in before))
        return done

    def _moved(self, cursor: Cursor, target: TargetEntity, existing: Sequence[Write], before: dict[str, Document]) -> dict[str, Document]:
        """Put what has another parent now under that; returns the documents under the keys that hold from here on."""
        old = {id(write): str(write.local_key) for write in existing if write.moved}
        target.move(cursor, [write for write in existing if write.moved])
        return before | {str(write.local_key): before[old[id(write)]] for write in existing if write.moved}

    def _witness(
        self, cursor: Cursor, target: TargetEntity, writes: Iterable[Write], before: Mapping[str, Document], after: Mapping[str, Document]
    ) -> None:
        """Where a column somebody else owns differed from its base, keep what stood there: no edit is overwritten without a trace."""
        kept = []
        for write in writes:
            was, now = before[str(write.local_key)], after.get(str(write.local_key), {})
            for name in target.written(write):
                # A field that we never wrote here held the system's own word, which the hub has: no edit, but counted.
                base, adopted = (write.base or {}).get(name), name not in (write.base or {})
                if was.get(name) != now.get(name) and (adopted or was.get(name) != base):
                    kept.append((write, name, was.get(name), base, now.get(name), adopted))
        for write, name, was_value, base, now_value, adopted in kept:
            cursor.execute(
                """INSERT INTO lienthong.overwritten (entity, record, local_key, version, field, was, base, written)
                   VALUES (%s, %s, %s, %s, %s, %s, %s, %s)""",
                [target.entity, write.record, write.local_key, write.version[1], name, target.told(name, was_value),
                 None if adopted else target.told(name, base), target.told(name, now_value)],
            )

    # ------------------------------------------------------------ removals
    def _remove(
        self, cursor: Cursor, entity: str, known: Mapping[tuple[str, int], Known], outcome: Outcome, items: Sequence[Arrived]
    ) -> list[dict[str, Any]]:
        """A delete by the owner takes the row; a withdrawal only a row that we inserted and nobody changed."""
        target = self.entities[entity]
        keys = joined.still_theirs(cursor, entity, {i.record: own_row.key_of(i, known.get((entity, i.record))) for i in items})
        documents = target.documents(cursor, [k for k in keys.values() if k is not None], lock=True)
        done, take = [], []
        for item in items:
            had, key = known.get((entity, item.record)), keys[item.record]
            write = Write(item.record, item.value["parent"], item.version, {}, frozenset(), frozenset(), frozenset(), key, None)
            write.inserted = had is not None and had.inserted  # else capture tells that the system's own row is gone
            now = documents.get(key) if key is not None else None
            if now is None:
                write.local_key = key if had is not None and had.state != "applied" else None  # taken away there, not by us: capture has to tell
                state = "deleted" if item.value["reason"] == "delete" else "withdrawn"
            elif item.value["reason"] == "delete":
                state = "deleted"
                take.append(key)
                if had is None or had.base != now:  # edited, or a row of its own
                    self._keep(cursor, entity, write, now, had.base if had is not None else None)
            elif had is not None and had.inserted and had.base == now:
                state = "withdrawn"
                take.append(key)
            else:
                state = "kept"
                error = RecordError("withdraw_kept", None, "the party is no longer entitled to it, but its row was there before us or was edited")
                self._park(cursor, entity, item.record, error, item.message, outcome, item.version[1])
            done.append(_row(entity, write, state, state, None) | freed.by_removal(had, write))
        target.delete(cursor, [k for k in take if k is not None])
        return done

    def _keep(self, cursor: Cursor, entity: str, write: Write, was: Document, base: Document | None) -> None:
        cursor.execute(
            "INSERT INTO lienthong.overwritten (entity, record, local_key, version, field, was, base) VALUES (%s, %s, %s, %s, 'record', %s, %s)",
            [entity, write.record, write.local_key, write.version[1], _json(was), None if base is None else _json(base)],
        )

    def _merge(self, cursor: Cursor, item: Arrived, outcome: Outcome) -> None:
        """Two records turned out to be one: the row of the one that went belongs to the one that stays, unless that has a row."""
        if joined.repoint(cursor, item):
            outcome.counts[item.entity, "merged"] += 1
            outcome.settled.append((item.entity, item.record, item.version[1]))
        elif not joined.keep_for_later(cursor, item):
            self._withdraw(cursor, item, outcome)

    def _withdraw(self, cursor: Cursor, item: Arrived, outcome: Outcome) -> None:
        value = {"reason": "withdraw", "local_key": None, "parent": None, "meta": item.value["meta"]}
        gone = Arrived("removed", item.entity, item.record, item.version, value, item.message)
        self._apply(cursor, [gone], outcome)

    # ------------------------------------------------------------ children that came first (B9)
    def _release_waiting(self, cursor: Cursor, outcome: Outcome) -> None:
        """Apply the waiting whose parent is here now; what the target refuses is parked and waits no more."""
        while rows(cursor, "SELECT 1 FROM lienthong.applied WHERE state = 'waiting' LIMIT 1"):
            found = rows(
                cursor,
                """DELETE FROM lienthong.applied a USING (
                     SELECT w.entity, w.record FROM lienthong.applied w JOIN lienthong.applied p
                     ON p.entity = 'dossier' AND p.record = w.parent AND p.state = 'applied' WHERE w.state = 'waiting' ORDER BY 1, 2 LIMIT 1000) d
                   WHERE (a.entity, a.record) = (d.entity, d.record) RETURNING a.body""",
            )
            if not found:
                return
            messages = [Message("waiting", 0, 0, 0, None, bytes(body), ()) for (body,) in found]
            self._apply(cursor, self._renew(list(self._decode(cursor, messages, outcome))), outcome)

    # ------------------------------------------------------------ parked, counted
    def _park(
        self, cursor: Cursor, entity: str | None, record: int | None, error: DataRefused | RecordError, message: Message, outcome: Outcome,
        version: int | None = None,
    ) -> None:
        reason = error.reason if isinstance(error, RecordError) else "refused_by_target"
        column = error.field if isinstance(error, RecordError) else (error.column or error.constraint)
        cursor.execute(
            """INSERT INTO lienthong.parked (entity, record, version, reason, field, message, topic, partition, "offset", payload)
               VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)""",
            [
                entity, record, version, reason, column, str(error), message.topic, message.partition, message.offset,
                self.vault.seal(message.value or b""),
            ],
        )
        outcome.counts[entity or "?", "parked"] += 1
        self.breaker.failed(entity, reason, column)

    def _count(self, cursor: Cursor, counts: Mapping[tuple[str, str], int]) -> None:
        for (entity, what), n in sorted(counts.items()):
            cursor.execute(
                """INSERT INTO lienthong.counter AS c VALUES (%s, %s, %s)
                   ON CONFLICT (entity, outcome) DO UPDATE SET n = c.n + excluded.n""",
                [entity, what, n],
            )

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()


def _row(entity: str, write: Write, state: str, outcome: str, base: Document | None) -> dict[str, Any]:
    return {
        "entity": entity, "record": write.record, "local_key": write.local_key, "epoch": write.version[0], "version": write.version[1],
        "base": base, "state": state, "inserted": write.inserted, "parent": write.parent, "outcome": outcome,
    }


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()
