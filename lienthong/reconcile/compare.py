"""One system against the hub, in both directions: find what changed since it was proved equal, read that, judge it, look again."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import blake2b
from itertools import islice
from typing import Any

import orjson
from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_fixed

import schemas
from connectors.postgres import Connection, Contended, connect, one, rows, snapshot, transaction
from lienthong import __version__
from lienthong.authority import Authority
from lienthong.contracts import terms_of
from lienthong.digest import BITS, SetDigest
from lienthong.errors import ConfigError
from lienthong.reconcile.fence import Fence
from lienthong.reconcile.held import Applied, Holding
from lienthong.reconcile.hubside import HubSide, Known
from lienthong.reconcile.judge import KEPT, Case, Finding, Judge, Verdict
from lienthong.settings import Settings

SLICE = 2000
ROWS_AT_ONCE = 2_000_000  # whose keys are kept in memory while their buckets are gone through
ROUNDS = 5  # looks at a difference that moves, before it is called unsettled
Progress = Callable[[str, int, int], None]  # entity, records done, records planned
Token = tuple[int | None, int | None, int | None]  # what a record looked like on both sides


@dataclass(frozen=True, slots=True)
class Scope:
    """What of an entity is compared: everything that is not proved equal, named records, or what the hub has got since a time."""

    keys: tuple[str, ...] = ()
    records: tuple[int, ...] = ()
    since: datetime | None = None
    full: bool = False

    @property
    def is_everything(self) -> bool:
        """Whether nothing is left out."""
        return not self.is_named and self.since is None

    @property
    def is_named(self) -> bool:
        """Whether single records are named."""
        return bool(self.keys or self.records)


@dataclass(frozen=True, slots=True)
class Difference:
    """One record that is not as it should be on one hop."""

    system: str
    entity: str
    key: str | None
    record: int | None
    hop: str
    kind: str
    fields: tuple[str, ...]


@dataclass(slots=True)
class Compared:
    """What the comparison of one entity of one system found."""

    system: str
    entity: str
    rows: int = 0  # in the system's table
    read: int = 0  # of them, and of what the hub expects there, those that had to be read
    differences: list[Difference] = field(default_factory=list)
    explained: Counter[str] = field(default_factory=Counter)
    kept: int = 0  # forgotten by the system, and kept by a person's decision
    unsettled: int = 0
    entitled: SetDigest | None = None
    held: SetDigest | None = None
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Looked:
    """One record as judged."""

    case: Case
    record: int | None
    token: Token
    verdict: Verdict

    @property
    def place(self) -> tuple[str | None, int | None]:
        """What it is called by."""
        return self.case.key, self.record


class Comparison:
    """Compares one system; use as a context."""

    def __init__(
        self,
        settings: Settings,
        system: str,
        *,
        wait_seconds: float,
        progress: Progress = lambda *_: None,
        told: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.settings, self.system, self.wait_seconds = settings, system, wait_seconds
        self.progress, self.told = progress, told
        self.authority = Authority(settings)
        self._opened: list[Connection] = []
        self.hub = self._open(settings.hub.dsn)  # for answers that come in parts
        self.notes = self._open(settings.hub.dsn)  # for everything else
        self.there = self._open(settings.dsn_of(system))
        self.reader = self._open(settings.dsn_of(system))
        self._follow_rules()

    def _open(self, dsn: str) -> Connection:
        connection = connect(dsn, application_name=f"lienthong reconcile {self.system}")
        self._opened.append(connection)
        return connection

    def __enter__(self) -> Comparison:
        return self

    def __exit__(self, *_: object) -> None:
        for connection in self._opened:
            connection.close()

    # ------------------------------------------------------------ what there is to compare
    def entities(self, chosen: Sequence[str] = ()) -> list[str]:
        """The entities that the system's profile maps, parents first; raises `ConfigError` for one that it does not."""
        has = [entity for entity in schemas.ENTITIES if entity in self.settings.profile_of(self.system).entities]
        unknown = sorted(set(chosen) - set(has))
        if unknown:
            raise ConfigError(f"{self.system} has no {', '.join(unknown)}; it has {', '.join(has)}")
        return [entity for entity in has if not chosen or entity in chosen]

    def _follow_rules(self) -> None:
        """Proofs were made under a profile and a contract; under others they prove nothing."""
        settings = self.settings
        contract = settings.contract_of(self.system)
        parts = [
            __version__, settings.profile_of(self.system).model_dump_json(), contract.model_dump_json() if contract else "",
            f"{settings.systems[self.system].model_dump(exclude={'dsn'})}",
            {entity: {group: [rule.model_dump_json() for rule in rules] for group, rules in groups.items()}
             for entity, groups in settings.authority.items()},
        ]  # fmt: skip
        digest = blake2b(orjson.dumps(parts, option=orjson.OPT_SORT_KEYS), digest_size=16).hexdigest()
        name = f"proofs {self.system}"
        with transaction(self.notes) as cursor:
            if rows(cursor, "SELECT 1 FROM hub.setting WHERE name = %s AND value = %s", [name, digest]):
                return
            cursor.execute("DELETE FROM hub.proof WHERE system = %s", [self.system])
            cursor.execute("INSERT INTO hub.setting VALUES (%s, %s) ON CONFLICT (name) DO UPDATE SET value = excluded.value", [name, digest])

    # ------------------------------------------------------------ one entity
    # Live merges lock the same rows.
    @retry(retry=retry_if_exception_type(Contended), stop=stop_after_attempt(10), wait=wait_fixed(0.5), reraise=True)
    def compare(self, entity: str, scope: Scope) -> Compared:
        """Compare one entity; differences are kept in the hub for `repair`. Raises `TransientError` when something does not answer."""
        begun = time.monotonic()
        one_entity = OneEntity(self, entity)
        result = one_entity.result
        one_entity.look(scope)
        one_entity.settle()
        if scope.is_everything:
            one_entity.digests()
        one_entity.keep(scope)
        result.seconds = time.monotonic() - begun
        return result


