"""The register of units over SOAP, as of dates before, between and after the changes: what differs is listed, and nothing is applied."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date
from typing import Any

import pytest

from connectors.http import Refused, UnknownOutcome
from lienthong import hub_schema, units
from lienthong.cli import national_units
from lienthong.cli.shared import Exit
from lienthong.config_national import National as Configured
from lienthong.config_national import UnitRegister as Section
from lienthong.embedded import PostgresCluster
from lienthong.errors import ConfigError
from lienthong.national.unit_register import Difference, compare
from lienthong.settings import Settings
from tests.merge_kit import settings as merge_settings
from tests.national_kit import National, unit_register

DATES = (date(2024, 12, 1), date(2025, 4, 1), date(2026, 1, 1))
NOW = DATES[-1]


@pytest.fixture(scope="module")
def served(pg: PostgresCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[National]:
    with unit_register(tmp_path_factory.mktemp("register"), pg.create_database("national_register")) as made:
        yield made


@pytest.fixture
def settings(served: National, database: str) -> Iterator[Settings]:
    hub_schema.install(database)
    served.heal()
    served.forget()
    kept = served.sql("SELECT u FROM unit u WHERE code = '26740'")
    assert kept
    yield merge_settings(database).model_copy(update={"national": Configured(unit_register=Section(endpoint=served.register_url))})
    served.heal()


@pytest.fixture
def changed(served: National) -> Iterator[Any]:
    """Change the office's register, and take the change back."""
    served.sql("BEGIN; CREATE TABLE IF NOT EXISTS kept AS SELECT * FROM unit; COMMIT")
    yield served.sql
    served.sql("BEGIN; DELETE FROM unit; INSERT INTO unit SELECT * FROM kept; DROP TABLE kept; COMMIT")


@pytest.mark.parametrize("on", DATES)
def test_the_published_register_and_ours_are_the_same_on_every_date(settings: Settings, served: National, on: date) -> None:
    assert compare(settings, on) == []
    assert {row["operation"] for row in served.seen()} == {"DanhMucTinh", "DanhMucQuanHuyen", "DanhMucPhuongXa"}


def test_what_differs_is_listed_and_nothing_is_applied(settings: Settings, changed: Any) -> None:
    before = units.all_units()
    changed("UPDATE unit SET name = 'Phường Khác' WHERE code = '26740' AND valid_to IS NULL")
    changed("DELETE FROM unit WHERE code = '25750' AND valid_to IS NULL")
    changed("INSERT INTO unit SELECT level, '99999', 'Phường Mới', kind, province, district, valid_from, valid_to FROM unit WHERE code = '25747' "
            "AND valid_to IS NULL")  # fmt: skip
    ours = {code: unit.full_name for code, unit in units.register().eras[2].items()}
    assert compare(settings, NOW) == [
        Difference("removed", "25750", "ward", ours["25750"], None),
        Difference("renamed", "26740", "ward", ours["26740"], "Phường Khác"),
        Difference("added", "99999", "ward", None, "Phường Mới"),
    ]
    assert units.all_units() == before


def test_the_command_lists_differences_and_ends_with_one(
    settings: Settings, changed: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(national_units, "settings_of", lambda _: settings)
    assert national_units.national_units(on="2026-01-01", as_json=True) == Exit.FINE
    assert json.loads(capsys.readouterr().out)["differences"] == []
    changed("UPDATE unit SET name = 'Phường Khác' WHERE code = '26740' AND valid_to IS NULL")
    assert national_units.national_units(on="2026-01-01", as_json=True) == Exit.FOUND_WRONG
    (found,) = json.loads(capsys.readouterr().out)["differences"]
    assert (found["kind"], found["code"], found["theirs"]) == ("renamed", "26740", "Phường Khác")
    with pytest.raises(ConfigError, match="YYYY-MM-DD"):
        national_units.national_units(on="01/01/2026")


def test_an_empty_register_proposes_nothing(settings: Settings, changed: Any) -> None:
    changed("DELETE FROM unit WHERE level = 'ward'")
    with pytest.raises(Refused, match="without any ward"):
        compare(settings, NOW)


@pytest.mark.parametrize("kind", ["truncated", "html", "fault-200", "entities"])
def test_half_a_register_is_none(settings: Settings, served: National, kind: str) -> None:
    served.fault(kind, operation="DanhMucPhuongXa")
    with pytest.raises(UnknownOutcome):
        compare(settings, NOW)


def test_without_a_section_there_is_no_register(settings: Settings) -> None:
    with pytest.raises(ConfigError, match="unit_register"):
        compare(settings.model_copy(update={"national": None}), NOW)
