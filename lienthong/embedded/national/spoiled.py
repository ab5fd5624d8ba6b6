"""Answers spoiled on purpose, each as a pure function: of the envelope before or after it is signed, of its bytes, of the WSDL."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Mapping
from copy import deepcopy
from datetime import datetime
from typing import Any

from lxml import etree

from lienthong.embedded.national.envelope import SOAP, WSSE, Element, header, serialised
from lienthong.embedded.national.faults import number

_XSI = "http://www.w3.org/2001/XMLSchema-instance"
_BODY = f"{{{SOAP}}}Body"
_MEGABYTE = 1024 * 1024
_FORGED_NUMBER, _FORGED_NAME = "079999999999", "NGƯỜI KHÁC"
_PLACE = b"</soapenv:Body>"
_ENTITY_LEVELS = 9  # ten times more each: a thousand million

Argument = Mapping[str, Any]


# ------------------------------------------------------------------ the envelope before it is signed
def missing(envelope: Element, argument: Argument) -> None:
    """Without a required element."""
    for found in list(envelope.iter(f"{{*}}{argument.get('element', 'HoVaTen')}")):
        found.getparent().remove(found)


def nil(envelope: Element, argument: Argument) -> None:
    """With a required element that is nil."""
    for found in envelope.iter(f"{{*}}{argument.get('element', 'HoVaTen')}"):
        found.clear()
        found.set(f"{{{_XSI}}}nil", "true")


def extra(envelope: Element, _argument: Argument) -> None:
    """With an element nobody knows."""
    content = envelope.find(_BODY)[0]
    parent = content[0] if len(content) else content
    etree.SubElement(parent, f"{{{etree.QName(content).namespace}}}TruongMoi").text = "1"


def wrong_person(envelope: Element, _argument: Argument) -> None:
    """Another person; a yes/no answer turns around."""
    for found in envelope.iter("{*}CongDan"):
        found.find("{*}SoDinhDanh").text = _FORGED_NUMBER
        found.find("{*}HoVaTen/{*}Ten").text = _FORGED_NAME
    for found in envelope.iter("{*}TonTai"):
        found.text = "false" if found.text == "true" else "true"


def wrong_request(envelope: Element, _argument: Argument) -> None:
    """The id of another request."""
    for found in envelope.iter("{*}CongdanCollection"):
        found.set("id", "00000000-0000-0000-0000-000000000000")


def duplicate(envelope: Element, _argument: Argument) -> None:
    """The same person twice."""
    for found in list(envelope.iter("{*}CongDan")):
        found.addnext(deepcopy(found))


def dated(envelope: Element, at: datetime) -> None:
    """Data that claims to be of another time."""
    for found in envelope.iter("{*}CongdanCollection"):
        found.set("ThoiDiemDuLieu", at.isoformat(timespec="seconds"))


BEFORE_SIGNING: dict[str, Callable[[Element, Argument], None]] = {
    "missing": missing, "nil": nil, "extra": extra, "wrong-person": wrong_person, "wrong-request": wrong_request, "duplicate": duplicate,
}  # fmt: skip


# ------------------------------------------------------------------ the signed envelope
def wrong_signature(envelope: Element, argument: Argument) -> None:
    """Changed after it was signed."""
    wrong_person(envelope, argument)


def wrapped_signature(envelope: Element, argument: Argument) -> None:
    """The signed body sits in a header, where its reference still finds it; the reader's Body is a forged one."""
    signed = envelope.find(_BODY)
    forged = deepcopy(signed)
    forged.attrib.clear()
    index = list(envelope).index(signed)
    etree.SubElement(header(envelope), "{urn:wrapper}Wrapper").append(signed)
    envelope.insert(index, forged)
    wrong_person(forged, argument)


def two_bodies(envelope: Element, argument: Argument) -> None:
    """A second, forged Body."""
    signed = envelope.find(_BODY)
    forged = deepcopy(signed)
    forged.attrib.clear()
    signed.addnext(forged)
    wrong_person(forged, argument)


AFTER_SIGNING: dict[str, Callable[[Element, Argument], None]] = {
    "wrong-signature": wrong_signature, "wrapped-signature": wrapped_signature, "two-bodies": two_bodies,
}  # fmt: skip


# ------------------------------------------------------------------ the bytes
def truncated(body: bytes, _argument: Argument) -> bytes:
    """Half of it."""
    return body[: len(body) // 2]


def huge(body: bytes, argument: Argument) -> bytes:
    """With a very long text."""
    return _inserted(body, b"<x>" + b"a" * int(number(argument, "bytes", 20 * _MEGABYTE)) + b"</x>")


def many_elements(body: bytes, argument: Argument) -> bytes:
    """With very many elements: 4 bytes each on the wire, far more in the reader's memory."""
    return _inserted(body, b"<a/>" * int(number(argument, "count", 3_000_000)))


def deep(body: bytes, argument: Argument) -> bytes:
    """With elements nested very deep."""
    depth = int(number(argument, "depth", 5_000))
    return _inserted(body, b"<a>" * depth + b"</a>" * depth)


def entities(body: bytes, _argument: Argument) -> bytes:
    """With entities that stand for ten of the one before, and one use of the last."""
    first = '<!ENTITY e0 "ha">'
    rest = "".join(f'<!ENTITY e{level} "{f"&e{level - 1};" * 10}">' for level in range(1, _ENTITY_LEVELS + 1))
    return _with_dtd(_inserted(body, f"<x>&e{_ENTITY_LEVELS};</x>".encode()), f"[{first}{rest}]")


def external_dtd(body: bytes, _argument: Argument) -> bytes:
    """With an entity that stands for a file of the reader's machine."""
    return _with_dtd(_inserted(body, b"<x>&file;</x>"), '[<!ENTITY file SYSTEM "file:///etc/passwd">]')


def bomb(argument: Argument) -> bytes:
    """A gzip body that unpacks to very much."""
    return gzip.compress(b" " * int(number(argument, "bytes", 200 * _MEGABYTE)), compresslevel=9)


BYTES: dict[str, Callable[[bytes, Argument], bytes]] = {
    "truncated": truncated, "huge": huge, "many-elements": many_elements, "deep": deep, "entities": entities, "external-dtd": external_dtd,
}  # fmt: skip


def _inserted(body: bytes, what: bytes) -> bytes:
    before, mark, after = body.rpartition(_PLACE)
    return before + what + mark + after if mark else body + what


def _with_dtd(body: bytes, subset: str) -> bytes:
    declaration, mark, rest = body.partition(b"?>")
    return declaration + mark + f"<!DOCTYPE Envelope {subset}>".encode() + rest


# ------------------------------------------------------------------ the description
def description(document: bytes, kind: str) -> bytes:
    """A WSDL that sends its reader astray."""
    root = etree.fromstring(document)
    if kind == "wsdl-address":
        for one in root.iter("{http://schemas.xmlsoap.org/wsdl/soap/}address"):
            one.set("location", "http://elsewhere.invalid/")
    elif kind == "wsdl-import":
        for one in root.iter("{http://www.w3.org/2001/XMLSchema}import"):
            one.set("schemaLocation", "file:///etc/passwd")
    else:
        for one in list(root.iter("{http://schemas.xmlsoap.org/wsdl/}operation")):
            if one.get("name") == "XacThucThongTinCongDan":
                one.getparent().remove(one)
    return serialised(root)


def unsigned(envelope: Element) -> None:
    """Without its security header."""
    for found in list(envelope.iter(f"{{{WSSE}}}Security")):
        found.getparent().remove(found)
