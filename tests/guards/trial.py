"""One rule switched off: a copy of the product with one mutation in its text, and the tests that must notice.

The product has no switch. A mutation says which text stands for the rule and what stands there without it; text that is not found
exactly once is an error, so that the table cannot rot. A test catches a mutation when it fails by what it asserts: a copy that does
not import, a broken fixture, a test that hangs or an error that comes before any assertion is not accepted as proof.
"""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).parents[2]
TREES = ("lienthong", "connectors", "schemas", "tests")
TEST_SECONDS = 120
RUN_SECONDS = 1200
ASSERTED = ("AssertionError", "assert ", "Failed: DID NOT RAISE")


@dataclass(frozen=True, slots=True)
class Edit:
    """Text of a product file, and what stands there when the rule is off."""

    file: str
    original: str
    replacement: str


@dataclass(frozen=True, slots=True)
class Mutation:
    """One rule switched off in one place."""

    guard: str  # as the design names the rule
    place: str  # where, in a few words
    protocol: str  # the scenario
    edits: tuple[Edit, ...]
    caught_by: tuple[str, ...]  # tests that must go red
    quick: bool = False  # tried in every run of the suite

    @property
    def name(self) -> str:
        """For reports and test ids."""
        return f"{self.guard}: {self.place}"


@dataclass(frozen=True, slots=True)
class Ended:
    """How one test ended: passed, failed (by an assertion), or anything else."""

    how: str
    says: str = ""


@dataclass(frozen=True, slots=True)
class Tried:
    """What became of a mutation."""

    mutation: Mutation
    ended: dict[str, Ended]
    seconds: float

    @property
    def is_caught(self) -> bool:
        """Whether every test that must catch it did."""
        return all(one.how == "failed" for one in self.ended.values())


def mutated(text: str, edit: Edit) -> str:
    """The text with the rule off; raises `ValueError` when the original is not there exactly once, or what comes out is no Python."""
    found = text.count(edit.original)
    if found != 1:
        raise ValueError(f"{edit.file}: found {found} times, once expected:\n{edit.original}")
    changed = text.replace(edit.original, edit.replacement)
    ast.parse(changed)
    return changed


@contextmanager
def copy_of_the_product(mutation: Mutation | None = None, source: Path = ROOT) -> Iterator[Path]:
    """A folder with the product and its tests, mutated."""
    with tempfile.TemporaryDirectory(prefix="lienthong-guards-") as name:
        tree = Path(name)
        for part in TREES:
            shutil.copytree(source / part, tree / part, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(source / "pyproject.toml", tree)
        for edit in mutation.edits if mutation is not None else ():
            path = tree / edit.file
            path.write_text(mutated(path.read_text("utf-8"), edit), "utf-8")
        yield tree


def run_tests(tree: Path, tests: Sequence[str]) -> dict[str, Ended]:
    """Run tests in the copy, which comes first on the path of this process and of all it starts; returns how each ended."""
    environment = os.environ | {"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    _check_origin(tree, environment)
    report = tree / "report.xml"
    command = [sys.executable, "-m", "pytest", "-m", "", "-q", "-p", "no:cacheprovider", f"--timeout={TEST_SECONDS}", f"--junitxml={report}"]
    ran = subprocess.run([*command, *tests], cwd=tree, env=environment, capture_output=True, text=True, timeout=RUN_SECONDS)  # noqa: S603
    ended = _read(report) if report.exists() else {}
    missing = Ended("missing", ran.stdout[-2000:] + ran.stderr[-1000:])
    return {test: ended.get(test, missing) for test in tests}


def _check_origin(tree: Path, environment: dict[str, str]) -> None:
    """The installed product must not stand before the copy."""
    shown = subprocess.run(
        [sys.executable, "-c", "import lienthong, tests.merge_kit as k; print(lienthong.__file__, k.__file__, sep='\\n')"],
        cwd=tree, env=environment, capture_output=True, text=True, timeout=RUN_SECONDS, check=True,
    )  # fmt: skip
    if not all(Path(line).is_relative_to(tree) for line in shown.stdout.split("\n") if line):
        raise RuntimeError(f"not the copy would be tested: {shown.stdout}")


def _read(report: Path) -> dict[str, Ended]:
    ended = {}
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        failure, error = case.find("failure"), case.find("error")
        test = f"{case.get('classname', '').replace('.', '/')}.py::{case.get('name')}"
        if error is not None or case.find("skipped") is not None:
            ended[test] = Ended("error", _first(error))
        elif failure is not None:
            says = _first(failure)
            ended[test] = Ended("failed" if says.startswith(ASSERTED) else "raised", says)
        else:
            ended.setdefault(test, Ended("passed"))
    return ended


def _first(found: ElementTree.Element | None) -> str:
    """The message in one line."""
    return " ".join((found.get("message") or "").split()) if found is not None else "skipped"


def attempt(mutation: Mutation, source: Path = ROOT) -> Tried:
    """Switch the rule off and run the tests that must notice."""
    begun = time.monotonic()
    with copy_of_the_product(mutation, source) as tree:
        ended = run_tests(tree, mutation.caught_by)
    return Tried(mutation, ended, time.monotonic() - begun)
