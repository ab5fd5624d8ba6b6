"""Reconciling and repairing: what differs is counted, what is done about it is planned, approved by a person, and only that plan is carried out."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import orjson

from lienthong.errors import FencedError, TransientError
from lienthong.flows import FoundWrong, changes, flow, settings
from lienthong.reconcile.compare import Scope
from lienthong.reconcile.repair import PERSON, Action
from lienthong.reconcile.report import plan_repair, reconcile_systems, repair_systems

logger = logging.getLogger(__name__)

WAIT_SECONDS = 120.0


@flow
def reconcile(system: str, *, full: bool, wait_seconds: float = WAIT_SECONDS) -> dict[str, int]:
    """Compare a system with the hub and with what it is entitled to; raises `FoundWrong` when something differs."""
    found = reconcile_systems(settings(), [system], (), Scope(full=full), wait_seconds=wait_seconds, show=_told)
    if found.failed:
        raise TransientError(f"{system} could not be compared: {found.failed[system]}")
    differences = Counter(f"{d.entity} {d.kind}" for compared in found.compared for d in compared.differences)
    unsettled = sum(compared.unsettled for compared in found.compared)
    for compared in found.compared:
        waiting = sum(compared.explained.values())
        logger.info(
            "%s %s: %s rows, %s read, %s differences, %s waiting", system, compared.entity, compared.rows, compared.read,
            len(compared.differences), waiting,
        )  # fmt: skip
    if differences or unsettled:
        said = ", ".join(f"{n} {what}" for what, n in sorted(differences.items()))
        raise FoundWrong(f"{system}: {said or 'nothing settled'} ({unsettled} still moved): lienthong reconcile --system {system}; then the repair")
    return {"rows": sum(c.rows for c in found.compared), "read": sum(c.read for c in found.compared)}


@flow
def plan(systems: Sequence[str]) -> dict[str, Any]:
    """What would be done about the differences that are known: counts for the person who decides, and the plan's digest."""
    actions = plan_repair(settings(), systems, ())
    counts = Counter((a.difference.system, a.difference.entity, a.difference.kind, a.act) for a in actions)
    lines = [f"| {system} | {entity} | {kind} | {act} | {n} |" for (system, entity, kind, act), n in sorted(counts.items())]
    head = ["| System | Entity | Difference | Repair | Records |", "|---|---|---|---|---|"]
    by_hand = sum(action.act == PERSON for action in actions)
    notes = [
        "",
        "Approve: exactly this plan is carried out; when the differences have moved by then, nothing is done.",
        "Reject, or no answer: nothing is done. Record by record: `lienthong repair --plan`.",
        *([f"{by_hand} of them no repair decides: they stay."] if by_hand else []),
    ]
    logger.info("%s differences to repair", len(actions))
    return {"digest": _digest(actions), "differences": len(actions), "body": "\n".join([*head, *lines, *notes])}


@flow
def repair(systems: Sequence[str], digest: str, *, wait_seconds: float = WAIT_SECONDS) -> dict[str, int]:
    """Carry out the approved plan; raises `FencedError` when it is another one by now, `FoundWrong` when something is left."""
    configured = settings()
    actions = plan_repair(configured, systems, ())
    if _digest(actions) != digest:
        raise FencedError("the differences are others than those that were approved; nothing was done: plan and approve again")
    left = repair_systems(configured, systems, (), wait_seconds=wait_seconds, told=changes(logger, "waiting for"))
    logger.info("%s of %s differences repaired", len(actions) - len(left), len(actions))
    if left:
        raise FoundWrong(f"{len(left)} of {len(actions)} differences are left: lienthong repair --plan")
    return {"repaired": len(actions)}


def _digest(actions: Sequence[Action]) -> str:
    """One name for the same plan, of which nothing can be read."""
    said = sorted((d.system, d.entity, d.key or "", d.record or 0, d.hop, d.kind, a.act) for a in actions for d in [a.difference])
    return sha256(orjson.dumps(said)).hexdigest()[:16]


def _told(what: str, done: int, planned: int) -> None:
    logger.info("%s: %s of %s", what, done, planned)
