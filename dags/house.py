"""What all flows share: who owns them, how they are tried again, what they touch. No flow of its own, so Airflow does not parse it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from airflow.sdk import Asset, ExceptionRetryPolicy, Param, RetryAction, RetryRule, dag, get_current_context, task
from airflow.sdk.definitions.callback import AsyncCallback
from airflow.sdk.definitions.deadline import DeadlineAlert, DeadlineReference

from lienthong.system_names import system_names

TAGS = ("load", "reconcile", "certificate", "national", "review", "upkeep")
"""The only tags there are."""

OWNER = "lienthong"
START = datetime(2026, 1, 1, tzinfo=ZoneInfo("Asia/Ho_Chi_Minh"))
BULK = "bulk"
"""The pool of loads and look-ups, so that they leave slots to the others; its size stands in pools.json."""
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


def house(*, minutes: int, tags: Sequence[str], doc: str | None, hours: float = 2, done_hours: float | None = None) -> dict[str, Any]:
    """The arguments that every flow gives: a task ends after so many minutes, a run after so many hours, and one run at a time.

    A run that is not done `done_hours` after it was due is told of while it still runs, or waits.
    """
    return {
        "doc_md": doc,
        "start_date": START,
        "catchup": False,
        "max_active_runs": 1,
        "dagrun_timeout": timedelta(hours=hours),
        "deadline": None if done_hours is None else _deadline(done_hours),
        "tags": list(tags),
        "default_args": {
            "owner": OWNER,
            "retries": 3,
            "retry_policy": BY_KIND,
            "execution_timeout": timedelta(minutes=minutes),
        },
    }


def _deadline(hours: float) -> DeadlineAlert:
    interval = timedelta(hours=hours)
    say = AsyncCallback("lienthong.overdue.say")
    return DeadlineAlert(reference=DeadlineReference.DAGRUN_QUEUED_AT, interval=interval, callback=say, name=f"done within {hours:g} hours")


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


COMPARED = """
### What it touches
Reads each system's tables, the hub's records and contributions, two systems at a time. Writes the differences to `hub.difference` and what was
found equal to `hub.proof`; it corrects nothing.

### How to re-run
Clear a task, or trigger the flow: it only reads. From a shell: `lienthong reconcile --system SYSTEM`, with `--full` for every record.

### What to do if red
A red system differs: the log counts what and where. `lienthong reconcile --system SYSTEM` lists the records, `lienthong trace CODE` explains one;
then start the flow *repair*. *Could not be compared*: the system is away or its line stands still; `lienthong status` says which.
"""


def comparing(*, dag_id: str, title: str, description: str, schedule: str, full: bool, doc: str | None, **times: float) -> Callable[[], Any]:
    """A flow that compares each system by itself: all of its records, or what has changed since they were equal. `times` are those of `house`."""

    @dag(
        dag_id=dag_id,
        dag_display_name=title,
        description=description,
        schedule=schedule,
        params={"system": a_system()},
        **house(tags=["reconcile"], doc=f"{doc}{COMPARED}", **times),  # type: ignore[arg-type]
    )
    def flow() -> None:
        compare_systems(full=full)

    return flow


def compare_systems(*, full: bool) -> None:
    """The tasks of a flow that compares: two systems at a time."""

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
