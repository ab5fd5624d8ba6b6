"""The collector of traces: its configuration is whole, and our roles in the scaled compose file send to where it listens."""

from __future__ import annotations

from typing import Any

from ruamel.yaml import YAML

from lienthong import tracing
from tests.compose_kit import DOCKER, MANY, compose

COLLECTOR: dict[str, Any] = YAML(typ="safe").load((DOCKER / "otel" / "collector.yaml").read_text("utf-8"))
SERVICES: dict[str, Any] = compose(MANY)["services"]
ROLES = ("capture", "capture-wards", "apply", "apply-wards", "merge", "route", "watch", "deliver", "registry")


def test_every_pipeline_is_made_of_parts_that_are_configured() -> None:
    pipelines = COLLECTOR["service"]["pipelines"]
    assert set(pipelines) == {"metrics", "traces"}
    for pipeline in pipelines.values():
        for kind, names in pipeline.items():
            assert set(names) <= set(COLLECTOR[kind])
        assert pipeline["processors"][0] == "memory_limiter"


def test_every_role_sends_to_the_collector_and_all_follow_the_same_commits() -> None:
    port = COLLECTOR["receivers"]["otlp"]["protocols"]["http"]["endpoint"].rpartition(":")[2]
    environments = [SERVICES[name]["environment"] for name in ROLES]
    assert {one["OTEL_EXPORTER_OTLP_ENDPOINT"] for one in environments} == {f"http://otel-collector:{port}"}
    assert {tracing.share_of(one) for one in environments} == {tracing.SHARE}


def test_traces_go_to_a_service_that_is_there() -> None:
    (exporter,) = COLLECTOR["service"]["pipelines"]["traces"]["exporters"]
    assert COLLECTOR["exporters"][exporter]["endpoint"].partition(":")[0] in SERVICES
    assert [port for port in SERVICES["jaeger"]["ports"] if not port.startswith("127.0.0.1:")] == []


def test_the_image_of_the_roles_can_send_traces() -> None:
    assert "[otel]" in (DOCKER / "Dockerfile").read_text("utf-8")
