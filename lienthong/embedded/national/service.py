"""A SOAP service of ours from arrival to answer: seen, proven, checked, done, signed, sent; a fault may meet it at each moment."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from lxml import etree

from connectors.postgres import Cursor
from lienthong.embedded.national import envelope as soap
from lienthong.embedded.national import spoiled
from lienthong.embedded.national.authentication import PROFILES
from lienthong.embedded.national.contract import Contract
from lienthong.embedded.national.envelope import Element, SoapFault
from lienthong.embedded.national.faults import DESCRIPTION, Moment, moment, number
from lienthong.embedded.national.signature import Signer
from lienthong.embedded.national.store import Armed, Arrival, Store
from lienthong.embedded.national.wire import HTML_PAGE, Reply, Request

_AHEAD = {"clock-ahead": 1, "clock-behind": -1}
_TEXTS = {"busy": ("Server.Busy", "The service is busy"), "session-expired": ("Client.Authentication", "The session has expired")}


Operation = Callable[[Element, Cursor, datetime], Element]
"""What a request becomes; it gets the service's clock."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One address: its contract, and what each operation makes of a checked request, inside the transaction that marks it processed."""

    contract: Contract
    operations: Mapping[str, Operation]


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """Endpoints by path, with one store, one way to prove who asks, a contract rate (0: none) and perhaps a signature."""

    store: Store
    endpoints: Mapping[str, Endpoint]
    authentication: str = "none"
    rate_per_second: int = 0
    signer: Signer | None = None
    earlier: dict[str, bytes] = field(default_factory=dict)

    def answer(self, request: Request) -> Reply:
        """The reply to a request, of a caller or of the test that steers the faults."""
        if request.path in ("/faults", "/seen"):
            return self._steered(request)
        endpoint = self.endpoints.get(request.path)
        if endpoint is None:
            return Reply(status=404)
        if request.method == "GET":
            return self._described(endpoint, request)
        return _Call(self, endpoint, request).reply()

    def _described(self, endpoint: Endpoint, request: Request) -> Reply:
        document = endpoint.contract.document(request.query, request.address)
        if document is None:
            return Reply(status=404)
        if "xsd=" not in request.query:
            _, armed = self.store.arrived(Arrival(operation=DESCRIPTION))
            if armed is not None and moment(armed.kind) is Moment.DESCRIPTION:
                document = spoiled.description(document, armed.kind)
        return Reply(body=document)

    def _steered(self, request: Request) -> Reply:
        """POST /faults {"kind", "times", "argument", "operation"}, DELETE /faults, GET /seen; unknown kinds are refused."""
        if request.path == "/seen":
            return _json(200, self.store.counts())
        if request.method == "DELETE":
            self.store.disarm()
            return _json(200, {})
        asked = json.loads(request.body)
        try:
            moment(asked["kind"])
        except KeyError:
            return _json(422, {"error": "no such fault"})
        self.store.arm(asked["kind"], int(asked.get("times", 1)), asked.get("argument", {}), asked.get("operation"))
        return _json(200, {})


