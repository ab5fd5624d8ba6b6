"""Reviewing the procedures: counted, kept in the hub, and the findings in the log."""

from __future__ import annotations

import logging
from datetime import UTC, date, datetime

from lienthong import procedures
from lienthong.days import yesterday
from lienthong.flows import flow, settings

logger = logging.getLogger(__name__)


@flow
def review_procedures(as_of: str | None) -> dict[str, int | float | None]:
    """Review the procedures as of the end of a day, by default of the last day of the year before; the totals."""
    day = date.fromisoformat(as_of) if as_of else date(yesterday(datetime.now(UTC)).year - 1, 12, 31)
    found = procedures.totals(procedures.review(settings(), day).procedures)
    for line in procedures.said(found):
        logger.info("%s: %s", day, line)
    return found
