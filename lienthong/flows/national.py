"""The national services: asking about citizens within a budget, watching what is delivered to the portal, sending refused messages again."""

from __future__ import annotations

import logging
from typing import Any

from connectors.postgres import connect, transaction
from lienthong import hub, hub_schema
from lienthong.flows import FoundWrong, flow, settings
from lienthong.national import desk, unverified
from lienthong.national.access import Caller
from lienthong.national.portal import portal_of
from lienthong.settings import Settings
from lienthong.vault import Vault

logger = logging.getLogger(__name__)


@flow
def has(section: str) -> bool:
    """Whether national.yaml configures a service: population, portal or unit_register."""
    national = settings().national
    found = national is not None and getattr(national, section) is not None
    if not found:
        logger.info("national.yaml has no section %s: there is nothing to do", section)
    return found


@flow
def look_ups(*, budget: int, purpose: str, officer: str, dry_run: bool) -> dict[str, int]:
    """Ask the population database about citizens whom nobody has confirmed yet; how many there were, and what the answers were."""
    configured = settings()
    hub_schema.install(configured.hub.dsn)
    citizens = unverified.open_desk(configured, Vault.from_environment())
    try:
        waiting = citizens.count()
        logger.info("%s citizens are not confirmed; %s are asked about at most%s", waiting, budget, ", but this is a dry run" if dry_run else "")
        if dry_run:
            return {"unconfirmed": waiting}
        caller = Caller(officer, _unit(configured), purpose)
        answers = citizens.verify(caller, budget, lambda done: logger.info("%s of %s asked about", done, min(budget, waiting)))
        left = citizens.count()
    finally:
        citizens.close()
    logger.info("yes %s, no %s, refused %s; %s are left", answers["yes"], answers["no"], answers["refused"], left)
    return {"unconfirmed": left, **answers}


@flow
def outbox(*, oldest_minutes: float) -> dict[str, Any]:
    """How messages to the portal stand; raises `FoundWrong` when some are refused, or the oldest has waited longer than allowed."""
    configured = settings()
    system = portal_of(configured).system
    with hub.named():
        connection = connect(configured.hub.dsn, application_name="lienthong national")
        try:
            with transaction(connection) as cursor:
                found, gates = desk.counts(cursor, system), desk.gates(cursor)
        finally:
            connection.close()
    states, minutes = found["states"], found["oldest_pending_seconds"] / 60
    closed = [gate["service"] for gate in gates if gate["closed_until"]]
    logger.info("%s; the oldest waits %.1f min", ", ".join(f"{n} {state}" for state, n in states.items()), minutes)
    problems = [f"{states['refused']} messages are refused: lienthong national outbox --state refused"] if states["refused"] else []
    problems += [f"the oldest message has waited {minutes:.0f} min: lienthong national status"] if minutes > oldest_minutes else []
    problems += [f"{', '.join(closed)} does not answer; it is tried again by itself"] if closed else []
    if problems:
        raise FoundWrong("; ".join(problems))
    return {"pending": states["pending"], "confirmed": states["confirmed"]}


@flow
def resend(*, limit: int, why: str, officer: str, dry_run: bool) -> dict[str, int]:
    """Send refused messages again, for a reason that is recorded; how many were queued, and how many not."""
    configured = settings()
    with hub.named():
        at = desk.Desk(configured.hub.dsn, portal_of(configured).system, Vault.from_environment(), officer)
        try:
            found = [row for row in at.find(state="refused", limit=limit) if row["cured_at"] is None]
            said = ["dry run" if dry_run else at.resend(row["id"], why) for row in found]
        finally:
            at.close()
    for row, words in zip(found, said, strict=True):
        logger.info("message %s (%s): %s", row["id"], row["kind"], words or "queued again")
    return {"refused": len(found), "queued": sum(not words for words in said)}


def _unit(configured: Settings) -> str:
    assert configured.national is not None
    assert configured.national.population is not None
    return configured.national.population.unit
