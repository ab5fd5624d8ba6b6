"""
### What
Compares the unified model of this installation with every version ever released, in both directions: would a reader or a writer of some release
break?

### When
Every morning at five, and by hand before a new version of the service is started anywhere.

### What it touches
Nothing: it reads the schemas that are installed.

### How to re-run
Clear it or trigger it. From a shell: `lienthong schemas check`.

### What to do if red
The log names field, reader and writer. Do not start this version on more machines: put the earlier one back; what must change goes into a new
release.
"""

from __future__ import annotations

from airflow.sdk import dag, task
from house import house


@dag(
    dag_id="schema_gate",
    dag_display_name="Kiểm tra lược đồ trước khi phát hành",
    description="Compare today's schemas with every release, for readers and writers.",
    schedule="0 5 * * *",
    **house(minutes=10, tags=["review"], doc=__doc__),
)
def schema_gate() -> None:
    """Compare."""

    @task
    def check() -> int:
        from lienthong.flows import keeping

        return keeping.check_schemas()

    check()


schema_gate()
