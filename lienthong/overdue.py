"""What Airflow calls when a run is not done by its deadline: it says so, and what to look at. It asks nobody, so it works while things are down."""

from __future__ import annotations

import logging
from typing import Any

logger = logging.getLogger(__name__)


async def say(*, context: dict[str, Any]) -> str:
    """Say in the triggerer's log which run is late; the words are kept with the deadline."""
    run = context["dag_run"]
    words = f"{run['dag_id']} is not done by {context['deadline']['deadline_time']}: look at the run {run['dag_run_id']}, and at `lienthong status`"
    logger.error(words, extra={"action": "deadline_missed", "flow": run["dag_id"]})
    return words
