"""The job `wards`: a city and its 168 wards, one database each on one cluster, most of them quiet."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import cycle, islice

from psycopg2 import sql
from psycopg2.extensions import cursor

from benchmarks.jobs import JobError, percentile
from benchmarks.meters import Cost, Groups, Meter
from benchmarks.ours import FULL_ROLES, LOAD, Processes, execute, install, remake_hub
from benchmarks.ours_config import FIELDS, SOURCE, Party, Terms
from benchmarks.servers import Servers
from benchmarks.work import TABLE, Place, Work, connect
from lienthong import ddl, probe, units
from lienthong.embedded import PostgresCluster
from lienthong.embedded.postgres import remove_data
from lienthong.load import Loader
from lienthong.settings import Settings
from lienthong.vault import Vault

ROWS_PER_WARD = 100
BUSY_WARDS = 8
CHANGES_PER_SECOND = 8
QUIET_SECONDS = 20
TIMEOUT_SECONDS = 300
GRACE_SECONDS = 60
POLL_SECONDS = 0.005
TEMPLATE = "ward_template"
# One connection each for capture and apply, and room for ours.
CONNECTIONS = 400

# A ward receives its dossiers by unit, so here the column holds real codes, at a date when they are today's. Its word
# counts for their progress.
TERMS = Terms(
    fields={name: column for name, column in FIELDS.items() if name != "receiving_agency_code"}
    | {"processing_unit_code": {"column": "ward_code", "read": "unit_code", "on": "submitted_at"}},
    orders={"processing": ["kind:ward", SOURCE]},
)
TO_TODAY = """
UPDATE dossier d SET ward_code = (%s::text[])[1 + n %% cardinality(%s)],
       submitted_at = submitted_at + interval '1 year',
       due_at = due_at + interval '1 year', updated_at = updated_at + interval '1 year'
FROM (SELECT dossier_code, row_number() OVER (ORDER BY dossier_code)::int AS n FROM dossier) o
WHERE o.dossier_code = d.dossier_code"""
CHANGE = """
UPDATE dossier SET status = (status + 1) % 7, updated_at = clock_timestamp()
WHERE dossier_code = (SELECT dossier_code FROM dossier ORDER BY updated_at LIMIT 1)
RETURNING dossier_code, updated_at"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wards:
    """What many mostly quiet databases cost: to fill them, to watch them, and what a change in one of them takes."""

    wards: int
    rows: int
    create_seconds: float
    load_seconds: float
    equal: bool
    workers_peak_mb: float
    load: Cost
    quiet_seconds: float
    quiet_cores: dict[str, float]
    quiet: Cost
    p50_ms: float
    p99_ms: float
    samples: int
    expected: int
    changes_per_second: float


def measure_wards(servers: Servers) -> Wards:
    """Fill every ward from the city, watch them do nothing, then let some of them change their dossiers."""
    with _city(servers) as city:
        with Meter(city.groups) as meter:
            start = time.monotonic()
            city.begin()
            city.await_filled()
            load_seconds, load = time.monotonic() - start, meter.stop()
        city.await_calm()
        with Meter(city.groups) as meter:
            time.sleep(QUIET_SECONDS)
            quiet = meter.stop()
        city.check()
        expected = CHANGES_PER_SECOND * QUIET_SECONDS
        taken, peak = city.change(expected)
        return Wards(
            wards=len(city.wards),
            rows=city.rows,
            create_seconds=round(city.create_seconds, 1),
            load_seconds=round(load_seconds, 1),
            equal=city.is_equal(),
            workers_peak_mb=round(max(city.workers_mb(load), city.workers_mb(quiet), peak), 1),
            load=load,
            quiet_seconds=QUIET_SECONDS,
            quiet_cores={name: round(used / QUIET_SECONDS, 3) for name, used in quiet.cpu_seconds.items()},
            quiet=quiet,
            p50_ms=percentile(taken, 0.50),
            p99_ms=percentile(taken, 0.99),
            samples=len(taken),
            expected=expected,
            changes_per_second=CHANGES_PER_SECOND,
        )


@contextmanager
def _city(servers: Servers) -> Iterator[_City]:
    """A cluster for the wards, the city, and everything made in both; all ended afterwards."""
    settings = {"max_connections": str(CONNECTIONS)}
    cluster = PostgresCluster(servers.folder / "wards", name="bench-wards", settings=settings)
    processes = Processes(servers.folder / "ours")
    cluster.start()
    try:
        yield _City(servers, cluster, processes)
    finally:
        processes.stop()
        servers.stop_broker()
        cluster.stop()
        remove_data(cluster.directory)


