"""Faults of the stand-in of the population database: each is really on the wire, and says of its effect what is true."""

from __future__ import annotations

import gzip
import http.client
import json
import socket
import time
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import zeep.wsse.signature
from lxml import etree

from lienthong.embedded.national.contract import Contract
from lienthong.embedded.national.envelope import SOAP, SoapFault
from lienthong.embedded.national.faults import KINDS, Moment
from lienthong.embedded.national.signature import verified
from tests.national_kit import ASK_BA, ASK_MAI, CALL, MAI, National
from tests.stock_kit import ANSWER, answered, client, request, sent


# ------------------------------------------------------------------ faults before anything is processed
@pytest.mark.parametrize(
    ("kind", "status", "holds"),
    [
        ("too-many", 429, b""),
        ("unavailable", 503, b""),
        ("busy", 500, b"soapenv:Server.Busy"),
        ("html", 500, b"<!DOCTYPE html>"),
        ("fault", 500, b"soapenv:Server<"),
        ("fault-200", 200, b"soapenv:Server<"),
        ("session-expired", 401, b"soapenv:Client.Authentication"),
        ("redirect", 307, b""),
        ("empty", 200, b""),
    ],
)
def test_a_fault_of_arrival_answers_and_processes_nothing(server: National, kind: str, status: int, holds: bytes) -> None:
    server.fault(kind)
    found, body = answered(server)
    assert found == status
    assert holds in body if holds else not body
    assert (server.processed(), server.seen()[0]["fault"]) == (0, kind)
    assert answered(server)[0] == 200  # once, as it was asked


def test_a_redirect_names_another_host_and_429_says_how_long(server: National) -> None:
    server.fault("redirect", location="http://elsewhere.invalid/population")
    assert sent(server, request()).headers["Location"] == "http://elsewhere.invalid/population"
    server.fault("too-many", seconds=7)
    assert sent(server, request()).headers["Retry-After"] == "7"


