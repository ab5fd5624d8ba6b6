"""Airflow as its users have it, for tests: its API, runs that are started and waited for, and a receiver of lineage events."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from connectors.postgres import connect, transaction

ROOT = Path(__file__).resolve().parents[1]
DAGS = ROOT / "dags"
ENDED = {"success", "failed"}
RECEIVER = """
import http.server, pathlib, sys
class Receiver(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with pathlib.Path(sys.argv[2]).open("ab") as events:
            events.write(body.replace(b"\\n", b" ") + b"\\n")
        self.send_response(200); self.end_headers()
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Receiver).serve_forever()
"""


def sql(dsn: str, statement: str, *values: Any) -> list[tuple[Any, ...]]:
    """The rows of a statement in one database of the city."""
    connection = connect(dsn, application_name="test")
    try:
        with transaction(connection) as cursor:
            cursor.execute(statement, list(values) or None)
            return list(cursor.fetchall()) if cursor.description else []
    finally:
        connection.close()


@contextmanager
def locked(dsn: str, table: str) -> Iterator[None]:
    """Nobody can read a table meanwhile."""
    connection = connect(dsn, application_name="test")
    try:
        with connection.cursor() as cursor:
            cursor.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
            yield
    finally:
        connection.rollback()
        connection.close()


class Api:
    """Airflow's REST API, logged in as a person."""

    def __init__(self, address: str, user: str, password: str) -> None:
        self.address = address
        self.token = ""
        self.token = self._ask("POST", "/auth/token", {"username": user, "password": password})["access_token"]

    def get(self, path: str) -> Any:
        """What a path of the API answers."""
        return self._ask("GET", f"/api/v2/{path}", None)

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """Send something."""
        return self._ask("POST", f"/api/v2/{path}", body)

    def patch(self, path: str, body: dict[str, Any]) -> Any:
        """Change something."""
        return self._ask("PATCH", f"/api/v2/{path}", body)

    def _ask(self, method: str, path: str, body: dict[str, Any] | None) -> Any:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        request = Request(self.address + path, None if body is None else json.dumps(body).encode(), headers, method=method)
        try:
            with urlopen(request, timeout=120) as answer:
                text = answer.read()
        except HTTPError as error:
            raise AssertionError(f"{method} {path}: {error.code} {error.read().decode()[:2000]}") from None
        return json.loads(text) if text else None

    def until_read(self, names: set[str], seconds: float = 60.0) -> None:
        """Wait until Airflow has read these flows, and switch them on; those with a schedule do not start by that."""
        until = time.monotonic() + seconds
        while names - (found := {each["dag_id"] for each in self.get("dags?limit=100")["dags"]}):
            if time.monotonic() > until:
                raise AssertionError(f"not read: {names - found}; {self.get('importErrors')}")
            time.sleep(0.3)

    def switch_on(self, dag: str) -> None:
        """What the switch beside a flow's name does."""
        self.patch(f"dags/{dag}", {"is_paused": False})

    def first(self, dag: str, kind: str = "scheduled", seconds: float = 120.0) -> str:
        """Switch a flow on and wait for the run that begins by itself; its id."""
        self.switch_on(dag)
        until = time.monotonic() + seconds
        while not (found := [run for run in self.get(f"dags/{dag}/dagRuns")["dag_runs"] if run["run_type"] == kind]):
            if time.monotonic() > until:
                raise AssertionError(f"{dag}: nothing has begun by itself")
            time.sleep(0.5)
        return str(found[0]["dag_run_id"])

    # ------------------------------------------------------------ runs
    def start(self, dag: str, **conf: Any) -> str:
        """Start a run as the form does; its id."""
        return str(self.post(f"dags/{dag}/dagRuns", {"logical_date": None, "conf": conf})["dag_run_id"])

    def newest(self, dag: str, seconds: float = 30.0) -> str:
        """The id of the run of a flow that somebody has just started."""
        until = time.monotonic() + seconds
        while not (found := self.get(f"dags/{dag}/dagRuns?order_by=-run_after&limit=1&state=queued&state=running")["dag_runs"]):
            assert time.monotonic() < until, f"no run of {dag}"
            time.sleep(0.3)
        return str(found[0]["dag_run_id"])

    def tasks(self, dag: str, run: str) -> list[dict[str, Any]]:
        """The tasks of a run, mapped ones one by one."""
        return list(self.get(f"dags/{dag}/dagRuns/{run}/taskInstances?limit=500")["task_instances"])

    def states(self, dag: str, run: str) -> dict[str, set[str]]:
        """Task: the states of its instances."""
        found: dict[str, set[str]] = {}
        for each in self.tasks(dag, run):
            found.setdefault(each["task_id"], set()).add(str(each["state"]))
        return found

    def wait(self, dag: str, run: str, seconds: float = 90.0) -> str:
        """Wait for the end of a run; its state."""
        until = time.monotonic() + seconds
        while (state := str(self.get(f"dags/{dag}/dagRuns/{run}")["state"])) not in ENDED:
            if time.monotonic() > until:
                raise AssertionError(f"{dag} is {state} after {seconds:.0f} s: {self.states(dag, run)}")
            time.sleep(0.4)
        return state

    def until(self, dag: str, run: str, is_so: Callable[[list[dict[str, Any]]], bool], seconds: float = 60.0) -> list[dict[str, Any]]:
        """Wait until something is true of a run's tasks; these."""
        until = time.monotonic() + seconds
        while not is_so(found := self.tasks(dag, run)):
            if time.monotonic() > until:
                raise AssertionError(f"{dag}: {[(t['task_id'], t['map_index'], t['state']) for t in found]}")
            time.sleep(0.3)
        return found

    def log(self, dag: str, run: str, task: str, index: int = -1) -> str:
        """Everything the last try of a task has logged, without the places in the code."""
        found = next(t for t in self.tasks(dag, run) if t["task_id"] == task and t["map_index"] == index)
        path = f"dags/{dag}/dagRuns/{run}/taskInstances/{task}/logs/{found['try_number']}?map_index={index}&full_content=true"
        lines = self.get(path)["content"]
        for detail in (detail for line in lines if isinstance(line, dict) for detail in line.get("error_detail") or []):
            detail.pop("frames", None)
        return json.dumps(lines, ensure_ascii=False)

    def result(self, dag: str, run: str, task: str, index: int = -1) -> Any:
        """What a task has returned."""
        return self.get(f"dags/{dag}/dagRuns/{run}/taskInstances/{task}/xcomEntries/return_value?map_index={index}")["value"]


class Receiver:
    """A receiver of OpenLineage events, as a process of its own."""

    def __init__(self, port: int, file: Path) -> None:
        self.port, self.file = port, file
        self._process = subprocess.Popen([sys.executable, "-c", RECEIVER, str(port), str(file)], stdin=subprocess.DEVNULL)

    @property
    def transport(self) -> str:
        """Airflow's setting that sends events here."""
        return json.dumps({"type": "http", "url": f"http://127.0.0.1:{self.port}", "endpoint": "api/v1/lineage"})

    def events(self) -> list[dict[str, Any]]:
        """What has come so far."""
        return [json.loads(line) for line in self.file.read_text("utf-8").splitlines()] if self.file.exists() else []

    def stop(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
