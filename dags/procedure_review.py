"""
### What
Reviews the procedures: for each one the dossiers per year and channel, none in three years (candidates for abolition), the ranking of what to put or
improve online next, the share of online dossiers, how long handling takes and how late it is.

### When
Every year on 2 January at five, as of the last day of the year. By hand for any day.

### What it touches
Reads the golden records in one pass. Writes `hub.procedure_review`, in place of an earlier review of the same day. No system is touched.

### How to re-run
Clear it or trigger it; the same day counted again is the same, unless facts have arrived later. From a shell: `lienthong procedures review --as-of
YYYY-MM-DD`.

### What to do if red
*The hub cannot be reached*: it is tried again by itself. Findings are not red: they are in the log, on the page *procedures*, and in the CSV of the
command.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import Param, dag, task
from house import HUB, house


@dag(
    dag_id="procedure_review",
    dag_display_name="Rà soát thủ tục hành chính",
    description="Review the procedures: unused ones, what to put or improve online next, how long they take.",
    schedule="0 5 2 1 *",
    params={"as_of": Param(None, type=["null", "string"], format="date", title="As of", description_md="Empty: the last day of the year before.")},
    **house(minutes=60, tags=["review"], doc=__doc__),
)
def procedure_review() -> None:
    """One pass over the hub."""

    @task(inlets=[HUB], outlets=[HUB])
    def review(params: dict[str, Any] | None = None) -> dict[str, int | float | None]:
        from lienthong.flows import reviewing

        return reviewing.review_procedures((params or {})["as_of"])

    review()


procedure_review()
