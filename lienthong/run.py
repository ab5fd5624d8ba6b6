"""`lienthong run`: the roles as processes, started here or on other machines; SIGTERM ends them cleanly."""

from __future__ import annotations

import gc
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from connectors.brokers import PositionLost
from connectors.kafka import Admin
from connectors.postgres import connect, transaction
from lienthong import hub, hub_schema, in_doubt, merging, prober, route, topics, tracing
from lienthong.apply import run as apply_run
from lienthong.capture import run as capture_run
from lienthong.certificates.publish import TOPIC as CERTIFICATES
from lienthong.errors import FatalError, FencedError, TransientError
from lienthong.frames import TOPIC
from lienthong.health import Pulse, default_folder
from lienthong.settings import Settings
from lienthong.vault import Vault

logger = logging.getLogger(__name__)

ROLES = ("capture", "merge", "route", "apply", "deliver", "serve", "watch")
# One merge computes while the other waits for the hub: two use a machine of two cores fully (benchmarks).
PROCESSES = ("capture", "merge", "merge", "route", "apply", "serve", "watch")
DELIVERS = ("deliver",)  # where a national portal is configured
RETRY_SECONDS = (0.5, 1, 2, 5, 10)
CALM_SECONDS = 60.0
STOP_SECONDS = 20.0
REPEAT_SECONDS = 60.0  # the same reason for waiting is logged once a minute
RESTART_SECONDS = (0, 1, 2, 5, 10, 30)  # of a process that keeps ending soon after its start


def prepare(settings: Settings) -> None:
    """Create what the service itself needs: the hub's schema and the topics (never by broker defaults)."""
    with hub.named():
        hub_schema.install(settings.hub.dsn)
    admin = Admin(settings.kafka.brokers)
    try:
        replication = settings.kafka.replication
        safe = {"min.insync.replicas": "2"} if replication > 2 else {}
        admin.ensure({TOPIC: settings.kafka.partitions}, replication=replication, settings={**safe, **topics.IN})
        outs = {route.topic_of(s): 1 for s in settings.systems if settings.contract_of(s)}
        admin.ensure(outs, replication=replication, settings={**safe, **topics.OUT})
        admin.ensure({CERTIFICATES: 1}, replication=replication, settings={**safe, **topics.CERTIFICATES})
    finally:
        admin.close()
    connection = connect(settings.hub.dsn, application_name="lienthong install")
    try:
        in_doubt.refuse_older_hub(connection, settings.kafka.brokers, sorted(outs))
    finally:
        connection.close()


