"""The merge: contributions of all systems become one golden record each, in one transaction per batch (design §3, protocol B6, B7).

Order: offsets → identifiers → lock the records → contributions → in a new statement fold → golden records, history, change list.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import schemas
from connectors.avro import DamagedError
from connectors.kafka import Message
from connectors.postgres import Connection, Cursor, transaction
from lienthong import corrections, golden, hub, links, parked, parked_hold, probe, reused, sets, sole, steps
from lienthong.authority import Authority, Golden, Said, fold
from lienthong.batch import Batch, Item, Key, contribution_of, newest, read_messages
from lienthong.errors import TransientError
from lienthong.frames import DELETE, STATE, Entry
from lienthong.hub import Known, Row
from lienthong.identity import claim_of
from lienthong.settings import Settings


class Merger:
    """Merges batches of `lienthong.in` into the hub."""

    def __init__(self, settings: Settings, connection: Connection) -> None:
        self.settings = settings
        self.connection = connection
        self.authority = Authority(settings)
        self._ids = hub.Ids()
        self._static: dict[tuple[str, str, int], bool] = {}
        self._imaged = frozenset(system for system in settings.systems if _has_imaged_steps(settings, system))
        self._expects_links = False
        self._most_is_known = False

    def merge(self, messages: Sequence[Message], moves: Mapping[tuple[str, int], tuple[int | None, int]], released: Sequence[int] = ()) -> Batch:
        """Merge the messages and move the offsets, all or nothing; raises `FencedError` when another process was faster.

        `released`: numbers of the parked entries that the messages are, where they waited behind a refused one (`lienthong.parked_hold`).
        """
        alone, self._expects_links = self._expects_links, False
        try:
            return self._merge(messages, moves, released, alone=alone)
        except hub.CrowdedError:
            return self._merge(messages, moves, released, alone=True)

    def _merge(
        self, messages: Sequence[Message], moves: Mapping[tuple[str, int], tuple[int | None, int]], released: Sequence[int], *, alone: bool
    ) -> Batch:
        entries, batch = read_messages(messages)
        with transaction(self.connection) as cursor:
            hub.enter(cursor, alone=alone)
            hub.move_offsets(cursor, moves)
            if released:
                parked_hold.let_go(cursor, released)
            latest = newest(self._free(cursor, [*entries, *steps.events(cursor, batch.notes)], batch), batch)
            known = self._look(cursor, batch, latest)
            self._complete_sets(cursor, batch, latest, known)
            batch.items = self._items(latest, known, batch)
            reused.part(cursor, [item for item in batch.items if item.entry.parent is None or item.entry.record is not None], batch)
            self._own_words(cursor, batch.items)
            self._identify(cursor, batch, known)
            self._store(cursor, batch)
            parked.from_batch(cursor, batch, self.settings.parking)
            if batch.held:
                parked_hold.park(cursor, batch, self.settings.kafka.partitions)
            hub.note_loaded(cursor, [n for n in batch.notes if n.header.kind == "load_complete"])
            hub.count(cursor, batch.counts, batch.readings)
            probe.merged(cursor, batch.notes)
        return batch

    def _free(self, cursor: Cursor, entries: list[Entry], batch: Batch) -> list[Entry]:
        """What waits behind nothing: everything, where the policy of no entity is `hold`."""
        return parked_hold.keep_back(cursor, self.settings.parking, entries, batch) if self.settings.parking.any_holds() else entries

    # ------------------------------------------------------------ what is known already
    def _look(self, cursor: Cursor, batch: Batch, latest: dict[Key, Entry]) -> dict[Key, Known]:
        """Store what one statement can, and look up the rest. Where most is new, as in a load, it is all looked up first."""
        asked = len(latest)
        known = {} if self._most_is_known else self._known(cursor, latest)
        if self._imaged:
            looked = (e for key, e in latest.items() if e.entity == "dossier" and e.op == STATE and e.system in self._imaged)
            steps.keep(cursor, [e for e in looked if self._most_is_known or (e.system, e.entity, e.key) in known])
        sole.store(cursor, batch, latest, self._is_static, list(latest if self._most_is_known else latest.keys() & known.keys()))
        if self._most_is_known:
            known = self._known(cursor, latest)
        self._most_is_known = 2 * (len(batch.stored) + len(latest.keys() & known.keys())) > asked
        return known

    def _known(self, cursor: Cursor, latest: Mapping[Key, Entry]) -> dict[Key, Known]:
        """What the hub knows of source records and of those above them, which may come in another batch."""
        keys = dict.fromkeys(latest)
        for (system, entity, _), entry in latest.items():
            if entry.parent is not None:
                keys.setdefault((system, _parent_entity(entity), entry.parent))
        return hub.existing(cursor, list(keys))

    def _complete_sets(self, cursor: Cursor, batch: Batch, latest: dict[Key, Entry], known: dict[Key, Known]) -> None:
        """A set names all children of a root: those under it that are not named are gone at the source."""
        ended = self._free(cursor, sets.missing(cursor, self.settings.parking, batch, latest), batch)
        for entry in ended:
            latest[entry.system, entry.entity, entry.key] = entry
            batch.counts[entry.at, entry.system, entry.entity, "captured"] += 1
        if ended:
            known.update(self._known(cursor, {(entry.system, entry.entity, entry.key): entry for entry in ended}))

    def _items(self, latest: Mapping[Key, Entry], known: Mapping[Key, Known], batch: Batch) -> list[Item]:
        items = []
        for key, entry in latest.items():
            had = known.get(key)
            if had is not None and had.op != "p" and (entry.epoch, entry.version) <= (had.epoch, had.version):
                same = (entry.epoch, entry.version) == (had.epoch, had.version)
                batch.counts[entry.at, entry.system, entry.entity, "duplicate" if same else "older"] += 1
                continue
            try:
                values = entry.values() if entry.op == STATE else {}
            except DamagedError as error:
                batch.notes.append(parked.unreadable(entry, error))
                batch.counts[entry.at, entry.system, entry.entity, "captured"] -= 1
                continue
            items.append(Item(entry, had, values))
        return items

    def _own_words(self, cursor: Cursor, items: Sequence[Item]) -> None:
        """Of rows that we have written to, only what their system says itself goes on."""
        ours = [item for item in items if item.entry.edited is not None]
        before = hub.bodies(cursor, [item.key for item in ours if item.known is not None and item.known.mask])
        for item in ours:
            if item.key in before:
                item.before = before[item.key]
            item.values = _own_values(item)

    # ------------------------------------------------------------ identity
    def _identify(self, cursor: Cursor, batch: Batch, known: dict[Key, Known]) -> None:
        """Give every item its record, parents before children."""
        seen: dict[Key, Item] = {}
        roots = [item for item in batch.items if item.entry.parent is None]
        self._assign(cursor, roots, batch, seen)
        children = [item for item in batch.items if item.entry.parent is not None]
        promised: dict[Key, int] = {}
        for item in children:
            item.parent = self._parent(cursor, item, seen, known, promised)
        links.follow_parents(cursor, children)
        reused.part(cursor, children, batch)
        self._assign(cursor, children, batch, seen)
        hub.promise(cursor, [_promise(key, record) for key, record in promised.items()])

    def _parent(self, cursor: Cursor, item: Item, seen: Mapping[Key, Item], known: Mapping[Key, Known], promised: dict[Key, int]) -> int:
        key = (item.entry.system, _parent_entity(item.entry.entity), item.entry.parent or "")
        if key in seen:
            return seen[key].record
        if key in known:
            return known[key].record
        if key not in promised:
            promised[key] = self._ids.draw(cursor)  # the child came first: its parent will find its place here
        return promised[key]

    def _assign(self, cursor: Cursor, items: Sequence[Item], batch: Batch, seen: dict[Key, Item]) -> None:
        wanted: dict[str, int] = {}
        held: dict[str, Item] = {}
        contested: list[tuple[Item, int]] = []
        for item in items:
            seen[item.key] = item
            entry = item.entry
            if item.known is not None and item.known.op == "p" and entry.record not in (None, item.known.record):
                batch.again |= links.keep_promise(cursor, int(entry.record or 0), item.known.record)
                item.record = int(entry.record or 0)
            elif item.known is not None:
                item.record = item.known.record
            elif entry.record is not None:
                item.record = entry.record
            item.claim = claim_of(entry.entity, item.values, item.parent) if entry.op == STATE else _claim_before(item)
            if not item.record:
                item.record, item.fresh = self._ids.draw(cursor), True
            if item.claim is None or (item.known is not None and item.known.claim == item.claim):
                continue
            if item.claim in held:
                contested.append((item, held[item.claim].record))
                continue
            held[item.claim] = item
            wanted[item.claim] = item.record
        given_up = _given_up(items)
        if given_up:
            self._stay_alone(cursor)
            hub.release(cursor, given_up)
        taken = hub.claim(cursor, wanted)
        contested = [(item, taken.get(item.claim or "", holder)) for item, holder in contested]
        contested += [(held[claim], holder) for claim, holder in taken.items()]
        if contested:
            self._stay_alone(cursor)
            links.settle(cursor, contested, batch)

    def _stay_alone(self, cursor: Cursor) -> None:
        """What belongs together is found out by one merge at a time: records and identifiers are locked in the order of the findings there.

        The next batch probably needs it too, so it begins alone.
        """
        self._expects_links = True
        hub.stay_alone(cursor)

    # ------------------------------------------------------------ contributions, fold, golden records
    def _store(self, cursor: Cursor, batch: Batch) -> None:
        by_record: dict[int, list[Item]] = defaultdict(list)
        for item in batch.items:
            by_record[item.record].append(item)
        old = hub.lock(cursor, [record for record, items in by_record.items() if not all(i.fresh for i in items)])
        for record in [r for r, row in old.items() if row.merged_into is not None]:
            links.follow(cursor, record, by_record, old)
        self._contribute(cursor, batch, by_record)
        hub.note_changed(cursor, golden.removals_again(cursor, _children_gone(batch.items)))
        batch.rerouted += self._fold_all(cursor, batch, by_record, old)
        batch.again |= golden.children_of(cursor, batch.rerouted)
        golden.fold_again(cursor, self.authority, batch.again - by_record.keys())
        golden.fold_again(cursor, self.authority, links.try_again(cursor, _let_go(batch.items)))
        links.close_answered(cursor)

    def _contribute(self, cursor: Cursor, batch: Batch, by_record: Mapping[int, Sequence[Item]]) -> None:
        """Store what the items say, each only over something older."""
        known = [contribution_of(item) for item in batch.items if item.known is not None]
        fresh = [
            contribution_of(item, whole=item.fresh and len(by_record[item.record]) == 1 and self._is_whole(item))
            for item in batch.items
            if item.known is None
        ]
        stored = hub.put_contributions(cursor, known)
        hub.add_contributions(cursor, fresh)
        reused.end(cursor, batch.items)
        if stored != len(known):
            raise TransientError("a newer contribution was stored meanwhile; the batch is merged again")

    def _fold_all(self, cursor: Cursor, batch: Batch, by_record: Mapping[int, Sequence[Item]], old: Mapping[int, Row]) -> list[int]:
        """Fold and store the records of a batch; returns those whose roles have changed."""
        others = self._others(cursor, by_record, old)
        parents = {record: _parent_of(items, old.get(record)) for record, items in by_record.items()}
        routing = self._routing(cursor, by_record, parents, others)
        new_rows, changed, rerouted = [], [], []
        for record in sorted(by_record, key=lambda r: parents[r] is not None):  # a dossier before what is under it: it gives the roles
            items, before, parent = by_record[record], old.get(record), parents[record]
            folded, only = self._fold(items, before, others.get(record, []), routing.get(parent or 0))
            if record in routing:
                routing[record] = folded.values
            if golden.is_rerouted(before, folded):
                rerouted.append(record)
            changed += corrections.keep(cursor, batch, items, folded)
            outcome = "unchanged" if _is_unchanged(before, folded, only, parent) else "merged"
            if outcome == "merged":
                new_rows.append(golden.row_of(record, items[0].entry.entity, parent, folded, only, before))
                changed.append((record, 0, None, max(item.entry.at for item in items)))
            for item in items:
                batch.counts[item.entry.at, item.entry.system, item.entry.entity, outcome] += 1
        _write(cursor, by_record, old, new_rows)
        hub.note_changed(cursor, changed)
        return rerouted

    def _others(self, cursor: Cursor, by_record: Mapping[int, Sequence[Item]], old: Mapping[int, Row]) -> dict[int, list[Said]]:
        """The stored contributions of the records that have more of them than this batch brings."""
        wanted = []
        for record, items in by_record.items():
            before = old.get(record)
            if before is None:
                is_whole = all(item.fresh for item in items)
            else:
                is_whole = before.sole is not None and [item.entry.system for item in items] == [before.sole]
            if not is_whole:
                wanted.append(record)
        return golden.said_of(cursor, wanted) if wanted else {}

    def _routing(
        self, cursor: Cursor, by_record: Mapping[int, Sequence[Item]], parents: Mapping[int, int | None], others: Mapping[int, Sequence[Said]]
    ) -> dict[int, dict[str, Any]]:
        """The routing of the dossiers whose children need it: several systems speak, or one that has a say by its role only."""
        wanted = {
            parent
            for record, parent in parents.items()
            if parent is not None and (record in others or len(by_record[record]) > 1 or not self._is_static(by_record[record][0].entry))
        }
        return dict.fromkeys(wanted, {}) | hub.routing_of(cursor, sorted(wanted))

    def _is_static(self, entry: Entry) -> bool:
        """Whether the system has a say in all it speaks about, whatever the date and the roles: then its word alone is the fold."""
        key = (entry.system, entry.entity, entry.mask)
        if key not in self._static:
            self._static[key] = self.authority.always_has_say(*key)
        return self._static[key]

    def _is_whole(self, item: Item) -> bool:
        """Whether the word of a record's only contributor is the golden record as it stands."""
        return item.entry.op == STATE and self._is_static(item.entry)

    def _fold(self, items: Sequence[Item], before: Row | None, others: list[Said], routing: Mapping[str, Any] | None) -> tuple[Golden, str | None]:
        item = items[0]
        if not others and len(items) == 1:
            if self._is_whole(item):
                return Golden(item.values, {}, False), item.entry.system
            return fold(self.authority, item.entry.entity, [_said(item)], routing), item.entry.system
        said = others or [_said(i) for i in items]
        return fold(self.authority, item.entry.entity, said, routing), said[0].system if len(said) == 1 else None


