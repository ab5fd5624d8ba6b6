"""
### What
Looks for lost and stuck dossiers: submitted online and not received, handed over and not acknowledged, sent and not confirmed, finished and not shown
at a portal, held by a ward and never seen by the city. The limits are those of `expectations.yaml`.

### When
Every half hour. By hand at any time.

### What it touches
Reads the hub, the targets of what is not proven to have arrived, and the keys of dossiers in every source. Writes what is found to
`hub.lost_dossier`, in the place of what was found before.

### How to re-run
Clear it or trigger it: it only looks. From a shell: `lienthong lost`.

### What to do if red
The log counts what is missing where and why, without naming a dossier. `lienthong lost --no-sweep` names each with its last holder, the probable
cause and what to do; `lienthong trace CODE` shows the journey of one; docs/journeys.md has every cause.
"""

from __future__ import annotations

from airflow.sdk import dag, task
from house import HUB, SYSTEMS, house


@dag(
    dag_id="dossier_sweep",
    dag_display_name="Rà soát hồ sơ thất lạc",
    description="Find lost and stuck dossiers; red when there is one.",
    schedule="*/30 * * * *",
    **house(minutes=25, hours=0.5, tags=["review"], doc=__doc__),
)
def dossier_sweep() -> None:
    """Sweep."""

    @task(inlets=[HUB, *SYSTEMS], outlets=[HUB])
    def sweep() -> dict[str, int]:
        from lienthong.flows import sweeping

        return sweeping.sweep()

    sweep()


dossier_sweep()
