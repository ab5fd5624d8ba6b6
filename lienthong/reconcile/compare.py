"""One system against the hub, in both directions: find what changed since it was proved equal, read that, judge it, look again."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import blake2b

import orjson
from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_fixed

import schemas
from connectors.postgres import Connection, Contended, connect, one, rows, transaction
from lienthong import __version__
from lienthong.authority import Authority
from lienthong.contracts import terms_of
from lienthong.digest import BITS, SetDigest
from lienthong.errors import ConfigError
from lienthong.reconcile.fence import Fence
from lienthong.reconcile.held import Holding
from lienthong.reconcile.hubside import HubSide
from lienthong.reconcile.judge import KEPT, Finding, Judge
from lienthong.reconcile.look import Looked, Looker, Place, look_at
from lienthong.settings import Settings

ROWS_AT_ONCE = 2_000_000  # whose keys are kept in memory while their buckets are gone through
ROUNDS = 5  # looks at a difference that moves, before it is called unsettled
Progress = Callable[[str, int, int], None]  # entity, records done, records planned


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
        self._pairs = [(self.notes, self.reader)]
        self._follow_rules()

    def _open(self, dsn: str) -> Connection:
        connection = connect(dsn, application_name=f"lienthong reconcile {self.system}")
        self._opened.append(connection)
        return connection

    def pair(self, number: int) -> tuple[Connection, Connection]:
        """The connections of one that looks at records, to the hub and to the system; those of the first are `notes` and `reader`."""
        while len(self._pairs) <= number:
            self._pairs.append((self._open(self.settings.hub.dsn), self._open(self.settings.dsn_of(self.system))))
        return self._pairs[number]

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
        is_written = party.apply and contract is not None and self._is_open(party.capture)
        terms = [t for t in terms_of(settings).get(entity, ()) if t.system == system] if is_written else []
        self.side = HubSide(system, entity, terms)
        self.holding = self._holding(comparison.reader)
        writable = frozenset(self.holding.layout.writable()) if is_written else frozenset()
        self.judge = Judge(system, comparison.authority, party.capture != "none", terms, writable)
        self._is_first = False
        self.first = self._looker(0)
        self.result = Compared(system, entity)
        self._suspects: dict[Place, Looked] = {}
        self._waiting: dict[Place, Looked] = {}
        self._confirmed: list[Looked] = []
        self._planned = 0

    def _holding(self, connection: Connection) -> Holding:
        settings, system = self.whole.settings, self.whole.system
        with transaction(connection) as cursor:
            found = one(cursor, "SELECT to_regclass('lienthong.applied') IS NOT NULL")
            return Holding(cursor, settings.profile_of(system), self.entity, has_applied=bool(found and found[0]))

    def _looker(self, number: int) -> Looker:
        hub, there = self.whole.pair(number)
        holding = self._holding(there) if number else self.holding
        holding.expect(is_captured=self.judge.is_captured, withheld=self.judge.withheld())
        return Looker(hub, there, self.side, holding, self.judge, self._is_first)

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
        with transaction(self.whole.notes) as cursor:
            self.first.is_first = self._is_first = self.side.is_new(cursor)
        if scope.is_named:
            self._look_at([*((key, None) for key in scope.keys), *((None, record) for record in scope.records)])
            return
        if scope.is_everything:
            self._look_there()
        with transaction(self.whole.hub) as cursor:
            self._look_at(self.side.changed(cursor, scope.since))

    def _look_there(self) -> None:
        """Whatever the system's own rows show: sums of buckets first, keys of unequal ones, rows of unequal keys."""
        if self._is_first or not self.holding.is_whole:
            with transaction(self.whole.there) as cursor:
                self._planned = count = self.holding.count(cursor)
                self.result.rows = count if self.holding.is_whole else 0
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

        def unproved() -> Iterator[Place]:
            with transaction(self.whole.there) as cursor:
                for key, digest in self.holding.listed(cursor, buckets):
                    if proved.pop(key, None) != digest:
                        yield key, None
            yield from ((key, None) for key in proved)  # rows that were there

        self._look_at(unproved())

    def _look_at(self, places: Iterable[Place], *, closely: bool = False) -> None:
        for seen in look_at(places, self.first, self._looker, closely=closely):
            for place in seen.equal if self._waiting else ():
                self._waiting.pop(place, None)
            for looked in seen.others:
                self._note(looked)
            self.result.read += seen.count
            self.whole.progress(self.entity, self.result.read, max(self._planned, self.result.read))

    def _note(self, looked: Looked) -> None:
        """What is different is looked at again; what is explained waits for somebody."""
        self._waiting.pop(looked.place, None)
        if looked.verdict.explained is not None:
            self._waiting[looked.place] = looked
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
            self._look_at(before, closely=True)
            still = [looked for place, looked in self._suspects.items() if place in before and before[place].token == looked.token]
            for looked in still:
                self._confirmed.append(self._suspects.pop(looked.place))
        self.result.unsettled = len(self._suspects)

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
