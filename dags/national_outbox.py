"""
### What
Watches the messages to the national public service portal: red when some are refused, when the oldest has waited too long, or when the portal does
not answer. With *Send refused messages again* it first queues those.

### When
Every fifteen minutes. By hand to send refused messages again, once their cause is cured.

### What it touches
Reads the delivery ledger. Sending again queues messages there, recorded with your name and reason; `lienthong run deliver` carries them.

### How to re-run
Clear it or trigger it: what was queued again is not refused any more. From a shell: `lienthong national outbox`, `lienthong national resend`.

### What to do if red
*Refused*: `lienthong national outbox --state refused` gives the portal's reason for each; correct it at the source, the next state follows by
itself, or send again. *Waited*: `lienthong national status`; is `lienthong run deliver` running, is the portal away?
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import Param, dag, task
from house import DRY_RUN, HUB, WHY, house, officer


@dag(
    dag_id="national_outbox",
    dag_display_name="Hộp gửi Cổng dịch vụ công quốc gia",
    description="Watch the messages to the national portal; send refused ones again.",
    schedule="*/15 * * * *",
    params={
        "oldest_minutes": Param(30, type="integer", minimum=1, title="Red when the oldest has waited longer (minutes)"),
        "resend": Param(False, type="boolean", title="Send refused messages again"),
        "limit": Param(100, type="integer", minimum=1, maximum=10_000, title="At most so many", section="Safety"),
        "why": WHY,
        "dry_run": DRY_RUN,
    },
    **house(minutes=10, hours=1, tags=["national"], doc=__doc__),
)
def national_outbox() -> None:
    """Send again where that is asked for, then look, where a portal is configured."""

    @task.short_circuit
    def is_configured() -> bool:
        from lienthong.flows import national

        return national.has("portal")

    @task(outlets=[HUB])
    def resend(params: dict[str, Any] | None = None) -> dict[str, int]:
        from lienthong.flows import national

        asked = params or {}
        if not asked["resend"]:
            return {}
        return national.resend(limit=asked["limit"], why=asked["why"], officer=officer(), dry_run=asked["dry_run"])

    @task(inlets=[HUB])
    def watch(params: dict[str, Any] | None = None) -> dict[str, Any]:
        from lienthong.flows import national

        return national.outbox(oldest_minutes=(params or {})["oldest_minutes"])

    is_configured() >> resend() >> watch()


national_outbox()
