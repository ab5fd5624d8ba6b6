"""Airflow's own pages in a browser, as a data engineer meets our flows there."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from lienthong.demo.airflow import CityWithAirflow
from lienthong.demo.verify import verify
from tests.airflow_kit import Api, locked, sql
from tests.browser_kit import Browser
from tests.city import wait

pytestmark = [pytest.mark.slow, pytest.mark.pages, pytest.mark.timeout(900)]

WARD = "ward-sai-gon"
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


def test_a_new_ward_is_loaded_watched_paused_killed_and_run_again_by_hand_and_is_exact(
    browser: Browser, api: Api, flows: CityWithAirflow, tmp_path: Path
) -> None:
    """Everything with the mouse, as somebody who knows Airflow and not this project; a lock holds the ranges in the middle meanwhile."""
    api.switch_on("load_system")
    table = flows.demo.settings.profile_of(WARD).entities["dossier"].table
    browser.open(f"{api.address}/dags/load_system")
    browser.until("Nạp dữ liệu một hệ thống")
    browser.click("[data-testid=trigger-dag-button]")
    browser.fill("#element_system", WARD)
    browser.click("[id='switch:element_dry_run']")
    keep(browser, tmp_path, "form.png")
    browser.click("[data-testid=trigger-dag-submit]")
    run = api.newest("load_system")
    api.until("load_system", run, lambda tasks: any((task["task_id"], task["state"]) == ("plan", "success") for task in tasks))
    with locked(flows.demo.dsns[WARD], table):
        browser.open(f"{api.address}/dags/load_system/runs/{run}")
        api.until("load_system", run, lambda tasks: any(task["task_id"] == "load" and task["state"] == "running" for task in tasks))
        browser.until("Running")
        keep(browser, tmp_path, "running.png")
        browser.click("[data-testid=toggle-pause]")
        wait(lambda: bool(api.get("dags/load_system")["is_paused"]))
        browser.click("[data-testid=mark-run-as-button]")
        browser.click("[data-testid=mark-run-as-failed]")
        browser.click("[data-testid=mark-run-as-confirm]")
        assert api.wait("load_system", run) == "failed"
    browser.click("[data-testid=toggle-pause]")
    wait(lambda: not api.get("dags/load_system")["is_paused"])
    browser.until("Failed")
    keep(browser, tmp_path, "killed.png")
    browser.click("button[aria-label='Press shift+c to clear']")
    browser.click("[role=dialog] button", "Confirm")
    wait(lambda: api.get(f"dags/load_system/dagRuns/{run}")["state"] != "failed")
    assert api.wait("load_system", run, 240) == "success"
    browser.until("Success")
    flows.load(leave=[name for (name,) in sql(flows.demo.settings.hub.dsn, "SELECT DISTINCT system FROM hub.loaded")])
    flows.demo.quiet(delivery=False)
    assert [row for row in verify(flows.demo.dsns) if not row.right] == []
