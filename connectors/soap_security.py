"""How we prove to a SOAP service who we are, one class for each profile met in the field, and how its signed answers are proven to us."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import xmlsec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding
from lxml import etree
from xmlsec import constants
from zeep.wsse.signature import BinarySignature
from zeep.wsse.username import UsernameToken
from zeep.wsse.utils import get_security_header

from connectors.errors import ConfigError
from connectors.http import UnknownOutcome

SOAP = "http://schemas.xmlsoap.org/soap/envelope/"
WSSE = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd"
WSU = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-utility-1.0.xsd"
WSA = "http://www.w3.org/2005/08/addressing"
DS = "http://www.w3.org/2000/09/xmldsig#"
FRESH = timedelta(minutes=5)

Element = Any
"""An lxml element; the library ships no types."""

_ID = f"{{{WSU}}}Id"
_IDS = (_ID, "{http://www.w3.org/XML/1998/namespace}id", "Id", "ID")
_EXCLUSIVE = "http://www.w3.org/2001/10/xml-exc-c14n#"
_DIGESTS = {"http://www.w3.org/2001/04/xmlenc#sha256", "http://www.w3.org/2001/04/xmlenc#sha512"}
_SIGNATURES = {
    f"http://www.w3.org/2001/04/xmldsig-more#{name}" for name in ("rsa-sha256", "rsa-sha384", "rsa-sha512", "ecdsa-sha256", "ecdsa-sha384")
}


class Distrusted(UnknownOutcome):
    """The answer's signature does not prove that the service said this, now, to us."""

    code = "LT-NAT-008"


class Proof:
    """Anybody may ask: the base of all profiles."""

    signs_answers = False

    def headers(self, path: str) -> dict[str, str]:
        """HTTP headers of a request to this path."""
        del path
        return {}

    def secure(self, envelope: Element, message_id: str, action: str) -> None:
        """Put into the envelope what proves it."""
        del envelope, message_id, action

    def check(self, envelope: Element, message_id: str) -> None:
        """Raise `Distrusted` when an answer is not proven as this profile wants it."""
        del envelope, message_id


