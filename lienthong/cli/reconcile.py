"""Commands that find and repair differences: reconcile, repair."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from lienthong.cli.shared import DEFAULT_CONFIG, AsJson, ConfigFolder, Exit, chosen, err, note_without_database, out, print_json, settings_of, table
from lienthong.errors import ConfigError

Systems = Annotated[list[str] | None, typer.Option("--system", help="Only these systems.")]
Entities = Annotated[list[str] | None, typer.Option("--entity", help="Only these entities.")]
Wait = Annotated[float, typer.Option("--wait", help="Seconds to let records that are under way arrive.", min=1.0)]
WAIT_SECONDS = 120.0
SHOWN = 50


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command("reconcile")(reconcile)
    app.command("repair")(repair)


def reconcile(
    config: ConfigFolder = DEFAULT_CONFIG,
    system: Systems = None,
    entity: Entities = None,
    keys: Annotated[list[str] | None, typer.Option("--keys", help="Only these records, by local key (with one --system and --entity).")] = None,
    since: Annotated[datetime | None, typer.Option("--since", help="Only what the hub has got since then, local time.")] = None,
    full: Annotated[bool, typer.Option("--full", help="Read and compare every record, also those proved equal before.")] = False,
    wait: Wait = WAIT_SECONDS,
    as_json: AsJson = False,
) -> int:
    """List every difference between the systems' rows, the hub, and what each party is entitled to. Differences end it with 1."""
    from lienthong.reconcile.compare import Scope
    from lienthong.reconcile.report import as_document, reconcile_systems

    settings = settings_of(config)
    if keys and (len(system or ()) != 1 or len(entity or ()) != 1):
        raise ConfigError("give exactly one --system and one --entity together with --keys")
    if since is not None and since.tzinfo is None:
        since = since.astimezone()
    scope = Scope(keys=tuple(keys or ()), since=since, full=full)
    with _bars() as show:
        found = reconcile_systems(settings, chosen(settings, system), entity or (), scope, wait_seconds=wait, show=show)
    if as_json:
        print_json(as_document(found) | {"without_database": [] if system else settings.without_database()})
    else:
        _report(found, config)
        if not system:
            note_without_database(settings, "not compared")
    if any(compared.differences or compared.unsettled for compared in found.compared):
        return Exit.FOUND_WRONG
    return Exit.DEPENDENCY_DOWN if found.failed else Exit.FINE


@contextmanager
def _bars() -> Iterator[Any]:
    with Progress(
        TextColumn("{task.description:40}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=err, disable=not err.is_terminal,
    ) as bars:  # fmt: skip
        tasks: dict[str, Any] = {}

        def show(name: str, done: int, planned: int) -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(name, total=planned)
            bars.update(tasks[name], completed=done, total=planned)

        yield show


@contextmanager
def _status(words: str) -> Iterator[Callable[[str], None]]:
    """A line on a terminal that says what is waited for."""
    if not err.is_terminal:
        yield lambda _: None
        return
    with err.status(words) as line:
        yield line.update


def _report(found: Any, config: Any) -> None:
    columns = ["system", "entity", "rows", "read", "missing", "extra", "stale", "different", "waiting", "kept", "unsettled", "seconds"]
    kinds = ("missing", "extra", "stale", "different")
    body = []
    for c in found.compared:
        counts = [sum(d.kind == kind for d in c.differences) for kind in kinds]
        body.append([c.system, c.entity, c.rows, c.read, *counts, sum(c.explained.values()), c.kept, c.unsettled, f"{c.seconds:.1f}"])
    out.print(table("compared", columns, body))
    differences = [d for c in found.compared for d in c.differences]
    if differences:
        lines = [[d.system, d.entity, d.key, d.record, d.hop, d.kind, ", ".join(d.fields)] for d in differences[:SHOWN]]
        made = table("differences", ["system", "entity", "key", "record", "hop", "kind", "fields"], lines, number_from=9)
        out.print(made)
        if len(differences) > SHOWN:
            out.print(f"… and {len(differences) - SHOWN:,} more: all of them with --json", highlight=False)
        out.print(f"next: lienthong repair --plan --config {config}", highlight=False)
    for system, why in found.failed.items():
        err.print(f"{system}: not compared: {why}", highlight=False, markup=False)


def repair(
    config: ConfigFolder = DEFAULT_CONFIG,
    system: Systems = None,
    entity: Entities = None,
    plan: Annotated[bool, typer.Option("--plan", help="Only show what would be done, and by whose authority.")] = False,
    wait: Wait = WAIT_SECONDS,
    as_json: AsJson = False,
) -> int:
    """Put right what the last reconcile has found: read again, fold again, send again or withdraw. What is left ends it with 1."""
    from lienthong.reconcile.report import plan_document, plan_repair, repair_systems

    settings = settings_of(config)
    systems = chosen(settings, system)
    actions = plan_repair(settings, systems, entity or ())
    done = 0
    if not plan and actions:
        before = {_place(action) for action in actions}
        with _status("repairing") as told:
            actions = repair_systems(settings, systems, entity or (), wait_seconds=wait, told=lambda stage: told(f"waiting for {stage}"))
        done = len(before - {_place(action) for action in actions})
    if as_json:
        print_json(plan_document(actions, done=done, is_plan=plan))
    else:
        lines = [
            [a.difference.system, a.difference.entity, a.difference.key, a.difference.record, a.difference.kind, a.act, ", ".join(a.owners), a.basis]
            for a in actions
        ]
        if lines:
            columns = ["system", "entity", "key", "record", "kind", "repair", "whose word", "basis"]
            out.print(table("plan" if plan else "left", columns, lines, number_from=9))
        out.print(f"{len(actions)} differences" if plan else f"{done} repaired, {len(actions)} left", highlight=False)
    return Exit.FOUND_WRONG if actions and not plan else Exit.FINE


def _place(action: Any) -> tuple[str, str, str | None, int | None]:
    """The record that an action is for."""
    return action.difference.system, action.difference.entity, action.difference.key, action.difference.record
