"""The main job on real-shaped input: six systems on two clusters, loaded, living, then verified by plain SQL."""

from __future__ import annotations

import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from connectors.postgres import connect, rows, transaction
from lienthong import ddl, parked, run
from lienthong.config import load_settings
from lienthong.demo import figures, page
from lienthong.demo.holdings import read
from lienthong.demo.national import NationalSide
from lienthong.demo.parties import CONFIG, PARTIES, create_tables
from lienthong.demo.verify import Row, judge, unkept
from lienthong.embedded import Stack
from lienthong.embedded.ports import free_port
from lienthong.load import Loader
from lienthong.quiet import wait_quiet
from lienthong.settings import Settings
from lienthong.simulate import Filled, Lived, fill, live
from lienthong.vault import Vault

QUIET_SECONDS = 300.0
LOGS = Path("build/demo-logs")
Say = Callable[[str], None]

_DELIVERED = """
SELECT system, entity, CASE state WHEN 'refused' THEN 'unsendable' ELSE state END, count(*) FROM hub.delivery WHERE cured_at IS NULL GROUP BY 1, 2, 3
"""


@dataclass(slots=True)
class Result:
    """What the demo found."""

    verified: bool = False
    seconds: float = 0.0
    dossiers: int = 0
    seed: int = 0
    rows: list[dict[str, Any]] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)
    lost_edits: list[str] = field(default_factory=list)
    national: dict[str, Any] = field(default_factory=dict)
    figures: dict[str, Any] = field(default_factory=dict)
    actions: dict[str, int] = field(default_factory=dict)
    stages: dict[str, float] = field(default_factory=dict)
    addresses: dict[str, str] = field(default_factory=dict)


