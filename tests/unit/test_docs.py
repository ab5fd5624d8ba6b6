"""The pages are true: commands, paths, targets, links and error codes that they name exist, and none is left out."""

from __future__ import annotations

import ast
import pkgutil
import re
import shlex
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import typer

import schemas
from lienthong import status
from lienthong.cli.main import app
from lienthong.cli.shared import Exit
from lienthong.errors import ConfigError, FatalError, FencedError, LienThongError, RecordError, TransientError

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
FOLDERS = ("lienthong", "connectors", "schemas", "dags", "docs", "tests", "benchmarks", "docker", ".ci")
PLACEHOLDER = re.compile(r"<[a-z-]+>|\b[A-Z]{2,}\b|…")
COMMAND = typer.main.get_command(app)
ALWAYS = {"--help", "--version", "--debug"}


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@cache
def text_of(page: Path) -> str:
    return page.read_text("utf-8")


@cache
def everything() -> str:
    return "\n".join(map(text_of, PAGES))


def blocks(page: Path) -> Iterator[tuple[str, str]]:
    """Language and text of each fenced block."""
    yield from re.findall(r"^```(\w*)\n(.*?)^```", text_of(page), flags=re.M | re.S)


def spans(page: Path) -> list[str]:
    """What stands in backticks outside of the fenced blocks."""
    return re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text_of(page), flags=re.M | re.S))


def shell_lines(page: Path) -> Iterator[str]:
    """Everything on a page that a reader may type: spans, and the lines of shell blocks."""
    yield from spans(page)
    for language, block in blocks(page):
        if language in {"sh", "bash", "console"}:
            yield from (line.removeprefix("$ ").strip() for line in block.replace("\\\n", " ").splitlines())


# ------------------------------------------------------------------ commands
def commands(command: Any, prefix: str = "lienthong") -> Iterator[tuple[str, Any]]:
    """Every command that does something, with its full name."""
    children: Mapping[str, Any] = getattr(command, "commands", {})
    if not children:
        yield prefix, command
    for name, child in children.items():
        yield from commands(child, f"{prefix} {name}")


COMMANDS = dict(commands(COMMAND))


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_stands_in_the_docs(command: str) -> None:
    assert re.search(rf"{command}\b", everything())


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_says_what_it_does(command: str) -> None:
    assert COMMANDS[command].help


def typed(page: Path) -> Iterator[list[str]]:
    """The words of each use of our command line on a page."""
    for line in shell_lines(page):
        if found := re.match(r"(?:\.venv/bin/)?lienthong(?: |$)(.*)", line):
            words = shlex.split(found[1].replace("…", "X"), comments=True)
            end = next((n for n, word in enumerate(words) if word[0] in "|>&;" or word.startswith("2>")), len(words))
            yield words[:end]


def unknown(words: list[str]) -> str | None:
    """What is wrong with a use of the command line; None when all of it exists."""
    command, name, rest = COMMAND, "lienthong", list(words)
    while rest and not rest[0].startswith("-") and (children := getattr(command, "commands", None)):
        name = f"{name} {rest[0]}"
        if rest[0] not in children:
            return f"there is no command {name}"
        command = children[rest.pop(0)]
    return unknown_word(command, name, rest)


def unknown_word(command: Any, name: str, rest: list[str]) -> str | None:
    """The first option or argument that a command does not take."""
    options = {option: parameter for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    takes_arguments = any(parameter.param_type_name == "argument" for parameter in command.params)
    while rest:
        word = rest.pop(0)
        option = options.get(word.split("=")[0])
        if option is not None:
            rest = rest if option.is_flag or "=" in word else rest[1:]
        elif word.startswith("-") and word not in ALWAYS:
            return f"{name} has no {word}"
        elif not word.startswith("-") and not takes_arguments:
            return f"{name} takes no {word}"
    return None


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_command_on_a_page_exists(page: Path) -> None:
    assert [wrong for words in typed(page) if (wrong := unknown(words))] == []


def test_a_command_or_option_that_does_not_exist_is_noticed() -> None:
    assert unknown(["parked", "burn"]) == "there is no command lienthong parked burn"
    assert unknown(["load", "ward", "--fast"]) == "lienthong load has no --fast"
    assert unknown(["check", "ward"]) == "lienthong check takes no ward"
    assert unknown(["parked", "list", "--system", "ward", "--json"]) is None


def texts() -> Iterator[tuple[str, str]]:
    """Place and text of every string in the code; what is filled in later is an X."""
    for file in [*(ROOT / "lienthong").rglob("*.py"), *(ROOT / "connectors").rglob("*.py")]:
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = [str(part.value) if isinstance(part, ast.Constant) else "X" for part in node.values]
                yield f"{name_of(file)}:{node.lineno}", "".join(parts)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield f"{name_of(file)}:{node.lineno}", node.value


def test_every_command_that_a_message_names_exists() -> None:
    wrong = [
        f"{where}: {problem}"
        for where, text in texts()
        for used in re.findall(r"`lienthong ([^`]+)`", text)
        if "<" not in used and (problem := unknown(used.replace("…", "X").split()))
    ]
    assert not wrong, "\n" + "\n".join(wrong)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_make_target_on_a_page_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), flags=re.M))
    named = {found[1] for line in shell_lines(page) if (found := re.match(r"make ([a-z]+)\b", line))}
    assert named - targets == set()


