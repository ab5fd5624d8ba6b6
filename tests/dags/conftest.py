"""One small city with Airflow beside it for all tests of flows, and a receiver of its lineage events."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from lienthong.demo.airflow import CityWithAirflow
from lienthong.embedded.ports import free_port
from tests.airflow_kit import DAGS, ROOT, Api, Receiver

DOSSIERS, SEED = 60, 5


@pytest.fixture(scope="session")
def lineage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    """Where lineage events go."""
    receiver = Receiver(free_port(), tmp_path_factory.mktemp("lineage") / "events.jsonl")
    yield receiver
    receiver.stop()


@pytest.fixture(scope="session")
def flows(lineage: Receiver) -> Iterator[CityWithAirflow]:
    """The city: filled, everything loaded but the wards that tests load."""
    before = dict(os.environ)
    more = {
        "AIRFLOW__OPENLINEAGE__TRANSPORT": lineage.transport,
        "AIRFLOW__OPENLINEAGE__NAMESPACE": "lienthong",
        "AIRFLOW__CORE__DEFAULT_TASK_RETRY_DELAY": "2",
        "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.3",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "30",
    }
    try:
        with CityWithAirflow(dags=DAGS, airflow_config=ROOT / "airflow.cfg", more=more) as city:
            city.fill(dossiers=DOSSIERS, seed=SEED)
            city.load(leave=["ward-tan-dinh", "ward-sai-gon", "ward-binh-thoi"])
            yield city
    finally:
        os.environ.clear()
        os.environ.update(before)


@pytest.fixture(scope="session")
def api(flows: CityWithAirflow) -> Api:
    """A person logged in at its pages; every flow switched on that is started by hand here."""
    made = Api(flows.airflow.address, flows.airflow.user, flows.airflow.password)
    names = {file.stem for file in Path(DAGS).glob("*.py")} - {"house"}
    made.until_read(names)
    return made
