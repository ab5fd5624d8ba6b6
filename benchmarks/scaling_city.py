"""The city of the job `scaling`: one source, four targets, three brokers, and worker sets that come and go, with a judge of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from kafka import KafkaAdminClient
from kafka.errors import KafkaError
from psycopg2 import sql
from psycopg2.extensions import cursor

from benchmarks.jobs import JobError
from benchmarks.meters import Groups
from benchmarks.ours import Processes, execute, install, remake_hub
from benchmarks.ours_config import SOURCE, Party
from benchmarks.servers import Servers
from benchmarks.wards import TERMS, TO_TODAY
from benchmarks.work import TABLE, Place, Work, connect, prepare_source
from lienthong import merging, units
from lienthong.apply import run as applying
from lienthong.embedded import KafkaCluster
from lienthong.embedded.process import descendants
from lienthong.frames import TOPIC

TARGETS = 4
PARTITIONS = 8
ROLES = ("capture", "merge", "route", "apply")
GROUPS = (merging.GROUP, applying.GROUP)
LOAD = "load"
TIMEOUT_SECONDS = 180
POLL_SECONDS = 0.05
SETTLE_SECONDS = 0.3
TRANSACTION = 10

# Of twenty changes 15 are updates of any dossier, one moves it to another ward, two file a new one, and two delete one filed before.
LIVE = """
CREATE PROCEDURE live(first bigint, changes bigint, n bigint, stride bigint) LANGUAGE plpgsql AS $$
DECLARE c bigint; code text; ward text;
BEGIN
  FOR c IN first .. first + changes - 1 LOOP
    code := 'D' || lpad(((c * stride) % n)::text, 10, '0');
    IF c % 20 IN (3, 13) THEN
      INSERT INTO dossier SELECT 'N' || lpad(c::text, 10, '0'), procedure_code, agency_code, applicant_name, citizen_id, 0, submitted_at, due_at,
             NULL, ward_code, md5(c::text), clock_timestamp() FROM dossier WHERE dossier_code = code;
    ELSIF c % 20 IN (4, 14) THEN
      DELETE FROM dossier WHERE dossier_code = 'N' || lpad((c - 201)::text, 10, '0');
    ELSIF c % 20 = 7 THEN
      SELECT ward_code INTO ward FROM dossier WHERE dossier_code = 'D' || lpad(((c * stride + 1) % n)::text, 10, '0');
      UPDATE dossier SET ward_code = ward, updated_at = clock_timestamp() WHERE dossier_code = code;
    ELSE
      UPDATE dossier SET status = (status + 1) % 7, note = md5(c::text) || ' đã cập nhật', updated_at = clock_timestamp() WHERE dossier_code = code;
    END IF;
    IF c % 100 = 99 THEN COMMIT; END IF;
  END LOOP;
END $$"""
DUE = "CREATE VIEW due_{number} AS SELECT * FROM dossier WHERE ward_code IN ({codes})"
# A version that goes back is the trace of a worker that wrote after it had lost its line.
BACKWARDS = """
CREATE TABLE backwards (record bigint);
CREATE FUNCTION note_backwards() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$BEGIN
  IF NEW.version <> 0 AND (NEW.epoch, NEW.version) < (OLD.epoch, OLD.version) THEN INSERT INTO public.backwards VALUES (NEW.record); END IF;
  RETURN NULL; END$$;
CREATE TRIGGER note_backwards AFTER UPDATE ON lienthong.applied FOR EACH ROW EXECUTE FUNCTION note_backwards();"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the judge finds when all is calm: by SQL of its own on the tables of the source and the targets."""

    equal: bool
    rows: int
    backwards: int
    parked: int

    @property
    def right(self) -> bool:
        """Whether every target holds exactly what it must, and nothing went back or was put aside on the way."""
        return self.equal and not self.backwards and not self.parked


