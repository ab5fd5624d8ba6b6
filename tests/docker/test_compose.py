"""The compose files: their schema, their parts, and that all they name is there. What their commands do: test_commands.py."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from lienthong.config import load_settings
from lienthong.run import ROLES
from tests.compose_kit import BIN, DOCKER, MANY, ONE, compose, filled, service

FILES = pytest.mark.parametrize("file", [ONE, MANY], ids=lambda file: file.name)
EXACT = re.compile(r"[\w./-]+:v?\d+\.\d+(\.\d+)?(-[\w.]+)?")
SYSTEMS = ("city_portal_dsn", "ward_tan_dinh_dsn")


def services(file: Path) -> dict[str, Any]:
    return dict(compose(file)["services"])


def ours() -> list[str]:
    """The services of compose.yaml that run a role."""
    return [name for name, one in services(ONE).items() if "/service" in one["image"]]


@FILES
def test_the_file_follows_the_compose_specification(file: Path) -> None:
    call = [str(BIN / "check-jsonschema"), "--builtin-schema", "vendor.compose-spec", str(file)]
    done = subprocess.run(call, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout


@FILES
def test_images_have_exact_versions(file: Path) -> None:
    images = {name: filled(one["image"]) for name, one in services(file).items() if "image" in one}
    assert {name: image for name, image in images.items() if not EXACT.fullmatch(image)} == {}


def test_every_role_is_a_service_with_its_own_health_check() -> None:
    assert {service(name).command[2] for name in ours()} == set(ROLES)
    for name in ours():
        made = service(name)
        assert made.command[:2] == ("lienthong", "run")
        assert made.check == ("lienthong", "health", made.command[2])


def test_what_runs_on_has_a_health_check_and_what_ends_has_none() -> None:
    ends = {"airflow-migrate", "airflow-admin"}
    without = {name for name, one in services(ONE).items() if "healthcheck" not in one}
    assert without == ends
    assert {name for name, one in services(ONE).items() if one["restart"] == "no"} == ends


def test_our_containers_have_no_rights_they_do_not_need() -> None:
    for name in ours():
        one = services(ONE)[name]
        assert one["read_only"] is True, name
        assert one["cap_drop"] == ["ALL"], name
        assert one["security_opt"] == ["no-new-privileges:true"], name


def test_nothing_listens_beyond_this_machine() -> None:
    ports = [port for one in services(ONE).values() for port in one.get("ports", [])]
    assert len(ports) >= 5
    assert [port for port in ports if not port.startswith("127.0.0.1:")] == []


@FILES
def test_no_secret_stands_in_the_file(file: Path) -> None:
    text = file.read_text("utf-8")
    assert re.findall(r"://[^/\s:]+:[^@\s]+@", text) == []
    named = re.findall(r"^\s*([A-Z_]*(?:PASSWORD|SECRET|TOKEN|_KEY|DSN|ALCHEMY_CONN)[A-Z_]*): (.+)$", text, flags=re.M)
    assert [(name, value) for name, value in named if "/run/secrets/" not in value] == []


def test_every_secret_that_is_used_is_made_or_asked_for(tmp_path: Path) -> None:
    used = {name for file in (ONE, MANY) for one in services(file).values() for name in one.get("secrets", [])}
    declared = {name: entry["file"] for file in (ONE, MANY) for name, entry in compose(file)["secrets"].items()}
    assert used == set(declared)
    assert {name: file for name, file in declared.items() if file != f"./secrets/{name}"} == {}
    done = subprocess.run([str(DOCKER / "new-secrets"), str(tmp_path / "made")], capture_output=True, text=True, timeout=30, check=False)
    made = {file.name for file in (tmp_path / "made").iterdir()}
    asked = set(re.findall(r"still to be written by you: \S+/(\w+)", done.stdout))
    assert (done.returncode, made & asked, made | asked) == (1, set(), used)
    assert all(len((tmp_path / "made" / name).read_text()) > 30 for name in made)


def test_secrets_are_kept_when_they_are_made_again(tmp_path: Path) -> None:
    call = [str(DOCKER / "new-secrets"), str(tmp_path)]
    for name in ("city_portal_dsn", "ward_tan_dinh_dsn", "alert_webhook_url"):
        (tmp_path / name).write_text("somewhere", "utf-8")
    first = subprocess.run(call, capture_output=True, text=True, timeout=30, check=True)
    before = {file.name: file.read_text() for file in tmp_path.iterdir()}
    again = subprocess.run(call, capture_output=True, text=True, timeout=30, check=True)
    assert "made" in first.stdout
    assert again.stdout == ""
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == before


@FILES
def test_everything_that_is_mounted_is_there(file: Path) -> None:
    mounts = [volume.split(":")[0] for one in services(file).values() for volume in one.get("volumes", [])]
    volumes = {name for each in (ONE, MANY) for name in compose(each)["volumes"]}
    assert [m for m in mounts if m.startswith("./") and not (DOCKER / m).exists()] == []
    assert {m for m in mounts if not m.startswith("./")} <= volumes


@pytest.mark.parametrize("name", ["systems.yaml", "systems.scale.yaml"])
def test_the_example_configuration_is_right(name: str, tmp_path: Path) -> None:
    for file, source in (("systems.yaml", name), ("authority.yaml", "authority.yaml"), ("contracts.yaml", "contracts.yaml")):
        text = (DOCKER / "config" / source).read_text("utf-8")
        (tmp_path / file).write_text(text.replace("/run/secrets", str(tmp_path)), "utf-8")
    for secret in ("hub_dsn", *SYSTEMS):
        (tmp_path / secret).write_text("postgresql://lienthong@db/x", "utf-8")
    settings = load_settings(tmp_path, {"KAFKA_BOOTSTRAP": "kafka:9092"})
    mounted = set(service("capture").secrets)
    assert {f"{system.replace('-', '_')}_dsn" for system in settings.systems} == set(SYSTEMS)
    assert {"hub_dsn", *SYSTEMS} <= mounted


def test_the_many_differ_from_the_one_by_their_brokers_alone() -> None:
    one, many = ((DOCKER / "config" / name).read_text("utf-8").splitlines()[1:] for name in ("systems.yaml", "systems.scale.yaml"))
    assert [(a.strip(), b.strip()) for a, b in zip(one, many, strict=True) if a != b] == [
        (
            'kafka: {bootstrap: "${KAFKA_BOOTSTRAP}", partitions: 8, replication: 1}',
            'kafka: {bootstrap: "${KAFKA_BOOTSTRAP}", partitions: 16, replication: 3}',
        )
    ]


def test_three_brokers_keep_every_message_twice_before_it_is_acknowledged() -> None:
    brokers = {name: one["environment"] for name, one in services(MANY).items() if name.startswith("kafka")}
    assert sorted(brokers) == ["kafka", "kafka-2", "kafka-3"]
    assert sorted(one["KAFKA_NODE_ID"] for one in brokers.values()) == ["1", "2", "3"]
    for name, one in brokers.items():
        assert (one["KAFKA_DEFAULT_REPLICATION_FACTOR"], one["KAFKA_MIN_INSYNC_REPLICAS"]) == ("3", "2")
        assert one["KAFKA_ADVERTISED_LISTENERS"] == f"PLAINTEXT://{name}:9092"
        assert f"{one['KAFKA_NODE_ID']}@{name}:9093" in one["KAFKA_CONTROLLER_QUORUM_VOTERS"]


def test_what_is_changed_for_many_exists_or_is_complete() -> None:
    known = set(services(ONE))
    incomplete = [name for name, one in services(MANY).items() if name not in known and "image" not in one and "extends" not in one]
    assert incomplete == []
    roles = {name: one["command"] for name, one in services(MANY).items() if name.startswith(("capture", "apply"))}
    named = [word for command in roles.values() for word in command[3:]]
    assert sorted(named) == ["city-portal", "city-portal", "ward-tan-dinh", "ward-tan-dinh"]
