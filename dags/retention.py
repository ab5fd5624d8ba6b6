"""
### What
Erases what is kept about people for a time only: remembered answers, who looked whom up or looked at which record longer ago than is kept, payloads
of closed parked records, earlier values of deleted records. What was erased is written down, as counts.

### When
Every Sunday at half past three. By hand with a dry run to see how much is over.

### What it touches
The hub's tables `remembered`, `access`, `view_audit`, `parked`, `parked_action`, `history`, in small transactions; `hub.purged` says what. The times
stand under `retention` in systems.yaml.

### How to re-run
Clear it or trigger it: what is erased is not there any more. From a shell: `lienthong purge --dry-run`.

### What to do if red
The hub is away or busy: it is tried again. Anything else is in the log.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import Param, dag, task
from house import HUB, house, officer


@dag(
    dag_id="retention",
    dag_display_name="Xóa dữ liệu hết thời hạn lưu",
    description="Erase what is kept about people for a time only, when that time is over.",
    schedule="30 3 * * 0",
    params={"dry_run": Param(False, type="boolean", title="Dry run", description_md="Only count what is over.")},
    **house(minutes=120, hours=4, tags=["upkeep"], doc=__doc__),
)
def retention() -> None:
    """Purge."""

    @task(inlets=[HUB], outlets=[HUB])
    def purge(params: dict[str, Any] | None = None) -> dict[str, int]:
        from lienthong.flows import keeping

        return keeping.purge(officer=officer(), dry_run=(params or {})["dry_run"])

    purge()


retention()
