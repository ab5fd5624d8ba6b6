"""Commands as users run them, each in a process of its own, forked from one that has imported the program already.

To import it takes 0.7 s of the processor (measured); tests run a command hundreds of times, many of them again and again while they wait.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory

PRELOAD = ("lienthong.cli.main", "lienthong.check", "lienthong.ddl", "lienthong.load", "lienthong.reconcile", "lienthong.run", "lienthong.status")


def command(arguments: Sequence[str], *, environment: Mapping[str, str], folder: Path, seconds: float) -> subprocess.CompletedProcess[str]:
    """Run `lienthong` with these arguments to its end; raises TimeoutExpired when that takes longer."""
    call = ["lienthong", *arguments]
    with TemporaryDirectory(prefix="lienthong-command-") as said, socket.socket(socket.AF_UNIX) as connection:
        files = [str(Path(said, name)) for name in ("out", "err")]
        connection.connect(_server())
        connection.sendall(json.dumps([call, dict(environment), str(folder), files]).encode() + b"\n")
        connection.settimeout(seconds)
        with connection.makefile("r") as answers:
            pid = int(answers.readline())
            try:
                code = int(answers.readline())
            except TimeoutError:
                os.kill(pid, signal.SIGKILL)
                raise subprocess.TimeoutExpired(call, seconds) from None
        out, err = (Path(file).read_text("utf-8", "replace") for file in files)
    return subprocess.CompletedProcess(call, code, out, err)


@cache
def _server() -> str:
    """Start the process that forks; the address it listens on. It ends with us."""
    folder = TemporaryDirectory(prefix="lienthong-commands-")
    address = str(Path(folder.name, "socket"))
    environment = {**os.environ, "NO_COLOR": "1"}  # consoles look at the terminal once, when they are made
    process = subprocess.Popen([sys.executable, "-P", __file__, address], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"

    def end() -> None:
        process.communicate()
        folder.cleanup()

    atexit.register(end)
    return address


# ------------------------------------------------------------------ in the process that forks
def _serve(address: str) -> None:
    for name in PRELOAD:
        import_module(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those who wait for the commands
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        os.write(1, b"ready\n")
        while listener in select.select([listener, 0], [], [])[0]:  # the end of our input is the end of the tests
            connection, _ = listener.accept()
            with connection:
                if os.fork() == 0:
                    listener.close()
                    _attend(connection)
                    os._exit(0)


def _attend(connection: socket.socket) -> None:
    """Run one command in a process of its own and tell its number and its exit code."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with connection.makefile("r") as request:
        call, environment, folder, files = json.loads(request.readline())
    pid = os.fork()
    if pid == 0:
        connection.close()
        _become(call, environment, folder, files)
    connection.sendall(f"{pid}\n".encode())
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    connection.sendall(f"{code}\n".encode())


def _become(call: list[str], environment: dict[str, str], folder: str, files: list[str]) -> None:
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, file in enumerate(files, 1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT, 0o600), number)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", encoding="utf-8", closefd=False) for number in (1, 2))
    sys.argv = call
    import_module("lienthong.cli.main").main()


if __name__ == "__main__":
    _serve(sys.argv[1])
