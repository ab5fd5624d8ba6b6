"""Every fault a stand-in can play, and at which moment of a request it happens; an unknown kind is refused, so that no test plays nothing."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any


class Moment(Enum):
    """When a fault happens."""

    ARRIVAL = "before anything is processed"
    ANSWER = "in the answer, after its effect is committed and before it is signed"
    SIGNED = "in the signed answer"
    WIRE = "in the bytes of the answer and on the socket"
    DESCRIPTION = "in what ?wsdl answers"


KINDS: dict[str, tuple[Moment, str]] = {
    "latency": (Moment.ARRIVAL, "waits `seconds` (2), then answers in order"),
    "reset-before": (Moment.ARRIVAL, "resets the connection; nothing was processed"),
    "too-many": (Moment.ARRIVAL, "HTTP 429 with Retry-After `seconds` (1)"),
    "unavailable": (Moment.ARRIVAL, "HTTP 503 with Retry-After `seconds` (1)"),
    "busy": (Moment.ARRIVAL, "a fault Server.Busy, HTTP 500"),
    "html": (Moment.ARRIVAL, "an HTML error page, HTTP `status` (500)"),
    "fault": (Moment.ARRIVAL, "a fault Server, HTTP 500"),
    "fault-200": (Moment.ARRIVAL, "the same fault with HTTP 200"),
    "session-expired": (Moment.ARRIVAL, "a fault Client.Authentication, HTTP 401"),
    "redirect": (Moment.ARRIVAL, "HTTP 307 to `location` (another host)"),
    "empty": (Moment.ARRIVAL, "HTTP 200 without a body"),
    "missing": (Moment.ANSWER, "the required `element` (HoVaTen) is left out"),
    "nil": (Moment.ANSWER, "the required `element` (HoVaTen) is empty and xsi:nil"),
    "extra": (Moment.ANSWER, "one element more than the contract knows"),
    "wrong-person": (Moment.ANSWER, "another person's number and name"),
    "wrong-request": (Moment.ANSWER, "the id of another request"),
    "duplicate": (Moment.ANSWER, "the same person twice"),
    "clock-ahead": (Moment.ANSWER, "every time in it is `seconds` (900) ahead"),
    "clock-behind": (Moment.ANSWER, "every time in it is `seconds` (900) old"),
    "unsigned": (Moment.ANSWER, "no signature"),
    "sha1": (Moment.ANSWER, "signed by RSA with SHA-1"),
    "body-unsigned": (Moment.ANSWER, "the signature covers only the time stamp"),
    "wrong-signature": (Moment.SIGNED, "the body was changed after it was signed"),
    "wrapped-signature": (Moment.SIGNED, "the signed body moved into a header, a forged one in its place"),
    "two-bodies": (Moment.SIGNED, "a forged second Body after the signed one"),
    "replayed": (Moment.WIRE, "the bytes of an earlier answer of this operation"),
    "reset-after": (Moment.WIRE, "resets the connection after the effect is committed"),
    "silent": (Moment.WIRE, "commits the effect, says nothing for `seconds` (30), then resets"),
    "drip": (Moment.WIRE, "one byte each `interval` (0.1) seconds, for `seconds` (60) at most"),
    "cut": (Moment.WIRE, "half of the promised bytes, then the connection ends"),
    "truncated": (Moment.WIRE, "half of the document, with the length of that half"),
    "huge": (Moment.WIRE, "a text of `bytes` (20 MB) in the answer"),
    "many-elements": (Moment.WIRE, "`count` (3 million) empty elements in the answer"),
    "deep": (Moment.WIRE, "elements nested `depth` (5,000) deep"),
    "gzip-bomb": (Moment.WIRE, "`bytes` (200 MB) in a small gzip body"),
    "entities": (Moment.WIRE, "a DTD whose entities grow a thousand million times"),
    "external-dtd": (Moment.WIRE, "a DTD that names a file of the reader's machine"),
    "wsdl-address": (Moment.DESCRIPTION, "soap:address of another host"),
    "wsdl-import": (Moment.DESCRIPTION, "imports a file of the reader's machine"),
    "wsdl-removed": (Moment.DESCRIPTION, "an operation less"),
}

DESCRIPTION = "?wsdl"
"""The operation under which a request for the contract is seen."""


def moment(kind: str) -> Moment:
    """When a fault of this kind happens; raises KeyError for a kind that does not exist."""
    return KINDS[kind][0]


def number(argument: Mapping[str, Any], name: str, usual: float) -> float:
    """A number of a fault's argument, or the usual one."""
    return float(argument.get(name, usual))
