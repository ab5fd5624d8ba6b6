"""`/metrics` for Prometheus: everything of `metric_list`, asked from the hub at each scrape, so that dead processes show too."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from math import inf
from typing import Any

from fastapi import APIRouter, Response
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from connectors.postgres import Cursor, errors_translated, rows
from lienthong import __version__, delays, status
from lienthong.errors import FatalError, LienThongError
from lienthong.settings import Settings
from lienthong.web.metric_list import BY_NAME

Value = tuple[Sequence[str], float]
"""Labels, and the value."""

_TODAY = "(clock_timestamp() AT TIME ZONE 'Asia/Ho_Chi_Minh')::date"
_SEEN = "SELECT system, {0} FROM hub.source_seen WHERE {0} IS NOT NULL AND at > clock_timestamp() - INTERVAL '10 min'"
QUERIES = {
    "lienthong_day_records": f"SELECT system, outcome, sum(n)::float8 FROM hub.day_count WHERE day = {_TODAY} GROUP BY 1, 2",  # noqa: S608
    "lienthong_load_waiting_ranges": "SELECT system, count(*) FILTER (WHERE done_at IS NULL) FROM hub.load_chunk GROUP BY 1",
    "lienthong_replayed_records_total": """
        SELECT system, outcome, count(*) FROM hub.parked_action
        WHERE action NOT IN ('reveal', 'discard') AND outcome IS NOT NULL GROUP BY 1, 2""",
    "lienthong_corrections_open": "SELECT system, count(*) FROM hub.correction WHERE state = 'open' GROUP BY 1",
    "lienthong_source_wal_retained_bytes": _SEEN.format("wal_retained_bytes"),
    "lienthong_source_wal_safe_bytes": _SEEN.format("wal_safe_bytes"),
    "lienthong_source_slot_active": _SEEN.format("slot_active::int"),
    "lienthong_source_clock_offset_seconds": _SEEN.format("clock_offset_seconds"),
    "lienthong_certificate_open_days": """
        SELECT system, count(DISTINCT day) FILTER (WHERE state <> 'closed') FROM (
          SELECT DISTINCT ON (day, system, entity) day, system, state FROM hub.certificate WHERE day > current_date - 40
          ORDER BY day, system, entity, issue DESC) newest GROUP BY 1""",
    "lienthong_lost_dossiers": "SELECT system, kind, count(*) FROM hub.lost_dossier WHERE limit_at < clock_timestamp() GROUP BY 1, 2",
    "lienthong_lost_sweep_timestamp_seconds": "SELECT extract(epoch FROM max(at))::float8 FROM hub.lost_sweep HAVING count(*) > 0",
    "lienthong_national_service_closed": "SELECT service, (opened_until IS NOT NULL)::int FROM hub.gate",
    "lienthong_national_service_closings_total": "SELECT service, openings FROM hub.gate",
}
"""The metrics that one question answers: its labels, and then the value. A source that is not looked at any more says nothing."""


class HubCollector(Collector):
    """Makes all metrics from one look at the hub."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def collect(self) -> Iterable[Metric]:
        """The metrics of one scrape."""
        yield family("lienthong_build_info", [([__version__], 1)])
        try:
            found = list(self._of_hub())
        except LienThongError:
            yield family("lienthong_hub_up", [([], 0)])
            return
        yield family("lienthong_hub_up", [([], 1)])
        yield from found

    def describe(self) -> Iterable[Metric]:
        """Nothing: a hub that is away must not keep the process from starting."""
        return ()

    def _of_hub(self) -> Iterator[Metric]:
        yield from _of_lines(status.lines(self.settings))
        with status.hub_cursor(self.settings) as cursor:
            for name, query in QUERIES.items():
                yield family(name, [(labels, value) for *labels, value in _asked(cursor, query)])
            yield _of_delays(_asked(cursor, delays.FOUND))
        waiting = [([w["system"], w["kind"]], w) for w in status.parked_by_kind(self.settings)]
        yield family("lienthong_parked_records", [(place, w["records"]) for place, w in waiting])
        yield family("lienthong_parked_oldest_timestamp_seconds", [(place, w["oldest"].timestamp()) for place, w in waiting])
        yield family("lienthong_parked_oldest_age_seconds", [(place, w["oldest_age_seconds"]) for place, w in waiting])
        probes = status.probes(self.settings)
        yield family("lienthong_probe_age_seconds", [([p["system"], p["leg"]], p["age_seconds"]) for p in probes if p["age_seconds"] is not None])
        yield family("lienthong_differences_records", [([s, e], n) for s, e, n in status.differences(self.settings)])
        yield family("lienthong_certificate_closed_day_timestamp_seconds", [([s], at) for s, at in status.closed_days(self.settings)])
        yield from self._of_delivery()

    def _of_delivery(self) -> Iterator[Metric]:
        found = status.delivery(self.settings)
        if found is not None:
            system = found["system"]
            yield family("lienthong_delivery_messages", [([system, state], count) for state, count in found["states"].items()])
            yield family("lienthong_delivery_oldest_pending_age_seconds", [([system], found["oldest_pending_seconds"])])
            yield family("lienthong_delivery_dossiers_in_part", [([system], found["dossiers_in_part"])])


