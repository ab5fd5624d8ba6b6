"""How we prove ourselves, checked by the stand-in's own reader; and signed answers, honest and forged, made by its signer."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from lxml import etree

from connectors.errors import ConfigError
from connectors.http import UnknownOutcome
from connectors.soap import contract
from connectors.soap_security import WSA, WSU, AccessToken, Authorities, Distrusted, HmacHeader, Proof, Signature, UserName, XRoad, verified
from lienthong import config_national as config
from lienthong.embedded.national import authentication, envelope, people, signature, spoiled
from lienthong.embedded.national.envelope import SoapFault
from lienthong.embedded.national.signature import Signer
from lienthong.embedded.national.wire import Request
from lienthong.national.population import proof_of
from tests.national_kit import ASK_MAI, CALL, MAI, Authority

MESSAGE = "urn:uuid:5b9e0c0e-0000-4000-8000-000000000001"
ACTION = "http://dancuquocgia.bca/PopulationPort/XacThucThongTinCongDanRequest"
COLUMNS = ("religion", "nationality", "home_place", "current_place", "mother", "spouse", "representative", "household")


class Accounts:
    """Takes the place of the stand-in's store."""

    def __init__(self, name: str = "us", secret: str | None = "secret", certificate: str | None = None) -> None:
        self._known, self._nonces = {name: (secret, certificate)}, set[str]()

    def account(self, name: str) -> tuple[str | None, str | None] | None:
        return self._known.get(name)

    def certificates(self) -> list[tuple[str, str]]:
        return [(name, certificate) for name, (_, certificate) in self._known.items() if certificate]

    def nonce_is_new(self, value: str) -> bool:
        is_new = value not in self._nonces
        self._nonces.add(value)
        return is_new


def arrives(proof: Proof, profile: str, accounts: Accounts, path: str = "/population") -> str | None:
    """A request of ours, as the stand-in lets it in."""
    made = contract("population").request("XacThucThongTinCongDan", {**CALL, **ASK_MAI})
    proof.secure(made, MESSAGE, ACTION)
    asked = Request(method="POST", path=path, query="", headers=proof.headers(path), body=b"", address="")
    read = etree.fromstring(etree.tostring(made))
    return authentication.PROFILES[profile](asked, read, accounts, datetime.now(UTC))  # type: ignore[arg-type]


# ------------------------------------------------------------------ ours
def test_the_hash_header_is_let_in_and_is_bound_to_path_time_and_secret() -> None:
    assert arrives(HmacHeader("us", "secret"), "hmac", Accounts()) == "us"
    with pytest.raises(SoapFault):
        arrives(HmacHeader("us", "other"), "hmac", Accounts())
    proof = HmacHeader("us", "secret")
    headers = proof.headers("/population")
    assert "secret" not in base64.b64decode(headers["authorization"].removeprefix("Basic ")).decode()
    moved = Request(method="POST", path="/other", query="", headers=headers, body=b"", address="")
    with pytest.raises(SoapFault):
        authentication.time_stamped(moved, None, Accounts(), datetime.now(UTC))  # type: ignore[arg-type]


def test_the_access_token_is_let_in() -> None:
    token = AccessToken.of({"AccessKey": "us", "SecretKey": "secret", "AppName": "app", "PartnerCode": "p", "PartnerCodeCus": "c"})
    assert arrives(token, "access-token", Accounts()) == "us"
    assert json.loads(base64.b64decode(token.headers("/")["lgspaccesstoken"]))["AppName"] == "app"


def test_the_names_of_the_exchange_platform_are_sent() -> None:
    client = "VN/GOV/H29/lienthong"
    assert arrives(XRoad(client, "secret"), "x-road", Accounts(client)) == client
    assert arrives(XRoad(client), "x-road", Accounts(client, None)) == client
    assert XRoad(client, service="VN/GOV/BCA/dancu").headers("/") == {"x-road-client": client, "x-road-service": "VN/GOV/BCA/dancu"}


