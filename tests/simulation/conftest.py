"""How long the simulation runs, and how many histories it has tried: `HYPOTHESIS_PROFILE=long` looks further, with other seeds each time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.simulation import histories, hub_line_statements, hub_merge_statements, hub_tables, source_statements, system_tables, target_statements

STATEMENTS = (hub_line_statements, hub_merge_statements, source_statements, target_statements)
"""What the tables in memory answer; a module makes its statements known when it is imported."""


@pytest.fixture(autouse=True)
def in_memory() -> Iterator[None]:
    """The product takes databases in memory too."""
    with hub_tables.in_memory(), system_tables.in_memory():
        yield


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line for each machine: histories tried, and how many a minute."""
    for line in histories.report():
        terminalreporter.write_line(line)
