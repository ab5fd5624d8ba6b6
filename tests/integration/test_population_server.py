"""The stand-in of the population database: a stock zeep client of its own ?wsdl gets the answers, and each fault is really on the wire."""

from __future__ import annotations

import base64
import gzip
import hashlib
import http.client
import json
import socket
import ssl
import time
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import zeep
import zeep.exceptions
import zeep.wsse.signature
import zeep.wsse.username
import zeep.wsse.utils
from lxml import etree
from requests import Session
from xmlsec import constants

from lienthong.embedded import PostgresCluster
from lienthong.embedded.national.contract import FOLDER, Contract
from lienthong.embedded.national.envelope import SOAP, SoapFault
from lienthong.embedded.national.faults import KINDS, Moment
from lienthong.embedded.national.signature import verified
from tests.national_kit import ASK_BA, ASK_MAI, BA, CALL, MAI, Authority, National, population, unit_register

ANSWER = "{http://www.mic.gov.vn/dancu/1.0}"
_numbers = count(1)
_open: list[Any] = []


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    """Every connection a test opened is closed when it ends."""
    yield
    while _open:
        _open.pop().close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("national")


@pytest.fixture(scope="module")
def authority(folder: Path) -> Authority:
    return Authority(folder / "authority")


@pytest.fixture(scope="module")
def signing(authority: Authority) -> tuple[Path, Path]:
    return authority.issue("population")


@pytest.fixture(scope="module")
def served(pg: PostgresCluster, folder: Path, signing: tuple[Path, Path]) -> Iterator[National]:
    """One server without proof of who asks, which signs its answers."""
    with population(folder / "server", pg.create_database("national"), "--sign", *map(str, signing)) as server:
        yield server
    pg.drop_database("national")


@pytest.fixture
def server(served: National) -> National:
    served.heal()
    served.forget()
    return served


@pytest.fixture
def guarded(pg: PostgresCluster, tmp_path: Path) -> Iterator[Any]:
    """Starts a server with arguments of its own."""
    name, open_ones = f"national_{next(_numbers)}", []
    dsn = pg.create_database(name)

    def start(*arguments: str) -> National:
        context = population(tmp_path / "server", dsn, *arguments)
        open_ones.append(context)
        return context.__enter__()

    yield start
    for context in open_ones:
        context.__exit__(None, None, None)
    pg.drop_database(name)


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


def sent(server: National, body: bytes, headers: dict[str, str] | None = None, seconds: float = 10) -> http.client.HTTPResponse:
    """One POST without any SOAP library; the answer is not read yet."""
    parts = urlsplit(server.url())
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=seconds)
    _open.append(connection)
    connection.request("POST", parts.path, body, {"Content-Type": "text/xml", **(headers or {})})
    response = connection.getresponse()
    _open.append(response)
    return response


def answered(server: National, body: bytes | None = None, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
    """Status and body of one POST."""
    response = sent(server, body or request(), headers)
    return response.status, response.read()


def faultcode(body: bytes) -> str | None:
    return etree.fromstring(body).findtext(f".//{{{SOAP}}}Fault/faultcode")


# ------------------------------------------------------------------ the contract
def test_the_pinned_files_are_as_their_hashes_say() -> None:
    sums = dict(reversed(line.split()) for line in (FOLDER / "SHA256SUMS").read_text().splitlines())
    found = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in FOLDER.iterdir() if file.name != "SHA256SUMS"}
    assert found == sums


