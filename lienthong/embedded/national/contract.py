"""A pinned contract as its server uses it: messages are checked by its schemas, and `?wsdl` answers it."""

from __future__ import annotations

from importlib.resources import files
from urllib.parse import parse_qs

from lxml import etree

from lienthong.embedded.national.envelope import Element, SoapFault

FOLDER = files("connectors") / "wsdl"
_WSDL = "http://schemas.xmlsoap.org/wsdl/"
_XSD = "http://www.w3.org/2001/XMLSchema"


class Contract:
    """One WSDL of `connectors/wsdl` with the schemas it imports."""

    def __init__(self, name: str) -> None:
        self._wsdl = etree.fromstring((FOLDER / f"{name}.wsdl").read_bytes())
        imports = list(self._wsdl.iter(f"{{{_XSD}}}import"))
        self._files = {one.get("schemaLocation"): (FOLDER / one.get("schemaLocation")).read_bytes() for one in imports}
        self._schemas = {one.get("namespace"): etree.XMLSchema(etree.fromstring(self._files[one.get("schemaLocation")])) for one in imports}
        self.operations = {one.get("name") for one in self._wsdl.iter(f"{{{_WSDL}}}portType").__next__()}

    def check(self, message: Element) -> None:
        """Raise `SoapFault` when a message does not follow its schema; the text names elements, never values."""
        schema = self._schemas.get(etree.QName(message).namespace)
        if schema is None:
            raise SoapFault("Client", "unknown operation")
        if not schema.validate(message):
            error = schema.error_log[0]
            raise SoapFault("Client", f"the message does not follow the schema: {error.type_name}, line {error.line}")

    def document(self, query: str, address: str) -> bytes | None:
        """What `?wsdl` or `?xsd=NAME` answers at this address; None for another query."""
        asked = {key.lower(): values[0] for key, values in parse_qs(query, keep_blank_values=True).items()}
        if "xsd" in asked:
            return self._files.get(asked["xsd"])
        return self._addressed(address) if "wsdl" in asked else None

    def _addressed(self, address: str) -> bytes:
        document = etree.fromstring(etree.tostring(self._wsdl))
        for one in document.iter(f"{{{_XSD}}}import"):
            one.set("schemaLocation", f"{address}?xsd={one.get('schemaLocation')}")
        for one in document.iter("{http://schemas.xmlsoap.org/wsdl/soap/}address"):
            one.set("location", address)
        written: bytes = etree.tostring(document, xml_declaration=True, encoding="UTF-8")
        return written
