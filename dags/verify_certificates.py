"""
### What
Checks the whole chain of certificates as an outsider would, with the public key: signatures, links, order, sums.

### When
Whenever certificates arrive on the topic `lienthong.certificates`, whoever has published them; of many that arrive together the last one rings. By
hand at any time.

### What it touches
Reads `hub.certificate` and nothing else. The message is only the bell: nothing of it is passed on.

### How to re-run
Clear it or trigger it: it only reads. From a shell: `lienthong certificate export`, then `lienthong certificate verify` on any machine.

### What to do if red
The log names the first entry that is not right. Somebody has changed the chain or signed with another key: do not close further days before it is
clear who and why; every consumer of the topic still has what was published.
"""

from __future__ import annotations

from typing import Any

from airflow.providers.apache.kafka.triggers.await_message import AwaitMessageTrigger
from airflow.sdk import Asset, AssetWatcher, dag, task
from house import HUB, house

ARRIVAL = AwaitMessageTrigger(
    topics=["lienthong.certificates"], apply_function="lienthong.flows.certifying.bell", kafka_config_id="lienthong_kafka", poll_interval=0
)
CERTIFICATES = Asset("arrived/lienthong.certificates", watchers=[AssetWatcher(name="certificates", trigger=ARRIVAL)])


@dag(
    dag_id="verify_certificates",
    dag_display_name="Kiểm tra chuỗi xác nhận",
    description="Verify the chain of certificates whenever one arrives on its topic.",
    schedule=[CERTIFICATES],
    **house(minutes=30, done_hours=1, tags=["certificate"], doc=__doc__),
)
def verify_certificates() -> None:
    """Verify the chain."""

    @task(inlets=[HUB])
    def verify() -> dict[str, Any]:
        from lienthong.flows import certifying

        return certifying.verify_chain()

    verify()


verify_certificates()
