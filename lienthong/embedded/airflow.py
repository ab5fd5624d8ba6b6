"""Airflow on this machine: API server, scheduler, DAG processor and triggerer as processes of their own, metadata in a given PostgreSQL.

Nothing here imports Airflow; it is started as its users start it. Everything it writes goes into one folder, never into the checkout.
"""

from __future__ import annotations

import json
import secrets
import sys
import time
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from signal import SIGTERM
from urllib.error import URLError
from urllib.request import urlopen

from cryptography.fernet import Fernet

from lienthong.embedded.ports import free_port
from lienthong.embedded.process import Command, ServerProcess, run
from lienthong.errors import ConfigError, TransientError

PROCESSES = ("api-server", "scheduler", "dag-processor", "triggerer")
READY_SECONDS = 180.0
USER = "admin"
POOLS = "pools.json"
"""Beside the flows: the pools that they name."""
WATCHED = ("metadatabase", "scheduler", "triggerer", "dag_processor")


class Airflow:
    """One Airflow with a LocalExecutor; `environment` is what its tasks need of the service (configuration, addresses, keys)."""

    def __init__(self, folder: Path, *, dags: Path, config: Path, dsn: str, kafka: str, environment: Mapping[str, str]) -> None:
        if find_spec("airflow") is None:
            raise ConfigError("Airflow is not installed: pip install -c constraints.txt 'lienthong[airflow]'")
        for path in (dags, config):
            if not path.exists():
                raise ConfigError(f"{path} is not there: start this in the checkout, or name the place")
        self.folder, self.user = folder, USER
        self.port = free_port()
        self.password = secrets.token_urlsafe(9)
        self.environment = {**environment, **self._own(dags.resolve(), config.resolve(), dsn, kafka)}
        self.running: dict[str, ServerProcess] = {}

    @property
    def address(self) -> str:
        """Where its pages and its API are."""
        return f"http://127.0.0.1:{self.port}"

    def _own(self, dags: Path, config: Path, dsn: str, kafka: str) -> dict[str, str]:
        home = self.folder / "home"
        extra = {
            "bootstrap.servers": kafka, "group.id": "lienthong-airflow", "auto.offset.reset": "earliest", "enable.auto.commit": False,
            "allow.auto.create.topics": False,
        }  # fmt: skip
        return {
            "AIRFLOW_HOME": str(home),
            "AIRFLOW_CONFIG": str(config),
            "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": dsn.replace("postgresql://", "postgresql+psycopg2://", 1),
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "AIRFLOW__CORE__FERNET_KEY": Fernet.generate_key().decode(),
            "AIRFLOW__API__SECRET_KEY": secrets.token_hex(32),
            "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_hex(32),
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(self.port),
            "AIRFLOW__API__BASE_URL": self.address,
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.address}/execution/",
            "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(free_port()),
            "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(free_port()),
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{USER}:admin",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(home / "passwords.json"),
            "AIRFLOW_CONN_LIENTHONG_KAFKA": json.dumps({"conn_type": "kafka", "extra": extra}),
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def start(self) -> None:
        """Make its tables, start its processes, and wait until all of them answer for themselves."""
        home = Path(self.environment["AIRFLOW_HOME"])
        home.mkdir(parents=True)
        (home / "passwords.json").touch(mode=0o600)
        (home / "passwords.json").write_text(json.dumps({USER: self.password}), "utf-8")
        run([sys.executable, "-m", "airflow", "db", "migrate"], environment=self.environment)
        pools = Path(self.environment["AIRFLOW__CORE__DAGS_FOLDER"]) / POOLS
        if pools.exists():
            run([sys.executable, "-m", "airflow", "pools", "import", str(pools)], environment=self.environment)
        try:
            for name in PROCESSES:
                self.start_one(name)
            self.running["api-server"].wait_until(self._is_healthy, what="Airflow", timeout_seconds=READY_SECONDS)
        except BaseException:
            self.stop()
            raise

    def start_one(self, name: str) -> None:
        """Start one of its processes, in a session of its own."""
        self.running[name] = ServerProcess(
            Command(
                arguments=[sys.executable, "-m", "airflow", name],
                log=self.folder / f"airflow-{name}.log",
                directory=self.folder,
                environment=self.environment,
                death_signal=SIGTERM,
            )
        )

    def watch(self) -> None:
        """Raise `TransientError` with the end of its log when one of the processes has ended."""
        for name, process in self.running.items():
            if not process.is_running:
                raise TransientError(f"Airflow's {name} has ended.\n{process.tail()}")

    def _is_healthy(self) -> bool:
        self.watch()
        time.sleep(0.3)
        try:
            with urlopen(f"{self.address}/api/v2/monitor/health", timeout=5) as answer:
                found = json.load(answer)
        except (URLError, OSError, ValueError):
            return False
        return all(found[part]["status"] == "healthy" for part in WATCHED)

    def stop(self) -> None:
        """End all processes, and every task under them, at once: what they work on is safe to be done again, and their folder goes."""
        for process in reversed(self.running.values()):
            process.kill()
        self.running.clear()
