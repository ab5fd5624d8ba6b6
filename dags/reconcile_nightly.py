"""
### What
Compares every record of every system with the hub and with what its contract entitles it to, also those that were found equal before.

### When
Every night at one o'clock, each system by itself, to be done by six. By hand for one system.
"""

from __future__ import annotations

from house import comparing

# Made by the house; Airflow opens only files that name it and a DAG.
reconcile_nightly = comparing(
    dag_id="reconcile_nightly",
    title="Đối soát toàn bộ hằng đêm",
    description="Compare every record of every system with the hub, also those found equal before.",
    schedule="0 1 * * *",
    full=True,
    minutes=300,
    hours=8,
    done_hours=5,
    doc=__doc__,
)

reconcile_nightly()
