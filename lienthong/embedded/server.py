"""What every embedded server has in common: a folder, a log, ports it keeps, and how it starts and ends."""

from __future__ import annotations

import signal
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from lienthong.embedded.ports import claim_port, is_free
from lienthong.embedded.process import Command, ServerProcess
from lienthong.errors import TransientError

START_ATTEMPTS = 3


class Server(ABC):
    """One server on 127.0.0.1 with its own folder. It can be stopped or killed and started again on the same port."""

    port_names: ClassVar[tuple[str, ...]] = ("port",)
    stop_signals: ClassVar[tuple[signal.Signals, ...]] = (signal.SIGTERM,)
    start_timeout_seconds: ClassVar[float] = 60.0
    stop_timeout_seconds: ClassVar[float] = 20.0

    def __init__(self, directory: Path, *, name: str) -> None:
        self.directory = directory.absolute()
        self.name = name
        self.log = self.directory / "server.log"
        self._ports: dict[str, int] = {}
        self._process: ServerProcess | None = None

    def start(self) -> None:
        """Start the server, creating its data if it is new, and wait until it really answers."""
        if self.is_running:
            return None
        self.directory.mkdir(parents=True, exist_ok=True)
        if self._ports:  # others know this address, so it may not move
            return self._start_once()
        for _ in range(START_ATTEMPTS - 1):
            self._claim_ports()
            try:
                return self._start_once()
            except TransientError:
                if all(is_free(port) for port in self._ports.values()):
                    raise  # it was not somebody else who took our port in the meantime
        self._claim_ports()
        return self._start_once()

    def stop(self) -> None:
        """Stop the server in order; does nothing if it does not run."""
        process, self._process = self._process, None
        if process is not None and process.is_running:
            process.stop(*self.stop_signals, timeout_seconds=self.stop_timeout_seconds)

    def kill(self) -> None:
        """End the server as a power failure would: SIGKILL to it and every process under it."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()

    @property
    def is_running(self) -> bool:
        """Whether its process has not ended."""
        return self._process is not None and self._process.is_running

    @property
    def port(self) -> int:
        """The port it listens on; kept across restarts."""
        if not self._ports:
            raise TransientError(f"{self.name} was not started yet, so it has no port")
        return self._ports[self.port_names[0]]

    @property
    def pid(self) -> int:
        """Process id of the running server."""
        if self._process is None:
            raise TransientError(f"{self.name} is not running")
        return self._process.pid

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    @abstractmethod
    def _prepare(self) -> None:
        """Create what the server needs before it starts; the second time this finds everything there."""

    @abstractmethod
    def _command(self) -> Command:
        """How to run it."""

    @abstractmethod
    def _is_ready(self) -> bool:
        """Whether our own child, not a stranger on its port, answers."""

    def _claim_ports(self) -> None:
        self._ports = {name: claim_port(self.directory / name) for name in self.port_names}

    def _start_once(self) -> None:
        self._prepare()
        self._process = ServerProcess(self._command())
        try:
            self._process.wait_until(self._is_ready, what=self.name, timeout_seconds=self.start_timeout_seconds)
        except BaseException:  # also Ctrl-C while it starts leaves no server behind
            self.kill()
            raise
