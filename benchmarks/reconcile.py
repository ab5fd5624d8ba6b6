"""The job `reconcile`: a loaded target against what it is entitled to, with differences planted, and the bytes that were moved for it.

Ours compares through two layouts and a contract; the peer compares two tables of the same columns. Both run as commands, and both
reach every database through a relay that counts what passes.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from psycopg2.extensions import make_dsn, parse_dsn

from benchmarks.contender import Contender
from benchmarks.jobs import measure_load
from benchmarks.ours import HUB_DATABASE, Ours, execute
from benchmarks.ours_config import SOURCE, TARGET
from benchmarks.report import Side
from benchmarks.servers import Servers
from benchmarks.work import Work, connect
from lienthong.quiet import wait_quiet

PEER = "reladiff==0.6.0"
EDITED, REMOVED, ADDED = 60, 20, 20
PLANTED = EDITED + REMOVED + ADDED
QUIET_SECONDS = 120
TIMEOUT_SECONDS = 1800
CHUNK_BYTES = 1 << 18

PLANT = f"""
CREATE TEMP TABLE chosen AS SELECT dossier_code, row_number() OVER (ORDER BY hashtext(dossier_code)) AS n FROM dossier;
UPDATE dossier d SET note = 'edited by hand' FROM chosen c WHERE c.dossier_code = d.dossier_code AND c.n <= {EDITED};
DELETE FROM dossier d USING chosen c WHERE c.dossier_code = d.dossier_code AND c.n > {EDITED} AND c.n <= {EDITED + REMOVED};
INSERT INTO dossier SELECT 'X' || lpad(n::text, 10, '0'), procedure_code, agency_code, applicant_name, citizen_id, status, submitted_at, due_at,
  finished_at, ward_code, note, updated_at FROM dossier JOIN chosen c USING (dossier_code) WHERE c.n > 200 AND c.n <= {200 + ADDED}
"""  # noqa: S608  (numbers of our own)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One comparison: how long, how many differences, how many bytes came from and went to the databases."""

    seconds: float
    found: int
    moved_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciled:
    """One side's runs; `seconds`, `moved_share` and `equal` are those of the run with the planted differences."""

    rows: int
    data_bytes: int
    planted: int
    seconds: float
    moved_share: float
    equal: bool
    runs: Mapping[str, Run]


def measure_reconcile(servers: Servers, work: Work, *, with_peer: bool) -> dict[Side, Reconciled]:
    """Load a target through the hub, compare it at rest, plant differences, compare it again; then the peer does, on the same tables."""
    with closing(Ours(servers, is_full=True)) as ours:
        ours.prepare(work)
        measure_load(ours, work)
        settings = ours.configuration
        wait_quiet(settings, timeout_seconds=QUIET_SECONDS)
        names = {_variable(SOURCE): ours.source.dsn, _variable(TARGET): ours.target.dsn, "HUB_DSN": servers.target.dsn(HUB_DATABASE)}
        runs = {}
        runs["first, everything is read"] = _ours(ours, names)
        runs["nothing has changed"] = _ours(ours, names)
        execute(ours.target.dsn, "ANALYZE dossier")
        execute(ours.target.dsn, PLANT)
        runs["differences planted"] = planted = _ours(ours, names)
        runs["differences planted, full compare"] = _ours(ours, names, "--full")
        size = _data_bytes(ours)
        found: dict[Side, Reconciled] = {"ours": _result(work, size, planted, runs, PLANTED)}
        if with_peer:
            peer = _peer(servers, ours)
            found["peer"] = _result(work, size, peer, {"differences planted": peer}, PLANTED)
    return found


def _variable(system: str) -> str:
    return f"{system.upper().replace('-', '_')}_DSN"


def _result(work: Work, data_bytes: int, planted: Run, runs: Mapping[str, Run], expected: int) -> Reconciled:
    return Reconciled(
        rows=work.rows, data_bytes=data_bytes, planted=expected, seconds=planted.seconds, moved_share=round(planted.moved_bytes / data_bytes, 5),
        equal=planted.found == expected, runs=runs,
    )  # fmt: skip


