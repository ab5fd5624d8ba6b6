"""
### What
Closes days: waits until everything a system has committed is through, then certifies for each entity and day that the sum is exact and that the
party holds what it is entitled to; signed, chained, published on `lienthong.certificates`.

### When
Every night at four o'clock, to be done by seven, for every day that is not closed. By hand for one day or system.

### What it touches
Reads each system's tables and the hub's counters, one system at a time. Writes `hub.certificate` and the topic `lienthong.certificates`.

### How to re-run
Clear a system's task, or trigger the flow: a day that is closed stays as it is, a day that is open gets a new certificate only when there is
something new to say. From a shell: `lienthong certificate close`.

### What to do if red
The log names the reasons for which certificates stay open; `lienthong certificate list --open` lists them. Differences: the flow *repair*, then
this again. Parked records: `lienthong parked list`. *Could not be compared*: the system is away; it is tried again, and the next night closes what
is left.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import Asset, Param, dag, task
from house import HUB, SYSTEMS, a_system, house, label, tell


@dag(
    dag_id="close_day",
    dag_display_name="Chốt ngày",
    description="Certify every day that is over: sums, and what every party holds; signed, chained, published.",
    schedule="0 4 * * *",
    params={
        "system": a_system(),
        "day": Param(None, type=["null", "string"], format="date", title="Day", description_md="Empty: all that are not closed."),
    },
    **house(minutes=120, hours=6, done_hours=3, tags=["certificate"], doc=__doc__),
)
def close_day() -> None:
    """Close each system's days, then publish."""

    @task
    def systems(params: dict[str, Any] | None = None) -> list[str]:
        from lienthong import flows

        return flows.systems((params or {})["system"])

    @task(max_active_tis_per_dag=1, map_index_template="{{ label }}", inlets=SYSTEMS, outlets=[HUB])
    def close(system: str, params: dict[str, Any] | None = None) -> dict[str, int]:
        from lienthong.flows import certifying, lineage

        label(system)
        tell(lineage.of_close(system))
        return certifying.close(system, (params or {})["day"])

    @task(trigger_rule="all_done", outlets=[Asset("topic/lienthong.certificates")])
    def publish() -> int:
        from lienthong.flows import certifying

        return certifying.publish()

    close.expand(system=systems()) >> publish()


close_day()