def _has_imaged_steps(settings: Settings, system: str) -> bool:
    """Whether the steps of its dossiers are made from images of their rows."""
    if settings.systems[system].profile is None:
        return False
    dossier = settings.profile_of(system).entities.get("dossier")
    return dossier is not None and dossier.events is not None


def _own_values(item: Item) -> dict[str, Any]:
    """What the system says itself: fields it edited, and fields it has spoken about before (B4).

    A merely delivered value is no word of its own: where a field equals the base that a newer write of ours left, what the system
    said before stands. Without such a write the system itself has gone back to that value.
    """
    entry, had, before = item.entry, item.known, item.before
    edited = entry.edited or 0
    written_again = entry.seen is not None and had is not None and (had.seen is None or entry.seen > had.seen)
    bits = {f.name: 1 << f.index for f in schemas.fields(entry.entity)}
    own = {}
    for name, value in item.values.items():
        if edited & bits[name]:
            own[name] = value
        elif name in before:
            own[name] = before[name] if written_again else value
    entry.mask = sum(bits[name] for name in own)
    return own


def _said(item: Item) -> Said:
    return Said(item.entry.system, item.entry.version, item.values, item.entry.op == STATE, item.entry.delivered)


def _claim_before(item: Item) -> str | None:
    return item.known.claim if item.known is not None else None


