"""Parked records: what waits and why, masked; replay, decision and discard behind the operator's role, through the desk that records everything."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import RedirectResponse

from lienthong import advice, status
from lienthong.errors import LienThongError
from lienthong.parked import Wanted, at_target, listing
from lienthong.parked_desk import HUB, Desk, place_of
from lienthong.parked_replay import DECISIONS, Order, Replayer
from lienthong.vault import Vault
from lienthong.web.guard import Posted, Refused, Visit, Visiting
from lienthong.web.told import told
from lienthong.web.words import Said, phrase

routes = APIRouter()

LISTED = 100
PATIENCE_SECONDS = 5.0
DECIDED = ("link", "ghost")
UNKNOWN = "?"  # the system of a frame that cannot be opened

OUTCOMES = {
    "merged": phrase("Done: the service has taken it."),
    "applied": phrase("Done: the service has taken it."),
    "sent": phrase("Sent again."),
    "sent_again": phrase("Sent again, and taken."),
    "dossier_read_again": phrase("Its dossier was read again."),
    "kept_apart": phrase("Kept apart."),
    "joined": phrase("They are one record now."),
    "kept": phrase("Kept."),
    "deleted": phrase("Deleted."),
    "discarded": phrase("Given up. What is kept of it stays."),
}


@routes.get("/parked")
def parked(
    visit: Visiting, system: str | None = None, reason: str | None = None, kind: str | None = None, place: str = HUB, done: str | None = None
) -> Response:
    """What waits, by reason, and the oldest hundred of them. A target's own list is asked from that target alone, when it is chosen."""
    for name in {system, place} - {None, HUB}:
        _need(visit, str(name))
    groups = [group for group in status.parked_reasons(visit.settings) if visit.seen.sees(group["system"])]
    wanted = Wanted(system=system, reason=reason, kind=kind, limit=LISTED if visit.seen.everything else 10 * LISTED)
    found, problem = _found(visit, place, wanted)
    return visit.page(
        "parked.html",
        groups=groups,
        found=[record for record in found if visit.seen.sees(record["system"])][:LISTED],
        problem=problem,
        listed=LISTED,
        chosen={"system": system, "reason": reason, "kind": kind, "place": place},
        total=sum(group["records"] for group in groups),
        said=OUTCOMES.get(done or ""),
    )


def _found(visit: Visit, place: str, wanted: Wanted) -> tuple[list[dict[str, Any]], str | None]:
    if place == HUB:
        return listing(visit.hub, wanted), None
    try:
        return at_target(place, visit.settings.dsn_of(place), wanted), None
    except LienThongError as error:
        return [], f"{error.code}: {error}"


@routes.get("/parked/record")
def record_page(visit: Visiting, ref: str) -> Response:
    """One parked record, masked."""
    with _desk(visit) as desk:
        return _shown(visit, desk, ref, None)


@routes.post("/parked/record")
def reveal(visit: Visiting, fields: Posted, ref: str) -> Response:
    """The same with its values, for a purpose that is recorded first."""
    visit.need("reveal")
    purpose = fields.get("purpose", "").strip()
    if len(purpose) < 3:
        raise Refused(phrase("Say what for: the purpose is recorded."), 400)
    with _desk(visit) as desk:
        return _shown(visit, desk, ref, purpose)


@routes.post("/parked/act")
def act(visit: Visiting, fields: Posted, ref: str) -> Response:
    """Replay, decide or give up one record."""
    visit.need("replay")
    with _desk(visit) as desk:
        record = _mine(visit, desk, ref)
        outcome, words = _done(desk, record, fields.get("action", ""), fields.get("why", "").strip())
    if outcome in OUTCOMES:
        return RedirectResponse(f"/parked?done={outcome}", 303)
    with _desk(visit) as desk:
        return _shown(visit, desk, ref, None, phrase("It is still parked: %(words)s", words=told(visit.words, words).text))


def _done(desk: Desk, record: dict[str, Any], action: str, why: str) -> tuple[str, str]:
    if action == "discard":
        if not why:
            return "refused", "giving a record up needs a reason"
        return ("discarded", "") if desk.discard(record, why) else ("closed", "it was closed meanwhile")
    order = Order(budget=1, why=why or None, decide=action if action in DECISIONS else None, patience_seconds=PATIENCE_SECONDS)
    replayer = Replayer(desk)
    try:
        result = next(iter(replayer.run([record], order)))
    except LienThongError as error:
        return "refused", str(error)
    finally:
        replayer.close()
    return result.outcome, result.words


def _mine(visit: Visit, desk: Desk, ref: str) -> dict[str, Any]:
    """The record, if there is one and it is theirs; a target's is asked for only when the target is theirs."""
    place = ref.rpartition("/")[0]
    if place:
        visit.need_system(place)
    found = desk.find(Wanted(), [ref])
    _need(visit, found[0]["system"])
    return found[0]


def _need(visit: Visit, system: str) -> None:
    """Raise `Refused` for a system that is not theirs; what could not be told whose it is, is the city's."""
    if not (system == UNKNOWN and visit.seen.everything):
        visit.need_system(system)


def _shown(visit: Visit, desk: Desk, ref: str, purpose: str | None, said: Said | None = None) -> Response:
    record = _mine(visit, desk, ref)
    shown = desk.show(ref, purpose=purpose)
    return visit.page(
        "parked_record.html",
        record=shown,
        place=place_of(record),
        advice=advice.advice(record["reason"], record["system"]),
        decides=record["kind"] in DECIDED,
        is_shown=purpose is not None,
        said=said,
    )


@contextmanager
def _desk(visit: Visit) -> Iterator[Desk]:
    desk = Desk(visit.settings, Vault.from_environment(), f"web:{visit.name}")
    try:
        yield desk
    finally:
        desk.close()