def test_the_user_name_token_is_let_in_and_never_the_same_twice() -> None:
    accounts = Accounts()
    assert arrives(UserName("us", "secret"), "wsse-username", accounts) == "us"
    assert arrives(UserName("us", "secret"), "wsse-username", accounts) == "us"
    with pytest.raises(SoapFault):
        arrives(UserName("us", "other"), "wsse-username", accounts)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def ours(authority: Authority) -> tuple[Path, Path]:
    return authority.issue("us")


@pytest.fixture(scope="module")
def theirs(authority: Authority) -> tuple[Path, Path]:
    return authority.issue("service")


def test_our_signature_is_let_in_with_sha256(authority: Authority, ours: tuple[Path, Path]) -> None:
    proof = Signature(str(ours[0]), str(ours[1]), str(authority.ca))
    assert arrives(proof, "wsse-x509", Accounts("us", None, ours[1].read_text())) == "us"
    made = contract("population").request("XacThucThongTinCongDan", {**CALL, **ASK_MAI})
    proof.secure(made, MESSAGE, ACTION)
    used = {found.get("Algorithm") for name in ("SignatureMethod", "DigestMethod") for found in made.iter(f"{{*}}{name}")}
    assert used == {"http://www.w3.org/2001/04/xmldsig-more#rsa-sha256", "http://www.w3.org/2001/04/xmlenc#sha256"}


def test_each_configured_kind_becomes_its_proof(authority: Authority, ours: tuple[Path, Path]) -> None:
    kinds: list[tuple[config.Auth, type[Proof]]] = [
        (config.Hmac(kind="hmac", user="us", secret="s"), HmacHeader),
        (config.AccessToken(kind="access-token", token="t"), AccessToken),
        (config.XRoad(kind="x-road", client="c", service="s"), XRoad),
        (config.WsseUsername(kind="wsse-username", user="us", secret="s"), UserName),
        (config.WsseX509(kind="wsse-x509", key=str(ours[0]), certificate=str(ours[1]), authority=str(authority.ca)), Signature),
    ]
    for configured, kind in kinds:
        assert type(proof_of(configured)) is kind
    assert type(proof_of(None)) is Proof


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_a_file_that_cannot_be_read_is_a_wrong_configuration(authority: Authority, ours: tuple[Path, Path], tmp_path: Path, missing: int) -> None:
    files = [str(ours[0]), str(ours[1]), str(authority.ca)]
    files[missing] = str(tmp_path / "nothing.pem")
    with pytest.raises(ConfigError):
        Signature(*files)


# ------------------------------------------------------------------ theirs
def answer(signer: tuple[Path, Path], *, related: str = MESSAGE, at: datetime | None = None, before: Any = None, **how: bool) -> Any:
    """A signed answer, read again from its bytes."""
    citizen = people.citizen({**dict.fromkeys(COLUMNS), **MAI}, people.PRACTICE)
    made = envelope.wrapped(people.collection([citizen], request_id="r", at="2026-10-01T00:00:00+07:00"))
    etree.SubElement(envelope.header(made), f"{{{WSA}}}RelatesTo", nsmap={"wsa": WSA}).text = related
    if before is not None:
        before(made)
    Signer(signer[0].read_bytes(), signer[1].read_bytes()).sign(made, at=at or datetime.now(UTC), **how)
    return made


def check(made: Any, authority: Authority | bytes, now: datetime | None = None) -> None:
    trusted = authority if isinstance(authority, bytes) else authority.ca.read_bytes()
    verified(etree.fromstring(etree.tostring(made)), Authorities(trusted), MESSAGE, now or datetime.now(UTC))


def test_an_honest_answer_is_proven(authority: Authority, theirs: tuple[Path, Path]) -> None:
    check(answer(theirs), authority)
    check(answer(theirs), theirs[1].read_bytes())  # the signer's own certificate is the trusted one


def remove(path: str) -> Callable[[Any], None]:
    def change(made: Any) -> None:
        for found in list(made.iter(path)):
            found.getparent().remove(found)

    return change


