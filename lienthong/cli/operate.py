"""Commands of the daily operation: run, load, status, lag."""

from __future__ import annotations

import os
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from lienthong.cli.health import StateFolder
from lienthong.cli.lines import show_forgotten, show_probes
from lienthong.cli.shared import (
    DEFAULT_CONFIG,
    AsJson,
    ConfigFolder,
    Exit,
    chosen,
    err,
    known,
    note_without_database,
    out,
    print_json,
    settings_of,
    table,
)
from lienthong.errors import ConfigError
from lienthong.settings import Settings


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command("run")(run)
    app.command("load")(load)
    app.command("status")(status)
    app.command("lag")(lag)


def run(
    roles: Annotated[list[str] | None, typer.Argument(help="capture, merge, route, apply, deliver, watch, serve; none: all, as processes.")] = None,
    config: ConfigFolder = DEFAULT_CONFIG,
    system: Annotated[list[str] | None, typer.Option("--system", help="capture and apply: only these systems.")] = None,
    port: Annotated[int, typer.Option(envvar="LIENTHONG_PORT", help="Of the schema registry (role serve).")] = 8081,
    host: Annotated[str, typer.Option(envvar="LIENTHONG_HOST", help="The address it listens on; 0.0.0.0: all.")] = "127.0.0.1",
    state: StateFolder = None,
    parent: Annotated[int | None, typer.Option(hidden=True, help="End when this process has ended.")] = None,
) -> int:
    """Run the service: every role, or the named ones, here or on several machines at once. SIGTERM ends it cleanly."""
    from lienthong import run as running
    from lienthong import tracing

    settings = settings_of(config)
    started = roles or list(running.processes_of(settings))
    for role in started:
        known("role", role, running.ROLES)
    systems = chosen(settings, system)
    at = running.Place(port=port, host=host, state=state, parent=parent)
    if len(started) == 1:
        tracing.start(started[0], os.environ)
        running.run_role(started[0], settings, systems, at)
    else:
        err.print(f"{', '.join(started)} for {len(systems)} systems; Ctrl-C ends it; elsewhere: lienthong status --config {config}", highlight=False)
        if not system:
            note_without_database(settings, "only routed to")
        running.run_all(settings, config, started, at=at, systems=system or ())
    return Exit.FINE


