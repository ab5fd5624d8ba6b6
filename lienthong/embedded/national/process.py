"""Running a stand-in: as a process of its own by command, and as a server of the embedded stack."""

from __future__ import annotations

import argparse
import json
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType

from lienthong.embedded.national.authentication import PROFILES
from lienthong.embedded.national.service import Endpoint, Service
from lienthong.embedded.national.signature import Signer
from lienthong.embedded.national.store import Store
from lienthong.embedded.national.wire import HttpServer, context
from lienthong.embedded.ports import listens
from lienthong.embedded.process import Command
from lienthong.embedded.server import Server

PACKAGE = "lienthong.embedded.national"
PROBE_SECONDS = 1.0


def options(name: str, arguments: Sequence[str] | None) -> argparse.Namespace:
    """What every stand-in is told on its command line."""
    parser = argparse.ArgumentParser(prog=f"python -m {PACKAGE}.{name}")
    parser.add_argument("--dsn", required=True, help="PostgreSQL where its state lives")
    parser.add_argument("--port", type=int, default=0, help="0: a free one, printed as one JSON line")
    parser.add_argument("--schema", help="schema of its tables, for two of the same kind in one database")
    parser.add_argument("--auth", choices=sorted(PROFILES), default="none", help="how callers prove who they are")
    parser.add_argument("--rate", type=int, default=0, help="requests a second it answers; more get HTTP 429; 0: all")
    parser.add_argument("--sign", nargs=2, metavar=("KEY", "CERTIFICATE"), help="PEM files it signs its answers with")
    parser.add_argument("--tls", nargs=2, metavar=("KEY", "CERTIFICATE"), help="PEM files of its TLS listener")
    parser.add_argument("--client-ca", help="PEM file of the authority that callers' certificates must be of")
    return parser.parse_args(arguments)


def serve(asked: argparse.Namespace, store: Store, endpoints: Mapping[str, Endpoint]) -> None:
    """Print the port as one JSON line and answer until SIGTERM."""
    signer = Signer(*(Path(file).read_bytes() for file in asked.sign)) if asked.sign else None
    service = Service(store=store, endpoints=endpoints, authentication=asked.auth, rate_per_second=asked.rate, signer=signer)
    secured = context(asked.tls[1], asked.tls[0], asked.client_ca) if asked.tls else None
    server = HttpServer(asked.port, service.answer, secured)
    signal.signal(signal.SIGTERM, _leave)
    sys.stdout.write(json.dumps({"port": server.server_address[1]}) + "\n")
    sys.stdout.flush()
    server.serve_forever()


def _leave(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)


class StandIn(Server):
    """One stand-in (`population`, `unit_register`, …) as a server of the embedded stack, on a port it keeps."""

    def __init__(self, directory: Path, *, module: str, dsn: str, arguments: Sequence[str] = ()) -> None:
        super().__init__(directory, name=module)
        self._module, self._dsn, self._arguments = module, dsn, tuple(arguments)

    @property
    def address(self) -> str:
        """Scheme, host and port."""
        return f"{'https' if '--tls' in self._arguments else 'http'}://localhost:{self.port}"

    def _prepare(self) -> None:
        """Nothing: its tables are made when it starts."""

    def _command(self) -> Command:
        call = [sys.executable, "-m", f"{PACKAGE}.{self._module}", "--dsn", self._dsn, "--port", str(self.port), *self._arguments]
        return Command(arguments=call, log=self.log)

    def _is_ready(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), PROBE_SECONDS).close()
        except OSError:
            return False
        return listens(self.pid, self.port)
