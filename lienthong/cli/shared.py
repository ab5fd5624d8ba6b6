"""What all commands share: exit codes, options, output on stdout and notes on stderr."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from enum import IntEnum
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.table import Table

from lienthong.config import load_settings
from lienthong.errors import ConfigError
from lienthong.problems import did_you_mean, listed
from lienthong.settings import Settings


class Exit(IntEnum):
    """Exit codes of every command."""

    FINE = 0
    FOUND_WRONG = 1
    USAGE = 2
    DEPENDENCY_DOWN = 3
    REFUSED = 4
    OUR_DEFECT = 70
    INTERRUPTED = 130


PIPED_WIDTH = 200  # a table in a file or a pipe is not cut at 80 columns
out = Console(soft_wrap=True, width=None if sys.stdout.isatty() else PIPED_WIDTH)
err = Console(stderr=True, soft_wrap=True)

ConfigFolder = Annotated[Path, typer.Option("--config", envvar="LIENTHONG_CONFIG", help="Folder with systems.yaml, authority.yaml, contracts.yaml.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
DEFAULT_CONFIG = Path("config")


def settings_of(folder: Path) -> Settings:
    """The checked configuration of a folder."""
    if not folder.is_dir():
        raise ConfigError(f"there is no folder {folder}: name the one with systems.yaml by --config or LIENTHONG_CONFIG")
    return load_settings(folder, os.environ)


def known(kind: str, name: str, names: Iterable[str]) -> None:
    """Refuse a name that is none of those there are, with the nearest."""
    names = sorted(names)
    if name not in names:
        near = did_you_mean(name, names)
        raise ConfigError(f"no {kind} {name} ({near or 'there are ' + listed(names)})")


def chosen(settings: Settings, named: Sequence[str] | None) -> list[str]:
    """The named systems, or all that have a database; raises `ConfigError` for a name that is none and for a system without a database."""
    for name in named or ():
        known("system", name, settings.systems)
        settings.dsn_of(name)
    return list(named or settings.with_database())


def note_without_database(settings: Settings, what: str) -> None:
    """Name the systems that only read their topic, where somebody might look for them."""
    names = settings.without_database()
    if names:
        err.print(f"{what}: {', '.join(names)}, without a database here: reads its topic itself", highlight=False, markup=False)


def print_json(document: Any) -> None:
    """One JSON document on stdout."""
    text = orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS, default=str)
    sys.stdout.write(text.decode() + "\n")


def table(title: str, columns: list[str], rows: list[list[Any]], *, number_from: int = 2) -> Table:
    """A table whose columns from `number_from` on are numbers."""
    made = Table(title=title, title_justify="left", header_style="bold", box=None, pad_edge=False)
    for place, column in enumerate(columns):
        made.add_column(column, justify="right" if place >= number_from else "left")
    for row in rows:
        made.add_row(*["" if cell is None else f"{cell:,}" if isinstance(cell, int) and not isinstance(cell, bool) else str(cell) for cell in row])
    return made
