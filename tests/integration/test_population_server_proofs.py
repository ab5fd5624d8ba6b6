"""The stand-in of the population database: who asks is proven, the contract rate is kept, and what was seen outlives the process."""

from __future__ import annotations

import base64
import hashlib
import json
import socket
import ssl
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import zeep.exceptions
import zeep.wsse.signature
import zeep.wsse.username
import zeep.wsse.utils
from lxml import etree
from requests import Session
from xmlsec import constants

from lienthong.embedded import PostgresCluster
from tests.national_kit import ASK_MAI, CALL, Authority, population
from tests.stock_kit import answered, client, faultcode, request


# ------------------------------------------------------------------ who asks
def proof(secret: str, *, at: float | None = None, path: str = "/population") -> dict[str, str]:
    stamp = str(int((time.time() if at is None else at) * 1000))
    digest = hashlib.sha256(f"{path}lienthong{stamp}{secret}".encode()).hexdigest()
    return {"Timestamp": stamp, "Authorization": f"Basic {base64.b64encode(f'lienthong:{digest}'.encode()).decode()}"}


def test_a_time_stamped_hash_opens_and_nothing_less_does(guarded: Any) -> None:
    server = guarded("--auth", "hmac")
    server.account("lienthong", "bí mật")
    assert answered(server, headers=proof("bí mật"))[0] == 200
    for wrong in ({}, proof("khác"), proof("bí mật", at=time.time() - 600), proof("bí mật", path="/other"), {"Authorization": "Basic !"}):
        status, body = answered(server, headers=wrong)
        assert (status, faultcode(body)) == (401, "soapenv:Client.Authentication")
    assert [row["account"] for row in server.seen() if row["processed"]] == ["lienthong"]
    server.fault("clock-ahead")  # a server whose clock is wrong refuses what is right
    assert answered(server, headers=proof("bí mật"))[0] == 401


def test_an_access_token_opens(guarded: Any) -> None:
    server = guarded("--auth", "access-token")
    server.account("lienthong", "bí mật")

    def token(secret: str) -> dict[str, str]:
        value = {"AccessKey": "lienthong", "SecretKey": secret, "AppName": "a", "PartnerCode": "p", "PartnerCodeCus": "p"}
        return {"lgspaccesstoken": base64.b64encode(json.dumps(value).encode()).decode()}

    assert answered(server, headers=token("bí mật"))[0] == 200
    assert [answered(server, headers=wrong)[0] for wrong in ({}, token("khác"), {"lgspaccesstoken": "e30="})] == [401, 401, 401]


def test_an_x_road_client_opens(guarded: Any) -> None:
    server = guarded("--auth", "x-road")
    server.account("VN/GOV/H29/lienthong", "khóa")
    right = {"X-Road-Client": "VN/GOV/H29/lienthong", "ApiKey": "khóa".encode().decode("latin-1")}
    server.account("VN/GOV/H29/mo")
    assert answered(server, headers={"X-Road-Client": "VN/GOV/H29/mo"})[0] == 200
    assert [answered(server, headers=wrong)[0] for wrong in ({}, right | {"ApiKey": "x"}, right | {"X-Road-Client": "VN/GOV/H30"})] == [401] * 3


def test_a_user_name_token_opens_once(guarded: Any) -> None:
    server = guarded("--auth", "wsse-username")
    server.account("lienthong", "bí mật")
    digest = zeep.wsse.username.UsernameToken("lienthong", "bí mật", use_digest=True)
    assert client(server, wsse=digest).XacThucThongTinCongDan(**CALL, **ASK_MAI) is True
    envelope, _ = digest.apply(etree.fromstring(request()), {})
    assert [answered(server, etree.tostring(envelope))[0] for _ in range(2)] == [200, 401]
    for wrong in (zeep.wsse.username.UsernameToken("lienthong", "khác", use_digest=True), zeep.wsse.username.UsernameToken("lienthong", "bí mật")):
        with pytest.raises(zeep.exceptions.Fault, match="FailedAuthentication"):
            client(server, wsse=wrong).XacThucThongTinCongDan(**CALL, **ASK_MAI)


