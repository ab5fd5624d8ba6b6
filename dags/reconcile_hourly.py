"""
### What
Compares every system's rows with the hub and with what its contract entitles it to. Only what has changed on either side since it was last found
equal is read.

### When
Every hour at five past, each system by itself. By hand for one system.

### What it touches
Reads each system's tables, the hub's records and contributions, two systems at a time. Writes the differences to `hub.difference` and what was
found equal to `hub.proof`; it corrects nothing.

### How to re-run
Clear a task, or trigger the flow: it only reads. From a shell: `lienthong reconcile --system SYSTEM`.

### What to do if red
A red system differs: the log counts what and where. `lienthong reconcile --system SYSTEM` lists the records, `lienthong trace CODE` explains one;
then start the flow *repair*. *Could not be compared*: the system is away or its line stands still; `lienthong status` says which.
"""

from __future__ import annotations

from airflow.sdk import dag
from house import a_system, compare_systems, house


@dag(
    dag_id="reconcile_hourly",
    dag_display_name="Đối soát hằng giờ",
    description="Compare every system with the hub, what has changed since it was found equal.",
    schedule="5 * * * *",
    params={"system": a_system()},
    **house(minutes=50, hours=1, tags=["reconcile"], doc=__doc__),
)
def reconcile_hourly() -> None:
    """Compare each system by itself."""
    compare_systems(full=False)


reconcile_hourly()
