"""Every metric of the service, once: what `/metrics` answers and `docs/metrics.md` shows are both made from this list.

Names follow Prometheus' conventions: one prefix, base units last, `_total` for counters. No label names a person or a record.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

DASHBOARD = "dashboard"
"""A reader: the Grafana dashboard in docker/grafana. The others are alerts of docker/prometheus/rules.yaml."""

UNITS = {"_timestamp_seconds": "seconds since 1970", "_seconds": "seconds", "_bytes": "bytes"}
"""What the end of a name says of its unit, the longest first; every other one counts what its name says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One metric. `readers` are the alerts that it wakes, and the dashboard where it is drawn."""

    name: str
    labels: tuple[str, ...] = ()
    meaning: str
    kind: Literal["gauge", "counter", "histogram"] = "gauge"
    unit: str
    readers: tuple[str, ...]


_LINE, _PARKED = ("system", "stage"), ("system", "kind")

METRICS: tuple[Metric, ...] = (
    Metric(
        name="lienthong_build_info", labels=("version",), unit="always 1", meaning="The version of the service.", readers=("ServiceGone", DASHBOARD)
    ),
    Metric(
        name="lienthong_hub_up",
        unit="1 or 0",
        meaning="Whether the hub answered this scrape; without it nothing else is known.",
        readers=("HubUnreachable", DASHBOARD),
    ),
    Metric(
        name="lienthong_line_lag_seconds",
        labels=_LINE,
        unit="seconds",
        meaning="Age of the oldest committed change that is not through this stage. Measured from the hub, so it grows for a stopped process "
        "too, and is near 0 for a quiet table whose line lives.",
        readers=("LineStalled", "LineLate", DASHBOARD),
    ),
    Metric(
        name="lienthong_delay_seconds",
        labels=("system", "hop"),
        kind="histogram",
        unit="seconds",
        meaning="How long each record took: source_to_hub from the commit at this source, hub_to_target from the router, source_to_target from a "
        "source's commit to the one at this target. Counted since the hub was made, added up twice a second.",
        readers=("DelayHigh", DASHBOARD),
    ),
    Metric(
        name="lienthong_line_lag_limit_seconds",
        labels=_LINE,
        unit="seconds",
        meaning="The agreed limit of the lag, from systems.yaml.",
        readers=("LineStalled", "LineLate", "DelayHigh", DASHBOARD),
    ),
    Metric(
        name="lienthong_line_heartbeat_timestamp_seconds",
        labels=_LINE,
        unit="seconds since 1970",
        meaning="When the process of this line last gave a sign of life; of merge and route, the one that has been silent longest.",
        readers=(DASHBOARD,),
    ),
    Metric(
        name="lienthong_line_state",
        labels=(*_LINE, "state"),
        unit="always 1",
        meaning="The state of the line, as a label.",
        readers=("LineStopped", "LineSilent", DASHBOARD),
    ),
    Metric(
        name="lienthong_probe_age_seconds",
        labels=("system", "leg"),
        unit="seconds",
        meaning="How long ago the newest probe that has arrived was sent; it grows too when nobody sends any.",
        readers=("ProbeLate", DASHBOARD),
    ),
    Metric(
        name="lienthong_day_records",
        labels=("system", "outcome"),
        unit="records",
        meaning="Entries of today (the source's commit, in Asia/Ho_Chi_Minh) by what the merge did with them: the certificate's sum, as it grows.",
        readers=("RefusalBurst", DASHBOARD),
    ),
    Metric(
        name="lienthong_load_waiting_ranges",
        labels=("system",),
        unit="key ranges",
        meaning="Key ranges that the newest load has planned and not yet done.",
        readers=("LoadUnfinished", DASHBOARD),
    ),
    Metric(
        name="lienthong_parked_records",
        labels=_PARKED,
        unit="records",
        meaning="Records that could not be processed and wait for a person.",
        readers=("ParkedGrowing", DASHBOARD),
    ),
    Metric(
        name="lienthong_parked_oldest_timestamp_seconds",
        labels=_PARKED,
        unit="seconds since 1970",
        meaning="Since when the oldest of them waits.",
        readers=("ParkedWaiting",),
    ),
    Metric(
        name="lienthong_parked_oldest_age_seconds",
        labels=_PARKED,
        unit="seconds",
        meaning="For how long the oldest of them has waited.",
        readers=(DASHBOARD,),
    ),
    Metric(
        name="lienthong_replayed_records_total",
        labels=("system", "outcome"),
        kind="counter",
        unit="replays",
        meaning="Replays of parked records, by how they ended.",
        readers=(DASHBOARD,),
    ),
    Metric(
        name="lienthong_corrections_open",
        labels=("system",),
        unit="fields",
        meaning="Edits by this system of fields that it does not own, not yet decided by their owner.",
        readers=(DASHBOARD,),
    ),
    Metric(
        name="lienthong_source_wal_retained_bytes",
        labels=("system",),
        unit="bytes",
        meaning="How much of its log the source keeps for our slot.",
        readers=("SourceWalGrowing", DASHBOARD),
    ),
    Metric(
        name="lienthong_source_wal_safe_bytes",
        labels=("system",),
        unit="bytes",
        meaning="How much more the log may grow before the source gives our slot up; absent where max_slot_wal_keep_size sets no limit.",
        readers=("SourceWalFilling", "SourceWalGrowing", DASHBOARD),
    ),
    Metric(
        name="lienthong_source_slot_active",
        labels=("system",),
        unit="1 or 0",
        meaning="Whether somebody reads our slot at the source; 0 too where it is gone or lost.",
        readers=("SlotInactive", DASHBOARD),
    ),
    Metric(
        name="lienthong_source_clock_offset_seconds",
        labels=("system",),
        unit="seconds",
        meaning="How far the clock of this system's server is ahead of the hub's; below 0: behind.",
        readers=("ClockSkew", DASHBOARD),
    ),
    Metric(
        name="lienthong_differences_records",
        labels=("system", "entity"),
        unit="records",
        meaning="Records that differ between a system, the hub and what the system is entitled to, as last compared.",
        readers=("DifferencesFound", DASHBOARD),
    ),
    Metric(
        name="lienthong_certificate_closed_day_timestamp_seconds",
        labels=("system",),
        unit="seconds since 1970",
        meaning="The end of the newest day that is certified for the whole system.",
        readers=("ProofStale", DASHBOARD),
    ),
    Metric(
        name="lienthong_certificate_open_days",
        labels=("system",),
        unit="days",
        meaning="Days of the last forty whose newest certificate says that something is not accounted for.",
        readers=(DASHBOARD,),
    ),
    Metric(
        name="lienthong_lost_dossiers",
        labels=("system", "kind"),
        unit="dossiers",
        meaning="Dossiers that the last sweep found lost or stuck, by who should have them and by kind.",
        readers=("DossierLost", DASHBOARD),
    ),
    Metric(
        name="lienthong_lost_sweep_timestamp_seconds",
        unit="seconds since 1970",
        meaning="As of when the last sweep looked for lost dossiers.",
        readers=("SweepStale", DASHBOARD),
    ),
    Metric(
        name="lienthong_delivery_messages",
        labels=("system", "state"),
        unit="messages",
        meaning="Messages to the national portal by state; confirmed ones since the beginning.",
        readers=(DASHBOARD,),
    ),
    Metric(
        name="lienthong_delivery_oldest_pending_age_seconds",
        labels=("system",),
        unit="seconds",
        meaning="For how long the oldest message has waited that is neither confirmed nor refused.",
        readers=("DeliveryStuck", DASHBOARD),
    ),
    Metric(
        name="lienthong_delivery_dossiers_in_part",
        labels=("system",),
        unit="dossiers",
        meaning="Dossiers that the portal has, and of which it refused something.",
        readers=("DeliveryRefused", DASHBOARD),
    ),
    Metric(
        name="lienthong_national_service_closed",
        labels=("service",),
        unit="1 or 0",
        meaning="Whether nothing is sent to this national service now, because it failed too often in a row.",
        readers=("NationalServiceAway", DASHBOARD),
    ),
    Metric(
        name="lienthong_national_service_closings_total",
        labels=("service",),
        kind="counter",
        unit="closings",
        meaning="How often that has begun.",
        readers=(DASHBOARD,),
    ),
)

BY_NAME = {metric.name: metric for metric in METRICS}


def samples_of(metric: Metric) -> dict[str, tuple[str, ...]]:
    """The names under which Prometheus keeps a metric, each with its labels: a histogram has three."""
    if metric.kind != "histogram":
        return {metric.name: metric.labels}
    return {f"{metric.name}_bucket": (*metric.labels, "le"), f"{metric.name}_sum": metric.labels, f"{metric.name}_count": metric.labels}


SAMPLES = {name: labels for metric in METRICS for name, labels in samples_of(metric).items()}


def as_json() -> dict[str, Any]:
    """The list as one document."""
    return {"schema": "lienthong/metrics/1", "metrics": [asdict(metric) for metric in METRICS]}


def as_markdown() -> str:
    """The page `docs/metrics.md`."""
    body = [f"| `{m.name}` | {m.kind} | {m.unit} | {_ticked(m.labels)} | {m.meaning} | {', '.join(m.readers)} |" for m in METRICS]
    return "\n".join([_HEAD, *body, _TAIL])


def _ticked(labels: Iterable[str]) -> str:
    return ", ".join(f"`{label}`" for label in labels)


_HEAD = """# Metrics

`lienthong run serve` answers `/metrics` for all roles: everything is asked from the hub at the moment of the scrape, so a process that
has died shows by its lag and does not simply fall silent. This page is what `lienthong metrics --markdown` prints, from the list that
`/metrics` itself is made from (`lienthong/web/metric_list.py`); a test keeps the two equal.

| Name | Kind | Unit | Labels | Meaning | Read by |
|---|---|---|---|---|---|"""
_TAIL = """
Labels: `system` is a name of systems.yaml, `stage` one of capture, merge, route, apply, deliver, `leg` in or out, `entity` an entity of
the model, `hop`, `outcome`, `kind` and `state` words of closed lists ([glossary](glossary.md), [runbook](runbook.md)). None names a person or a
record.

Not made here, because others make it well: processes and disks (node_exporter), the brokers (kafka_exporter: `kafka_consumergroup_lag`
of the groups of agencies that read their own topic), the servers of the systems (postgres_exporter). One change is followed on its way
through all stages by [traces](tracing.md).
"""
