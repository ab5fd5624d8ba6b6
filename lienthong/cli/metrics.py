"""`lienthong metrics`: the list of what `/metrics` tells."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from lienthong.cli.shared import AsJson, Exit, out, print_json, table


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("metrics")(metrics)


def metrics(markdown: Annotated[bool, typer.Option("--markdown", help="As the page docs/metrics.md.")] = False, as_json: AsJson = False) -> int:
    """Every metric of /metrics: its name, unit, labels and meaning, and which alert or page reads it."""
    from lienthong.web import metric_list

    if as_json:
        print_json(metric_list.as_json())
    elif markdown:
        sys.stdout.write(metric_list.as_markdown())
    else:
        body = [[m.name, m.unit, ", ".join(m.labels), m.meaning] for m in metric_list.METRICS]
        out.print(table("", ["metric", "unit", "labels", "meaning"], body, number_from=9))
    return Exit.FINE
