"""Looking after the service itself: does everything still travel, do the schemas and the units still fit, is what is over erased?"""

from __future__ import annotations

import logging
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

from lienthong import hub_schema, prober, run, status
from lienthong.flows import FoundWrong, flow, settings
from lienthong.national.unit_register import compare
from lienthong.purge import purge as purge_all
from lienthong.schema_check import check_releases
from lienthong.settings import DEFAULT_ZONE

logger = logging.getLogger(__name__)

LINE_FINE, PROBE_FINE = ("normal", "running"), ("normal", "waiting")


@flow
def watch() -> dict[str, int]:
    """Send a probe down every line and look at every stage; raises `FoundWrong` naming what is late, silent or stopped."""
    configured = settings()
    run.prepare(configured)
    probes = [p for p in prober.once(configured, configured.with_database()) if p["state"] not in PROBE_FINE]
    lines = status.lines(configured)
    wrong = [line for line in lines if line["state"] not in LINE_FINE]
    for line in wrong:
        logger.warning("%s %s: %s, %s s behind: %s", line["system"], line["stage"], line["state"], line["lag_seconds"], line["reason"] or "-")
    for each in probes:
        logger.warning("%s, leg %s: %s: %s", each["system"], each["leg"], each["state"], each["reason"] or "-")
    if wrong or probes:
        places = sorted({f"{line['system']} {line['stage']}" for line in wrong} | {f"{p['system']} {p['leg']}" for p in probes})
        raise FoundWrong(f"{len(places)} of {len(lines)} lines do not move as they should: {', '.join(places[:12])}: lienthong status")
    logger.info("%s lines, all normal", len(lines))
    return {"lines": len(lines)}


@flow
def compare_units(on: str | None) -> int:
    """Compare our register of units with the statistics office's on a day; raises `FoundWrong` when they differ. Nothing is applied."""
    day = datetime.now(ZoneInfo(DEFAULT_ZONE)).date() if on is None else date.fromisoformat(on)
    found = compare(settings(), day)
    for difference in found:
        logger.warning("%s %s %s: ours %s, theirs %s", difference.kind, difference.level, difference.code, difference.ours, difference.theirs)
    if found:
        raise FoundWrong(f"{len(found)} units differ on {day}: lienthong national units --on {day}; a person decides")
    logger.info("no unit differs on %s", day)
    return 0


@flow
def check_schemas() -> int:
    """Compare today's schemas with every release, both ways; raises `FoundWrong` naming fields and readers that would break."""
    problems = check_releases()
    for problem in problems:
        logger.warning("%s", problem)
    if problems:
        raise FoundWrong(f"{len(problems)} problems between today's schemas and the releases: lienthong schemas check")
    logger.info("today's schemas fit every release")
    return 0


@flow
def purge(*, officer: str, dry_run: bool) -> dict[str, int]:
    """Erase what is kept for a time only, or count it; how many rows of each kind."""
    configured = settings()
    hub_schema.install(configured.hub.dsn)
    erased = purge_all(
        configured, officer=officer, now=datetime.now(UTC), dry_run=dry_run, told=lambda what, n: logger.info("%s: %s erased", what, n)
    )
    logger.info("%s: %s", "would be erased" if dry_run else "erased", ", ".join(f"{n} {what}" for what, n in erased.items()))
    return erased
