"""Where a system stands at the moment of closing: all that was under way has arrived, and what is compared is equal or not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from connectors.postgres import Connection, one, transaction
from lienthong.certificates.form import Holding, Reason, Target
from lienthong.digest import SetDigest
from lienthong.errors import ConfigError, FatalError, TransientError
from lienthong.reconcile.compare import Compared, Comparison, Scope
from lienthong.reconcile.fence import Fence
from lienthong.settings import Settings

NOT_COMPARED = "not_compared"
WAITS = {
    "refused": None, "parked at the target": "parked_at_target", "kept at the target": "kept_at_target", "waits for its parent": "waits_for_parent",
}  # fmt: skip
"""Why a difference waits for somebody, and the reason it is for leaving a day open; what is refused is in the counts."""


@dataclass(slots=True)
class Standing:
    """One entity of one system as it stands now."""

    target: Target | None = None
    reasons: list[Reason] = field(default_factory=list)


def pass_fence(settings: Settings, system: str, hub: Connection, *, wait_seconds: float, told: Callable[[str], None]) -> str | None:
    """Wait until everything the system has committed so far is through; the reason in words when it is not."""
    try:
        Fence(settings, system, hub, wait_seconds, told).wait()
    except (ConfigError, FatalError, TransientError) as error:
        return str(error)
    return None


def compare(settings: Settings, system: str, *, wait_seconds: float) -> tuple[dict[str, Standing], str | None]:
    """Compare every entity of a system; what could not be compared has no entry, and the reason comes beside it."""
    found: dict[str, Standing] = {}
    try:
        with Comparison(settings, system, wait_seconds=wait_seconds) as comparison:
            is_open = _is_open(settings, system, comparison.notes)
            for entity in comparison.entities():
                found[entity] = _standing(settings, system, comparison.compare(entity, Scope()), is_open=is_open)
    except (ConfigError, FatalError, TransientError) as error:
        return found, str(error)
    return found, None


def _is_open(settings: Settings, system: str, hub: Connection) -> bool:
    """Whether deliveries have begun: nothing is delivered before the system's own records are known (docs/decisions/0005)."""
    if settings.systems[system].capture == "none":
        return True
    with transaction(hub) as cursor:
        return one(cursor, "SELECT 1 FROM hub.setting WHERE name = %s", [f"open {system}"]) is not None


def _standing(settings: Settings, system: str, compared: Compared, *, is_open: bool) -> Standing:
    contract = settings.contract_of(system)
    is_target = contract is not None and compared.entity in contract.entities and settings.systems[system].apply
    standing = Standing()
    if is_target and compared.entitled is not None and compared.held is not None:
        standing.target = Target(_holding(compared.entitled), _holding(compared.held))
    for hop in sorted({d.hop for d in compared.differences}):
        standing.reasons.append(Reason(f"{hop}_differs", sum(d.hop == hop for d in compared.differences)))
    for words, records in sorted(compared.explained.items()):
        code = WAITS.get(words, "waits")
        if code is not None and records:
            standing.reasons.append(Reason(code, records))
    if compared.unsettled:
        standing.reasons.append(Reason("unsettled", compared.unsettled))
    if is_target and not is_open:
        standing.reasons.append(Reason("not_loaded"))
    if standing.target is not None and standing.target.entitled != standing.target.held and not standing.reasons:
        standing.reasons.append(Reason("digests_differ"))
    return standing


def _holding(digest: SetDigest) -> Holding:
    return Holding(digest.count, f"{digest.total:032x}")
