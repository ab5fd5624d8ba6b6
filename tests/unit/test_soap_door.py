"""The SOAP door without a network: the pinned contract, hostile answers, typed faults, and that nothing an answer said is repeated."""

from __future__ import annotations

import logging
import shutil
import socket
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from lxml import etree

from connectors import http, soap
from connectors.errors import FatalError, TransientError
from connectors.http import Answer, Busy, CredentialsRefused, Limits, Refused, UnknownOutcome
from connectors.soap import Contract, ContractChanged, SoapDoor, contract, opened
from connectors.soap_security import Proof
from lienthong.embedded.national import people, spoiled
from lienthong.embedded.national.envelope import serialised, wrapped
from tests.national_kit import ASK_MAI, CALL, MAI

PINNED = Path(soap.__file__).parent / "wsdl"
LOOK_UP, VERIFY = "TraCuuThongTinCongDan", "XacThucThongTinCongDan"
CANARY = MAI["full_name"]
NULLS = dict.fromkeys(["religion", "nationality", "home_place", "current_place", "mother", "spouse", "representative", "household"])


def answer_about(row: Mapping[str, Any] | None = MAI, profile: people.Profile = people.PRACTICE) -> bytes:
    """The bytes of an answer of the stand-in."""
    found = [] if row is None else [people.citizen({**NULLS, **row}, profile)]
    return serialised(wrapped(people.collection(found, request_id=CALL["MaYeuCau"], at=profile.time(datetime.now(UTC)))))


class Service:
    """Takes the place of the HTTP door: one answer, and what was sent."""

    def __init__(self, body: bytes, status: int = 200) -> None:
        self.body, self.status = body, status
        self.sent: list[bytes] = []
        self.headers: list[Mapping[str, str]] = []

    def send(self, _method: str, _path: str = "", *, headers: Mapping[str, str], content: bytes) -> Answer:
        self.sent.append(content)
        self.headers.append(headers)
        return Answer(self.status, {}, self.body)

    def close(self) -> None:
        """Nothing to drop."""


def call(body: bytes, *, status: int = 200, operation: str = LOOK_UP, proof: Proof | None = None, fields: Mapping[str, Any] | None = None) -> Any:
    door = SoapDoor("population", "http://127.0.0.1:9/population", proof=proof or Proof(), limits=Limits())
    door._http = Service(body, status)  # type: ignore[assignment]  # noqa: SLF001
    return door.call(operation, {**CALL, **(ASK_MAI if fields is None else fields)})


