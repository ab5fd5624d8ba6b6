"""The command line without any server: help everywhere, suggestions, exit codes, and problems with their place."""

from __future__ import annotations

import importlib
import json
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from lienthong import __version__
from lienthong.cli.shared import Exit
from lienthong.demo.parties import CONFIG, PARTIES
from lienthong.errors import ConfigError, FatalError, FencedError, LienThongError, RecordError, TransientError

cli = importlib.import_module("lienthong.cli.main")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The demo's configuration, with every variable set; nobody is at the addresses."""
    shutil.copytree(CONFIG, tmp_path / "config")
    for variable in ("HUB_DSN", *(party.variable for party in PARTIES.values())):
        monkeypatch.setenv(variable, "postgresql://lienthong@127.0.0.1:1/nobody")
    for variable in ("POPULATION_URL", "NATIONAL_PORTAL_URL"):
        monkeypatch.setenv(variable, "http://127.0.0.1:1")
    for variable in ("POPULATION_SECRET", "NATIONAL_PORTAL_SECRET"):
        monkeypatch.setenv(variable, "secret")
    monkeypatch.setenv("KAFKA_BOOTSTRAP", "127.0.0.1:1")
    monkeypatch.setenv("LIENTHONG_CONFIG", str(tmp_path / "config"))
    return tmp_path / "config"


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run a command in this process; its exit code."""
    monkeypatch.setattr(sys, "argv", ["lienthong", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    for name, child in getattr(command, "commands", {}).items():
        yield from commands(child, (*path, name))


EVERY = list(commands(typer.main.get_command(cli.app)))


@pytest.mark.parametrize("path", EVERY, ids=" ".join)
def test_every_command_explains_itself_and_each_option(
    path: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, *path, "--help") == Exit.FINE
    text = capsys.readouterr().out
    assert re.search(r"Usage: .*\n\n +\S.{20}", text), text
    command: Any = typer.main.get_command(cli.app)
    for name in path:
        command = command.commands[name]
    silent = [p.name for p in command.params if not getattr(p, "help", None) and not getattr(p, "hidden", False)]
    assert silent == [], f"options without a word of help: {silent}"


def test_without_arguments_the_examples_come_first(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    call(monkeypatch)
    said = capsys.readouterr()
    text = said.out + said.err
    assert 0 < text.index("lienthong demo") < text.index("Options")
    assert {"check", "run", "load", "status", "lag", "parked", "trace", "demo", "up"} <= set(text.split())


def test_the_version_says_what_matters(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(monkeypatch, "--version") == Exit.FINE
    assert re.fullmatch(rf"lienthong {re.escape(__version__)} \(schemas release \d+, Python 3\.\d+\.\d+\)\n", capsys.readouterr().out)


@pytest.mark.parametrize(("typed", "meant"), [("chek", "check"), ("stauts", "status"), ("loda", "load"), ("lagg", "lag")])
def test_an_unknown_command_is_answered_with_the_nearest(
    typed: str, meant: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, typed) == Exit.USAGE
    said = capsys.readouterr().err
    assert f"No such command '{typed}'" in said
    assert f"'{meant}'" in said


def test_an_unknown_option_and_a_missing_argument_are_usage(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(monkeypatch, "check", "--offlin") == Exit.USAGE
    assert "--offline" in capsys.readouterr().err
    assert call(monkeypatch, "load") == Exit.USAGE
    assert "name the systems to load, or give --all" in capsys.readouterr().err


def test_unknown_systems_roles_and_entities_name_those_there_are(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments in (("load", "ward-tan-din"), ("check", "--sql", "ward-tan-din"), ("run", "apply", "--system", "ward-tan-din")):
        assert call(monkeypatch, *arguments) == Exit.USAGE, arguments
        said = capsys.readouterr().err
        assert "no system ward-tan-din" in said
        assert "did you mean ward-tan-dinh?" in said
    assert call(monkeypatch, "run", "aply") == Exit.USAGE
    assert "no role aply (did you mean apply?)" in capsys.readouterr().err


def test_a_right_configuration_is_checked_without_a_network(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "check", "--offline") == Exit.FINE
    assert capsys.readouterr().out == "8 systems, files only: 0 errors, 0 warnings\n"
    assert call(monkeypatch, "check", "--offline", "--json") == Exit.FINE
    assert json.loads(capsys.readouterr().out) == {
        "schema": "lienthong/check/1",
        "problems": [],
        "without_database": ["population", "national-portal"],
    }


def test_all_problems_come_at_once_with_file_line_and_column(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    systems, contracts = folder / "systems.yaml", folder / "contracts.yaml"
    systems.write_text(systems.read_text().replace("capture: wal", "captur: wal", 1).replace('"26740"', "26740"))
    contracts.write_text(contracts.read_text().replace("system: dept-justice", "system: dept-justise", 1))
    monkeypatch.delenv("ONE_STOP_DSN")
    assert call(monkeypatch, "check", "--offline") == Exit.USAGE
    said = capsys.readouterr().err
    assert "the configuration is wrong; nothing was started" in said
    places = dict(re.findall(r"^(\w+\.yaml):\d+:\d+: (\S+): ", said, re.MULTILINE))
    assert set(places) == {"systems.yaml", "contracts.yaml"}
    assert re.search(r"systems\.yaml:\d+:5: systems\.city-portal\.captur: unknown key \(did you mean capture\?\)", said)
    assert "the variable ONE_STOP_DSN is not set" in said
    assert "did you mean dept-justice?" in said
    line = systems.read_text().splitlines().index("    units: [26740]") + 1
    assert re.search(rf"systems\.yaml:{line}:13: .*put it in quotes", said), said
    assert call(monkeypatch, "check", "--offline", "--json") == Exit.USAGE
    problems = json.loads(capsys.readouterr().out)["problems"]
    assert {"file", "line", "column", "path", "code", "message", "hint", "severity", "dependency"} == set(problems[0])
    assert all(problem["line"] > 0 for problem in problems)


def test_a_folder_that_is_not_there_is_said(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "check", "--offline", "--config", str(tmp_path / "nowhere")) == Exit.USAGE
    said = capsys.readouterr().err
    assert "nowhere" in said
    assert "--config" in said


@pytest.mark.parametrize(("command", "says"), [
    (("status",), "the hub cannot be reached: connection to server at"),
    (("lag", "--json"), "the hub cannot be reached"),
    (("parked", "list"), "the hub cannot be reached"),
    (("trace", "H29"), "the hub cannot be reached"),
    (("load", "city-portal"), "the hub cannot be reached"),
    (("check", "--system", "city-portal"), "kafka: cannot be reached: no Kafka broker can be reached at 127.0.0.1:1"),
])  # fmt: skip
def test_what_is_down_is_named_and_has_its_exit_code(
    folder: Path, command: tuple[str, ...], says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, *command) == Exit.DEPENDENCY_DOWN
    said = capsys.readouterr()
    assert says in said.out + said.err


@pytest.mark.parametrize(("error", "code"), [
    (TransientError("x"), 3), (ConfigError("x"), 2), (FencedError("x"), 4), (FatalError("x"), 1),
    (RecordError("missing", None, "x"), 1), (LienThongError("x"), 1), (KeyboardInterrupt(), 130), (ZeroDivisionError("canary"), 70),
])  # fmt: skip
def test_each_kind_of_error_has_its_exit_code(
    error: BaseException, code: int, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_settings: object) -> None:
        raise error

    monkeypatch.setattr("lienthong.status.lines", fail)
    assert call(monkeypatch, "lag") == code
    said = capsys.readouterr().err
    assert "canary" not in said
    for report in re.findall(r"is in (\S+\.txt)", said):
        Path(report).unlink()


def test_a_defect_leaves_a_report_without_values(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(_settings: object) -> None:
        raise ValueError("079199000777")

    monkeypatch.setattr("lienthong.status.lines", fail)
    assert call(monkeypatch, "lag") == Exit.OUR_DEFECT
    place = re.search(r"is in (\S+\.txt)", capsys.readouterr().err)
    assert place is not None
    report = Path(place[1])
    text = report.read_text("utf-8")
    report.unlink()
    assert text.startswith("ValueError")
    assert "in lag" in text
    assert "079199000777" not in text


def test_global_options_work_after_the_verb_too(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert call(monkeypatch, "--debug", "check", "--offline") == Exit.FINE
    assert call(monkeypatch, "check", "--offline", "--debug") == Exit.FINE


def test_every_reason_in_the_code_has_its_advice() -> None:
    from lienthong.advice import ADVICE

    text = "".join(path.read_text("utf-8") for path in Path("lienthong").rglob("*.py") if path.name != "advice.py")
    raised = set(re.findall(r"(?:Unreadable|UnmappedWord|RecordError)\(\s*\"(\w+)\"", text))
    raised |= set(re.findall(r"Refusal\([^,()]+, \"(\w+)\"", text))
    raised |= set(re.findall(r"super\(\).__init__\(\"(\w+)\"", text))
    assert len(raised) > 12
    assert raised - set(ADVICE) == set()
    assert all("{" not in words.replace("{system}", "") for words in ADVICE.values())


def test_the_fields_of_an_entity_are_listed_with_what_they_mean(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(monkeypatch, "schemas", "fields", "dossier", "--json") == Exit.FINE
    named = {field["name"]: field for field in json.loads(capsys.readouterr().out)["fields"]}
    assert named["submitted_at"]["required"]
    assert "yêu cầu bổ sung" in named["status"]["doc"]
    assert call(monkeypatch, "schemas", "fields", "fee") == Exit.FINE
    assert "long, required" in capsys.readouterr().out
    assert call(monkeypatch, "schemas", "fields", "fees") == Exit.USAGE
    assert "did you mean fee?" in capsys.readouterr().err
