"""A headless Chromium for tests of pages, spoken to by its own protocol; needs Debian's package `chromium`."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import time
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Any, Self
from urllib.request import urlopen

from websockets.sync.client import ClientConnection, connect

PROGRAM = shutil.which("chromium")
SIZE = "1500,1100"


class Browser:
    """One browser with one page; use as a context."""

    def __init__(self, folder: Path) -> None:
        assert PROGRAM is not None, "apt-get install chromium"
        self._profile = folder / "profile"
        call = [
            PROGRAM, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--remote-debugging-port=0",
            f"--user-data-dir={self._profile}", f"--window-size={SIZE}", "--lang=en", "about:blank",
        ]  # fmt: skip
        self._process = subprocess.Popen(call, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        self._numbers = count(1)
        self._opened = ExitStack()
        self._page: ClientConnection

    def __enter__(self) -> Self:
        port = self._port()
        with urlopen(f"http://127.0.0.1:{port}/json/list", timeout=30) as answer:
            address = next(page["webSocketDebuggerUrl"] for page in json.load(answer) if page["type"] == "page")
        self._page = self._opened.enter_context(connect(address, max_size=None))
        return self

    def _port(self) -> int:
        file, until = self._profile / "DevToolsActivePort", time.monotonic() + 90
        while not file.exists() or not file.read_text("utf-8"):
            assert time.monotonic() < until, "Chromium did not start"
            time.sleep(0.2)
        return int(file.read_text("utf-8").splitlines()[0])

    def call(self, method: str, **arguments: Any) -> Any:
        """One command of the DevTools protocol."""
        number = next(self._numbers)
        self._page.send(json.dumps({"id": number, "method": method, "params": arguments}))
        while True:
            answer = json.loads(self._page.recv(timeout=90))
            if answer.get("id") == number:
                assert "error" not in answer, answer["error"]
                return answer["result"]

    def log_in(self, address: str, token: str) -> None:
        """What the log-in page leaves in the browser."""
        self.call("Network.setCookie", name="_token", value=token, url=address)

    def open(self, address: str) -> None:
        """Go to a page."""
        self.call("Page.navigate", url=address)

    def text(self) -> str:
        """What a person reads on the page."""
        return str(self.call("Runtime.evaluate", expression="document.body ? document.body.innerText : ''")["result"].get("value", ""))

    def until(self, *words: str, seconds: float = 90.0) -> str:
        """Wait until all these words stand on the page; its text."""
        until = time.monotonic() + seconds
        while not all(word in (text := self.text()) for word in words):
            assert time.monotonic() < until, f"{[word for word in words if word not in text]} not on the page:\n{text[:3000]}"
            time.sleep(0.5)
        return text

    def until_each(self, selector: str, *words: str, seconds: float = 90.0) -> list[str]:
        """Wait until each word stands in an element that a selector finds; the texts of all these elements."""
        expression = f"JSON.stringify([...document.querySelectorAll({json.dumps(selector)})].map(each => each.textContent))"
        until = time.monotonic() + seconds
        while True:
            texts: list[str] = json.loads(self.call("Runtime.evaluate", expression=expression)["result"].get("value") or "[]")
            if all(any(word in text for text in texts) for word in words):
                return texts
            assert time.monotonic() < until, f"{words} are not in {selector}: {texts}"
            time.sleep(0.5)

    def click(self, selector: str, words: str = "", seconds: float = 60.0) -> None:
        """Wait for an element that holds these words and is not disabled, and click it."""
        self._act(selector, words, "one.scrollIntoView({block: 'center'}); one.click()", seconds)

    def fill(self, selector: str, text: str, seconds: float = 60.0) -> None:
        """Type into a field of a form in place of what stands there."""
        find = "const field = one.matches('input') ? one : one.querySelector('input'); "
        self._act(selector, "", find + "one.scrollIntoView({block: 'center'}); field.focus(); field.select()", seconds)
        self.call("Input.insertText", text=text)

    def _act(self, selector: str, words: str, action: str, seconds: float) -> None:
        found = f"[...document.querySelectorAll({json.dumps(selector)})].find(e => e.textContent.includes({json.dumps(words)}) && !e.disabled)"
        expression = f"(() => {{ const one = {found}; if (!one) return false; {action}; return true }})()"
        until = time.monotonic() + seconds
        while not self.call("Runtime.evaluate", expression=expression)["result"].get("value"):
            assert time.monotonic() < until, f"no {selector} {words} to be used on the page:\n{self.text()[:3000]}"
            time.sleep(0.3)

    def picture(self, file: Path) -> None:
        """What the page looks like, as PNG."""
        file.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))

    def __exit__(self, *_: object) -> None:
        self._opened.close()
        self._process.kill()
        self._process.wait()
