"""The door to SOAP services: requests and answers by contracts pinned in this package, over `connectors.http`. The only importer of zeep.

Nothing about a service is learned from the service: WSDL and schemas are files beside this module, checked against their hashes and loaded from
there alone, and the address comes from the configuration. Every answer is taken for hostile until it was read with no DTD, few elements and little
depth, proven where the service signs, and found to follow the schema: what it misses is refused, never read as empty.
No error text holds anything an answer said, except the code of a fault and the name of an element.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterator, Mapping
from functools import cache
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import zeep
from lxml import etree
from zeep.helpers import serialize_object
from zeep.transports import Transport

from connectors.errors import FatalError, LienThongError
from connectors.http import Answer, Busy, CredentialsRefused, HttpDoor, Limits, Refused, UnknownOutcome
from connectors.soap_security import SOAP, Element, Proof

ELEMENTS_MAX = 50_000
DEPTH_MAX = 40
SUMS = "SHA256SUMS"

_ORIGIN = "http://pinned.invalid/"
_XSD = "http://www.w3.org/2001/XMLSchema"
_ENVELOPE, _BODY, _FAULT = (f"{{{SOAP}}}{name}" for name in ("Envelope", "Body", "Fault"))
_WORD = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,60}")
_REFUSED_STATUS = {401, 403}
_SECURITY_WORDS = ("authentication", "failedcheck", "security", "expired", "unsupportedalgorithm")

for _name in ("zeep", "zeep.transports", "zeep.wsdl", "zeep.xsd", "zeep.wsse"):  # they log whole messages
    logging.getLogger(_name).setLevel(logging.WARNING)


class ContractChanged(FatalError):
    """A pinned WSDL or schema is not the one that was released; install the package again."""

    code = "LT-NAT-009"


# ------------------------------------------------------------------ the contract
class Contract:
    """One pinned WSDL with the schemas it imports."""

    def __init__(self, name: str, folder: Path | None = None) -> None:
        pinned = _pinned(folder)
        wsdl = f"{name}.wsdl"
        if wsdl not in pinned:
            raise ContractChanged(f"there is no pinned {wsdl}")
        settings = zeep.Settings(strict=True, xml_huge_tree=False, forbid_dtd=True, forbid_entities=True, forbid_external=False)
        self._client = zeep.Client(_ORIGIN + wsdl, transport=_Pinned(pinned), settings=settings)
        self._schemas = dict(_schemas(pinned, wsdl))
        self._lock = threading.Lock()

    def request(self, operation: str, fields: Mapping[str, Any]) -> Element:
        """The envelope of a call; raises `Refused` when a field does not fit, before anything leaves."""
        try:
            envelope = self._client.create_message(self._client.service, operation, **fields)
        except Exception as error:  # noqa: BLE001 - converters raise whatever Python does, and its text quotes values
            raise Refused("request", f"a request that does not fit its contract ({type(error).__name__})") from None
        self.check(envelope.find(_BODY)[0], "request")
        return envelope

    def check(self, content: Element, what: str) -> None:
        """Raise `Refused` when a message does not follow its schema; its text names the element, never a value."""
        schema = self._schemas.get(etree.QName(content).namespace)
        if schema is None:
            raise Refused(what, f"the {what} is not a message of the contract")
        with self._lock:
            if schema.validate(content):
                return
            wrong = schema.error_log[0]
        raise Refused(what, f"the {what} does not follow its schema: {_element_named(wrong.message)} ({wrong.type_name})")

    def soap_action(self, operation: str) -> str:
        """The quoted value of the header SOAPAction."""
        return f'"{self._operation(operation).soapaction or ""}"'

    def action(self, operation: str) -> str:
        """What WS-Addressing calls the request: the SOAPAction, or without one the name that its port type makes (Addressing Metadata 1.0, 4.4.4)."""
        found = self._operation(operation)
        port_type = etree.QName(found.binding.port_type.name)
        return found.soapaction or f"{port_type.namespace.rstrip('/')}/{port_type.localname}/{operation}Request"

    def read(self, operation: str, envelope: Element) -> Any:
        """The checked answer as plain values: dictionaries, lists, texts, numbers, times; of a single element, its value."""
        try:
            return serialize_object(self._operation(operation).process_reply(envelope), dict)
        except Exception as error:  # noqa: BLE001 - converters raise whatever Python does, and its text quotes values
            raise Refused("answer", f"the answer cannot be read ({type(error).__name__})") from None

    def _operation(self, operation: str) -> Any:
        return self._client.service._binding.get(operation)  # noqa: SLF001 - the library's documented way to a binding's parts


@cache
def contract(name: str) -> Contract:
    """A contract of this package, loaded once; raises `ContractChanged`."""
    return Contract(name)


class _Pinned(Transport):
    """Gives the library the pinned files and nothing else."""

    def __init__(self, pinned: Mapping[str, bytes]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._pinned = pinned

    def load(self, url: str) -> bytes:
        """A file of the contract."""
        name = url.removeprefix(_ORIGIN) if url.startswith(_ORIGIN) else ""
        if name not in self._pinned:
            raise ContractChanged("a contract that points outside of its pinned files")
        return self._pinned[name]

    def get(self, *_: Any) -> Any:
        """Nothing: calls go through `connectors.http`."""
        raise ContractChanged("the SOAP library tried to call by itself")

    post = post_xml = get


def _pinned(folder: Path | None) -> dict[str, bytes]:
    """All pinned files by name, each with the hash it was released with."""
    place = files("connectors") / "wsdl" if folder is None else folder
    pinned = {}
    for line in (place / SUMS).read_text("ascii").splitlines():
        digest, _, name = line.partition("  ")
        content = (place / name).read_bytes()
        if sha256(content).hexdigest() != digest:
            raise ContractChanged(f"the pinned {name} is not the one that was released; install the package again")
        pinned[name] = content
    return pinned


def _schemas(pinned: Mapping[str, bytes], wsdl: str) -> Iterator[tuple[str, Any]]:
    """Namespace and schema of each import of a WSDL."""
    for imported in _parse(pinned[wsdl]).iter(f"{{{_XSD}}}import"):
        name = imported.get("schemaLocation")
        if name not in pinned:
            raise ContractChanged("a contract that points outside of its pinned files")
        yield imported.get("namespace"), etree.XMLSchema(_parse(pinned[name]))


def _element_named(message: str) -> str:
    """The element a schema's complaint is about; the rest of the complaint may quote its value."""
    found = re.match(r"Element '(?:\{[^}]*\})?([A-Za-z]\w{0,40})'", message)
    return found[1] if found else "an element"


