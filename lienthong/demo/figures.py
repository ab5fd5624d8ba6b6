"""What the pages for operators show and a flow usually computes: kept once at the end of the demo, by the service's own functions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from lienthong import deadlines, procedures, scorecards
from lienthong.days import yesterday
from lienthong.journey import lost
from lienthong.settings import Settings

DAYS = 30
"""What the scorecards are about: so many days up to yesterday, as only days that are over count."""


def keep(settings: Settings) -> dict[str, Any]:
    """Keep the on-time figures of yesterday's month, scorecards, the review of procedures and one sweep; the chief numbers of each."""
    now = datetime.now(UTC)
    last = yesterday(now)
    _, computed = deadlines.store(settings, last.replace(day=1), now)
    city = next(row for row in computed.rows["agency"] if row["key"] == "*")
    cards = scorecards.compute(settings, last - timedelta(days=DAYS - 1), last, now=now)
    reviewed = procedures.review(settings, last)
    swept = lost.sweep(settings)
    return {
        "month": f"{last:%Y-%m}", "ended": city["ended"], "on_time_percent": city["on_time_percent"], "scorecards": len(cards),
        "procedures": len(reviewed.procedures), "lost": swept.found, "lost_by_kind": lost.by_kind(lost.found(settings)),
    }  # fmt: skip
