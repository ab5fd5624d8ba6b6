"""
### What
Puts parked records through the normal path again, in the order received for each key, within a budget; it stops after five in a row that did not
help.

### When
By hand, after the cause was cured: a corrected profile, a unit added, a constraint lifted at a target. A dry run (the default) only says what would
be done.

### What it touches
Reads parked records and reads their sources again; what is replayed passes mapping, merge and routing like everything else. Every replay is
recorded with your name and reason.

### How to re-run
Trigger it again: what was taken is not parked any more. From a shell: `lienthong parked replay`, which also corrects and decides single records.

### What to do if red
*Stay parked*: `lienthong parked list` says why each does. *In a row*: the cause is not cured yet. *Cannot be reached*: that target is away; the
others were done.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import Param, dag, task
from house import DRY_RUN, HUB, TOPIC_IN, WHY, a_system, an_entity, house, officer


@dag(
    dag_id="parked_replay",
    dag_display_name="Gửi lại hồ sơ chờ xử lý",
    description="Replay parked records within a budget, once their cause is cured.",
    schedule=None,
    params={
        "kind": Param(
            "refused",
            enum=["refused", "held", "damaged", "apply"],
            title="Kind",
            description_md="`refused`: on the way into the hub; `apply`: by a target. Links and ghosts are decided one by one, from a shell.",
        ),
        "system": a_system(),
        "entity": an_entity(),
        "reason": Param(None, type=["null", "string"], title="For this reason", description_md="As `lienthong status` names it."),
        "older_than_minutes": Param(0, type="integer", minimum=0, title="Parked longer ago than (minutes)"),
        "budget": Param(100, type="integer", minimum=1, maximum=10_000, title="At most so many", section="Safety"),
        "why": WHY,
        "dry_run": DRY_RUN,
    },
    **house(minutes=120, hours=3, tags=["load"], doc=__doc__),
)
def parked_replay() -> None:
    """Replay."""

    @task(inlets=[HUB], outlets=[TOPIC_IN])
    def replay(params: dict[str, Any] | None = None) -> dict[str, int]:
        from lienthong.flows import replaying

        asked = params or {}
        return replaying.replay(asked, budget=asked["budget"], why=asked["why"], officer=officer(), dry_run=asked["dry_run"])

    replay()


parked_replay()
