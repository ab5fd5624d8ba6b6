"""The doctor without a city: its report, what it leaves out, and that the runbook and the command line know what it names."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lienthong.doctor import Report, Said, checks
from lienthong.errors import ConfigError, FatalError
from lienthong.problems import ConfigProblems, Problem
from tests.unit.test_docs import unknown

ROOT = Path(__file__).resolve().parents[2]
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text("utf-8")


class Patient:
    """Stands where the city is looked at."""

    def __init__(self, *there: str) -> None:
        self.there = {"nothing", *there}

    def has(self, needs: str) -> bool:
        return needs in self.there


def check(name: str, *said: Said, needs: Any = "nothing", error: Exception | None = None) -> checks.Check:
    def look(_: object) -> Iterator[Said]:
        yield from said
        if error is not None:
            raise error

    return checks.Check(id=name, why=f"{name} matters", look=look, needs=needs)


def examined(monkeypatch: pytest.MonkeyPatch, *made: checks.Check, there: tuple[str, ...] = ()) -> Report:
    monkeypatch.setattr(checks, "CHECKS", made)
    return checks.examine(Patient(*there))  # type: ignore[arg-type]


def test_findings_come_in_the_order_of_the_checks_with_their_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = Said("a ward", "it is away", "start it"), Said("the hub", "it is slow", "wait", "not long")
    report = examined(monkeypatch, check("one", first), check("none"), check("two", second))
    assert [(f.id, f.where, f.command, f.note, f.why) for f in report.findings] == [
        ("one", "a ward", "start it", "", "one matters"),
        ("two", "the hub", "wait", "not long", "two matters"),
    ]
    assert (report.is_healthy, report.as_dict()["healthy"], report.not_looked_at) == (False, False, ())


def test_what_cannot_be_looked_at_is_named_and_is_not_health(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = check("broken", Said("x", "half a word", "none"), error=FatalError("42P01: there is no such table"))
    report = examined(monkeypatch, check("fine"), check("away", needs="tables"), broken)
    assert (report.looked_at, report.not_looked_at) == ((checks.CONFIGURATION, "fine"), ("away", "broken"))
    assert (report.findings, report.is_healthy) == ((), False)
    assert examined(monkeypatch, check("fine"), check("there", needs="tables"), there=("tables",)).is_healthy


def test_a_wrong_configuration_is_the_only_finding() -> None:
    problems = [
        Problem(
            file="systems.yaml", line=3, column=7, path="hub.dsn", code="x", message="the variable A is not set", hint="export A=… before starting"
        ),
        Problem(file="authority.yaml", path="a", code="y", message="unknown", hint="did you mean b?"),
    ]
    report = checks.of_configuration(ConfigProblems(problems))
    assert [(f.where, f.command) for f in report.findings] == [("authority.yaml", "lienthong check --offline"), ("systems.yaml:3:7", "export A=…")]
    assert report.not_looked_at == checks.IDS[1:]
    assert [f.found for f in checks.of_configuration(ConfigError("no folder")).findings] == ["no folder"]


def test_the_runbook_explains_every_check_and_no_other() -> None:
    section = RUNBOOK.partition("\n## The doctor\n")[2].partition("\n## ")[0]
    assert tuple(re.findall(r"^\| `(\w+)` \|", section, flags=re.M)) == checks.IDS
    assert len(checks.IDS) >= 10


def test_every_command_that_the_doctor_names_exists() -> None:
    commands = []
    for file in sorted((ROOT / "lienthong" / "doctor").glob("*.py")):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Said" and len(node.args) > 2:
                commands += [text for text in texts(node.args[2]) if text.startswith("lienthong ")]
    assert len(commands) > 10
    wrong = {command: unknown(shlex.split(command.partition(">")[0])[1:]) for command in commands}
    assert {command: problem for command, problem in wrong.items() if problem} == {}


def texts(node: ast.expr) -> list[str]:
    """The text of an expression; what is filled in is an X."""
    if isinstance(node, ast.Constant):
        return [str(node.value)]
    if isinstance(node, ast.JoinedStr):
        return ["".join(str(part.value) if isinstance(part, ast.Constant) else "X" for part in node.values)]
    if isinstance(node, ast.IfExp):
        return texts(node.body) + texts(node.orelse)
    return []


def test_roles_do_not_import_opentelemetry_unless_they_are_told_to() -> None:
    code = "import sys, lienthong.run, lienthong.tracing; print([name for name in sys.modules if name.startswith('opentelemetry')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
