"""The stand-in of the national portal, both variants: `python -m lienthong.embedded.national.portal --dsn …`.

What a request does is committed together with the note that it was processed, so a test can count effects and requests whatever the caller
got to see. POST /faults {"kind", "times", "argument", "operation"} arms a fault, DELETE /faults ends them all, GET /seen counts.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import struct
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from uvicorn.protocols.http.h11_impl import H11Protocol

from connectors.postgres import Cursor
from lienthong.embedded.national import portal_services as services
from lienthong.embedded.national.portal_services import Document, Wrong
from lienthong.embedded.national.store import TAKE_FAULT, Armed, Store
from lienthong.embedded.national.wire import HTML_PAGE, Reply

SCHEMA = "portal"
FAULTS = {
    "latency": "waits `seconds` (2), then answers in order",
    "reset-before": "resets the connection; nothing was processed",
    "reset-after": "resets the connection after the effect is committed",
    "silent": "commits the effect, says nothing for `seconds` (30), then resets",
    "too-many": "HTTP 429 with Retry-After `seconds` (1)",
    "unavailable": "HTTP 503 with Retry-After `seconds` (1)",
    "failed-before": "HTTP 500 with an HTML page; nothing was processed",
    "failed-after": "HTTP 502 with an HTML page; the effect is committed",
    "html": "HTTP 200 with an HTML page after the effect is committed",
    "code": "HTTP 200 with the error `code` (99) and `message`, nothing processed; HTTP `status` (400) in the ministry's variant",
    "exists": "says that the dossier is there already, without a look",
    "session-expired": "ends all sessions before it looks at this request",
    "redirect": "HTTP 307 to `location` (another host)",
    "truncated": "half of the JSON text, with the length of that half; the effect is committed",
    "cut": "half of the promised bytes, then the connection ends; the effect is committed",
    "drip": "one byte each `interval` (0.1) seconds; the effect is committed",
    "huge": "`bytes` (20 MB) of text in the answer; the effect is committed",
    "half": "the answer as a whole is fine, but its one part is refused with `code` (5); nothing is processed",
}
_BEFORE = {"reset-before", "too-many", "unavailable", "failed-before", "code", "exists", "redirect", "half"}
_RESET = struct.pack("ii", 1, 0)
_transports: dict[tuple[str, int], asyncio.Transport] = {}

Work = Callable[[Cursor], tuple[int, Document]]
"""What a request does, inside the transaction that notes it; HTTP status and answer."""


class Protocol(H11Protocol):
    """uvicorn's HTTP with its connections in reach, so that they can be reset."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Remember the connection by its peer."""
        super().connection_made(transport)
        self._peer = transport.get_extra_info("peername")
        _transports[self._peer] = transport

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        _transports.pop(self._peer, None)
        super().connection_lost(exc)


class Wire(Response):
    """Sends a reply as it says: whole, dripped, cut, or not at all."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(status_code=reply.status)
        self.reply = reply

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer on the wire."""
        reply, body = self.reply, self.reply.body
        await asyncio.sleep(reply.wait_seconds)
        if reply.delivery == "reset":
            return _reset(scope)
        headers = {"content-type": "application/json; charset=utf-8", "content-length": str(len(body)), **reply.headers}
        started = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": reply.status, "headers": started})
        if reply.delivery == "whole":
            await send({"type": "http.response.body", "body": body})
            return None
        if reply.delivery == "cut":
            await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})
            await asyncio.sleep(0.05)
            return _reset(scope)
        for place in range(len(body)):
            await send({"type": "http.response.body", "body": body[place : place + 1], "more_body": True})
            await asyncio.sleep(reply.interval_seconds)
        await send({"type": "http.response.body", "body": b""})
        return None


def _reset(scope: Any) -> None:
    transport = _transports.get(tuple(scope["client"]))
    if transport is not None:
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        transport.abort()


