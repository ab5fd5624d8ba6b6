"""Is a process alive, and is it ready? Alive: its own loop turns. Ready: what it needs answers, too.

Who only waits for a neighbour is alive: to restart it for that would make the neighbour's outage longer.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from connectors.kafka import Admin
from connectors.postgres import connect, one, transaction
from lienthong import hub
from lienthong.errors import ConfigError
from lienthong.settings import Settings

EVERY_SECONDS = 1.0
LIMIT_SECONDS = 300.0  # the longest that a loop may rightly take for one turn: a reading of a slow source, a statement at a busy target
NEED_NOTHING = ("serve",)  # the registry answers from the released schemas alone
_FILE = re.compile(r"([a-z]+)-(\d+)\.alive")


def default_folder() -> Path:
    """Where the processes of this user leave their signs of life, unless a folder is named."""
    return Path(tempfile.gettempdir(), f"lienthong-alive-{os.geteuid()}")


class Pulse:
    """The sign of life of one process: a file whose time of change is that of the last turn of its loop."""

    def __init__(self, folder: Path, role: str) -> None:
        _own(folder)
        self._file = folder / f"{role}-{os.getpid()}.alive"
        self._at = 0.0

    def beat(self) -> None:
        """Note that the loop turns; the file is touched once a second at most. A full disk does not end a process."""
        now = time.monotonic()
        if now - self._at >= EVERY_SECONDS:
            self._at = now
            with contextlib.suppress(OSError):
                self._file.touch(mode=0o600)

    def end(self) -> None:
        """The process ends in order: nobody shall wait for it."""
        with contextlib.suppress(OSError):
            self._file.unlink()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sign:
    """The newest sign of life of one process."""

    role: str
    pid: int
    age_seconds: float


def signs(folder: Path) -> list[Sign]:
    """The signs of life of all processes that have not ended, by role and process."""
    found = []
    for file in folder.glob("*.alive"):
        if (named := _FILE.fullmatch(file.name)) is None or not _runs(int(named[2])):
            continue
        with contextlib.suppress(FileNotFoundError):
            found.append(Sign(role=named[1], pid=int(named[2]), age_seconds=max(time.time() - file.stat().st_mtime, 0.0)))
    return sorted(found, key=lambda sign: (sign.role, sign.pid))


def wrong(found: Collection[Sign], roles: Collection[str], limit_seconds: float) -> list[str]:
    """What is wrong with these roles (none named: with all there are), as words; empty: all are alive."""
    said = [f"{role}: no such process" for role in sorted(set(roles) - {sign.role for sign in found})]
    if not found and not roles:
        said.append("no process of lienthong runs here")
    for sign in found:
        if sign.age_seconds > limit_seconds and (not roles or sign.role in roles):
            said.append(f"{sign.role} (process {sign.pid}): its loop has stood still for {sign.age_seconds:.0f} s")
    return said


def ask_neighbours(settings: Settings, roles: Collection[str]) -> None:
    """Whether hub and brokers answer; raises `TransientError` when one does not. Nothing is asked for roles that need neither."""
    if roles and set(roles) <= set(NEED_NOTHING):
        return
    with hub.named():
        connection = connect(settings.hub.dsn, application_name="lienthong health", connect_timeout_seconds=5)
        try:
            with transaction(connection) as cursor:
                one(cursor, "SELECT FROM hub.setting")
        finally:
            connection.close()
    Admin(settings.kafka.brokers).close()


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _own(folder: Path) -> None:
    """Make the folder; refuse one that somebody else could put signs of life into."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.stat()
    if not os.access(folder, os.W_OK | os.X_OK) or (status.st_uid not in {os.geteuid(), 0}):
        raise ConfigError(f"{folder} cannot be written to or belongs to somebody else: name another folder by --state or LIENTHONG_STATE")
