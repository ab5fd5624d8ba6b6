"""
### What
Computes the on-time figures and the scorecards of the month of yesterday and keeps them for the pages. On the first of a month this publishes the
month before: its figures then stay as they are, and whatever changes later is shown as a difference.

### When
Every day at half past five, after the days are closed. By hand for any month.

### What it touches
Reads the golden records in one pass each. Writes `hub.deadline_figures` and `hub.scorecard`. No system is touched.

### How to re-run
Clear it or trigger it. A published month that gives the same figures stays as it is; one that gives others gets a new issue beside the old one. From
a shell: `lienthong sla --month YYYY-MM --store` and `lienthong scorecard --month YYYY-MM`.

### What to do if red
*The hub cannot be reached*: it is tried again by itself. Low figures are not red: they are on the pages, and in `lienthong sla`.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import Param, dag, task
from house import HUB, house


@dag(
    dag_id="scorecards",
    dag_display_name="Bảng điểm và tỷ lệ đúng hạn",
    description="Keep the on-time figures and the scorecards of the month; publish a month that is over.",
    schedule="30 5 * * *",
    params={
        "month": Param(
            None,
            type=["null", "string"],
            pattern="^[0-9]{4}-[0-9]{2}$",
            title="Month",
            description_md="YYYY-MM; empty: that of yesterday.",
        )
    },
    **house(minutes=60, tags=["review"], doc=__doc__),
)
def scorecards() -> None:
    """One pass over the hub."""

    @task(inlets=[HUB], outlets=[HUB])
    def score(params: dict[str, Any] | None = None) -> dict[str, int | float | None]:
        from lienthong.flows import scoring

        return scoring.score((params or {})["month"])

    score()


scorecards()
