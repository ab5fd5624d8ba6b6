"""Erase what is kept about people for a time only, when that time is over."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import Annotated

import typer

from lienthong.cli.shared import DEFAULT_CONFIG, AsJson, ConfigFolder, Exit, err, out, print_json, settings_of, table


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("purge")(purge)


def purge(
    config: ConfigFolder = DEFAULT_CONFIG,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count what is over.")] = False,
    as_json: AsJson = False,
) -> int:
    """Erase remembered answers, old accesses, payloads of closed parked records and earlier values of deleted records, when their time is over."""
    from lienthong import hub_schema
    from lienthong.hub import named
    from lienthong.purge import limits
    from lienthong.purge import purge as purge_all

    settings, now = settings_of(config), datetime.now(UTC)
    with named():
        hub_schema.install(settings.hub.dsn)

    def told(what: str, n: int) -> None:
        if err.is_terminal:
            err.print(f"{what}: {n:,}", highlight=False)

    erased = purge_all(settings, officer=os.environ.get("USER", "?"), now=now, dry_run=dry_run, told=told)
    before = limits(settings, now)
    found = [{"what": what, "rows": n, "before": before[what]} for what, n in erased.items()]
    if as_json:
        print_json({"schema": "lienthong/purge/1", "dry_run": dry_run, "purged": found})
    else:
        body = [[row["what"], row["before"].isoformat(timespec="minutes"), row["rows"]] for row in found]  # type: ignore[attr-defined]
        out.print(table("would be erased" if dry_run else "erased", ["what", "from before", "rows"], body))
    return Exit.FINE
