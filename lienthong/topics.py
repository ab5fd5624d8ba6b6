"""What the service's own topics must be set to, so that nothing in them goes before its time: made so by `lienthong run`, looked at by `check`."""

from __future__ import annotations

from collections.abc import Mapping

DAY_MILLIS = 86_400_000
FOREVER = {"retention.ms": "-1", "retention.bytes": "-1"}
IN = {"retention.ms": str(7 * DAY_MILLIS)}
"""What is captured stays a week: so long the hub may be away."""
OUT = {**FOREVER, "cleanup.policy": "compact"}
"""An out-topic waits for its system, however long that is away, with the newest state of each record."""
CERTIFICATES = {**FOREVER, "cleanup.policy": "delete"}


def wrong_out(found: Mapping[str, str]) -> str:
    """What is wrong with the settings of an out-topic; empty: nothing."""
    policy = found.get("cleanup.policy", "delete")
    return "" if policy == "compact" else f"cleanup.policy={policy} where it must be compact: what a system has not read yet would go"


def wrong_in(found: Mapping[str, str]) -> str:
    """What is wrong with the settings of `lienthong.in`; empty: nothing."""
    if "compact" in found.get("cleanup.policy", "delete"):
        return "cleanup.policy=compact where it must be delete: its messages have no keys"
    kept = int(found.get("retention.ms", IN["retention.ms"]))
    return "" if kept < 0 or kept >= DAY_MILLIS else f"retention.ms={kept} where it should be {IN['retention.ms']}: what is not merged yet would go"
