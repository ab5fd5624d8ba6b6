"""Who holds a dossier now, and what is expected next and by when: from its status, where it is proven to be, and expectations.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from lienthong.authority import Authority
from lienthong.journey.expect import FINISHED, OVER, PAYMENT, SUPPLEMENT, Limits, finished_since
from lienthong.journey.handover import Handover
from lienthong.readers import from_micros

HUB = "hub"
_APPLICANT = {SUPPLEMENT: "the applicant hands in the missing papers; the time limit rests", PAYMENT: "the applicant pays; the time limit rests"}


def responsible(authority: Authority, values: Mapping[str, Any]) -> str | None:
    """The system that has to act: who receives until it is received, then who processes."""
    processing, receiving = authority.roles(values)
    return (receiving or processing) if values.get("status") == 1 else (processing or receiving)


def standing(
    limits: Limits, values: Mapping[str, Any], known_at: datetime, handed: Mapping[str, Handover], actor: str | None, owner: str | None
) -> tuple[str, dict[str, Any] | None]:
    """The last system that is proven to have the dossier, and what it waits for; `actor`: who is responsible."""
    one = handed.get(actor or "")
    at = actor if actor is not None and one is not None and one.holds else None
    holder = at or (owner if actor is None and owner is not None else HUB)
    return holder, _next(limits, values, known_at, one, actor)


def _next(limits: Limits, values: Mapping[str, Any], known_at: datetime, one: Handover | None, actor: str | None) -> dict[str, Any] | None:
    status = values.get("status")
    who = actor or f"agency {values.get('processing_agency_code') or values.get('receiving_agency_code') or '?'}"
    if one is not None and one.sent is not None and not one.is_current:
        return _expected(f"{who} acknowledges what was handed over", limits.by("acknowledged", from_micros(one.sent * 1000), values))
    if status in OVER:
        return None
    if status in _APPLICANT:
        return _expected(_APPLICANT[status], None)
    if status == FINISHED:
        return _expected(f"{who} returns the result, and the portals show it", limits.by("shown", finished_since(values, known_at), values))
    submitted = values.get("submitted_at")
    if status == 1 and not values.get("received_at"):
        return _expected(f"{who} receives it", None if submitted is None else limits.by("received", from_micros(submitted), values))
    due = values.get("due_at")
    return _expected(f"{who} finishes it", None if due is None else from_micros(due))


def _expected(what: str, by: datetime | None) -> dict[str, Any]:
    return {"what": what, "by": None if by is None else by.isoformat(timespec="seconds")}
