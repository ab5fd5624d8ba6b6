"""The functions that a scheduler's tasks call: what they show of errors, where they say data lies, and that they need no scheduler."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import pytest

from lienthong import flows
from lienthong.errors import ConfigError, TransientError
from lienthong.flows import lineage
from lienthong.system_names import CONFIG_NAME, system_names

DEMO = Path(__file__).resolve().parents[2] / "lienthong" / "demo" / "config"
SECRETS = ("CITY_PORTAL", "ONE_STOP", "DEPT_JUSTICE", "WARD_TAN_DINH", "WARD_SAI_GON", "WARD_BINH_THOI")


@pytest.fixture
def configured(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SECRETS:
        monkeypatch.setenv(f"{name}_DSN", f"postgresql://clerk:geheim@db.example:6432/{name.lower()}")
    monkeypatch.setenv("HUB_DSN", "postgresql://hub:geheim@hub.example/hub")
    monkeypatch.setenv("KAFKA_BOOTSTRAP", "kafka1.example:9092,kafka2.example:9092")
    for name in ("POPULATION_URL", "NATIONAL_PORTAL_URL"):
        monkeypatch.setenv(name, "http://national.example")
    for name in ("POPULATION_SECRET", "NATIONAL_PORTAL_SECRET"):
        monkeypatch.setenv(name, "geheim")
    monkeypatch.setenv(CONFIG_NAME, str(DEMO))
    flows.settings.cache_clear()


def test_an_unforeseen_error_keeps_its_place_and_loses_its_words() -> None:
    @flows.flow
    def fails() -> None:
        raise KeyError("Nguyễn Văn A")

    with pytest.raises(flows.Defect, match=r"KeyError at test_flows\.py:\d+ in fails") as told:
        fails()
    assert "Nguyễn" not in str(told.value)
    assert told.value.__suppress_context__


@pytest.mark.parametrize("error", [TransientError("away"), ConfigError("wrong"), flows.FoundWrong("red")])
def test_an_error_of_ours_stays_what_it_is(error: Exception) -> None:
    @flows.flow
    def fails() -> None:
        raise error

    with pytest.raises(type(error), match=str(error)):
        fails()


def test_libraries_that_quote_what_they_carry_are_silent_in_a_task() -> None:
    logging.getLogger("kafka").setLevel(logging.DEBUG)

    @flows.flow
    def does_nothing() -> None: ...

    does_nothing()
    assert logging.getLogger("kafka").level == logging.CRITICAL


def test_progress_is_logged_when_it_is_new(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    told = flows.changes(logging.getLogger("lienthong.flows"), "waiting for")
    for stage in ("merge", "merge", "route", "merge"):
        told(stage)
    assert caplog.messages == ["waiting for merge", "waiting for route", "waiting for merge"]


@pytest.mark.usefixtures("configured")
def test_datasets_have_the_names_of_openlineage_and_no_password() -> None:
    found = lineage.of_load("ward-binh-thoi", "citizen")
    assert found == {
        "inputs": ["postgres://db.example:6432/ward_binh_thoi/quan_ly/Nh%C3%A2n%20kh%E1%BA%A9u"],
        "outputs": ["kafka://kafka1.example:9092/lienthong.in"],
    }
    assert lineage.of_reconcile("one-stop")["outputs"] == [f"postgres://hub.example:5432/hub/hub/{table}" for table in ("difference", "proof")]
    assert "kafka://kafka1.example:9092/lienthong.out.one-stop" in lineage.of_repair(["one-stop"])["outputs"]
    everything = str([lineage.of_close("city-portal"), lineage.of_repair(flows.systems()), found])
    assert "geheim" not in everything
    assert "clerk" not in everything


@pytest.mark.usefixtures("configured")
def test_systems_without_a_database_are_not_gone_through() -> None:
    assert len(flows.systems()) == len(SECRETS)
    assert flows.systems("one-stop") == ["one-stop"]
    with pytest.raises(ConfigError, match="did you mean one-stop"):
        flows.systems("one-stp")


def test_the_names_for_a_form_need_no_secret_and_no_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(CONFIG_NAME, str(DEMO))
    assert system_names()[:2] == ["city-portal", "one-stop"]
    monkeypatch.setenv(CONFIG_NAME, str(tmp_path))
    assert system_names() == []
    (tmp_path / "systems.yaml").write_text("systems: [", "utf-8")
    assert system_names() == []


def test_the_service_and_its_flows_need_no_airflow() -> None:
    names = ", ".join(f"lienthong.flows.{name}" for name in ("certifying", "comparing", "keeping", "lineage", "loading", "national", "replaying"))
    code = f"import sys; sys.modules['airflow'] = None\nimport {names}, lienthong.cli.main, lienthong.embedded.airflow"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
