"""The door to HTTP services, for SOAP and REST alike: one bounded request, one typed outcome. The only importer of httpx.

An answer that is too large, too slow or malicious costs its bytes' limit and its deadline, and nobody else's turn: no redirects, no
proxies or credentials from the environment, no cookies, TLS verified, the body counted as it is unpacked.

What a caller can know after a failure decides its class (reliability.md §3.9):

NotSent, Busy     not processed: it may be sent again
UnknownOutcome    the request left and nobody can say what became of it: read back before anything is resent
Refused           the service said no to this request
FatalError        nothing will go through until a person has looked: credentials, certificates, pinned files
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import ssl
import threading
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy
from pathlib import Path
from typing import Any

import httpx

from connectors.errors import ConfigError, FatalError, LienThongError, TransientError

CONNECTIONS_MAX = 64
IDLE_SECONDS = 5
RETRY_AFTER_MAX_SECONDS = 3600.0
GRACE_SECONDS = 1.0
"""Beyond the deadline, for what is left of a request to be taken down."""

_CONNECTED, _LEAVES = "connection.connect_tcp.complete", "send_request_headers.started"
_BUSY = {429, 503}
_PACKED = {"gzip": zlib.MAX_WBITS | 16, "x-gzip": zlib.MAX_WBITS | 16, "deflate": zlib.MAX_WBITS}

for _name in ("httpx", "httpcore"):  # they log addresses, and at lower levels headers
    logging.getLogger(_name).setLevel(logging.WARNING)


class NotSent(TransientError):
    """The service could not be reached; the request did not leave."""

    code = "LT-NAT-001"


class Busy(TransientError):
    """The service is busy and did not process the request; `retry_after` is what it asked for, in seconds, if it said."""

    code = "LT-NAT-002"

    def __init__(self, message: str = "", retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class UnknownOutcome(LienThongError):
    """The request left, and no answer says what became of it; it is read back before anything is sent again."""

    code = "LT-NAT-003"


class TooLarge(UnknownOutcome):
    """The answer is larger than it may be; the rest of it was not read."""


class Refused(LienThongError):
    """The service refused this request; `reason` is its own code or one word of ours. Never holds personal data."""

    code = "LT-NAT-004"

    def __init__(self, reason: str, message: str = "") -> None:
        super().__init__(message or f"the service refused the request ({reason})")
        self.reason = reason


class CertificateWrong(FatalError):
    """The service's certificate, or ours at the service, was not accepted; renew it or correct the configured authority."""

    code = "LT-NAT-005"


class CredentialsRefused(FatalError):
    """The service does not accept our credentials; correct them in the configuration."""

    code = "LT-NAT-006"


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request may cost: `seconds` from the call to the last byte, `bytes_max` of body after decompression."""

    seconds: float = 10.0
    bytes_max: int = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Answer:
    """What the service answered, whole; header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class HttpDoor:
    """Requests to one service, from any thread of the process that made the door.

    They run on an event loop of the door's own, because only there can a deadline cut short a TLS handshake or headers that drip: the time
    limits of blocking sockets hold for each read anew.
    """

    def __init__(self, base_url: str, *, limits: Limits, verify: bool | str | Path = True, certificate: tuple[str, str] | None = None) -> None:
        self._base, self._limits = _checked(base_url), limits
        self._tls = _tls_context(verify, certificate)
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._client: httpx.AsyncClient | None = None

    def send(self, method: str, path: str = "", *, headers: Mapping[str, str] | None = None, content: bytes = b"") -> Answer:
        """One request and its whole answer, whatever its status, except those that mean busy (429, 503) or a redirect.

        `path` follows the base address; it is empty or starts with a slash. Raises `NotSent`, `Busy`, `UnknownOutcome`, `CertificateWrong`.
        """
        if path and not path.startswith("/"):
            raise ConfigError("a path of a service starts with a slash")
        loop = self._started()
        sending = asyncio.run_coroutine_threadsafe(self._bounded(method, self._base + path, headers or {}, content), loop)
        try:
            return sending.result(self._limits.seconds + GRACE_SECONDS)
        except concurrent.futures.TimeoutError:
            sending.cancel()
            raise UnknownOutcome(self._too_slow()) from None
        except concurrent.futures.CancelledError:
            raise UnknownOutcome("the door was closed while a request was under way") from None

    def close(self) -> None:
        """Drop all connections; requests under way end as unknown."""
        with self._lock:
            loop, self._loop = self._loop, None
        if loop is not None:
            asyncio.run_coroutine_threadsafe(self._shut(loop), loop)
            self._thread.join(GRACE_SECONDS)

    def _started(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._client = self._new_client()
                self._thread = threading.Thread(target=_run, args=(self._loop,), name="lienthong-http", daemon=True)
                self._thread.start()
            return self._loop

    def _new_client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            verify=self._tls,
            trust_env=False,
            follow_redirects=False,
            timeout=None,  # the deadline over everything is ours
            limits=httpx.Limits(max_connections=CONNECTIONS_MAX, keepalive_expiry=IDLE_SECONDS),
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            headers={"accept-encoding": "gzip", "user-agent": "lienthong"},
        )

    async def _shut(self, loop: asyncio.AbstractEventLoop) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        if self._client is not None:
            await self._client.aclose()
        for _ in range(2):  # closed transports let go of their sockets at the loop's next turn
            await asyncio.sleep(0)
        loop.stop()

    async def _bounded(self, method: str, url: str, headers: Mapping[str, str], content: bytes) -> Answer:
        trail = _Trail()
        try:
            async with asyncio.timeout(self._limits.seconds):
                return await self._exchange(method, url, headers, content, {"trace": trail.note})
        except TimeoutError:
            raise (UnknownOutcome if trail.left else NotSent)(self._too_slow()) from None
        except (httpx.HTTPError, httpx.InvalidURL, ssl.SSLError, OSError, zlib.error) as error:
            raise _typed(error, left=trail.left) from None
        finally:
            await trail.end()

    async def _exchange(self, method: str, url: str, headers: Mapping[str, str], content: bytes, extensions: dict[str, Any]) -> Answer:
        assert self._client is not None
        request = self._client.build_request(method, url, headers=dict(headers), content=content, extensions=extensions)
        response = await self._client.send(request, stream=True)
        try:
            _check_status(response)
            return Answer(response.status_code, dict(response.headers), await self._body(response))
        finally:
            await response.aclose()

    async def _body(self, response: httpx.Response) -> bytes:
        """The body, unpacked piece by piece: the library's own decoders unpack a whole piece at once, a thousand times its size."""
        body, unpack = bytearray(), _unpacker(response)
        async for piece in response.aiter_raw():
            while piece:
                unpacked = piece if unpack is None else unpack.decompress(piece, self._limits.bytes_max + 1 - len(body))
                piece = b"" if unpack is None else unpack.unconsumed_tail
                body += unpacked
                if len(body) > self._limits.bytes_max:
                    raise TooLarge(f"an answer of more than {self._limits.bytes_max:,} bytes")
            if unpack is not None and unpack.unused_data:
                raise UnknownOutcome("an answer with bytes after its compressed end")
        if unpack is not None and not unpack.eof and body:
            raise UnknownOutcome("a compressed answer that was cut")
        return bytes(body)

    def _too_slow(self) -> str:
        return f"no whole answer within {self._limits.seconds:g} s"