class Portal:
    """Both variants over one store."""

    def __init__(self, store: Store, *, rate_per_second: int, session_seconds: float) -> None:
        self.store, self._rate, self.session_seconds = store, rate_per_second, session_seconds
        self._recent: deque[float] = deque()
        self._lock = threading.Lock()

    def answer(self, operation: str, variant: str, subject: str | None, work: Work) -> Reply:
        """One request from arrival to reply; the effect and the note about it are one transaction."""
        is_too_many = self._is_too_many()
        with self.store.transaction() as cursor:
            armed, number = self._arrived(cursor, operation, subject)
            if not armed.kind and not is_too_many:
                return self._processed(cursor, number, variant, work)
        argument = armed.argument
        if is_too_many:
            return self._noted(number, _plain(429, {"Retry-After": "1"}))
        if armed.kind in _BEFORE:
            return self._noted(number, _early(armed.kind, argument, variant))
        if armed.kind == "latency":
            time.sleep(float(argument.get("seconds", 2)))
        with self.store.transaction() as cursor:
            if armed.kind == "session-expired":
                services.end_sessions(cursor)
            reply = self._processed(cursor, number, variant, work)
        return _late(armed.kind, argument, reply)

    def _arrived(self, cursor: Cursor, operation: str, subject: str | None) -> tuple[Armed, int]:
        cursor.execute(
            f"""WITH armed AS ({TAKE_FAULT})
               INSERT INTO seen (operation, request_id, fault) VALUES (%s, %s, (SELECT kind FROM armed))
               RETURNING number, (SELECT kind FROM armed), (SELECT argument FROM armed)""",  # noqa: S608 - a constant of ours
            (operation, operation, subject),
        )
        number, kind, argument = cursor.fetchone() or (0, None, None)
        return Armed(kind or "", argument or {}), number

    def _is_too_many(self) -> bool:
        with self._lock:
            now = time.monotonic()
            self._recent.append(now)
            while self._recent[0] < now - 1:
                self._recent.popleft()
            return bool(self._rate) and len(self._recent) > self._rate

    def _processed(self, cursor: Cursor, number: int, variant: str, work: Work) -> Reply:
        cursor.execute("SAVEPOINT effect")
        try:
            status, document = work(cursor)
        except Wrong as wrong:
            cursor.execute("ROLLBACK TO SAVEPOINT effect")
            reply = _refusal(wrong, variant)
            cursor.execute("UPDATE seen SET status = %s WHERE number = %s", (reply.status, number))
            return reply
        cursor.execute("UPDATE seen SET processed = true, status = %s WHERE number = %s", (status, number))
        return _json(status, document)

    def _noted(self, number: int, reply: Reply) -> Reply:
        with self.store.transaction() as cursor:
            cursor.execute("UPDATE seen SET status = %s WHERE number = %s", (reply.status, number))
        return reply


# ------------------------------------------------------------------ replies
def _json(status: int, document: Document) -> Reply:
    return Reply(status=status, body=json.dumps(document, ensure_ascii=False).encode())


def _plain(status: int, headers: Mapping[str, str]) -> Reply:
    return Reply(status=status, headers=headers)


def _page(status: int) -> Reply:
    return Reply(status=status, body=HTML_PAGE, headers={"Content-Type": "text/html; charset=utf-8"})


def _refusal(wrong: Wrong, variant: str) -> Reply:
    if variant == "ministry":
        return _json(wrong.status, {"code": wrong.code, "message": wrong.message})
    return _json(200, {"error_code": wrong.code, "message": wrong.message})


def _early(kind: str, argument: Mapping[str, Any], variant: str) -> Reply:
    """What answers without processing."""
    if kind in ("too-many", "unavailable"):
        return _plain(429 if kind == "too-many" else 503, {"Retry-After": str(argument.get("seconds", 1))})
    if kind in ("code", "exists"):
        code, message = ("3", "Hồ sơ đã tồn tại") if kind == "exists" else (str(argument.get("code", "99")), str(argument.get("message", "Lỗi")))
        return _refusal(Wrong(code, 409 if kind == "exists" else int(argument.get("status", 400)), message), variant)
    if kind == "half":
        return _json(200, {"error_code": "0", "message": "thành công", "result": [{"error_code": str(argument.get("code", "5"))}]})
    if kind == "redirect":
        return _plain(307, {"Location": str(argument.get("location", "http://elsewhere.invalid/"))})
    return Reply(delivery="reset") if kind == "reset-before" else _page(500)


