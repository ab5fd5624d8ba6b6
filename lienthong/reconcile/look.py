"""Looking at records: both sides read, judged, and remembered when they are equal; several slices at once.

A row is looked at plainly first: with what is enough to find it equal and not enough to say what is wrong. What is not found equal so,
and what has no row, is looked at closely, with everything that is known; only that look finds differences.
"""

from __future__ import annotations

import gc
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain, islice
from queue import SimpleQueue

from connectors.postgres import Connection, snapshot, transaction
from lienthong.mapping import Refusal
from lienthong.reconcile.held import Applied, Held, Holding
from lienthong.reconcile.hubside import HubSide, Known
from lienthong.reconcile.judge import Case, Judge, Verdict

SLICE = 2000
LOOKERS = 3
"""While one judges, the databases answer the others: more would only wait for each other."""

COLLECT_AFTER = 500_000  # objects, about ten slices
Place = tuple[str | None, int | None]  # local key and record, of which one may be unknown
Token = tuple[int | None, int | None, int | None]  # what a record looked like on both sides


@dataclass(frozen=True, slots=True)
class Looked:
    """One record as judged."""

    case: Case
    record: int | None
    token: Token
    verdict: Verdict

    @property
    def place(self) -> Place:
        """What it is called by."""
        return self.case.key, self.record


@dataclass(slots=True)
class Seen:
    """What came of one slice: what is equal, by its place, and everything else."""

    equal: list[Place] = field(default_factory=list)
    others: list[Looked] = field(default_factory=list)

    @property
    def count(self) -> int:
        """How many records were looked at."""
        return len(self.equal) + len(self.others)


@dataclass(slots=True)
class Looker:
    """Looks at slices, one after the other, over its own connections to the hub and to the system."""

    hub: Connection
    there: Connection
    side: HubSide
    holding: Holding
    judge: Judge
    is_first: bool = False  # nothing was remembered when the comparison began

    def look(self, places: Sequence[Place], *, closely: bool = False) -> Seen:
        """Judge some records and remember what is equal; `closely` leaves the plain look out."""
        seen = Seen()
        keys = list(dict.fromkeys(key for key, _ in places if key is not None))
        records = [record for _, record in places if record is not None]
        cases = [] if closely or not keys else self._plain(keys)
        self._remember([(case, self.judge.judge(case)) for case in cases], seen, only_equal=True)
        done_keys, done_records = {key for key, _ in seen.equal}, {record for _, record in seen.equal}
        keys = [key for key in keys if key not in done_keys]
        records = [record for record in records if record not in done_records]
        if keys or records:
            cases, parked = self._close(keys, records)
            self._remember([(case, self.judge.judge(case, parked)) for case in cases], seen)
        return seen

    # ------------------------------------------------------------ plainly
    def _plain(self, keys: Sequence[str]) -> list[Case]:
        """The rows under some local keys of which it is clear which records they are, each with what can tell that it is equal."""
        with snapshot(self.there) as cursor:
            found = self.holding.plain(cursor, keys)
        wanted, times = set(keys), Counter(held.key for held, _ in found)
        found = [(h, a) for h, a in found if h.key in wanted and times[h.key] == 1 and not h.gone and not isinstance(h.values, Refusal)]
        with snapshot(self.hub) as cursor:
            own = self.side.own_records(cursor, [held.key for held, _ in found])
            record_of = {held.key: own.get(held.key) or (applied.record if applied is not None else None) for held, applied in found}
            known = self.side.seen(cursor, list({record for record in record_of.values() if record is not None}))
        unclear = self._unclear(found, record_of)
        self._find_parents(known)
        entity = self.side.entity
        return [case_of(entity, known, h.key, record_of[h.key], h, a) for h, a in found if h.key not in unclear]

    def _unclear(self, found: Sequence[tuple[Held, Applied | None]], record_of: dict[str, int | None]) -> set[str]:
        """The local keys of rows that the applier, the system and the hub do not take for the same record."""
        alone = [held.key for held, applied in found if applied is None]
        others = {held.key: r for held, applied in found if (r := record_of[held.key]) is not None and (applied is None or applied.record != r)}
        if not alone and not others:
            return set()
        with transaction(self.there) as cursor:
            keys, records = self.holding.known_to(cursor, alone, list(others.values()))
        return {key for key in alone if key in keys} | {key for key, record in others.items() if record in records}

    def _find_parents(self, known: Known) -> None:
        if known.parents and not self.judge.is_captured:
            with transaction(self.there) as cursor:
                known.parent_keys = self.holding.parents(cursor, list(known.parents)) | known.parent_keys

    # ------------------------------------------------------------ closely
    def _close(self, keys: Sequence[str], records: Sequence[int]) -> tuple[list[Case], set[int]]:
        """Some records with everything that is known about them, also under other keys, and those that the target has refused."""
        side, holding = self.side, self.holding
        with transaction(self.hub) as cursor:
            places: dict[str, int | None] = dict.fromkeys(keys) | side.keys_of(cursor, keys, records)
        with transaction(self.there) as cursor:
            wanted = {*records, *(record for record in places.values() if record is not None)}
            applied = holding.applied(cursor, list(places), list(wanted))
        places |= {a.key: a.record for a in applied if a.key is not None and places.get(a.key) is None}
        wanted |= {record for record in places.values() if record is not None}
        with snapshot(self.hub) as cursor:
            known = side.know(cursor, list(places), list(wanted))
        with snapshot(self.there) as cursor:
            held = holding.held(cursor, list(places))
            known.parent_keys = holding.parents(cursor, list(known.parents)) | known.parent_keys
            parked = holding.parked(cursor, list(wanted)) if self.judge.writable else set()
        by_key, by_record = _applied(applied)
        entity, named = side.entity, {record for record in places.values() if record is not None}
        cases = [case_of(entity, known, key, record, held.get(key), by_key.get(key) or by_record.get(record or 0)) for key, record in places.items()]
        cases += [case_of(entity, known, None, record, None, by_record.get(record)) for record in sorted(wanted - named)]
        return cases, parked

    # ------------------------------------------------------------ remembering
    def _remember(self, judged: Iterable[tuple[Case, Verdict]], seen: Seen, *, only_equal: bool = False) -> None:
        proofs = []
        for case, verdict in judged:
            word, held = case.word, case.held
            record = case.golden.record if case.golden is not None else word.record if word is not None else None
            token = (held.local if held else None, word.digest if word else None, case.golden_digest)
            if not verdict.is_equal:
                if not only_equal:
                    seen.others.append(Looked(case, record, token, verdict))
                continue
            seen.equal.append((case.key, record))
            if case.key is not None:
                proofs.append((case.key, record, held.bucket if held else 0, *token, verdict.due))
        if proofs:
            with transaction(self.hub) as cursor:
                self.side.prove(cursor, proofs, is_first=self.is_first)


