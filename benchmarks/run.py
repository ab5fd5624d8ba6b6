"""The benchmark: the same jobs for ours and a peer, in turns, on the same servers.  python -m benchmarks.run"""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from benchmarks.contender import Contender
from benchmarks.debezium import KAFKA_VERSION, Debezium
from benchmarks.delivery import measure_delivery
from benchmarks.jobs import measure_latency, measure_load, measure_stream
from benchmarks.meters import machine
from benchmarks.ours import Ours
from benchmarks.reconcile import measure_reconcile
from benchmarks.report import Report, Side
from benchmarks.scale import measure_scale
from benchmarks.scaling import measure_scaling
from benchmarks.servers import Servers
from benchmarks.wards import measure_wards
from benchmarks.work import Work

Journey = Literal["hop", "full_path"]
# One hop ends in the first store a contender keeps (ours: the hub), the full path in a ward-like target behind it.
Factory = Callable[[Servers, Journey], Contender]

NONE = "none"
CONTENDERS: Mapping[str, Factory] = {
    "lienthong": lambda servers, journey: Ours(servers, is_full=journey == "full_path"),
    "debezium": lambda servers, _: Debezium(servers, form="json"),
    "debezium-avro": lambda servers, _: Debezium(servers, form="avro"),
}
# What is asked for on the flow that the load has started, and what is run on its own.
FLOW_JOBS = frozenset(("load", "stream", "latency"))
JOBS = ("load", "stream", "latency", "full_path", "scale", "wards", "reconcile", "delivery", "scaling")

# Wide enough for the table where there is no terminal to ask.
console = Console(width=None if sys.stdout.isatty() else 120)


def bench(  # noqa: PLR0913  (each option of a command is an argument)
    *,
    rows: Annotated[int, typer.Option(help="Dossiers in the source.")] = 1_000_000,
    changes: Annotated[int, typer.Option(help="Changes of the stream job, a multiple of 45.")] = 225_000,
    latency_seconds: Annotated[int, typer.Option(help="Length of the latency job at 500 changes a second.")] = 60,
    jobs: Annotated[str, typer.Option(help=f"Of {', '.join(JOBS)}.")] = ",".join(JOBS),
    ours: Annotated[str, typer.Option(help=f"{NONE} or one of {', '.join(CONTENDERS)}.")] = "lienthong",
    peer: Annotated[str, typer.Option(help=f"{NONE} or one of {', '.join(CONTENDERS)}.")] = "debezium",
    repeat: Annotated[int, typer.Option(help="Runs of each; the median is reported.")] = 1,
    out: Annotated[Path, typer.Option(help="Where the results go.")] = Path("build/bench.json"),
) -> None:
    """Measure ours and a peer on the same work, print a table and write it as JSON. Ends with 1 if anything differs."""
    try:
        work = Work(rows=rows, changes=changes, latency_seconds=latency_seconds)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    wanted = _parse_jobs(jobs)
    names: dict[Side, str] = {"ours": ours, "peer": peer}
    sides = {side: _parse_contender(name) for side, name in names.items() if name != NONE}
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with _servers() as servers:
        report = Report(work, {"machine": machine(), "postgres": servers.settings(), "kafka": KAFKA_VERSION})
        for turn in range(repeat):
            for side, factory in sides.items():
                console.print(f"[bold]{side}[/bold], run {turn + 1} of {repeat}")
                _run(servers, factory, side, wanted, report)
        if "reconcile" in wanted:
            _reconcile(servers, sides, report)
        if "delivery" in wanted and "ours" in sides:
            _deliver(servers, report)
        if "scaling" in wanted and "ours" in sides:
            _scaling(servers, report)
    if "full_path" in wanted:
        report.copy("load", "full_path", "peer")
        report.copy("latency", "full_path_latency", "peer")
    report.write(out)
    report.show(console)
    console.print(f"written to {out}")
    if not report.is_fine:
        raise typer.Exit(1)


