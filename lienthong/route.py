"""The router: what changed in the hub goes to everyone entitled to it, and leaves everyone who no longer is (protocol B8).

It empties `hub.changed`: rows are deleted in the transaction that stores what was sent, so nothing is skipped and nothing needs a cursor
(docs/decisions/0003). The out-going version is the router's own reading number, drawn before the records are read.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import lru_cache
from hashlib import blake2b

import orjson

import schemas
from connectors.avro import DIGEST, digest_of, frame, out_codec
from connectors.kafka import Producer
from connectors.postgres import Connection, Cursor, connect, rows, transaction
from lienthong import hub, probe, tracing
from lienthong.authority import RECORD, Authority, Said
from lienthong.capture import state
from lienthong.contracts import Terms
from lienthong.entitled import Golden, due, held_groups, read_golden
from lienthong.errors import FencedError, TransientError
from lienthong.in_doubt import Sent
from lienthong.keys import is_former
from lienthong.readers import from_micros
from lienthong.receivers import Receivers
from lienthong.settings import Settings
from lienthong.too_large import TooLarge

logger = logging.getLogger(__name__)

LEASE = "lienthong.router"
RECORDS_PER_READING = 2000
SENT, WITHDRAWN, DELETED, MERGED = "s", "w", "d", "m"
_ORDER = {entity: place for place, entity in enumerate(schemas.ENTITIES)}

_TAKE = "SELECT lane, id, record, resend, at FROM hub.changed ORDER BY lane, id LIMIT %s"


def topic_of(system: str) -> str:
    """The out-topic of a receiving system."""
    return f"lienthong.out.{system}"


@dataclass(slots=True)
class Reading:
    """One pass over the change list."""

    number: int
    epoch: int
    taken: list[tuple[int, int]]  # lane and id on the change list
    at: dict[int, int]
    resend: set[tuple[int, str]]
    golden: dict[int, Golden] = field(default_factory=dict)
    parents: dict[int, Golden] = field(default_factory=dict)
    entitled: dict[int, dict[str, tuple[str, bytes | None]]] = field(default_factory=dict)  # record -> system -> state, hash
    keys: dict[int, dict[str, str]] = field(default_factory=dict)  # record -> system -> local key
    sends: list[tuple[int, str, str, str, bytes, bytes | None, str, int]] = field(default_factory=list)
    followed: frozenset[tracing.Sent] = frozenset()


class Router:
    """Routes golden records to out-topics."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.connection: Connection = connect(settings.hub.dsn, application_name="lienthong route")
        self.producer = Producer(settings.kafka.brokers, client_id="lienthong-route", linger_ms=2)
        self.authority = Authority(settings)
        self.receivers = Receivers(settings)
        self.numbers = state.Numbers(self.connection, LEASE)
        with transaction(self.connection) as cursor:
            cursor.execute("INSERT INTO hub.capture_state (system) VALUES (%s) ON CONFLICT DO NOTHING", [LEASE])
            cursor.execute(hub.KEYED)
            self.too_large = TooLarge(cursor)
        self.sent = Sent(self.connection, settings.kafka.brokers)
        self._beat_at = 0.0
        self._looked_at = 0.0

    # ------------------------------------------------------------ contracts
    def note_contracts(self) -> int:
        """When contracts or scopes changed since the last start, every record is looked at again, after live changes; returns how many."""
        parts = [
            [(name, contract.model_dump_json()) for name, contract in sorted(self.settings.contracts.items())],
            [(name, f"{s.units}{s.agencies}{s.apply}") for name, s in sorted(self.settings.systems.items())],
        ]
        digest = blake2b(orjson.dumps(parts), digest_size=16).hexdigest()
        self.numbers.draw()  # not by one that waits: the one that routes would look at all of it with its own contracts
        with transaction(self.connection) as cursor:
            found = rows(cursor, "SELECT value FROM hub.setting WHERE name = 'contracts' FOR UPDATE")
            if found and found[0][0] == digest:
                return 0
            cursor.execute("INSERT INTO hub.setting VALUES ('contracts', %s) ON CONFLICT (name) DO UPDATE SET value = excluded.value", [digest])
            cursor.execute("INSERT INTO hub.changed (record, lane) SELECT record, 1 FROM hub.record ORDER BY record")
            return int(cursor.rowcount)

    def open_loaded(self) -> set[str]:
        """Systems whose initial load has just become complete: from now on they are delivered to, beginning with everything there is."""
        self._looked_at = time.monotonic()
        with transaction(self.connection) as cursor:
            fresh = self.receivers.newly_loaded(cursor)
        self.receivers.open(fresh)
        return fresh

    # ------------------------------------------------------------ one reading
    def step(self) -> int:
        """Route one slice of the change list; returns how many changes were taken."""
        try:
            number = self.numbers.draw()  # first: who merely waits must neither settle nor open anything under the one that routes
            in_doubt = self.sent.settle({topic_of(system): system for system in self.settings.systems})
            if in_doubt:
                logger.info("messages were sent but not stored: their records are looked at again", extra={"action": "in_doubt", "records": in_doubt})
            return self._step(number)
        except BaseException:
            self.sent.forget()
            self.too_large.forget()
            raise

    def _step(self, number: int) -> int:
        if time.monotonic() - self._looked_at > 0.5:
            self.open_loaded()
        with transaction(self.connection) as cursor:
            # One instant for all of it: a golden record from before a delete beside contributions from after it would be sent to its owner.
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            taken, begun = rows(cursor, _TAKE, [RECORDS_PER_READING]), tracing.now()
            reading = Reading(number, self.numbers.epoch, [t[:2] for t in taken], {t[2]: t[4] for t in taken}, {(t[2], t[3]) for t in taken if t[3]})
            if taken:
                self._read(cursor, reading)
        if not taken:
            self._beat(int(time.time() * 1_000_000))
            return 0
        for golden in sorted(reading.golden.values(), key=lambda g: (_ORDER[g.entity], g.record)):
            self._route(reading, golden)
        probe.forward(self.producer, taken, topic_of)
        acknowledged = self._send(reading)
        tracing.routed(reading.followed, begun)
        with transaction(self.connection) as cursor:
            self.sent.store(cursor, acknowledged)
            self._store(cursor, reading)
            self.too_large.store(cursor, number)
        self.too_large.stored()
        self._beat(min((at for at in reading.at.values() if at), default=0))
        return len(taken)

    def _read(self, cursor: Cursor, reading: Reading) -> None:
        reading.golden = read_golden(cursor, list(reading.at))
        dossiers = [g.record for g in reading.golden.values() if g.entity == "dossier"]
        children = [r for (r,) in rows(cursor, "SELECT record FROM hub.record WHERE parent = ANY(%s)", [dossiers])] if dossiers else []
        self._look_up(cursor, reading, list(reading.golden))
        flipped = {d for d in dossiers if self._flips(reading, reading.golden[d])}
        if flipped and children:
            more = [g for g in read_golden(cursor, children).values() if g.parent in flipped and g.record not in reading.golden]
            reading.golden |= {g.record: g for g in more}
            self._look_up(cursor, reading, [g.record for g in more])
        wanted = {g.parent for g in reading.golden.values() if g.parent is not None}
        reading.parents = {r: reading.golden[r] for r in wanted if r in reading.golden}
        missing = [r for r in wanted if r not in reading.golden]
        if missing:
            reading.parents |= read_golden(cursor, missing)
        self._keys(cursor, reading, [*reading.golden, *missing])

    def _look_up(self, cursor: Cursor, reading: Reading, records: Sequence[int]) -> None:
        found = rows(cursor, "SELECT record, system, state::text, hash FROM hub.entitled WHERE record = ANY(%s)", [list(records)])
        for record, system, state_, digest in found:
            reading.entitled.setdefault(record, {})[system] = (state_, bytes(digest) if digest else None)

    def _keys(self, cursor: Cursor, reading: Reading, records: Sequence[int]) -> None:
        found = rows(
            cursor,
            "SELECT record, system, local_key FROM hub.contribution WHERE record = ANY(%s) AND op = 's' ORDER BY version",
            [list(records)],
        )
        for record, system, key in found:
            if not is_former(key):  # its system has no row of it any more
                reading.keys.setdefault(record, {})[system] = key

    def _flips(self, reading: Reading, dossier: Golden) -> bool:
        """Whether someone gains or loses this dossier now, and so its children."""
        now = set() if dossier.is_gone() else {t.system for t in self.receivers.due(dossier.entity, dossier.values, None)}
        before = {system for system, (state_, _) in reading.entitled.get(dossier.record, {}).items() if state_ == SENT}
        own = reading.keys.get(dossier.record, {}).keys()
        return now - own != before - own or dossier.deleted

    # ------------------------------------------------------------ one record
    def _route(self, reading: Reading, golden: Golden) -> None:
        had = reading.entitled.get(golden.record, {})
        if golden.merged_into is not None:
            for system, (state_, _) in had.items():
                if state_ == SENT or (golden.record, system) in reading.resend:
                    self._merged(reading, golden, system)
            return
        parent = reading.parents.get(golden.parent) if golden.parent is not None else None
        if golden.parent is not None and parent is None:
            return  # its dossier has not arrived yet; when it does, it brings its children
        gone = golden.is_gone() or (parent is not None and parent.is_gone())
        terms = () if gone else self.receivers.due(golden.entity, golden.values, parent.values if parent is not None else None)
        for each in terms:
            self._state(reading, golden, parent, each, had.get(each.system))
        receivers = {each.system for each in terms}
        for system, (state_, _) in had.items():
            if system not in receivers and state_ != MERGED and (state_ == SENT or (golden.record, system) in reading.resend):
                self._removed(reading, golden, system, DELETED if gone else WITHDRAWN)
        for system in self.receivers.having(golden.entity, reading.keys.get(golden.record, {}).keys() - had.keys()) if gone else ():
            self._removed(reading, golden, system, DELETED)

    def _state(self, reading: Reading, golden: Golden, parent: Golden | None, terms: Terms, had: tuple[str, bytes | None] | None) -> None:
        held = held_groups(golden, terms.system)
        local = reading.keys.get(golden.record, {}).get(terms.system)
        is_own = local is not None and len(held) == len(schemas.groups(golden.entity))
        if is_own and (had is None or had[0] != SENT):
            return  # all of it is the receiver's own word, and always was; else it is told once, so that it lets go of what it was sent
        content = due(golden, terms, held)
        resend = (golden.record, terms.system) in reading.resend
        if had is not None and had == (SENT, content.digest) and not resend:
            self.too_large.fits(terms.system, golden.record)
            return
        meta = {
            "record": golden.record,
            "parent": golden.parent,
            "epoch": reading.epoch,
            "version": reading.number,
            "withheld": list(terms.withheld),
            "local_key": local,
            "held": [*held, RECORD] if golden.holder(RECORD) == terms.system else held,
            "parent_key": reading.keys.get(golden.parent, {}).get(terms.system) if golden.parent is not None else None,
            "yields": self._yields(golden, terms, parent, held),
        }
        body = frame(schemas.schema_id(golden.entity), out_codec(golden.entity).encode({"meta": meta, **content.values}))
        self._queue(reading, golden, terms.system, golden.entity, body, content.digest, SENT)

    def _yields(self, golden: Golden, terms: Terms, parent: Golden | None, held: Sequence[str]) -> list[str]:
        """Groups that the receiver would own if it spoke: an edit of its own that is on its way must not be overwritten."""
        groups = tuple(group for group in schemas.groups(golden.entity) if group not in held)
        on = self.authority.date_of(golden.entity, (Said("", 0, golden.values),))
        roles = self.authority.roles(golden.values if parent is None else parent.values)
        return self._outranked(terms.system, golden.entity, groups, tuple(map(golden.holder, groups)), on, roles)

    @lru_cache(maxsize=65536)  # noqa: B019 - there is one router, for the life of its process
    def _outranked(
        self,
        system: str,
        entity: str,
        groups: tuple[str, ...],
        holders: tuple[str | None, ...],
        on: date,
        roles: tuple[str | None, str | None],
    ) -> list[str]:
        outranks = self.authority.outranks
        return [group for group, holder in zip(groups, holders, strict=True) if outranks(system, holder, entity, group, on, roles)]

    def _removed(self, reading: Reading, golden: Golden, system: str, state_: str) -> None:
        value = {
            "entity": golden.entity,
            "record": golden.record,
            "parent": golden.parent,
            "epoch": reading.epoch,
            "version": reading.number,
            "reason": "delete" if state_ == DELETED else "withdraw",
            "local_key": reading.keys.get(golden.record, {}).get(system),
        }
        body = frame(schemas.schema_id("removed"), out_codec("removed").encode(value))
        self._queue(reading, golden, system, "removed", body, None, state_)

    def _merged(self, reading: Reading, golden: Golden, system: str) -> None:
        value = {
            "entity": golden.entity,
            "record": golden.merged_into,
            "from": golden.record,
            "epoch": reading.epoch,
            "version": reading.number,
            "local_key": reading.keys.get(int(golden.merged_into or 0), {}).get(system),
        }
        body = frame(schemas.schema_id("merged"), out_codec("merged").encode(value))
        self._queue(reading, golden, system, "merged", body, None, MERGED)

    def _queue(self, reading: Reading, golden: Golden, system: str, kind: str, body: bytes, digest: bytes | None, state_: str) -> None:
        if self.too_large.refuses(system, golden.record, golden.entity, body):
            return
        reading.sends.append((golden.record, golden.entity, system, kind, body, digest, state_, reading.at.get(golden.record, 0)))

    # ------------------------------------------------------------ out
    def _send(self, reading: Reading) -> dict[str, tuple[int, int]]:
        """Children leave before their dossier, and arrive after it."""
        removals = [s for s in reading.sends if s[3] == "removed"]
        rest = [s for s in reading.sends if s[3] != "removed"]
        reading.followed = tracing.followed((s[0], s[1], s[2], s[7]) for s in reading.sends)
        for record, entity, system, kind, body, _, _, at in [*reversed(removals), *rest]:
            one = (record, entity, system, at)
            traced = [tracing.header_of(one)] if one in reading.followed else []
            self.producer.send(
                topic_of(system),
                body,
                key=f"{entity}:{record}".encode(),
                partition=0,
                headers=[*_headers(kind, reading.number, at), (DIGEST, digest_of(body)), *traced],
            )
        return self.producer.flush()

    def _store(self, cursor: Cursor, reading: Reading) -> None:
        if reading.sends:
            hub.with_rows(
                cursor,
                """INSERT INTO hub.entitled AS e (system, record, entity, version, hash, state)
                   SELECT system, record, entity, version, hash, state FROM {given} b ORDER BY record, system
                   ON CONFLICT (record, system) DO UPDATE SET version = excluded.version, hash = excluded.hash, state = excluded.state""",
                "b_entitled",
                [(sent[2], sent[0], sent[1], reading.number, sent[5], sent[6]) for sent in reading.sends],
            )
        cursor.execute(
            "DELETE FROM hub.changed WHERE (lane, id) IN (SELECT * FROM unnest(%s::smallint[], %s::bigint[]))",
            [[lane for lane, _ in reading.taken], [number for _, number in reading.taken]],
        )

    def _beat(self, through: int) -> None:
        if time.monotonic() - self._beat_at < 0.5:
            return
        self._beat_at = time.monotonic()
        with transaction(self.connection) as cursor:
            hub.beat(cursor, "*", "route", 0, through)

    def close(self) -> None:
        """Give the lease back."""
        try:
            self.numbers.release()
        except TransientError as error:
            logger.warning(str(error), extra={"action": "route_close"})
        self.producer.close()
        self.connection.close()


@lru_cache(maxsize=4096)
def _headers(kind: str, number: int, at: int) -> list[tuple[str, bytes]]:
    """CloudEvents attributes in binary mode: a Python consumer learns the record type only from here (conventions §0.4)."""
    headers = [
        ("ce_specversion", b"1.0"),
        ("ce_type", schemas.full_name(kind).encode()),
        ("ce_id", str(number).encode()),
        ("ce_source", b"/lienthong/hub"),
    ]
    if at:
        headers.append(("ce_time", from_micros(at).isoformat().encode()))
    return headers


def run(settings: Settings, stop: Callable[[], bool]) -> None:
    """Route until told to stop."""
    router, pause = Router(settings), 0.0
    noted, said = False, ""
    try:
        while not stop():
            try:
                noted = noted or router.note_contracts() >= 0
                pause = 0.0 if router.step() else min(pause + 0.002, 0.02)
                said = ""
            except (FencedError, TransientError) as error:
                if said != (said := str(error)):
                    logger.warning(said, extra={"action": "route_retry", "code": error.code})
                noted, pause = noted and not isinstance(error, FencedError), 1.0
                if router.connection.closed:
                    raise
            if pause:
                time.sleep(pause)
    finally:
        router.close()