class ScalingCity:
    """A city in which each of four targets holds the dossiers of a quarter of the wards."""

    def __init__(self, servers: Servers, *, rows: int, seed: int) -> None:
        self.servers, self.rows = servers, rows
        self.cluster = KafkaCluster(servers.folder / "brokers")
        self.processes = Processes(servers.folder / "sets")
        self.source = servers.source_place
        self.due: dict[str, tuple[Place, Place]] = {}  # target: what it must hold, what it holds
        self.sets: list[str] = []
        self.hub_dsn = ""
        self._changes = 1000  # numbers of changes, never used twice
        self._stride = 2 * (seed % 500) + 7001  # which dossier is changed next

    # ------------------------------------------------------------ set-up
    def prepare(self) -> None:
        """Start the brokers, and make databases, configuration, hub and topics."""
        self.cluster.start()
        seed = self.servers.source.dsn(f"seed{self.rows}")
        prepare_source(self.servers.source.dsn("postgres"), self.source.dsn, seed, Work(rows=self.rows, changes=0, latency_seconds=0))
        codes = [unit.code for unit in units.all_units() if unit.valid_from >= units.ONE_CITY and unit.level == "ward"]
        with self.source.open() as at:
            at.execute(TO_TODAY, (codes, codes))
        execute(self.source.dsn, LIVE)
        parties = [Party(name=SOURCE, kind="department", dsn=self.source.dsn, capture="wal")]
        parties += [self._target(number, codes[number::TARGETS]) for number in range(TARGETS)]
        self.hub_dsn = remake_hub(self.servers)
        terms = replace(TERMS, kafka={"partitions": PARTITIONS, "replication": len(self.cluster.brokers)})
        settings = self.processes.configure(parties, terms, self.hub_dsn, self.cluster.bootstrap)
        install(settings, settings.systems)
        for _, held in self.due.values():
            execute(held.dsn, BACKWARDS)

    def _target(self, number: int, codes: list[str]) -> Party:
        name = f"part-{number}"
        database = f"part_{number}"
        self.servers.target.drop_database(database)
        dsn = self.servers.target.create_database(database)
        execute(dsn, TABLE)
        execute(self.source.dsn, DUE.format(number=number, codes=", ".join(f"'{code}'" for code in codes)))
        self.due[name] = replace(self.source, relation=f"due_{number}"), Place(dsn=dsn)
        return Party(name=name, kind="ward", dsn=dsn, capture="none", receives=True, units=tuple(codes))

    def close(self) -> None:
        """End all of it."""
        self.processes.stop()
        self.cluster.kill()

    # ------------------------------------------------------------ worker sets
    def join(self, number: int) -> None:
        """Start a worker set: the four roles, as `lienthong run` starts them, for all systems."""
        name = f"set-{number}"
        state = self.servers.folder / name
        state.mkdir(exist_ok=True)
        self.processes.start(name, "run", *ROLES, "--state", str(state))
        self.sets.append(name)

    def leave(self, number: int, *, killed: bool = False) -> None:
        """End a worker set as an orchestrator does, or as a machine that burns: SIGKILL to all of it."""
        self.sets.remove(f"set-{number}")
        self.processes.end(f"set-{number}", kill=killed)

    def leader(self) -> int:
        """The set that reads the source now: it has the lease, all others wait for it."""
        ((owner,),) = _ask(self.hub_dsn, f"SELECT lease_owner FROM hub.capture_state WHERE system = '{SOURCE}'")  # noqa: S608 - a name of ours
        pid = int(owner.rpartition(":")[2])
        leading = (name for name, (first,) in self.processes.groups().items() if pid in descendants(first))
        return int(next(leading).rpartition("-")[2])

    def load(self) -> None:
        """The initial load, to its end in every target."""
        self.processes.start(LOAD, "load", SOURCE)
        self.until(lambda: sum(self._count(held) for _, held in self.due.values()) == self.rows, "loaded")
        self.await_equal()

    @staticmethod
    def _count(place: Place) -> int:
        with place.open() as at:
            return place.count(at)

    def groups(self) -> Groups:
        """The processes by group: servers, and each role of each set."""
        found = {"pg_source": [self.servers.source.pid], "pg_hub_and_targets": [self.servers.target.pid]}
        found["kafka"] = [broker.pid for broker in self.cluster.brokers if broker.is_running]
        for name, (pid,) in self.processes.groups().items():
            if name in self.sets:
                for child in descendants(pid):
                    found.setdefault(f"{_role(child)} {name}", []).append(child)
        return found

    # ------------------------------------------------------------ life
    def stream(self, changes: int) -> float:
        """Commit changes as fast as one procedure does; the seconds it took."""
        begun = time.monotonic()
        with self.source.open() as at:
            at.execute("CALL live(%s, %s, %s, %s)", (self._taken(changes), changes, self.rows, self._stride))
        return time.monotonic() - begun

    @contextmanager
    def living(self, rate: float) -> Iterator[None]:
        """Changes at a steady rate, in transactions of ten, for as long as the block lasts."""
        ended = threading.Event()
        with ThreadPoolExecutor(1) as pool:
            writer = pool.submit(self._live, rate, ended)
            try:
                yield
            finally:
                ended.set()
                writer.result()

    def _live(self, rate: float, ended: threading.Event) -> None:
        begun, commits = time.monotonic(), 0
        with self.source.open() as at:
            while not ended.wait(max(0.0, begun + commits * TRANSACTION / rate - time.monotonic())):
                at.execute("CALL live(%s, %s, %s, %s)", (self._taken(TRANSACTION), TRANSACTION, self.rows, self._stride))
                commits += 1

    def _taken(self, changes: int) -> int:
        first, self._changes = self._changes, self._changes + changes
        return first

    # ------------------------------------------------------------ waiting, judging
    def until(self, is_so: Callable[[], bool], what: str, *, poll_seconds: float = POLL_SECONDS) -> None:
        """Wait until something is so, with an eye on the sets."""
        begun = time.monotonic()
        while not is_so():
            self.processes.check(may_end={LOAD})
            if (waited := time.monotonic() - begun) > TIMEOUT_SECONDS:
                raise JobError(f"not {what} within {waited:.0f} seconds")
            time.sleep(poll_seconds)

    def await_equal(self) -> None:
        """Wait until every target holds what it must: first for a mark in each, which costs nothing to look for, then by comparing."""
        mark = f"mark {time.time_ns()}"
        with self.source.open() as at:
            marked = {name: self._mark(at, must, mark) for name, (must, _) in self.due.items()}
        for name, (_, held) in self.due.items():
            with held.open() as at:
                self.until(partial(_stands, held, at, marked[name], mark), f"through to {name}")
        self.until(self.is_equal, "equal", poll_seconds=SETTLE_SECONDS)

    @staticmethod
    def _mark(at: cursor, must: Place, mark: str) -> str:
        """Change one dossier of a target last; its code."""
        at.execute(sql.SQL("SELECT min(dossier_code) FROM {}").format(sql.Identifier(must.relation)))
        code = str((at.fetchone() or ("",))[0])
        at.execute("UPDATE dossier SET note = %s, updated_at = clock_timestamp() WHERE dossier_code = %s", (mark, code))
        return code

    def is_equal(self) -> bool:
        """Whether every target holds exactly what it must."""
        return all(must.digest() == held.digest() for must, held in self.due.values())

    def judge(self) -> Verdict:
        """Compare everything with everything, once."""
        ask = "SELECT (SELECT count(*) FROM backwards), (SELECT count(*) FROM lienthong.parked)"
        found = [_ask(held.dsn, ask) for _, held in self.due.values()]
        ((in_hub,),) = _ask(self.hub_dsn, "SELECT count(*) FROM hub.parked")
        return Verdict(
            equal=self.is_equal(),
            rows=sum(self._count(held) for _, held in self.due.values()),
            backwards=sum(back for ((back, _),) in found),
            parked=in_hub + sum(parked for ((_, parked),) in found),
        )

    def is_settled(self) -> bool:
        """Whether both consumer groups have as many members as there are sets, and each partition has its reader."""
        try:
            with closing(self._admin()) as admin:
                groups = admin.describe_groups(list(GROUPS))
        except KafkaError:  # a coordinator that is just moving
            return False
        return all(group["group_state"] == "Stable" and len(group["members"]) == len(self.sets) for group in groups.values())

    def is_in_sync(self) -> bool:
        """Whether every partition of our topics has all its copies again."""
        try:
            with closing(self._admin()) as admin:
                topics = admin.describe_topics([TOPIC, *(f"lienthong.out.{name}" for name in self.due)])
        except KafkaError:
            return False
        return all(len(p["isr_nodes"]) == len(self.cluster.brokers) for topic in topics for p in topic["partitions"])

    def _admin(self) -> KafkaAdminClient:
        return KafkaAdminClient(bootstrap_servers=self.cluster.bootstrap.split(","), bootstrap_timeout_ms=10_000, request_timeout_ms=5_000)

    # ------------------------------------------------------------ sizes
    def hub_bytes(self) -> dict[str, int]:
        """The size of each of the hub's tables with its indexes, the largest first."""
        ask = """SELECT relname::text, pg_total_relation_size(oid) FROM pg_class WHERE relnamespace = 'hub'::regnamespace AND relkind = 'r'
                 AND pg_total_relation_size(oid) > 65536 ORDER BY 2 DESC"""
        return {name: size for name, size in _ask(self.hub_dsn, ask)}

    def topic_bytes(self) -> dict[str, int]:
        """What the brokers keep on disk, all copies together: what came in, and what went out."""
        found = {"in": 0, "out": 0}
        for broker in self.cluster.brokers:
            for log in (broker.directory / "data").glob("lienthong.*/*.log"):
                found["in" if log.parent.name.startswith(TOPIC) else "out"] += log.stat().st_size
        return found


