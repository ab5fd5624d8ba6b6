"""The job `scaling`: one, two, four worker sets on three brokers under live changes; sets come and go, and one set and one broker are killed."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from random import Random

from rich.table import Table

from benchmarks.meters import Cost, Meter, busy_seconds
from benchmarks.scaling_city import PARTITIONS, ROLES, TARGETS, ScalingCity, Watch, scaling_city
from benchmarks.servers import Servers
from lienthong.embedded.kafka import CLUSTER_SIZE

SETS = (1, 2, 4)
ROWS = 50_000
CHANGES = 40_000
RATE = 200.0
HOLD_SECONDS = 3.0
REST_SECONDS = 10.0
SEED = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Changes committed as fast as one procedure does, with so many worker sets, until every target holds what it must."""

    sets: int
    changes: int
    seconds: float
    source_seconds: float
    changes_per_second: float
    cpu_us: dict[str, float]  # a change: by server, and by role over all sets
    cpu_us_by_set: dict[str, float]
    rest_cores: dict[str, float]  # what the servers and the sets take when nothing changes
    topic_bytes: dict[str, float]  # a change, one copy
    others_cores: float  # what the rest of the machine took meanwhile: it shares the cores
    workers_mb: float

    @property
    def workers_us(self) -> float:
        """CPU of one change in all worker sets together, without what they take at rest."""
        return round(sum(self.cpu_us_by_set.values()) - self.rest_cores["sets"] * self.seconds / self.changes * 1e6, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What happened under a steady load: how long until all members had their parts, and how long any position stood still at most."""

    what: str
    sets: int
    settled_seconds: float
    longest_pause_seconds: dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaling:
    """The curve, the events, the judgement, and what a dossier takes on disk."""

    brokers: int
    partitions: int
    targets: int
    rows: int
    seed: int
    rate: float
    steps: list[Step]
    events: list[Event]
    equal: bool
    rows_at_end: int
    backwards: int
    parked: int
    hub_bytes_per_dossier: dict[str, float]
    topic_bytes_per_dossier: dict[str, float]  # one copy, after the load

    @property
    def workers_cpu_growth(self) -> float:
        """CPU of a change in the worker sets, with the most sets divided by that with one."""
        return round(self.steps[-1].workers_us / self.steps[0].workers_us, 2)

    def as_dict(self) -> dict[str, object]:
        """For `bench.json`."""
        steps = [{**asdict(step), "workers_us": step.workers_us} for step in self.steps]
        return {**asdict(self), "steps": steps, "workers_cpu_growth": self.workers_cpu_growth}

    def tables(self) -> list[Table]:
        """The curve and the events, for people."""
        names = ("sets", "changes/s", "CPU µs/change", "of it in the sets", "without rest", "by role", "by set", "cores at rest", "others", "sets MB")
        curve = Table(*names, title="scaling: worker sets")
        for step in self.steps:
            roles = {name: used for name, used in step.cpu_us.items() if name in ROLES}
            curve.add_row(
                str(step.sets),
                f"{step.changes_per_second:,.0f}",
                f"{sum(step.cpu_us.values()):.0f}",
                f"{sum(step.cpu_us_by_set.values()):.0f}",
                f"{step.workers_us:.0f}",
                _listed(roles),
                _listed(step.cpu_us_by_set),
                ", ".join(f"{name} {cores:.2f}" for name, cores in step.rest_cores.items()),
                f"{step.others_cores:.2f}",
                f"{step.workers_mb:,.0f}",
            )
        events = Table("event", "sets after it", "settled s", "longest pause s", title=f"scaling: events at {self.rate:g} changes/s")
        for event in self.events:
            pauses = ", ".join(f"{kind} {pause:.1f}" for kind, pause in event.longest_pause_seconds.items())
            events.add_row(event.what, str(event.sets), f"{event.settled_seconds:.1f}", pauses)
        return [curve, events]


def measure_scaling(servers: Servers) -> Scaling:
    """The curve with one, two and four sets; between the steps sets join under load; at the end one leaves, a broker and a set are killed."""
    servers.stop_broker()
    with scaling_city(servers, rows=ROWS, seed=SEED) as city:
        city.join(1)
        city.load()
        hub, topics = city.hub_bytes(), city.topic_bytes()
        steps, events = [], []
        with Watch(city) as watch:
            for sets in SETS:
                events += _grow(city, watch, sets)
                city.await_equal()
                steps.append(_step(city))
            with city.living(RATE):
                events += breaking(city, watch, Random(SEED))
            city.await_equal()
        verdict = city.judge()
        return Scaling(
            brokers=CLUSTER_SIZE,
            partitions=PARTITIONS,
            targets=TARGETS,
            rows=city.rows,
            seed=SEED,
            rate=RATE,
            steps=steps,
            events=events,
            equal=verdict.right,
            rows_at_end=verdict.rows,
            backwards=verdict.backwards,
            parked=verdict.parked,
            hub_bytes_per_dossier={name: round(size / city.rows, 1) for name, size in hub.items()},
            topic_bytes_per_dossier={name: round(size / city.rows / CLUSTER_SIZE, 1) for name, size in topics.items()},
        )


def _grow(city: ScalingCity, watch: Watch, sets: int) -> list[Event]:
    """Let sets join under load until there are so many."""
    events = []
    while len(city.sets) < sets:
        number = len(city.sets) + 1
        with city.living(RATE):
            events.append(happen(city, watch, f"set {number} joins", partial(city.join, number)))
    city.until(city.is_settled, "settled")
    return events


def breaking(city: ScalingCity, watch: Watch, random: Random) -> list[Event]:
    """Under load: the newest set leaves in order, a broker is killed and comes back, the set that reads the source is killed and comes back."""
    broker, last = random.choice(city.cluster.brokers), len(city.sets)
    events = [
        happen(city, watch, f"set {last} leaves", partial(city.leave, last)),
        happen(city, watch, "a broker is killed", broker.kill),
        happen(city, watch, "the broker is back", broker.start, city.is_in_sync),
    ]
    leader = city.leader()
    events.append(happen(city, watch, f"set {leader}, which leads, is killed", partial(city.leave, leader, killed=True)))
    return [*events, happen(city, watch, f"set {leader} is back", partial(city.join, leader))]


def happen(city: ScalingCity, watch: Watch, what: str, act: Callable[[], None], is_over: Callable[[], bool] | None = None) -> Event:
    """Let something happen and wait until all members have their parts, and after that every position has moved again."""
    begun = time.monotonic()
    watch.mark()
    act()
    city.until(is_over or city.is_settled, f"settled after: {what}")
    settled = time.monotonic()
    city.until(lambda: watch.have_moved_since(max(settled, begun + HOLD_SECONDS)), f"going on after: {what}")
    return Event(what=what, sets=len(city.sets), settled_seconds=round(settled - begun, 1), longest_pause_seconds=watch.longest())


def _step(city: ScalingCity) -> Step:
    with Meter(city.groups) as meter:
        time.sleep(REST_SECONDS)
        rest = meter.stop()
    with Meter(city.groups) as meter:
        before, begun, busy = city.topic_bytes(), time.monotonic(), busy_seconds()
        source_seconds = city.stream(CHANGES)
        city.await_equal()
        seconds, cost = time.monotonic() - begun, meter.stop()
        others = busy_seconds() - busy - sum(cost.cpu_seconds.values()) - cost.harness_cpu_seconds
    return Step(
        sets=len(city.sets),
        changes=CHANGES,
        seconds=round(seconds, 2),
        source_seconds=round(source_seconds, 2),
        changes_per_second=round(CHANGES / seconds),
        cpu_us=_each(cost, lambda name: name.partition(" ")[0]),
        cpu_us_by_set=_each(cost, lambda name: name.partition(" ")[2]),
        rest_cores=_at_rest(rest),
        topic_bytes={name: round((size - before[name]) / CHANGES / CLUSTER_SIZE, 1) for name, size in city.topic_bytes().items()},
        others_cores=round(others / seconds, 2),
        workers_mb=round(sum(peak for name, peak in cost.peak_mb.items() if " " in name), 1),
    )


def _each(cost: Cost, kind: Callable[[str], str]) -> dict[str, float]:
    """Microseconds of CPU a change, summed by a part of the groups' names."""
    found: dict[str, float] = {}
    for name, seconds in cost.cpu_seconds.items():
        if kind(name):
            found[kind(name)] = found.get(kind(name), 0.0) + seconds / CHANGES * 1e6
    return {name: round(used, 1) for name, used in sorted(found.items())}


def _at_rest(cost: Cost) -> dict[str, float]:
    """Cores, of the sets together and of each server."""
    found: dict[str, float] = {}
    for name, seconds in cost.cpu_seconds.items():
        kind = "sets" if " " in name else name
        found[kind] = found.get(kind, 0.0) + seconds / REST_SECONDS
    return {name: round(cores, 3) for name, cores in found.items()}


def _listed(by_name: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:,.0f}" for name, value in by_name.items())