def move_to_wrapper(name: str) -> Callable[[Any], None]:
    """The signed element goes into a header where its reference still finds it, a changed copy takes its place."""

    def change(made: Any) -> None:
        signed = next(made.iter(name))
        parent, index = signed.getparent(), signed.getparent().index(signed)
        forged = deepcopy(signed)
        forged.attrib.pop(f"{{{WSU}}}Id", None)
        etree.SubElement(envelope.header(made), "{urn:wrapper}Wrapper").append(signed)
        parent.insert(index, forged)

    return change


def moved(name: str) -> Callable[[Any], None]:
    """The signed element alone goes elsewhere: the signature is still right."""

    def change(made: Any) -> None:
        etree.SubElement(envelope.header(made), "{urn:wrapper}Wrapper").append(next(made.iter(name)))

    return change


def same_id_twice(made: Any) -> None:
    body = made.find(f"{{{envelope.SOAP}}}Body")
    etree.SubElement(envelope.header(made), "{urn:x}X").set(f"{{{WSU}}}Id", body.get(f"{{{WSU}}}Id"))


def renamed_id(made: Any) -> None:
    made.find(f"{{{envelope.SOAP}}}Body").set(f"{{{WSU}}}Id", "id-other")


def xml_id(made: Any) -> None:
    """A second element that a reader of plain xml:id would take for the signed one."""
    body = made.find(f"{{{envelope.SOAP}}}Body")
    etree.SubElement(envelope.header(made), "{urn:x}X").set("{http://www.w3.org/XML/1998/namespace}id", body.get(f"{{{WSU}}}Id"))


def second_signature(made: Any) -> None:
    found = next(made.iter(f"{{{signature.DS}}}Signature"))
    found.addnext(deepcopy(found))


def no_exclusive(made: Any) -> None:
    next(made.iter(f"{{{signature.DS}}}CanonicalizationMethod")).set("Algorithm", "http://www.w3.org/TR/2001/REC-xml-c14n-20010315")


def xslt(made: Any) -> None:
    next(made.iter(f"{{{signature.DS}}}Transform")).set("Algorithm", "http://www.w3.org/TR/1999/REC-xslt-19991116")


FORGED: dict[str, Callable[[Any], None]] = {
    "body changed": lambda made: spoiled.wrong_signature(made, {}),
    "body wrapped": lambda made: spoiled.wrapped_signature(made, {}),
    "two bodies": lambda made: spoiled.two_bodies(made, {}),
    "time stamp wrapped": move_to_wrapper(f"{{{WSU}}}Timestamp"),
    "relation wrapped": move_to_wrapper(f"{{{WSA}}}RelatesTo"),
    "time stamp moved": moved(f"{{{WSU}}}Timestamp"),
    "relation moved": moved(f"{{{WSA}}}RelatesTo"),
    "no signature": remove(f"{{{signature.DS}}}Signature"),
    "no security": spoiled.unsigned,
    "no time stamp": remove(f"{{{WSU}}}Timestamp"),
    "no relation": remove(f"{{{WSA}}}RelatesTo"),
    "no certificate": remove("{*}BinarySecurityToken"),
    "id twice": same_id_twice,
    "id as xml:id": xml_id,
    "body not referenced": renamed_id,
    "two signatures": second_signature,
    "other canonicalisation": no_exclusive,
    "xslt": xslt,
}


@pytest.mark.parametrize("change", FORGED.values(), ids=FORGED.keys())
def test_a_forged_answer_is_not_believed(authority: Authority, theirs: tuple[Path, Path], change: Callable[[Any], None]) -> None:
    made = answer(theirs)
    change(made)
    with pytest.raises(Distrusted) as caught:
        check(made, authority)
    assert isinstance(caught.value, UnknownOutcome)


