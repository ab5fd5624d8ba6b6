"""The entry point: assembles the commands and turns every error into words and an exit code."""

from __future__ import annotations

import sys
import tempfile
import traceback
from pathlib import Path

import typer
from typer.exceptions import TyperException

from lienthong import __version__, logs
from lienthong.cli import (
    agencies,
    certificate,
    configuration,
    doctor,
    health,
    journey,
    lines,
    metrics,
    national,
    national_catalogues,
    national_units,
    operate,
    parked,
    procedures,
    purge,
    reconcile,
    sla,
    try_out,
    web,
)
from lienthong.cli.shared import Exit, err, out
from lienthong.errors import ConfigError, FencedError, LienThongError, TransientError
from lienthong.problems import ConfigProblems

app = typer.Typer(
    name="lienthong",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Keeps dossiers and citizen records the same in every system of a city, and proves it.\n\n"
    "Examples:\n\n  lienthong demo                       the whole thing on this machine\n\n"
    "  lienthong check --config config      is the configuration right, and does it fit the live tables?",
)
MODULES = (
    try_out, configuration, operate, parked, reconcile, certificate, national, national_units, national_catalogues, lines, health, purge, procedures,
    web, sla, journey, agencies, doctor, metrics,
)  # fmt: skip
for module in MODULES:
    module.add_to(app)


def _version(value: bool) -> None:  # noqa: FBT001 - typer's callback
    if value:
        out.print(f"lienthong {__version__} (schemas release 1, Python {sys.version.split()[0]})", highlight=False)
        raise typer.Exit


@app.callback()
def _global(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version and leave."),  # noqa: ARG001, FBT001, FBT003
    debug: bool = typer.Option(False, "--debug", envvar="LIENTHONG_DEBUG", help="Show tracebacks and debug logs."),  # noqa: FBT001, FBT003
) -> None:
    logs.configure(debug=debug)


def _code_of(error: LienThongError) -> Exit:
    if isinstance(error, TransientError):
        return Exit.DEPENDENCY_DOWN
    if isinstance(error, ConfigError):
        return Exit.USAGE
    return Exit.REFUSED if isinstance(error, FencedError) else Exit.FOUND_WRONG


def _debug_first(words: list[str]) -> list[str]:
    """--debug works before and after the command."""
    return ["--debug", *(word for word in words if word != "--debug")] if "--debug" in words else words


def _show(error: TyperException) -> None:
    """Errors of usage know how to show the usage of their own command."""
    show = getattr(error, "show", None)
    if show is None:
        err.print(error.format_message(), markup=False)
    else:
        show()


def main() -> None:
    """Run a command; the exit code is one of `Exit`."""
    try:
        result = app(_debug_first(sys.argv[1:]), standalone_mode=False)
    except (typer.Abort, KeyboardInterrupt):
        err.print("interrupted")
        code = Exit.INTERRUPTED
    except TyperException as error:
        _show(error)
        code = Exit.USAGE
    except LienThongError as error:
        heading = "the configuration is wrong; nothing was started\n" if isinstance(error, ConfigProblems) else f"{error.code}: "
        err.print(heading, style="bold red", end="", highlight=False, markup=False)
        err.print(str(error), highlight=False, markup=False)
        code = _code_of(error)
    except Exception:  # noqa: BLE001 - the outermost frame: a defect of ours is reported, never shown with values on the terminal
        code = _defect()
    else:
        code = Exit(result) if isinstance(result, int) else Exit.FINE
    sys.exit(int(code))


def _defect() -> Exit:
    report = Path(tempfile.mkstemp(prefix="lienthong-defect-", suffix=".txt")[1])
    frames = traceback.extract_tb(sys.exc_info()[2])
    kind = sys.exc_info()[0]
    places = [f"{frame.filename}:{frame.lineno} in {frame.name}" for frame in frames]
    report.write_text("\n".join([kind.__name__ if kind else "?", *places, ""]), encoding="utf-8")
    err.print(f"this is a defect of ours; the report (without any record's values) is in {report}")
    return Exit.OUR_DEFECT