def test_a_stock_client_looks_a_person_up(server: National) -> None:
    found = client(server).TraCuuThongTinCongDan(**CALL, **ASK_MAI)
    (person,) = found.CongDan
    assert (found.SoCongDan, found.id, found.ThoiDiemDuLieu) == (1, CALL["MaYeuCau"], datetime(2026, 10, 1, 1, tzinfo=UTC))
    assert (person.SoDinhDanh, person.SoCMND, person.GioiTinh) == (MAI["personal_number"], MAI["old_identity_number"], "2")
    assert (person.HoVaTen.Ho, person.HoVaTen.ChuDem, person.HoVaTen.Ten) == (None, None, MAI["full_name"])
    assert (person.NgayThangNamSinh.NgayThangNam, person.DanToc, person.QuocTich) == ("19900504", "01", "VN")
    assert (person.ThuongTru.MaTinhThanh, person.ThuongTru.MaQuanHuyen, person.ThuongTru.MaPhuongXa) == ("79", None, "26740")
    assert (person.Cha.HoVaTen.Ten, person.ChuHo.QuanHe, person.Me) == ("NGUYỄN VĂN AN", "01", None)


def test_a_birth_year_alone_and_an_address_with_a_district(server: National) -> None:
    (person,) = client(server).TraCuuThongTinCongDan(**CALL, **ASK_BA).CongDan
    assert (person.NgayThangNamSinh.Nam, person.NgayThangNamSinh.NgayThangNam) == ("1938", None)
    assert (person.ThuongTru.MaQuanHuyen, person.ThuongTru.MaPhuongXa, person.SoCMND) == ("772", "27232", None)


def test_the_profile_of_the_standard(server: National) -> None:
    found = client(server, "qcvn109").TraCuuThongTinCongDan(**CALL, **ASK_MAI)
    (person,) = found.CongDan
    assert person.NgayThangNamSinh.NgayThangNam.isoformat() == "1990-05-04"
    assert (person.DanToc.MaDanToc, person.TonGiao.MaTonGiao) == ("01", "00")
    assert (person.ThuongTru.MaDonViHanhChinh, person.QueQuan.MaDonViHanhChinh) == ("26740", "760")
    assert found.ThoiDiemDuLieu == datetime(2026, 10, 1, 8)  # noqa: DTZ001 - Vietnam time without a zone, as in the standard's example


def test_nobody_of_that_number_name_and_birth_is_an_empty_collection(server: National) -> None:
    for wrong in (
        {"SoDinhDanh": "079190999999"},
        {"HoVaTen": "NGUYỄN THỊ LAN"},
        {"NgayThangNamSinh": {"Nam": "1991"}},
        {"NgayThangNamSinh": {"NgayThangNam": "19900505"}},
    ):
        found = client(server).TraCuuThongTinCongDan(**CALL, **(ASK_MAI | wrong))
        assert (found.SoCongDan, found.CongDan) == (0, [])


def test_by_the_old_number_and_the_year(server: National) -> None:
    asked = {"SoCMND": MAI["old_identity_number"], "HoVaTen": "Nguyễn Thị Mai", "NgayThangNamSinh": {"Nam": "1990"}}
    assert client(server).TraCuuThongTinCongDan(**CALL, **asked).SoCongDan == 1


def test_verifying_says_yes_or_no_and_nothing_else(server: National) -> None:
    service = client(server)
    assert service.XacThucThongTinCongDan(**CALL, **ASK_MAI) is True
    assert service.XacThucThongTinCongDan(**CALL, **(ASK_MAI | {"HoVaTen": "NGUYỄN THỊ LAN"})) is False
    status, body = answered(server, request("XacThucThongTinCongDan"))
    assert status == 200
    assert MAI["full_name"].encode() not in body


def test_family_comes_without_the_rest_of_the_record(server: National) -> None:
    (person,) = client(server).XacMinhThongTinNhanThan(**CALL, **ASK_MAI).CongDan
    assert (person.Cha.SoDinhDanh, person.ThuongTru, person.DanToc) == ("079060000002", None, None)


def test_pages_of_a_period(server: National) -> None:
    start = datetime(2024, 1, 1, tzinfo=UTC)
    server.people(*({**BA, "personal_number": f"0790380010{n:02}", "as_of": (start + timedelta(days=n)).isoformat()} for n in range(5)))
    period = {"TuNgay": str(int(start.timestamp() * 1000)), "DenNgay": str(int((start + timedelta(days=4)).timestamp() * 1000)), "Loai": "1"}
    pages = [client(server).TraCuuThongTinCongDan(**CALL, **period, Trang=page, SoBanGhi=3) for page in (1, 2)]
    assert [[person.SoDinhDanh[-1] for person in page.CongDan] for page in pages] == [["0", "1", "2"], ["3"]]


