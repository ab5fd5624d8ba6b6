"""
### What
Asks the national population database about citizens whose identity nobody has confirmed yet, within a budget: number, name and birth date, answered
by yes or no. Who was asked about before, and has not changed since, is not asked about again.

### When
Every two hours, those never asked about first. The contract rate of all processes holds here too.

### What it touches
Calls the population database, in the pool *bulk*. Writes every access to the ledger (`hub.access`), the answer to `hub.verified`. Nobody's record
is changed.

### How to re-run
Clear it or trigger it: answers are remembered, so nobody is asked about twice. One citizen from a shell: `lienthong national verify-citizen`.

### What to do if red
*Does not answer*: it is tried again by itself. A wrong secret or certificate: `lienthong national status`, then docs/national.md. Answers of *no*
are not red: they are counted in the log.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import Param, dag, task
from house import BULK, HUB, house, officer


@dag(
    dag_id="national_look_ups",
    dag_display_name="Xác minh công dân",
    description="Ask the national population database about citizens who are not confirmed yet, within a budget.",
    schedule="0 */2 * * *",
    params={
        "budget": Param(200, type="integer", minimum=1, maximum=100_000, title="At most so many", section="Safety"),
        "purpose": Param(
            "checking the applicants of open dossiers",
            type="string",
            minLength=3,
            title="Purpose",
            description_md="Stands in the access ledger beside each question. No personal data.",
            section="Safety",
        ),
        "dry_run": Param(False, type="boolean", title="Dry run", description_md="Only count who would be asked about."),
    },
    **house(minutes=90, tags=["national"], doc=__doc__),
)
def national_look_ups() -> None:
    """Ask, where a population database is configured."""

    @task.short_circuit
    def is_configured() -> bool:
        from lienthong.flows import national

        return national.has("population")

    @task(pool=BULK, inlets=[HUB], outlets=[HUB])
    def look_up(params: dict[str, Any] | None = None) -> dict[str, int]:
        from lienthong.flows import national

        asked = params or {}
        return national.look_ups(budget=asked["budget"], purpose=asked["purpose"], officer=officer(), dry_run=asked["dry_run"])

    is_configured() >> look_up()


national_look_ups()
