"""The house: who may import whom, one door for each library, sizes, docstrings, where the environment is read."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from importlib.metadata import distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("lienthong", "connectors", "schemas")
LAYERS = ("dags", "lienthong", "connectors", "schemas")
"""A layer imports itself and those after it."""

DOORS = {
    "kafka": {"connectors/kafka.py"},
    "fastavro": {"connectors/avro.py"},
    "avro": {"connectors/avro.py"},
    "psycopg2": {"connectors/postgres.py"},
    "httpx": {"connectors/http.py"},
    "opentelemetry": {"connectors/otel.py"},
    "zeep": {"connectors/soap.py", "connectors/soap_security.py"},
    "lxml": {"connectors/soap.py", "connectors/soap_security.py", "lienthong/embedded/national"},
    "xmlsec": {"connectors/soap_security.py", "lienthong/embedded/national"},
    "airflow": {"dags"},
    "argon2": {"lienthong/web/accounts.py"},
    "authlib": {"connectors/oidc.py"},
    "httpx2": {"connectors/oidc.py"},
    "pygal": {"connectors/charts.py"},
}
"""Library: the files or folders that may import it."""

READS_THE_ENVIRONMENT = {"lienthong/cli", "lienthong/vault.py", "lienthong/demo", "lienthong/system_names.py"}
"""The command line hands it on; the key of the vault; the demo, which makes the addresses it configures; where the configuration is, for those
that are started without a command line."""

LINES_MAX = 400


def files(*folders: str) -> list[Path]:
    """The Python files of some folders of the repository, in order."""
    return [file for folder in folders for file in sorted((ROOT / folder).rglob("*.py"))]


def place(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


@cache
def tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text("utf-8"))


def imports(file: Path) -> Iterator[tuple[int, str]]:
    """Line and full name of every import, those inside functions too."""
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, "." * node.level + (node.module or "")


def within(name: str, allowed: set[str]) -> bool:
    return any(name == one or name.startswith(one + "/") for one in allowed)


def assert_none(offenders: list[str]) -> None:
    """Every offender is printed, one a line."""
    assert not offenders, "\n" + "\n".join(offenders)


def test_imports_point_one_way() -> None:
    wrong = []
    for rank, layer in enumerate(LAYERS):
        above = set(LAYERS[:rank])
        for file in files(layer):
            wrong += [f"{place(file)}:{line}: {name}" for line, name in imports(file) if name.split(".")[0] in above]
    assert_none(wrong)


def test_the_product_imports_neither_its_tests_nor_its_benchmarks() -> None:
    above = {"tests", "benchmarks"}
    wrong = [f"{place(f)}:{line}: {name}" for f in files(*LAYERS) for line, name in imports(f) if name.split(".")[0] in above]
    assert_none(wrong)


def test_imports_are_absolute() -> None:
    wrong = [f"{place(f)}:{line}: {name}" for f in files(*LAYERS) for line, name in imports(f) if name.startswith(".")]
    assert_none(wrong)


@pytest.mark.parametrize("library", DOORS)
def test_each_library_has_one_door(library: str) -> None:
    wrong = [
        f"{place(file)}:{line}: {name}"
        for file in files(*LAYERS)
        for line, name in imports(file)
        if name.split(".")[0] == library and not within(place(file), DOORS[library])
    ]
    assert_none(wrong)


def test_no_module_is_too_long() -> None:
    counted = {place(file): len(file.read_text("utf-8").splitlines()) for file in files(*LAYERS, "benchmarks")}
    assert {name: lines for name, lines in counted.items() if lines > LINES_MAX} == {}


def test_no_other_distribution_claims_our_packages() -> None:
    claims = {
        (distribution.name, file.parts[0])
        for distribution in distributions()
        if distribution.name != "lienthong"
        for file in distribution.files or ()
        if file.parts[0] in PACKAGES
    }
    assert claims == set()


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_says_that_it_is_typed(package: str) -> None:
    assert (ROOT / package / "py.typed").is_file()


# ------------------------------------------------------------------ docstrings
Documented = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def public(body: list[ast.stmt], prefix: str) -> Iterator[tuple[str, Documented]]:
    """Public classes and functions, and the public methods of public classes; not what is defined inside functions."""
    for node in body:
        if isinstance(node, Documented) and not node.name.startswith("_"):
            yield f"{prefix}{node.name}", node
            if isinstance(node, ast.ClassDef):
                yield from public(node.body, f"{prefix}{node.name}.")


def undocumented(file: Path) -> Iterator[str]:
    module = tree(file)
    if ast.get_docstring(module) is None and module.body:
        yield place(file)
    for name, node in public(module.body, ""):
        if ast.get_docstring(node) is None:
            yield f"{place(file)}:{node.lineno}: {name}"


def test_every_public_module_class_and_function_says_what_it_is_for() -> None:
    assert_none([one for file in files(*LAYERS) for one in undocumented(file)])


# ------------------------------------------------------------------ the environment
def environment_uses(file: Path) -> Iterator[str]:
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.Attribute) and node.attr in {"environ", "environb", "getenv", "putenv"}:
            yield f"{place(file)}:{node.lineno}: {node.attr}"
        elif isinstance(node, ast.ImportFrom) and node.module == "os":
            yield from (f"{place(file)}:{node.lineno}: {alias.name}" for alias in node.names if alias.name in {"environ", "getenv"})


def test_the_environment_is_read_in_few_places_only() -> None:
    closed = [file for file in files(*LAYERS) if not within(place(file), READS_THE_ENVIRONMENT)]
    assert_none([use for file in closed for use in environment_uses(file)])
