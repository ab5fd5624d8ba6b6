"""The commands and health checks of Airflow's services in compose.yaml, as processes of this machine: migrated, started, healthy, ended when told.

One setting differs from the file: FabAuthManager, which asks for a log-in, comes with the official image and not with our dependencies, so
Airflow's own simple one stands in its place, and `airflow-admin` (`airflow users create`) is not run.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from lienthong.embedded import PostgresCluster
from lienthong.embedded.ports import claim_port
from tests.city import wait
from tests.compose_kit import ROOT, Host, service

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SERVICES = ("airflow-api-server", "airflow-scheduler", "airflow-dag-processor", "airflow-triggerer")
FAB = "airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager"
SIMPLE = "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager"
OLD, NEW = "NmE3YzE1ZDk4MGM4NGMzZTk4MjU0ZTYyNmE0MjUwN2Y=", "Zm9ydHktdHdvLWZvcnR5LXR3by1mb3J0eS10d28tNDI="
STOP_SECONDS = 50.0  # less than the stop_grace_period


@pytest.fixture(scope="module")
def host(pg: PostgresCluster, stack_root: Path) -> Iterator[Host]:
    made = Host(stack_root / "compose-airflow")
    ports = {name: claim_port(made.folder / name) for name in ("8080", "8974", "worker-log", "trigger-log")}
    made.texts |= {"airflow-api-server:8080": f"127.0.0.1:{ports['8080']}", "8080": str(ports["8080"]), "8974": str(ports["8974"])}
    made.texts |= {"/opt/airflow/dags": str(ROOT / "dags"), "kafka:9092": "127.0.0.1:1", FAB: SIMPLE}
    made.texts["ports"] = json.dumps(ports)
    dsn = pg.create_database("compose_airflow")
    for name, text in (
        ("airflow_dsn", dsn.replace("postgresql://", "postgresql+psycopg2://")),
        ("airflow_fernet_key", OLD),
        ("airflow_secret_key", "a" * 32),
        ("airflow_jwt_secret", "b" * 32),
    ):
        made.secret(name, text)
    yield made
    for process in made.running.values():
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    pg.drop_database("compose_airflow")


def own(host: Host, name: str) -> dict[str, str]:
    """What the image gives beside the file: the home with airflow.cfg; and the ports that would clash on one machine."""
    ports = json.loads(host.texts["ports"])
    home = host.folder / "tmp" / name / "home"
    home.mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / "airflow.cfg", home / "airflow.cfg")
    return {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_SERVER_PORT": str(ports["8974"]),
        "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(ports["worker-log"]),
        "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(ports["trigger-log"]),
        "AIRFLOW__API__WORKERS": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def is_healthy(host: Host, name: str) -> bool:
    process = host.running[name]
    assert process.poll() is None, f"{name} has ended with {process.returncode}:\n{host.log(name)[-4000:]}"
    return host.check(service(name), own(host, name)).returncode == 0


def test_every_service_of_airflow_comes_up_healthy_and_ends_when_told(host: Host) -> None:
    migrate = service("airflow-migrate")
    host.run(migrate, own(host, migrate.name))
    assert "bulk" in host.run(migrate, own(host, migrate.name), "airflow", "pools", "list", "--output", "plain")
    for name in SERVICES:
        host.start(service(name), own(host, name))
    for name in SERVICES:
        wait(lambda name=name: is_healthy(host, name), 120, lambda name=name: host.log(name)[-4000:])  # type: ignore[misc]
    for process in host.running.values():
        process.terminate()
    codes = {name: process.wait(STOP_SECONDS) for name, process in host.running.items()}
    assert set(codes) == set(SERVICES)
    assert [name for name, code in codes.items() if code not in {0, -signal.SIGTERM, 128 + signal.SIGTERM}] == []


def test_the_fernet_key_is_rotated_as_the_runbook_says(host: Host) -> None:
    """NEW,OLD; `airflow rotate-fernet-key`; NEW alone opens what was kept with the old one, and the old one does not any more."""
    assert "(`NEW,OLD`), then `airflow rotate-fernet-key`, then the old one is taken out" in (ROOT / "docs" / "runbook.md").read_text("utf-8")
    migrate = service("airflow-migrate")

    def airflow(*words: str) -> str:
        return host.run(migrate, own(host, migrate.name), "airflow", *words)

    airflow("connections", "add", "kept", "--conn-uri", "http://somebody:a-word@nowhere:80")
    host.secret("airflow_fernet_key", f"{NEW},{OLD}")
    airflow("rotate-fernet-key")
    host.secret("airflow_fernet_key", NEW)
    assert "a-word" in airflow("connections", "get", "kept", "--output", "json")
    host.secret("airflow_fernet_key", OLD)
    with pytest.raises(AssertionError, match="Connection not found"):  # what Airflow says of one that it cannot open
        airflow("connections", "get", "kept", "--output", "json")