def _parent_entity(_entity: str) -> str:
    return "dossier"


def _promise(key: Key, record: int) -> tuple[Any, ...]:
    return (*key, record, 0, 0, "p", False, 0, None, None, None, 0, None)


def _write(cursor: Cursor, by_record: Mapping[int, Sequence[Item]], old: Mapping[int, Row], new_rows: Sequence[tuple[Any, ...]]) -> None:
    """Store golden records, each by the cheapest way that is right for it, and what stood there before."""
    ids = {row[0] for row in new_rows}
    shared = [r for r in ids if r in old and old[r].sole is not None and any(i.entry.system != old[r].sole for i in by_record[r])]
    hub.part(cursor, shared)
    new = {record for record in ids if all(item.fresh for item in by_record[record])}
    hub.add_records(cursor, [row for row in new_rows if row[0] in new])
    hub.update_records(cursor, [row for row in new_rows if row[0] in old])
    hub.put_records(cursor, [row for row in new_rows if row[0] not in new and row[0] not in old])
    earlier = [(r, old[r], by_record[r][-1].entry.system) for r in sorted(ids & old.keys()) if old[r].version]
    hub.put_history(cursor, [golden.history_of(*one) for one in earlier])


def _given_up(items: Iterable[Item]) -> list[tuple[str, int, str, str, str]]:
    """The claims that source records no longer make, as `hub.release` takes them."""
    return [
        (item.known.claim, item.known.record, *item.key)
        for item in items
        if item.known is not None and item.known.claim is not None and item.known.claim != item.claim
    ]


def _children_gone(items: Iterable[Item]) -> list[tuple[int, str]]:
    """Records that are no dossiers and that a system itself has taken away, with the system."""
    return [(i.record, i.entry.system) for i in items if i.entry.op == DELETE and not i.entry.delivered and i.entry.entity != "dossier"]


def _let_go(items: Iterable[Item]) -> set[str]:
    """The identifiers that somebody may take over: their source record has another now, or is gone."""
    gone = {item.claim for item in items if item.entry.op == DELETE and item.claim is not None}
    return gone | {claim for claim, *_ in _given_up(items)}


def _parent_of(items: Sequence[Item], before: Row | None) -> int | None:
    """The parent any of the items names; a delete names none, then it is the one known."""
    named = next((item.parent for item in items if item.parent is not None), None)
    return named if named is not None or before is None else before.parent


def _is_unchanged(before: Row | None, folded: Golden, sole: str | None, parent: int | None) -> bool:
    return (
        before is not None
        and bool(before.version)
        and (before.body, before.deleted, before.parent) == (folded.values, folded.deleted, parent)
        and before.who == (None if sole else folded.who)
    )
