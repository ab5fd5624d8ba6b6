"""A short seeded mix of faults in every test run, the judge's own eyes tested; all faults one by one with `pytest -m faults`."""

from __future__ import annotations

import ast
import os
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest

from tests.faults import chaos
from tests.faults.all import FAULTS
from tests.faults.data import submit
from tests.faults.oracle import Oracle
from tests.faults.stack import FaultCity, fault_city
from tests.faults.suite import Cities, Fault
from tests.faults.sweep import seen, thorough

SEED = os.environ.get("FAULTS_SEED", "mix")
COPY = "INSERT INTO ho_so (ma_qg, thu_tuc, phuong, trang_thai, ngay_nop, ho_ten) SELECT {}, thu_tuc, phuong, trang_thai, ngay_nop, ho_ten FROM ho_so"
DAMAGE = (
    ("ward_a", "DELETE FROM ho_so WHERE ma_qg = 'P-eyes-1'", "missing"),
    ("ward_a", "UPDATE ho_so SET dien_thoai = '0' WHERE ma_qg = 'P-eyes-1'", "stale"),
    ("ward_a", COPY.format("ma_qg") + " WHERE ma_qg = 'P-eyes-1'", "doubled"),
    ("ward_a", COPY.format("'P-eyes-2'") + " WHERE ma_qg = 'P-eyes-1'", "extra"),
    (
        "portal",
        "INSERT INTO step (application_id, state, at, officer) SELECT id, 'done', now(), 'x' FROM application WHERE code = 'P-eyes-1'",
        "doubled",
    ),
    ("portal", "INSERT INTO witness.backwards VALUES ('dossier', 1, 2, 1)", "backwards"),
)
QUICK = (chaos.kill_role, chaos.kill_at_point, chaos.kill_database, chaos.cut_network)


@pytest.fixture(scope="module")
def city(stack_root: Path) -> Iterator[FaultCity]:
    """One running city."""
    with fault_city(stack_root / "faults", SEED) as made:
        yield made


@pytest.fixture(scope="module")
def cities() -> Iterator[Cities]:
    """Cities for all faults."""
    made = Cities(SEED)
    yield made
    made.close()


def test_the_oracle_and_the_applications_share_no_code_with_the_service() -> None:
    for name in ("oracle.py", "words.py", "load.py"):
        tree = ast.parse(Path(__file__).with_name(name).read_text("utf-8"))
        modules = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        modules |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        shared = {module for module in modules - {"tests.faults.words"} if module.partition(".")[0] not in {*sys.stdlib_module_names, "psycopg2"}}
        assert shared == set(), name


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_short_mix_of_faults_loses_and_doubles_nothing(city: FaultCity) -> None:
    found = chaos.mix(city, 8, with_load=False, only=lambda one: one in QUICK)
    assert found.injected
    assert found.at_risk > 50
    assert not found.verdict.examples, f"seed {SEED}, {dict(found.injected)}"
    assert not thorough(city)


@pytest.mark.slow
def test_the_oracle_sees_each_kind_of_damage(city: FaultCity) -> None:
    """Done under the service's name in transactions that the oracle looks through and that are never committed."""
    submit(city, "P-eyes-1")
    verdict, _ = city.clean(30)
    assert verdict.right, verdict.examples
    for at, damage, kind in DAMAGE:
        dsn = city.environment[f"{at.upper()}_DSN"]
        with closing(psycopg2.connect(dsn, application_name="lienthong test")) as connection, connection.cursor() as cursor:
            cursor.execute(damage)
            eyes = Oracle(city.oracle.dsns, city.oracle.hub_dsn)
            eyes.through[dsn] = cursor
            found = eyes.judge()
        assert getattr(found, kind) >= 1, (damage, found)


def test_the_sweep_sees_a_canary() -> None:
    assert seen("… NGUYỄN ZQCANARY An".encode())
    assert not seen(b"nothing here")


@pytest.mark.faults
@pytest.mark.timeout(600)
@pytest.mark.parametrize("one", [pytest.param(one, id=f"{number}-{one.work.__name__}") for number, one in sorted(FAULTS.items())])
def test_fault(cities: Cities, one: Fault) -> None:
    begun = time.monotonic()
    row = cities.run(one)
    if row.skipped:
        pytest.skip(row.skipped)
    assert row.right, f"seed {SEED}, {time.monotonic() - begun:.0f} s: {row}"
