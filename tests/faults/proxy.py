"""Toxiproxy between the service and its servers: cuts, resets, delays and swallows real TCP connections.

It is built once with `go install` from the Go module proxy; on a machine without Go, faults that need it are skipped and say so.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self
from urllib.error import URLError
from urllib.request import Request, urlopen

from lienthong.embedded.ports import free_port

MODULE = "github.com/Shopify/toxiproxy/v2/cmd/server@v2.5.0"
BUILD_SECONDS = 300


def binary() -> Path | None:
    """The server's program, built when it is not there yet; None without Go."""
    folder = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "lienthong" / "toxiproxy-2.5.0"
    program = folder / "server"
    if program.exists():
        return program
    go = shutil.which("go")
    if go is None:
        return None
    done = subprocess.run([go, "install", MODULE], env={**os.environ, "GOBIN": str(folder)}, capture_output=True, timeout=BUILD_SECONDS, check=False)
    return program if done.returncode == 0 else None


class Toxiproxy:
    """One Toxiproxy server; a proxy per upstream is made when it is first asked for."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self._process, self._port = process, port
        self._ports: dict[str, int] = {}

    @classmethod
    def start(cls, folder: Path) -> Self | None:
        """Start it; None where it cannot be built."""
        program = binary()
        if program is None:
            return None
        port = free_port()
        with (folder / "toxiproxy.log").open("ab") as log:
            process = subprocess.Popen([str(program), "-host", "127.0.0.1", "-port", str(port)], stdout=log, stderr=log, start_new_session=True)
        made = cls(process, port)
        until = time.monotonic() + 10
        while time.monotonic() < until:
            try:
                made._call("GET", "/version")
            except (URLError, OSError):
                time.sleep(0.02)
            else:
                return made
        raise TimeoutError("Toxiproxy did not start")

    def port(self, name: str, upstream: int) -> int:
        """Where to connect instead of the upstream port."""
        if name not in self._ports:
            self._ports[name] = free_port()
            self._call("POST", "/proxies", {"name": name, "listen": f"127.0.0.1:{self._ports[name]}", "upstream": f"127.0.0.1:{upstream}"})
        return self._ports[name]

    @contextmanager
    def toxic(self, name: str, kind: str, stream: str = "downstream", **attributes: int) -> Iterator[None]:
        """A toxic for as long as the block lasts: latency, timeout, reset_peer, limit_data, bandwidth, slow_close."""
        self._call("POST", f"/proxies/{name}/toxics", {"name": "fault", "type": kind, "stream": stream, "attributes": attributes})
        try:
            yield
        finally:
            self._call("DELETE", f"/proxies/{name}/toxics/fault")

    @contextmanager
    def down(self, name: str) -> Iterator[None]:
        """Nobody gets through, and who was connected is cut off."""
        self._call("POST", f"/proxies/{name}", {"enabled": False})
        try:
            yield
        finally:
            self._call("POST", f"/proxies/{name}", {"enabled": True})

    def _call(self, method: str, path: str, body: Any = None) -> None:
        data = None if body is None else json.dumps(body).encode()
        with urlopen(Request(f"http://127.0.0.1:{self._port}{path}", data=data, method=method), timeout=5) as answer:
            answer.read()

    def stop(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
