"""What all flows share: who owns them, how they are tried again, what they touch. No flow of its own, so Airflow does not parse it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from airflow.sdk import Asset, ExceptionRetryPolicy, Param, RetryAction, RetryRule, get_current_context, task

from lienthong.system_names import system_names

TAGS = ("load", "reconcile", "certificate", "national", "review", "upkeep")
"""The only tags there are."""

OWNER = "lienthong"
START = datetime(2026, 1, 1, tzinfo=ZoneInfo("Asia/Ho_Chi_Minh"))
ENTITIES = ["citizen", "procedure", "dossier", "dossier_event", "dossier_component", "fee", "evaluation", "agency"]

BY_KIND = ExceptionRetryPolicy(
    rules=[
        RetryRule("connectors.errors.TransientError", RetryAction.RETRY, reason="a dependency is down or busy"),
        RetryRule("connectors.errors.LienThongError", RetryAction.FAIL, reason="trying again would not help: a person has to look"),
    ]
)
"""Errors of ours say themselves whether trying again can help; a task whose process was killed is tried again."""

NAMES = system_names()
HUB = Asset("hub")
TOPIC_IN = Asset("topic/lienthong.in")
SYSTEMS = [Asset(f"system/{name}") for name in NAMES]
TOPICS_OUT = [Asset(f"topic/lienthong.out.{name}") for name in NAMES]

DRY_RUN = Param(True, type="boolean", title="Dry run", description_md="Only say what would be done (*chỉ xem, không làm*).")
WHY_WORDS = "Recorded with your name; needed unless it is a dry run. No personal data."
WHY = Param("", type="string", title="Reason", description_md=WHY_WORDS, section="Safety")


def house(*, minutes: int, tags: Sequence[str], doc: str | None, hours: float = 2) -> dict[str, Any]:
    """The arguments that every flow gives: a task ends after so many minutes, a run after so many hours, and one run at a time."""
    return {
        "doc_md": doc,
        "start_date": START,
        "catchup": False,
        "max_active_runs": 1,
        "dagrun_timeout": timedelta(hours=hours),
        "tags": list(tags),
        "default_args": {
            "owner": OWNER,
            "retries": 3,
            "retry_policy": BY_KIND,
            "execution_timeout": timedelta(minutes=minutes),
        },
    }


def a_system(*, needed: bool = False) -> Param:
    """The form's field for a system, with the names of systems.yaml to choose from."""
    words = "A name of systems.yaml." if needed else "A name of systems.yaml; empty: all that have a database."
    if needed:
        return Param("", type="string", minLength=1, title="System", description_md=words, examples=NAMES)
    return Param(None, type=["null", "string"], title="System", description_md=words, examples=NAMES)


def an_entity() -> Param:
    """The form's field for an entity."""
    return Param(None, type=["null", "string"], enum=[None, *ENTITIES], title="Entity", description_md="Empty: all.")


def officer() -> str:
    """Who has started this run, for records of who did what."""
    return getattr(get_current_context()["dag_run"], "triggering_user_name", None) or "airflow"


def label(words: str) -> None:
    """Name this task among its mapped sisters."""
    get_current_context()["label"] = words  # type: ignore[typeddict-unknown-key]


def tell(datasets: Mapping[str, Sequence[str]]) -> None:
    """Report what this task reads and writes; OpenLineage passes it on when the task ends."""
    from airflow.providers.common.compat.lineage.hook import get_hook_lineage_collector

    collector, task = get_hook_lineage_collector(), get_current_context()["task"]  # type: ignore[no-untyped-call]
    for uri in datasets["inputs"]:
        collector.add_input_asset(task, uri=uri)
    for uri in datasets["outputs"]:
        collector.add_output_asset(task, uri=uri)


def compare_systems(*, full: bool) -> None:
    """The tasks of both flows that compare: each system by itself, two at a time, all of its records or what has changed since they were equal."""

    @task
    def systems(params: dict[str, Any] | None = None) -> list[str]:
        from lienthong import flows

        return flows.systems((params or {})["system"])

    @task(max_active_tis_per_dag=2, map_index_template="{{ label }}", inlets=SYSTEMS, outlets=[HUB])
    def reconcile(system: str) -> dict[str, int]:
        from lienthong.flows import comparing, lineage

        label(system)
        tell(lineage.of_reconcile(system))
        return comparing.reconcile(system, full=full)

    reconcile.expand(system=systems())
