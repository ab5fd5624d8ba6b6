"""Faults mixed at random under live load, while systems are loaded again and while they only stream; judged at every rest."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field

from tests.faults.kills import APPLY_POINTS, CAPTURE_POINTS, MERGE_POINTS, ROUTE_POINTS, kill_cluster
from tests.faults.oracle import Verdict
from tests.faults.stack import ROLES, FaultCity, canaries
from tests.faults.suite import Cities, say
from tests.faults.sweep import leaks, thorough
from tests.faults.words import SYSTEMS

POINTS = {"merge-1": MERGE_POINTS, "merge-2": MERGE_POINTS, "apply": APPLY_POINTS, "capture": CAPTURE_POINTS, "route": ROUTE_POINTS}
ROUND_SECONDS = 25.0


def kill_role(city: FaultCity) -> None:
    """SIGKILL to any role."""
    city.kill_role(city.random.choice(ROLES))


def kill_at_point(city: FaultCity) -> None:
    """SIGKILL at a failpoint."""
    role = city.random.choice(ROLES)
    point, when = city.random.choice(POINTS[role])
    city.failpoint(role, point, when, city.random.randint(1, 4))
    city.hit(role, 4)


def freeze_role(city: FaultCity) -> None:
    """SIGSTOP, and on again."""
    process = city.roles[city.random.choice(ROLES)]
    process.send_signal(signal.SIGSTOP)
    time.sleep(city.random.uniform(0.5, 4))
    process.send_signal(signal.SIGCONT)


def stop_role(city: FaultCity) -> None:
    """SIGTERM: a clean end, and a new start."""
    role = city.random.choice(ROLES)
    process = city.roles.pop(role)
    process.terminate()
    process.wait(30)
    city.start_role(role)


def kill_database(city: FaultCity) -> None:
    """SIGKILL to any cluster, the hub's too."""
    kill_cluster(city, city.random.choice(("hub", "central", "ward")))


def kill_broker(city: FaultCity) -> None:
    """SIGKILL to the broker."""
    assert city.stack.kafka is not None
    city.stack.kafka.kill()
    time.sleep(city.random.uniform(0.1, 2))
    city.stack.kafka.start()


def freeze_broker(city: FaultCity) -> None:
    """SIGSTOP to the broker."""
    assert city.stack.kafka is not None
    os.kill(city.stack.kafka.pid, signal.SIGSTOP)
    time.sleep(city.random.uniform(0.5, 5))
    os.kill(city.stack.kafka.pid, signal.SIGCONT)


def cut_network(city: FaultCity) -> None:
    """Connections to one cluster broken, swallowed or slowed."""
    if city.proxy is None:
        return
    cluster = city.random.choice(("hub", "central", "ward"))
    toxics: list[Callable[[], object]] = [
        lambda: city.proxy.down(cluster),  # type: ignore[union-attr]
        lambda: city.proxy.toxic(cluster, "reset_peer", timeout=0),  # type: ignore[union-attr]
        lambda: city.proxy.toxic(cluster, "timeout", timeout=300),  # type: ignore[union-attr]
        lambda: city.proxy.toxic(cluster, "latency", latency=150, jitter=100),  # type: ignore[union-attr]
    ]
    with ExitStack() as stack:
        stack.enter_context(city.random.choice(toxics)())  # type: ignore[arg-type]
        time.sleep(city.random.uniform(0.2, 3))


MIX: tuple[tuple[int, Callable[[FaultCity], None]], ...] = (
    (5, kill_role), (6, kill_at_point), (2, freeze_role), (2, stop_role), (2, kill_database), (1, kill_broker), (1, freeze_broker), (3, cut_network),
)  # fmt: skip


@dataclass(slots=True)
class Mixed:
    """What a mix did and found."""

    injected: Counter[str] = field(default_factory=Counter)
    at_risk: int = 0
    recovered_seconds: float = 0.0
    verdict: Verdict = field(default_factory=Verdict)
    leaked: list[str] = field(default_factory=list)

    @property
    def right(self) -> bool:
        """Whether nothing was wrong."""
        return self.verdict.right and not self.leaked


def mix(city: FaultCity, seconds: float, *, with_load: bool, only: Callable[[Callable[[FaultCity], None]], bool] = lambda _: True) -> Mixed:
    """Faults at random for so long, then rest and judgement; `with_load`: systems are loaded again meanwhile."""
    mixed = Mixed()
    city.oracle.mark()
    weights, faults = zip(*[(weight, one) for weight, one in MIX if only(one)], strict=True)
    loading = _load_again(city) if with_load else None
    until = time.monotonic() + seconds
    with city.living():
        while time.monotonic() < until:
            time.sleep(city.random.uniform(0.1, 1.5))
            one = city.random.choices(faults, weights)[0]
            one(city)
            mixed.injected[one.__name__] += 1
            city.watch()
            if loading is not None and loading.poll() is not None:
                loading = _load_again(city)
    if loading is not None:
        loading.wait(60)
    mixed.verdict, mixed.recovered_seconds = city.clean()
    mixed.at_risk = city.oracle.at_risk()
    mixed.leaked = leaks(city)
    return mixed


def _load_again(city: FaultCity) -> subprocess.Popen[bytes]:
    system = city.random.choice(SYSTEMS)
    return city.start("load", system, log="load.log", environment=city.proxied())


def chaos(minutes: float, seed: str) -> bool:
    """Rounds of mixed faults, by turns in the load phase and streaming only; whether all were right."""
    assert canaries()
    say(f"seed {seed}")
    cities, right, number = Cities(seed), True, 0
    until = time.monotonic() + minutes * 60
    try:
        while time.monotonic() < until:
            number += 1
            city = cities.city()
            with_load = bool(number % 2)
            mixed = mix(city, ROUND_SECONDS, with_load=with_load)
            phase = "load     " if with_load else "streaming"
            faults = ", ".join(f"{name} {count}" for name, count in sorted(mixed.injected.items()))
            verdict = "right" if mixed.right else "WRONG"
            say(f"round {number} {phase} at risk {mixed.at_risk}, recovered in {mixed.recovered_seconds:.1f} s, {verdict}: {faults}")
            for text in [*mixed.verdict.examples, *mixed.leaked[:5]]:
                say(f"      {text}")
            if not mixed.right:
                right = False
                cities.keep(mixed.verdict.examples, f"chaos-{number}")
                cities.give_up()
        if right:
            found = thorough(cities.city())
            right = not found
            say(f"personal data outside of records: {found or 'none'}")
    finally:
        cities.close()
    say(f"chaos: {number} rounds, {'all right' if right else 'WRONG'}")
    return right