@pytest.mark.parametrize("change", [same_id_twice, xml_id])
def test_an_id_that_names_two_elements_is_seen_before_the_signature(
    authority: Authority, theirs: tuple[Path, Path], change: Callable[[Any], None]
) -> None:
    made = answer(theirs)
    change(made)
    with pytest.raises(Distrusted, match="an id twice"):
        check(made, authority)


def test_a_body_that_only_has_an_id_is_not_signed(authority: Authority, theirs: tuple[Path, Path]) -> None:
    made = answer(theirs, with_body=False)
    made.find(f"{{{envelope.SOAP}}}Body").set(f"{{{WSU}}}Id", "id-body")
    with pytest.raises(Distrusted, match="does not cover"):
        check(made, authority)


def test_a_signature_that_leaves_something_out_is_not_believed(authority: Authority, theirs: tuple[Path, Path]) -> None:
    with pytest.raises(Distrusted, match="does not cover"):
        check(answer(theirs, with_body=False), authority)


def test_sha1_is_not_believed(authority: Authority, theirs: tuple[Path, Path]) -> None:
    with pytest.raises(Distrusted, match="algorithm"):
        check(answer(theirs, sha1=True), authority)


@pytest.mark.parametrize("minutes", [-6, 6])
def test_an_answer_of_another_time_is_not_believed(authority: Authority, theirs: tuple[Path, Path], minutes: int) -> None:
    with pytest.raises(Distrusted, match="clock"):
        check(answer(theirs, at=datetime.now(UTC) + timedelta(minutes=minutes)), authority)


def test_an_answer_to_another_request_is_not_believed(authority: Authority, theirs: tuple[Path, Path]) -> None:
    with pytest.raises(Distrusted, match="another request"):
        check(answer(theirs, related="urn:uuid:another"), authority)


def test_a_certificate_of_nobody_we_know_is_not_believed(authority: Authority, tmp_path: Path) -> None:
    other = Authority(tmp_path, "Test authority")  # of the same name
    with pytest.raises(Distrusted, match="authority"):
        check(answer(other.issue("service")), authority)


def test_an_expired_certificate_is_not_believed(authority: Authority) -> None:
    with pytest.raises(Distrusted, match="expired"):
        check(answer(authority.issue("late", expired=True)), authority)


def test_one_who_was_certified_certifies_nobody(authority: Authority, ours: tuple[Path, Path], tmp_path: Path) -> None:
    """A certificate made with our key, of which the trusted file holds the certificate: trusted itself, but no authority."""
    issuer = x509.load_pem_x509_certificate(ours[1].read_bytes())
    key = serialization.load_pem_private_key(ours[0].read_bytes(), None)
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(authority_name("forged")).issuer_name(issuer.subject).serial_number(7)
    builder = builder.public_key(key.public_key()).not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(hours=1))  # type: ignore[arg-type]
    made = builder.sign(key, hashes.SHA256())  # type: ignore[arg-type]
    (tmp_path / "forged.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    made.verify_directly_issued_by(issuer)
    with pytest.raises(Distrusted, match="authority"):
        check(answer((ours[0], tmp_path / "forged.pem")), ours[1].read_bytes())


def authority_name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])


def test_a_revoked_certificate_is_not_believed(authority: Authority, theirs: tuple[Path, Path]) -> None:
    issuer = x509.load_pem_x509_certificate(authority.ca.read_bytes())
    certificate, now = x509.load_pem_x509_certificate(theirs[1].read_bytes()), datetime.now(UTC)
    builder = x509.CertificateRevocationListBuilder().issuer_name(issuer.subject).last_update(now - timedelta(hours=1))
    revoked = x509.RevokedCertificateBuilder().serial_number(certificate.serial_number).revocation_date(now).build()
    listed = builder.next_update(now + timedelta(days=1)).add_revoked_certificate(revoked).sign(authority._key, hashes.SHA256())  # noqa: SLF001
    with pytest.raises(Distrusted, match="revoked"):
        check(answer(theirs), authority.ca.read_bytes() + listed.public_bytes(serialization.Encoding.PEM))
