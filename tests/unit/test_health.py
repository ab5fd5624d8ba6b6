"""Signs of life: who runs and turns is alive, who stands still or is gone is not, and a neighbour that is away kills nobody."""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from pathlib import Path

import pytest

from lienthong import health
from lienthong.cli.shared import Exit
from lienthong.errors import ConfigError
from lienthong.run import Stop

cli = importlib.import_module("lienthong.cli.main")


def call(monkeypatch: pytest.MonkeyPatch, folder: Path, *arguments: str) -> int:
    """Run `lienthong health` in this process; its exit code."""
    monkeypatch.setenv("LIENTHONG_STATE", str(folder))
    monkeypatch.setattr(sys, "argv", ["lienthong", "health", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


def grow_old(folder: Path, seconds: float) -> None:
    for file in folder.iterdir():
        os.utime(file, (time.time() - seconds, time.time() - seconds))


def test_a_turning_loop_is_alive_and_one_that_stands_still_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pulse = health.Pulse(tmp_path, "merge")
    assert call(monkeypatch, tmp_path, "merge") == Exit.FOUND_WRONG
    pulse.beat()
    assert call(monkeypatch, tmp_path, "merge") == Exit.FINE
    assert call(monkeypatch, tmp_path) == Exit.FINE
    grow_old(tmp_path, 301)
    assert call(monkeypatch, tmp_path, "merge") == Exit.FOUND_WRONG
    assert f"merge (process {os.getpid()}): its loop has stood still for 301 s" in capsys.readouterr().err
    assert call(monkeypatch, tmp_path, "merge", "--limit-seconds", "400") == Exit.FINE


def test_a_process_that_has_ended_is_no_sign_of_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = os.fork()
    if ended == 0:
        os._exit(0)
    os.waitpid(ended, 0)
    (tmp_path / f"route-{ended}.alive").touch()
    assert call(monkeypatch, tmp_path, "route") == Exit.FOUND_WRONG
    assert call(monkeypatch, tmp_path) == Exit.FOUND_WRONG


def test_the_end_in_order_leaves_nothing(tmp_path: Path) -> None:
    pulse = health.Pulse(tmp_path, "apply")
    pulse.beat()
    pulse.end()
    assert list(tmp_path.iterdir()) == []
    pulse.end()


def test_of_several_processes_each_must_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / f"merge-{os.getpid()}.alive").touch()
    (tmp_path / f"merge-{os.getppid()}.alive").touch()
    os.utime(tmp_path / f"merge-{os.getppid()}.alive", (1, 1))
    (tmp_path / "something-else").touch()
    assert call(monkeypatch, tmp_path, "merge", "--json") == Exit.FOUND_WRONG
    document = json.loads(capsys.readouterr().out)
    assert (document["schema"], document["alive"], len(document["problems"])) == ("lienthong/health/1", False, 1)
    assert {process["pid"] for process in document["processes"]} == {os.getpid(), os.getppid()}
    assert call(monkeypatch, tmp_path, "serve") == Exit.FOUND_WRONG


def test_every_loop_that_asks_whether_to_stop_gives_a_sign_of_life(tmp_path: Path) -> None:
    stop = Stop(pulse=health.Pulse(tmp_path, "watch"))
    assert health.signs(tmp_path) == []
    stop.wait(0)
    assert [sign.role for sign in health.signs(tmp_path)] == ["watch"]
    stop.leave()
    assert health.signs(tmp_path) == []


def test_alive_asks_no_neighbour_and_ready_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def ask(*_: object, **__: object) -> None:
        raise AssertionError("a neighbour was asked")

    for role in ("merge", "serve"):
        health.Pulse(tmp_path, role).beat()
    monkeypatch.setattr(health, "connect", ask)
    monkeypatch.setattr(health, "Admin", ask)
    assert call(monkeypatch, tmp_path, "merge") == Exit.FINE
    assert call(monkeypatch, tmp_path, "merge", "--ready", "--config", str(tmp_path / "nowhere")) == Exit.USAGE
    health.ask_neighbours(None, ("serve",))  # type: ignore[arg-type]
    with pytest.raises(AssertionError, match="a neighbour was asked"):
        health.ask_neighbours(_Settings(), ("merge", "serve"))  # type: ignore[arg-type]
    assert "alive" in capsys.readouterr().out


class _Settings:
    class hub:  # noqa: N801 - stands for the settings' field
        dsn = ""


def test_a_folder_that_cannot_be_written_to_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(ConfigError, match="--state"):
        health.Pulse(tmp_path, "merge")


def test_an_unknown_role_is_usage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert call(monkeypatch, tmp_path, "merg") == Exit.USAGE