def look_at(places: Iterable[Place], first: Looker, another: Callable[[int], Looker], *, closely: bool = False) -> Iterator[Seen]:
    """Look at places in slices; when there is more than one, with several lookers at once, each of which `another` makes by its number."""
    slices = _slices(places)
    begun = list(islice(slices, 2))
    if len(begun) < 2:
        yield from (first.look(part, closely=closely) for part in begun)
        return
    free: SimpleQueue[Looker] = SimpleQueue()
    for looker in (first, *(another(number) for number in range(1, LOOKERS))):
        free.put(looker)

    def work(part: Sequence[Place]) -> Seen:
        looker = free.get()
        try:
            return looker.look(part, closely=closely)
        finally:
            free.put(looker)

    with _few_collections(), ThreadPoolExecutor(LOOKERS, thread_name_prefix="look") as pool:
        under_way: deque[Future[Seen]] = deque()
        try:
            for part in chain(begun, slices):
                under_way.append(pool.submit(work, part))
                if len(under_way) > LOOKERS:
                    yield under_way.popleft().result()
            while under_way:
                yield under_way.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


@contextmanager
def _few_collections() -> Iterator[None]:
    """A slice is thousands of small objects without cycles: looking through all of them again and again would take a fourth of the time."""
    before = gc.get_threshold()
    gc.set_threshold(COLLECT_AFTER, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _slices(places: Iterable[Place]) -> Iterator[list[Place]]:
    source = iter(places)
    while part := list(islice(source, SLICE)):
        yield part


def case_of(entity: str, known: Known, key: str | None, record: int | None, held: Held | None, applied: Applied | None) -> Case:
    """Everything that is known about one record under one local key."""
    word = known.words.get(key) if key is not None else None
    record = word.record if word is not None else record
    golden = known.golden.get(record) if record is not None else None
    parent = golden.parent if golden is not None else None
    return Case(
        entity, key, held, applied, word, golden,
        known.parents.get(parent) if parent is not None else None, known.parent_keys.get(parent) if parent is not None else None,
        known.said.get(record, ()) if record is not None else (), known.sent.get(record) if record is not None else None,
        known.proofs.get(key) if key is not None else None, key in known.refused,
        golden_digest=known.digests.get(record) if record is not None else None, is_kept=key in known.kept,
    )  # fmt: skip


def _applied(applied: Iterable[Applied]) -> tuple[dict[str, Applied], dict[int, Applied]]:
    """By local key and by record; of two under one key the one whose row it is."""
    ordered = sorted(applied, key=lambda a: (a.state == "applied", a.version))
    return {a.key: a for a in ordered if a.key is not None}, {a.record: a for a in ordered}
