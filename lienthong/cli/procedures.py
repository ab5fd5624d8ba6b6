"""Commands about the procedures the city offers."""

from __future__ import annotations

import csv
import sys
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lienthong.cli.shared import DEFAULT_CONFIG, AsJson, ConfigFolder, Exit, out, print_json, settings_of, table
from lienthong.errors import ConfigError

if TYPE_CHECKING:
    from lienthong.procedures import Procedure, Review

procedures_app = typer.Typer(name="procedures", no_args_is_help=True, help="Which procedures are used, how, and how long they take.")
SHOWN = 20
ADVICE = {
    "abolish": "no dossier in three years: abolish?",
    "put_online": "put online",
    "improve_online": "improve online",
    "not_listed": "not in the catalogue",
    "none": "",
}


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.add_typer(procedures_app)


@procedures_app.command("review")
def review_command(
    config: ConfigFolder = DEFAULT_CONFIG,
    as_of: Annotated[datetime | None, typer.Option("--as-of", formats=["%Y-%m-%d"], help="The last day that counts; default: yesterday.")] = None,
    as_json: AsJson = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="One line for each procedure, as CSV on stdout.")] = False,
) -> int:
    """Count every procedure's dossiers and keep it: what nobody uses, what to put or improve online next, how long handling takes."""
    from lienthong import procedures
    from lienthong.days import yesterday

    if as_json and as_csv:
        raise ConfigError("give --json or --csv, not both")
    day = yesterday(datetime.now(UTC)) if as_of is None else as_of.date()
    found = procedures.review(settings_of(config), day)
    if as_json:
        print_json(found.document())
    elif as_csv:
        _write_csv(found)
    else:
        _report(found, day)
    return Exit.FINE


def _write_csv(found: Review) -> None:
    from lienthong.procedures.review import as_row

    lines = [_flat(as_row(each)) for each in found.procedures]
    writer = csv.DictWriter(sys.stdout, fieldnames=list(lines[0]) if lines else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    """Years and channels as columns of their own, such as 2026_online."""
    years = {f"{year}_{channel}": count for year, channels in row["by_year"].items() for channel, count in channels.items()}
    return {name: value for name, value in row.items() if name != "by_year"} | years


def _report(found: Review, day: date) -> None:
    from lienthong.procedures import said, totals

    for line in said(totals(found.procedures)):
        out.print(line, highlight=False)
    columns = ["rank", "code", "name", "12 months", "online", "3 years", "handling days", "late", "days late", "advice"]
    ranked = [each for each in found.procedures if each.rank]
    out.print(table(f"what to put or improve online next, as of {day}", columns, [_cells(each) for each in ranked[:SHOWN]], number_from=3))
    if len(ranked) > SHOWN:
        out.print(f"… and {len(ranked) - SHOWN:,} more: all of them with --json or --csv", highlight=False)
    unused = [each.procedure_code for each in found.procedures if each.advice == "abolish"]
    if unused:
        more = f" … and {len(unused) - SHOWN:,} more" if len(unused) > SHOWN else ""
        out.print(f"no dossier in three years: {', '.join(unused[:SHOWN])}{more}", highlight=False, markup=False)


def _cells(each: Procedure) -> list[Any]:
    share = "" if each.online_share is None else f"{each.online_share:.0%}"
    return [
        each.rank, each.procedure_code, each.name, each.dossiers_12m, share, each.dossiers_3y, each.handling_days, each.late_12m, each.delay_days,
        ADVICE[each.advice],
    ]  # fmt: skip