class HmacHeader(Proof):
    """`Timestamp` in milliseconds, and a hash over path, user, time and secret (domain.md §4.1)."""

    def __init__(self, user: str, secret: str) -> None:
        self._user, self._secret = user, secret

    def headers(self, path: str) -> dict[str, str]:
        """`Authorization: Basic base64(user:sha256hex(path+user+timestamp+secret))`."""
        stamp = str(time.time_ns() // 1_000_000)
        digest = hashlib.sha256(f"{path}{self._user}{stamp}{self._secret}".encode()).hexdigest()
        return {"timestamp": stamp, "authorization": "Basic " + base64.b64encode(f"{self._user}:{digest}".encode()).decode()}


class AccessToken(Proof):
    """One fixed token header, as platforms of provinces want it: base64 of a JSON object with keys, application and partner codes."""

    def __init__(self, token: str) -> None:
        self._token = token

    @classmethod
    def of(cls, parts: Mapping[str, str]) -> AccessToken:
        """From its parts: AccessKey, SecretKey, AppName, PartnerCode, PartnerCodeCus."""
        return cls(base64.b64encode(json.dumps(dict(parts)).encode()).decode())

    def headers(self, path: str) -> dict[str, str]:
        """`lgspaccesstoken`."""
        del path
        return {"lgspaccesstoken": self._token}


class XRoad(Proof):
    """The name our security server knows us by; the secure channel is the platform's own (X-Road message protocol for REST)."""

    def __init__(self, client: str, api_key: str | None = None, service: str | None = None) -> None:
        self._client, self._api_key, self._service = client, api_key, service

    def headers(self, path: str) -> dict[str, str]:
        """`X-Road-Client`, and where the service wants them `X-Road-Service` and `ApiKey`."""
        del path
        wanted = {"x-road-client": self._client, "x-road-service": self._service, "apikey": self._api_key}
        return {name: value for name, value in wanted.items() if value is not None}


class UserName(Proof):
    """WS-Security user name token with a digest of the password, a nonce and a time (token profile 1.1)."""

    def __init__(self, user: str, secret: str) -> None:
        self._user, self._secret = user, secret

    def secure(self, envelope: Element, message_id: str, action: str) -> None:
        """Add the token."""
        del message_id, action
        UsernameToken(self._user, self._secret, use_digest=True).apply(envelope, {})


class Signature(Proof):
    """WS-Security X.509 signature with SHA-256 over body and time stamp, wanted of answers too.

    `authority` is a PEM file: certificates that may sign answers or issue such ones, and a revocation list if there is one.
    """

    signs_answers = True

    def __init__(self, key_file: str, certificate_file: str, authority_file: str) -> None:
        try:
            self._signer = BinarySignature(
                key_file, certificate_file, signature_method=constants.TransformRsaSha256, digest_method=constants.TransformSha256
            )
            self._authorities = Authorities(Path(authority_file).read_bytes())
        except (OSError, ValueError) as error:
            raise ConfigError(f"key, certificate or authority of the signature cannot be read ({type(error).__name__})") from None

    def secure(self, envelope: Element, message_id: str, action: str) -> None:
        """Add Action (WS-Addressing wants one beside every MessageID), MessageID, time stamp and signature."""
        security = get_security_header(envelope)
        for name, value in (("Action", action), ("MessageID", message_id)):
            etree.SubElement(security.getparent(), f"{{{WSA}}}{name}", nsmap={"wsa": WSA}).text = value
        stamp, now = etree.SubElement(security, f"{{{WSU}}}Timestamp"), datetime.now(UTC)
        for name, at in (("Created", now), ("Expires", now + FRESH)):
            etree.SubElement(stamp, f"{{{WSU}}}{name}").text = f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03}Z"
        self._signer.apply(envelope, {})

    def check(self, envelope: Element, message_id: str) -> None:
        """One signature, of a certificate we accept, over the one body, a fresh time stamp and our own MessageID."""
        verified(envelope, self._authorities, message_id, datetime.now(UTC))


# ------------------------------------------------------------------ whose certificates
class Authorities:
    """Certificates that may sign, or issue those that may, with what was revoked."""

    def __init__(self, pem: bytes) -> None:
        self._trusted = x509.load_pem_x509_certificates(pem)
        lists = [b"-----BEGIN X509 CRL" + part for part in pem.split(b"-----BEGIN X509 CRL")[1:]]
        self._revoked = [x509.load_pem_x509_crl(part) for part in lists]

    def check(self, certificate: x509.Certificate, now: datetime) -> None:
        """Raise `Distrusted` for a certificate that is out of date, revoked, or of nobody we trust."""
        if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
            raise Distrusted("the certificate of the answer's signature has expired or is not valid yet")
        if any(found.get_revoked_certificate_by_serial_number(certificate.serial_number) for found in self._of(certificate)):
            raise Distrusted("the certificate of the answer's signature was revoked")
        if not any(one == certificate or _issued(certificate, one, now) for one in self._trusted):
            raise Distrusted("the certificate of the answer's signature is not of an authority we trust")

    def _of(self, certificate: x509.Certificate) -> list[x509.CertificateRevocationList]:
        return [found for found in self._revoked if found.issuer == certificate.issuer]


def _issued(certificate: x509.Certificate, by: x509.Certificate, now: datetime) -> bool:
    """Whether a certificate was issued by an authority that is valid now."""
    try:
        if not by.extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
            return False
        certificate.verify_directly_issued_by(by)
    except (x509.ExtensionNotFound, ValueError, TypeError, InvalidSignature):
        return False
    return by.not_valid_before_utc <= now <= by.not_valid_after_utc