# ------------------------------------------------------------------ the contract
def test_the_pinned_files_are_loaded_from_disk_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere(*_: Any, **__: Any) -> None:
        raise AssertionError("the loader went to the network")

    monkeypatch.setattr(socket, "create_connection", nowhere)
    monkeypatch.setattr(socket, "getaddrinfo", nowhere)
    monkeypatch.setattr(socket.socket, "connect", nowhere)
    for name in ("population", "population_qcvn109", "unit_register"):
        Contract(name)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The pinned files, where a test may change them."""
    shutil.copytree(PINNED, tmp_path / "wsdl")
    return tmp_path / "wsdl"


def resealed(folder: Path) -> None:
    """Write the hashes anew, as somebody would who can change the files."""
    from hashlib import sha256

    names = [line.partition("  ")[2] for line in (folder / "SHA256SUMS").read_text().splitlines()]
    (folder / "SHA256SUMS").write_text("".join(f"{sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in names))


@pytest.mark.parametrize("name", ["population.wsdl", "population_answer.xsd"])
def test_a_changed_contract_stops_the_line(copy: Path, name: str) -> None:
    (copy / name).write_bytes((copy / name).read_bytes() + b"\n")
    with pytest.raises(ContractChanged) as caught:
        Contract("population", copy)
    assert isinstance(caught.value, FatalError)


@pytest.mark.parametrize("location", ["file:///etc/passwd", "http://elsewhere.invalid/x.xsd", "../../x.xsd", "/etc/passwd"])
def test_a_contract_that_points_elsewhere_is_not_followed(copy: Path, location: str) -> None:
    wsdl = copy / "population.wsdl"
    wsdl.write_text(wsdl.read_text("utf-8").replace("population_request.xsd", location), "utf-8")
    resealed(copy)
    with pytest.raises(ContractChanged, match="outside of its pinned files"):
        Contract("population", copy)


def test_the_address_in_the_contract_is_not_used() -> None:
    made = SoapDoor("population", "http://127.0.0.1:9/here", proof=Proof(), limits=Limits())
    assert made._http._base == "http://127.0.0.1:9/here"  # noqa: SLF001
    made.close()


def test_a_request_that_does_not_fit_never_leaves() -> None:
    service = Service(answer_about())
    door = SoapDoor("population", "http://127.0.0.1:9/", proof=Proof(), limits=Limits())
    door._http = service  # type: ignore[assignment]  # noqa: SLF001
    for fields in ({**ASK_MAI, "SoDinhDanh": "12345"}, {"SoDinhDanh": "079190000001"}, {**ASK_MAI, "Unknown": "1"}):
        with pytest.raises(Refused) as caught:
            door.call(LOOK_UP, {**CALL, **fields})
        assert caught.value.reason == "request"
        assert "12345" not in str(caught.value)
    assert service.sent == []


def test_the_parameters_travel_in_the_order_of_the_contract() -> None:
    envelope = contract("population").request(LOOK_UP, {**ASK_MAI, **dict(reversed(CALL.items()))})
    names = [etree.QName(element).localname for element in envelope[-1][0]]
    assert names == ["MaYeuCau", "MaDVC", "MaTichHop", "MaCanBo", "SoDinhDanh", "HoVaTen", "NgayThangNamSinh"]


def test_addressing_names_the_action_by_the_contract() -> None:
    assert contract("population").action(LOOK_UP) == f"http://dancuquocgia.bca/PopulationPort/{LOOK_UP}Request"
    assert contract("unit_register").action("DanhMucTinh") == "http://tempuri.org/DanhMucTinh"


# ------------------------------------------------------------------ answers that are fine
@pytest.mark.parametrize(("name", "profile"), [("population", people.PRACTICE), ("population_qcvn109", people.STANDARD)])
def test_an_answer_is_read(name: str, profile: people.Profile) -> None:
    envelope = opened(Answer(200, {}, answer_about(profile=profile)))
    found = contract(name).read(LOOK_UP, envelope)
    assert found["CongDan"][0]["HoVaTen"]["Ten"] == MAI["full_name"]
    assert found["SoCongDan"] == 1


# ------------------------------------------------------------------ faults, typed
def fault(code: str, text: str = CANARY) -> bytes:
    return (
        '<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body><s:Fault>'
        f"<faultcode>s:{code}</faultcode><faultstring>{text}</faultstring><detail><x>{text}</x></detail></s:Fault></s:Body></s:Envelope>"
    ).encode()


@pytest.mark.parametrize("status", [200, 500])
@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("Server.Busy", Busy),
        ("Client.Authentication", CredentialsRefused),
        ("MessageExpired", CredentialsRefused),
        ("Client", Refused),
        ("Client.NoSuchUnit", Refused),
        ("Server", UnknownOutcome),
        ("", UnknownOutcome),
        ("nguyễn thị mai 079190000001", UnknownOutcome),
    ],
)
def test_a_fault_is_typed_whatever_the_status(status: int, code: str, expected: type[Exception]) -> None:
    with pytest.raises(expected) as caught:
        call(fault(code), status=status)
    assert type(caught.value) is expected
    assert CANARY not in str(caught.value)
    assert MAI["personal_number"] not in str(caught.value)


def test_each_class_of_error_says_what_may_be_done() -> None:
    assert issubclass(http.NotSent, TransientError)
    assert issubclass(Busy, TransientError)
    assert not issubclass(UnknownOutcome, TransientError | FatalError)
    assert not issubclass(Refused, TransientError | FatalError)
    assert issubclass(CredentialsRefused, FatalError)


def test_a_fault_nobody_signed_proves_nothing_where_answers_are_signed() -> None:
    class Signed(Proof):
        signs_answers = True

    for code in ("Client", "Server.Busy", "Client.Authentication"):
        with pytest.raises(UnknownOutcome, match="not signed"):
            call(fault(code), proof=Signed())


@pytest.mark.parametrize("status", [401, 403])
def test_a_page_that_says_we_may_not_in_stops_the_line(status: int) -> None:
    with pytest.raises(CredentialsRefused):
        call(b"<html>no</html>", status=status)


# ------------------------------------------------------------------ what is no answer
NO_ANSWER = {
    "empty": b"",
    "html": b"<!DOCTYPE html><html><body>Runtime Error</body></html>",
    "xhtml": b"<html><body>Runtime Error</body></html>",
    "text": b"Service Unavailable",
    "cut": answer_about()[:-200],
    "no body": b'<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"/>',
    "empty body": b'<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body/></s:Envelope>',
    "two bodies": answer_about().replace(b"</soapenv:Body>", b"</soapenv:Body><soapenv:Body><a/></soapenv:Body>"),
    "two contents": answer_about().replace(b"</soapenv:Body>", b"<a/></soapenv:Body>"),
    "soap 1.2": answer_about().replace(b"http://schemas.xmlsoap.org/soap/envelope/", b"http://www.w3.org/2003/05/soap-envelope"),
    "utf-16": answer_about().decode().replace('encoding="UTF-8"', "").replace("encoding='UTF-8'", "").encode("utf-16"),
    "entities": spoiled.entities(answer_about(), {}),
    "external dtd": spoiled.external_dtd(answer_about(), {}),
    "attribute entities": answer_about().replace(b"?>", b'?><!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">]>', 1),
    "many elements": spoiled.many_elements(answer_about(), {"count": 900_000}),
    "deep": spoiled.deep(answer_about(), {"depth": 300}),
    "deeper": spoiled.deep(answer_about(), {"depth": 100_000}),
}


@pytest.mark.parametrize("body", NO_ANSWER.values(), ids=NO_ANSWER.keys())
def test_what_is_no_answer_is_an_unknown_outcome_and_never_no_such_person(body: bytes) -> None:
    with pytest.raises(UnknownOutcome):
        call(body)
    with pytest.raises(UnknownOutcome):
        call(body, status=500)


def inside(what: bytes) -> bytes:
    """An answer with something in the person's name, where it breaks no other rule before it is measured."""
    return answer_about().replace(CANARY.encode(), what)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (inside(b"<a/>" * 200_000), "more than 50,000 elements"),
        (inside(b"<a>" * 60 + b"</a>" * 60), "nested more than 40 deep"),
        (inside(b"&lt;!DOCTYPE"), ""),
        (spoiled.entities(answer_about(), {}), "a DTD"),
    ],
)
def test_each_limit_is_its_own(body: bytes, said: str) -> None:
    if not said:  # text about a DTD is no DTD
        assert call(body)["SoCongDan"] == 1
        return
    with pytest.raises(UnknownOutcome, match=said):
        call(body)


