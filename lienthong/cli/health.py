"""`lienthong health`: for health checks of containers and probes of Kubernetes; and the folder of the signs of life."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from lienthong.cli.shared import DEFAULT_CONFIG, AsJson, ConfigFolder, Exit, err, known, out, print_json, settings_of

StateFolder = Annotated[
    Path | None,
    typer.Option("--state", envvar="LIENTHONG_STATE", help="Folder of the signs of life; default: one of this user in the temporary folder."),
]


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("health")(health)


def health(
    roles: Annotated[list[str] | None, typer.Argument(help="The roles that must run here; none: every process that runs here.")] = None,
    ready: Annotated[bool, typer.Option("--ready", help="Ask hub and brokers too: not for a check that restarts what fails it.")] = False,
    limit: Annotated[float, typer.Option("--limit-seconds", min=1, help="How long a loop may stand still.")] = 300.0,
    state: StateFolder = None,
    config: ConfigFolder = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> int:
    """Do the processes of this machine or container live (their loops turn), and with --ready: does what they need answer?"""
    from lienthong import health as standing
    from lienthong.run import ROLES

    for role in roles or ():
        known("role", role, ROLES)
    found = standing.signs(state or standing.default_folder())
    problems = standing.wrong(found, roles or (), limit)
    if as_json:
        print_json({"schema": "lienthong/health/1", "alive": not problems, "problems": problems, "processes": [asdict(sign) for sign in found]})
    for problem in () if as_json else problems:
        err.print(problem, highlight=False, markup=False)
    if problems:
        return Exit.FOUND_WRONG
    if ready:
        standing.ask_neighbours(settings_of(config), roles or ())
    if not as_json:
        out.print("ready" if ready else "alive", highlight=False)
    return Exit.FINE
