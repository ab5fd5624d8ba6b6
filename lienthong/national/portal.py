"""The national portal as a service: log in, send one message, look up what is there; the two variants of its interface.

An answer counts by its code, never by its words. Every request waits at the gate, so that all processes together keep to the contract rate.
"""

from __future__ import annotations

import re
import threading
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Protocol
from urllib.parse import quote

from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_random

from connectors.http import CredentialsRefused, HttpDoor, Limits, NotSent, Refused, UnknownOutcome
from connectors.rest import Reply, RestDoor
from lienthong.config_national import Portal
from lienthong.errors import ConfigError, LienThongError, TransientError
from lienthong.gate import Gate
from lienthong.national.portal_messages import Fields, step_key
from lienthong.settings import Settings

FINE = "0"
EXISTS = frozenset({"3", "-3"})
SESSION_OVER = frozenset({"-1", "401"})
"""Answers' codes. Lists differ between platforms; an answer about the session is also known by its words, because it refuses nothing."""
_SESSION_WORDS = re.compile(r"session|phiên (làm việc|đăng nhập|kết nối)", re.IGNORECASE)
_DIGITS = re.compile(r"\d{4,}")
_REASON_CHARACTERS = 200
ANSWER_BYTES_MAX = Limits().bytes_max
_NO_SESSION = "the portal takes no session that it has just given; ask its operator about the account"

_again = retry(retry=retry_if_exception_type(NotSent), stop=stop_after_attempt(3), wait=wait_random(0.1, 0.5), reraise=True)
"""For what has no effect there: tried again while it provably did not leave."""


class AlreadyThere(Refused):
    """The portal has a dossier of this code already; it is sent as an update."""


class Pass(Protocol):
    """What is asked before every request and told after it (`lienthong.gate`)."""

    def enter(self, stop: Callable[[], bool], permits: int = 1) -> None:
        """Wait for a permit."""

    def succeeded(self) -> None:
        """The service answered."""

    def failed(self) -> None:
        """It did not."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A dossier as the portal tells it: fields, and how many steps it has of each time, status and unit."""

    fields: Fields
    steps: Counter[tuple[str, str, str]]


@dataclass(slots=True)
class _LogIn:
    """A session all threads share."""

    value: str | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)


class _SessionOver(Exception):
    """The portal does not know the session any more; nothing was processed. `instead` is what it is when a new session gets the same answer."""

    def __init__(self, instead: LienThongError) -> None:
        super().__init__()
        self.instead = instead


class PortalClient(ABC):
    """One portal, from any thread."""

    def __init__(self, portal: Portal, gate: Pass, stop: Callable[[], bool], bytes_max: int = ANSWER_BYTES_MAX) -> None:
        certificate = (portal.certificate, portal.key) if portal.certificate and portal.key else None
        limits = Limits(seconds=portal.deadline_seconds, bytes_max=bytes_max)
        door = HttpDoor(portal.endpoint, limits=limits, verify=portal.authority or True, certificate=certificate)
        self._rest, self._portal, self._gate, self._stop = RestDoor(door), portal, gate, stop
        self._log_in = _LogIn()
        self._mine = threading.local()

    @contextmanager
    def within(self, until: float) -> Iterator[None]:
        """What this thread sends inside leaves before `until` (monotonic seconds), or not at all: the turn at the gate may come late."""
        self._mine.until = until
        try:
            yield
        finally:
            self._mine.until = None

    def _is_over(self) -> bool:
        until = getattr(self._mine, "until", None)
        return self._stop() or (until is not None and time.monotonic() > until)

    @abstractmethod
    def send(self, kind: str, fields: Fields) -> None:
        """Send one create, update or progress; returns when the portal has acknowledged it. Raises as `connectors.http` says."""

    @abstractmethod
    def look_up(self, code: str) -> Seen | None:
        """What the portal holds under a code; None when it holds nothing."""

    @abstractmethod
    def next_code(self, request_id: str) -> str:
        """A code for a new dossier, where the portal issues them."""

    def catalogue(self, service: str, **asked: str) -> list[dict[str, Any]]:
        """The rows of one of the portal's catalogues; raises `ConfigError` where the interface has none."""
        raise ConfigError("this variant of the portal's interface has no catalogues; with variant lgsp there are")

    @abstractmethod
    def _open_session(self) -> str:
        """Log in; raises `CredentialsRefused`."""

    def close(self) -> None:
        """Drop all connections."""
        self._rest.close()

    def _call(self, *words: Any, **more: Any) -> Reply:
        """One request through the gate."""
        self._gate.enter(self._is_over)
        try:
            reply = self._rest.call(*words, **more)
        except LienThongError:
            self._gate.failed()
            raise
        self._gate.succeeded()
        return reply

    def _session(self) -> str:
        """The session, opened when there is none. A log-in whose outcome is unknown has sent no message."""
        with self._log_in.lock:
            if self._log_in.value is None:
                try:
                    self._log_in.value = _again(self._open_session)()
                except UnknownOutcome as error:
                    raise TransientError(f"log-in: {error}") from None
            return self._log_in.value

    def _with_session(self, work: Callable[[str], Reply]) -> Reply:
        """Work with the session; once more with a new one when it was over."""
        for is_last in (False, True):
            session = self._session()
            try:
                return work(session)
            except _SessionOver as over:
                with self._log_in.lock:
                    if self._log_in.value == session:
                        self._log_in.value = None
                if is_last:
                    raise over.instead from None
        raise AssertionError("one of both has ended it")


