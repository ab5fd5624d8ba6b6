"""One source's line: notifications in, a numbered reading, frames out, and only then the resume point moves (B1, B2, B11)."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from connectors.kafka import Producer
from connectors.postgres import Connection, Cursor, ShapeChanged, connect, one, rows, snapshot, sql, transaction
from lienthong import frames, probe, tracing
from lienthong.capture import state, witness
from lienthong.capture.notified import KeyTuple, Notified, Step, uses_of, wanted_columns
from lienthong.errors import ConfigError, FatalError
from lienthong.frames import Header, note_frame, partition_of
from lienthong.layout import identifier
from lienthong.mapping import Refusal
from lienthong.output import Output
from lienthong.readers import Unreadable
from lienthong.reading import SourceReadings, shape_of, shown
from lienthong.settings import Settings
from lienthong.vault import Vault

logger = logging.getLogger(__name__)

KEYS_PER_QUERY = 2000
SAVE_EVERY_SECONDS = 0.5
HEARTBEAT_SECONDS = 0.5
CAPTURED_SECONDS = 5.0
BREATHE_SECONDS = 5.0


def open_source(settings: Settings, system: str, role: str) -> Connection:
    """A connection to a system's database."""
    return connect(settings.dsn_of(system), application_name=f"lienthong {role}")