class _Call:
    """One request on its way through a service."""

    def __init__(self, service: Service, endpoint: Endpoint, request: Request) -> None:
        self.service, self.endpoint, self.request = service, endpoint, request
        self.number, self.armed = 0, Armed("", {})
        self.account: str | None = None

    def reply(self) -> Reply:
        """Answer, and write down how."""
        try:
            envelope, content = self._read()
            early = self._early()
            made = early if early is not None else self._made(envelope, content)
        except SoapFault as refusal:
            made = self._refusal(refusal)
        self.service.store.answered(self.number, made.status, self.account)
        return made

    def _read(self) -> tuple[Element, Element]:
        """The request's envelope and content; it is seen even when it is no XML."""
        try:
            envelope = soap.parsed(self.request.body)
            content = soap.payload(envelope)
        except SoapFault:
            self._seen(Arrival(operation="unreadable"))
            raise
        texts = {name: soap.text(content, name) for name in ("MaYeuCau", "MaCanBo", "MaDonVi", "MaDVC")}
        operation = etree.QName(content).localname
        self._seen(Arrival(operation=operation, request_id=texts["MaYeuCau"], officer=texts["MaCanBo"], unit=texts["MaDonVi"] or texts["MaDVC"]))
        return envelope, content

    def _seen(self, arrival: Arrival) -> None:
        self.number, armed = self.service.store.arrived(arrival)
        self.armed = armed or self.armed

    # ------------------------------------------------------------ before it is processed
    def _early(self) -> Reply | None:
        """What answers without processing: the contract rate, or a fault of arrival."""
        rate = self.service.rate_per_second
        if rate and self.service.store.in_last_second(self.number) > rate:
            return _too_many(1)
        kind = self.armed.kind
        if not kind or moment(kind) is not Moment.ARRIVAL or kind == "latency":
            return None
        return self._played(kind, self.armed.argument)

    def _played(self, kind: str, argument: Mapping[str, Any]) -> Reply:
        seconds = number(argument, "seconds", 1)
        location = str(argument.get("location", "http://elsewhere.invalid/"))
        replies = {
            "reset-before": Reply(delivery="reset"),
            "too-many": _too_many(seconds),
            "unavailable": replace(_too_many(seconds), status=503),
            "html": Reply(status=int(number(argument, "status", 500)), body=HTML_PAGE, headers={"Content-Type": "text/html"}),
            "redirect": Reply(status=307, headers={"Location": location}),
            "empty": Reply(),
        }
        if kind in replies:
            return replies[kind]
        code, text = _TEXTS.get(kind, ("Server", "The request could not be processed"))
        status = {"fault-200": 200, "session-expired": 401}.get(kind, 500)
        return self._refusal(SoapFault(code, text, status=status))

    # ------------------------------------------------------------ processing
    def _made(self, envelope: Element, content: Element) -> Reply:
        now = self._now()
        self.account = PROFILES[self.service.authentication](self.request, envelope, self.service.store, now)
        operation = self.endpoint.operations.get(etree.QName(content).localname)
        if operation is None:
            raise SoapFault("Client", "unknown operation")
        self.endpoint.contract.check(content)
        with self.service.store.transaction() as cursor:
            result = operation(content, cursor, now)
            cursor.execute("UPDATE seen SET processed = true WHERE number = %s", (self.number,))
        self.endpoint.contract.check(result)
        return self._sent(self._signed(_related(soap.wrapped(result), envelope), now), etree.QName(content).localname)

    def _now(self) -> datetime:
        """The service's clock, which a fault may set wrong."""
        ahead = _AHEAD.get(self.armed.kind, 0) * number(self.armed.argument, "seconds", 900)
        return datetime.now(UTC) + timedelta(seconds=ahead)

    def _signed(self, envelope: Element, now: datetime) -> Element:
        kind, argument = self.armed.kind, self.armed.argument
        if kind in spoiled.BEFORE_SIGNING:
            spoiled.BEFORE_SIGNING[kind](envelope, argument)
        elif kind in _AHEAD:
            spoiled.dated(envelope, now)
        if self.service.signer is not None and kind != "unsigned":
            self.service.signer.sign(envelope, at=now, sha1=kind == "sha1", with_body=kind != "body-unsigned")
        if kind in spoiled.AFTER_SIGNING:
            spoiled.AFTER_SIGNING[kind](envelope, argument)
        return envelope

    # ------------------------------------------------------------ the bytes
    def _sent(self, envelope: Element, operation: str) -> Reply:
        kind, argument, body = self.armed.kind, self.armed.argument, soap.serialised(envelope)
        if kind == "replayed":
            return Reply(body=self.service.earlier.get(operation, body))
        self.service.earlier[operation] = body
        if kind == "gzip-bomb":
            return Reply(body=spoiled.bomb(argument), headers={"Content-Encoding": "gzip"})
        if kind in spoiled.BYTES:
            return Reply(body=spoiled.BYTES[kind](body, argument))
        return self._delivered(kind, argument, body)

    def _delivered(self, kind: str, argument: Mapping[str, Any], body: bytes) -> Reply:
        if kind in ("reset-after", "silent"):
            return Reply(delivery="reset", wait_seconds=number(argument, "seconds", 30) if kind == "silent" else 0)
        if kind == "drip":
            return Reply(
                body=body,
                delivery="drip",
                drip_seconds=number(argument, "seconds", 60),
                interval_seconds=number(argument, "interval", 0.1),
            )
        delay = number(argument, "seconds", 2) if kind == "latency" else 0.0
        return Reply(body=body, delivery="cut" if kind == "cut" else "whole", wait_seconds=delay)

    def _refusal(self, refusal: SoapFault) -> Reply:
        """A fault; it is never signed, as most services do not."""
        body = soap.serialised(soap.wrapped(soap.fault(refusal.code, refusal.text)))
        return Reply(status=refusal.status, body=body, headers=refusal.headers)


def _too_many(seconds: float) -> Reply:
    return Reply(status=429, headers={"Retry-After": f"{seconds:g}", "Content-Type": "text/plain"})


def _related(answer: Element, request: Element) -> Element:
    """Say which request this answers, when it had a MessageID."""
    asked = next(request.iter(f"{{{soap.WSA}}}MessageID"), None)
    if asked is not None:
        etree.SubElement(soap.header(answer), f"{{{soap.WSA}}}RelatesTo", nsmap={"wsa": soap.WSA}).text = asked.text
    return answer


def _json(status: int, value: object) -> Reply:
    return Reply(status=status, body=json.dumps(value).encode(), headers={"Content-Type": "application/json"})
