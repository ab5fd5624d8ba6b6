"""The Kubernetes manifests: their schema, and that they run the same as compose.yaml."""

from __future__ import annotations

import subprocess
from copy import deepcopy
from typing import Any

from ruamel.yaml import YAML

from tests.compose_kit import BIN, DOCKER, ONE, compose, filled, service

FILE = DOCKER / "kubernetes" / "lienthong.yaml"
MANIFESTS: list[dict[str, Any]] = list(YAML(typ="safe").load_all(FILE.read_text("utf-8")))
DEPLOYMENTS = {one["metadata"]["name"].removeprefix("lienthong-"): one for one in MANIFESTS if one["kind"] == "Deployment"}


def test_the_manifests_follow_the_schema_strictly() -> None:
    done = subprocess.run([str(BIN / "kubernetes-validate"), "--strict", str(FILE)], capture_output=True, text=True, timeout=120, check=False)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert said.count("passed") == len(MANIFESTS)


def test_the_same_commands_run_as_in_compose() -> None:
    for name, deployment in DEPLOYMENTS.items():
        container = deployment["spec"]["template"]["spec"]["containers"][0]
        made = service(name)
        assert ["lienthong", *container["args"]] == list(made.command)
        role = made.command[2]
        assert container["livenessProbe"]["exec"]["command"][:3] == list(made.check)
        assert container["readinessProbe"]["exec"]["command"] == ["lienthong", "health", "--ready", role]
        assert container["image"] == filled(compose(ONE)["services"][name]["image"])
    assert {*DEPLOYMENTS, "deliver"} == {name for name, one in compose(ONE)["services"].items() if "/service" in one["image"]}


def shared(name: str) -> str:
    """What a Deployment has in common with all others."""
    made = deepcopy(DEPLOYMENTS[name])
    made["spec"].pop("replicas")
    container = made["spec"]["template"]["spec"]["containers"][0]
    for part in ("args", "livenessProbe", "readinessProbe", "ports"):
        container.pop(part, None)
    return str(made).replace(f"'{name}'", "NAME").replace(f"lienthong-{name}'", "NAME")


def test_the_roles_differ_by_their_commands_alone() -> None:
    """Six copies of one text: what is corrected in one must be corrected in all."""
    assert len(DEPLOYMENTS) == 6
    assert {shared(name) for name in DEPLOYMENTS} == {shared("merge")}


def test_pods_have_no_rights_they_do_not_need() -> None:
    for deployment in DEPLOYMENTS.values():
        pod = deployment["spec"]["template"]["spec"]
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        rights = pod["containers"][0]["securityContext"]
        assert rights == {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}


def test_the_values_for_airflow_hold_no_secret() -> None:
    values = YAML(typ="safe").load((DOCKER / "kubernetes" / "airflow-values.yaml").read_text("utf-8"))
    assert values["images"]["airflow"]["repository"] == "lienthong/airflow"
    assert [one["value"] for one in values["env"] if one["name"].endswith("_KEY") and not one["value"].startswith("file:")] == []
    assert values["postgresql"] == {"enabled": False}
