"""Faults of processes: killed and frozen consumers, publishers, brokers and databases (matrix 1 to 6, 10, 11)."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from tests.faults.stack import FaultCity
from tests.faults.suite import Run, Skipped, fault

SESSION_SECONDS = 15.0  # after which the group gives a silent member's partitions to others
READ = ("connectors.kafka.Consumer.poll", "after")
MERGE_POINTS = (
    ("lienthong.hub.move_offsets", "after"), ("lienthong.hub.note_changed", "after"), ("commit", "before"), ("commit", "after"),
)  # fmt: skip
APPLY_POINTS = (("lienthong.hub.move_offsets", "after"), ("commit", "before"), ("commit", "after"), ("lienthong.apply.target.Target.apply", "after"))
CAPTURE_POINTS = (
    ("connectors.kafka.Producer.flush", "after"), ("connectors.postgres.ReplicationStream.confirm", "before"),
    ("lienthong.capture.state.Numbers.save", "before"),
)  # fmt: skip
ROUTE_POINTS = (
    ("connectors.kafka.Producer.flush", "before"),
    ("connectors.kafka.Producer.flush", "after"),
    ("connectors.kafka.Producer.flush", "after"),
)


def at_points(city: FaultCity, run: Run, points: dict[str, tuple[str, str]], seconds: float = 40.0) -> None:
    """Kill each role at its point; whoever ended is started again at once."""
    for role, (point, when) in points.items():
        city.failpoint(role, point, when, city.random.randint(1, 3))
    for role, (point, when) in points.items():
        if city.hit(role, seconds):
            run.row.injected += 1
        else:
            run.note(f"{role} did not come to {point} {when} in time")
        city.watch()


@fault(1, "consumer killed: merge and apply, random and named moments")
def kill_consumers(city: FaultCity, run: Run) -> None:
    for _ in range(4):
        with run.injection():
            time.sleep(city.random.uniform(0.05, 0.6))
            city.kill_role(city.random.choice(("merge-1", "merge-2", "apply")))
    for merge, apply in zip(MERGE_POINTS, APPLY_POINTS, strict=True):
        at_points(city, run, {city.random.choice(("merge-1", "merge-2")): merge, "apply": apply})


@fault(2, "publisher killed between acknowledgement and saved position")
def kill_publishers(city: FaultCity, run: Run) -> None:
    for capture, route in zip(CAPTURE_POINTS, ROUTE_POINTS, strict=True):
        at_points(city, run, {"capture": capture, "route": route})


@fault(3, "consumer frozen past its session, then thawed (zombie)")
def freeze_consumers(city: FaultCity, run: Run) -> None:
    city.start_role("apply-2")
    city.failpoint("merge-1", *READ, 3, "freeze")
    city.failpoint("apply", *READ, 3, "freeze")
    frozen = [role for role in ("merge-1", "apply") if city.hit(role)]
    run.row.injected += len(frozen)
    time.sleep(SESSION_SECONDS + 3)
    for role in frozen:
        city.roles[role].send_signal(signal.SIGCONT)
    time.sleep(2)
    city.roles.pop("apply-2").terminate()


@fault(4, "rebalance storm: five consumers come and go")
def rebalance_storm(city: FaultCity, run: Run) -> None:
    extra = ("merge-3", "merge-4", "merge-5", "apply-2", "apply-3")
    for _ in range(6):
        with run.injection():
            for role in extra:
                city.start_role(role)
            time.sleep(2)
            for role in extra:
                process = city.roles.pop(role)
                process.send_signal(city.random.choice((signal.SIGTERM, signal.SIGKILL)))
                process.wait(30)


@fault(5, "broker killed and started again")
def kill_broker(city: FaultCity, run: Run) -> None:
    assert city.stack.kafka is not None
    for _ in range(2):
        with run.injection():
            city.stack.kafka.kill()
            time.sleep(city.random.uniform(0.2, 2))
            city.stack.kafka.start()
        time.sleep(3)


@fault(6, "broker frozen for 60 s")
def freeze_broker(city: FaultCity, run: Run) -> None:
    assert city.stack.kafka is not None
    before = memory_mb(city.roles["capture"].pid)
    with run.injection():
        os.kill(city.stack.kafka.pid, signal.SIGSTOP)
        try:
            time.sleep(60)
        finally:
            os.kill(city.stack.kafka.pid, signal.SIGCONT)
    process = city.roles["capture"]
    run.check(process.poll() is None, "capture ended while the broker was silent")
    run.check(memory_mb(process.pid) - before < 100, "capture needs 100 MB more than before")


@fault(10, "source database killed under load")
def kill_sources(city: FaultCity, run: Run) -> None:
    for cluster in ("central", "ward", "central"):
        with run.injection():
            time.sleep(city.random.uniform(0.3, 1))
            kill_cluster(city, cluster)
        time.sleep(1)


@fault(11, "target database killed at commit, and a commit whose answer is lost")
def lose_commits(city: FaultCity, run: Run) -> None:
    for when in ("before", "after"):
        city.failpoint("apply", "commit", when, city.random.randint(1, 3), "wait")
        if city.hit("apply", 30):
            with run.injection():
                kill_cluster(city, "ward", lambda: city.let_go("apply"))
    for role, cluster in (("apply", "ward"), ("merge-1", "hub"), ("apply", "central")):
        swallow_commit(city, run, role, cluster)


def swallow_commit(city: FaultCity, run: Run, role: str, cluster: str) -> None:
    """The server commits; the answer never arrives, and the connection breaks."""
    if city.proxy is None:
        raise Skipped("Toxiproxy cannot be built: there is no `go`")
    city.failpoint(role, "commit", "before", 1, "wait")
    if city.hit(role, 30):
        with run.injection(), city.proxy.toxic(cluster, "timeout", timeout=400):
            city.let_go(role)
            time.sleep(0.8)


def kill_cluster(city: FaultCity, cluster: str, meanwhile: object = None) -> None:
    """SIGKILL to the postmaster and all its processes, then crash recovery."""
    server = city.stack.postgres[cluster]
    server.kill()
    if callable(meanwhile):
        meanwhile()
    time.sleep(city.random.uniform(0.1, 1))
    server.start()


def memory_mb(pid: int) -> float:
    """Resident memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
