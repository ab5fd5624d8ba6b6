"""Rules, dashboard and runbook agree with the product: every metric, label and state they name is exposed. `make alerts` tries the rules out."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import promql_parser
import pytest
from promql_parser import Expr, VectorSelector
from ruamel.yaml import YAML

from lienthong.web.metrics import LABELS
from tests.compose_kit import DOCKER, ROOT

YAML_ = YAML(typ="safe")
RULES: list[dict[str, Any]] = YAML_.load((DOCKER / "prometheus" / "rules.yaml").read_text("utf-8"))["groups"][0]["rules"]
TRIED = (DOCKER / "prometheus" / "rules.test.yaml").read_text("utf-8")
DASHBOARD = json.loads((DOCKER / "grafana" / "dashboards" / "lienthong.json").read_text("utf-8"))
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text("utf-8")
FOREIGN = {"up": {"job", "instance"}, "ALERTS": {"alertname", "alertstate"}}
STATES = {"normal", "late", "broken", "silent", "not_started", "starting", "retrying", "stopped"}


def expressions() -> Iterator[tuple[str, str]]:
    """Place and text of every expression of rules and dashboard; a variable of the dashboard is one system."""
    for rule in RULES:
        yield rule["alert"], rule["expr"]
    for panel in DASHBOARD["panels"]:
        yield from ((panel["title"], target["expr"].replace("$system", "x")) for target in panel.get("targets", []))
    yield "annotations", DASHBOARD["annotations"]["list"][0]["expr"]


def selectors(text: str) -> list[VectorSelector]:
    """Every selector of an expression."""
    found: list[VectorSelector] = []

    def visit(node: Expr) -> bool:
        if isinstance(node, VectorSelector):
            found.append(node)
        return True

    promql_parser.walk(promql_parser.parse(text), visit)
    return found


def test_every_metric_and_label_is_exposed_by_the_product() -> None:
    known = {**{name: set(labels) | {"job", "instance"} for name, labels in LABELS.items()}, **FOREIGN}
    seen = 0
    for place, text in expressions():
        for selector in selectors(text):
            seen += 1
            assert selector.name in known, f"{place}: there is no metric {selector.name}"
            named = {matcher.name for matcher in selector.matchers.matchers}
            assert named <= known[selector.name], f"{place}: {selector.name} has no {named - known[selector.name]}"
    assert seen > 30


def test_the_check_notices_a_metric_that_is_not_there() -> None:
    assert [s.name for s in selectors("sum by (a) (rate(lienthong_gone_total[5m])) > on() lienthong_hub_up offset 5m")] == [
        "lienthong_gone_total",
        "lienthong_hub_up",
    ]


def test_every_state_that_is_named_exists() -> None:
    named = re.findall(r'\bstate=~?"([a-z_|]+)"', " ".join(text for _, text in expressions()))
    assert {state for group in named for state in group.split("|")} <= STATES
    assert [state for state in STATES if f"`{state.replace('_', ' ')}`" not in RUNBOOK] == []


def test_labels_in_the_words_of_an_alert_come_out_of_its_expression() -> None:
    for rule in RULES:
        named = set(re.findall(r"\$labels\.(\w+)", " ".join(rule["annotations"].values())))
        offered = {label for selector in selectors(rule["expr"]) for label in LABELS.get(selector.name or "", ())}
        by = re.findall(r"sum by \((\w+)\)", rule["expr"])
        assert named <= (set(by) or offered), rule["alert"]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_every_alert_is_tried_out_and_stands_in_the_runbook(rule: dict[str, Any]) -> None:
    assert f'alertname="{rule["alert"]}"' in TRIED
    assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
    assert rule["annotations"]["runbook_url"] == f"docs/runbook.md#{rule['alert'].lower()}"
    assert re.search(rf"^#### {rule['alert']}$", RUNBOOK, flags=re.M)
    assert rule["labels"]["severity"] in {"critical", "warning", "none"}


def test_the_runbook_explains_no_alert_that_is_gone() -> None:
    assert set(re.findall(r"^#### (\w+)$", RUNBOOK, flags=re.M)) == {rule["alert"] for rule in RULES}


def test_alertmanager_silences_only_alerts_that_exist() -> None:
    configuration = (DOCKER / "alertmanager" / "alertmanager.yaml").read_text("utf-8")
    named = {name for group in re.findall(r'alertname=~?"([\w|]+)"', configuration) for name in group.split("|")}
    assert named <= {rule["alert"] for rule in RULES}
    document = YAML_.load(configuration)
    receivers = {receiver["name"] for receiver in document["receivers"]}
    assert {document["route"]["receiver"], *(route["receiver"] for route in document["route"]["routes"])} <= receivers


def test_prometheus_loads_the_rules_and_asks_the_registry() -> None:
    settings = YAML_.load((DOCKER / "prometheus" / "prometheus.yaml").read_text("utf-8"))
    assert settings["rule_files"] == ["/etc/prometheus/rules.yaml"]
    assert settings["scrape_configs"][0]["job_name"] == "lienthong"
    assert settings["scrape_configs"][0]["static_configs"][0]["targets"] == ["registry:8081"]


def test_the_dashboard_can_be_provisioned() -> None:
    assert DASHBOARD["uid"] == "lienthong"
    numbers = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(numbers)) == len(numbers)
    sources = {target["datasource"]["uid"] for panel in DASHBOARD["panels"] for target in panel.get("targets", [])}
    provisioned = YAML_.load((DOCKER / "grafana" / "provisioning" / "datasources" / "prometheus.yaml").read_text("utf-8"))
    assert sources == {one["uid"] for one in provisioned["datasources"]}