class _City:
    """The bench's source as the city's system, and a database for each of today's wards."""

    def __init__(self, servers: Servers, cluster: PostgresCluster, processes: Processes) -> None:
        self._servers, self._cluster, self._processes = servers, cluster, processes
        codes = [unit.code for unit in units.all_units() if unit.valid_from >= units.ONE_CITY and unit.level == "ward"]
        self.wards = {code: Place(dsn=cluster.dsn(f"ward_{code}")) for code in codes}
        self.rows = len(codes) * ROWS_PER_WARD
        self.source = servers.source_place
        servers.prepare(Work(rows=self.rows, changes=0, latency_seconds=0))
        with self.source.open() as at:
            at.execute(TO_TODAY, (codes, codes))
        parties = [Party(name=SOURCE, kind="department", dsn=self.source.dsn, capture="wal", receives=True)]
        parties += [_ward(code, place) for code, place in self.wards.items()]
        settings = processes.configure(parties, TERMS, remake_hub(servers), servers.broker.bootstrap)
        start = time.monotonic()
        self._create_wards(settings)
        self.create_seconds = time.monotonic() - start
        install(settings, [SOURCE])
        for code in self.wards:  # a party receives only after it was loaded itself; these have nothing yet
            loader = Loader(settings, _name(code), Vault(None))
            loader.run()
            loader.close()

    def _create_wards(self, settings: Settings) -> None:
        """All wards are copies of one: same table, same triggers, same grants."""
        template = self._cluster.create_database(TEMPLATE)
        execute(template, TABLE)
        execute(template, ddl.ddl_for(_name(next(iter(self.wards))), settings))
        with connect(self._cluster.dsn()) as server, server.cursor() as at:
            for code in self.wards:
                statement = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy")
                at.execute(statement.format(sql.Identifier(f"ward_{code}"), sql.Identifier(TEMPLATE)))

    def begin(self) -> None:
        self._processes.start_roles(FULL_ROLES)
        self._processes.start(LOAD, "load", SOURCE)

    def check(self) -> None:
        self._processes.check(may_end={LOAD})

    def groups(self) -> Groups:
        return self._servers.groups() | {"pg_wards": [self._cluster.pid]} | self._processes.groups()

    def workers_mb(self, cost: Cost) -> float:
        """What our processes took together at their peaks."""
        return sum(cost.peak_mb.get(name, 0.0) for name in self._processes.groups())

    def await_filled(self) -> None:
        """Wait until each ward holds its dossiers; a ward that does is not asked again."""
        waiting, end = list(self.wards.values()), time.monotonic() + TIMEOUT_SECONDS
        while waiting:
            self.check()
            with waiting[-1].open() as at:
                if waiting[-1].count(at) == ROWS_PER_WARD:
                    waiting.pop()
                    continue
            if time.monotonic() > end:
                raise JobError(f"{len(waiting)} wards were not filled within {TIMEOUT_SECONDS} seconds")
            time.sleep(0.25)

    def await_calm(self) -> None:
        """Wait until what the wards were given has come back through their triggers and left the hub's list."""
        end, calm = time.monotonic() + TIMEOUT_SECONDS, 0
        with connect(self._servers.target.dsn("hub")) as hub, hub.cursor() as at:
            seen: object = None
            while calm < 5:
                at.execute("SELECT sum(n), (SELECT count(*) FROM hub.changed WHERE record <> %s) FROM hub.counter", [probe.RECORD])
                found = at.fetchone()
                calm, seen = (calm + 1 if found == seen else 0), found
                if time.monotonic() > end:
                    raise JobError(f"the city was not calm within {TIMEOUT_SECONDS} seconds")
                time.sleep(1)

    def is_equal(self) -> bool:
        """Whether the wards together hold the city's dossiers: each stands in one ward, and the digest is a sum."""
        parts = [place.digest() for place in self.wards.values()]
        return self.source.digest() == (sum(rows for rows, _ in parts), sum(total for _, total in parts))

    def change(self, changes: int) -> tuple[list[float], float]:
        """Change dossiers in a few wards at a steady rate: the seconds until the city had each, and our peak memory."""
        with Meter(self.groups) as meter, ExitStack() as opened:
            busy = [opened.enter_context(place.open()) for place in islice(self.wards.values(), BUSY_WARDS)]
            city = opened.enter_context(self.source.open())
            taken = _change(islice(cycle(busy), changes), city)
            return sorted(taken), self.workers_mb(meter.stop())


def _change(turns: Iterable[cursor], city: cursor) -> list[float]:
    awaited: dict[str, tuple[datetime, float]] = {}
    taken: list[float] = []
    start = time.monotonic()
    for number, ward in enumerate(turns):
        while time.monotonic() < start + number / CHANGES_PER_SECOND:
            taken += _look(city, awaited)
        ward.execute(CHANGE)
        for code, moment in ward.fetchall():
            awaited[code] = (moment, time.monotonic())
    end = time.monotonic() + GRACE_SECONDS
    while awaited and time.monotonic() < end:
        taken += _look(city, awaited)
    return taken


def _look(city: cursor, awaited: dict[str, tuple[datetime, float]]) -> list[float]:
    """The seconds that those changes took which the city has now; they are awaited no longer."""
    time.sleep(POLL_SECONDS)
    city.execute("SELECT dossier_code, updated_at FROM dossier WHERE dossier_code = ANY(%s)", (list(awaited),))
    now = time.monotonic()
    arrived = [code for code, moment in city.fetchall() if awaited[code][0] == moment]
    return [now - awaited.pop(code)[1] for code in arrived]


def _name(code: str) -> str:
    return f"ward-{code}"


def _ward(code: str, place: Place) -> Party:
    return Party(name=_name(code), kind="ward", dsn=place.dsn, capture="outbox", receives=True, units=(code,))