class Line:
    """What both forms of capture share."""

    def __init__(self, settings: Settings, system: str, hub_connection: Connection, producer: Producer, vault: Vault) -> None:
        self.settings = settings
        self.system = system
        self.profile = settings.profile_of(system)
        self.uses = uses_of(self.profile)
        self.wanted = wanted_columns(self.profile)
        self.vault = vault
        self.numbers = state.Numbers(hub_connection, system)
        self.witness = witness.Witness(hub_connection, system)
        self.hub = hub_connection
        self.producer = producer
        self.connection: Connection | None = None
        self.readings: SourceReadings | None = None
        self.through = 0  # everything the source committed up to this µs is captured
        self._saved_at = 0.0
        self._unsaved: tuple[int, str | None] | None = None
        self._locks = ""
        self._beat_at = 0.0
        self._captured_at = 0.0
        self._breathed_at = 0.0

    # ------------------------------------------------------------ life
    def start(self) -> None:
        """Connect, check that the source is the one we know, begin or resume."""
        self.close()
        self._unsaved = None
        self.witness.open()
        self.connection = open_source(self.settings, self.system, f"capture {self.system}")
        with snapshot(self.connection) as cursor:
            identity = state.identity_of(cursor)
        stored = state.load(self.hub, self.system)
        if stored is None:
            stored = self.begin_life(identity)
        state.check_identity(stored, identity, self.system)
        self.numbers.forget()
        self.numbers.draw()
        with self._explained(), transaction(self.connection) as cursor:
            self._bind(cursor)
            self._check_captured(cursor)
        self.resume(stored)

    def begin_life(self, identity: str) -> state.Stored:
        """Fix the position from which changes are captured; runs once in a source's life."""
        state.create(self.hub, self.system, self.first_position(), identity)
        stored = state.load(self.hub, self.system)
        assert stored is not None
        return stored

    def _bind(self, cursor: Cursor) -> None:
        self.readings = SourceReadings(cursor, self.system, self.profile, self.vault)
        self._locks = self.readings.locks(cursor)

    def close(self) -> None:
        """Let go of everything; the position stays where it is safe."""
        if self.connection is not None:
            with_closed, self.connection = self.connection, None
            with_closed.close()

    def stop(self) -> None:
        """A clean end: remember how far we are and give the lease back."""
        self._save(force=True)
        self.numbers.release()
        self.close()

    # ------------------------------------------------------------ for the two forms
    def first_position(self) -> str:
        """Where a new source starts."""
        raise NotImplementedError

    def forget_position(self) -> None:
        """Let go of what held the resume point, before a new life of the source begins."""

    def resume(self, stored: state.Stored) -> None:
        """Go on from the stored position."""
        raise NotImplementedError

    def work(self) -> bool:
        """One step; returns whether there was anything to do."""
        raise NotImplementedError

    def sockets(self) -> list[Any]:
        """What to wait on."""
        return []

    def uncaptured(self, cursor: Cursor) -> list[str]:
        """The tables whose changes are not captured, by what the source itself says."""
        raise NotImplementedError

    # ------------------------------------------------------------ the reading
    @contextmanager
    def look(self) -> Iterator[Cursor]:
        """One consistent look at the tables, whose columns are those that the readings are bound to, until it ends."""
        assert self.connection is not None
        assert self.readings is not None
        with self._explained(), snapshot(self.connection, self._locks) as cursor:
            if shape_of(cursor, self.readings.tables) != self.readings.shape:
                self._bind(cursor)
                logger.info("tables have changed: bound again", extra={"action": "capture_rebound", "system": self.system})
            if time.monotonic() - self._captured_at > CAPTURED_SECONDS:
                self._check_captured(cursor)
            yield cursor

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Say of a table or column that is gone what to do."""
        try:
            yield
        except (ConfigError, ShapeChanged) as error:
            raise FatalError(
                f"{self.system}: {error}; the line has stopped before this change and nothing was lost: bring profile and tables together "
                f"(`lienthong check --system {self.system}` shows where they differ), then it goes on by itself"
            ) from None

    def _check_captured(self, cursor: Cursor) -> None:
        self._captured_at = time.monotonic()
        self.witness.check(cursor)
        missing = self.uncaptured(cursor)
        if missing:
            raise FatalError(
                f"{self.system}: changes of {', '.join(missing)} are not captured any more, so some may have been missed: run what "
                f"`lienthong check --sql {self.system}` prints there, then `lienthong load {self.system}`"
            )

    def read(self, cursor: Cursor, notified: Notified, number: int) -> Output:
        """Read everything that was notified, in the cursor's snapshot, as frames."""
        if notified.emptied:
            names = ", ".join(sorted(notified.emptied))
            raise FatalError(
                f"{self.system}: TRUNCATE of {names}: this line has stopped and nothing was deleted elsewhere; put the rows back or not, "
                f"then run `lienthong load {self.system} --new-epoch` to take the tables as they are then"
            )
        assert self.readings is not None
        output = Output(self.settings.kafka.partitions, self.system, self.numbers.epoch, number, notified.at, self._send)
        self._steps(cursor, notified.steps, output)  # before the states they lead to: where a dossier stood is still in the hub then
        roots = {entity: set(keys) for entity, keys in notified.roots.items()}
        for (entity, columns), values in notified.lookups.items():
            roots.setdefault(entity, set()).update(self._root_keys(cursor, entity, columns, values))
        for reading in self.readings.in_order():
            for part in _slices(sorted(roots.get(reading.entity, ()))):
                reading.read_keys(cursor, part, output)
                self._breathe()
            output.close()
        self._overwritten(cursor, notified.overwritten, output)
        probe.put(output, notified.probe)
        return output

    def _root_keys(self, cursor: Cursor, entity: str, columns: Sequence[str], values: set[KeyTuple]) -> set[KeyTuple]:
        """Root rows that refer to changed part rows."""
        assert self.readings is not None
        layout = self.readings.entities[entity].layout
        types = layout.types[layout.mapping.table]
        arrays = sql.SQL(", ").join([sql.SQL("%s::text[]::{}[]").format(sql.SQL(types[c].declared)) for c in columns])
        statement = sql.SQL("SELECT {} FROM {} t WHERE ({}) IN (SELECT * FROM unnest({}))").format(
            sql.SQL(", ").join([sql.SQL("{}::text").format(layout.root(c)) for c in layout.mapping.key]),
            identifier(layout.mapping.table),
            sql.SQL(", ").join([layout.root(c) for c in columns]),
            arrays,
        )
        return set(rows(cursor, statement, [list(column) for column in zip(*values, strict=True)]))

    def _breathe(self) -> None:
        """A long reading must neither lose the lease nor look dead to the source."""
        if time.monotonic() - self._breathed_at > BREATHE_SECONDS:
            self._breathed_at = time.monotonic()
            self.numbers.renew()
            self.alive()

    def alive(self) -> None:
        """Show the source that we live, where it wants to know."""

    def _steps(self, cursor: Cursor, steps: Sequence[Step], output: Output) -> None:
        assert self.readings is not None
        by_partition: dict[int, list[dict[str, Any]]] = {}
        for step, root in zip(steps, self._roots_of(cursor, steps), strict=True):
            content: dict[str, Any] = {"root": root, "at": step.at, "order": step.order, "ours": step.ours, "first": step.first}
            content |= self._status(step)
            by_partition.setdefault(partition_of(self.system, root, output.partitions), []).append(content)
        for partition, contents in by_partition.items():
            header = Header(self.system, "dossier_event", "step", output.epoch, output.version, 0, output.at)
            for frame in note_frame(header, contents):
                output.emit(partition, frame)

    def _roots_of(self, cursor: Cursor, steps: Sequence[Step]) -> list[str]:
        if not steps:
            return []
        assert self.readings is not None
        return self.readings.entities[steps[0].entity].local_keys(cursor, [step.key for step in steps])

    def _status(self, step: Step) -> dict[str, Any]:
        assert self.readings is not None
        if step.word is None:
            return {"status": None, "problem": Refusal("status", "missing", "a status step without a status").message}
        try:
            return {"status": self.readings.entities[step.entity].mapper.status_of(shown(step.word))}
        except Unreadable as problem:
            return {"status": None, "problem": str(problem), "reason": problem.reason}

    def _overwritten(self, cursor: Cursor, ids: set[int], output: Output) -> None:
        if not ids:
            return
        found = rows(
            cursor,
            "SELECT entity, record, local_key, version, field, was::text, base::text, written::text FROM lienthong.overwritten WHERE id = ANY(%s)",
            [list(ids)],
        )
        names = ("entity", "record", "key", "version", "field", "was", "base", "written")
        header = Header(self.system, "?", "overwritten", output.epoch, output.version, 0, output.at)
        for frame in note_frame(header, [dict(zip(names, row, strict=True)) for row in found]):
            output.emit(0, frame)

    # ------------------------------------------------------------ publishing
    def publish(self, output: Output) -> None:
        """Send all frames and wait until every one is acknowledged."""
        output.close()
        self.producer.flush()
        tracing.captured(self.system, output.at, output.records)

    def _send(self, partition: int, frame: bytes) -> None:
        self.producer.send(frames.TOPIC, frame, partition=partition)

    def done(self, number: int, position: str | None, at: int) -> None:
        """A reading is safe: move the resume point, now or soon."""
        self.numbers.finished = number
        self.through = max(self.through, at)
        self._unsaved = (number, position)
        self._save(force=False)

    def _save(self, *, force: bool) -> None:
        if self._unsaved is None or (not force and time.monotonic() - self._saved_at < SAVE_EVERY_SECONDS):
            return
        self.numbers.save(*self._unsaved)
        self._unsaved, self._saved_at = None, time.monotonic()

    def idle(self, now_micros: int) -> None:
        """Nothing is waiting at the source: everything up to now is captured."""
        self.through = max(self.through, now_micros)
        self._save(force=False)

    def heartbeat(self) -> bool:
        """Whether it is time to say that this line lives."""
        if time.monotonic() - self._beat_at < HEARTBEAT_SECONDS:
            return False
        self._beat_at = time.monotonic()
        return True


def _slices(keys: Sequence[KeyTuple]) -> Iterator[Sequence[KeyTuple]]:
    for start in range(0, len(keys), KEYS_PER_QUERY):
        yield keys[start : start + KEYS_PER_QUERY]


def source_clock(cursor: Cursor) -> int:
    """The source's own time in µs."""
    found = one(cursor, "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::int8")
    assert found is not None
    return int(found[0])
