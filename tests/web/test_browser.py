"""The pages in a real browser: with and without JavaScript, on a desk and on a phone, by day and by night, and for everybody (axe)."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from lienthong import procedures, scorecards
from lienthong.days import yesterday
from lienthong.embedded import PostgresCluster
from lienthong.embedded.ports import free_port
from lienthong.settings import Settings
from lienthong.web import app
from tests import web_kit
from tests.browser_kit import Browser
from tests.city import wait
from tests.web_kit import PASSWORD, sql

pytestmark = [pytest.mark.slow, pytest.mark.pages, pytest.mark.timeout(600)]

PICTURES = os.environ.get("LIENTHONG_PICTURES")
"""A folder that the pictures are copied to, for people to look at."""

DESK, PHONE = (1360, 900), (390, 844)
AXE = files("axe_core_python").joinpath("axe.min.js")
WATCH_POLICY = """
window.refusals = [];
document.addEventListener('securitypolicyviolation', e => refusals.push(e.violatedDirective + ' ' + e.blockedURI));
"""
RULES = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice")
CODE = "H29.26737-261101-0000007"
SHOWN = {
    "overview": "/overview",
    "system": "/systems/ward-sai-gon",
    "parked": "/parked",
    "parked-record": "/parked/record?ref=2",
    "differences": "/differences",
    "certificates": "/certificates",
    "lost": "/lost",
    "journey": "/journey",
    "scorecards": "/scorecards",
    "procedures": "/procedures",
}


@pytest.fixture(scope="module")
def settings(pg: PostgresCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    dsn = pg.create_database("web_browser")
    web_kit.fill(dsn, dossiers=3000)
    made = web_kit.settings_of(tmp_path_factory.mktemp("browser") / "config", dsn)
    now = datetime.now(UTC)
    procedures.review(made, yesterday(now))
    scorecards.compute(made, yesterday(now).replace(day=1), yesterday(now), now=now)
    yield made
    pg.drop_database("web_browser")


@pytest.fixture(scope="module")
def address(settings: Settings) -> Iterator[str]:
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app.create(settings), host="127.0.0.1", port=port, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    wait(lambda: server.started)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(20)


@pytest.fixture(scope="module")
def browser(address: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("chromium")) as made:
        made.call("Page.enable")
        made.call("Network.enable")
        made.call(
            "Page.addScriptToEvaluateOnNewDocument",
            source=WATCH_POLICY,
        )
        log_in(made, address, "chi")
        yield made


def run(browser: Browser, expression: str) -> Any:
    """The value of an expression on the page."""
    return browser.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)["result"].get("value")


def log_in(browser: Browser, address: str, name: str) -> None:
    """Name and password into the form."""
    browser.call("Network.clearBrowserCookies")
    look(browser, DESK, dark=False, language="en")
    browser.open(f"{address}/login")
    browser.until("Password", "lienthong web user add")
    run(browser, f"document.getElementById('name').value = {json.dumps(name)}; document.getElementById('password').value = {json.dumps(PASSWORD)}")
    run(browser, "document.querySelector('main form button').click()")
    browser.until("Log out", "All lines, worst first")


def look(browser: Browser, size: tuple[int, int], *, dark: bool, language: str) -> None:
    """As a device of this size, in this light and language."""
    width, height = size
    browser.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=size == PHONE)
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    browser.call("Emulation.setEmulatedMedia", features=[scheme])
    browser.call("Network.setExtraHTTPHeaders", headers={"Accept-Language": language})


def show(browser: Browser, where: str) -> None:
    """Go to a page and wait until it is there."""
    run(browser, "window.hasBeenLeft = true")
    browser.open(where)
    is_there = f"!window.hasBeenLeft && location.href === {json.dumps(where)} && document.readyState === 'complete' && !!document.querySelector('h1')"
    wait(lambda: run(browser, is_there) is True)


def picture(browser: Browser, folder: Path, name: str) -> None:
    """The whole page."""
    size = browser.call("Page.getLayoutMetrics")["cssContentSize"]
    clip = {"x": 0, "y": 0, "width": size["width"], "height": min(size["height"], 2400), "scale": 1}
    made = browser.call("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
    (folder / name).write_bytes(base64.b64decode(made["data"]))
    if PICTURES:
        shutil.copy(folder / name, PICTURES)


def complaints(browser: Browser) -> list[str]:
    """What axe finds, one line for each rule and place."""
    run(browser, AXE.read_text("utf-8") + "; true")
    found = run(browser, f"axe.run(document, {{runOnly: {json.dumps(RULES)}}}).then(r => JSON.stringify(r.violations))")
    return [f"{rule['id']}: {node['target']} {node.get('failureSummary', '')}" for rule in json.loads(found) for node in rule["nodes"]]


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
@pytest.mark.parametrize("name", SHOWN)
def test_a_page_is_for_everybody_fits_and_obeys_its_own_policy(
    browser: Browser, address: str, tmp_path: Path, name: str, size: tuple[int, int], *, dark: bool
) -> None:
    language = "vi" if dark else "en"
    look(browser, size, dark=dark, language=language)
    show(browser, address + SHOWN[name])
    if name == "journey":
        run(browser, f"document.getElementById('code').value = '{CODE}'; document.querySelector('main form button').click()")
        browser.until(CODE, "Đang ở đâu" if dark else "Who holds it now")
    assert complaints(browser) == []
    assert run(browser, "document.documentElement.scrollWidth") <= size[0], "nothing sticks out at the side"
    assert run(browser, "window.refusals") == []
    picture(browser, tmp_path, f"web-{name}-{'phone' if size == PHONE else 'desk'}-{'dark' if dark else 'light'}.png")


def test_the_log_in_is_for_everybody(browser: Browser, address: str, tmp_path: Path) -> None:
    look(browser, PHONE, dark=False, language="vi")
    browser.call("Network.clearBrowserCookies")
    show(browser, f"{address}/login")
    assert complaints(browser) == []
    picture(browser, tmp_path, "web-log-in-phone-light.png")
    log_in(browser, address, "chi")


def test_everything_works_without_javascript(browser: Browser, address: str) -> None:
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        log_in(browser, address, "binh")
        show(browser, f"{address}/parked/record?ref=4")
        run(browser, "document.getElementById('why').value = 'một lần thử'; document.querySelector('button[value=discard]').click()")
        browser.until("Given up.")
        show(browser, f"{address}/overview?refresh=1")
        browser.until("Stop refreshing")
    finally:
        browser.call("Emulation.setScriptExecutionDisabled", value=False)
        log_in(browser, address, "chi")


def test_an_open_page_shows_by_itself_what_breaks_and_what_is_whole_again(browser: Browser, address: str, settings: Settings) -> None:
    look(browser, DESK, dark=False, language="en")
    sql(settings.hub.dsn, "UPDATE hub.line SET through = now() WHERE state = 'running'")
    show(browser, f"{address}/overview")
    assert not re.search(r"one-stop: capture", browser.text())
    broken = "UPDATE hub.line SET through = now() - INTERVAL '2 hours', state = 'stopped', reason = 'LT-DB-004: table ho_so is gone', since = now()"
    sql(settings.hub.dsn, f"{broken} WHERE (system, stage) = ('one-stop', 'capture')")
    browser.until("one-stop: capture", "table ho_so is gone", "lienthong check --system one-stop", seconds=30)
    whole = "UPDATE hub.line SET through = now(), state = 'running', reason = NULL WHERE (system, stage) = ('one-stop', 'capture')"
    sql(settings.hub.dsn, whole)
    wait(lambda: "table ho_so is gone" not in browser.text(), 30)


def test_the_keyboard_reaches_the_content_first(browser: Browser, address: str) -> None:
    look(browser, DESK, dark=False, language="en")
    show(browser, f"{address}/overview")
    for kind in ("keyDown", "keyUp"):
        browser.call("Input.dispatchKeyEvent", type=kind, key="Tab", code="Tab", windowsVirtualKeyCode=9)
    assert run(browser, "document.activeElement.className") == "skip"
    assert run(browser, "document.activeElement.getBoundingClientRect().left") >= 0
