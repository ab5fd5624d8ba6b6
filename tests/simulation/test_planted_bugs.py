"""Each machine sees what it is for: with one rule switched off, it finds a history that ends wrongly."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis.stateful import RuleBasedStateMachine

from lienthong import merge
from lienthong.apply.target import Target
from lienthong.capture import state
from lienthong.capture.wal import WalLine, _Snapshot
from lienthong.load import Loader
from lienthong.merge import Merger
from lienthong.reading import EntityReading
from lienthong.route import Router
from tests.simulation import histories
from tests.simulation.database import Database
from tests.simulation.test_capture_machine import Capture, CaptureByLog, CaptureByOutbox
from tests.simulation.test_merge_machine import MergeAndRoute
from tests.simulation.test_two_way_machine import TwoWay


def last_instead_of_newest(entries: Any, *more: Any) -> Any:
    every = list(entries)
    return _newest(every, *more) | {(e.system, e.entity, e.key): e for e in every}


_newest = merge.newest
_items, _visible, _known, _database = Merger._items, WalLine._visible, Target._known, Database.__init__


def items_of_any_version(self: Merger, latest: Any, known: Mapping[Any, Any], batch: Any) -> Any:
    items = _items(self, latest, {key: replace(had, epoch=-1) for key, had in known.items()}, batch)
    for item in items:
        item.known = known.get(item.key)
    return items


def confirmed_before_published(self: WalLine, cursor: Any) -> Any:
    batch = _visible(self, cursor)
    if batch is not None:
        self._confirm(batch.position)
    return batch


def latest_drawn(self: Loader) -> tuple[int, int]:
    stored = state.load(self.hub, self.system)
    assert stored is not None
    return stored.drawn, stored.epoch


def known_of_any_version(self: Target, cursor: Any, keys: Any) -> Any:
    return {key: replace(had, version=(-1, -1)) for key, had in _known(self, cursor, keys).items()}


def without(*guards: str) -> Any:
    """Databases in memory whose statements lack a guard."""

    def begin(self: Database, *tables: str, fuse: Any) -> None:
        _database(self, *tables, fuse=fuse)
        self.guards.difference_update(guards)

    return patch.object(Database, "__init__", begin)


class Delivered(TwoWay):
    """Both ways, from where a dossier has been delivered on."""

    def __init__(self) -> None:
        super().__init__()
        self.enter(place=("portal", "N1"))
        self.settle()


Bug = tuple[type[RuleBasedStateMachine], Callable[[], list[Any]]]
BUGS: dict[str, Bug] = {
    "the last of a batch instead of the newest": (MergeAndRoute, lambda: [patch.object(merge, "newest", last_instead_of_newest)]),
    "no version guard at the hub": (MergeAndRoute, lambda: [patch.object(Merger, "_items", items_of_any_version), without("contribution")]),
    "offsets without compare-and-set": (MergeAndRoute, lambda: [without("offset")]),
    "no withdrawal": (MergeAndRoute, lambda: [patch.object(Router, "_removed", lambda *_: None)]),
    "a child folded without its dossier's roles": (MergeAndRoute, lambda: [patch.object(Merger, "_routing", lambda *_: {})]),
    "no look at visibility": (CaptureByLog, lambda: [patch.object(_Snapshot, "sees", lambda *_: True)]),
    "confirmed before published": (CaptureByLog, lambda: [patch.object(WalLine, "_visible", confirmed_before_published)]),
    "a load with the latest drawn number": (CaptureByLog, lambda: [patch.object(Loader, "_finished", latest_drawn)]),
    "an outbox read by number": (CaptureByOutbox, lambda: [without("difference")]),
    "a delivered value becomes the receiver's word": (Delivered, lambda: [patch.object(merge, "_own_values", lambda item: item.values)]),
    "no base: everything is an edit": (Delivered, lambda: [patch.object(EntityReading, "_edited", lambda self, *_: sum(self.bits.values()))]),
    "no witness of what was overwritten": (Delivered, lambda: [patch.object(Target, "_witness", lambda *_: None)]),
    "no version guard at the target": (Delivered, lambda: [patch.object(Target, "_known", known_of_any_version), without("applied")]),
}


RARE = {"a delivered value becomes the receiver's word", "no base: everything is an edit", "offsets without compare-and-set"}
"""Found after hundreds of histories: planted in the long profile only; `make guards` switches these rules off too."""


@contextmanager
def planted(bug: Callable[[], list[Any]]) -> Iterator[None]:
    with ExitStack() as stack:
        for one in bug():
            stack.enter_context(one)
        yield


@pytest.mark.parametrize("bug", [bug for bug in BUGS if histories.LONG or bug not in RARE])
def test_a_planted_bug_is_found(bug: str) -> None:
    machine, how = BUGS[bug]
    assert issubclass(machine, Capture | MergeAndRoute | TwoWay)
    with planted(how), pytest.raises(AssertionError):
        histories.run_bugged(machine)
