"""docs/guarantees.md: every promise names the tests that hold it, and they are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.faults.all import FAULTS
from tests.guards.table import MUTATIONS

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/guarantees.md").read_text("utf-8")
TESTS = "\n".join(file.read_text("utf-8") for file in sorted((ROOT / "tests").rglob("test_*.py")))


def rows_of(heading: str) -> list[list[str]]:
    """The cells of the table under a heading, without its head."""
    section = re.split(r"^## ", PAGE.split(f"\n## {heading}\n", 1)[1], flags=re.M)[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


PROMISES = rows_of("Promised")


@pytest.mark.parametrize(("promise", "held_by"), PROMISES, ids=[promise[:40] for promise, _ in PROMISES])
def test_every_promise_names_tests_that_are_there(promise: str, held_by: str) -> None:
    named = re.findall(r"`([^`]+)`", held_by)
    assert named, promise
    for name in named:
        is_there = (ROOT / name).exists() if "/" in name else f"\ndef {name}(" in TESTS
        assert is_there, f"{promise}: {name}"
    numbers = [int(n) for text in re.findall(r"faults? ([\d, ]+)", held_by) for n in re.findall(r"\d+", text)]
    assert set(numbers) <= FAULTS.keys(), promise
    assert numbers or not any(name == "tests/faults/" for name in named), f"{promise}: which fault"


def test_every_rule_of_the_table_is_one_that_is_switched_off() -> None:
    rules = rows_of("Each rule is needed")
    caught = {test.partition("::")[2].partition("[")[0] for mutation in MUTATIONS for test in mutation.caught_by}
    for rule, places, held_by in rules:
        assert places, rule
        assert set(re.findall(r"`(test_\w+)`", held_by)) <= caught, rule
    assert {rule.replace("`", "").replace("the overwritten", "overwritten") for rule, *_ in rules} == {mutation.guard for mutation in MUTATIONS}
