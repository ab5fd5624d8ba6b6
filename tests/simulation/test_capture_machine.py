"""Capture under any schedule: transactions that commit late and become visible later, lines that end anywhere and begin again.

Both forms are the product's own (`WalLine`, `OutboxLine`, `Notified`, `EntityReading`, the load's reading), read a database in memory, and are
merged by the product's `Merger`. In the end the hub holds what the source holds, and every status a dossier ever had is in its history once.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from lienthong import frames, hub
from lienthong.capture import wal
from lienthong.capture.line import Line
from lienthong.capture.outbox import OutboxLine
from lienthong.capture.run import line_for
from lienthong.errors import FencedError
from lienthong.load import Loader
from lienthong.merge import Merger
from lienthong.merging import moves_of
from lienthong.output import Output
from lienthong.vault import Vault
from tests.simulation import histories, system_tables
from tests.simulation.captured_source import COLUMNS, EDITS, KEYS, LEASE_SECONDS, ROW, SYSTEM, Decoder, InTopic, Stream, notes, settings
from tests.simulation.clock import CLOCK
from tests.simulation.database import Crash, Fuse, MemoryConnection
from tests.simulation.hub_tables import empty_hub, view
from tests.simulation.system_tables import FIRST_XID, Row, System, Transaction


class Capture(RuleBasedStateMachine):
    """One source, its line in one of the two forms, perhaps an old line that was thought dead, a load, a merge process."""

    form: str

    def __init__(self) -> None:
        super().__init__()
        CLOCK.reset()
        self.fuse = Fuse()
        self.source = System(COLUMNS, self.fuse)
        self.source.notes = notes
        self.database = empty_hub(self.fuse)
        system_tables.SYSTEMS |= {"source": self.source, "hub": self.database}
        self.settings = settings(self.form)
        self.topic = InTopic(self.fuse)
        self.lines = 0
        self.line = self._start()
        self.zombie: Line | None = None
        self.open: list[Transaction] = []
        self.flushed: list[Transaction] = []
        self.steps: dict[str, list[int]] = {key: [] for key in KEYS}
        self.chunk: tuple[Loader, Output] | None = None
        self.hub = MemoryConnection(self.database)
        self.merger = Merger(self.settings, self.hub)
        self.positions: dict[tuple[str, int], int | None] = {}

    def _start(self) -> Line:
        with patch.object(wal, "ReplicationStream", lambda *_, **__: Stream(self.source)), patch.object(wal, "Decoder", Decoder):
            made = line_for(self.settings, SYSTEM, MemoryConnection(self.database), self.topic, Vault(None))  # type: ignore[arg-type]
            self.lines += 1
            made.numbers._owner = f"line {self.lines}"
            made.start()
        return made

    # ------------------------------------------------------------ the system's own application
    @rule(edit=st.sampled_from(EDITS), which=st.integers(0, 1))
    def change(self, edit: tuple[str, str, int | None, str], which: int) -> None:
        """In one of two transactions a dossier or its officer is entered, changed or deleted; a locked row is left alone."""
        table, key, number, text = edit
        while len(self.open) <= which:
            self.open.append(self.source.begin())
        row: Row | None = None
        if number is not None:
            row = (
                {"id": int(key), "dossier_id": number, "name": text} if table == "officer" else ROW | {"id": int(key), "status": number, "note": text}
            )
        self.source.write(self.open[which], table, key, row)

    @precondition(lambda self: self.open)
    @rule(which=st.integers(0, 1), how=st.sampled_from(("flush", "show", "abort")))
    def end(self, which: int, how: str) -> None:
        """A transaction ends: its commit is in the log, or visible already too, or it is rolled back."""
        transaction = self.open.pop(min(which, len(self.open) - 1))
        if how == "abort":
            self.source.abort(transaction)
            return
        self._note_steps(transaction)
        self.source.flush(transaction)
        self.flushed.append(transaction)
        if how == "show":
            self.show(-1)

    def _note_steps(self, transaction: Transaction) -> None:
        for change in transaction.changes:
            if change.table == "dossier" and change.new is not None:
                seen = self.steps[change.key]
                if change.op == "I" or seen[-1] != change.new["status"]:
                    seen.append(change.new["status"])

    @precondition(lambda self: self.flushed)
    @rule(which=st.integers(-1, 1))
    def show(self, which: int) -> None:
        """A commit becomes visible, not always in the order of the log."""
        transaction = self.flushed.pop(which if -len(self.flushed) <= which < len(self.flushed) else 0)
        self.source.show(transaction)

    def _show_all(self) -> None:
        while self.flushed:
            self.show(0)

    # ------------------------------------------------------------ the service
    @rule(crash=st.sampled_from([None, *range(30)]), meanwhile=st.booleans())
    def work(self, crash: int | None, meanwhile: bool) -> None:
        """The line takes one step; between its number and its snapshot others may commit."""
        self.source.meanwhile = self._show_all if meanwhile else None
        if not self._step(self.line, crash):
            CLOCK.seconds += LEASE_SECONDS
            self._expire()
            self.line = self._start()

    def _step(self, line: Line, crash: int | None) -> bool:
        if isinstance(line, OutboxLine):
            line._next_poll = 0.0
        self.fuse.left = crash
        try:
            line.work()
        except Crash:
            self.topic.sender_ends()
            return False
        finally:
            self.fuse.left = None
            self.source.meanwhile = None
        return True

    def _expire(self) -> None:
        for name, row in self.database["capture_state"].items():
            self.database["capture_state"][name] = row | {"leased": False}

    @precondition(lambda self: self.topic.log[0] or self.topic.log[1])
    @rule(seconds=st.sampled_from((1, 6)))
    def wait(self, seconds: int) -> None:
        """Time passes: positions are saved, idle slots move on."""
        CLOCK.seconds += seconds

    @precondition(lambda self: self.form == "outbox" and self.zombie is None and self.source["change"])
    @rule()
    def take_over(self) -> None:
        """A line that stood still for too long is replaced; the server lets an outbox be read by the old one, too."""
        CLOCK.seconds += LEASE_SECONDS
        self._expire()
        self.zombie, self.line = self.line, self._start()

    @precondition(lambda self: self.zombie is not None)
    @rule()
    def wake_zombie(self) -> None:
        """The old line goes on where it stood: it must find out that it is not the reader any more."""
        assert self.zombie is not None
        with pytest.raises(FencedError):
            self._step(self.zombie, None)
        self.zombie = None

    @precondition(lambda self: self.chunk is not None or self.source["dossier"])
    @rule(meanwhile=st.booleans())
    def load(self, meanwhile: bool) -> None:
        """A load reads everything there is, and publishes it some time later."""
        if self.chunk is not None:
            loader, output = self.chunk
            self.chunk = None
            loader._publish(output)
            return
        with patch("lienthong.load.Producer", lambda *_, **__: self.topic):
            loader = Loader(self.settings, SYSTEM, Vault(None))
        self.source.meanwhile = self._between if meanwhile else None
        with loader._look() as (cursor, readings, output):
            readings.entities["dossier"].read_range(cursor, None, None, output)
        self.source.meanwhile = None
        self.chunk = (loader, output)

    def _between(self) -> None:
        """Between the load's number and its snapshot others commit, and the line reads that."""
        self._show_all()
        self._step(self.line, None)

    @precondition(lambda self: self._unmerged())
    @rule(most=st.sampled_from([(9, 9), (1, 0), (0, 1), (2, 1)]), crash=st.sampled_from([None, *range(30)]))
    def merge(self, most: tuple[int, int], crash: int | None) -> None:
        """The merge takes some messages of each partition."""
        messages = []
        for partition, limit in enumerate(most):
            place = (frames.TOPIC, partition)
            self.positions.setdefault(place, hub.stored_offset(self.hub, *place))  # type: ignore[arg-type]
            at = self.positions[place] or 0
            messages += self.topic.log[partition][at : at + limit]
        if not messages:
            return
        moves = moves_of(messages, self.positions)
        self.fuse.left = crash
        try:
            self.merger.merge(messages, moves)
            self.positions |= {place: following for place, (_, following) in moves.items()}
        except Crash:
            self.merger = Merger(self.settings, self.hub)  # type: ignore[arg-type]
            self.positions.clear()
        finally:
            self.fuse.left = None

    def _unmerged(self) -> bool:
        offsets = self.database["consumer_offset"]
        return any(len(log) > offsets.get((frames.TOPIC, n), 0) for n, log in enumerate(self.topic.log))

    # ------------------------------------------------------------ in the end
    def teardown(self) -> None:
        """Everything is committed, read, loaded and merged."""
        while self.open:
            self.end(0, "show")
        self._show_all()
        if self.chunk is not None:
            self.load(False)
        for _ in range(50):
            CLOCK.seconds += 1
            before = sum(map(len, self.topic.log))
            self.work(None, False)
            if sum(map(len, self.topic.log)) == before and not getattr(self.line, "_waiting", None):
                break
        else:
            raise AssertionError("the line finds something to read for ever")
        self.positions.clear()
        self.merge((10_000, 10_000), None)
        self._same_as_the_source()
        self._every_step_once()

    def _same_as_the_source(self) -> None:
        with self._cursor() as cursor:
            keys = [(SYSTEM, "dossier", key) for key in KEYS]
            held = {key[2]: values for key, values in hub.bodies(cursor, keys).items()}
        officers = {str(row["dossier_id"]): row["name"] for _, row in sorted(self.source["officer"].items())}
        there = {k: (row["status"], row["note"], officers.get(k)) for k, row in self.source["dossier"].items()}
        assert {k: (v["status"], v["note"], v["handler_name"]) for k, v in held.items()} == there, "the hub does not hold what the source holds"

    @contextmanager
    def _cursor(self) -> Iterator[Any]:
        yield self.hub.cursor()
        self.hub.rollback()

    def _every_step_once(self) -> None:
        found: dict[str, list[tuple[int, int]]] = {key: [] for key in KEYS}
        with self._cursor() as cursor:
            events = [(SYSTEM, "dossier_event", c["local_key"]) for c in view(self.hub, "contribution") if c["entity"] == "dossier_event"]
            for (_, _, key), values in hub.bodies(cursor, events).items():
                root, _, order = key.partition("@")
                found[root].append((int(order.rpartition(".")[2], 16), values["status"]))
        for key, steps in found.items():
            took = [status for _, status in sorted(steps)]
            assert took == self.steps[key], f"dossier {key} took the steps {self.steps[key]}, its history says {took}"


class CaptureByLog(Capture):
    """From the log."""

    form = "wal"


class CaptureByOutbox(Capture):
    """From an outbox."""

    form = "outbox"


@pytest.mark.parametrize("machine", [CaptureByLog, CaptureByOutbox])
def test_capture_ends_the_same_under_any_schedule(machine: type[Capture]) -> None:
    assert FIRST_XID < 1 << 32
    histories.run(machine)
