"""Initial load and backfill: key ranges, several at a time, resumable, safe beside live changes (protocol R1).

A chunk carries the number of the last finished reading, taken before its snapshot: whatever the chunk has missed comes with a
higher number.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from connectors.kafka import Producer
from connectors.postgres import (
    Connection,
    Cursor,
    LoginRefused,
    Unreachable,
    connect,
    rows,
    snapshot,
    sql,
    transaction,
)
from lienthong import breaker, frames, load_chunks, tracing
from lienthong.apply import own_keys
from lienthong.capture import state, witness
from lienthong.capture.line import SAVE_EVERY_SECONDS, open_source
from lienthong.capture.run import line_for
from lienthong.errors import ConfigError, LienThongError
from lienthong.keys import split_key
from lienthong.layout import identifier
from lienthong.load_chunks import EACH, Chunk, RangeSize
from lienthong.output import Output
from lienthong.reading import EntityReading, SourceReadings
from lienthong.settings import Settings
from lienthong.vault import Vault

logger = logging.getLogger(__name__)

CHUNK_ROWS = 10_000
Progress = Callable[[str, int, int], None]  # entity, rows done, rows planned


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a load sent: records and refusals together, and how long it took."""

    system: str
    records: int
    chunks: int
    skipped_chunks: int
    seconds: float


