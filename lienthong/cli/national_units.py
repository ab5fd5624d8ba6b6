"""Compare our register of administrative units with the statistics office's, as of any date."""

from __future__ import annotations

from dataclasses import asdict
from datetime import date, datetime
from typing import Annotated
from zoneinfo import ZoneInfo

import typer

from lienthong.cli.national import national_app
from lienthong.cli.shared import DEFAULT_CONFIG, AsJson, ConfigFolder, Exit, out, print_json, settings_of, table
from lienthong.errors import ConfigError
from lienthong.settings import DEFAULT_ZONE


def add_to(_app: typer.Typer) -> None:
    """Register the command, under `lienthong national`."""
    national_app.command("units")(national_units)


def national_units(
    config: ConfigFolder = DEFAULT_CONFIG,
    on: Annotated[str | None, typer.Option("--on", metavar="YYYY-MM-DD", help="The day both registers are read at; default: today.")] = None,
    as_json: AsJson = False,
) -> int:
    """Differences between our register of units and the statistics office's on a day. Nothing is applied: a person decides."""
    from lienthong.national.unit_register import compare

    day = datetime.now(ZoneInfo(DEFAULT_ZONE)).date() if on is None else _day(on)
    found = [asdict(difference) for difference in compare(settings_of(config), day)]
    if as_json:
        print_json({"schema": "lienthong/national-units/1", "on": day, "differences": found})
    else:
        columns = ["kind", "level", "code", "ours", "theirs"]
        if found:
            out.print(table(f"registers on {day}", columns, [[row[column] for column in columns] for row in found], number_from=len(columns)))
        out.print(f"{len(found)} differences on {day}; nothing was changed", highlight=False)
    return Exit.FOUND_WRONG if found else Exit.FINE


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ConfigError("--on takes a day as YYYY-MM-DD") from None