def _run(servers: Servers, factory: Factory, side: Side, wanted: frozenset[str], report: Report) -> None:
    """One run of one side: its hop, for ours the full path as well, and the jobs that start flows of their own."""
    journeys: list[Journey] = ["hop"] if wanted & FLOW_JOBS or (side == "peer" and "full_path" in wanted) else []
    if side == "ours" and "full_path" in wanted:
        journeys.append("full_path")
    for journey in journeys:
        with _kept(report, f"{side}, {journey}"), closing(factory(servers, journey)) as contender:
            report.settings[side] = {**report.settings.get(side, {}), journey: contender.settings()}
            _measure(contender, journey, side, wanted, report)
    if "scale" in wanted:
        with _kept(report, f"{side}, scale"):
            scale = measure_scale(lambda: factory(servers, "hop"), report.work)
            console.print(f"  {side} scale: CPU of a change grows by {scale.stream_growth}, equal {scale.equal}")
            report.add_extra("scale", side, scale.as_dict())
    if "wards" in wanted and side == "ours":
        with _kept(report, f"{side}, wards"):
            wards = measure_wards(servers)
            console.print(f"  {side} wards: {wards.wards} in {wards.workers_peak_mb} MB, p50 {wards.p50_ms} ms")
            report.add_extra("wards", side, asdict(wards))


def _reconcile(servers: Servers, sides: Mapping[Side, Factory], report: Report) -> None:
    """Compare a loaded target with what it is entitled to; the peer of this job is another than that of the flows."""
    with _kept(report, "reconcile"):
        for side, found in measure_reconcile(servers, report.work, with_peer="peer" in sides).items():
            console.print(f"  {side} reconcile: {found.seconds} s, {found.moved_share:.2%} of the data moved, all found {found.equal}")
            report.add_extra("reconcile", side, asdict(found))


def _deliver(servers: Servers, report: Report) -> None:
    """Deliver lives of dossiers to the stand-in of the national portal; there is no peer that does it."""
    with _kept(report, "delivery"):
        found = measure_delivery(servers)
        console.print(f"  ours delivery: {found.messages_per_second} messages/s of one process, each once and in order {found.equal}")
        report.add_extra("delivery", "ours", asdict(found))


def _scaling(servers: Servers, report: Report) -> None:
    """One, two and four worker sets on three brokers; there is no peer that is asked to lose a broker and a worker."""
    with _kept(report, "scaling"):
        found = measure_scaling(servers)
        for table in found.tables():
            console.print(table)
        console.print(f"  ours scaling: CPU of a change in the sets grows by {found.workers_cpu_growth}, nothing lost {found.equal}")
        report.add_extra("scaling", "ours", found.as_dict())


@contextmanager
def _kept(report: Report, what: str) -> Iterator[None]:
    """A contender that fails is a result; whatever comes after is still measured."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - whatever a contender's servers, SQL or code raise is its result
        report.errors.append(f"{what}: {type(error).__name__}: {error}")


def _measure(contender: Contender, journey: Journey, side: Side, wanted: frozenset[str], report: Report) -> None:
    """Load, and then what was asked for, all on one running flow."""
    work = report.work
    contender.prepare(work)
    load = measure_load(contender, work)
    console.print(f"  {contender.name} {journey} load: {load.rows_per_second:,.0f} rows/s, equal {load.equal}")
    report.add("load" if journey == "hop" else "full_path", side, load)
    if "stream" in wanted and journey == "hop":
        stream = measure_stream(contender, work)
        console.print(f"  {contender.name} stream: {stream.changes_per_second:,.0f} changes/s, equal {stream.equal}")
        report.add("stream", side, stream)
    if "latency" in wanted:
        latency = measure_latency(contender, work)
        console.print(f"  {contender.name} {journey} latency: p50 {latency.p50_ms} ms, p99 {latency.p99_ms} ms")
        report.add("latency" if journey == "hop" else "full_path_latency", side, latency)


@contextmanager
def _servers() -> Iterator[Servers]:
    """Running servers in a folder that is deleted at the end."""
    folder = Path(tempfile.mkdtemp(prefix="lienthong-bench-"))
    folder.chmod(0o711)  # the database server may run as another user
    servers = Servers(folder)
    try:
        servers.start()
        yield servers
    finally:
        servers.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _parse_jobs(text: str) -> frozenset[str]:
    wanted = frozenset(name.strip() for name in text.split(",") if name.strip())
    if unknown := wanted - set(JOBS):
        raise typer.BadParameter(f"unknown job {', '.join(sorted(unknown))}; there are {', '.join(JOBS)}")
    return wanted


def _parse_contender(name: str) -> Factory:
    if name not in CONTENDERS:
        raise typer.BadParameter(f"unknown contender {name}; there are {', '.join(CONTENDERS)} and {NONE}")
    return CONTENDERS[name]


if __name__ == "__main__":
    typer.run(bench)
