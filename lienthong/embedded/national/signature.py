"""WS-Security signatures (X.509 token profile 1.1) with xmlsec: answers are signed, signed requests are verified."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from secrets import token_hex
from typing import Any

import xmlsec
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from lxml import etree
from xmlsec import constants

from lienthong.embedded.national.envelope import SOAP, WSA, WSSE, WSU, Element, SoapFault, header

DS = "http://www.w3.org/2000/09/xmldsig#"
X509 = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-x509-token-profile-1.0#X509v3"
BASE64 = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-soap-message-security-1.0#Base64Binary"
FRESH = timedelta(minutes=5)
_ID = f"{{{WSU}}}Id"
_BODY = f"{{{SOAP}}}Body"
_SHA256 = ("http://www.w3.org/2001/04/xmldsig-more#rsa-sha256", "http://www.w3.org/2001/04/xmlenc#sha256")
_EXCLUSIVE = "http://www.w3.org/2001/10/xml-exc-c14n#"


@dataclass(frozen=True, slots=True)
class Signer:
    """The key and certificate (PEM) a service signs its answers with."""

    key: bytes
    certificate: bytes

    def sign(self, envelope: Element, *, at: datetime, sha1: bool = False, with_body: bool = True) -> None:
        """Add a time stamp, the certificate and a signature over time stamp, Body and what it relates to."""
        security = etree.Element(f"{{{WSSE}}}Security", nsmap={"wsse": WSSE, "wsu": WSU})
        security.set(f"{{{SOAP}}}mustUnderstand", "1")
        header(envelope).append(security)
        token = etree.SubElement(security, f"{{{WSSE}}}BinarySecurityToken", EncodingType=BASE64, ValueType=X509)
        token.text = _bare(self.certificate)
        parts = [timestamp(security, at), *envelope.iter(f"{{{WSA}}}RelatesTo"), *([envelope.find(_BODY)] if with_body else [])]
        names = [_named(part) for part in parts]
        signature = _template(envelope, names, sha1)
        reference = etree.SubElement(
            etree.SubElement(xmlsec.template.ensure_key_info(signature), f"{{{WSSE}}}SecurityTokenReference"), f"{{{WSSE}}}Reference"
        )
        reference.set("URI", f"#{_named(token)}")
        reference.set("ValueType", X509)
        security.append(signature)
        made: Any = xmlsec.SignatureContext()
        made.key = xmlsec.Key.from_memory(self.key, constants.KeyDataFormatPem)
        for part in parts:
            made.register_id(part, "Id", WSU)
        made.sign(signature)


def timestamp(security: Element, at: datetime) -> Element:
    """A time stamp in a security header, good for five minutes."""
    made = etree.SubElement(security, f"{{{WSU}}}Timestamp")
    etree.SubElement(made, f"{{{WSU}}}Created").text = f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}"[:-3] + "Z"
    etree.SubElement(made, f"{{{WSU}}}Expires").text = f"{(at + FRESH).astimezone(UTC):%Y-%m-%dT%H:%M:%S}Z"
    return made


def fresh(security: Element, now: datetime) -> None:
    """Raise `SoapFault` when a Created below is missing or more than five minutes from now."""
    created = next(security.iter(f"{{{WSU}}}Created"), None)
    try:
        at = datetime.fromisoformat(created.text.strip()) if created is not None and created.text else None
    except ValueError:
        at = None
    if at is None or at.tzinfo is None or abs(at - now) > FRESH:
        raise SoapFault("Client.Authentication", "MessageExpired: no time stamp of the last five minutes")


def verified(envelope: Element, accounts: Sequence[tuple[str, str]], now: datetime) -> str:
    """The account (name, PEM certificate) that signed a request's Body and time stamp. Raises `SoapFault`."""
    signatures = list(envelope.iter(f"{{{DS}}}Signature"))
    body = envelope.find(_BODY)
    if len(signatures) != 1 or len(list(envelope.iter(_BODY))) != 1:
        raise SoapFault("Client.Authentication", "FailedAuthentication: one Body and one signature")
    security = signatures[0].getparent()
    stamp = security.find(f"{{{WSU}}}Timestamp")
    if security.tag != f"{{{WSSE}}}Security" or stamp is None:
        raise SoapFault("Client.Authentication", "FailedAuthentication: the signature and its time stamp are in the Security header")
    _covers(signatures[0], (body, stamp))
    name = _signer(envelope, security, accounts)
    fresh(stamp, now)
    return name


def _covers(signature: Element, parts: Sequence[Element]) -> None:
    references = {one.get("URI") for one in signature.iter(f"{{{DS}}}Reference")}
    if not {f"#{part.get(_ID)}" for part in parts} <= references:
        raise SoapFault("Client.Authentication", "FailedAuthentication: Body and Timestamp are signed")
    used = {one.get("Algorithm") for tag in ("SignatureMethod", "DigestMethod") for one in signature.iter(f"{{{DS}}}{tag}")}
    changed = {one.get("Algorithm") for tag in ("CanonicalizationMethod", "Transform") for one in signature.iter(f"{{{DS}}}{tag}")}
    if not used <= set(_SHA256) or changed != {_EXCLUSIVE}:
        raise SoapFault("Client.Authentication", "UnsupportedAlgorithm: RSA with SHA-256 and exclusive canonicalisation only")


def _signer(envelope: Element, security: Element, accounts: Sequence[tuple[str, str]]) -> str:
    """The account whose certificate is the token of the request and fits its signature."""
    token = "".join((security.findtext(f"{{{WSSE}}}BinarySecurityToken") or "").split())
    for name, certificate in accounts:
        if _bare(certificate.encode()) != token:
            continue
        context: Any = xmlsec.SignatureContext()
        context.key = xmlsec.Key.from_memory(certificate, constants.KeyDataFormatCertPem)
        for element in envelope.iter():
            if element.get(_ID) is not None:
                context.register_id(element, "Id", WSU)
        try:
            context.verify(security.find(f"{{{DS}}}Signature"))
        except xmlsec.Error:
            break
        return name
    raise SoapFault("Client.Authentication", "FailedCheck: the signature does not fit a known certificate")


def _template(envelope: Element, names: Sequence[str], sha1: bool) -> Element:
    method = constants.TransformRsaSha1 if sha1 else constants.TransformRsaSha256
    digest = constants.TransformSha1 if sha1 else constants.TransformSha256
    signature = xmlsec.template.create(envelope, constants.TransformExclC14N, method)
    for name in names:
        reference = xmlsec.template.add_reference(signature, digest, uri=f"#{name}")
        xmlsec.template.add_transform(reference, constants.TransformExclC14N)
    return signature


def _named(element: Element) -> str:
    name = element.get(_ID)
    if name is None:
        name = f"id-{token_hex(8)}"
        element.set(_ID, name)
    return str(name)


def _bare(certificate: bytes) -> str:
    """The base64 of a PEM certificate, on one line."""
    text = x509.load_pem_x509_certificate(certificate).public_bytes(Encoding.PEM).decode()
    return "".join(text.splitlines()[1:-1])
