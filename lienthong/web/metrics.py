"""`/metrics` for Prometheus: lag of every line, its probes and what is parked, asked from the hub at each scrape, so that dead processes show too.

Names and units follow Prometheus' conventions (conventions.md §7): base units, no label of a person or a record.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from fastapi import APIRouter, Response
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from lienthong import __version__, status
from lienthong.errors import LienThongError
from lienthong.settings import Settings

LABELS: dict[str, tuple[str, ...]] = {
    "lienthong_build_info": ("version",),
    "lienthong_hub_up": (),
    "lienthong_line_lag_seconds": ("system", "stage"),
    "lienthong_line_lag_limit_seconds": ("system", "stage"),
    "lienthong_line_state": ("system", "stage", "state"),
    "lienthong_parked_records": ("system", "kind"),
    "lienthong_parked_oldest_timestamp_seconds": ("system", "kind"),
    "lienthong_parked_oldest_age_seconds": ("system", "kind"),
    "lienthong_replayed_records_total": ("system", "outcome"),
    "lienthong_probe_age_seconds": ("system", "leg"),
    "lienthong_differences_records": ("system", "entity"),
    "lienthong_certificate_closed_day_timestamp_seconds": ("system",),
    "lienthong_delivery_messages": ("system", "state"),
    "lienthong_delivery_oldest_pending_age_seconds": ("system",),
    "lienthong_delivery_dossiers_in_part": ("system",),
}
MEANINGS = {
    "lienthong_build_info": "The version of the service, as a label.",
    "lienthong_hub_up": "Whether the hub answered this scrape; without it nothing else is known.",
    "lienthong_line_lag_seconds": "Age of the oldest committed change that is not through this stage.",
    "lienthong_line_lag_limit_seconds": "The agreed limit of the lag.",
    "lienthong_line_state": "The state of the line, as a label; always 1.",
    "lienthong_parked_records": "Records that could not be processed and wait for a person.",
    "lienthong_parked_oldest_timestamp_seconds": "Since when the oldest of them waits.",
    "lienthong_parked_oldest_age_seconds": "For how long the oldest of them has waited.",
    "lienthong_replayed_records_total": "Replays of parked records, by how they ended.",
    "lienthong_probe_age_seconds": "How long ago the newest probe that has arrived was sent; it grows too when nobody sends any.",
    "lienthong_differences_records": "Records that differ between a system, the hub and what the system is entitled to, as last compared.",
    "lienthong_certificate_closed_day_timestamp_seconds": "The end of the newest day that is certified for the whole system.",
    "lienthong_delivery_messages": "Messages to the national portal by state; confirmed ones since the beginning.",
    "lienthong_delivery_oldest_pending_age_seconds": "For how long the oldest message has waited that is neither confirmed nor refused.",
    "lienthong_delivery_dossiers_in_part": "Dossiers that the portal has, and of which it refused something.",
}


class HubCollector(Collector):
    """Makes all metrics from one look at the hub."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def collect(self) -> Iterable[Metric]:
        """The metrics of one scrape."""
        yield _gauge("lienthong_build_info", [([__version__], 1)])
        try:
            found = list(self._of_hub())
        except LienThongError:
            yield _gauge("lienthong_hub_up", [([], 0)])
            return
        yield _gauge("lienthong_hub_up", [([], 1)])
        yield from found

    def describe(self) -> Iterable[Metric]:
        """Nothing: a hub that is away must not keep the process from starting."""
        return ()

    def _of_hub(self) -> Iterator[Metric]:
        lines = status.lines(self.settings)
        places = [([line["system"], line["stage"]], line) for line in lines]
        yield _gauge("lienthong_line_lag_seconds", [(place, x["lag_seconds"]) for place, x in places if x["lag_seconds"] is not None])
        yield _gauge("lienthong_line_lag_limit_seconds", [(place, x["limit_seconds"]) for place, x in places])
        yield _gauge("lienthong_line_state", [([*place, x["state"].replace(" ", "_")], 1) for place, x in places])
        waiting = status.parked_by_kind(self.settings)
        yield _gauge("lienthong_parked_records", [([w["system"], w["kind"]], w["records"]) for w in waiting])
        yield _gauge("lienthong_parked_oldest_timestamp_seconds", [([w["system"], w["kind"]], w["oldest"].timestamp()) for w in waiting])
        yield _gauge("lienthong_parked_oldest_age_seconds", [([w["system"], w["kind"]], w["oldest_age_seconds"]) for w in waiting])
        replayed = CounterMetricFamily(
            "lienthong_replayed_records", MEANINGS["lienthong_replayed_records_total"], labels=LABELS["lienthong_replayed_records_total"]
        )
        for system, outcome, count in status.replayed(self.settings):
            replayed.add_metric([system, outcome], count)
        yield replayed
        ages = [([p["system"], p["leg"]], p["age_seconds"]) for p in status.probes(self.settings) if p["age_seconds"] is not None]
        yield _gauge("lienthong_probe_age_seconds", ages)
        yield _gauge("lienthong_differences_records", [([s, e], n) for s, e, n in status.differences(self.settings)])
        yield _gauge("lienthong_certificate_closed_day_timestamp_seconds", [([s], at) for s, at in status.closed_days(self.settings)])
        yield from self._of_delivery()

    def _of_delivery(self) -> Iterator[Metric]:
        found = status.delivery(self.settings)
        if found is not None:
            system = found["system"]
            yield _gauge("lienthong_delivery_messages", [([system, state], count) for state, count in found["states"].items()])
            yield _gauge("lienthong_delivery_oldest_pending_age_seconds", [([system], found["oldest_pending_seconds"])])
            yield _gauge("lienthong_delivery_dossiers_in_part", [([system], found["dossiers_in_part"])])


def _gauge(name: str, values: Iterable[tuple[list[str], float]]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, MEANINGS[name], labels=LABELS[name])
    for labels, value in values:
        family.add_metric(labels, value)
    return family


def router(settings: Settings) -> APIRouter:
    """The route, for one configuration."""
    routes = APIRouter()
    registry = CollectorRegistry()
    registry.register(HubCollector(settings))

    def metrics() -> Any:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    routes.add_api_route("/metrics", metrics, methods=["GET"], name="metrics")
    return routes