class Lgsp(PortalClient):
    """Through the local platform's adapter: log-in and session, HTTP 200 with `error_code`."""

    def _open_session(self) -> str:
        portal = self._portal
        document = {"username": portal.user, "password": portal.secret, "dstcode": portal.destination or ""}
        reply = self._call("POST", "/mapi/login", document)
        code, session = _code(reply), reply.document.get("session")
        if code != FINE or not isinstance(session, str) or not session:
            raise CredentialsRefused(f"the portal refuses the log-in (code {code}); correct user and secret in national.yaml")
        return session

    def send(self, kind: str, fields: Fields) -> None:
        """As `PortalClient.send`."""
        if kind == "progress":
            self._service("CapNhatTienDoHoSoMC", {"data": [fields]})
        else:
            self._service("DongBoHoSoMC", {"isUpdating": str(kind == "update"), "data": [fields]}, is_create=kind == "create")

    @_again
    def look_up(self, code: str) -> Seen | None:
        """As `PortalClient.look_up`."""
        found = self._service("TraCuuHoSo", {"mahoso": code}).document.get("result")
        if not isinstance(found, list):
            raise UnknownOutcome("a look-up without a list of results")
        if not found:
            return None
        if len(found) > 1 or not isinstance(found[0], dict) or found[0].get("MaHoSo") != code:
            raise UnknownOutcome("a look-up with results that are not the dossier asked for")
        return _seen(found[0])

    def next_code(self, request_id: str) -> str:
        """Raises `Refused`: this variant issues no codes."""
        raise Refused("no-code", "this variant of the portal issues no codes")

    @_again
    def catalogue(self, service: str, **asked: str) -> list[dict[str, Any]]:
        """As `PortalClient.catalogue`; raises `UnknownOutcome` for an answer that is no list of rows."""
        found = self._service(service, asked).document.get("result")
        if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
            raise UnknownOutcome(f"an answer to {service} without a list of rows")
        return found

    def _service(self, service: str, more: Mapping[str, Any], *, is_create: bool = False) -> Reply:
        def ask(session: str) -> Reply:
            reply = self._call("POST", "/mapi/g", {"session": session, "madonvi": self._portal.unit, "service": service, **more})
            _check_code(reply, more, is_create=is_create)
            return reply

        return self._with_session(ask)


class Ministry(PortalClient):
    """The ministry's interface of 2026: OAuth client credentials, codes issued centrally, HTTP statuses."""

    def _open_session(self) -> str:
        asked = {"grant_type": "client_credentials", "client_id": self._portal.user, "client_secret": self._portal.secret}
        reply = self._call("POST", "/oauth2/token", form=asked)
        token = reply.document.get("access_token")
        if reply.status != 200 or not isinstance(token, str) or not token:
            raise CredentialsRefused(f"the portal refuses the log-in (HTTP {reply.status}); correct user and secret in national.yaml")
        return token

    def send(self, kind: str, fields: Fields) -> None:
        """As `PortalClient.send`."""
        path = f"/ho-so/{fields['MaHoSo']}"
        if kind == "create":
            self._ask("POST", "/ho-so", fields, is_create=True)
        elif kind == "update":
            self._ask("PUT", path, fields)
        else:
            self._ask("POST", f"{path}/tien-trinh", fields)

    @_again
    def look_up(self, code: str) -> Seen | None:
        """As `PortalClient.look_up`."""
        reply = self._ask("GET", f"/ho-so/{code}", none_when=404)
        if reply.status == 404:
            return None
        if reply.document.get("MaHoSo") != code:
            raise UnknownOutcome("a look-up with a result that is not the dossier asked for")
        return _seen(reply.document)

    def next_code(self, request_id: str) -> str:
        """As `PortalClient.next_code`; a code that is not used is lost, nothing more."""
        code = self._ask("POST", "/ma-ho-so", {"MaDonVi": self._portal.unit, "MaYeuCau": request_id}).document.get("MaHoSo")
        if not isinstance(code, str) or not code:
            raise UnknownOutcome("an answer without a code")
        return code

    def upload(self, name: str, content: bytes) -> tuple[str, str]:
        """Put a file there; its id and the portal's own SHA-256 of it (`IdTepTin`, `HashTepTin`)."""
        reply = self._with_session(lambda token: self._checked(token, "POST", "/tep-tin", content=content, headers={"x-ten-tep": quote(name)}))
        found = reply.document.get("IdTepTin"), reply.document.get("HashTepTin")
        if not all(isinstance(part, str) and part for part in found):
            raise UnknownOutcome("an answer without the file's id and hash")
        return str(found[0]), str(found[1])

    def _ask(self, method: str, path: str, fields: Fields | None = None, *, is_create: bool = False, none_when: int = 0) -> Reply:
        return self._with_session(lambda token: self._checked(token, method, path, fields, is_create=is_create, none_when=none_when))

    def _checked(
        self, token: str, method: str, path: str, fields: Fields | None = None, *, is_create: bool = False, none_when: int = 0, **more: Any
    ) -> Reply:
        headers = {"authorization": f"Bearer {token}", **more.pop("headers", {})}
        reply = self._call(method, path, fields, headers=headers, **more)
        if reply.status in (200, 201) or reply.status == none_when:
            return reply
        if reply.status == 401:
            raise _SessionOver(CredentialsRefused(_NO_SESSION))
        if reply.status == 409 and is_create:
            raise AlreadyThere("409")
        raise Refused(str(reply.status), _reason(str(reply.status), reply.document.get("message"), fields or {}))