def _late(kind: str, argument: Mapping[str, Any], reply: Reply) -> Reply:
    """What meets an answer after its effect."""
    if kind == "huge":
        return replace(reply, body=reply.body[:-1] + b', "x": "' + b"x" * int(argument.get("bytes", 20_000_000)) + b'"}')
    if kind == "truncated":
        return replace(reply, body=reply.body[: len(reply.body) // 2])
    if kind in ("html", "failed-after"):
        return _page(200 if kind == "html" else 502)
    if kind == "silent":
        return replace(reply, delivery="reset", wait_seconds=float(argument.get("seconds", 30)))
    delivery = {"reset-after": "reset", "cut": "cut", "drip": "drip"}.get(kind, "whole")
    return replace(reply, delivery=delivery, interval_seconds=float(argument.get("interval", 0.1)))


# ------------------------------------------------------------------ the local platform's adapter
def _lgsp(portal: Portal, document: Document) -> Work:
    def work(cursor: Cursor) -> tuple[int, Document]:
        services.check_session(cursor, document.get("session"))
        service, result = document.get("service"), []
        if service == "TraCuuHoSo":
            found = services.held(cursor, str(document.get("mahoso")))
            result = [found] if found is not None else []
        elif service in ("DongBoHoSoMC", "CapNhatTienDoHoSoMC"):
            effect = services.progress if service.startswith("Cap") else services.update if document.get("isUpdating") == "True" else services.create
            for fields in document["data"]:
                effect(cursor, fields, "lgsp")
        elif service in services.CATALOGUES:
            result = services.catalogue(cursor, service, document)
        else:
            raise Wrong("2", 404, "Không có dịch vụ")
        return 200, {"error_code": "0", "message": "Đồng bộ thành công", "result": result}

    return work


def _log_in(portal: Portal, document: Document) -> Work:
    def work(cursor: Cursor) -> tuple[int, Document]:
        token = services.open_session(cursor, str(document.get("username")), str(document.get("password")), portal.session_seconds)
        return 200, {"error_code": "0", "message": "thành công", "session": token}

    return work


# ------------------------------------------------------------------ the ministry's interface
def _token(portal: Portal, body: bytes) -> Work:
    asked = {name: values[0] for name, values in parse_qs(body.decode()).items()}

    def work(cursor: Cursor) -> tuple[int, Document]:
        if asked.get("grant_type") != "client_credentials":
            raise Wrong("1", 400, "unsupported_grant_type")
        token = services.open_session(cursor, asked.get("client_id", ""), asked.get("client_secret", ""), portal.session_seconds)
        return 200, {"access_token": token, "token_type": "Bearer", "expires_in": int(portal.session_seconds)}

    return work


def _ministry(request: Request, body: bytes, effect: Work) -> Work:
    token = request.headers.get("authorization", "").removeprefix("Bearer ")

    def work(cursor: Cursor) -> tuple[int, Document]:
        services.check_session(cursor, token)
        return effect(cursor)

    return work


def _effect(operation: str, path: str, document: Document, body: bytes) -> Work:
    def work(cursor: Cursor) -> tuple[int, Document]:
        if operation == "MaHoSo":
            return 201, {"MaHoSo": services.issue(cursor, document)}
        if operation == "TepTin":
            return 201, services.keep_file(cursor, body)
        if operation == "TraCuuHoSo":
            found = services.held(cursor, path)
            return (404, {"message": "Hồ sơ không tồn tại"}) if found is None else (200, found)
        {"TaoHoSo": services.create, "CapNhatHoSo": services.update, "CapNhatTienTrinh": services.progress}[operation](cursor, document, "ministry")
        return 200, {"message": "thành công"}

    return work


# ------------------------------------------------------------------ the application
def create_app(portal: Portal) -> FastAPI:
    """The routes of both variants and of the test that steers."""
    app = FastAPI(openapi_url=None)

    async def mapi(request: Request) -> Response:
        document = json.loads(await request.body())
        is_login = request.url.path.endswith("login")
        operation = "login" if is_login else str(document.get("service"))
        data = document.get("data") or [{}]
        subject = document.get("mahoso") or data[0].get("MaHoSo")
        work = (_log_in if is_login else _lgsp)(portal, document)
        return Wire(await run_in_threadpool(portal.answer, operation, "lgsp", subject, work))

    def ministry(operation: str) -> Callable[[Request], Any]:
        async def route(request: Request) -> Response:
            body = await request.body()
            document = json.loads(body) if request.headers.get("content-type", "").startswith("application/json") else {}
            code = str(request.path_params.get("code", document.get("MaHoSo", "")))
            work = _token(portal, body) if operation == "login" else _ministry(request, body, _effect(operation, code, document, body))
            return Wire(await run_in_threadpool(portal.answer, operation, "ministry", code or None, work))

        return route

    async def arm(request: Request) -> Response:
        asked = json.loads(await request.body())
        if asked.get("kind") not in FAULTS:
            return Wire(_json(422, {"error": "no such fault"}))
        await run_in_threadpool(portal.store.arm, asked["kind"], int(asked.get("times", 1)), asked.get("argument", {}), asked.get("operation"))
        return Wire(_json(200, {}))

    def disarm() -> Response:
        portal.store.disarm()
        return Wire(_json(200, {}))

    def seen() -> Response:
        return Wire(_json(200, portal.store.counts()))

    for path in ("/mapi/login", "/mapi/g"):
        app.add_route(path, mapi, methods=["POST"])
    for method, path, operation in (
        ("POST", "/oauth2/token", "login"), ("POST", "/ma-ho-so", "MaHoSo"), ("POST", "/tep-tin", "TepTin"), ("POST", "/ho-so", "TaoHoSo"),
        ("PUT", "/ho-so/{code}", "CapNhatHoSo"), ("POST", "/ho-so/{code}/tien-trinh", "CapNhatTienTrinh"), ("GET", "/ho-so/{code}", "TraCuuHoSo"),
    ):  # fmt: skip
        app.add_route(path, ministry(operation), methods=[method])
    app.add_route("/faults", arm, methods=["POST"])
    app.add_api_route("/faults", disarm, methods=["DELETE"])
    app.add_api_route("/seen", seen, methods=["GET"])
    return app


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until the process is ended."""
    parser = argparse.ArgumentParser(prog="python -m lienthong.embedded.national.portal")
    parser.add_argument("--dsn", required=True, help="PostgreSQL where its state lives")
    parser.add_argument("--port", type=int, default=0, help="0: a free one, printed as one JSON line")
    parser.add_argument("--schema", default=SCHEMA, help="schema of its tables, for two of the same kind in one database")
    parser.add_argument("--rate", type=int, default=0, help="requests a second it answers; more get HTTP 429; 0: all")
    parser.add_argument("--session-seconds", type=float, default=3600, help="how long a session lasts")
    parser.add_argument("--account", nargs=2, metavar=("NAME", "SECRET"), help="who may log in")
    asked = parser.parse_args(arguments)
    store = Store(asked.dsn, asked.schema, "portal.sql")
    if asked.account:
        with store.transaction() as cursor:
            cursor.execute(
                "INSERT INTO account (name, secret) VALUES (%s, %s) ON CONFLICT (name) DO UPDATE SET secret = excluded.secret", asked.account
            )
    portal = Portal(store, rate_per_second=asked.rate, session_seconds=asked.session_seconds)
    listener = socket.create_server(("127.0.0.1", asked.port), backlog=256)
    sys.stdout.write(json.dumps({"port": listener.getsockname()[1]}) + "\n")
    sys.stdout.flush()
    config = uvicorn.Config(create_app(portal), http=Protocol, log_level="critical", log_config=None, access_log=False, lifespan="off")
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
