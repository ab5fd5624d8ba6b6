"""Commands that run the service on embedded servers: demo, up, airflow, simulate."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Annotated

import orjson
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from lienthong.cli.shared import AsJson, Exit, err, out, print_json, table

_COLUMNS = ("captured", "applied", "older", "removed", "corrections", "refused", "parked", "expected", "equal")


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command("demo")(demo)
    app.command("up")(up)
    app.command("airflow")(airflow)
    app.command("simulate")(simulate)


def demo(
    dossiers: Annotated[int, typer.Option(min=50, help="How many dossiers the city has at the start.")] = 1500,
    seed: Annotated[int, typer.Option(help="The same seed fills the same city.")] = 1,
    keep: Annotated[bool, typer.Option("--keep", help="Keep everything running at the end, with its addresses, until Ctrl-C.")] = False,
    report: Annotated[Path, typer.Option(help="Where the result goes as JSON.")] = Path("build/demo.json"),
    as_json: AsJson = False,
) -> int:
    """Six systems on embedded PostgreSQL and Kafka: load, live changes both ways, verification by plain SQL."""
    from lienthong.demo import Result, as_document, run_demo

    begun = time.monotonic()

    def say(text: str) -> None:
        err.print(f"{time.monotonic() - begun:6.1f} s  {text}", highlight=False)

    def wait(result: Result) -> None:
        _show(result.rows)
        for name, address in result.addresses.items():
            out.print(f"{name:14} {address}", highlight=False)
        out.print("everything keeps running; Ctrl-C ends it")
        try:
            while True:
                time.sleep(1)
        except KeyboardInterrupt:
            say("stopping")

    with Progress(
        TextColumn("{task.description:32}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=err,
        transient=True,
        disable=not err.is_terminal,
    ) as bars:
        tasks: dict[tuple[str, str], int] = {}

        def progress(system: str, entity: str, done: int, planned: int) -> None:
            key = (system, entity)
            if key not in tasks:
                tasks[key] = bars.add_task(f"{system} {entity}", total=planned)
            bars.update(tasks[key], completed=done, total=planned, visible=done < planned)  # type: ignore[arg-type]

        result = run_demo(dossiers=dossiers, seed=seed, keep=keep, say=say, progress=progress, wait=wait)
    document = as_document(result)
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2))
    if as_json:
        print_json(document)
    else:
        _show(result.rows)
        _say_verdict(result, report)
    return Exit.FINE if result.verified else Exit.FOUND_WRONG


def up(
    folder: Annotated[Path | None, typer.Option("--folder", help="Keep the data here, for the next time; default: a temporary one.")] = None,
    cluster: Annotated[list[str] | None, typer.Option("--cluster", help="The PostgreSQL clusters to start.")] = None,
) -> int:
    """Start embedded PostgreSQL and Kafka with an empty hub, print the addresses as shell exports, and wait for Ctrl-C."""
    from lienthong import hub_schema
    from lienthong.embedded import Stack

    names = list(dict.fromkeys([*(cluster or ["central", "local"]), "hub"]))
    with Stack(folder, clusters=names, keep=folder is not None) as stack:
        central = stack.postgres["hub"]
        if not central.execute("SELECT 1 FROM pg_database WHERE datname = 'hub'").strip():
            central.create_database("hub")
        hub_schema.install(central.dsn("hub"))
        assert stack.kafka is not None
        out.out(f"export HUB_DSN={central.dsn('hub')}", highlight=False)
        out.out(f"export KAFKA_BOOTSTRAP={stack.kafka.bootstrap}", highlight=False)
        for name in names[:-1]:
            out.out(f"# cluster {name}: {stack.postgres[name].dsn()}", highlight=False)
        err.print("everything runs; Ctrl-C ends it", highlight=False)
        while True:
            time.sleep(1)


def airflow(
    dossiers: Annotated[int, typer.Option(min=50, help="How many dossiers the city has.")] = 300,
    seed: Annotated[int, typer.Option(help="The same seed fills the same city.")] = 1,
    dags: Annotated[Path, typer.Option(help="The folder with the flows.")] = Path("dags"),
    airflow_config: Annotated[Path, typer.Option(help="Airflow's configuration.")] = Path("airflow.cfg"),
    new: Annotated[list[str] | None, typer.Option("--new", help="Leave these systems for you to load; default: ward-tan-dinh.")] = None,
) -> int:
    """A small city on embedded servers with Airflow beside it: print the address and the log-in, and wait for Ctrl-C."""
    from lienthong.demo.airflow import CityWithAirflow

    begun = time.monotonic()

    def say(text: str) -> None:
        err.print(f"{time.monotonic() - begun:6.1f} s  {text}", highlight=False)

    with CityWithAirflow(dags=dags, airflow_config=airflow_config, say=say) as city:
        city.fill(dossiers=dossiers, seed=seed)
        city.load(leave=new or ["ward-tan-dinh"])
        out.print(f"Airflow    {city.airflow.address}\nuser       {city.airflow.user}\npassword   {city.airflow.password}", highlight=False)
        out.print(f"try        load_system with system {', '.join(new or ['ward-tan-dinh'])} and Dry run off", highlight=False)
        out.print(f"elsewhere  lienthong status --config {city.demo.config}, with the addresses in {city.exports()}", highlight=False)
        say("everything runs; Ctrl-C ends it and leaves nothing behind")
        try:
            while True:
                city.watch()
                time.sleep(1)
        except KeyboardInterrupt:
            say("stopping")
    return Exit.FINE


def _show(rows: list[dict[str, object]]) -> None:
    body = [[row["system"], row["entity"], *[row[c] for c in _COLUMNS], "yes" if row["verified"] else "NO"] for row in rows]
    out.print(table("", ["system", "entity", *_COLUMNS, "verified"], body))


def _say_verdict(result: object, report: Path) -> None:
    from lienthong.demo import Result

    assert isinstance(result, Result)
    for line in [*result.differences[:20], *(f"lost edit: {edit}" for edit in result.lost_edits[:20])]:
        out.print(f"  {line}", highlight=False)
    answers = result.national["citizens"]
    out.print(
        f"\nthe population database knew {answers['yes']} of {answers['yes'] + answers['no']} citizens asked about, {answers['wrong']} answers were "
        f"wrong; the national portal was away for {result.national['outage_seconds']:.0f} s",
        highlight=False,
    )
    timing = ", ".join(f"{name} {seconds} s" for name, seconds in result.stages.items())
    out.print(timing, highlight=False)
    words = "every target holds exactly what its contract entitles it to" if result.verified else "DIFFERENCES FOUND"
    out.print(f"verified: {str(result.verified).lower()} ({words}), {result.seconds} s, {report}", highlight=False)


def simulate(
    dossiers: Annotated[int, typer.Option(min=0, help="Fill empty systems with this many dossiers first; 0: they are filled.")] = 0,
    seed: Annotated[int, typer.Option(help="The same seed does the same.")] = 1,
    seconds: Annotated[float, typer.Option(help="How long the city lives.")] = 30.0,
    rate: Annotated[float, typer.Option(help="Actions a second.")] = 20.0,
    as_json: AsJson = False,
) -> int:
    """Let the demo's city live: writes only through each system's own tables. DSNs come from the environment, as in its systems.yaml."""
    from lienthong.demo.parties import PARTIES
    from lienthong.errors import ConfigError
    from lienthong.simulate import fill, live

    missing = [party.variable for party in PARTIES.values() if party.variable not in os.environ]
    if missing:
        raise ConfigError(f"set {', '.join(missing)} (the addresses that `lienthong demo --keep` prints)")
    dsns = {party.name: os.environ[party.variable] for party in PARTIES.values()}
    if dossiers:
        filled = fill(dsns, dossiers=dossiers, seed=seed)
        err.print(f"filled: {sum(filled.rows.values()):,} rows", highlight=False)
    lived = live(dsns, seed=seed, seconds=seconds, rate=rate)
    if as_json:
        print_json({"schema": "lienthong/simulate/1", "actions": dict(lived.actions), "non_owner_edits": lived.non_owner_edits})
    else:
        out.print(table("actions", ["action", "times"], [[a, n] for a, n in sorted(lived.actions.items())], number_from=1))
    return Exit.FINE