def client_of(portal: Portal, gate: Pass, stop: Callable[[], bool], bytes_max: int = ANSWER_BYTES_MAX) -> PortalClient:
    """The client of the configured variant; `bytes_max` is what one answer may be."""
    return {"lgsp": Lgsp, "ministry": Ministry}[portal.variant](portal, gate, stop, bytes_max)


def portal_of(settings: Settings) -> Portal:
    """The configured portal; raises `ConfigError` when there is none."""
    if settings.national is None or settings.national.portal is None:
        raise ConfigError("no national portal is configured: national.yaml has no section portal (docs/national.md)")
    return settings.national.portal


def gate_of(hub: str, portal: Portal) -> Gate:
    """The gate all requests to this portal go through, whoever makes them."""
    rate = portal.rate_per_second
    return Gate(hub, f"portal {portal.system}", rate, max(1, int(rate / 10)), rest_seconds=portal.rest_seconds)


# ------------------------------------------------------------------ answers
def _code(reply: Reply) -> str:
    code = reply.document.get("error_code")
    if reply.status == 401:
        return "401"
    if not isinstance(code, str | int):
        raise UnknownOutcome(f"an answer without error_code (HTTP {reply.status})")
    return str(code)


def _check_code(reply: Reply, sent: Mapping[str, Any], *, is_create: bool) -> None:
    """Return when all of it was taken; one part refused inside an answer that is fine as a whole is a refusal too."""
    code, message = _code(reply), reply.document.get("message")
    parts = reply.document.get("result")
    if code == FINE and isinstance(parts, list):
        wrong = [part for part in parts if isinstance(part, dict) and str(part.get("error_code", FINE)) != FINE]
        if wrong:
            code, message = str(wrong[0]["error_code"]), wrong[0].get("message")
    if code == FINE:
        return
    if code in EXISTS and is_create:
        raise AlreadyThere(code)
    data = sent.get("data")
    refused = Refused(code, _reason(code, message, data[0] if data else {}))
    if code in SESSION_OVER:
        raise _SessionOver(CredentialsRefused(_NO_SESSION))
    raise _SessionOver(refused) if _SESSION_WORDS.search(str(message)) else refused


def _reason(code: str, message: object, sent: Mapping[str, Any]) -> str:
    """Code and words of a refusal, without what may be about people: values that were sent, long numbers, and what is written like a name."""
    text = message if isinstance(message, str) else ""
    for value in sorted((value for value in sent.values() if isinstance(value, str) and len(value) > 3), key=len, reverse=True):
        text = text.replace(value, "…")
    kept: list[str] = []
    for is_name, words in groupby(_DIGITS.sub("…", text).split(), key=lambda word: word[:1].isupper()):
        run = list(words)
        kept += ["…"] if is_name and len(run) > 1 else run
    return f"{code}: {' '.join(kept)[:_REASON_CHARACTERS]}".rstrip(": ")


def _seen(found: Mapping[str, Any]) -> Seen:
    steps = found.get("DanhSachTienDo")
    return Seen(dict(found), Counter(step_key(step) for step in steps if isinstance(step, dict)) if isinstance(steps, list) else Counter())
