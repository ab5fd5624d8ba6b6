"""What was measured, as a table for people and as `bench.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.table import Table

from benchmarks.jobs import Latency, Load, Stream
from benchmarks.meters import Cost
from benchmarks.work import UPDATES_PER_TRANSACTION, Work

Side = Literal["ours", "peer"]
Result = Load | Stream | Latency
SIDES: tuple[Side, ...] = ("ours", "peer")
# Servers are the same for everybody; "workers" is what a contender brings along.
SERVER_GROUPS = ("pg_source", "pg_target", "kafka")
# The number a job is judged by; of several runs the one with the median of it is reported, whole.
MEASURES = {
    "load": "rows_per_second",
    "full_path": "rows_per_second",
    "stream": "changes_per_second",
    "latency": "p99_ms",
    "full_path_latency": "p99_ms",
}
# Jobs with a form of their own: the number they are judged by is made by the job.
EXTRA_MEASURES = {
    "scale": "stream_growth",
    "wards": "workers_peak_mb",
    "reconcile": "seconds",
    "delivery": "messages_per_second",
    "scaling": "workers_cpu_growth",
    "memory": "workers_peak_mb",
}
# Memory is told of the load: long enough, and the same for everybody.
MEMORY_OF = ("load", "full_path")


@dataclass(slots=True)
class Report:
    """The results of all runs, by job and side."""

    work: Work
    environment: Mapping[str, object]
    settings: dict[Side, Mapping[str, object]] = field(default_factory=dict)
    results: dict[str, dict[Side, list[Result]]] = field(default_factory=dict)
    extras: dict[str, dict[Side, Mapping[str, object]]] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)

    def add_extra(self, job: str, side: Side, result: Mapping[str, object]) -> None:
        """Keep the result of a job with a form of its own; a later turn replaces it."""
        self.extras.setdefault(job, {})[side] = result

    def add(self, job: str, side: Side, result: Result) -> None:
        """Keep one run's result."""
        self.results.setdefault(job, {}).setdefault(side, []).append(result)

    def copy(self, job: str, to: str, side: Side) -> None:
        """Let a job's results stand for another job's too: a peer with one hop has no longer path."""
        for result in self.results.get(job, {}).get(side, []):
            self.add(to, side, result)

    @property
    def is_fine(self) -> bool:
        """Whether every run finished and every target became equal to its source."""
        runs = [run for sides in self.results.values() for found in sides.values() for run in found]
        extras = [found for sides in self.extras.values() for found in sides.values()]
        return not self.errors and all(getattr(run, "equal", True) for run in runs) and all(found.get("equal", True) for found in extras)

    def as_dict(self) -> dict[str, object]:
        """The content of `bench.json`."""
        self._add_memory()
        jobs = {job: self._job(job, sides) for job, sides in self.results.items()}
        jobs |= {job: self._extra(job, sides) for job, sides in self.extras.items()}
        return {**jobs, "environment": self.environment, "work": asdict(self.work), "errors": self.errors}

    def write(self, path: Path) -> None:
        """Write `bench.json`."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self.as_dict(), indent=2, ensure_ascii=False) + "\n")

    def show(self, console: Console) -> None:
        """Print the table."""
        table = Table("job", "who", "result", "CPU µs/record", "peak MB", "equal", "ours/peer")
        for job, sides in self.results.items():
            ratio = _ratio(job, sides)
            for side in SIDES:
                if side in sides:
                    shown = "" if ratio is None or side == "peer" else f"{ratio:.2f}"
                    table.add_row(job, side, *_cells(_median(job, sides[side]), self.work), shown)
            table.add_section()
        console.print(table)
        for job, extra in self.extras.items():
            measure = EXTRA_MEASURES[job]
            told = ", ".join(f"{side} {found.get(measure)}" for side, found in extra.items())
            console.print(f"[bold]{job}[/bold]: {measure} {told}")
        for error in self.errors:
            console.print(f"[red]{error}[/red]")

    def _add_memory(self) -> None:
        """What a contender's own processes take, at the peak and in each quarter of the load."""
        for job in MEMORY_OF:
            for side, runs in self.results.get(job, {}).items():
                cost = _median(job, runs).cost
                if job == "load" or side == "ours":
                    self.extras.setdefault("memory", {}).setdefault(side, {})
                    self.extras["memory"][side] = {**self.extras["memory"][side], **_memory(job, cost)}

    def _extra(self, job: str, sides: Mapping[Side, Mapping[str, object]]) -> dict[str, object]:
        measure = EXTRA_MEASURES[job]
        values = [sides.get(side, {}).get(measure) for side in SIDES]
        ours, peer = (value if isinstance(value, int | float) else None for value in values)
        return {
            "ours": sides.get("ours"),
            "peer": sides.get("peer"),
            "measure": measure,
            "ratio": round(ours / peer, 3) if ours is not None and peer else None,
            "rows": sides.get("ours", {}).get("rows", self.work.rows),
            "settings": self.settings,
        }

    def _job(self, job: str, sides: Mapping[Side, Sequence[Result]]) -> dict[str, object]:
        chosen = {side: _as_dict(_median(job, runs), self.work) for side, runs in sides.items()}
        return {
            "ours": chosen.get("ours"),
            "peer": chosen.get("peer"),
            "measure": MEASURES[job],
            "ratio": _ratio(job, sides),
            "rows": self.work.rows,
            "settings": self.settings,
            "runs": {side: [getattr(run, MEASURES[job]) for run in runs] for side, runs in sides.items()},
        }


