"""Merge and route under any schedule: sources that edit, readings, duplicates, partitions that overtake each other, crashes anywhere.

Whatever happens on the way, once all is quiet the hub is the fold of the newest word of every source and every party holds what is its own.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from tests.simulation import histories
from tests.simulation.database import Crash, Fuse, MemoryConnection
from tests.simulation.hub_tables import empty_hub
from tests.simulation.merging_city import CODES, DAY, PARTITIONS, SYSTEMS, UNITS, MergingCity, Truth

Dossier = tuple[str, str, int, bool, str | None]
PLACES = [(system, key) for system in SYSTEMS for key in CODES]
DOSSIERS: list[Dossier] = [
    (system, key, status, coded, unit)
    for (system, key), coded, status, unit in product(PLACES, (True, False), (1, 2), (*UNITS, None)) if system == "portal" or unit is None
]  # fmt: skip
"""System, key, status, whether it has its national code, processing unit: one choice, so that a failing history shrinks well."""
POLLS = [(who, most) for who in range(2) for most in product((9, 0, 1, 2), repeat=PARTITIONS) if any(most)]
CRASHES = st.sampled_from([None, *range(40)])
DAMAGE = 40  # a byte behind the header of every frame


class MergeAndRoute(RuleBasedStateMachine):
    """Three sources, two merge processes, one router."""

    def __init__(self, connection: Callable[[], Any] | None = None) -> None:
        super().__init__()
        self.fuse = Fuse()
        self.database = empty_hub(self.fuse)
        self.city = MergingCity(connection or (lambda: MemoryConnection(self.database)), self.fuse)

    # ------------------------------------------------------------ what people do
    @rule(dossier=st.sampled_from(DOSSIERS))
    def edit(self, dossier: Dossier) -> None:
        """A dossier is entered or changed; a code it has once got it keeps."""
        system, key, status, coded, unit = dossier
        before = self.city.truth[system].get(("dossier", key))
        had = before is not None and before.values is not None and before.values["national_code"] is not None
        values: dict[str, Any] = {"procedure_code": "1.001", "submitted_at": DAY, "status": status}
        values["national_code"] = CODES[key] if coded or had else None
        if system == "portal":
            values["note"] = f"at {status}"
            values["processing_unit"] = unit
        self._write(system, "dossier", key, Truth(values))

    @rule(place=st.sampled_from(PLACES))
    def delete(self, place: tuple[str, str]) -> None:
        """A dossier is taken away, with what is under it."""
        system, key = place
        for (entity, child), truth in list(self.city.truth[system].items()):
            if truth.values is not None and (child == key or truth.parent == key):
                self._write(system, entity, child, Truth(None, truth.parent))

    @rule(place=st.sampled_from(PLACES), amount=st.integers(1, 2))
    def charge(self, place: tuple[str, str], amount: int) -> None:
        """A fee of a dossier that is there."""
        system, key = place
        dossier = self.city.truth[system].get(("dossier", key))
        if dossier is not None and dossier.values is not None:
            self._write(system, "fee", f"{key}-fee", Truth({"fee_code": "LP1", "amount": amount}, key))

    @rule(place=st.sampled_from(PLACES))
    def spoil(self, place: tuple[str, str]) -> None:
        """A word that no profile maps: the record is refused until somebody corrects it."""
        system, key = place
        dossier = self.city.truth[system].get(("dossier", key))
        if dossier is not None and dossier.values is not None:
            self._write(system, "dossier", key, Truth(dossier.values, fits=False))

    def _write(self, system: str, entity: str, key: str, truth: Truth) -> None:
        if self.city.truth[system].get((entity, key)) != truth:
            self.city.write(system, entity, key, truth)

    # ------------------------------------------------------------ what machines do
    @precondition(lambda self: any(self.city.unread.values()))
    @rule(data=st.data())
    def read(self, data: st.DataObject) -> None:
        """Capture tells what has changed at one source."""
        self.city.read(data.draw(st.sampled_from([s for s in SYSTEMS if self.city.unread[s]]), label="system"))

    @precondition(lambda self: any(self.city.log))
    @rule(data=st.data(), broken=st.booleans())
    def repeat(self, data: st.DataObject, broken: bool) -> None:
        """A frame comes a second time, perhaps damaged."""
        partition = data.draw(st.sampled_from([n for n, log in enumerate(self.city.log) if log]), label="partition")
        frame = data.draw(st.sampled_from(self.city.log[partition]), label="frame").value or b""
        if broken:
            frame = frame[:DAMAGE] + bytes([frame[DAMAGE] ^ 1]) + frame[DAMAGE + 1 :]
        self.city.append(partition, frame)

    @precondition(lambda self: self.city.to_merge())
    @rule(poll=st.sampled_from(POLLS), crash=CRASHES)
    def merge(self, poll: tuple[int, tuple[int, ...]], crash: int | None) -> None:
        """One of the merge processes takes some messages of each partition, and may end at any statement."""
        who, most = poll
        if not self._ends(lambda: self.city.merge(who, most), crash):
            self.city.restart_merger(who)

    @precondition(lambda self: self.city.to_route())
    @rule(crash=CRASHES)
    def route(self, crash: int | None) -> None:
        """The router takes the change list, and may end at any statement or message."""
        if not self._ends(self.city.router.step, crash):
            self.city.start_router()

    @precondition(lambda self: self.city.to_merge())
    @rule()
    def settle(self) -> None:
        """Everything is read, merged and routed."""
        self.city.settle()

    def _ends(self, work: Callable[[], Any], crash: int | None) -> bool:
        self.fuse.left = crash
        try:
            work()
        except Crash:
            return False
        finally:
            self.fuse.left = None
        return True

    def teardown(self) -> None:
        """All is quiet in the end."""
        self.city.settle()
        self.city.check()


def test_merge_and_route_end_the_same_under_any_schedule() -> None:
    histories.run(MergeAndRoute)
