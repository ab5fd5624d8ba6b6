"""HTTP as the stand-ins speak it: one thread for each connection, and an answer can be dripped, cut or reset on the socket itself."""

from __future__ import annotations

import os
import socket
import ssl
import struct
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

REQUEST_BYTES_MAX = 4 * 1024 * 1024
IDLE_SECONDS = 60.0
HANDSHAKE_SECONDS = 10.0
HTML_PAGE = b"<!DOCTYPE html><html><head><title>Error</title></head><body><h1>Runtime Error</h1></body></html>"
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER of no time: close() sends RST


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What arrived; header names in small letters."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes
    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What is sent, and how: `whole`, `drip`, `cut` (half of it), or `reset`, after `wait_seconds`."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    delivery: str = "whole"
    wait_seconds: float = 0.0
    drip_seconds: float = 60.0
    interval_seconds: float = 0.1


class Handler(BaseHTTPRequestHandler):
    """Reads a request, asks the service, sends its reply as the reply says."""

    protocol_version = "HTTP/1.1"
    server_version, sys_version = "national", ""
    timeout = IDLE_SECONDS
    server: HttpServer

    def do_GET(self) -> None:  # noqa: N802 - the name http.server calls
        """Answer a request."""
        path, _, query = self.path.partition("?")
        body = self._body()
        if body is None:
            self.close_connection = True
            return self._send(Reply(status=413))
        headers = {name.lower(): value for name, value in self.headers.items()}
        asked = Request(method=self.command, path=path, query=query, headers=headers, body=body, address=self._address(path))
        return self._send(self.server.answer(asked))

    do_POST = do_DELETE = do_GET  # noqa: N815 - the names http.server calls

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's name
        """Nothing: a request line may hold what nobody may log."""

    def _address(self, path: str) -> str:
        scheme = "https" if isinstance(self.connection, ssl.SSLSocket) else "http"
        return f"{scheme}://{self.headers.get('Host', 'localhost')}{path}"

    def _body(self) -> bytes | None:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            return self._chunks()
        length = int(self.headers.get("Content-Length") or 0)
        return self.rfile.read(length) if length <= REQUEST_BYTES_MAX else None

    def _chunks(self) -> bytes | None:
        found = b""
        while size := int(self.rfile.readline(20).split(b";")[0], 16):
            if len(found) + size > REQUEST_BYTES_MAX:
                return None
            found += self.rfile.read(size)
            self.rfile.readline(2)
        self.rfile.readline(2)
        return found

    def _send(self, reply: Reply) -> None:
        time.sleep(reply.wait_seconds)
        if reply.delivery == "reset":
            return self._reset()
        self.send_response(reply.status)
        for name, value in ({"Content-Type": "text/xml; charset=utf-8"} | dict(reply.headers)).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        with suppress(OSError):  # the caller did not wait
            self._deliver(reply)
        return None

    def _deliver(self, reply: Reply) -> None:
        if reply.delivery == "whole":
            self.wfile.write(reply.body)
            return
        self.close_connection = True
        if reply.delivery == "cut":
            self.wfile.write(reply.body[: len(reply.body) // 2])
            return
        until = time.monotonic() + reply.drip_seconds
        for index in range(len(reply.body)):
            if time.monotonic() > until:
                return
            self.wfile.write(reply.body[index : index + 1])
            time.sleep(reply.interval_seconds)

    def _reset(self) -> None:
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        os.close(self.connection.detach())


class HttpServer(ThreadingHTTPServer):
    """A listener on 127.0.0.1, with TLS when it has a context; `answer` is called in the connection's own thread."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int, answer: Callable[[Request], Reply], context: ssl.SSLContext | None = None) -> None:
        self.answer, self._context = answer, context
        super().__init__(("127.0.0.1", port), Handler)

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Serve one connection."""
        request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._context is None:
            super().finish_request(request, client_address)
            return
        request.settimeout(HANDSHAKE_SECONDS)
        try:
            secured = self._context.wrap_socket(request, server_side=True)
        except OSError:  # a caller who does not trust us, or has no certificate; ssl's errors are OSErrors
            return
        with suppress(OSError), secured:
            super().finish_request(secured, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that broke is the caller's affair; anything else goes to the log without the request."""
        error = sys.exception()
        if not isinstance(error, OSError) and error is not None:
            traceback.print_tb(error.__traceback__)
            sys.stderr.write(f"{type(error).__name__}\n")


def context(certificate: str, key: str, client_authority: str | None) -> ssl.SSLContext:
    """TLS 1.2 or newer with this certificate; with an authority, callers must have a certificate of it."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.load_cert_chain(certificate, key)
    if client_authority is not None:
        made.load_verify_locations(client_authority)
        made.verify_mode = ssl.CERT_REQUIRED
    return made
