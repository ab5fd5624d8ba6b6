"""The whole embedded stack in one folder: named PostgreSQL clusters and a Kafka broker, started and ended together."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

from lienthong.embedded.kafka import KafkaBroker
from lienthong.embedded.postgres import LOGICAL, PostgresCluster, remove_data
from lienthong.embedded.process import ENVIRONMENT, POLL_SECONDS

CLUSTERS = ("central", "local", "hub")
TERMINATED = 128 + signal.SIGTERM

# Waits until we are gone, gives the servers time to follow (they die with us), then removes the folders.
SWEEP = """
cat > /dev/null
tries=0
while ls "$1"/*/data/postmaster.pid && [ $tries -lt 100 ]; do sleep 0.2; tries=$((tries + 1)); done
for data in "$1"/*/data; do rm -rf "$(readlink -f "$data")"; done
rm -rf "$1"
"""


class Stack:
    """Clusters and broker of one demo or test; when it ends it leaves no process and, unless `keep`, no folder."""

    def __init__(
        self,
        directory: Path | None = None,
        *,
        clusters: Sequence[str] = CLUSTERS,
        settings: Mapping[str, str] = LOGICAL,
        with_kafka: bool = True,
        keep: bool = False,
    ) -> None:
        self.directory = directory.absolute() if directory else _fresh_folder()
        self.keep = keep
        self.postgres = {name: PostgresCluster(self.directory / name, name=name, settings=settings) for name in clusters}
        self.kafka = KafkaBroker(self.directory / "kafka") if with_kafka else None
        self._sweeper: subprocess.Popen[bytes] | None = None
        self._previous: Callable[[int, FrameType | None], object] | int | None = None

    def start(self) -> None:
        """Start all servers at the same time; if one fails, none is left running."""
        self.directory.mkdir(parents=True, exist_ok=True)
        if not self.keep:
            self._sweeper = _sweeper(self.directory)
        with ThreadPoolExecutor(thread_name_prefix="embedded-start") as pool:
            starts = [pool.submit(server.start) for server in self._servers()]
            try:
                for start in wait(starts, return_when=FIRST_EXCEPTION).done:
                    start.result()
            except BaseException:  # also Ctrl-C while they start: none is left running
                self._abandon(starts)
                raise

    def stop(self) -> None:
        """Stop all servers at the same time, in order where the data is kept and at once where it is not."""
        with undisturbed():
            with ThreadPoolExecutor(thread_name_prefix="embedded-stop") as pool:
                stops = [pool.submit(server.stop if self.keep else server.kill) for server in self._servers()]
            for stop in stops:
                stop.result()
            if not self.keep:
                for cluster in self.postgres.values():
                    remove_data(cluster.directory)
                shutil.rmtree(self.directory, ignore_errors=True)
            self._dismiss_sweeper()

    def addresses(self) -> dict[str, str]:
        """Where to connect: a DSN for each cluster, and the bootstrap address of `kafka`."""
        found = {name: cluster.dsn() for name, cluster in self.postgres.items()}
        return found | ({"kafka": self.kafka.bootstrap} if self.kafka else {})

    def __enter__(self) -> Self:
        self._catch_termination()
        try:
            self.start()
        except BaseException:  # without a start there is no __exit__ that would put the handler back
            self._release_termination()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()
        self._release_termination()

    def _servers(self) -> list[PostgresCluster | KafkaBroker]:
        return [*([self.kafka] if self.kafka else []), *self.postgres.values()]

    def _abandon(self, starts: Sequence[Future[None]]) -> None:
        """End also the servers that other threads are just starting."""
        with undisturbed():
            while wait(starts, timeout=POLL_SECONDS).not_done:
                for server in self._servers():
                    server.kill()
        self.stop()

    def _catch_termination(self) -> None:
        """Let SIGTERM unwind like Ctrl-C does, where nobody has decided otherwise."""
        if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            self._previous = signal.signal(signal.SIGTERM, _leave)

    def _release_termination(self) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGTERM, self._previous)
            self._previous = None

    def _dismiss_sweeper(self) -> None:
        sweeper, self._sweeper = self._sweeper, None
        if sweeper is not None and sweeper.stdin is not None:
            sweeper.kill()
            sweeper.stdin.close()
            sweeper.wait()


def _fresh_folder() -> Path:
    """A new folder; as root others may pass through it, because PostgreSQL then runs as another user."""
    folder = Path(tempfile.mkdtemp(prefix="lienthong-"))
    if os.geteuid() == 0:
        folder.chmod(0o711)
    return folder


def _sweeper(directory: Path) -> subprocess.Popen[bytes]:
    """A shell that removes the folder if we die without doing it: its input ends with us."""
    return subprocess.Popen(
        ["/bin/sh", "-c", SWEEP, "lienthong-sweeper", str(directory)],
        env=ENVIRONMENT,
        cwd="/",
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _leave(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(TERMINATED)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Ignore Ctrl-C and SIGTERM while things are being stopped, which is bounded in time."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            with suppress(TypeError):  # a handler that was not set from Python cannot be put back
                signal.signal(number, handler)