def _data_bytes(contender: Contender) -> int:
    """The target's rows as text, as a full compare would fetch them."""
    with connect(contender.target.dsn) as database, database.cursor() as at:
        at.execute("SELECT sum(octet_length(d::text)) FROM dossier d")
        return int((at.fetchone() or (0,))[0])


# ------------------------------------------------------------------ the two contenders
def _ours(ours: Ours, places: Mapping[str, str], *more: str) -> Run:
    with _relayed(places) as (variables, relays):
        command = ["reconcile", "--system", TARGET, "--json", *more]
        start = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "lienthong", *command, "--config", str(ours.processes.config)], env={**ours.processes.environment, **variables},
            capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False,
        )  # fmt: skip
        seconds = time.monotonic() - start
        if done.returncode not in (0, 1):
            raise RuntimeError(f"reconcile ended with {done.returncode}: {done.stderr[-500:]}")
        return Run(seconds=round(seconds, 2), found=len(json.loads(done.stdout)["differences"]), moved_bytes=_moved(relays))


def _peer(servers: Servers, ours: Ours) -> Run:
    program = _install(servers.cache / PEER.replace("==", "-"))
    with _relayed({"source": ours.source.dsn, "target": ours.target.dsn}) as (dsns, relays):
        places = [word for name in ("source", "target") for word in (_url(dsns[name]), "dossier")]
        start = time.monotonic()
        done = subprocess.run(
            [str(program), *places, "-k", "dossier_code", "-c", "%", "-j", "2", "--json"], capture_output=True, text=True,
            timeout=TIMEOUT_SECONDS, check=False, env={**os.environ, "COLUMNS": "10000"},  # else its lines are broken as on a terminal
        )  # fmt: skip
        seconds = time.monotonic() - start
        if done.returncode:
            raise RuntimeError(f"{PEER} ended with {done.returncode}: {done.stderr[-500:]}")
        lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
        return Run(seconds=round(seconds, 2), found=len({values[0] for _, values in lines}), moved_bytes=_moved(relays))


def _install(folder: Path) -> Path:
    """The peer in an environment of its own, from the package index, kept."""
    program = folder / "bin" / "reladiff"
    if not program.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(folder / "bin" / "pip"), "install", "--quiet", PEER, "psycopg2-binary"], check=True)
    return program


def _url(dsn: str) -> str:
    parts: dict[str, Any] = parse_dsn(dsn)
    user = parts.get("user", "postgres") + (f":{parts['password']}" if parts.get("password") else "")
    return f"postgresql://{user}@{parts['host']}:{parts['port']}/{parts['dbname']}"


# ------------------------------------------------------------------ counting what is moved
class Relay:
    """A TCP relay to a server that counts the bytes of both directions."""

    def __init__(self, host: str, port: int) -> None:
        self.moved_bytes = 0
        self._to = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._to)
                for one, other in ((client, server), (server, client)):
                    threading.Thread(target=self._pump, args=(one, other), daemon=True).start()

    def _pump(self, one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            while data := one.recv(CHUNK_BYTES):
                with self._lock:
                    self.moved_bytes += len(data)
                other.sendall(data)
        for end in (one, other):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        with suppress(OSError):
            one.close()

    def close(self) -> None:
        """Take no more connections."""
        self._listener.close()


@contextmanager
def _relayed(places: Mapping[str, str]) -> Iterator[tuple[dict[str, str], list[Relay]]]:
    """The same DSNs, each through a relay of its own."""
    relays, dsns = [], {}
    for name, dsn in places.items():
        parts = parse_dsn(dsn)
        relay = Relay(parts["host"], int(parts["port"]))
        relays.append(relay)
        dsns[name] = make_dsn(dsn, host="127.0.0.1", port=relay.port)
    try:
        yield dsns, relays
    finally:
        for relay in relays:
            relay.close()


def _moved(relays: list[Relay]) -> int:
    return sum(relay.moved_bytes for relay in relays)
