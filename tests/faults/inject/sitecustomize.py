"""Failpoints for a child process, put on its PYTHONPATH: it wraps named functions when their module is loaded, the product knows nothing.

The file named by FAULT_FILE says what to do: "<point> <before|after> <n> <kill|freeze|wait>". The n-th call from then on is the fault;
what was hit is written to FAULT_FILE.hit. `wait` holds the process until FAULT_FILE is gone, so that the test can break something else.
"""

from __future__ import annotations

import functools
import importlib.abc
import importlib.util
import os
import signal
import sys
import time
from typing import Any

FILE = os.environ.get("FAULT_FILE", "")
POINTS = {
    "connectors.kafka": ("Producer.flush", "Consumer.poll"),
    "connectors.postgres": ("ReplicationStream.confirm",),
    "lienthong.capture.state": ("Numbers.save",),
    "lienthong.capture.line": ("Line.read",),
    "lienthong.hub": ("move_offsets", "add_contributions", "put_history", "note_changed"),
    "lienthong.apply.target": ("Target.apply",),
}
COMMIT = "commit"  # of a psycopg2 connection whose transaction moved offsets
_calls: dict[tuple[str, str], int] = {}
_moved = False


def _plan() -> list[str]:
    try:
        with open(FILE, encoding="utf-8") as file:
            return file.read().split()
    except OSError:
        return []


def at(point: str, when: str) -> None:
    """Count one call; if it is the one, do what the plan says."""
    plan = _plan()
    if plan[:2] != [point, when]:
        return
    place = (point, when)
    _calls[place] = _calls.get(place, 0) + 1
    if _calls[place] < int(plan[2]):
        return
    _calls[place] = 0
    with open(FILE + ".hit", "a", encoding="utf-8") as file:
        file.write(f"{point} {when} {os.getpid()}\n")
    if plan[3] != "wait":
        os.unlink(FILE)
        os.kill(os.getpid(), {"kill": signal.SIGKILL, "freeze": signal.SIGSTOP}[plan[3]])
    while plan[3] == "wait" and os.path.exists(FILE):
        time.sleep(0.002)


def _wrapped(function: Any, point: str) -> Any:
    @functools.wraps(function)
    def inside(*arguments: Any, **named: Any) -> Any:
        global _moved
        at(point, "before")
        answer = function(*arguments, **named)
        if point.endswith("move_offsets"):
            _moved = True
        at(point, "after")
        return answer

    return inside


def _wrap(name: str, module: Any) -> None:
    for path in POINTS[name]:
        owner, _, attribute = path.rpartition(".")
        holder = getattr(module, owner) if owner else module
        setattr(holder, attribute, _wrapped(getattr(holder, attribute), f"{name}.{path}"))


def _watch_commits() -> None:
    import psycopg2
    import psycopg2.extensions

    class Watched(psycopg2.extensions.connection):
        def commit(self) -> None:
            global _moved
            moved, _moved = _moved, False
            if moved:
                at(COMMIT, "before")
            super().commit()
            if moved:
                at(COMMIT, "after")

    connect = psycopg2.connect
    psycopg2.connect = lambda *given, **named: connect(*given, **{"connection_factory": Watched, **named})


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        if name not in POINTS:
            return None
        sys.meta_path.remove(self)
        try:
            spec = importlib.util.find_spec(name)
        finally:
            sys.meta_path.insert(0, self)
        if spec is not None and spec.loader is not None:
            run = spec.loader.exec_module

            def exec_module(module: Any) -> None:
                run(module)
                _wrap(name, module)

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


if FILE:
    sys.meta_path.insert(0, _Finder())
    _watch_commits()