class Stop:
    """SIGTERM and SIGINT ask for a clean end, and so does the end of the process that started this one."""

    def __init__(self, parent: int | None = None, pulse: Pulse | None = None) -> None:
        self._asked = threading.Event()
        self._pulse = pulse
        self._parent = parent
        self._interrupted = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._ask)

    def _ask(self, number: int, _frame: FrameType | None) -> None:
        self._interrupted = number == signal.SIGINT
        self._asked.set()

    def is_asked(self) -> bool:
        """Whether to end. Every loop asks this at each turn, so it is the process's sign of life too."""
        if self._pulse is not None:
            self._pulse.beat()
        return self._asked.is_set() or (self._parent is not None and os.getppid() != self._parent)

    def wait(self, seconds: float) -> bool:
        """Wait, at most so long; returns whether to end."""
        return self._asked.wait(seconds) or self.is_asked()

    def leave(self) -> None:
        """After the clean end: Ctrl-C has an exit code of its own."""
        if self._pulse is not None:
            self._pulse.end()
        if self._interrupted:
            raise KeyboardInterrupt


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a process answers, and where it leaves its signs of life."""

    port: int
    host: str = "127.0.0.1"
    state: Path | None = None
    parent: int | None = None


def run_role(role: str, settings: Settings, systems: Sequence[str], at: Place) -> None:
    """Run one role in this process until SIGTERM or SIGINT; a dependency that is down is waited for."""
    stop = Stop(at.parent, Pulse(at.state or default_folder(), role))
    vault = Vault.from_environment()
    # Batches make many objects and hardly a cycle: the default thresholds cost a fifth of the merge's time (measured).
    gc.freeze()
    gc.set_threshold(200_000, 20, 50)
    work: Mapping[str, Callable[[], None]] = {
        "capture": lambda: capture_run.run(settings, systems, vault, stop.is_asked),
        "merge": lambda: merging.run(settings, stop.is_asked),
        "route": lambda: route.run(settings, stop.is_asked),
        "apply": lambda: apply_run.run(settings, systems, vault, stop.is_asked),
        "deliver": lambda: _deliver(settings, vault, stop.is_asked),
        "serve": lambda: _serve(settings, at, stop.is_asked),
        "watch": lambda: prober.run(settings, systems, stop.is_asked),
    }

    def once() -> None:
        try:
            if role != "serve":  # the registry answers from the released schemas alone
                prepare(settings)
            work[role]()
        except (PositionLost, in_doubt.HubWentBack) as error:  # other errors of that kind are told by the line itself
            _tell_stopped(settings, role, error)
            raise

    try:
        persist(role, once, stop)
    finally:
        tracing.stop()
    stop.leave()


def _tell_stopped(settings: Settings, role: str, error: FatalError) -> None:
    """Let `lienthong status` show why a stage that all systems share has stopped."""
    connection = connect(settings.hub.dsn, application_name=f"lienthong {role}")
    with transaction(connection) as cursor:
        cursor.execute("UPDATE hub.line SET state = 'stopped', reason = %s WHERE system = '*' AND stage = %s", [str(error), role])
    connection.close()


def persist(name: str, work: Callable[[], None], stop: Stop) -> None:
    """Do the work to its end; begin again when a dependency was down or somebody else held the line."""
    failures, since, said = 0, time.monotonic(), ("", 0.0)
    while not stop.is_asked():
        begun = time.monotonic()
        try:
            work()
            return
        except (TransientError, FencedError) as error:
            if time.monotonic() - begun > CALM_SECONDS:
                failures, since = 0, time.monotonic()
            wait = RETRY_SECONDS[min(failures, len(RETRY_SECONDS) - 1)]
            failures += 1
            if said[0] != str(error) or time.monotonic() - said[1] > REPEAT_SECONDS:
                said = (str(error), time.monotonic())
                logger.warning(
                    str(error),
                    extra={
                        "action": f"{name}_waits",
                        "code": error.code,
                        "try": failures,
                        "retry_seconds": wait,
                        "waiting_seconds": round(time.monotonic() - since),
                    },
                )
            stop.wait(wait)


def processes_of(settings: Settings) -> tuple[str, ...]:
    """All roles that this configuration has work for, one for each process."""
    has_portal = settings.national is not None and settings.national.portal is not None
    return PROCESSES + DELIVERS if has_portal else PROCESSES


def _deliver(settings: Settings, vault: Vault, stop: Callable[[], bool]) -> None:
    from lienthong.national import deliver

    deliver.run(settings, vault, stop)


def _serve(settings: Settings, at: Place, turn: Callable[[], bool]) -> None:
    import uvicorn

    from lienthong.web import app as web

    app = web.create(settings)

    async def beat() -> None:
        if turn():  # a signal that came before the server listened to signals
            server.should_exit = True

    quiet: dict[str, Any] = {"log_level": "warning", "log_config": None, "access_log": False}
    server = uvicorn.Server(uvicorn.Config(app, host=at.host, port=at.port, callback_notify=beat, timeout_notify=1, **quiet))
    server.run()


class Processes:
    """All roles as child processes of this one, each restarted alone when it ends by itself."""

    def __init__(self, config: Path, roles: Sequence[str], *, at: Place, systems: Sequence[str] = (), log_folder: Path | None = None) -> None:
        self._config, self._at, self._logs = config, at, log_folder
        self._systems = list(systems)
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._started: dict[str, float] = {}
        self._deaths: Counter[str] = Counter()
        self._roles = list(roles)

    def start(self) -> None:
        """Start every role."""
        for number, role in enumerate(self._roles):
            self._start(f"{role}-{number}", role)

    def _start(self, name: str, role: str) -> None:
        command = [sys.executable, "-m", "lienthong", "run", role, "--config", str(self._config)]
        command += ["--port", str(self._at.port), "--host", self._at.host, *(("--state", str(self._at.state)) if self._at.state else ())]
        command += ["--parent", str(os.getpid()), *(word for system in self._systems for word in ("--system", system))]
        log = (self._logs / f"{name}.log").open("ab") if self._logs is not None else None
        self._running[name] = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=log, start_new_session=True)
        self._started[name] = time.monotonic()
        if log is not None:
            log.close()

    def pids(self) -> dict[str, int]:
        """Process ids by role."""
        return {name: process.pid for name, process in self._running.items()}

    def watch(self) -> None:
        """Start again what has ended; at once, unless it keeps ending soon after its start."""
        for name, process in list(self._running.items()):
            if process.poll() is None:
                continue
            lived = time.monotonic() - self._started[name]
            deaths = self._deaths[name] = 0 if lived > CALM_SECONDS else self._deaths[name]
            if lived < RESTART_SECONDS[min(deaths, len(RESTART_SECONDS) - 1)]:
                continue
            self._deaths[name] += 1
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


def run_all(settings: Settings, config: Path, roles: Sequence[str], *, at: Place, systems: Sequence[str] = ()) -> None:
    """Run the roles as processes until SIGTERM or SIGINT; they start when hub and brokers answer, a wrong configuration ends it."""
    stop = Stop()
    persist("run", lambda: prepare(settings), stop)
    processes = Processes(config, roles, at=at, systems=systems)
    if not stop.is_asked():
        processes.start()
    try:
        while not stop.wait(1.0):
            processes.watch()
    finally:
        processes.stop()
    stop.leave()