# ------------------------------------------------------------------ answers that do not follow the contract
def changed(change: Callable[[Any, Any], None], **argument: Any) -> bytes:
    root = etree.fromstring(answer_about())
    change(root, argument)
    return serialised(root)


NOT_FOLLOWING = {
    "missing name": changed(spoiled.missing),
    "missing number": changed(spoiled.missing, element="SoDinhDanh"),
    "missing birth": changed(spoiled.missing, element="NgayThangNamSinh"),
    "nil name": changed(spoiled.nil),
    "nil sex": changed(spoiled.nil, element="GioiTinh"),
    "extra": changed(spoiled.extra),
    "other message": serialised(wrapped(etree.Element("{urn:other}Thing"))),
    "number of letters": answer_about().replace(b"079190000001", b"O7919OOOOOO1"),
    "empty name": answer_about().replace(CANARY.encode(), b" "),
}


@pytest.mark.parametrize("body", NOT_FOLLOWING.values(), ids=NOT_FOLLOWING.keys())
def test_an_answer_that_does_not_follow_the_contract_is_refused(body: bytes) -> None:
    with pytest.raises(Refused) as caught:
        call(body)
    assert caught.value.reason == "answer"
    assert "O7919" not in str(caught.value)


def test_the_answer_of_another_operation_is_refused() -> None:
    with pytest.raises(Refused):
        call(answer_about(), operation=VERIFY)


# ------------------------------------------------------------------ nothing is told
def test_neither_requests_nor_answers_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        assert call(answer_about())["SoCongDan"] == 1
        with pytest.raises(Refused):
            call(changed(spoiled.extra))
    assert CANARY not in caplog.text
    assert MAI["personal_number"] not in caplog.text
    assert logging.getLogger("zeep.transports").getEffectiveLevel() == logging.WARNING


def test_a_refusal_carries_no_trace_of_the_answer() -> None:
    with pytest.raises(Refused) as caught:
        call(changed(spoiled.missing))
    assert caught.value.__cause__ is None
    assert CANARY not in repr(caught.value.args)
