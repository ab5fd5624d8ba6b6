"""
### What
Compares our register of administrative units with the statistics office's (DMDVHC) as of a day: added, removed, renamed, moved.

### When
Every Monday at six. By hand for any day, for example the first day of a law.

### What it touches
Calls the register of units. Writes nothing: a person decides.

### How to re-run
Clear it or trigger it. From a shell: `lienthong national units --on YYYY-MM-DD`.

### What to do if red
The log lists every unit that differs, with both names. Look at the decree behind it; new units come with a release of the service's own register.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import Param, dag, task
from house import house


@dag(
    dag_id="units_compare",
    dag_display_name="So danh mục đơn vị hành chính",
    description="Compare our register of administrative units with the statistics office's, as of a day.",
    schedule="0 6 * * 1",
    params={"on": Param(None, type=["null", "string"], format="date", title="Day", description_md="Empty: today.")},
    **house(minutes=20, tags=["review"], doc=__doc__),
)
def units_compare() -> None:
    """Compare, where the register is configured."""

    @task.short_circuit
    def is_configured() -> bool:
        from lienthong.flows import national

        return national.has("unit_register")

    @task
    def compare(params: dict[str, Any] | None = None) -> int:
        from lienthong.flows import keeping

        return keeping.compare_units((params or {})["on"])

    is_configured() >> compare()


units_compare()