class _Trail:
    """How far one request got: whether anything of it left, and the connection as long as only its opening was under way."""

    def __init__(self) -> None:
        self.left = False
        self._opening: Any = None

    async def note(self, event: str, facts: Mapping[str, Any]) -> None:
        """Called by the library at each step."""
        if event.endswith(_CONNECTED):
            self._opening = facts["return_value"]
        elif event.endswith(_LEAVES):
            self.left, self._opening = True, None

    async def end(self) -> None:
        """Close a connection whose TLS handshake was cut short; the library forgets it."""
        if self._opening is not None:
            await self._opening.aclose()


def _run(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        loop.close()


def _checked(base_url: str) -> str:
    """The base address without a trailing slash."""
    try:
        url = httpx.URL(base_url)
    except httpx.InvalidURL:
        raise ConfigError("the address of a service is not a URL") from None
    if url.scheme not in {"http", "https"} or not url.host:
        raise ConfigError("the address of a service starts with https:// (or http://) and names a host")
    if url.userinfo:
        raise ConfigError("the address of a service holds no user or password; they have settings of their own")
    return base_url.rstrip("/")


def _tls_context(verify: bool | str | Path, certificate: tuple[str, str] | None) -> ssl.SSLContext:
    """TLS 1.2 or later, host name and chain checked; against one authority's file where it is given, with its revocation list if it has one."""
    if verify is False:
        raise ConfigError("the certificate of a service is always checked; name its authority's file instead")
    try:
        context = ssl.create_default_context(cafile=None if verify is True else str(verify))
        if certificate is not None:
            context.load_cert_chain(*certificate)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"the authority or client certificate of a service cannot be read: {type(error).__name__}") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if verify is not True and b"BEGIN X509 CRL" in Path(str(verify)).read_bytes():
        context.verify_flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_LEAF
    return context


def _check_status(response: httpx.Response) -> None:
    status = response.status_code
    if status in _BUSY:
        raise Busy(f"the service is busy (HTTP {status})", _retry_after(response.headers.get("retry-after")))
    if status in range(300, 400):
        raise UnknownOutcome(f"the service redirects (HTTP {status}), which is never followed; check its address in the configuration")


def _retry_after(said: str | None) -> float | None:
    """Seconds to wait, when told as a number; dates are ignored, because clocks differ."""
    return min(float(said), RETRY_AFTER_MAX_SECONDS) if said is not None and said.isascii() and said.isdigit() else None


def _unpacker(response: httpx.Response) -> Any:
    """What unpacks the body; None when it is not packed. Packing inside packing is refused: it multiplies."""
    named = [name.strip().lower() for name in response.headers.get("content-encoding", "").split(",")]
    wanted = [name for name in named if name not in {"", "identity"}]
    if not wanted:
        return None
    if len(wanted) > 1 or wanted[0] not in _PACKED:
        raise UnknownOutcome("an answer in an encoding that was not asked for")
    return zlib.decompressobj(_PACKED[wanted[0]])


def _typed(error: Exception, *, left: bool) -> LienThongError:
    """Our error for one of the library's; its text is not repeated, it may quote the address."""
    if any(_is_certificate(cause) for cause in _causes(error)):
        return CertificateWrong()
    if not left:
        return NotSent(f"the service cannot be reached ({type(error).__name__})")
    return UnknownOutcome(f"the connection broke before a whole answer had come ({type(error).__name__})")


def _is_certificate(cause: BaseException) -> bool:
    """Whether one side did not accept the other's certificate: ours to say at the handshake, theirs by a TLS alert."""
    said = str(cause.reason or "").upper() if isinstance(cause, ssl.SSLError) else ""
    return "CERTIFICATE" in said or "UNKNOWN_CA" in said


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error and what led to it."""
    at: BaseException | None = error
    while at is not None:
        yield at
        at = at.__cause__ or at.__context__