def test_every_make_target_says_what_it_does_and_stands_in_the_docs() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    phony = re.search(r"^\.PHONY: (.*)$", makefile, flags=re.M)
    assert phony is not None
    for target in phony[1].split():
        assert re.search(rf"^{target}:.*## \S", makefile, flags=re.M), target
        assert target == "help" or f"make {target}" in everything(), target


def test_the_readme_names_every_exit_code() -> None:
    readme = text_of(ROOT / "README.md")
    sentence = readme[readme.index("Exit codes:") :].split(".\n")[0]
    assert [int(code) for code in re.findall(r"\b\d+\b", sentence)] == [code.value for code in Exit]


# ------------------------------------------------------------------ files and links
def paths(page: Path) -> Iterator[str]:
    """Paths of this repository that a page names; placeholders become wildcards."""
    candidates = [*spans(page), *(line for _, block in blocks(page) for line in block.split())]
    for candidate in candidates:
        word = candidate.strip("`'\",;:()").split("::")[0]
        if re.fullmatch(r"[\w.<>*…/-]+", word) and word.startswith(tuple(f"{folder}/" for folder in FOLDERS)):
            yield PLACEHOLDER.sub("*", word).rstrip("/")


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_file_on_a_page_exists(page: Path) -> None:
    assert [path for path in paths(page) if not any(ROOT.glob(path))] == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_test_on_a_page_exists(page: Path) -> None:
    tests = "\n".join(file.read_text("utf-8") for file in sorted((ROOT / "tests").rglob("test_*.py")))
    named = {span.split("::")[-1] for span in spans(page)}
    assert [name for name in sorted(named) if re.fullmatch(r"test_\w+", name) and f"def {name}(" not in tests] == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_on_a_page_leads_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text_of(page))
    local = [target for target in targets if not target.startswith(("http://", "https://"))]
    assert [target for target in local if not (page.parent / target).exists()] == []


def test_every_page_can_be_reached_from_the_readme() -> None:
    seen, todo = set(), [ROOT / "README.md"]
    while todo:
        page = todo.pop().resolve()
        if page in seen or not page.is_file():
            continue
        seen.add(page)
        todo += [page.parent / target for target in re.findall(r"\]\(([^)#\s]+\.md)", text_of(page))]
    assert [name_of(page) for page in PAGES if page.resolve() not in seen] == []


@pytest.mark.parametrize("picture", sorted((ROOT / "docs" / "images").glob("*.svg")), ids=name_of)
def test_every_picture_is_well_formed_and_says_what_it_shows(picture: Path) -> None:
    root = ElementTree.parse(picture).getroot()  # our own file
    titles = [root.find(f"{{http://www.w3.org/2000/svg}}{name}") for name in ("title", "desc")]
    assert all(title is not None and title.text for title in titles)
    assert picture.name in everything()


# ------------------------------------------------------------------ errors
def modules() -> Iterator[str]:
    for package in ("lienthong", "connectors"):
        yield package
        for found in pkgutil.walk_packages(import_module(package).__path__, package + "."):
            if not found.name.endswith("__main__"):
                yield found.name


@cache
def errors() -> tuple[type[LienThongError], ...]:
    """Every error class that has a code of its own, by code."""
    for module in modules():
        import_module(module)
    found, todo = [], [LienThongError]
    while todo:
        error = todo.pop()
        todo += error.__subclasses__()
        if "code" in vars(error) and error.__module__.split(".")[0] in {"lienthong", "connectors"}:
            found.append(error)
    return tuple(sorted(found, key=lambda error: error.code))