class OneEntity:
    """The comparison of one entity of one system."""

    def __init__(self, comparison: Comparison, entity: str) -> None:
        self.whole, self.entity = comparison, entity
        settings, system = comparison.settings, comparison.system
        party, contract = settings.systems[system], settings.contract_of(system)
        with transaction(comparison.reader) as cursor:
            found = one(cursor, "SELECT to_regclass('lienthong.applied') IS NOT NULL")
            self.holding = Holding(cursor, settings.profile_of(system), entity, has_applied=bool(found and found[0]))
        is_written = party.apply and contract is not None and self._is_open(party.capture)
        terms = [t for t in terms_of(settings).get(entity, ()) if t.system == system] if is_written else []
        writable = frozenset(self.holding.layout.writable()) if is_written else frozenset()
        self.side = HubSide(system, entity, terms)
        self.judge = Judge(system, comparison.authority, party.capture != "none", terms, writable)
        self.result = Compared(system, entity)
        self._suspects: dict[tuple[str | None, int | None], Looked] = {}
        self._waiting: dict[tuple[str | None, int | None], Looked] = {}
        self._confirmed: list[Looked] = []
        self._planned = 0

    def _is_open(self, capture: str) -> bool:
        """Nothing is delivered to a system before its own records are known (docs/decisions/0005)."""
        if capture == "none":
            return True
        with transaction(self.whole.notes) as cursor:
            return one(cursor, "SELECT 1 FROM hub.setting WHERE name = %s", [f"open {self.whole.system}"]) is not None

    # ------------------------------------------------------------ first look
    def look(self, scope: Scope) -> None:
        """Judge everything in the scope that may be different."""
        if scope.full:
            with transaction(self.whole.notes) as cursor:
                cursor.execute("DELETE FROM hub.proof WHERE system = %s AND entity = %s", [self.whole.system, self.entity])
        if scope.is_named:
            self._look_at([*((key, None) for key in scope.keys), *((None, record) for record in scope.records)])
            return
        if scope.is_everything:
            self._look_there()
        with transaction(self.whole.hub) as cursor:
            self._look_at(self.side.changed(cursor, scope.since))

    def _look_there(self) -> None:
        """Whatever the system's own rows show: sums of buckets first, keys of unequal ones, rows of unequal keys."""
        if not self.holding.is_whole:
            with transaction(self.whole.there) as cursor:
                self._look_at((key, None) for key in self.holding.every_key(cursor))
            return
        with transaction(self.whole.there) as cursor:
            cursor.execute("SET LOCAL jit = off")
            here = self.holding.sums(cursor)
        with transaction(self.whole.notes) as cursor:
            proved = self.side.sums(cursor)
        self.result.rows = sum(count for count, _ in here.values())
        unequal = sorted(bucket for bucket in here.keys() | proved.keys() if here.get(bucket) != proved.get(bucket))
        sizes = {bucket: here.get(bucket, (0, 0))[0] + proved.get(bucket, (0, 0))[0] for bucket in unequal}
        self._planned = sum(max(here.get(bucket, (0, 0))[0], proved.get(bucket, (0, 0))[0]) for bucket in unequal)
        for part in _parts(unequal, sizes):
            self._look_into(part)

    def _look_into(self, buckets: Sequence[int]) -> None:
        with transaction(self.whole.notes) as cursor:
            proved = self.side.proved(cursor, buckets)

        def unproved() -> Iterator[tuple[str | None, int | None]]:
            with transaction(self.whole.there) as cursor:
                for key, digest in self.holding.listed(cursor, buckets):
                    if proved.pop(key, None) != digest:
                        yield key, None
            yield from ((key, None) for key in proved)  # rows that were there

        self._look_at(unproved())

    def _look_at(self, places: Iterable[tuple[str | None, int | None]]) -> None:
        for part in _slices(places):
            keys = [key for key, _ in part if key is not None]
            for looked in self._judged(keys, [record for _, record in part if record is not None]):
                if looked.verdict.findings:
                    self._suspects[looked.place] = looked

    # ------------------------------------------------------------ looking again
    def settle(self) -> None:
        """Look again at every suspect behind a fence: reported is what has not moved on either side and is still different."""
        for _ in range(ROUNDS):
            if not self._suspects:
                return
            fence = Fence(self.whole.settings, self.whole.system, self.whole.notes, self.whole.wait_seconds, self.whole.told)
            fence.wait()
            before, self._suspects = self._suspects, {}
            for part in _slices(before):
                for looked in self._judged([key for key, _ in part if key is not None], [record for _, record in part if record is not None]):
                    if not looked.verdict.findings:
                        continue
                    if looked.place in before and before[looked.place].token == looked.token:
                        self._confirmed.append(looked)
                    else:
                        self._suspects[looked.place] = looked
        self.result.unsettled = len(self._suspects)

    # ------------------------------------------------------------ judging
    def _judged(self, keys: Sequence[str], records: Sequence[int]) -> list[Looked]:
        """Read both sides of some records, judge them, and remember those that are equal."""
        whole, side, holding = self.whole, self.side, self.holding
        with transaction(whole.notes) as cursor:
            places: dict[str, int | None] = dict.fromkeys(keys) | side.keys_of(cursor, keys, records)
        with transaction(whole.reader) as cursor:
            wanted = {*records, *(record for record in places.values() if record is not None)}
            applied = holding.applied(cursor, list(places), list(wanted))
        places |= {a.key: a.record for a in applied if a.key is not None and places.get(a.key) is None}
        wanted |= {record for record in places.values() if record is not None}
        with snapshot(whole.notes) as cursor:
            known = side.know(cursor, list(places), list(wanted))
        with snapshot(whole.reader) as cursor:
            held = holding.held(cursor, list(places))
            known.parent_keys = holding.parents(cursor, list(known.parents)) | known.parent_keys
            parked = holding.parked(cursor, list(wanted)) if self.judge.writable else set()
        by_key, by_record = _applied(applied)
        cases = [self._case(known, key, record, held.get(key), by_key.get(key) or by_record.get(record or 0)) for key, record in places.items()]
        named = {record for record in places.values() if record is not None}
        cases += [self._case(known, None, record, None, by_record.get(record)) for record in sorted(wanted - named)]
        return self._remember(cases, parked)

    def _case(self, known: Known, key: str | None, record: int | None, held: Any, applied: Applied | None) -> Case:
        word = known.words.get(key) if key is not None else None
        record = word.record if word is not None else record
        golden = known.golden.get(record) if record is not None else None
        parent = golden.parent if golden is not None else None
        return Case(
            self.entity, key, held, applied, word, golden,
            known.parents.get(parent) if parent is not None else None, known.parent_keys.get(parent) if parent is not None else None,
            known.said.get(record, ()) if record is not None else (), known.sent.get(record) if record is not None else None,
            known.proofs.get(key) if key is not None else None, key in known.refused,
            golden_digest=known.digests.get(record) if record is not None else None, is_kept=key in known.kept,
        )  # fmt: skip

    def _remember(self, cases: Sequence[Case], parked: set[int]) -> list[Looked]:
        out, proofs = [], []
        for case in cases:
            verdict = self.judge.judge(case, parked)
            record = case.golden.record if case.golden is not None else case.word.record if case.word is not None else None
            held = case.held
            token = (held.local if held else None, case.word.digest if case.word else None, case.golden_digest)
            looked = Looked(case, record, token, verdict)
            out.append(looked)
            self._waiting.pop(looked.place, None)
            if verdict.is_equal and case.key is not None:
                proofs.append((case.key, record, held.bucket if held else 0, *token, verdict.due))
            if verdict.explained is not None:
                self._waiting[looked.place] = looked
        with transaction(self.whole.notes) as cursor:
            self.side.prove(cursor, proofs)
        self.result.read += len(cases)
        self.whole.progress(self.entity, self.result.read, max(self._planned, self.result.read))
        return out

    # ------------------------------------------------------------ the result
    def digests(self) -> None:
        """The digests of what the party is entitled to and of what it holds: equal when nothing differs and nothing waits."""
        others = {looked.place: looked for looked in (*self._waiting.values(), *self._suspects.values(), *self._confirmed)}
        with transaction(self.whole.notes) as cursor:
            count, total = self.side.digest(cursor, [key for key, _ in others if key is not None])
        entitled, held = SetDigest(count, total % (1 << BITS)), SetDigest(count, total % (1 << BITS))
        for looked in others.values():
            for side, digest in ((entitled, looked.verdict.due), (held, looked.verdict.held)):
                if digest is not None:
                    side.add(digest)
        self.result.entitled, self.result.held = entitled, held

    def keep(self, scope: Scope) -> None:
        """Put what was found in place of what an earlier comparison has found."""
        result = self.result
        result.explained = Counter(looked.verdict.explained or "" for looked in self._waiting.values())
        result.kept = result.explained.pop(KEPT, 0)
        result.differences = [self._difference(looked, finding) for looked in self._confirmed for finding in looked.verdict.findings]
        with transaction(self.whole.notes) as cursor:
            if scope.is_everything:
                cursor.execute("DELETE FROM hub.difference WHERE system = %s AND entity = %s", [result.system, result.entity])
            else:
                found = [*scope.records, *(d.record for d in result.differences if d.record is not None)]
                cursor.execute(
                    "DELETE FROM hub.difference WHERE system = %s AND entity = %s AND (local_key = ANY(%s) OR record = ANY(%s))",
                    [result.system, result.entity, list(scope.keys) + [d.key for d in result.differences if d.key is not None], found],
                )
            for d in result.differences:
                cursor.execute(
                    "INSERT INTO hub.difference (system, entity, local_key, record, hop, kind, fields) VALUES (%s, %s, %s, %s, %s, %s, %s)",
                    [d.system, d.entity, d.key, d.record, d.hop, d.kind, list(d.fields)],
                )

    def _difference(self, looked: Looked, finding: Finding) -> Difference:
        return Difference(self.whole.system, self.entity, looked.case.key, looked.record, finding.hop, finding.kind, finding.fields)


def _applied(applied: Iterable[Applied]) -> tuple[dict[str, Applied], dict[int, Applied]]:
    """By local key and by record; of two under one key the one whose row it is."""
    ordered = sorted(applied, key=lambda a: (a.state == "applied", a.version))
    return {a.key: a for a in ordered if a.key is not None}, {a.record: a for a in ordered}


def _slices(places: Iterable[Any]) -> Iterator[list[Any]]:
    source = iter(places)
    while part := list(islice(source, SLICE)):
        yield part


def _parts(buckets: Sequence[int], sizes: dict[int, int]) -> Iterator[list[int]]:
    """Buckets together as long as their keys fit into memory."""
    part: list[int] = []
    size = 0
    for bucket in buckets:
        if part and size + sizes[bucket] > ROWS_AT_ONCE:
            yield part
            part, size = [], 0
        part.append(bucket)
        size += sizes[bucket]
    if part:
        yield part