@pytest.mark.parametrize(("kind", "effects"), [("reset-before", 0), ("reset-after", 1)])
def test_a_reset_is_a_reset_and_says_nothing_of_the_effect(server: National, kind: str, effects: int) -> None:
    server.fault(kind)
    parts, body = urlsplit(server.url()), request()
    with socket.create_connection((parts.hostname or "", parts.port), 10) as plain:
        plain.sendall(f"POST {parts.path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        with pytest.raises(ConnectionResetError):  # an orderly end would be read as b""
            plain.recv(1)
    assert server.processed() == effects


def test_latency_and_silence(server: National) -> None:
    server.fault("latency", seconds=0.5)
    started = time.monotonic()
    assert answered(server)[0] == 200
    assert time.monotonic() - started >= 0.5
    server.fault("silent", seconds=5)
    with pytest.raises(TimeoutError):
        sent(server, request(), seconds=0.5)
    assert server.processed() == 2


# ------------------------------------------------------------------ faults of the answer
def spoiled(server: National, kind: str, **argument: Any) -> Any:
    """The envelope of an answer that met a fault."""
    server.fault(kind, **argument)
    status, body = answered(server)
    assert (status, server.processed()) == (200, 1)
    return etree.fromstring(body)


def test_missing_nil_and_unknown_elements(server: National) -> None:
    assert spoiled(server, "missing").find(f".//{ANSWER}CongDan/{ANSWER}HoVaTen") is None
    server.forget()
    nil = spoiled(server, "nil", element="SoDinhDanh").find(f".//{ANSWER}CongDan/{ANSWER}SoDinhDanh")
    assert (nil.text, nil.get("{http://www.w3.org/2001/XMLSchema-instance}nil")) == (None, "true")
    server.forget()
    assert spoiled(server, "extra").find(f".//{ANSWER}TruongMoi") is not None


@pytest.mark.parametrize("kind", ["missing", "nil", "extra"])
def test_a_spoiled_answer_does_not_follow_the_pinned_schema(server: National, kind: str) -> None:
    content = spoiled(server, kind).find(f"{{{SOAP}}}Body")[0]
    with pytest.raises(SoapFault):
        Contract("population").check(content)


def test_somebody_else_twice_or_of_another_time(server: National) -> None:
    assert spoiled(server, "wrong-person").findtext(f".//{ANSWER}SoDinhDanh") != MAI["personal_number"]
    server.forget()
    assert len(list(spoiled(server, "duplicate").iter(f"{ANSWER}CongDan"))) == 2
    server.forget()
    assert spoiled(server, "wrong-request").find(f".//{ANSWER}CongdanCollection").get("id") != CALL["MaYeuCau"]
    server.forget()
    ahead = spoiled(server, "clock-ahead", seconds=3600).find(f".//{ANSWER}CongdanCollection").get("ThoiDiemDuLieu")
    assert datetime.fromisoformat(ahead) > datetime.now(UTC) + timedelta(minutes=50)


def test_a_replayed_answer_is_of_another_request(server: National) -> None:
    answered(server)
    server.fault("replayed")
    _, body = answered(server, request(**ASK_BA))
    assert MAI["personal_number"].encode() in body


def test_a_drip_holds_the_caller_far_beyond_its_timeout_for_one_read(server: National) -> None:
    server.fault("drip", seconds=2, interval=0.05)
    started = time.monotonic()
    response = sent(server, request(), seconds=1)
    with pytest.raises(http.client.IncompleteRead):
        response.read()
    assert time.monotonic() - started >= 1.9


def test_a_cut_answer_ends_before_its_length_and_a_truncated_one_does_not(server: National) -> None:
    server.fault("cut")
    with pytest.raises(http.client.IncompleteRead):
        answered(server)
    server.fault("truncated")
    status, body = answered(server)
    assert status == 200
    with pytest.raises(etree.XMLSyntaxError):
        etree.fromstring(body)


def test_bombs(server: National) -> None:
    server.fault("huge", bytes=3_000_000)
    assert len(answered(server)[1]) > 3_000_000
    server.fault("many-elements", count=100_000)
    assert answered(server)[1].count(b"<a/>") == 100_000
    server.fault("deep", depth=300)
    assert b"<a>" * 300 in answered(server)[1]
    server.fault("gzip-bomb", bytes=30_000_000)
    response = sent(server, request())
    body = response.read()
    assert response.headers["Content-Encoding"] == "gzip"
    assert len(body) < 100_000 < len(gzip.decompress(body))


def test_document_types(server: National) -> None:
    server.fault("entities")
    assert b'<!DOCTYPE Envelope [<!ENTITY e0 "ha">' in answered(server)[1]
    server.fault("external-dtd")
    assert b'SYSTEM "file:///etc/passwd"' in answered(server)[1]


def test_the_description_can_be_poisoned(server: National) -> None:
    server.fault("wsdl-address")
    with pytest.raises(OSError, match="elsewhere"):
        client(server).XacThucThongTinCongDan(**CALL, **ASK_MAI)
    server.fault("wsdl-removed")
    with pytest.raises(AttributeError):
        _ = client(server).XacThucThongTinCongDan
    server.fault("wsdl-import", operation="?wsdl")
    with urllib.request.urlopen(f"{server.url()}?wsdl") as response:
        assert b"file:///etc/passwd" in response.read()


def test_every_kind_of_fault_is_played_by_some_test() -> None:
    mine = Path(__file__).read_text("utf-8")
    assert {kind for kind in KINDS if f'"{kind}"' not in mine} == set()


def test_faults_are_set_by_http_too_and_unknown_ones_are_refused(server: National) -> None:
    def post(value: object) -> int:
        asked = urllib.request.Request(f"{server.address}/faults", json.dumps(value).encode())
        try:
            with urllib.request.urlopen(asked) as response:
                return int(response.status)
        except urllib.error.HTTPError as error:
            return error.code

    assert post({"kind": "bussy"}) == 422
    assert post({"kind": "busy", "times": 2, "operation": "XacThucThongTinCongDan"}) == 200
    assert answered(server)[0] == 200  # of another operation
    assert answered(server, request("XacThucThongTinCongDan"))[0] == 500


# ------------------------------------------------------------------ signatures of answers
def read_signature(server: National, signing: tuple[Path, Path], kind: str | None = None, **argument: Any) -> str:
    """Who signed an answer, by the strict check that this package makes of requests; raises SoapFault."""
    if kind is not None:
        server.fault(kind, **argument)
    envelope = etree.fromstring(answered(server)[1])
    return verified(envelope, [("population", signing[1].read_text())], datetime.now(UTC))


def test_answers_are_signed_over_body_and_time(server: National, signing: tuple[Path, Path]) -> None:
    assert read_signature(server, signing) == "population"


@pytest.mark.parametrize(
    "kind", ["unsigned", "sha1", "body-unsigned", "wrong-signature", "wrapped-signature", "two-bodies", "clock-ahead", "clock-behind"]
)
def test_a_bad_signature_is_one(server: National, signing: tuple[Path, Path], kind: str) -> None:
    with pytest.raises(SoapFault):
        read_signature(server, signing, kind)


def test_a_wrapped_signature_still_verifies_for_a_reader_that_only_follows_references(server: National, signing: tuple[Path, Path]) -> None:
    server.fault("wrapped-signature")
    envelope = etree.fromstring(answered(server)[1])
    ids = [value for element in envelope.iter() for name, value in element.items() if name.endswith("}Id")]
    assert len(set(ids)) == len(ids)
    zeep.wsse.signature.verify_envelope(envelope, str(signing[1]))  # stock zeep accepts it
    assert envelope.findtext(f"{{{SOAP}}}Body//{ANSWER}SoDinhDanh") != MAI["personal_number"]


def test_moments_of_all_faults_are_known() -> None:
    assert {moment for moment, _ in KINDS.values()} == set(Moment)