class Loader:
    """Loads one system."""

    def __init__(self, settings: Settings, system: str, vault: Vault) -> None:
        self.settings = settings
        self.system = system
        self.vault = vault
        self.hub = connect(settings.hub.dsn, application_name=f"lienthong load {system}")
        self.producer = Producer(settings.kafka.brokers, client_id=f"lienthong-load-{system}")
        self._local = threading.local()
        self._opened: list[Connection] = []
        self._hub_lock = threading.Lock()
        breaker.at_capture(system, settings.parking.stop)

    # ------------------------------------------------------------ the whole
    def reach(self) -> None:
        """Try the source first, so that one that is away is named."""
        try:
            open_source(self.settings, self.system, f"load {self.system}").close()
        except (LoginRefused, Unreachable) as error:
            raise type(error)(f"{self.system} cannot be reached: {error}") from None

    def run(
        self,
        *,
        entities: Sequence[str] = (),
        keys: Sequence[str] = (),
        low: str | None = None,
        high: str | None = None,
        resume: bool = False,
        workers: int = 2,
        progress: Progress = lambda _entity, _done, _planned: None,
    ) -> Loaded:
        """Load everything, some entities, or single records by local key; parents before children."""
        begun = time.monotonic()
        chosen = self._chosen(entities)
        records = chunks = skipped = 0
        if not resume and not keys and low is None and high is None:
            self._forget_chunks([reading.entity for reading in chosen])
        if keys:
            records = self._keys(chosen, keys)
        elif low is not None or high is not None:
            records = self._range(chosen[0], low, high)
        else:
            for reading in chosen:
                sent, done, left_out = self._entity(reading, resume=resume, workers=workers, progress=progress)
                records, chunks, skipped = records + sent, chunks + done, skipped + left_out
            if not entities:
                self._complete(records)
        return Loaded(self.system, records, chunks, skipped, time.monotonic() - begun)

    def _chosen(self, entities: Sequence[str]) -> list[EntityReading]:
        """How the named entities are read, or all, parents before children; captured from now on at the latest."""
        self._ensure_life()
        _, readings = self._connection()
        unknown = set(entities) - set(readings.entities)
        if unknown:
            raise ConfigError(f"{self.system} has no {', '.join(sorted(unknown))}; it has {', '.join(readings.entities)}")
        return [reading for reading in readings.in_order() if not entities or reading.entity in entities]

    # ------------------------------------------------------------ in steps, each by any process
    def plan(
        self,
        *,
        entities: Sequence[str] = (),
        low: str | None = None,
        high: str | None = None,
        anew: bool = False,
        dry_run: bool = False,
        size: RangeSize,
    ) -> list[Chunk]:
        """The key ranges to be read, what an interrupted load has left, unless `anew`. A dry run plans nothing."""
        chosen = self._chosen(entities)
        if low is not None or high is not None:
            (reading,) = chosen
            count = len(reading.layout.mapping.key)
            edges = [None if edge is None else split_key(edge, count) for edge in (low, high)]
            return self._ranges(reading, edges[0], edges[1], size=size, dry_run=dry_run)
        with transaction(self.hub) as cursor:
            left = load_chunks.open_ones(cursor, self.system, self._finished()[1])
        resume = not anew and any(left.get(reading.entity) for reading in chosen)
        planned = [
            self._plan(reading, resume=resume, size=size)
            if not dry_run or (resume and reading.entity in left)
            else self._ranges(reading, None, None, size=size, dry_run=True)
            for reading in chosen
        ]
        return [chunk for chunks in planned for chunk in chunks if not resume or not self._is_done(chunk)]

    def load_chunk(self, entity: str, number: int, plan: int) -> int:
        """Read and publish one range of a plan, again where it was read before; how many records and refusals."""
        self._chosen([entity])
        with transaction(self.hub) as cursor:
            chunk = load_chunks.find(cursor, self.system, entity, number, plan)
        return self._chunk(entity, chunk)

    def complete(self, records: int) -> bool:
        """Say that everything was loaded, once every range of every entity is done; else False."""
        entities = {reading.entity for reading in self._chosen(())}
        with transaction(self.hub) as cursor:
            left = load_chunks.open_ones(cursor, self.system, self._finished()[1])
        if entities - left.keys() or any(left.values()):
            return False
        self._complete(records)
        return True

    def _ensure_life(self) -> None:
        """Changes must be captured from before the first chunk on."""
        if self.settings.systems[self.system].capture == "none":
            raise ConfigError(f"{self.system} has capture: none; there is nothing to load")
        if state.load(self.hub, self.system) is None:
            line = line_for(self.settings, self.system, self.hub, self.producer, self.vault)
            line.connection = open_source(self.settings, self.system, f"load {self.system}")
            with snapshot(line.connection) as cursor:
                identity = state.identity_of(cursor)
            line.begin_life(identity)
            line.close()
        watch = witness.Witness(self.hub, self.system)
        watch.passes_held = self._begins_anew()
        watch.open()
        with open_source(self.settings, self.system, f"load {self.system}") as connection, snapshot(connection) as cursor:
            stored = state.load(self.hub, self.system)
            assert stored is not None
            state.check_identity(stored, state.identity_of(cursor), self.system)
            watch.check(cursor)
        connection.close()

    def _begins_anew(self) -> bool:
        """Whether the source is in a new life that the hub does not know yet: all that is sent to it waits for this load (`own_keys`)."""
        with transaction(self.hub) as cursor:
            return not own_keys.lives(cursor, self.settings.kafka.partitions).get(self.system, True)

    # ------------------------------------------------------------ one entity
    def _entity(self, reading: EntityReading, *, resume: bool, workers: int, progress: Progress) -> tuple[int, int, int]:
        chunks = self._plan(reading, resume=resume)
        planned, done, sent = sum(chunk.rows for chunk in chunks), 0, 0
        open_chunks = [chunk for chunk in chunks if not self._is_done(chunk)] if resume else chunks
        done = planned - sum(chunk.rows for chunk in open_chunks)
        progress(reading.entity, done, planned)
        with ThreadPoolExecutor(max_workers=workers, thread_name_prefix=f"load-{self.system}") as pool:
            jobs = {pool.submit(self._chunk, reading.entity, chunk): chunk for chunk in open_chunks}
            try:
                for job in as_completed(jobs):
                    sent += job.result()
                    done += jobs[job].rows
                    progress(reading.entity, done, planned)
            except LienThongError:
                pool.shutdown(cancel_futures=True)
                raise
        self.producer.flush()
        return sent, len(open_chunks), len(chunks) - len(open_chunks)

    def _forget_chunks(self, entities: Sequence[str]) -> None:
        with transaction(self.hub) as cursor:
            load_chunks.forget(cursor, self.system, entities)

    def _plan(self, reading: EntityReading, *, resume: bool, size: RangeSize = EACH) -> list[Chunk]:
        """Key ranges of about equal size; remembered in the hub, so that an interrupted load goes on within the epoch in which it began."""
        if resume:
            with transaction(self.hub) as cursor:
                found = load_chunks.planned(cursor, self.system, reading.entity, self._finished()[1])
            if found:
                return found
        return self._ranges(reading, None, None, size=size)

    def _ranges(
        self, reading: EntityReading, low: Sequence[str] | None, high: Sequence[str] | None, *, size: RangeSize, dry_run: bool = False
    ) -> list[Chunk]:
        _, epoch = self._finished()
        first, last = (None if edge is None else tuple(edge) for edge in (low, high))
        bounds, total, each = self._bounds(reading, first, last, size)
        edges = [first, *bounds, last]
        chunks = [
            Chunk(reading.entity, n, after, until, each if n < len(bounds) else max(total - n * each, 0))
            for n, (after, until) in enumerate(zip(edges, edges[1:], strict=False))
        ]
        if dry_run:
            return chunks
        with transaction(self.hub) as cursor:
            return load_chunks.remember(cursor, self.system, epoch, chunks, is_part=low is not None or high is not None)

    def _bounds(
        self, reading: EntityReading, low: tuple[str, ...] | None, high: tuple[str, ...] | None, size: RangeSize
    ) -> tuple[list[tuple[str, ...]], int, int]:
        """The keys between ranges, how many rows there are, and how many stand in each range."""
        layout = reading.layout
        key = [sql.Identifier(c) for c in layout.mapping.key]
        with open_source(self.settings, self.system, f"load {self.system}") as connection, snapshot(connection) as cursor:
            condition, arguments = reading.between(cursor, low, high)
            names = {"table": identifier(layout.mapping.table), "where": sql.SQL(condition)}
            each = size.rows or CHUNK_ROWS
            if size.ranges_max is not None:
                counted = rows(cursor, sql.SQL("SELECT count(*) FROM {table} t WHERE {where}").format(**names), arguments)
                each = max(each, -(-int(counted[0][0]) // size.ranges_max))
            statement = sql.SQL(
                "SELECT {texts}, count FROM (SELECT {key}, row_number() OVER (ORDER BY {key}) AS n, count(*) OVER () AS count FROM {table} t "
                "WHERE {where}) x WHERE n %% {size} = 0 OR n = count ORDER BY n"
            ).format(
                texts=sql.SQL(", ").join([sql.SQL("{}::text").format(k) for k in key]), key=sql.SQL(", ").join(key), size=sql.Literal(each), **names
            )  # fmt: skip
            found = rows(cursor, statement, arguments)
        connection.close()
        if not found:
            return [], 0, each
        return [tuple(row[:-1]) for row in found[:-1]], int(found[-1][-1]), each

    def _is_done(self, chunk: Chunk) -> bool:
        with self._hub_lock, transaction(self.hub) as cursor:
            return load_chunks.is_done(cursor, self.system, chunk)

    def _chunk(self, entity: str, chunk: Chunk) -> int:
        ticket = 0
        if chunk.plan:
            with self._hub_lock, transaction(self.hub) as cursor:
                ticket = load_chunks.take(cursor, self.system, chunk)
        with self._look() as (cursor, readings, output):
            readings.entities[entity].read_range(cursor, chunk.low, chunk.high, output)
        with self._hub_lock:
            if chunk.plan:
                with transaction(self.hub) as cursor:
                    load_chunks.check(cursor, self.system, chunk, ticket)
            self._publish(output)
            if chunk.plan:
                with transaction(self.hub) as cursor:
                    load_chunks.done(cursor, self.system, chunk, ticket, output.epoch)
        return output.records

    @contextmanager
    def _look(self) -> Iterator[tuple[Cursor, SourceReadings, Output]]:
        """One consistent look at the source, for an output with the number of the last reading that had finished before it."""
        version, epoch = self._finished()
        connection, readings = self._connection()
        with snapshot(connection, self._local.locks) as cursor:
            at = tracing.unfollowed(int(time.time() * 1_000_000))
            yield cursor, readings, Output(self.settings.kafka.partitions, self.system, epoch, version, at)

    def _publish(self, output: Output) -> None:
        for partition, frame in output.close():
            self.producer.send(frames.TOPIC, frame, partition=partition)
        self.producer.flush()

    def _finished(self) -> tuple[int, int]:
        """The number of the last finished reading, taken before the chunk's snapshot."""
        with self._hub_lock:
            stored = state.load(self.hub, self.system)
        assert stored is not None
        return stored.finished, stored.epoch

    def _connection(self) -> tuple[Connection, SourceReadings]:
        if not hasattr(self._local, "connection"):
            self._local.connection = open_source(self.settings, self.system, f"load {self.system}")
            self._opened.append(self._local.connection)
            profile = self.settings.profile_of(self.system)
            with transaction(self._local.connection) as cursor:
                self._local.readings = SourceReadings(cursor, self.system, profile, self.vault)
                self._local.locks = self._local.readings.locks(cursor)
        return self._local.connection, self._local.readings

    # ------------------------------------------------------------ single records, the end
    def _keys(self, chosen: Sequence[EntityReading], keys: Sequence[str]) -> int:
        with self._look() as (cursor, readings, output):
            for reading in chosen:
                parts = [split_key(key, len(reading.layout.mapping.key)) for key in keys]
                readings.entities[reading.entity].read_keys(cursor, parts, output)
        self._publish(output)
        return output.records

    def _range(self, reading: EntityReading, low: str | None, high: str | None) -> int:
        count = len(reading.layout.mapping.key)
        edges = [None if edge is None else split_key(edge, count) for edge in (low, high)]
        return self._chunk(reading.entity, Chunk(reading.entity, -1, edges[0], edges[1], 0))

    def begin_epoch(self) -> None:
        """The source was restored or replaced: a new epoch, which wins over everything said before, and a new resume point (R4).

        Where it is held too, `lienthong resend` comes first, but not of a source that went back in time: nothing is written there before this.
        """
        known = witness.load(self.hub, self.system)
        if known.held is not None and known.fenced is None and not self._begins_anew():
            raise witness.Held(known.held)
        line = line_for(self.settings, self.system, self.hub, self.producer, self.vault)
        line.connection = open_source(self.settings, self.system, f"load {self.system}")
        try:
            with snapshot(line.connection) as cursor:
                identity, now = state.identity_of(cursor), witness.mark_of(cursor, self.system)
            line.forget_position()
            state.new_epoch(self.hub, self.system, line.first_position(), identity)
            witness.accept(self.hub, self.system, now, new_life=True)
            time.sleep(2 * SAVE_EVERY_SECONDS)  # a reader that lives in the old epoch finds out before it saves again
        finally:
            line.close()

    def _complete(self, records: int) -> None:
        """Tell every partition that the load has ended (R4)."""
        version, epoch = self._finished()
        header = frames.Header(self.system, "?", "load_complete", epoch, version, 0, int(time.time() * 1_000_000))
        for partition in range(self.settings.kafka.partitions):
            for frame in frames.note_frame(header, [{"records": records, "partition": partition, "partitions": self.settings.kafka.partitions}]):
                self.producer.send(frames.TOPIC, frame, partition=partition)
        self.producer.flush()

    def close(self) -> None:
        """Close all connections."""
        for connection in [*self._opened, self.hub]:
            connection.close()
        self.producer.close()


def load_systems(
    settings: Settings,
    systems: Sequence[str],
    *,
    at_once: int,
    new_epoch: bool,
    progress: Callable[[str, str, int, int], None],
    **what: Any,
) -> tuple[list[Loaded], dict[str, LienThongError]]:
    """Load several systems, some at the same time; what could not be loaded is told beside the rest. `what` is as for `Loader.run`."""
    vault = Vault.from_environment()

    def one(system: str) -> Loaded:
        loader = Loader(settings, system, vault)
        try:
            loader.reach()
            if new_epoch:
                loader.begin_epoch()
            return loader.run(progress=lambda entity, done, planned: progress(system, entity, done, planned), **what)
        finally:
            loader.close()

    loaded: list[Loaded] = []
    failed: dict[str, LienThongError] = {}
    with ThreadPoolExecutor(max_workers=at_once, thread_name_prefix="load") as pool:
        jobs = [(system, pool.submit(one, system)) for system in systems]
        for system, job in jobs:
            try:
                loaded.append(job.result())
            except LienThongError as error:
                failed[system] = error
    return loaded, failed
