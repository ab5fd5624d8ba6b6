"""The demo's city with Airflow beside it, for people who want to try the flows and for their tests."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from shlex import quote
from types import TracebackType
from typing import Self

from lienthong.certificates.keys import KEY_NAME as CERTIFICATE_KEY
from lienthong.certificates.keys import new_key
from lienthong.demo import Demo
from lienthong.demo.parties import PARTIES
from lienthong.embedded import Stack
from lienthong.embedded.airflow import Airflow
from lienthong.embedded.stack import undisturbed
from lienthong.load import Loader
from lienthong.simulate import fill
from lienthong.system_names import CONFIG_NAME
from lienthong.vault import KEY_NAME as VAULT_KEY
from lienthong.vault import Vault

ADDRESSES = ("HUB_DSN", "KAFKA_BOOTSTRAP", "POPULATION_URL", "POPULATION_SECRET", "NATIONAL_PORTAL_URL", "NATIONAL_PORTAL_SECRET")


class CityWithAirflow:
    """Servers, systems, the service's processes and Airflow, started together; use as a context. It leaves nothing behind."""

    def __init__(
        self, *, dags: Path, airflow_config: Path, say: Callable[[str], None] = lambda _: None, more: Mapping[str, str] | None = None
    ) -> None:
        self.dags, self.airflow_config, self.say, self.more = dags, airflow_config, say, dict(more or {})
        self.stack = Stack()
        self.demo: Demo
        self.airflow: Airflow

    def __enter__(self) -> Self:
        self.say("starting three PostgreSQL clusters and Kafka")
        self.stack.__enter__()
        try:
            self._start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def _start(self) -> None:
        folder = self.stack.directory / "service"
        folder.mkdir()
        self.demo = Demo(self.stack, folder, self.say)
        os.environ[CERTIFICATE_KEY] = new_key()
        self.demo.set_up()
        os.environ[CONFIG_NAME] = str(self.demo.config)
        self.demo.start()
        assert self.stack.kafka is not None
        self.airflow = Airflow(
            folder / "airflow",
            dags=self.dags,
            config=self.airflow_config,
            dsn=self.stack.postgres["hub"].create_database("airflow"),
            kafka=self.stack.kafka.bootstrap,
            environment={name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")} | self.more,
        )
        self.say("starting Airflow: API server, scheduler, DAG processor, triggerer")
        self.airflow.start()

    def fill(self, *, dossiers: int, seed: int) -> None:
        """Fill the systems with synthetic records."""
        self.say(f"filling six systems with synthetic records, {dossiers} dossiers, seed {seed}")
        fill(self.demo.dsns, dossiers=dossiers, seed=seed)

    def load(self, *, leave: Collection[str]) -> None:
        """The initial load of every system but some."""
        for name in self.demo.settings.with_database():
            if name not in leave:
                self.say(f"loading {name}")
                loader = Loader(self.demo.settings, name, Vault.from_environment())
                try:
                    loader.run()
                finally:
                    loader.close()

    def exports(self) -> Path:
        """A file to be sourced by a shell that wants to use the command line beside this."""
        names = [*(party.variable for party in PARTIES.values()), *ADDRESSES, CONFIG_NAME, VAULT_KEY, CERTIFICATE_KEY]
        file = self.stack.directory / "exports.sh"
        file.touch(mode=0o600)
        file.write_text("".join(f"export {name}={quote(os.environ[name])}\n" for name in names), "utf-8")
        return file

    def watch(self) -> None:
        """Start again what has ended of the service; raise when Airflow has."""
        if self.demo.processes is not None:
            self.demo.processes.watch()
        self.airflow.watch()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with undisturbed():  # somebody who presses Ctrl-C twice leaves nothing behind either
            if hasattr(self, "airflow"):
                self.airflow.stop()
            if hasattr(self, "demo"):
                self.demo.stop()
        self.stack.__exit__(kind, error, trace)
