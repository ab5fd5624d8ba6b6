"""
### What
Compares every record of every system with the hub and with what its contract entitles it to, also those that were found equal before.

### When
Every night at one o'clock, each system by itself. By hand for one system.

### What it touches
Reads each system's tables, the hub's records and contributions, two systems at a time. Writes the differences to `hub.difference` and what was
found equal to `hub.proof`; it corrects nothing.

### How to re-run
Clear a task, or trigger the flow: it only reads. From a shell: `lienthong reconcile --system SYSTEM` `--full`.

### What to do if red
A red system differs: the log counts what and where. `lienthong reconcile --system SYSTEM` lists the records, `lienthong trace CODE` explains one;
then start the flow *repair*. *Could not be compared*: the system is away or its line stands still; `lienthong status` says which.
"""

from __future__ import annotations

from airflow.sdk import dag
from house import a_system, compare_systems, house


@dag(
    dag_id="reconcile_nightly",
    dag_display_name="Đối soát toàn bộ hằng đêm",
    description="Compare every record of every system with the hub, also those found equal before.",
    schedule="0 1 * * *",
    params={"system": a_system()},
    **house(minutes=300, hours=8, tags=["reconcile"], doc=__doc__),
)
def reconcile_nightly() -> None:
    """Compare each system by itself."""
    compare_systems(full=True)


reconcile_nightly()
