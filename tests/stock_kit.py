"""A stand-in of a SOAP service asked without anything of ours: by the stock library of its own description, or by plain bytes."""

from __future__ import annotations

import http.client
from functools import cache
from typing import Any
from urllib.parse import urlsplit

import zeep
from lxml import etree
from requests import Session

from lienthong.embedded.national.contract import FOLDER
from lienthong.embedded.national.envelope import SOAP
from tests.national_kit import ASK_MAI, CALL, National

ANSWER = "{http://www.mic.gov.vn/dancu/1.0}"
_open: list[Any] = []


def close() -> None:
    """Close every connection that was opened."""
    while _open:
        _open.pop().close()


def client(server: National, profile: str = "practice", *, wsse: Any = None, session: Session | None = None) -> Any:
    """A stock client that trusts what the server says of itself."""
    return stock(f"{server.url(profile)}?wsdl", wsse, session)


def stock(description: str, wsse: Any = None, session: Session | None = None) -> Any:
    """The service that a description tells of, by the library as it is."""
    _open.append(session := session or Session())
    session.trust_env = False  # the machine's own proxies and authorities are no part of this
    return zeep.Client(description, wsse=wsse, transport=zeep.Transport(session=session)).service


@cache
def _pinned() -> Any:
    return zeep.Client(str(FOLDER / "population.wsdl"))


def request(operation: str = "TraCuuThongTinCongDan", **fields: Any) -> bytes:
    """The bytes of a request, as the pinned contract has it."""
    made = _pinned()
    return etree.tostring(made.create_message(made.service, operation, **(CALL | (fields or ASK_MAI))))


def plain(server: National, seconds: float = 10) -> http.client.HTTPConnection:
    """A connection without any SOAP library."""
    parts = urlsplit(server.url())
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=seconds)
    _open.append(connection)
    return connection


def sent(server: National, body: bytes, headers: dict[str, str] | None = None, seconds: float = 10) -> http.client.HTTPResponse:
    """One POST without any SOAP library; the answer is not read yet."""
    parts = urlsplit(server.url())
    connection = plain(server, seconds)
    connection.request("POST", parts.path, body, {"Content-Type": "text/xml", **(headers or {})})
    response = connection.getresponse()
    _open.append(response)
    return response


def answered(server: National, body: bytes | None = None, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
    """Status and body of one POST."""
    response = sent(server, body or request(), headers)
    return response.status, response.read()


def faultcode(body: bytes) -> str | None:
    """The code of the fault in an answer."""
    return etree.fromstring(body).findtext(f".//{{{SOAP}}}Fault/faultcode")
