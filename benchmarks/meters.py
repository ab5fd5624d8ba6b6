"""What the work costs: CPU and memory of groups of processes from /proc, and the machine it was measured on."""

from __future__ import annotations

import os
import platform
import resource
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Self

from benchmarks.work import connect

Groups = Mapping[str, Iterable[int]]

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
SAMPLE_SECONDS = 1.0
# Of /proc/PID/stat, after the closing bracket of the command: the parent, and own and reaped children's CPU in ticks.
_PARENT, _CPU = 1, slice(11, 15)
SHOWN_SETTINGS = (
    "server_version",
    "fsync",
    "synchronous_commit",
    "full_page_writes",
    "wal_level",
    "shared_buffers",
    "max_wal_size",
    "autovacuum",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """CPU seconds and peak memory of each group between two moments. Shared pages count once (PSS).

    The harness itself is not a group: its pollers share the cores, so its CPU is told apart. What children of the
    harness that have ended used is the group `ended`.
    """

    cpu_seconds: dict[str, float]
    peak_mb: dict[str, float]
    peak_total_mb: float
    quarters_mb: list[dict[str, float]]  # the mean of each group in each quarter of the time: does it grow?
    harness_cpu_seconds: float


class Meter:
    """Measures a changing set of process groups from its creation until `stop`; samples no longer than its block."""

    def __init__(self, groups: Callable[[], Groups]) -> None:
        self._groups = groups
        self._peak: dict[str, float] = {}
        self._peak_total = 0.0
        self._sampled: list[dict[str, float]] = []
        self._first, self._first_ended, self._first_own = _cpu_by_group(groups()), _ended(), time.process_time()
        self._stopped = threading.Event()
        self._sampler = threading.Thread(target=self._sample, daemon=True)
        self._sampler.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stopped.set()
        self._sampler.join()

    def stop(self) -> Cost:
        """End the measurement."""
        self._stopped.set()
        self._sampler.join()
        cpu = {name: used - self._first.get(name, 0.0) for name, used in _cpu_by_group(self._groups()).items()}
        cpu["ended"] = _ended() - self._first_ended
        return Cost(
            cpu_seconds={name: round(used, 2) for name, used in cpu.items() if name != "ended" or used > 0.05},
            peak_mb={name: round(used, 1) for name, used in self._peak.items()},
            peak_total_mb=round(self._peak_total, 1),
            quarters_mb=_quarters(self._sampled),
            harness_cpu_seconds=round(time.process_time() - self._first_own, 2),
        )

    def _sample(self) -> None:
        """Once at the start, so that the shortest job has a sample, then each second."""
        while not self._sampled or not self._stopped.wait(SAMPLE_SECONDS):
            used = _sum_by_group(self._groups(), _memory_mb)
            self._sampled.append(used)
            for name, megabytes in used.items():
                self._peak[name] = max(self._peak.get(name, 0.0), megabytes)
            self._peak_total = max(self._peak_total, sum(used.values()))


def machine() -> dict[str, object]:
    """The machine: what its processor calls itself, how many of them we may use, and how busy they are."""
    return {
        "cpus": len(os.sched_getaffinity(0)),
        "cpu_model": _first_value("/proc/cpuinfo", "model name") or platform.machine(),
        "memory_mb": int((_first_value("/proc/meminfo", "MemTotal") or "0 kB").split()[0]) // 1024,
        "load_1m": round(os.getloadavg()[0], 2),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


def busy_seconds() -> float:
    """What all processors together have worked since the machine started, for anybody."""
    with open("/proc/stat") as lines:
        user, nice, system, _idle, _waiting, *interrupts = (int(ticks) for ticks in next(lines).split()[1:8])
    return (user + nice + system + sum(interrupts)) / TICKS_PER_SECOND


def server_settings(dsn: str) -> dict[str, str]:
    """What a PostgreSQL server itself says about the settings that decide durability and speed."""
    shown = {}
    with connect(dsn) as opened, opened.cursor() as at:
        for name in SHOWN_SETTINGS:
            at.execute("SELECT current_setting(%s)", (name,))
            shown[name] = str((at.fetchone() or ("",))[0])
    return shown


def _quarters(samples: Sequence[Mapping[str, float]]) -> list[dict[str, float]]:
    edges = [len(samples) * part // 4 for part in range(5)]
    return [_mean(samples[first:last]) for first, last in pairwise(edges)]


def _mean(samples: Sequence[Mapping[str, float]]) -> dict[str, float]:
    names = {name: None for sample in samples for name in sample}
    return {name: round(sum(sample.get(name, 0.0) for sample in samples) / len(samples), 1) for name in names}


def _cpu_by_group(groups: Groups) -> dict[str, float]:
    return _sum_by_group(groups, _cpu_seconds)


def _sum_by_group(groups: Groups, measure: Callable[[int], float]) -> dict[str, float]:
    children = _children()
    return {name: sum(measure(pid) for pid in _family(pids, children)) for name, pids in groups.items()}


def _family(pids: Iterable[int], children: Mapping[int, list[int]]) -> set[int]:
    """The processes and everything below them."""
    found: set[int] = set()
    waiting = list(pids)
    while waiting:
        pid = waiting.pop()
        if pid not in found:
            found.add(pid)
            waiting += children.get(pid, [])
    return found


def _children() -> dict[int, list[int]]:
    children: dict[int, list[int]] = defaultdict(list)
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (fields := _stat(int(entry))):
            children[int(fields[_PARENT])].append(int(entry))
    return children


def _cpu_seconds(pid: int) -> float:
    """Own time and that of children already waited for: over a whole tree nothing is lost when a child ends."""
    return sum(int(ticks) for ticks in _stat(pid)[_CPU]) / TICKS_PER_SECOND


def _stat(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return []


def _memory_mb(pid: int) -> float:
    try:
        kilobytes = _first_value(f"/proc/{pid}/smaps_rollup", "Pss")
    except OSError:
        return 0.0
    return int(kilobytes.split()[0]) / 1024 if kilobytes else 0.0


def _first_value(path: str, name: str) -> str | None:
    with open(path) as lines:
        for line in lines:
            key, _, value = line.partition(":")
            if key.strip() == name:
                return value.strip()
    return None


def _ended() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
