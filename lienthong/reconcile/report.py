"""Reconciling and repairing several systems, and the documents that say what came out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from connectors.postgres import connect
from lienthong import hub_schema
from lienthong.errors import ConfigError, FatalError, TransientError
from lienthong.hub import named
from lienthong.reconcile.compare import Compared, Comparison, Scope
from lienthong.reconcile.judge import CAPTURE
from lienthong.reconcile.repair import ACTS, RE_READ, Action, Planner, Repair, known_differences
from lienthong.settings import Settings

Show = Callable[[str, int, int], None]


@dataclass(slots=True)
class Found:
    """What was compared, and the systems that could not be, with the reason."""

    compared: list[Compared] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)


def reconcile_systems(
    settings: Settings, systems: Sequence[str], entities: Sequence[str], scope: Scope, *, wait_seconds: float, show: Show = lambda *_: None
) -> Found:
    """Compare some systems, one after the other; one that does not answer holds up nobody else."""
    found = Found()
    with named():
        hub_schema.install(settings.hub.dsn)
    for system in systems:
        try:
            with Comparison(
                settings, system, wait_seconds=wait_seconds, progress=lambda e, done, planned, s=system: show(f"{s} {e}", done, planned)  # type: ignore[misc]
            ) as comparison:  # fmt: skip
                chosen = entities if len(systems) == 1 else [e for e in entities if e in settings.profile_of(system).entities]
                if entities and not chosen:
                    continue
                for entity in comparison.entities(chosen):
                    found.compared.append(comparison.compare(entity, scope))
        except (FatalError, TransientError) as error:
            found.failed[system] = str(error)
        except ConfigError as error:
            if len(systems) == 1:
                raise
            found.failed[system] = str(error)
    return found


def as_document(found: Found) -> dict[str, Any]:
    """Everything that was found, as plain data."""
    return {
        "schema": "lienthong/reconcile/1",
        "compared": [
            {
                "system": c.system, "entity": c.entity, "rows": c.rows, "read": c.read, "seconds": round(c.seconds, 3), "unsettled": c.unsettled,
                "waiting": dict(c.explained), "kept": c.kept,
                "entitled": c.entitled.hex() if c.entitled else None, "held": c.held.hex() if c.held else None,
            }
            for c in found.compared
        ],
        "differences": [asdict(d) for c in found.compared for d in c.differences],
        "not_compared": [{"system": system, "reason": why} for system, why in found.failed.items()],
    }  # fmt: skip


def plan_repair(settings: Settings, systems: Sequence[str], entities: Sequence[str]) -> list[Action]:
    """What would be done about the differences that are known."""
    with named():
        hub_schema.install(settings.hub.dsn)
        connection = connect(settings.hub.dsn, application_name="lienthong repair")
        try:
            return Planner(settings).plan(connection, known_differences(settings, systems, entities))
        finally:
            connection.close()


def repair_systems(
    settings: Settings, systems: Sequence[str], entities: Sequence[str], *, wait_seconds: float, told: Callable[[str], None]
) -> list[Action]:
    """Repair what is known of some systems; returns what is left.

    The systems' own words come first: a golden record must not be made anew from a word that is wrong itself.
    """
    left: list[Action] = []
    for acts in ((RE_READ,), ACTS):
        left = []
        for system in systems:
            differences = known_differences(settings, [system], entities)
            if differences if acts == ACTS else any(d.hop == CAPTURE for d in differences):
                left += Repair(settings, system, wait_seconds=wait_seconds, told=told).run(differences, acts)
    return left


def plan_document(actions: Sequence[Action], *, done: int, is_plan: bool) -> dict[str, Any]:
    """A plan, or what a repair has left, as plain data."""
    return {
        "schema": "lienthong/repair/1", "plan": is_plan, "repaired": done,
        "actions": [{**asdict(a.difference), "repair": a.act, "whose_word": a.owners, "basis": a.basis} for a in actions],
    }  # fmt: skip
