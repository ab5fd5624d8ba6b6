"""The portal's catalogues of procedures, agencies and fields, compared with what the hub holds by code. Differences are listed, never applied.

The services and the names in their rows are those that adapters in the field read (domain.md §2.1): `MATTHC`/`TENTTHC`, `MADONVI`/`TENDONVI`,
`MALINHVUC`/`TENLINHVUC`; the field of a procedure stands in `LayThuTuc` only, so it is asked for procedures that both sides have.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, Literal

import orjson

from connectors.http import Refused
from connectors.postgres import Cursor, connect, rows, transaction
from lienthong import hub
from lienthong.national.portal import PortalClient, client_of, gate_of, portal_of
from lienthong.national.unit_register import sound
from lienthong.settings import Settings

BYTES_MAX = 32 * 1024 * 1024
"""Of one answer: a catalogue may list every procedure and every agency of the country."""
KINDS = ("added", "removed", "renamed", "spelling", "moved")

Catalogue = Literal["procedure", "agency", "field"]
Kind = Literal["added", "removed", "renamed", "spelling", "moved"]

_SERVICES: dict[Catalogue, tuple[str, str, str]] = {
    "procedure": ("LayDanhSachTTHC", "MATTHC", "TENTTHC"),
    "agency": ("LayDanhMucCoQuan", "MADONVI", "TENDONVI"),
    "field": ("LayDanhMucLinhVuc", "MALINHVUC", "TENLINHVUC"),
}
_HELD = "SELECT body::text FROM hub.record WHERE entity = %s AND NOT deleted AND merged_into IS NULL AND body IS NOT NULL ORDER BY record DESC"
_EPOCH = date(1970, 1, 1)


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference, for a person to look at. `ours` and `theirs` are names; codes of the field where a procedure `moved`."""

    kind: Kind
    catalogue: Catalogue
    code: str
    ours: str | None
    theirs: str | None


@dataclass(frozen=True, slots=True)
class Held:
    """What the hub holds: names of procedures and agencies by code, and the field of each procedure that has one."""

    procedures: Mapping[str, str | None]
    agencies: Mapping[str, str | None]
    fields: Mapping[str, str]


def compare(settings: Settings) -> list[Difference]:
    """Fetch the catalogues and compare them with the hub; raises `ConfigError` where no portal is configured or it has no catalogues."""
    portal = portal_of(settings)
    with hub.named():
        connection = connect(settings.hub.dsn, application_name="lienthong national")
        try:
            with transaction(connection) as cursor:
                held = held_in(cursor)
        finally:
            connection.close()
        gate = gate_of(settings.hub.dsn, portal)
    client = client_of(portal, gate, lambda: False, BYTES_MAX)
    try:
        return list(differences(held, client))
    finally:
        client.close()
        gate.close()


def held_in(cursor: Cursor) -> Held:
    """Procedures and agencies of the hub; an agency that has ended is held no more."""
    today = (datetime.now(UTC).date() - _EPOCH).days
    procedures = [values for values in _golden(cursor, "procedure") if values.get("procedure_code")]
    agencies = [values for values in _golden(cursor, "agency") if values.get("agency_code")]
    return Held(
        {values["procedure_code"]: values.get("name") for values in procedures},
        {values["agency_code"]: values.get("name") for values in agencies if (ends := values.get("valid_to")) is None or ends > today},
        {values["procedure_code"]: values["field_code"] for values in procedures if values.get("field_code")},
    )


def _golden(cursor: Cursor, entity: str) -> list[dict[str, Any]]:
    return [orjson.loads(body) for (body,) in rows(cursor, _HELD, [entity])]


def differences(held: Held, client: PortalClient) -> Iterator[Difference]:
    """What the portal's catalogues and the hub say differently, by catalogue and code."""
    procedures, agencies, fields = (listed(client, catalogue) for catalogue in _SERVICES)
    yield from _names("procedure", held.procedures, procedures)
    for code in sorted(held.fields.keys() & procedures.keys()):
        theirs = _fields_of(client, code)
        if held.fields[code] not in theirs:
            yield Difference("moved", "procedure", code, held.fields[code], ", ".join(sorted(theirs)) or None)
    yield from _names("agency", held.agencies, agencies)
    for code in sorted(set(held.fields.values()) - fields.keys()):
        yield Difference("removed", "field", code, None, None)


def listed(client: PortalClient, catalogue: Catalogue) -> dict[str, str]:
    """Names by code; raises `Refused` for an answer that cannot be a catalogue: empty, without codes or names, two names under one code."""
    service, code, name = _SERVICES[catalogue]
    found: dict[str, str] = {}
    for row in client.catalogue(service):
        key, said = _text(row.get(code)), _text(row.get(name))
        if not key or not said:
            raise Refused("answer", f"{service}: a row without {code} or {name}")
        if found.setdefault(key, said) != said:
            raise Refused("answer", f"{service}: {code} {key} is listed under two names")
    if not found:
        raise Refused("answer", f"{service}: the catalogue is empty; nothing is compared with that")
    return found


def _fields_of(client: PortalClient, procedure: str) -> set[str]:
    """The codes of the fields a procedure belongs to at the portal."""
    fields: set[str] = set()
    for row in client.catalogue("LayThuTuc", maTTHC=procedure):
        said = row.get("LINHVUCTHUCHIEN")
        fields |= {_text(each.get("MALINHVUC")) for each in said if isinstance(each, dict)} if isinstance(said, list) else set()
    return fields - {""}


def _names(catalogue: Catalogue, ours: Mapping[str, str | None], theirs: Mapping[str, str]) -> Iterator[Difference]:
    for code in sorted(ours.keys() | theirs.keys()):
        mine, other = ours.get(code), theirs.get(code)
        if code not in ours:
            yield Difference("added", catalogue, code, None, other)
        elif code not in theirs:
            yield Difference("removed", catalogue, code, mine, None)
        elif mine is not None and other is not None and mine != other:
            yield Difference("spelling" if sound(mine) == sound(other) else "renamed", catalogue, code, mine, other)


def _text(value: object) -> str:
    return " ".join(value.split()) if isinstance(value, str) else ""
