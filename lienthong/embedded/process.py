"""One server process of the embedded stack: started away from the terminal, watched, ended, never left behind."""

from __future__ import annotations

import ctypes
import os
import pwd
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from lienthong.errors import TransientError

POLL_SECONDS = 0.02
LOG_TAIL_LINES = 20
PR_SET_PDEATHSIG = 1

# Servers get a small environment of their own: nothing of ours (PGOPTIONS, secrets, JAVA_TOOL_OPTIONS) reaches them.
ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C.UTF-8", "TZ": "UTC"}

_libc = ctypes.CDLL(None, use_errno=True)

# Linux sends the death signal when the *thread* that started the child ends, so all children come from this one,
# which ends with the process.
_spawner = ThreadPoolExecutor(max_workers=1, thread_name_prefix="embedded-spawner")


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """What to run, as whom (None: as ourselves), where its output goes, and the signal it gets when we die."""

    arguments: Sequence[str]
    log: Path
    user: str | None = None
    directory: Path | None = None
    environment: Mapping[str, str] = field(default_factory=lambda: ENVIRONMENT)
    death_signal: signal.Signals = signal.SIGKILL


class ServerProcess:
    """A running server in a session of its own, so that Ctrl-C in the terminal reaches only us."""

    def __init__(self, command: Command) -> None:
        self.log = command.log
        self._process = _spawner.submit(_spawn, command).result()

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def wait_until(self, is_ready: Callable[[], bool], *, what: str, timeout_seconds: float) -> None:
        """Wait until the server is ready; if it ends or is late, raise TransientError with the end of its log."""
        deadline = time.monotonic() + timeout_seconds
        while not (self.is_running and is_ready()):
            if not self.is_running:
                raise TransientError(f"{what} ended with code {self._process.returncode} while starting.\n{self.tail()}")
            if time.monotonic() > deadline:
                self.kill()
                raise TransientError(f"{what} was not ready after {timeout_seconds:g} s.\n{self.tail()}")
            time.sleep(POLL_SECONDS)

    def stop(self, *signals: signal.Signals, timeout_seconds: float) -> None:
        """Send each signal in turn, with time to obey it, and kill what still runs after the last one."""
        for number in signals:
            self._process.send_signal(number)
            try:
                self._process.wait(timeout_seconds)
            except subprocess.TimeoutExpired:
                continue
            return
        self.kill()

    def kill(self) -> None:
        """End the server and every process under it at once, as a power failure would, and wait until they are gone."""
        if not self.is_running:
            return
        self._process.send_signal(signal.SIGSTOP)  # so that it starts no further child while we look
        children = descendants(self.pid)
        for pid in children:
            _kill(pid)
        self._process.kill()
        self._process.wait()
        wait_until_gone(children)

    def tail(self) -> str:
        """The last lines of its log, for an error message."""
        lines = self.log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:]
        return "\n".join([f"The end of {self.log}:", *(f"  {line}" for line in lines)])


def run(arguments: Sequence[str], *, user: str | None = None, environment: Mapping[str, str] = ENVIRONMENT) -> str:
    """Run a short command to its end and return its output; raise TransientError with what it said if it fails."""
    result = subprocess.run(
        list(arguments),
        user=user,
        group=_group(user),
        extra_groups=None if user is None else (),
        env=dict(environment),
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    output = result.stdout.decode(errors="replace")
    if result.returncode:
        raise TransientError(f"{Path(arguments[0]).name} failed with code {result.returncode}:\n{output.strip()}")
    return output


def descendants(pid: int) -> list[int]:
    """All processes below this one, as /proc sees them now."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (state := _state(int(entry.name))):
            children.setdefault(state[1], []).append(int(entry.name))
    found = list(children.get(pid, ()))
    for child in found:  # grows while it is walked, so grandchildren are found too
        found.extend(children.get(child, ()))
    return found


def wait_until_gone(pids: Sequence[int], timeout_seconds: float = 10) -> None:
    """Wait until none of these processes runs any more; a zombie that only waits for its new parent does not count."""
    deadline = time.monotonic() + timeout_seconds
    while any((state := _state(pid)) and state[0] not in "ZX" for pid in pids):
        if time.monotonic() > deadline:
            raise TransientError(f"processes {pids} did not end within {timeout_seconds:g} s")
        time.sleep(POLL_SECONDS)


def _spawn(command: Command) -> subprocess.Popen[bytes]:
    parent = os.getpid()

    def die_with_parent() -> None:  # runs after the change of user, which would clear it
        _libc.prctl(PR_SET_PDEATHSIG, int(command.death_signal), 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    with command.log.open("ab") as log:
        return subprocess.Popen(
            list(command.arguments),
            user=command.user,
            group=_group(command.user),
            extra_groups=None if command.user is None else (),
            env=dict(command.environment),
            cwd=command.directory or "/",
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=die_with_parent,
        )


def _group(user: str | None) -> int | None:
    if user is None:
        return None
    return pwd.getpwnam(user).pw_gid


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _state(pid: int) -> tuple[str, int] | None:
    """State letter and parent of a process, or None if there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, parent = text.rpartition(")")[2].split()[:2]
    return state, int(parent)