def _of_lines(lines: Sequence[dict[str, Any]]) -> Iterator[Metric]:
    places = [([line["system"], line["stage"]], line) for line in lines]
    known = [(place, line) for place, line in places if line["lag_seconds"] is not None]
    yield family("lienthong_line_lag_seconds", [(place, line["lag_seconds"]) for place, line in known])
    yield family("lienthong_line_lag_limit_seconds", [(place, line["limit_seconds"]) for place, line in places])
    beats = [(place, datetime.fromisoformat(line["heartbeat_at"]).timestamp()) for place, line in known]
    yield family("lienthong_line_heartbeat_timestamp_seconds", beats)
    yield family("lienthong_line_state", [([*place, line["state"].replace(" ", "_")], 1) for place, line in places])


def _of_delays(found: Sequence[tuple[Any, ...]]) -> HistogramMetricFamily:
    metric = BY_NAME["lienthong_delay_seconds"]
    made = HistogramMetricFamily(metric.name, metric.meaning, labels=metric.labels)
    for (hop, system), (records, seconds) in delays.summed(found).items():
        buckets = [("+Inf" if bound == inf else str(bound), n) for bound, n in zip(delays.BOUNDS, records, strict=True)]
        made.add_metric([system, hop], buckets, seconds)
    return made


def _asked(cursor: Cursor, query: str) -> list[tuple[Any, ...]]:
    """The answer; nothing while the table is still to come: this process may be newer than the hub's schema."""
    cursor.execute("SAVEPOINT metric")
    try:
        with errors_translated():
            return rows(cursor, query)
    except FatalError as error:
        if not str(error).startswith(("42P01", "42703")):
            raise
        cursor.execute("ROLLBACK TO SAVEPOINT metric")
        return []


def family(name: str, values: Iterable[Value]) -> GaugeMetricFamily | CounterMetricFamily:
    """The values of one metric of the list."""
    metric = BY_NAME[name]
    made: GaugeMetricFamily | CounterMetricFamily
    if metric.kind == "counter":
        made = CounterMetricFamily(name.removesuffix("_total"), metric.meaning, labels=metric.labels)
    else:
        made = GaugeMetricFamily(name, metric.meaning, labels=metric.labels)
    for labels, value in values:
        made.add_metric(labels, float(value))
    return made


def router(settings: Settings) -> APIRouter:
    """The route, for one configuration."""
    routes = APIRouter()
    registry = CollectorRegistry()
    registry.register(HubCollector(settings))

    def metrics() -> Any:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    routes.add_api_route("/metrics", metrics, methods=["GET"], name="metrics")
    return routes
