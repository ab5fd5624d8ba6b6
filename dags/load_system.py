"""
### What
Loads one system into the hub: its tables are cut into key ranges, each range is a task, and when all are done the system is opened: from then on it
is sent what others know. With an entity or a key range it loads only that. Live changes go on meanwhile and always win over what a load brings.

### When
By hand: a new ward is connected, or something must be read again. A dry run (the default) only counts.

### What it touches
Reads the system's tables, two ranges at a time (pool *bulk*). Writes to the topic `lienthong.in`, and the ranges and their state to
`hub.load_chunk`. Nothing in the system itself.

### How to re-run
Clear a failed `load` task: it reads its range again; a range read twice, even by two tasks at once, has one effect. Or trigger anew without *Begin
anew*: only ranges that are not done are read. Pausing the flow lets running ranges end and starts no others. From a shell: `lienthong load SYSTEM
--resume`.

### What to do if red
The log's last line says what is wrong. *Cannot be reached*: the task is tried again by itself. *Another load has begun*: yours is of the past, look
at the newer run. *Too much is refused*: `lienthong parked list --system SYSTEM` says which field and why; correct the profile, then re-run.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import Param, dag, task
from house import BULK, DRY_RUN, HUB, SYSTEMS, TOPIC_IN, a_system, an_entity, house, label, tell

ROWS = "What one task reads, and reads again when it was killed."
KEY = "A local key; not for entities that are keyed by personal data. Needs an entity."


@dag(
    dag_id="load_system",
    dag_display_name="Nạp dữ liệu một hệ thống",
    description="Load a system into the hub, by key ranges; resumable, safe beside live changes.",
    schedule=None,
    params={
        "system": a_system(needed=True),
        "entity": an_entity(),
        "low": Param(None, type=["null", "string"], title="Keys after", description_md=KEY),
        "high": Param(None, type=["null", "string"], title="Keys up to", description_md=KEY),
        "anew": Param(
            False, type="boolean", title="Begin anew", description_md="Read again what an unfinished load has read already.", section="Safety"
        ),
        "rows_per_range": Param(10_000, type="integer", minimum=10, title="Rows in a key range", description_md=ROWS, section="Safety"),
        "dry_run": DRY_RUN,
    },
    **house(minutes=60, hours=24, tags=["load"], doc=__doc__),
)
def load_system() -> None:
    """Plan, load each range, finish."""

    @task(inlets=SYSTEMS)
    def plan(params: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        from lienthong.flows import loading

        asked = params or {}
        entities = [asked["entity"]] if asked["entity"] else []
        only = {name: asked[name] for name in ("low", "high", "anew", "dry_run")}
        return loading.plan(asked["system"], entities=entities, rows=asked["rows_per_range"], **only)

    @task(pool=BULK, max_active_tis_per_dag=2, map_index_template="{{ label }}")
    def load(chunk: dict[str, Any], params: dict[str, Any] | None = None) -> int:
        from lienthong.flows import lineage, loading

        system = (params or {})["system"]
        label(f"{chunk['entity']} {chunk['number']}")
        tell(lineage.of_load(system, chunk["entity"]))
        return loading.load(system, **chunk)

    @task(outlets=[HUB, TOPIC_IN])
    def finish(counts: list[int], params: dict[str, Any] | None = None) -> dict[str, Any]:
        from lienthong.flows import loading

        asked = params or {}
        return loading.finish(asked["system"], list(counts), is_part=any(asked[name] for name in ("entity", "low", "high")))

    finish(load.expand(chunk=plan()))  # type: ignore[arg-type]


load_system()
