"""Commands of the daily operation: run, load, status, lag, trace."""

from __future__ import annotations

import os
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from lienthong.cli.shared import DEFAULT_CONFIG, AsJson, ConfigFolder, Exit, err, known, out, print_json, settings_of, table
from lienthong.errors import ConfigError
from lienthong.settings import Settings


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command("run")(run)
    app.command("load")(load)
    app.command("status")(status)
    app.command("lag")(lag)
    app.command("trace")(trace)


def run(
    roles: Annotated[list[str] | None, typer.Argument(help="capture, merge, route, apply, serve; none: all, as processes.")] = None,
    config: ConfigFolder = DEFAULT_CONFIG,
    system: Annotated[list[str] | None, typer.Option("--system", help="capture and apply: only these systems.")] = None,
    port: Annotated[int, typer.Option(envvar="LIENTHONG_PORT", help="Of the schema registry (role serve).")] = 8081,
    parent: Annotated[int | None, typer.Option(hidden=True, help="End when this process has ended.")] = None,
) -> int:
    """Run the service: every role, or the named ones, here or on several machines at once. SIGTERM ends it cleanly."""
    from lienthong import run as running

    settings = settings_of(config)
    chosen = roles or list(running.PROCESSES)
    for role in chosen:
        known("role", role, running.ROLES)
    systems = _systems(settings, system)
    if len(chosen) == 1:
        running.run_role(chosen[0], settings, systems, port, parent=parent)
    else:
        err.print(f"{', '.join(chosen)} for {len(systems)} systems; Ctrl-C ends it; elsewhere: lienthong status --config {config}", highlight=False)
        running.run_all(settings, config, chosen, port=port, systems=system or ())
    return Exit.FINE


def _systems(settings: Settings, chosen: list[str] | None) -> list[str]:
    for system in chosen or ():
        known("system", system, settings.systems)
    return chosen or list(settings.systems)