def test_a_request_that_does_not_follow_the_schema_is_refused_without_being_quoted(server: National) -> None:
    asked = request(**(ASK_MAI | {"SoDinhDanh": "0791900000012"}))
    status, body = answered(server, asked)
    assert (status, faultcode(body)) == (500, "soapenv:Client")
    assert b"0791900000012" not in body
    assert server.processed() == 0


def test_requests_are_counted_where_they_arrive(server: National) -> None:
    service = client(server)
    for _ in range(2):
        service.TraCuuThongTinCongDan(**CALL, **ASK_MAI)
    service.XacThucThongTinCongDan(**(CALL | {"MaYeuCau": "2"}), **ASK_MAI)
    with urllib.request.urlopen(f"{server.address}/seen") as response:
        counts = json.load(response)
    assert counts == {"requests": 4, "processed": 3, "distinct": 2, "most_per_second": server.most_in_a_second(0.999)}
    (seen, *_) = server.seen("TraCuuThongTinCongDan")
    assert (seen["request_id"], seen["officer"], seen["unit"], seen["status"]) == (CALL["MaYeuCau"], "canbo01", "000.00.00.H29", 200)


def test_a_chunked_request_is_read(server: National) -> None:
    parts, body = urlsplit(server.url()), request()
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=10)
    _open.append(connection)
    connection.request("POST", parts.path, iter([body[:100], body[100:]]), encode_chunked=True, headers={"Transfer-Encoding": "chunked"})
    assert connection.getresponse().status == 200


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


# ------------------------------------------------------------------ the unit register
@pytest.fixture
def register(database: str, tmp_path: Path) -> Iterator[National]:
    with unit_register(tmp_path / "register", database) as server:
        yield server


def units(register: National, operation: str, **asked: str) -> list[dict[str, str]]:
    """The rows of an answer, read as its users read them."""
    answer = stock(f"{register.register_url}?wsdl")[operation](**asked)
    diffgram = answer._value_2
    return [{child.tag: child.text for child in row} for row in diffgram.iter("TABLE")]


def test_units_as_of_a_day(register: National) -> None:
    old = units(register, "DanhMucPhuongXa", DenNgay="01/12/2024")
    new = units(register, "DanhMucPhuongXa", DenNgay="01/07/2025")
    assert (len(old), len(new)) == (485, 168)
    (before,) = [row for row in old if row["MaPhuongXa"] == "27232"]
    (after,) = [row for row in new if row["MaPhuongXa"] == "27232"]
    assert (before["TenPhuongXa"], before["MaQuanHuyen"], before["TenQuanHuyen"]) == ("Phường 9", "772", "Quận 11")
    assert (after["TenPhuongXa"], after["MaTinh"], "MaQuanHuyen" in after, after["LoaiHinh"]) == ("Phường Bình Thới", "79", False, "Phường")
    assert len(units(register, "DanhMucPhuongXa", DenNgay="01/12/2024", Tinh="79", QuanHuyen="760")) == 10
    assert [row["MaTinh"] for row in units(register, "DanhMucTinh", DenNgay="30/06/2025")] == ["74", "77", "79"]
    assert [row["TenTinh"] for row in units(register, "DanhMucTinh", DenNgay="01/07/2025")] == ["Thành phố Hồ Chí Minh"]
    assert units(register, "DanhMucQuanHuyen", DenNgay="01/07/2025") == []


def test_a_day_that_is_none_is_refused(register: National) -> None:
    with pytest.raises(zeep.exceptions.Fault, match="DenNgay"):
        units(register, "DanhMucTinh", DenNgay="31/02/2025")


def test_moments_of_all_faults_are_known() -> None:
    assert {moment for moment, _ in KINDS.values()} == set(Moment)
