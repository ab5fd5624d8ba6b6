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

from lienthong.web.metric_list import DASHBOARD as ON_DASHBOARD
from lienthong.web.metric_list import METRICS, SAMPLES, UNITS, as_markdown, samples_of
from tests import promql
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
    known = {**{name: set(labels) | {"job", "instance"} for name, labels in SAMPLES.items()}, **FOREIGN}
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
        offered = {label for selector in selectors(rule["expr"]) for label in SAMPLES.get(selector.name or "", ())}
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


# ------------------------------------------------------------------ tried out
COURSES: list[dict[str, Any]] = YAML_.load(TRIED)["tests"]


def series_of(course: dict[str, Any]) -> promql.Series:
    made = promql.Series()
    for one in course["input_series"]:
        made.add(one["series"], one["values"])
    return made


@pytest.mark.parametrize("course", COURSES, ids=lambda course: course["name"])
def test_the_alerts_fire_as_the_courses_of_values_say(course: dict[str, Any]) -> None:
    """What `make alerts` asks promtool, asked of as much of Prometheus as the rules need."""
    for asked in course.get("promql_expr_test", ()):
        series, at = series_of(course), promql.seconds(asked["eval_time"])
        promql.firing(RULES, series, at)
        found = promql.vector(promql.evaluate(promql_parser.parse(asked["expr"]), series, at))
        expected = {frozenset(re.findall(r'(\w+)="([^"]*)"', one["labels"])): float(one["value"]) for one in asked["exp_samples"]}
        assert found == expected, asked["expr"]
    for asked in course.get("alert_rule_test", ()):
        assert not asked["exp_alerts"]
        fired = promql.firing(RULES, series_of(course), promql.seconds(asked["eval_time"]))
        assert [labels for labels in fired if ("alertname", asked["alertname"]) in labels] == []


def test_every_alert_fires_in_some_course_and_not_where_nothing_is_wrong() -> None:
    wrong = next(course for course in COURSES if course["name"] == "everything is wrong")
    fired = promql.firing(RULES, series_of(wrong), 600 * promql.STEP)
    assert {dict(labels)["alertname"] for labels in fired} == {rule["alert"] for rule in RULES}
    well = next(course for course in COURSES if course["name"].startswith("nothing is wrong"))
    assert {rule["expr"] for rule in RULES if not promql.evaluate(promql_parser.parse(rule["expr"]), series_of(well), 3000)} == {
        rule["expr"] for rule in RULES if rule["alert"] != "Watchdog"
    }


# ------------------------------------------------------------------ the list
def exposed_in(texts: Iterator[tuple[str, str]]) -> dict[str, set[str]]:
    """Each metric of ours and the places that name it."""
    found: dict[str, set[str]] = {}
    for place, text in texts:
        for selector in selectors(text):
            found.setdefault(selector.name or "", set()).add(place)
    return found


def test_every_metric_is_read_by_whom_the_list_says_and_by_nobody_else() -> None:
    alerts = {rule["alert"] for rule in RULES}
    used = exposed_in(expressions())
    for metric in METRICS:
        places = set().union(*(used.get(name, set()) for name in samples_of(metric)))
        readers = {place for place in places if place in alerts} | ({ON_DASHBOARD} if places - alerts else set())
        assert readers == set(metric.readers), metric.name


def test_names_follow_the_conventions_of_prometheus() -> None:
    assert len({metric.name for metric in METRICS}) == len(METRICS)
    for metric in METRICS:
        assert re.fullmatch(r"lienthong_[a-z_]+[a-z]", metric.name)
        assert metric.name.endswith("_total") == (metric.kind == "counter"), metric.name
        unit = next((unit for end, unit in UNITS.items() if metric.name.endswith(end)), None)
        assert unit in (None, metric.unit), metric.name
        assert not {"record", "code", "name", "key"} & set(metric.labels), f"{metric.name} must name no person and no record"
        assert metric.meaning.endswith(".")


def test_the_page_is_made_from_the_list() -> None:
    page = (ROOT / "docs" / "metrics.md").read_text("utf-8")
    assert page == as_markdown(), "lienthong metrics --markdown > docs/metrics.md"
