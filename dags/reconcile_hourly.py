"""
### What
Compares every system's rows with the hub and with what its contract entitles it to. Only what has changed on either side since it was last found
equal is read.

### When
Every hour at five past, each system by itself. By hand for one system.
"""

from __future__ import annotations

from house import comparing

# Made by the house; Airflow opens only files that name it and a DAG.
reconcile_hourly = comparing(
    dag_id="reconcile_hourly",
    title="Đối soát hằng giờ",
    description="Compare every system with the hub, what has changed since it was found equal.",
    schedule="5 * * * *",
    full=False,
    minutes=50,
    hours=1,
    doc=__doc__,
)

reconcile_hourly()