def stamped() -> Any:
    """A time stamp for the stock client to sign."""
    now = datetime.now(UTC)
    made = zeep.wsse.utils.WSU.Timestamp()
    made.append(zeep.wsse.utils.WSU("Created", now.strftime("%Y-%m-%dT%H:%M:%SZ")))
    made.append(zeep.wsse.utils.WSU("Expires", (now + timedelta(minutes=5)).strftime("%Y-%m-%dT%H:%M:%SZ")))
    return made


class Signed(zeep.wsse.signature.BinarySignature):
    """What zeep signs with, plus a time stamp; answers are not verified here."""

    def apply(self, envelope: Any, headers: Any) -> Any:
        zeep.wsse.utils.get_security_header(envelope).append(stamped())
        return super().apply(envelope, headers)

    def verify(self, envelope: Any) -> Any:
        return envelope


def test_a_signature_by_a_known_certificate_opens(guarded: Any, authority: Authority) -> None:
    server = guarded("--auth", "wsse-x509")
    known, stranger = authority.issue("lienthong"), authority.issue("stranger")
    server.account("lienthong", certificate=known[1].read_text())
    sha256 = {"signature_method": constants.TransformRsaSha256, "digest_method": constants.TransformSha256}
    assert client(server, wsse=Signed(*map(str, known), **sha256)).XacThucThongTinCongDan(**CALL, **ASK_MAI) is True
    for wrong in (Signed(*map(str, stranger), **sha256), Signed(*map(str, known))):  # not known; zeep's own choice, SHA-1
        with pytest.raises(zeep.exceptions.Fault, match="FailedCheck|UnsupportedAlgorithm"):
            client(server, wsse=wrong).XacThucThongTinCongDan(**CALL, **ASK_MAI)
    assert answered(server)[0] == 500
    assert server.processed() == 1


# ------------------------------------------------------------------ rate, TLS, restart
def test_more_than_the_contract_rate_is_refused(guarded: Any) -> None:
    server = guarded("--rate", "2")
    statuses = [answered(server, request())[0] for _ in range(20)]
    assert set(statuses) == {200, 429}
    assert server.processed() == statuses.count(200)


def said_by(port: int, authority: Path) -> bytes:
    """What a TLS listener says to a caller who shows no certificate."""
    context = ssl.create_default_context(cafile=str(authority))
    with socket.create_connection(("localhost", port)) as plain, context.wrap_socket(plain, server_hostname="localhost") as secured:
        secured.sendall(b"GET /seen HTTP/1.1\r\nHost: localhost\r\n\r\n")
        return secured.recv(100)


def test_mutual_tls_and_an_expired_certificate(guarded: Any, pg: PostgresCluster, tmp_path: Path, authority: Authority) -> None:
    own, caller, expired = authority.issue("server"), authority.issue("caller"), authority.issue("expired", expired=True)
    server = guarded("--tls", *map(str, own), "--client-ca", str(authority.ca))
    session = Session()
    session.verify, session.cert = str(authority.ca), (str(caller[1]), str(caller[0]))
    assert client(server, session=session).XacThucThongTinCongDan(**CALL, **ASK_MAI) is True
    with pytest.raises(OSError, match="certificate required|reset|Broken pipe|EOF"):
        said_by(server.server.port, authority.ca)
    dsn = pg.create_database("national_expired")
    with population(tmp_path / "expired", dsn, "--tls", *map(str, expired)) as late, pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        said_by(late.server.port, authority.ca)
    pg.drop_database("national_expired")


def test_what_was_seen_outlives_the_process(guarded: Any) -> None:
    server = guarded()
    answered(server)
    server.server.kill()
    server.server.start()
    assert answered(server)[0] == 200
    assert server.processed() == 2
