"""What each party receives: scope, fields and masks of a contract, evaluated on one golden record. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import schemas
from lienthong.settings import Contract, Grant, Scope, Settings, System

Values = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Terms:
    """One entity of one contract, compiled."""

    system: str
    entity: str
    fields: tuple[str, ...]
    withheld: tuple[str, ...]
    masks: Mapping[str, str]
    scope: Scope
    units: frozenset[str]
    agencies: frozenset[str]

    def in_scope(self, values: Values, parent: Values | None) -> bool:
        """Whether the party is entitled to this record; a child is in scope with its parent."""
        return _holds(self.scope, parent if parent is not None else values, self.units, self.agencies)

    def shape(self, values: Values) -> dict[str, Any]:
        """The fields the contract lists that have a value, masked where it says so."""
        out = {name: values[name] for name in self.fields if values.get(name) is not None}
        for name, mask in self.masks.items():
            if out.get(name) is not None:
                out[name] = masked(mask, out[name])
        return out


def masked(mask: str, value: Any) -> Any:
    """A value made less telling: last4 `*****1234` (of four characters and fewer nothing), year `1980`, initials `N.V.A.`, null."""
    text = str(value)
    if mask == "last4":
        return "*" * (len(text) - 4) + text[-4:] if len(text) > 4 else "*" * len(text)
    if mask == "year":
        return text[:4]
    if mask == "initials":
        return "".join(f"{word[0]}." for word in text.split())
    return None


def _holds(scope: Scope, values: Values, units: frozenset[str], agencies: frozenset[str]) -> bool:
    if scope.units is not None:
        wanted = frozenset(scope.units) | (units if "own" in scope.units else frozenset())
        if not wanted & {values.get(name) for name in ("processing_unit", "residence_unit", "unit_code") if values.get(name)}:
            return False
    if scope.agencies is not None:
        wanted = frozenset(scope.agencies) | (agencies if "own" in scope.agencies else frozenset())
        if not wanted & {values.get(name) for name in ("processing_agency_code", "receiving_agency_code", "agency_code") if values.get(name)}:
            return False
    if scope.procedures is not None and values.get("procedure_code") not in scope.procedures:
        return False
    return not scope.any_of or any(_holds(part, values, units, agencies) for part in scope.any_of)


def terms_of(settings: Settings) -> dict[str, list[Terms]]:
    """Entity -> the terms under which parties receive it."""
    out: dict[str, list[Terms]] = {}
    for contract in settings.contracts.values():
        system = settings.systems[contract.system]
        for entity, grant in contract.entities.items():
            out.setdefault(entity, []).append(_compile(contract, system, entity, grant))
    return out


def _compile(contract: Contract, system: System, entity: str, grant: Grant) -> Terms:
    every = schemas.fields(entity)
    if grant.fields == "all":
        fields = tuple(f.name for f in every if f.pii != "sensitive")
    else:
        fields = tuple(f.name for f in every if f.name in grant.fields)
    withheld = tuple(f.name for f in every if f.name not in fields)
    return Terms(contract.system, entity, fields, withheld, grant.mask, grant.where, frozenset(system.units), frozenset(system.agencies))