def load(
    system: Annotated[str, typer.Argument(help="The system to load.")],
    config: ConfigFolder = DEFAULT_CONFIG,
    entity: Annotated[list[str] | None, typer.Option("--entity", help="Only these entities.")] = None,
    key: Annotated[list[str] | None, typer.Option("--key", help="Only these records, by local key (with one --entity).")] = None,
    low: Annotated[str | None, typer.Option("--from", help="Only local keys after this one (with one --entity).")] = None,
    high: Annotated[str | None, typer.Option("--to", help="Only local keys up to this one (with one --entity).")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted load.")] = False,
    workers: Annotated[int, typer.Option(min=1, max=16, help="Key ranges read at the same time.")] = 2,
    new_epoch: Annotated[bool, typer.Option("--new-epoch", help="The source was restored or replaced: read it as a new life of it.")] = False,
    as_json: AsJson = False,
) -> int:
    """Load a system into the hub: everything, some entities, one key range or single records; safe beside live changes."""
    from lienthong import run as running
    from lienthong.load import Loader
    from lienthong.vault import Vault

    settings = settings_of(config)
    _systems(settings, [system])
    if (key or low or high) and len(entity or ()) != 1:
        raise ConfigError("give exactly one --entity together with --key, --from or --to")
    running.prepare(settings)
    loader = Loader(settings, system, Vault.from_environment())
    try:
        loader.reach()
        if new_epoch:
            loader.begin_epoch()
        with Progress(
            TextColumn("{task.description:20}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]:,.0f} rows/s"),
            TimeRemainingColumn(), console=err, disable=not err.is_terminal,
        ) as bars:
            shown = _Bars(bars)
            loaded = loader.run(
                entities=entity or (), keys=key or (), low=low, high=high, resume=resume, workers=workers, progress=shown.show
            )
    finally:
        loader.close()
    if as_json:
        print_json(
            {"schema": "lienthong/load/1", "system": system, "records": loaded.records, "chunks": loaded.chunks,
             "skipped_chunks": loaded.skipped_chunks, "seconds": round(loaded.seconds, 3)}
        )
    else:
        rate = loaded.records / max(loaded.seconds, 0.001)
        out.print(f"{system}: {loaded.records:,} records in {loaded.seconds:.1f} s ({rate:,.0f}/s), {loaded.chunks} key ranges", highlight=False)
        out.print(f"next: lienthong status --config {config}; refused records: lienthong parked list --system {system}", highlight=False)
    return Exit.FINE


class _Bars:
    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._tasks: dict[str, Any] = {}

    def show(self, entity: str, done: int, planned: int) -> None:
        if entity not in self._tasks:
            self._tasks[entity] = self._bars.add_task(entity, total=planned, rate=0.0)
        self._bars.update(self._tasks[entity], completed=done)
        task = next(t for t in self._bars.tasks if t.id == self._tasks[entity])
        self._bars.update(self._tasks[entity], rate=done / max(task.elapsed or 0.001, 0.001))


def status(config: ConfigFolder = DEFAULT_CONFIG, as_json: AsJson = False) -> int:
    """Where every line stands, what is parked, and what was counted."""
    from lienthong import status as standing

    document = standing.overview(settings_of(config))
    wrong = [line for line in document["lines"] if line["state"] not in ("normal", "running")]
    if as_json:
        print_json(document)
    else:
        _lines(document["lines"])
        if document["parked"]:
            columns = ["system", "kind", "reason", "records", "oldest"]
            out.print(table("parked", columns, [[p[column] for column in columns] for p in document["parked"]]))
            out.print("next: lienthong parked list", highlight=False)
    return Exit.FOUND_WRONG if wrong else Exit.FINE


def _lines(lines: list[dict[str, Any]]) -> None:
    body = [
        [x["system"], x["stage"], "-" if x["lag_seconds"] is None else f"{x['lag_seconds']:.1f}", x["limit_seconds"], x["state"], x["reason"] or ""]
        for x in lines
    ]
    made = table("", ["system", "stage", "lag s", "limit s", "state", "reason"], body)
    for column in made.columns[4:]:
        column.justify = "left"
    out.print(made)


def lag(config: ConfigFolder = DEFAULT_CONFIG, as_json: AsJson = False) -> int:
    """Seconds each system is behind, per stage; grows for a dead process too."""
    from lienthong import status as standing

    lines = standing.lines(settings_of(config))
    if as_json:
        print_json({"schema": "lienthong/lag/1", "lines": lines})
    else:
        _lines(lines)
    return Exit.FOUND_WRONG if any(x["state"] not in ("normal", "running") for x in lines) else Exit.FINE


def trace(
    code: Annotated[str, typer.Argument(help="A national code, a local key, or a record id.")],
    config: ConfigFolder = DEFAULT_CONFIG,
    purpose: Annotated[str | None, typer.Option(help="Show personal data; the purpose and your name are logged.")] = None,
    as_json: AsJson = False,
) -> int:
    """One record: who says what, since when, which rule decided, and where it was sent."""
    from lienthong import hub
    from lienthong.explain import explain

    with hub.named():
        document = explain(settings_of(config), code, purpose=purpose, officer=os.environ.get("USER", "?"))
    if as_json:
        print_json({"schema": "lienthong/trace/1", "records": document})
    else:
        for record in document:
            out.print(f"{record['entity']} {record['record']}{' (deleted)' if record['deleted'] else ''}", highlight=False)
            body = [[f["field"], f["value"], f["system"], f["since"], f["basis"]] for f in record["fields"]]
            out.print(table("", ["field", "value", "whose word", "since", "by which rule"], body, number_from=9))
            sent = ", ".join(f"{s['system']} ({s['state']})" for s in record["sent"]) or "nobody"
            out.print(f"sent to: {sent}\n", highlight=False)
        if not document:
            out.print("no record under this code", highlight=False)
    return Exit.FINE if document else Exit.FOUND_WRONG
