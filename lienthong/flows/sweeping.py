"""Looking for lost and stuck dossiers: every one of them against what is expected of it by now."""

from __future__ import annotations

import logging
from collections import Counter

from lienthong import hub_schema
from lienthong.errors import TransientError
from lienthong.flows import FoundWrong, flow, settings
from lienthong.journey import lost

logger = logging.getLogger(__name__)

LIMIT = 100_000


@flow
def sweep() -> dict[str, int]:
    """Sweep, and count what is found; raises `FoundWrong` with the counts, and `TransientError` when somebody could not be asked."""
    configured = settings()
    hub_schema.install(configured.hub.dsn)
    told = lost.sweep(configured)
    logger.info("%s dossiers looked at in %s s: %s lost or stuck", told.dossiers, told.took_seconds, told.found)
    found = Counter((one["kind"], one["system"], one["cause"]) for one in lost.found(configured, limit=LIMIT))
    for (kind, system, cause), n in sorted(found.items()):
        logger.warning("%s: %s %s, cause: %s", system, n, kind, cause)
    if found:
        kinds = Counter({kind: 0 for kind, _, _ in found})
        for (kind, _, _), n in found.items():
            kinds[kind] += n
        raise FoundWrong(f"{', '.join(f'{n} {kind}' for kind, n in sorted(kinds.items()))}: lienthong lost --no-sweep")
    if told.unasked:
        raise TransientError(f"nothing is found, but {', '.join(told.unasked)} could not be asked: lienthong status")
    return {"dossiers": told.dossiers, "found": told.found}