def load(
    system: Annotated[list[str] | None, typer.Argument(help="The systems to load.")] = None,
    config: ConfigFolder = DEFAULT_CONFIG,
    every: Annotated[bool, typer.Option("--all", help="All systems that changes are captured from.")] = False,
    entity: Annotated[list[str] | None, typer.Option("--entity", help="Only these entities.")] = None,
    key: Annotated[list[str] | None, typer.Option("--key", help="Only these records, by local key (with one --entity).")] = None,
    low: Annotated[str | None, typer.Option("--from", help="Only local keys after this one (with one --entity).")] = None,
    high: Annotated[str | None, typer.Option("--to", help="Only local keys up to this one (with one --entity).")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted load.")] = False,
    workers: Annotated[int, typer.Option(min=1, max=16, help="Key ranges of a system read at the same time.")] = 2,
    at_once: Annotated[int, typer.Option("--at-once", min=1, max=16, help="Systems read at the same time.")] = 2,
    new_epoch: Annotated[bool, typer.Option("--new-epoch", help="The source was restored or replaced: read it as a new life of it.")] = False,
    as_json: AsJson = False,
) -> int:
    """Load systems into the hub: everything, some entities, one key range or single records; safe beside live changes."""
    from lienthong import run as running
    from lienthong.load import load_systems

    if every == bool(system):
        raise ConfigError("name the systems to load, or give --all")
    settings = settings_of(config)
    systems = _to_load(settings, system, every=every)
    if (key or low or high) and (len(entity or ()) != 1 or len(systems) != 1):
        raise ConfigError("give exactly one system and one --entity together with --key, --from or --to")
    if new_epoch and len(systems) != 1 and not every:
        raise ConfigError("a new epoch begins for one system at a time, or for --all")
    running.prepare(settings)
    if every and new_epoch:
        _regain(settings)
    with Progress(
        TextColumn("{task.description:20}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]:,.0f} rows/s"),
        TimeRemainingColumn(),
        console=err,
        disable=not err.is_terminal,
    ) as bars:
        shown = _Bars(bars, several=len(systems) > 1)
        loaded, failed = load_systems(
            settings,
            systems,
            at_once=at_once,
            new_epoch=new_epoch,
            progress=shown.show,
            entities=entity or (),
            keys=key or (),
            low=low,
            high=high,
            resume=resume,
            workers=workers,
        )
    if failed and len(systems) == 1:
        raise failed[systems[0]]
    forgotten = _forgotten(settings, [one.system for one in loaded]) if new_epoch else {}
    _loaded(loaded, failed, forgotten, config, as_json=as_json)
    return Exit.FOUND_WRONG if failed or any(found is not None and (found.records or found.fields) for found in forgotten.values()) else Exit.FINE


def _regain(settings: Settings) -> None:
    """All sources are read again, so the merge may go on where its topic begins now."""
    from lienthong.place import regain_merge

    moved = regain_merge(settings)
    if moved:
        err.print(f"the merge goes on where lienthong.in begins now, in partitions {', '.join(map(str, moved))}", highlight=False)


def _forgotten(settings: Settings, systems: list[str]) -> dict[str, Any]:
    """What the new lives of these systems do not know any more; None while the merge has not taken all of it."""
    from connectors.postgres import connect
    from lienthong import restored

    connection = connect(settings.hub.dsn, application_name="lienthong load")
    try:
        is_merged = restored.wait_merged(settings, connection)
        return {system: restored.forgotten(connection, system) if is_merged else None for system in systems}
    finally:
        connection.close()


def _to_load(settings: Settings, named: list[str] | None, *, every: bool) -> list[str]:
    if every:
        note_without_database(settings, "nothing to load")
        return [name for name, system in settings.systems.items() if system.capture != "none"]
    return list(dict.fromkeys(chosen(settings, named)))


def _loaded(loaded: list[Any], failed: dict[str, Any], forgotten: dict[str, Any], config: Any, *, as_json: bool) -> None:
    documents: list[dict[str, Any]] = [
        {
            "schema": "lienthong/load/1",
            "system": one.system,
            "records": one.records,
            "chunks": one.chunks,
            "skipped_chunks": one.skipped_chunks,
            "seconds": round(one.seconds, 3),
        }
        for one in loaded
    ]
    for document in documents:
        if document["system"] in forgotten:
            found = forgotten[document["system"]]
            document["forgotten"] = None if found is None else found.document()
    if as_json and len(documents) + len(failed) == 1:
        print_json(documents[0])
    elif as_json:
        why = [{"system": name, "code": error.code, "reason": str(error)} for name, error in failed.items()]
        print_json({"schema": "lienthong/loads/1", "systems": documents, "failed": why})
    for one in () if as_json else loaded:
        rate = one.records / max(one.seconds, 0.001)
        out.print(f"{one.system}: {one.records:,} records in {one.seconds:.1f} s ({rate:,.0f}/s), {one.chunks} key ranges", highlight=False)
        if one.system in forgotten:
            show_forgotten(one.system, forgotten[one.system])
    for name, error in failed.items():
        err.print(f"{name}: {error.code}: {error}; the others went on, then: lienthong load {name} --resume", highlight=False, markup=False)
    if not as_json:
        which = f" --system {loaded[0].system}" if len(loaded) == 1 else ""
        out.print(f"next: lienthong status --config {config}; refused records: lienthong parked list{which}", highlight=False)


class _Bars:
    def __init__(self, bars: Progress, *, several: bool) -> None:
        self._bars, self._several = bars, several
        self._tasks: dict[str, Any] = {}

    def show(self, system: str, entity: str, done: int, planned: int) -> None:
        """One bar for each entity of a system, or, of several systems, one for each."""
        name = f"{system} {entity}" if self._several else entity
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task(name, total=planned, rate=0.0)
        self._bars.update(self._tasks[name], completed=done)
        task = next(t for t in self._bars.tasks if t.id == self._tasks[name])
        self._bars.update(self._tasks[name], rate=done / max(task.elapsed or 0.001, 0.001))


def status(config: ConfigFolder = DEFAULT_CONFIG, as_json: AsJson = False) -> int:
    """Where every line stands, what is parked, and what was counted."""
    from lienthong import status as standing

    settings = settings_of(config)
    document = standing.overview(settings)
    wrong = [line for line in document["lines"] if line["state"] not in ("normal", "running")]
    stuck = [probe for probe in document["probes"] if probe["state"] not in ("normal", "waiting")]
    if as_json:
        print_json(document)
    else:
        _lines(document["lines"])
        if stuck:
            show_probes(stuck)
        if document["parked"]:
            columns = ["system", "kind", "reason", "records", "oldest"]
            out.print(table("parked", columns, [[p[column] for column in columns] for p in document["parked"]]))
            out.print("next: lienthong parked list", highlight=False)
        if document["delivery"] is not None:
            states = document["delivery"]["states"]
            out.print(f"national portal: {', '.join(f'{n:,} {state}' for state, n in states.items())}; lienthong national status", highlight=False)
            if states["refused"]:
                out.print("next: lienthong national outbox --state refused", highlight=False)
        note_without_database(settings, "how far it has read is not known here")
    return Exit.FOUND_WRONG if wrong or stuck else Exit.FINE


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

    settings = settings_of(config)
    lines, probes = standing.lines(settings), standing.probes(settings)
    stuck = [probe for probe in probes if probe["state"] not in ("normal", "waiting")]
    if as_json:
        print_json({"schema": "lienthong/lag/1", "lines": lines, "probes": probes, "without_database": settings.without_database()})
    else:
        _lines(lines)
        if stuck:
            show_probes(stuck)
        note_without_database(settings, "how far it has read is not known here")
    return Exit.FOUND_WRONG if stuck or any(x["state"] not in ("normal", "running") for x in lines) else Exit.FINE