# ------------------------------------------------------------------ calls
class SoapDoor:
    """Calls to one SOAP 1.1 service, from any thread."""

    def __init__(
        self,
        name: str,
        endpoint: str,
        *,
        proof: Proof,
        limits: Limits,
        elements_max: int = ELEMENTS_MAX,
        verify: bool | str | Path = True,
        certificate: tuple[str, str] | None = None,
    ) -> None:
        self._contract, self._proof, self._elements_max = contract(name), proof, elements_max
        self._http = HttpDoor(endpoint, limits=limits, verify=verify, certificate=certificate)
        self._path = urlsplit(endpoint).path or "/"

    def call(self, operation: str, fields: Mapping[str, Any]) -> Any:
        """One call and its answer as plain values; errors as in `connectors.http`."""
        return self._contract.read(operation, self._answered(operation, fields))

    def rows(self, operation: str, fields: Mapping[str, Any], row: str) -> list[dict[str, str]]:
        """One call whose answer is a .NET DataSet: its rows (elements of this name), each as column -> text."""
        answer = self._answered(operation, fields)
        return [{etree.QName(cell).localname: cell.text or "" for cell in found} for found in answer.iter(f"{{*}}{row}")]

    def close(self) -> None:
        """Drop all connections."""
        self._http.close()

    def _answered(self, operation: str, fields: Mapping[str, Any]) -> Element:
        """The envelope of a proven answer that follows the contract."""
        envelope, message_id = self._contract.request(operation, fields), f"urn:uuid:{uuid4()}"
        self._proof.secure(envelope, message_id, self._contract.action(operation))
        headers = {"content-type": "text/xml; charset=utf-8", "soapaction": self._contract.soap_action(operation)}
        content = etree.tostring(envelope, xml_declaration=True, encoding="UTF-8")
        answer = self._http.send("POST", headers=headers | self._proof.headers(self._path), content=content)
        found = opened(answer, self._elements_max)
        body = found.find(_BODY)
        if body[0].tag == _FAULT:
            raise self._fault(body[0])
        self._proof.check(found, message_id)
        self._contract.check(body[0], "answer")
        return found

    def _fault(self, fault: Element) -> LienThongError:
        """Our error for a fault, whatever the HTTP status. Nobody signs faults, so where answers are signed one proves nothing."""
        said = (fault.findtext("faultcode") or "").strip().rpartition(":")[2]
        code = said if _WORD.fullmatch(said) else "?"
        lower = code.lower()
        if self._proof.signs_answers:
            return UnknownOutcome(f"the service answered with a fault ({code}) that is not signed")
        if "busy" in lower:
            return Busy("the service is busy")
        if any(word in lower for word in _SECURITY_WORDS):
            return CredentialsRefused(f"the service does not accept our credentials ({code}); correct them, and look at the clock of this machine")
        if lower.startswith(("client", "sender")):
            return Refused(code)
        return UnknownOutcome(f"the service answered with a fault ({code})")