def _ask(dsn: str, statement: str) -> list[tuple[Any, ...]]:
    with connect(dsn) as opened, opened.cursor() as at:
        at.execute(statement)
        return at.fetchall()


def _stands(held: Place, at: cursor, code: str, note: str) -> bool:
    return held.note_of(at, code) == note


def _role(pid: int) -> str:
    """Which role of `lienthong run` a process is, by its own command line."""
    words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
    return words[words.index("run") + 1]


class Watch:
    """Looks at every position twenty times a second: how long did each stand still?"""

    def __init__(self, city: ScalingCity) -> None:
        self._at: dict[str, dict[tuple[str, int], int]] = {}
        self._moved: dict[str, float] = {}
        self._longest: dict[str, float] = {}
        self._places = {"merge": Place(dsn=city.hub_dsn), **{name: held for name, (_, held) in city.due.items()}}
        self._ended = threading.Event()
        self._problem: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def mark(self) -> None:
        """From here on pauses count."""
        self._moved = dict.fromkeys(self._moved, time.monotonic())
        self._longest = {}

    def have_moved_since(self, moment: float) -> bool:
        """Whether every partition and every target has gone on after this moment."""
        if self._problem is not None:
            raise JobError("the positions cannot be read") from self._problem
        return len(self._moved) == PARTITIONS + TARGETS and min(self._moved.values()) > moment

    def longest(self) -> dict[str, float]:
        """The longest pause since the mark: of any partition of the merge, and of any target."""
        now = time.monotonic()
        pauses = {place: max(self._longest.get(place, 0.0), now - moved) for place, moved in self._moved.items()}
        ends = {kind: [pause for place, pause in pauses.items() if place.startswith("merge") is (kind == "merge")] for kind in ("merge", "apply")}
        return {kind: round(max(found), 2) for kind, found in ends.items()}

    def _run(self) -> None:
        with ExitStack() as opened:
            at = {name: opened.enter_context(place.open()) for name, place in self._places.items()}
            while not self._ended.wait(POLL_SECONDS):
                try:
                    for name, asked in at.items():
                        self._look(name, asked)
                except Exception as error:  # noqa: BLE001 - told by whoever waits for it
                    self._problem = error
                    return

    def _look(self, name: str, at: cursor) -> None:
        if name == "merge":
            at.execute("SELECT partition, next FROM hub.consumer_offset WHERE topic = %s", (TOPIC,))
        else:
            at.execute("SELECT partition, next FROM lienthong.consumer_offset")
        now, before = time.monotonic(), self._at.setdefault(name, {})
        for partition, following in at.fetchall():
            if before.get(partition) != following:
                before[partition] = following
                place = f"{name} {partition}"
                self._longest[place] = max(self._longest.get(place, 0.0), now - self._moved.get(place, now))
                self._moved[place] = now


@contextmanager
def scaling_city(servers: Servers, *, rows: int, seed: int) -> Iterator[ScalingCity]:
    """The city on running database servers; sets are started by whoever measures."""
    city = ScalingCity(servers, rows=rows, seed=seed)
    try:
        city.prepare()
        yield city
    finally:
        city.close()
