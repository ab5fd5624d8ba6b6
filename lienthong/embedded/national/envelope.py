"""SOAP 1.1 envelopes: made, read, and the fault that refuses a request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lxml import etree

SOAP = "http://schemas.xmlsoap.org/soap/envelope/"
WSSE = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd"
WSU = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-utility-1.0.xsd"
WSA = "http://www.w3.org/2005/08/addressing"

Element = Any
"""An lxml element; the library ships no types."""


class SoapFault(Exception):
    """What the service answers instead of a result: fault code (SOAP 1.1 §4.4.1), text, HTTP status, headers."""

    def __init__(self, code: str, text: str, *, status: int = 500, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(text)
        self.code, self.text, self.status, self.headers = code, text, status, dict(headers or {})


def parsed(content: bytes) -> Element:
    """The root of an XML document; nothing outside it is ever loaded. Raises `SoapFault`."""
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, remove_comments=True, remove_pis=True)
    try:
        return etree.fromstring(content, parser)
    except etree.XMLSyntaxError:
        raise SoapFault("Client", "the request is not XML") from None


def payload(envelope: Element) -> Element:
    """The one element in the one Body of an envelope. Raises `SoapFault`."""
    if envelope.tag != f"{{{SOAP}}}Envelope":
        raise SoapFault("VersionMismatch", "the request is not a SOAP 1.1 envelope")
    bodies = list(envelope.iter(f"{{{SOAP}}}Body"))
    if len(bodies) != 1 or bodies[0].getparent() is not envelope or len(bodies[0]) != 1:
        raise SoapFault("Client", "a request has one Body with one element")
    return bodies[0][0]


def wrapped(content: Element) -> Element:
    """A new envelope around one element."""
    envelope = etree.Element(f"{{{SOAP}}}Envelope", nsmap={"soapenv": SOAP})
    etree.SubElement(envelope, f"{{{SOAP}}}Header")
    etree.SubElement(envelope, f"{{{SOAP}}}Body").append(content)
    return envelope


def header(envelope: Element) -> Element:
    """The Header of an envelope, made if there is none."""
    found = envelope.find(f"{{{SOAP}}}Header")
    if found is None:
        found = etree.Element(f"{{{SOAP}}}Header")
        envelope.insert(0, found)
    return found


def fault(code: str, text: str) -> Element:
    """A Fault element."""
    element = etree.Element(f"{{{SOAP}}}Fault", nsmap={"soapenv": SOAP})
    etree.SubElement(element, "faultcode").text = f"soapenv:{code}"
    etree.SubElement(element, "faultstring").text = text
    return element


def serialised(envelope: Element) -> bytes:
    """The bytes of an envelope, in UTF-8 with declaration."""
    written: bytes = etree.tostring(envelope, xml_declaration=True, encoding="UTF-8")
    return written


def text(element: Element, name: str) -> str | None:
    """The text of the first element of this local name below, stripped; None when absent or empty."""
    found = next(element.iter(f"{{*}}{name}"), None)
    value = None if found is None or found.text is None else found.text.strip()
    return value or None
