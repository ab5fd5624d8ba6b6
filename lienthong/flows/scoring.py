"""On-time figures and scorecards of a month as far as it is over: computed and kept for the pages; a month that is over is published."""

from __future__ import annotations

import logging
from datetime import UTC, date, datetime, timedelta

from lienthong import deadlines, scorecards
from lienthong.days import yesterday
from lienthong.deadlines.figures import CITY, next_month
from lienthong.flows import flow, settings

logger = logging.getLogger(__name__)


@flow
def score(month: str | None = None, *, now: datetime | None = None) -> dict[str, int | float | None]:
    """Keep the figures and the scorecards of a month (YYYY-MM), by default that of yesterday; the issue and the city's share on time."""
    at = now or datetime.now(UTC)
    last = yesterday(at)
    first = date.fromisoformat(f"{month}-01") if month else last.replace(day=1)
    configured = settings()
    issue, computed = deadlines.store(configured, first, at)
    city = next(row for row in computed.rows["agency"] if row["key"] == CITY)
    logger.info("%s: issue %s, %s ended, %s %% on time, digest %s", first, issue, city["ended"], city["on_time_percent"], computed.digest)
    cards = scorecards.compute(configured, first, min(last, next_month(first) - timedelta(days=1)), now=at)
    for card in cards:
        logger.info("%s: %s of %s days closed, digest %s", card["system"], card["closed_days"], card["days"], card["digest"])
    return {"issue": issue, "ended": city["ended"], "on_time_percent": city["on_time_percent"], "scorecards": len(cards)}
