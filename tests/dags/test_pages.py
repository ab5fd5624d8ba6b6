"""Airflow's own pages in a browser, as a data engineer meets our flows there."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from lienthong.demo.airflow import CityWithAirflow
from tests.airflow_kit import Api
from tests.browser_kit import Browser

pytestmark = [pytest.mark.slow, pytest.mark.pages, pytest.mark.timeout(900)]

PICTURES = os.environ.get("LIENTHONG_PICTURES")
"""A folder that the pictures are copied to, for people to look at."""


@pytest.fixture
def browser(tmp_path: Path, api: Api) -> object:
    with Browser(tmp_path) as made:
        made.log_in(api.address, api.token)
        yield made


def keep(browser: Browser, folder: Path, name: str) -> None:
    browser.picture(folder / name)
    assert (folder / name).stat().st_size > 20_000
    if PICTURES:
        shutil.copy(folder / name, PICTURES)


def test_the_flows_are_listed_by_their_vietnamese_names(browser: Browser, api: Api, tmp_path: Path) -> None:
    browser.open(f"{api.address}/dags")
    browser.until("Nạp dữ liệu một hệ thống", "Chốt ngày", "Đối soát hằng giờ")
    keep(browser, tmp_path, "flows.png")


def test_a_run_shows_its_graph_and_its_ranges(browser: Browser, api: Api, flows: CityWithAirflow, tmp_path: Path) -> None:
    api.switch_on("load_system")
    run = api.start("load_system", system="ward-tan-dinh", entity="dossier", dry_run=False)
    assert api.wait("load_system", run) == "success"
    browser.open(f"{api.address}/dags/load_system/runs/{run}")
    browser.call("Runtime.evaluate", expression="localStorage.setItem('default_dag_view', JSON.stringify('graph'))")
    browser.open(f"{api.address}/dags/load_system/runs/{run}")
    nodes = browser.until_each(".react-flow__node", "plan", "load", "finish")
    assert len(nodes) == 3
    keep(browser, tmp_path, "run.png")
    browser.open(f"{api.address}/dags/load_system/runs/{run}/tasks/load/mapped")
    browser.until("dossier 0")
    keep(browser, tmp_path, "ranges.png")


def test_what_to_do_if_red_stands_on_the_flows_page(browser: Browser, api: Api, tmp_path: Path) -> None:
    browser.open(f"{api.address}/dags/load_system/details")
    browser.until("Nạp dữ liệu một hệ thống")
    keep(browser, tmp_path, "details.png")
