"""Sources that only speak, two mergers and a router over one hub: the world of the merge and route machine.

Everything between a source's state and an out-topic is the product: frames, `Merger`, `links`, `golden`, `parked`, `Router`. The hub is
in memory for the machine and real for the contract suite.
"""

from __future__ import annotations

import base64
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from unittest.mock import patch

import schemas
from connectors.avro import DamagedError, id_codec, unframe
from connectors.kafka import Message
from lienthong import frames, hub, route
from lienthong.authority import Authority, Golden, Said, fold
from lienthong.contracts import terms_of
from lienthong.errors import FencedError
from lienthong.frames import DELETE, STATE, encode_body, mask_of, pack_entry
from lienthong.merge import Merger
from lienthong.merging import moves_of
from lienthong.output import Output
from lienthong.readers import to_micros
from lienthong.route import Router
from lienthong.settings import Settings
from tests.simulation.database import Fuse
from tests.simulation.hub_tables import view
from tests.simulation.topics import Topics

PARTITIONS = 2
UNITS = ("26737", "26740")
DAY = to_micros(datetime(2026, 3, 5, 3, tzinfo=UTC))
SYSTEMS = ("portal", "ward-a", "ward-b")
CODES = {"1": "N1", "2": "N2"}
Place = tuple[str, str]  # entity and local key


def settings() -> Settings:
    """A portal that receives everything and two wards that receive what is theirs; the city keeps the intake, who handles it the rest."""
    city = {"order": ["portal", "kind:ward"], "basis": "Decree 118: the place of intake keeps the dossier"}
    handler = {"order": ["@processing", "portal", "kind:ward"], "basis": "Decree 61: the competent agency decides"}
    own = {entity: {"where": {"units": "own"}} for entity in ("dossier", "fee")}
    every: dict[str, Any] = {"dossier": {}, "fee": {}}
    legal = {"purpose": "handling dossiers", "legal_ground": "Decree 118/2025"}
    system = {"profile": "p", "dsn": "x", "capture": "none"}
    return Settings.model_validate(
        {
            "hub": {"dsn": "hub"},
            "kafka": {"bootstrap": "none", "partitions": PARTITIONS},
            "profiles": {"p": {"profile": "p", "entities": {"dossier": {"table": "t", "key": "k", "fields": {"note": "note"}}}}},
            "systems": {
                "portal": {**system, "kind": "portal"},
                "ward-a": {**system, "kind": "ward", "units": [UNITS[0]]},
                "ward-b": {**system, "kind": "ward", "units": [UNITS[1]]},
            },
            "authority": {
                "dossier": {
                    **{group: [city] for group in ("record", "routing", "intake", "payment")},
                    **{group: [handler] for group in ("processing", "result")},
                },
                "fee": {"record": [handler], "content": [handler]},
            },
            "contracts": {
                "portal": {"system": "portal", **legal, "entities": every},
                **{name: {"system": name, **legal, "entities": own} for name in ("ward-a", "ward-b")},
            },
        }
    )


@dataclass(frozen=True, slots=True)
class Truth:
    """What a source holds of one record: values, nothing any more, or something that does not fit the model."""

    values: dict[str, Any] | None
    parent: str | None = None
    fits: bool = True


@dataclass(frozen=True, slots=True)
class Told:
    """The same as its last reading told it."""

    version: int
    values: dict[str, Any] | None
    parent: str | None


@dataclass(frozen=True, slots=True)
class Sent:
    """One message of an out-topic, read back."""

    system: str
    kind: str
    record: int
    version: int
    values: dict[str, Any]


def read_back(message: Message) -> Sent:
    """A message of an out-topic as a receiver reads it."""
    schema_id, body = unframe(message.value or b"")
    kind = next(name for name in schemas.RECORDS if schemas.schema_id(name) == schema_id)
    values = id_codec(schema_id).decode(body)
    meta = values.pop("meta", values)
    record = values["from"] if kind == "merged" else meta["record"]
    return Sent(message.topic.removeprefix("lienthong.out."), kind, record, meta["version"], values)


