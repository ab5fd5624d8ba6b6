"""What notifications say: which root records changed, which status steps were taken, whether a table was emptied."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from lienthong.days import day_number
from lienthong.ddl import OWN_TABLES, image_columns, notification_columns
from lienthong.layout import full_name
from lienthong.settings import Profile

Row = Mapping[str, "str | None"]
KeyTuple = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Use:
    """One use of a table in a profile: as the root of an entity, or as a part whose columns lead to root rows."""

    entity: str
    part: str | None
    columns: tuple[str, ...]  # of this table, in the order of `root_columns`
    root_columns: tuple[str, ...]
    direct: bool  # the root columns are exactly the key: no look-up needed
    events: str | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """One value a status column had, from a row image: `order` rises with every step of a source; `first`: with it the row began."""

    entity: str
    key: KeyTuple
    word: str | None
    at: int
    order: int
    ours: bool
    first: bool


def uses_of(profile: Profile) -> dict[str, list[Use]]:
    """Table (schema.name) -> how the profile uses it."""
    found: dict[str, list[Use]] = {}
    for entity, mapping in profile.entities.items():
        root = Use(entity, None, mapping.key, mapping.key, direct=True, events=mapping.events)
        found.setdefault(full_name(mapping.table), []).append(root)
        for name, part in mapping.parts.items():
            theirs, ours = tuple(part.on), tuple(part.on.values())
            direct = set(ours) == set(mapping.key)
            if direct:
                back = {root_column: column for column, root_column in part.on.items()}
                theirs, ours = tuple(back[c] for c in mapping.key), mapping.key
            found.setdefault(full_name(part.table), []).append(Use(entity, name, theirs, ours, direct))
    return found


def wanted_columns(profile: Profile) -> dict[str, tuple[str, ...]]:
    """Table (schema.name) -> the columns a notification needs."""
    images = image_columns(profile)
    out = {full_name(t): (*columns, *images.get(t, ())) for t, columns in notification_columns(profile).items()}
    return out | dict(OWN_TABLES)


def _same_status(column: str, new: Row, old: Row | None) -> bool:
    """Whether the row had this very status before, where the source tells (replica identity FULL)."""
    return old is not None and column in old and old[column] == new[column]


@dataclass(slots=True)
class Notified:
    """The notifications of one or more whole transactions of one source."""

    uses: Mapping[str, list[Use]]
    xids: set[int] = field(default_factory=set)
    roots: dict[str, set[KeyTuple]] = field(default_factory=dict)
    lookups: dict[tuple[str, tuple[str, ...]], set[KeyTuple]] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    overwritten: set[int] = field(default_factory=set)
    emptied: set[str] = field(default_factory=set)
    probe: int = 0
    at: int = 0
    position: int = 0
    count: int = 0
    _ours: bool = False

    @classmethod
    def begin(cls, uses: Mapping[str, list[Use]], xid: int, commit_micros: int) -> Notified:
        """An empty one for a transaction."""
        return cls(uses, {xid}, at=commit_micros)

    def change(self, table: str, op: str, new: Row | None, old: Row | None) -> None:
        """Take one row change."""
        self.count += 1
        if table in OWN_TABLES:
            self._own(table, op, new)
            return
        for use in self.uses.get(table, ()):
            if new is not None:
                self._note(use, new)
            if old is not None:
                self._note(use, old)
            if use.events is not None and new is not None and use.events in new and not _same_status(use.events, new, old):
                self._step(use, new, first=op == "I")

    def _own(self, table: str, op: str, new: Row | None) -> None:
        if table == "lienthong.consumer_offset":
            self._ours = True  # the applier's own transaction: it always moves its offset
        elif table == "lienthong.probe":
            if new is not None and new.get("leg") == "in":
                self.probe = max(self.probe, int(str(new["number"])))
        elif op == "I" and new is not None and new.get("id"):
            self.overwritten.add(int(str(new["id"])))

    def _note(self, use: Use, row: Row) -> None:
        key = tuple(row.get(column) for column in use.columns)
        if any(part is None for part in key):
            return
        whole: KeyTuple = tuple(str(part) for part in key)
        if use.direct:
            self.roots.setdefault(use.entity, set()).add(whole)
        else:
            self.lookups.setdefault((use.entity, use.root_columns), set()).add(whole)

    def _step(self, use: Use, row: Row, *, first: bool) -> None:
        key = tuple(str(row.get(column)) for column in use.columns)
        self.steps.append(Step(use.entity, key, row[str(use.events)], self.at, len(self.steps), ours=False, first=first))

    def truncate(self, table: str) -> None:
        """A table was emptied."""
        self.emptied.add(table)

    def end(self, position: int) -> None:
        """The transaction is complete: its steps get their order and whether they are our own writes.

        The numbers end at its position (bytes of log, or outbox ids). A step takes at least one, and a row's next transaction begins
        after this one's end, so the numbers of one record rise, always fit 64 bits, and are the same in a replay.
        """
        self.position = position
        first = position - len(self.steps) + 1
        self.steps = [replace(step, order=first + n, ours=self._ours) for n, step in enumerate(self.steps)]

    def absorb(self, other: Notified) -> None:
        """Add a later transaction."""
        self.xids |= other.xids
        for entity, keys in other.roots.items():
            self.roots.setdefault(entity, set()).update(keys)
        for lookup, keys in other.lookups.items():
            self.lookups.setdefault(lookup, set()).update(keys)
        self.steps += other.steps
        self.overwritten |= other.overwritten
        self.emptied |= other.emptied
        self.probe = max(self.probe, other.probe)
        self.at = max(self.at, other.at)
        self.position = max(self.position, other.position)
        self.count += other.count

    def is_of_a_later_day(self, other: Notified) -> bool:
        """Whether midnight has passed since another, in Asia/Ho_Chi_Minh."""
        return day_number(self.at) > day_number(other.at)

    @property
    def size(self) -> int:
        """How many things there are to read."""
        return sum(map(len, self.roots.values())) + sum(map(len, self.lookups.values()))

    @property
    def empty(self) -> bool:
        """Whether there is nothing to do for these transactions."""
        return not (self.roots or self.lookups or self.steps or self.overwritten or self.emptied or self.probe)
