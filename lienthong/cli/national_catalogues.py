"""Compare the procedures and agencies of the city with the national portal's catalogues."""

from __future__ import annotations

from dataclasses import asdict

import typer

from lienthong.cli.national import national_app
from lienthong.cli.shared import DEFAULT_CONFIG, AsJson, ConfigFolder, Exit, out, print_json, settings_of, table


def add_to(_app: typer.Typer) -> None:
    """Register the command, under `lienthong national`."""
    national_app.command("catalogues")(national_catalogues)


def national_catalogues(config: ConfigFolder = DEFAULT_CONFIG, as_json: AsJson = False) -> int:
    """Differences between our procedures and agencies and the national portal's catalogues. Nothing is applied: a person decides."""
    from lienthong.national.catalogues import compare

    found = [asdict(difference) for difference in compare(settings_of(config))]
    if as_json:
        print_json({"schema": "lienthong/national-catalogues/1", "differences": found})
    else:
        columns = ["kind", "catalogue", "code", "ours", "theirs"]
        if found:
            out.print(table("our catalogues and the portal's", columns, [[row[column] for column in columns] for row in found], number_from=9))
        out.print(f"{len(found)} differences; nothing was changed", highlight=False)
    return Exit.FOUND_WRONG if found else Exit.FINE