class Demo:
    """One run of the demo on a stack of its own."""

    def __init__(self, stack: Stack, folder: Path, say: Say) -> None:
        self.stack, self.folder, self.say = stack, folder, say
        self.config = folder / "config"
        self.port = free_port()
        self.dsns: dict[str, str] = {}
        self.settings: Settings
        self.national: NationalSide | None = None
        self.processes: run.Processes | None = None

    def set_up(self) -> None:
        """Databases, vendor tables, configuration, our schema in each database, topics."""
        for party in PARTIES.values():
            self.stack.postgres[party.cluster].create_database(party.database)
            self.dsns[party.name] = self.stack.postgres[party.cluster].dsn(party.database)
        self.stack.postgres["hub"].create_database("hub")
        create_tables(self.dsns)
        self.national = NationalSide(self.stack.postgres["central"], self.folder)
        os.environ.update(self.side.start())
        shutil.copytree(CONFIG, self.config, dirs_exist_ok=True)
        assert self.stack.kafka is not None
        os.environ.update({PARTIES[name].variable: dsn for name, dsn in self.dsns.items()})
        os.environ |= {"HUB_DSN": self.stack.postgres["hub"].dsn("hub"), "KAFKA_BOOTSTRAP": self.stack.kafka.bootstrap}
        self.settings = load_settings(self.config, os.environ)
        for name, dsn in self.dsns.items():
            connection = connect(dsn, application_name="lienthong demo")
            with transaction(connection) as cursor:
                cursor.execute(ddl.ddl_for(name, self.settings))
            connection.close()
        run.prepare(self.settings)

    def start(self) -> None:
        """The service's processes."""
        self.processes = run.Processes(self.config, run.processes_of(self.settings), at=run.Place(port=self.port), log_folder=self.folder)
        self.processes.start()
        self.say(page.opened(self.settings, self.port))

    def load(self, progress: Callable[[str, str, int, int], None]) -> int:
        """The initial load of every system."""
        total = 0
        for name in self.settings.with_database():
            loader = Loader(self.settings, name, Vault.from_environment())
            try:
                total += loader.run(progress=lambda entity, done, planned, s=name: progress(s, entity, done, planned)).records  # type: ignore[misc]
            finally:
                loader.close()
        return total

    def verify_citizens(self) -> dict[str, int]:
        """Let the national population database say which of some citizens it knows."""
        return self.side.verify_citizens(self.settings, read(self.dsns))

    def live(self, result: Result, seconds: float | None) -> Lived:
        """Let citizens and clerks act in all systems, while the national portal goes away for some seconds."""
        steps = max(60, result.dossiers // 4)
        self.say(f"living: {steps} actions of citizens and clerks in all systems; the national portal goes away in between")
        self.side.begin_outage()
        how_long = {"steps": steps, "rate": 20.0} if seconds is None else {"seconds": seconds}
        lived = live(self.dsns, seed=result.seed, **how_long)  # type: ignore[arg-type]
        self.side.end_outage()
        result.national["outage_seconds"] = self.side.outage_seconds
        return lived

    @property
    def side(self) -> NationalSide:
        """The national stand-ins, once they were started."""
        assert self.national is not None
        return self.national

    def addresses(self) -> dict[str, str]:
        """Where the service and the national stand-ins are reached, and the configuration lies."""
        return {
            **self.side.addresses,
            "registry": f"http://127.0.0.1:{self.port}",
            "page": f"http://127.0.0.1:{self.port}/overview",
            "configuration": str(self.config),
        }

    def quiet(self, *, delivery: bool = True) -> float:
        """Wait until nothing moves, or nothing but the messages to the national portal."""
        return wait_quiet(self.settings, timeout_seconds=QUIET_SECONDS, delivery=delivery)

    def stop(self) -> None:
        """End the service's processes and the national stand-ins."""
        if self.processes is not None:
            self.processes.stop()
        if self.national is not None:
            self.national.stop()

    def table(self, verdict: list[Row]) -> list[dict[str, Any]]:
        """Per system and entity: what was captured, applied, older, refused, parked, and verified."""
        hub, applied = self._hub_counts(), self._applied_counts()
        refused = self._open_parked()
        out = []
        for row in verdict:
            here = (row.system, row.entity)
            out.append(
                {
                    "system": row.system,
                    "entity": row.entity,
                    "captured": hub[(*here, "captured")],
                    "applied": applied[(*here, "applied")] + hub[(*here, "confirmed")],
                    "older": hub[(*here, "older")] + hub[(*here, "duplicate")] + applied[(*here, "older")] + applied[(*here, "duplicate")],
                    "removed": applied[(*here, "deleted")] + applied[(*here, "withdrawn")],
                    "corrections": hub[(*here, "correction")],
                    "refused": refused[here],
                    "parked": applied[(*here, "parked")] + hub[(*here, "link_parked")] + hub[(*here, "unsendable")],
                    "expected": row.expected,
                    "equal": row.equal,
                    "missing": row.missing,
                    "extra": row.extra,
                    "different": row.different,
                    "verified": row.right,
                }
            )
        return out

    def _hub_counts(self) -> Counter[tuple[str, str, str]]:
        connection = connect(self.settings.hub.dsn, application_name="lienthong demo")
        with transaction(connection) as cursor:
            found = rows(cursor, "SELECT system, entity, outcome, n FROM hub.counter")
            found += rows(cursor, _DELIVERED)
        connection.close()
        return Counter({(s, e, o): n for s, e, o, n in found})

    def _open_parked(self) -> Counter[tuple[str, str]]:
        connection = connect(self.settings.hub.dsn, application_name="lienthong demo")
        found = parked.listing(connection, parked.Wanted(limit=1_000_000))
        connection.close()
        return Counter((p["system"], p["entity"]) for p in found if p["kind"] == "refused")

    def _applied_counts(self) -> Counter[tuple[str, str, str]]:
        out: Counter[tuple[str, str, str]] = Counter()
        for name, dsn in self.dsns.items():
            connection = connect(dsn, application_name="lienthong demo")
            with transaction(connection) as cursor:
                for entity, outcome, n in rows(cursor, "SELECT entity, outcome, n FROM lienthong.counter"):
                    out[name, entity, outcome] += n
            connection.close()
        return out


def run_demo(
    *,
    dossiers: int,
    seed: int,
    keep: bool,
    say: Say,
    progress: Callable[[str, str, int, int], None],
    wait: Callable[[Result], None] = lambda _: None,
    live_seconds: float | None = None,
) -> Result:
    """Run the whole demo; with `keep`, call `wait` before anything is stopped."""
    result = Result(dossiers=dossiers, seed=seed)
    begun = time.monotonic()
    say("starting three PostgreSQL clusters and Kafka")
    with Stack() as stack:
        folder = stack.directory / "service"
        folder.mkdir()
        demo = Demo(stack, folder, say)
        try:
            stage = _Stages(result, begun)
            demo.set_up()
            stage.done("start and set up")
            say(f"filling six systems with synthetic records, {dossiers} dossiers, seed {seed}")
            filled = fill(demo.dsns, dossiers=dossiers, seed=seed)
            stage.done("fill")
            demo.start()
            say("initial load of every system")
            loaded = demo.load(progress)
            demo.quiet(delivery=False)
            stage.done(f"load of {loaded} records to every entitled target")
            say("asking the national population database about citizens")
            result.national["citizens"] = demo.verify_citizens()
            stage.done("verification of citizens")
            lived = demo.live(result, live_seconds)
            stage.done("live changes, the national portal away in between")
            say("changes stopped; waiting for quiet")
            demo.quiet()
            stage.done("quiet")
            _judge(demo, result, filled, lived)
            stage.done("verification by plain SQL")
            result.figures = figures.keep(demo.settings)
            stage.done("figures for the page")
            result.seconds = round(time.monotonic() - begun, 1)
            result.addresses = {**stack.addresses(), **demo.addresses()}
            if keep:
                wait(result)
        finally:
            demo.stop()
            _keep_logs(result, folder, say)
    return result


def _keep_logs(result: Result, folder: Path, say: Say) -> None:
    """What the processes said stays when the demo did not end well."""
    if result.verified:
        return
    LOGS.mkdir(parents=True, exist_ok=True)
    for log in folder.glob("*.log"):
        shutil.copy(log, LOGS / log.name)
    say(f"the processes' logs are in {LOGS}")


class _Stages:
    def __init__(self, result: Result, begun: float) -> None:
        self._result, self._since = result, begun

    def done(self, name: str) -> None:
        now = time.monotonic()
        self._result.stages[name] = round(now - self._since, 1)
        self._since = now


def _judge(demo: Demo, result: Result, filled: Filled, lived: Lived) -> None:
    holdings = read(demo.dsns)
    deleted = {write.code for write in lived.writes if write.entity == "dossier" and write.values is None}
    verdict = judge(holdings, tolerated=[w for w in lived.writes if not w.owner]) + demo.side.judge(holdings, deleted)
    result.rows = demo.table(verdict)
    result.differences = [f"{row.system} {row.entity}: {example}" for row in verdict for example in row.examples]
    result.lost_edits = unkept(demo.dsns, lived.writes)
    result.actions = dict(lived.actions)
    wrongly = _refusals(result.rows, filled)
    result.differences += wrongly
    wrongly_answered = result.national["citizens"]["wrong"]
    result.verified = all(row["verified"] for row in result.rows) and not (result.lost_edits or wrongly or wrongly_answered)


def _refusals(table: list[dict[str, Any]], filled: Filled) -> list[str]:
    """Rows that were written to be refused and were not."""
    refused = {(row["system"], row["entity"]): row["refused"] for row in table}
    out = []
    for here, reasons in filled.expected_refused.items():
        if refused.get(here, 0) < sum(reasons.values()):
            out.append(f"{here[0]} {here[1]}: {sum(reasons.values())} spoiled rows, only {refused.get(here, 0)} refused")
    return out


def as_document(result: Result) -> Mapping[str, Any]:
    """The result as plain data."""
    return {"schema": "lienthong/demo/1", **asdict(result)}
