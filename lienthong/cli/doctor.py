"""`lienthong doctor`: what is wrong, why it matters, and the command that mends it."""

from __future__ import annotations

import typer

from lienthong.cli.shared import DEFAULT_CONFIG, AsJson, ConfigFolder, Exit, err, out, print_json, settings_of
from lienthong.doctor import Report
from lienthong.errors import ConfigError


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("doctor")(doctor)


def doctor(config: ConfigFolder = DEFAULT_CONFIG, as_json: AsJson = False) -> int:
    """Look for the problems that operators meet most, and say of each why it matters and which command mends it. Changes nothing."""
    from lienthong.doctor import checks
    from lienthong.doctor.look import Look

    try:
        report = checks.examine(Look(settings_of(config)))
    except ConfigError as error:
        report = checks.of_configuration(error)
    if as_json:
        print_json(report.as_dict())
    else:
        _show(report)
    return Exit.FINE if report.is_healthy else Exit.FOUND_WRONG


def _show(report: Report) -> None:
    for number, finding in enumerate(report.findings, 1):
        out.print(f"{number}. {finding.where}: {finding.found}", style="bold", highlight=False, markup=False)
        out.print(f"   {finding.id}: {finding.why}", highlight=False, markup=False)
        out.print(f"   $ {finding.command}{f'    # {finding.note}' if finding.note else ''}", highlight=False, markup=False)
    if report.not_looked_at:
        err.print(f"not looked at, because of the above: {', '.join(report.not_looked_at)}", highlight=False, markup=False)
    if report.is_healthy:
        out.print(f"nothing found; looked at: {', '.join(report.looked_at)}", highlight=False, markup=False)
