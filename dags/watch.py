"""
### What
Sends a probe record down every line and looks at every stage: does everything still travel, and within the agreed time?

### When
Every ten minutes. By hand at any time.

### What it touches
Writes one probe row to each system's small schema and to the hub; nothing of the city's data.

### How to re-run
Clear it or trigger it. From a shell: `lienthong probe`, `lienthong status`.

### What to do if red
The log names system, stage, state, how late and why. *Silent*: that process has died or hangs, start `lienthong run`. *Late*: a backlog or a slow
machine. *Stopped*: `lienthong status` says what a person has to do; docs/runbook.md has each state.
"""

from __future__ import annotations

from airflow.sdk import dag, task
from house import HUB, SYSTEMS, house


@dag(
    dag_id="watch",
    dag_display_name="Theo dõi các luồng",
    description="Send a probe down every line; red when one is late, silent or stopped.",
    schedule="*/10 * * * *",
    **house(minutes=10, hours=1, tags=["upkeep"], doc=__doc__),
)
def watch() -> None:
    """Probe and look."""

    @task(inlets=[HUB, *SYSTEMS], retries=0)
    def look() -> dict[str, int]:
        from lienthong.flows import keeping

        return keeping.watch()

    look()


watch()