class MergingCity:
    """The sources, the in-topic, two merge processes, the router and the out-topics."""

    def __init__(self, connection: Callable[[], Any], fuse: Fuse) -> None:
        self.settings, self.fuse, self._connection = settings(), fuse, connection
        self.authority, self.terms = Authority(self.settings), terms_of(self.settings)
        self.truth: dict[str, dict[Place, Truth]] = {name: {} for name in SYSTEMS}
        self.unread: dict[str, set[Place]] = {name: set() for name in SYSTEMS}
        self.told: dict[str, dict[Place, Told]] = {name: {} for name in SYSTEMS}
        self.refused: dict[tuple[str, Place], int] = {}
        self.number = 0
        self.log: list[list[Message]] = [[] for _ in range(PARTITIONS)]
        self.entries: Counter[tuple[str, str]] = Counter()
        self.out = Topics(fuse)
        self.hub = connection()
        self.mergers = [Merger(self.settings, self.hub) for _ in range(2)]
        self.positions: list[dict[tuple[str, int], int | None]] = [{}, {}]
        self.start_router()

    # ------------------------------------------------------------ sources
    def write(self, system: str, entity: str, key: str, truth: Truth) -> None:
        """What a source's own application does."""
        self.truth[system][entity, key] = truth
        self.unread[system].add((entity, key))

    def read(self, system: str) -> None:
        """One reading of a source: everything that changed, as it is now, in frames."""
        self.number += 1
        output = Output(PARTITIONS, system, 1, self.number, DAY)
        for entity, key in sorted(self.unread[system]):
            truth = self.truth[system][entity, key]
            root = truth.parent or key
            if not truth.fits:
                payload = base64.b64encode(b"\x00{}").decode()
                output.refuse(entity, root, {"key": key, "field": "status", "reason": "unmapped_word", "message": "a word", "payload": payload})
                self.refused[system, (entity, key)] = self.number
                continue
            output.add(entity, root, *_packed(entity, key, truth))
            self.told[system][entity, key] = Told(self.number, truth.values, truth.parent)
            self.refused.pop((system, (entity, key)), None)
        self.unread[system].clear()
        for partition, frame in output.close():
            self.append(partition, frame)

    def append(self, partition: int, frame: bytes) -> None:
        """Put a frame at the end of a partition of the in-topic; whole ones are counted, as every record in them must be."""
        with suppress(DamagedError):
            header, packed = frames.open_frame(frame)
            self.entries[header.system, header.entity] += len(packed)
        self.log[partition].append(Message(frames.TOPIC, partition, len(self.log[partition]), 0, None, frame, ()))

    # ------------------------------------------------------------ the hub's processes
    def merge(self, who: int, most: Sequence[int]) -> None:
        """One poll of one merge process: up to so many messages of each partition, from where it believes to be."""
        messages = []
        for partition, count in enumerate(most):
            place = (frames.TOPIC, partition)
            if place not in self.positions[who]:
                self.positions[who][place] = hub.stored_offset(self.hub, *place)
            at = self.positions[who][place] or 0
            messages += self.log[partition][at : at + count]
        if not messages:
            return
        moves = moves_of(messages, self.positions[who])
        try:
            self.mergers[who].merge(messages, moves)
        except FencedError:
            self.positions[who].clear()  # seeks to what is stored
            return
        self.positions[who] |= {place: following for place, (_, following) in moves.items()}

    def restart_merger(self, who: int) -> None:
        """A new process: it knows nothing but what is stored."""
        self.mergers[who] = Merger(self.settings, self.hub)
        self.positions[who].clear()

    def start_router(self) -> None:
        """A new router process."""
        self.out.sender_ends()
        with patch.object(route, "connect", lambda *_, **__: self._connection()), patch.object(route, "Producer", lambda *_, **__: self.out):
            self.router = Router(self.settings)

    def to_merge(self) -> bool:
        """Whether something is unmerged."""
        return any(len(log) > (hub.stored_offset(self.hub, frames.TOPIC, n) or 0) for n, log in enumerate(self.log))

    def to_route(self) -> bool:
        """Whether something is unrouted."""
        return bool(self.rows("changed"))

    def settle(self) -> None:
        """Every reading taken, merged and routed."""
        for system in SYSTEMS:
            if self.unread[system]:
                self.read(system)
        self.positions[0].clear()
        self.merge(0, [len(log) for log in self.log])
        for _ in range(20):
            if not self.router.step():
                return
        raise AssertionError("the router finds something to do for ever")

    # ------------------------------------------------------------ what must be true once all is quiet
    def check(self) -> None:
        """Everything that is promised of the hub and of the out-topics."""
        contributions = self._contributions()
        self._no_edit_is_lost(contributions)
        golden = self._golden_is_the_fold_of_the_newest(contributions)
        self._one_code_is_one_record(contributions)
        self._counts_balance()
        self._refusals_are_open_until_cured()
        self._everyone_has_what_is_theirs(golden, contributions)

    def rows(self, table: str) -> list[dict[str, Any]]:
        """The rows of one of the hub's tables."""
        return view(self.hub, table)

    def _contributions(self) -> dict[tuple[str, str, str], tuple[int, int, str]]:
        found = self.rows("contribution")
        return {(c["system"], c["entity"], c["local_key"]): (c["record"], c["version"], c["op"]) for c in found if c["op"] != "p"}

    def _no_edit_is_lost(self, held: dict[tuple[str, str, str], tuple[int, int, str]]) -> None:
        told = {(s, *place): (t.version, "d" if t.values is None else "s") for s, all_ in self.told.items() for place, t in all_.items()}
        assert {key: row[1:] for key, row in held.items()} == told, "the hub does not hold the newest word of every source"

    def _golden_is_the_fold_of_the_newest(self, held: dict[tuple[str, str, str], tuple[int, int, str]]) -> dict[int, tuple[str, Golden]]:
        said: dict[int, list[Said]] = defaultdict(list)
        entity_of: dict[int, str] = {}
        parent_of: dict[int, int] = {}
        for (system, entity, key), (record, version, _) in held.items():
            told = self.told[system][entity, key]
            said[record].append(Said(system, version, told.values or {}, told.values is not None))
            entity_of[record] = entity
            if told.parent is not None and (system, "dossier", told.parent) in held:
                parent_of[record] = held[system, "dossier", told.parent][0]
        found = {row["record"]: row for row in self.rows("record")}
        out: dict[int, tuple[str, Golden]] = {}
        for record in sorted(said, key=lambda r: entity_of[r] != "dossier"):
            entity, parent = entity_of[record], parent_of.get(record)
            routing = out[parent][1].values if parent in out else None
            expected = fold(self.authority, entity, said[record], routing)
            row = found[record]
            assert row["merged_into"] is None, "a contribution of a record that was merged into another"
            assert (row["body"], row["deleted"]) == (expected.values, expected.deleted), f"golden record {record} is not the fold of {said[record]}"
            if parent is not None:
                assert row["parent"] == parent, "a child under another dossier than its source says"
            holders = dict.fromkeys(expected.who, row["sole"]) if row["sole"] is not None else row["who"]
            assert {g: holders.get(g) for g in expected.who} == expected.who, f"of record {record} the hub calls {holders} the owners: {said[record]}"
            out[record] = (entity, expected)
        return out

    def _one_code_is_one_record(self, held: dict[tuple[str, str, str], tuple[int, int, str]]) -> None:
        for key, code in CODES.items():
            places = [
                (s, "dossier", key) for s in SYSTEMS if (t := self.told[s].get(("dossier", key))) and (t.values or {}).get("national_code") == code
            ]
            assert len({held[place][0] for place in places}) <= 1, f"the living dossiers with code {code} are more than one record"

    def _counts_balance(self) -> None:
        sums: dict[tuple[str, str], dict[str, int]] = defaultdict(lambda: defaultdict(int))
        for row in self.rows("counter"):
            sums[row["system"], row["entity"]][row["outcome"]] += row["n"]
        sums.pop(("?", "?"), None)  # damaged frames: nobody knows what was in them
        sums.pop(("*", "*"), None)
        whole = {place: counts["captured"] - counts["parked"] for place, counts in sums.items()}
        assert whole == self.entries, "a record is counted twice, or not at all"
        for place, counts in sums.items():
            ended = sum(counts[o] for o in ("merged", "unchanged", "older", "duplicate", "refused", "parked"))
            assert counts["captured"] == ended, f"{place}: captured is not the sum of all outcomes: {dict(counts)}"

    def _refusals_are_open_until_cured(self) -> None:
        found = [(p["system"], p["entity"], p["local_key"]) for p in self.rows("parked") if p["state"] == "open" and p["kind"] == "refused"]
        expected = sorted((system, *place) for system, place in self.refused)
        assert sorted(found) == expected, "refused records that are cured stand as open, or open ones are not there"

    def _everyone_has_what_is_theirs(self, golden: dict[int, tuple[str, Golden]], held: dict[tuple[str, str, str], tuple[int, int, str]]) -> None:
        latest: dict[tuple[str, int], Sent] = {}
        for sent in (read_back(message) for log in self.out.topics.values() for message in log):
            before = latest.get((sent.system, sent.record))
            assert before is None or before.version < sent.version, "a later message does not pass the guard of the target"
            latest[sent.system, sent.record] = sent
        found = {row["record"]: row for row in self.rows("record")}
        speaks = {(system, row[0]) for (system, _, _), row in held.items() if row[2] == "s"}
        for record, (entity, folded) in golden.items():
            parent, sole = found[record]["parent"], found[record]["sole"]
            above = golden.get(parent) if parent is not None else None
            gone = _gone(folded) or (parent is not None and (above is None or _gone(above[1])))
            for terms in self.terms.get(entity, ()):
                entitled = not gone and terms.in_scope(folded.values, above[1].values if above else None)
                own = {g for g in schemas.groups(entity) if terms.system == (sole or folded.who.get(g))}
                sent = latest.pop((terms.system, record), None)
                if entitled and (terms.system, record) in speaks and own == set(schemas.groups(entity)):
                    continue  # all of it is its own word
                foreign = {f.name for f in schemas.fields(entity) if f.group not in own}
                expected = {n: v for n, v in terms.shape(folded.values).items() if n in foreign} if entitled else None
                assert _received(sent, foreign) == expected, f"{terms.system} does not hold what it is entitled to of record {record}"
        for sent in latest.values():
            assert sent.kind in ("merged", "removed"), f"{sent.system} keeps record {sent.record}, which is no record any more"


def _gone(golden: Golden) -> bool:
    return golden.deleted or not golden.values


def _received(sent: Sent | None, foreign: set[str]) -> dict[str, Any] | None:
    """What a party holds of others' words after the last message about a record."""
    if sent is None or sent.kind in ("removed", "merged"):
        return None
    return {name: value for name, value in sent.values.items() if name in foreign and value is not None}


def _packed(entity: str, key: str, truth: Truth) -> tuple[int, bytes]:
    """Mask and bytes of one contribution."""
    if truth.values is None:
        return 0, pack_entry(DELETE, key, parent=truth.parent, record=None, delivered=False, edited=None, nulls=0, body=b"")
    mask = mask_of(entity, truth.values)
    nulls, body = encode_body(entity, truth.values, {n: mask_of(entity, [n]) for n in truth.values}, mask)
    return mask, pack_entry(STATE, key, parent=truth.parent, record=None, delivered=False, edited=None, nulls=nulls, body=body)
