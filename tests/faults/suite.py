"""How a fault is written down, injected under load, judged and reported.

To add one: a function in a module that `tests.faults.all` imports, such as

    @fault(7, "broker disk full")
    def broker_disk_full(city: FaultCity, run: Run) -> Iterator[None]:
        with run.injection():              # counts it; the applications are at work (rate, rollbacks: arguments of @fault)
            fill_the_disk()
            time.sleep(5)
            give_space()
        run.check(city.roles["capture"].poll() is None, "the publisher must wait, not die")
        yield                              # optional: what follows runs when everything is right again and the applications rest
        run.check(...)

The runner marks what is at risk from here on, judges by the oracle until everything is right (or it is too late), and makes the row.
What is left broken (a stopped server, a frozen role) must be mended before the function ends. `fresh=True` gives a city of its own,
for what cannot be mended. A fault whose tool is missing on this machine raises `Skipped("why")`. `city` (tests/faults/stack.py) has the
servers, roles, failpoints, proxies and SQL; `city.random` is seeded.
"""

from __future__ import annotations

import inspect
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lienthong.errors import LienThongError
from tests.faults.stack import FaultCity, fault_city
from tests.faults.sweep import leaks

WARM_SECONDS = 1.5
AFTER_SECONDS = 1.0
REPORT = Path("build/faults.json")
COLUMNS = ("fault", "injected", "at risk", "lost", "duplicated", "recovered s", "")


class Skipped(Exception):
    """This machine cannot inject the fault; the text says why."""


@dataclass(slots=True)
class Row:
    """One line of the table. `lost` and `duplicated` must be 0; `recovered_seconds` counts from the end of the fault."""

    number: int
    title: str
    seed: str
    injected: int = 0
    at_risk: int = 0
    lost: int = 0
    duplicated: int = 0
    parked: int = 0
    recovered_seconds: float = 0.0
    seconds: float = 0.0
    skipped: str = ""
    broken: bool = False
    notes: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    @property
    def right(self) -> bool:
        """Whether the fault was injected and nothing was wrong afterwards."""
        return bool(self.skipped) or (self.injected > 0 and not (self.lost or self.duplicated or self.failures))


class Run:
    """One injection in progress."""

    def __init__(self, row: Row) -> None:
        self.row = row
        self.parked_expected: int | None = 0  # None: some

    @contextmanager
    def injection(self) -> Iterator[None]:
        """Count one injection."""
        self.row.injected += 1
        yield

    def check(self, true: object, what: str) -> None:
        """What must hold beside the oracle."""
        if not true:
            self.row.failures.append(what)

    def note(self, text: str) -> None:
        """A remark for the table."""
        self.row.notes.append(text)


Work = Callable[[FaultCity, Run], Any]


@dataclass(frozen=True, slots=True)
class Fault:
    """A registered fault."""

    number: int
    title: str
    work: Work
    rate: float
    rollbacks: float
    fresh: bool
    clean_seconds: float


FAULTS: dict[int, Fault] = {}


def fault(
    number: int, title: str, *, rate: float = 40.0, rollbacks: float = 0.08, fresh: bool = False, clean_seconds: float = 60.0
) -> Callable[[Work], Work]:
    """Register a fault under its number in the matrix."""

    def register(work: Work) -> Work:
        assert number not in FAULTS
        FAULTS[number] = Fault(number, title, work, rate, rollbacks, fresh, clean_seconds)
        return work

    return register


def inject(city: FaultCity, one: Fault) -> Row:
    """Inject one fault into a running city, and judge."""
    row = Row(one.number, one.title, city.seed)
    run, begun = Run(row), time.monotonic()
    city.oracle.mark()
    try:
        _under_load(city, one, run)
    except Skipped as why:
        row.skipped = str(why)
    except Exception as error:  # noqa: BLE001 - the row says what happened; the next fault gets a city of its own
        row.failures.append(f"{type(error).__name__}: {error}"[:600])
        row.broken = True
    found = leaks(city)
    row.failures += [f"personal data in {place}" for place in found[:5]]
    row.seconds = round(time.monotonic() - begun, 1)
    return row