WHAT_HAPPENS: tuple[tuple[type[LienThongError], str], ...] = (
    (FencedError, "tried again"),
    (TransientError, "tried again"),
    (RecordError, "the record is parked, the rest goes on"),
    (FatalError, "the line stops until a person has acted"),
    (ConfigError, "nothing is started; a line that runs stops"),
    (LienThongError, "see the words"),
)


def row(error: type[LienThongError]) -> str:
    """An error's line in the table of docs/runbook.md, made from its class."""
    happens = next(words for kind, words in WHAT_HAPPENS if issubclass(error, kind))
    if error.__name__ == "DataRefused":
        happens = "the record is parked, the rest goes on"
    sentence = (error.__doc__ or "").strip().splitlines()[0]
    return f"| `{error.code}` | `{error.__name__}` | {sentence} | {happens} |"


def test_every_error_has_a_code_of_its_own() -> None:
    codes = [error.code for error in errors()]
    assert sorted(set(codes)) == codes
    assert all(re.fullmatch(r"LT-([A-Z]{2,5}-)?\d{3}", code) for code in codes)


def test_every_error_class_says_what_to_do() -> None:
    assert [error.__name__ for error in errors() if not (error.__doc__ or "").strip().endswith(".")] == []


def test_the_runbook_holds_the_table_of_errors() -> None:
    """When this is red, put what is printed here in place of the table in docs/runbook.md."""
    table = "\n".join(map(row, errors()))
    assert table in text_of(ROOT / "docs" / "runbook.md"), table


def test_no_page_names_an_error_that_is_gone() -> None:
    assert set(re.findall(r"LT-(?:[A-Z]+-)?\d{3}", everything())) <= {error.code for error in errors()}


REASON_AT = {"Unreadable": 0, "RecordError": 0, "Refusal": 1}
"""Class: the place of the reason among its arguments."""


def reasons() -> set[str]:
    """The reasons for refusing and parking, from the code that gives them."""
    found = {"damaged", "unfit", "refused_by_target", "duplicate_identifier", "link_in_doubt"}
    for file in [*(ROOT / "lienthong").rglob("*.py"), *(ROOT / "connectors").rglob("*.py")]:
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in REASON_AT:
                given = node.args[REASON_AT[node.func.id] :][:1]
                found |= {arg.value for arg in given if isinstance(arg, ast.Constant) and isinstance(arg.value, str)}
    return found


@pytest.mark.parametrize("reason", sorted(reasons()))
def test_every_reason_for_parking_stands_in_the_runbook(reason: str) -> None:
    assert f"`{reason}`" in text_of(ROOT / "docs" / "runbook.md")


def test_every_state_of_a_line_stands_in_the_runbook() -> None:
    """The words that `status` makes itself, and those that lines report of themselves."""
    made = set(re.findall(r'"(normal|late|broken|silent|not started)"', Path(status.__file__).read_text("utf-8")))
    assert made == {"normal", "late", "broken", "silent", "not started"}
    runbook = text_of(ROOT / "docs" / "runbook.md")
    assert [state for state in sorted(made | {"starting", "retrying", "stopped"}) if f"`{state}`" not in runbook] == []


# ------------------------------------------------------------------ topics and records
def test_the_consumers_page_names_every_record() -> None:
    page = text_of(ROOT / "docs" / "consuming.md")
    sent = [name for name in schemas.RECORDS if name != "parked"]
    assert [name for name in sent if f"`{schemas.full_name(name)}`" not in page] == []


def test_the_consumers_page_names_every_control_field() -> None:
    page = text_of(ROOT / "docs" / "consuming.md")
    meta = schemas.raw("dossier")["fields"][0]["type"]["fields"]
    assert [field["name"] for field in meta if f"`{field['name']}`" not in page] == []


def test_the_consumers_example_is_python() -> None:
    found = [block for language, block in blocks(ROOT / "docs" / "consuming.md") if language == "python"]
    assert found
    for block in found:
        ast.parse(block)


# ------------------------------------------------------------------ decisions
@pytest.mark.parametrize("record", sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md")), ids=name_of)
def test_a_decision_record_has_its_five_parts(record: Path) -> None:
    parts = re.findall(r"^\*\*(\w+)\*\*|^## (\w+)", text_of(record), flags=re.M)
    assert [one or other for one, other in parts] == ["Status", "Context", "Decision", "Consequences", "Rejected"]
