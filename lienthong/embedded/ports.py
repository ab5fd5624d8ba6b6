"""Ports for servers on this machine: free ones, kept across restarts, and whose they are."""

from __future__ import annotations

import random
import socket
from pathlib import Path

# Below the range from which Linux takes ports for outgoing connections, so that nobody borrows the port of a server
# while it restarts.
LOWEST, HIGHEST = 20_000, 32_000
ATTEMPTS_MAX = 200
LISTEN = "0A"

_taken: set[int] = set()


def claim_port(file: Path) -> int:
    """The port written in `file` while it is free, otherwise a free one, which is then written there."""
    if file.exists() and is_free(port := int(file.read_text())):
        _taken.add(port)
        return port
    port = free_port()
    file.write_text(f"{port}\n")
    return port


def free_port() -> int:
    """A port of 127.0.0.1 on which nobody listens and that this process has not given out before."""
    for _ in range(ATTEMPTS_MAX):
        port = random.randint(LOWEST, HIGHEST)
        if port not in _taken and is_free(port):
            _taken.add(port)
            return port
    raise OSError(f"no free port between {LOWEST} and {HIGHEST} after {ATTEMPTS_MAX} attempts")


def is_free(port: int) -> bool:
    """Whether a server could listen on this port of 127.0.0.1 now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def listens(pid: int, port: int) -> bool:
    """Whether the process itself, and not a stranger, listens on this port."""
    own = {target for link in Path(f"/proc/{pid}/fd").iterdir() if (target := _target(link)).startswith("socket:")}
    return not own.isdisjoint(_listening(port))


def _target(link: Path) -> str:
    try:
        return str(link.readlink())
    except FileNotFoundError:  # closed in the meantime
        return ""


def _listening(port: int) -> set[str]:
    lines = [
        line.split() for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")) if table.exists() for line in table.read_text().splitlines()[1:]
    ]
    return {f"socket:[{line[9]}]" for line in lines if line[3] == LISTEN and int(line[1].rsplit(":")[-1], 16) == port}
