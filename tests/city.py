"""A small city for tests: an embedded stack, a configuration folder, and the service run as its users run it, by command."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from connectors.postgres import connect
from lienthong.embedded import Stack
from tests.commands import command

WAIT_SECONDS = 45.0
ROLES = ("capture", "merge", "route", "apply")

TABLE = """
CREATE TABLE ho_so (ma text PRIMARY KEY, tthc text NOT NULL, nop timestamptz NOT NULL, ten text NOT NULL, tt text NOT NULL, ghi_chu text)
"""
PROFILE = """
version: 1
profile: simple
entities:
  dossier:
    table: ho_so
    key: ma
    identifiers: {national: ma}
    fields:
      procedure_code: tthc
      submitted_at: nop
      applicant_name: ten
      status: {column: tt, values: {moi: 1, dang_xu_ly: 4, xong: 9}}
      note: ghi_chu
"""
"""The small layout that most cities of tests have."""
AUTHORITY = """
version: 1
authority:
  dossier:
    record: &any [{order: [portal, "kind:ward", "kind:department"], basis: "a test"}]
    routing: *any
    intake: *any
    processing: &done [{order: ["kind:ward", "kind:department", portal], basis: "a test"}]
    result: *done
    payment: *done
  dossier_event: {record: *done, step: *done}
  dossier_component: {record: *any, content: *any}
  fee: {record: *any, content: *any}
  citizen: {record: *any, identity: *any, residence: *any, contact: *any}
"""


class City:
    """Databases, configuration and processes of one test module."""

    def __init__(self, stack: Stack, folder: Path) -> None:
        assert stack.kafka is not None
        self.stack, self.folder, self.config = stack, folder, folder / "config"
        (self.config / "profiles").mkdir(parents=True, exist_ok=True)
        self.environment = {name: os.environ[name] for name in ("PATH", "HOME", "PYTHONPATH") if name in os.environ}
        self.environment |= {"KAFKA_BOOTSTRAP": stack.kafka.bootstrap, "LIENTHONG_CONFIG": str(self.config), "COLUMNS": "300"}
        self.environment["HUB_DSN"] = stack.postgres["hub"].create_database("hub")
        self.running: list[subprocess.Popen[bytes]] = []
        self.said = ""  # everything any command has printed

    # ------------------------------------------------------------ set-up
    def write(self, name: str, text: str) -> None:
        """Write one file of the configuration."""
        (self.config / name).write_text(text, "utf-8")

    def database(self, cluster: str, name: str, *statements: str) -> str:
        """A database with its tables; its address is in the environment as NAME_DSN."""
        dsn = self.environment[f"{name.upper()}_DSN"] = self.stack.postgres[cluster].create_database(name)
        self.sql(name, *statements)
        return dsn

    def install(self, *systems: str) -> None:
        """What each system's administrator does: run what `check --sql` prints."""
        for system in systems:
            done = self.cli("check", "--sql", system)
            assert done.returncode == 0, done.stderr
            self.psql(system.replace("-", "_"), done.stdout)

    def psql(self, name: str, script: str) -> None:
        """Run a script as `psql -1 -v ON_ERROR_STOP=1 -f` does."""
        psql = str(self.stack.postgres["hub"].psql_path)
        call = [psql, "-X", "-q", "-1", "-v", "ON_ERROR_STOP=1", "-d", self.environment[f"{name.upper()}_DSN"], "-f", "-"]
        done = subprocess.run(call, input=script, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr

    # ------------------------------------------------------------ SQL
    def sql(self, name: str, *statements: str, arguments: Sequence[Any] | None = None) -> list[tuple[Any, ...]]:
        """Run statements in one database; the rows of the last."""
        connection = connect(self.environment[f"{name.upper()}_DSN"], application_name="test", autocommit=True)
        try:
            with connection.cursor() as cursor:
                for statement in statements:
                    cursor.execute(statement, arguments)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()

    def until(self, name: str, statement: str, expected: object, seconds: float = WAIT_SECONDS) -> None:
        """Wait until a query answers what is expected: the rows, or the only value."""
        wait(lambda: self._is(name, statement, expected), seconds, lambda: self._story(name, statement, expected))

    def _is(self, name: str, statement: str, expected: object) -> bool:
        found = self.sql(name, statement)
        return found == expected or (len(found) == 1 and found[0] == (expected,))

    def _story(self, name: str, statement: str, expected: object) -> str:
        parked = self.sql("hub", "SELECT system, entity, local_key, field, message FROM hub.parked WHERE state = 'open'")
        here = f"{statement}\n in {name} says {self.sql(name, statement)}, expected {expected}"
        return f"{here}\nparked: {parked}\n{self.logs()[-6000:]}"

    # ------------------------------------------------------------ commands
    def cli(self, *arguments: str, seconds: float = 60.0, environment: Mapping[str, str] | None = None) -> Any:
        """Run a command to its end."""
        done = command(arguments, environment={**self.environment, **(environment or {})}, folder=self.folder, seconds=seconds)
        self.said += done.stdout + done.stderr
        return done

    def json(self, *arguments: str) -> Any:
        """The JSON document a command prints."""
        done = self.cli(*arguments, "--json")
        return json.loads(done.stdout)

    def start(self, *arguments: str, log: str = "run.log", environment: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Start a command that runs on; what it says goes to a log."""
        with (self.folder / log).open("ab") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "lienthong", *arguments], env={**self.environment, **(environment or {})},
                stdin=subprocess.DEVNULL, stdout=file, stderr=file, cwd=self.folder, start_new_session=True,
            )  # fmt: skip
        self.running.append(process)
        return process

    def run(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start the service's streaming roles, each as a process of its own."""
        return self.start("run", *ROLES, *arguments)

    def stop(self, number: int = signal.SIGTERM) -> list[int]:
        """End what was started; the exit codes."""
        codes = []
        for process in self.running:
            if process.poll() is None:
                process.send_signal(number)
            try:
                codes.append(process.wait(40))
            except subprocess.TimeoutExpired:
                process.kill()
                codes.append(process.wait())
        self.running.clear()
        return codes

    def logs(self) -> str:
        """Everything the running commands have said."""
        return "".join(path.read_text("utf-8", "replace") for path in sorted(self.folder.glob("*.log")))

    def events(self) -> list[dict[str, Any]]:
        """The log lines as values."""
        return [json.loads(line) for line in self.logs().splitlines() if line.startswith("{")]


@contextmanager
def city(folder: Path, *, clusters: Sequence[str]) -> Iterator[City]:
    """A city on servers of its own."""
    with Stack(folder / "servers", clusters=clusters) as stack:
        made = City(stack, folder)
        try:
            yield made
        finally:
            made.stop()


def wait(true: Callable[[], bool], seconds: float = WAIT_SECONDS, story: Callable[[], str] = lambda: "") -> None:
    """Wait until something is true."""
    until = time.monotonic() + seconds
    while not true():
        if time.monotonic() > until:
            raise AssertionError(f"not within {seconds:.0f} s: {story()}")
        time.sleep(0.1)
