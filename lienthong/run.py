"""`lienthong run`: the roles as processes, started here or on other machines; SIGTERM ends them cleanly."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from lienthong import hub, merging, route
from lienthong.apply import run as apply_run
from lienthong.capture import run as capture_run
from lienthong.errors import FencedError, TransientError
from lienthong.frames import TOPIC
from lienthong.settings import Settings
from lienthong.vault import Vault

from connectors.kafka import Admin

logger = logging.getLogger(__name__)

ROLES = ("capture", "merge", "route", "apply", "serve")
RETRY_SECONDS = (0.5, 1, 2, 5, 10)
CALM_SECONDS = 60.0
STOP_SECONDS = 20.0


def prepare(settings: Settings) -> None:
    """Create what the service itself needs: the hub's schema and the topics (never by broker defaults)."""
    hub.install(settings.hub.dsn)
    admin = Admin(settings.kafka.bootstrap)
    try:
        replication = settings.kafka.replication
        safe = {"min.insync.replicas": "2"} if replication > 2 else {}
        forever = {"retention.ms": "-1", "retention.bytes": "-1"}
        week = {"retention.ms": str(7 * 86_400_000)}
        admin.ensure({TOPIC: settings.kafka.partitions}, replication=replication, settings={**safe, **week})
        outs = {route.topic_of(s): 1 for s in settings.systems if settings.contract_of(s)}
        admin.ensure(outs, replication=replication, settings={**safe, **forever, "cleanup.policy": "compact"})
    finally:
        admin.close()


def run_role(role: str, settings: Settings, systems: Sequence[str], port: int) -> None:
    """Run one role in this process until SIGTERM or SIGINT; a dependency that is down is waited for."""
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    vault = Vault.from_environment()
    work: Mapping[str, Callable[[], None]] = {
        "capture": lambda: capture_run.run(settings, systems, vault, stopped.is_set),
        "merge": lambda: merging.run(settings, stopped.is_set),
        "route": lambda: route.run(settings, stopped.is_set),
        "apply": lambda: apply_run.run(settings, systems, vault, stopped.is_set),
        "serve": lambda: _serve(settings, port),
    }
    failures, since = 0, time.time()
    while not stopped.is_set():
        begun = time.monotonic()
        try:
            prepare(settings)
            work[role]()
            return
        except (TransientError, FencedError) as error:
            failures = 0 if time.monotonic() - begun > CALM_SECONDS else failures + 1
            wait = RETRY_SECONDS[min(failures, len(RETRY_SECONDS) - 1)]
            logger.warning(
                str(error), extra={"action": f"{role}_waits", "code": error.code, "retry_seconds": wait, "waiting_seconds": round(time.time() - since)}
            )
            stopped.wait(wait)


def _serve(settings: Settings, port: int) -> None:
    import uvicorn

    from lienthong.web.registry import create_app

    uvicorn.run(create_app(sorted(settings.systems)), host="127.0.0.1", port=port, log_level="warning")


class Processes:
    """All roles as child processes of this one, each restarted alone when it ends by itself."""

    def __init__(self, config: Path, roles: Sequence[str], *, port: int, log_folder: Path | None = None) -> None:
        self._config, self._port, self._logs = config, port, log_folder
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._roles = list(roles)

    def start(self) -> None:
        """Start every role."""
        for number, role in enumerate(self._roles):
            self._start(f"{role}-{number}", role)

    def _start(self, name: str, role: str) -> None:
        command = [sys.executable, "-m", "lienthong", "run", role, "--config", str(self._config), "--port", str(self._port)]
        log = (self._logs / f"{name}.log").open("ab") if self._logs is not None else None
        self._running[name] = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=log, start_new_session=True)
        if log is not None:
            log.close()

    def pids(self) -> dict[str, int]:
        """Process ids by role."""
        return {name: process.pid for name, process in self._running.items()}

    def watch(self) -> None:
        """Restart what has ended."""
        for name, process in list(self._running.items()):
            if process.poll() is not None:
                logger.warning("a process ended and is started again", extra={"action": "restart", "role": name, "code": process.returncode})
                self._start(name, name.rpartition("-")[0])

    def stop(self) -> None:
        """Ask all to end, wait, then kill what does not."""
        for process in self._running.values():
            if process.poll() is None:
                process.terminate()
        until = time.monotonic() + STOP_SECONDS
        for process in self._running.values():
            try:
                process.wait(max(until - time.monotonic(), 0.1))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._running.clear()


def run_all(config: Path, roles: Sequence[str], *, port: int) -> None:
    """Run the roles as processes until SIGTERM or SIGINT."""
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    processes = Processes(config, roles, port=port)
    processes.start()
    try:
        while not stopped.wait(1.0):
            processes.watch()
    finally:
        processes.stop()
