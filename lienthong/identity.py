"""Which contributions speak about the same record: identifier claims and the rule by which a link is accepted (protocol B7)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from zoneinfo import ZoneInfo

from lienthong.readers import day_of
from lienthong.settings import DEFAULT_ZONE

_ZONE = ZoneInfo(DEFAULT_ZONE)
_SECOND = 1_000_000


def claim_of(entity: str, values: Mapping[str, Any], parent: int | None) -> str | None:
    """The strong identifier a record's values claim, or None; a child's claim is inside its parent's record."""
    own = _CLAIMS[entity]
    parts = [values.get(name) for name in own]
    if any(part is None for part in parts[:1]):
        return None
    if entity == "dossier_event":
        parts[1] = (parts[1] or 0) // _SECOND
    if parent is not None:
        return f"{entity}:{parent}:" + ":".join(map(str, parts))
    return f"{entity}:" + ":".join(map(str, parts))


def is_claim_of(claim: str | None, entity: str, values: Mapping[str, Any], *, child: bool) -> bool:
    """Whether a claim is still what the values say, whatever record the parent is."""
    if claim is None or not child:
        return claim_of(entity, values, None) == claim
    return claim_of(entity, values, int(claim.split(":", 2)[1])) == claim


_CLAIMS: dict[str, tuple[str, ...]] = {
    "citizen": ("personal_number",),
    "dossier": ("national_code",),
    "dossier_event": ("status", "occurred_at"),
    "dossier_component": ("component_code",),
    "fee": ("fee_code",),
    "evaluation": ("rated_at",),
    "procedure": ("procedure_code",),
    "unit": ("code", "valid_from"),
    "agency": ("agency_code",),
}


def agree(entity: str, one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two sets of values that share a strong code may be one record: they agree on the check set of their entity.

    Dossier: procedure and reception (else submission) day. Citizen: birth year and name. Children: the claim says it all.
    A value that one side does not have does not speak against the link.
    """
    if entity == "dossier":
        return _same(one, other, "procedure_code") and _same_day(one, other)
    if entity == "citizen":
        years = [str(v["birth_date"])[:4] for v in (one, other) if v.get("birth_date")]
        names = [_folded(v["full_name"]) for v in (one, other) if v.get("full_name")]
        return len(set(years)) <= 1 and len(set(names)) <= 1
    return True


def _same(one: Mapping[str, Any], other: Mapping[str, Any], name: str) -> bool:
    return one.get(name) is None or other.get(name) is None or one[name] == other[name]


def _same_day(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    for name in ("received_at", "submitted_at"):
        if one.get(name) is not None and other.get(name) is not None:
            return day_of(one[name], _ZONE) == day_of(other[name], _ZONE)
    return True


def _folded(name: str) -> str:
    return " ".join(name.casefold().split())