# ------------------------------------------------------------------ reading what came
def opened(answer: Answer, elements_max: int = ELEMENTS_MAX) -> Element:
    """The envelope of an answer: one Body with one element in it. Raises `UnknownOutcome`, `CredentialsRefused`."""
    try:
        envelope = _parse(answer.body, elements_max)
        bodies = list(envelope.iter(_BODY))
        if envelope.tag != _ENVELOPE or len(bodies) != 1 or bodies[0].getparent() is not envelope or len(bodies[0]) != 1:
            raise UnknownOutcome("the answer is not a SOAP message with one body")
    except UnknownOutcome as error:
        if answer.status in _REFUSED_STATUS:
            raise CredentialsRefused(f"the service does not let us in (HTTP {answer.status})") from None
        raise UnknownOutcome(f"{error} (HTTP {answer.status})") from None
    return envelope


def _parse(content: bytes, elements_max: int = ELEMENTS_MAX) -> Element:
    """The root of a document without DTD; raises `UnknownOutcome` for one that is cut, malformed, too deep or too large.

    Only UTF-8 is read, so that the bytes of a DTD cannot hide. Every element needs a `<`, so they are counted before any of them takes memory.
    """
    if b"<!DOCTYPE" in content:
        raise UnknownOutcome("the answer holds a DTD")
    if content.count(b"<") > 2 * elements_max:
        raise UnknownOutcome(f"the answer holds more than {elements_max:,} elements")
    parser = etree.XMLParser(
        encoding="utf-8", resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False, remove_comments=True, remove_pis=True
    )
    try:
        root = etree.fromstring(content, parser)
    except (etree.XMLSyntaxError, ValueError):
        raise UnknownOutcome("the answer is no XML, or was cut") from None
    _check_depth(root)
    return root


def _check_depth(root: Element) -> None:
    depth = 0
    for event, _ in etree.iterwalk(root, events=("start", "end")):
        depth += 1 if event == "start" else -1
        if depth > DEPTH_MAX:
            raise UnknownOutcome(f"the answer is nested more than {DEPTH_MAX} deep")