def _under_load(city: FaultCity, one: Fault, run: Run) -> None:
    row = run.row
    with city.living(one.rate, one.rollbacks) if one.rate else ExitStack():
        time.sleep(WARM_SECONDS if one.rate else 0)
        later = one.work(city, run)
        if inspect.isgenerator(later):
            next(later)
        ended = time.monotonic()
        time.sleep(AFTER_SECONDS if one.rate else 0)
    verdict, _ = city.clean(one.clean_seconds, run.parked_expected)
    row.recovered_seconds = round(time.monotonic() - ended, 1)
    row.at_risk = city.oracle.at_risk()
    if inspect.isgenerator(later) and verdict.right:
        next(later, None)
        verdict, _ = city.clean(20)
    row.lost, row.duplicated, row.parked = verdict.lost, verdict.duplicated, verdict.parked.total()
    if row.parked != run.parked_expected and (run.parked_expected is not None or not row.parked):
        row.failures.append(f"{row.parked} records parked, {run.parked_expected} expected: {dict(verdict.parked)}")
    row.failures += verdict.examples


class Cities:
    """Gives each fault a running city: the last one again, while it is whole."""

    def __init__(self, seed: str, folder: Path | None = None) -> None:
        self.seed = seed
        self.folder = folder or Path(tempfile.mkdtemp(prefix="lienthong-faults-", dir="/var/tmp"))
        self.folder.chmod(0o711)
        self._exits = ExitStack()
        self._city: FaultCity | None = None
        self._number = 0

    def city(self) -> FaultCity:
        """A city that is whole."""
        if self._city is None:
            self._number += 1
            self._city = self._exits.enter_context(fault_city(self.folder / str(self._number), f"{self.seed}-{self._number}"))
        return self._city

    def run(self, one: Fault) -> Row:
        """Inject one fault into a fitting city."""
        if one.fresh:
            self.give_up()
        row = inject(self.city(), one)
        row.seed = self.seed
        if not row.right:
            self.keep(row.failures, f"{row.number}")
        if one.fresh or row.lost or row.duplicated or row.broken:
            self.give_up()
        return row

    def keep(self, findings: list[str], name: str) -> None:
        """What the processes of the present city have said, what is parked there, and all about the records that findings name."""
        assert self._city is not None
        kept = REPORT.parent / "faults-logs" / f"{self.seed}-{self._number}"
        kept.mkdir(parents=True, exist_ok=True)
        for log in self._city.folder.glob("*.log"):
            shutil.copy(log, kept / log.name)
        with suppress(LienThongError):
            (kept / "parked.txt").write_text(self._city.story(), "utf-8")
            (kept / f"evidence-{name}.txt").write_text(self._city.evidence(findings), "utf-8")

    def give_up(self) -> None:
        """Stop the present city."""
        self._exits.close()
        self._city = None

    def close(self) -> None:
        """Stop what runs and remove the folder."""
        self.give_up()
        shutil.rmtree(self.folder, ignore_errors=True)


def run_all(faults: Iterable[Fault], seed: str) -> list[Row]:
    """Inject all, print one row per fault, write the report."""
    cities, rows = Cities(seed), []
    say(f"seed {seed}")
    say(_line(COLUMNS))
    try:
        for one in faults:
            row = cities.run(one)
            rows.append(row)
            say(_line(_cells(row)))
            for text in [*row.notes, *(f"WRONG: {failure}" for failure in row.failures)]:
                say(f"      {text}")
            report(rows, seed)
    finally:
        cities.close()
    return rows


def report(rows: list[Row], seed: str) -> None:
    """Write what was found so far."""
    REPORT.parent.mkdir(exist_ok=True)
    document = {"schema": "lienthong/faults/1", "seed": seed, "rows": [{**asdict(row), "right": row.right} for row in rows]}
    REPORT.write_text(json.dumps(document, indent=2) + "\n", "utf-8")


def say(text: str) -> None:
    """One line to the person who waits."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _cells(row: Row) -> tuple[str, ...]:
    name = f"{row.number:>2} {row.title}"
    if row.skipped:
        return name, "-", "-", "-", "-", "-", f"skipped: {row.skipped}"
    counts = (row.injected, row.at_risk, row.lost, row.duplicated)
    return name, *(f"{count}" for count in counts), f"{row.recovered_seconds:.1f}", "right" if row.right else "WRONG"


def _line(cells: Iterable[str]) -> str:
    name, *rest = cells
    return f"{name:58}" + "".join(f"{cell:>12}" for cell in rest[:-1]) + f"  {rest[-1]}"