# ------------------------------------------------------------------ what a signature covers
def verified(envelope: Element, authorities: Authorities, message_id: str, now: datetime) -> None:
    """Check all that WS-Security leaves to the reader; raises `Distrusted`.

    A signature names what it covers by id. So that the element it covers is the element that is read (no wrapping): one body, one signature in the
    place where it belongs, ids that occur once, and body, time stamp and RelatesTo themselves among what is named.
    """
    header = _single(envelope, f"{{{SOAP}}}Header", envelope)
    security = _single(envelope, f"{{{WSSE}}}Security", header)
    signature = _single(envelope, f"{{{DS}}}Signature", security)
    stamp = _single(envelope, f"{{{WSU}}}Timestamp", security)
    relation = _single(envelope, f"{{{WSA}}}RelatesTo", header)
    body = _single(envelope, f"{{{SOAP}}}Body", envelope)
    _check_algorithms(signature)
    _check_covered(envelope, signature, (body, stamp, relation))
    certificate = _certificate(security)
    authorities.check(certificate, now)
    _check_value(envelope, signature, certificate)
    _check_fresh(stamp, now)
    if (relation.text or "").strip() != message_id:
        raise Distrusted("the answer belongs to another request")


def _single(envelope: Element, tag: str, parent: Element) -> Element:
    found = list(envelope.iter(tag))
    if len(found) != 1 or found[0].getparent() is not parent:
        raise Distrusted(f"the answer has not exactly one {etree.QName(tag).localname} in its place")
    return found[0]


def _check_algorithms(signature: Element) -> None:
    def used(name: str) -> set[str]:
        return {found.get("Algorithm", "") for found in signature.iter(f"{{{DS}}}{name}")}

    safe = used("CanonicalizationMethod") | used("Transform") == {_EXCLUSIVE} and used("SignatureMethod") <= _SIGNATURES
    if not safe or not used("DigestMethod") <= _DIGESTS:
        raise Distrusted("the answer is signed by an algorithm that is not accepted (SHA-256 or more, exclusive canonicalisation)")


def _check_covered(envelope: Element, signature: Element, parts: Sequence[Element]) -> None:
    ids = [value for found in envelope.iter() for value in map(found.get, _IDS) if value is not None]
    references = [found.get("URI", "") for found in signature.iter(f"{{{DS}}}Reference")]
    wanted = {f"#{part.get(_ID, '')}" for part in parts}
    if len(set(ids)) != len(ids) or len(set(references)) != len(references):
        raise Distrusted("the answer names an id twice")
    if len(wanted) != len(parts) or "#" in wanted or not wanted <= set(references):
        raise Distrusted("the answer's signature does not cover its body, time stamp and RelatesTo")


def _certificate(security: Element) -> x509.Certificate:
    token = security.findtext(f"{{{WSSE}}}BinarySecurityToken") or ""
    try:
        return x509.load_der_x509_certificate(base64.b64decode("".join(token.split()), validate=True))
    except ValueError:
        raise Distrusted("the answer brings no certificate") from None


def _check_value(envelope: Element, signature: Element, certificate: x509.Certificate) -> None:
    context: Any = xmlsec.SignatureContext()
    try:
        context.key = xmlsec.Key.from_memory(certificate.public_bytes(Encoding.PEM), constants.KeyDataFormatCertPem)
        for named in envelope.iter():
            if named.get(_ID) is not None:
                context.register_id(named, "Id", WSU)
        context.verify(signature)
    except xmlsec.Error:
        raise Distrusted("the answer's signature is wrong") from None


def _check_fresh(stamp: Element, now: datetime) -> None:
    try:
        created, expires = (datetime.fromisoformat((stamp.findtext(f"{{{WSU}}}{name}") or "").strip()) for name in ("Created", "Expires"))
        fresh = abs(created - now) <= FRESH and now <= expires + FRESH
    except (ValueError, TypeError):  # no time, or one without a zone
        fresh = False
    if not fresh:
        raise Distrusted("the answer's time stamp is not of the last five minutes; look at the clock of this machine")