def records_of(result: Result, work: Work) -> int:
    """How many records a result's cost was for."""
    if isinstance(result, Load):
        return work.rows
    if isinstance(result, Stream):
        return result.changes
    return result.expected * UPDATES_PER_TRANSACTION


def cpu_per_record(cost: Cost, records: int) -> dict[str, float]:
    """Microseconds of CPU a record by group, and of all together."""
    by_group = {name: round(seconds / records * 1e6, 1) for name, seconds in cost.cpu_seconds.items()}
    return by_group | {"total": round(sum(cost.cpu_seconds.values()) / records * 1e6, 1)}


def workers_mb(cost: Cost) -> float:
    """The peak memory of what a contender brings along beside the servers."""
    return round(sum(peak for name, peak in cost.peak_mb.items() if name not in SERVER_GROUPS), 1)


def _memory(job: str, cost: Cost) -> dict[str, object]:
    """Of the load the plain names, of another job with its name before them."""
    mine = [{name: used for name, used in one.items() if name not in SERVER_GROUPS} for one in cost.quarters_mb]
    found = {
        "workers_peak_mb": workers_mb(cost),
        "peak_mb": {name: used for name, used in cost.peak_mb.items() if name not in SERVER_GROUPS},
        "quarters_mb": [round(sum(one.values()), 1) for one in mine],
        "quarters_by_process_mb": mine,
    }
    return {name if job == "load" else f"{job}_{name}": value for name, value in found.items()}


def _median(job: str, runs: Sequence[Result]) -> Result:
    return sorted(runs, key=lambda run: float(getattr(run, MEASURES[job])))[(len(runs) - 1) // 2]


def _ratio(job: str, sides: Mapping[Side, Sequence[Result]]) -> float | None:
    if not all(side in sides for side in SIDES):
        return None
    ours, peer = (float(getattr(_median(job, sides[side]), MEASURES[job])) for side in SIDES)
    return round(ours / peer, 3)


def _as_dict(result: Result, work: Work) -> dict[str, object]:
    return asdict(result) | {
        "cpu_us_per_record": cpu_per_record(result.cost, records_of(result, work)),
        "workers_peak_mb": workers_mb(result.cost),
    }


def _cells(result: Result, work: Work) -> tuple[str, str, str, str]:
    cpu = cpu_per_record(result.cost, records_of(result, work))
    total = cpu.pop("total")
    return (
        _headline(result),
        f"{total:.0f}\n{_listed(cpu)}",
        f"{result.cost.peak_total_mb:,.0f}\n{_listed(result.cost.peak_mb)}",
        "" if isinstance(result, Latency) else "yes" if result.equal else "NO",
    )


def _listed(by_group: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:,.0f}" for name, value in by_group.items())


def _headline(result: Result) -> str:
    if isinstance(result, Load):
        return f"{result.rows_per_second:,.0f} rows/s\n{result.seconds:.1f} s, first {result.first_row_seconds:.1f} s"
    if isinstance(result, Stream):
        return f"{result.changes_per_second:,.0f} changes/s\n{result.seconds:.1f} s, source {result.source_seconds:.1f} s"
    return f"p50 {result.p50_ms:.0f} ms, p99 {result.p99_ms:.0f} ms\nat {result.changes_per_second:.0f} changes/s"
