"""
### What
Puts right what the last comparison has found: reads a row again, folds a record again, sends it again or withdraws it. First it plans, then a
person approves the plan, then exactly that plan is carried out and looked at again.

### When
By hand, after a red *reconcile*. The approval waits eight hours under *Required Actions*; no answer means no.

### What it touches
Sends records again through `lienthong.in` and the out-topics; never writes into somebody's tables by itself. Whose word counts is what
`authority.yaml` says.

### How to re-run
Trigger it again: what is right by then is not in the plan. When the differences have moved since the approval, nothing is done and the run is red.

### What to do if red
*Others than those that were approved*: start it again and look at the new plan. *Left*: `lienthong repair --plan` names the records, whose word
counts and what a person has to decide.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import dag, task
from airflow.sdk.exceptions import AirflowSkipException
from house import HUB, TOPIC_IN, TOPICS_OUT, a_system, house, tell


@dag(
    dag_id="repair",
    dag_display_name="Sửa sai lệch",
    description="Plan the repair of known differences, let a person approve it, carry out exactly that.",
    schedule=None,
    params={"system": a_system()},
    **house(minutes=60, hours=12, tags=["reconcile"], doc=__doc__),
)
def repair() -> None:
    """Plan, approve, repair."""

    @task(inlets=[HUB])
    def plan(params: dict[str, Any] | None = None) -> dict[str, Any]:
        from lienthong import flows
        from lienthong.flows import comparing

        found = comparing.plan(flows.systems((params or {})["system"]))
        if not found["differences"]:
            raise AirflowSkipException("nothing differs: there is nothing to repair")
        return found

    approve = ApprovalOperator(
        task_id="approve",
        subject="Repair {{ ti.xcom_pull(task_ids='plan')['differences'] }} differences?",
        body="{{ ti.xcom_pull(task_ids='plan')['body'] }}",
        defaults="Reject",
        response_timeout=timedelta(hours=8),
        execution_timeout=None,
    )

    @task(outlets=[HUB, TOPIC_IN, *TOPICS_OUT])
    def carry_out(planned: dict[str, Any], params: dict[str, Any] | None = None) -> dict[str, int]:
        from lienthong import flows
        from lienthong.flows import comparing, lineage

        systems = flows.systems((params or {})["system"])
        tell(lineage.of_repair(systems))
        return comparing.repair(systems, planned["digest"])

    planned = plan()
    planned >> approve >> carry_out(planned)  # type: ignore[arg-type]


repair()
