"""`make airflow` and Ctrl-C: nothing is left, whether it comes while things start, while all runs, or twice."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lienthong.embedded.process import descendants
from tests.airflow_kit import ROOT
from tests.city import wait

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

START_SECONDS, STOP_SECONDS = 240.0, 40.0


@contextmanager
def make_airflow(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The command in a session of its own, as in a terminal; what it says is in `said`, its folders below `folder`."""
    environment = {**os.environ, "TMPDIR": str(folder)}
    with (folder / "said").open("wb") as said:
        process = subprocess.Popen(
            ["make", "airflow", "ARGS=--dossiers 50"], cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=said, stderr=said,
            start_new_session=True, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )  # fmt: skip
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def alive(pids: list[int]) -> list[int]:
    """Those that still run; a zombie that waits for its new parent does not."""
    found = []
    for pid in pids:
        stat = Path(f"/proc/{pid}/stat")
        if stat.exists() and stat.read_text().rpartition(")")[2].split()[0] not in "ZX":
            found.append(pid)
    return found


def left(folder: Path) -> set[str]:
    """What stands there, but for the signs of life, which are every service's of this user."""
    return {path.name for path in folder.iterdir() if not path.name.startswith("lienthong-alive-")}


@pytest.mark.parametrize(("words", "times"), [("starting Airflow", 1), ("everything runs", 2)], ids=["while it starts", "twice while all runs"])
def test_ctrl_c_ends_all_of_it_and_leaves_nothing(stack_root: Path, words: str, times: int) -> None:
    folder = stack_root / f"ctrl-c-{times}"
    folder.mkdir()
    folder.chmod(0o711)
    said = folder / "said"
    with make_airflow(folder) as process:
        wait(lambda: words in said.read_text() or process.poll() is not None, START_SECONDS, said.read_text)
        assert process.poll() is None, said.read_text()
        below = descendants(process.pid)
        assert len(below) > 5
        for _ in range(times):
            os.killpg(process.pid, signal.SIGINT)
            time.sleep(0.3)  # as quick as a person can be
        assert process.wait(STOP_SECONDS) != 0  # of make, whose child was interrupted
    wait(lambda: not alive(below), 10, lambda: f"still there: {[Path(f'/proc/{pid}/cmdline').read_text()[:200] for pid in alive(below)]}")
    wait(lambda: left(folder) == {"said"}, 10, lambda: str(left(folder)))
    assert "Traceback" not in said.read_text()
