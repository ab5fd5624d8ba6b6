"""The portal's catalogues against what the hub holds: differences are listed by code and nothing is applied, and half a catalogue is none."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from connectors.http import Refused, UnknownOutcome
from connectors.postgres import connect, transaction
from lienthong import hub_schema
from lienthong.cli import national_catalogues
from lienthong.cli.shared import Exit
from lienthong.config_national import National as Configured
from lienthong.config_national import Portal
from lienthong.embedded import PostgresCluster
from lienthong.embedded.national.process import StandIn
from lienthong.errors import ConfigError
from lienthong.national.catalogues import Difference, compare
from lienthong.settings import Settings
from tests.merge_kit import settings as merge_settings
from tests.portal_kit import PortalStandIn

SECRET = "portal-s3cret"
FIELDS = [("G15-TP01", "Hộ tịch"), ("G15-TP02", "Chứng thực")]
PROCEDURES = [
    ("1.000656", "Đăng ký khai sinh", "G15-TP01"),
    ("1.001193", "Đăng ký khai tử", "G15-TP01"),
    ("2.000815", "Chứng thực bản sao", "G15-TP02"),
]
AGENCIES = [("H29.01", "Sở Tư pháp"), ("H29.26737", "Ủy ban nhân dân phường Tân Định")]
SERVICES = ("LayDanhSachTTHC", "LayDanhMucCoQuan", "LayDanhMucLinhVuc", "LayThuTuc")


@pytest.fixture(scope="module")
def served(stack_root: Path, pg: PostgresCluster) -> Iterator[PortalStandIn]:
    dsn = pg.create_database("portal_catalogues")
    with StandIn(stack_root / "portal_catalogues", module="portal", dsn=dsn, arguments=["--account", "city", SECRET]) as server:
        made = PortalStandIn(server, dsn, "portal")
        yield made
        made.close()
    pg.drop_database("portal_catalogues")


@pytest.fixture
def portal(served: PortalStandIn) -> PortalStandIn:
    """The portal as new, with its catalogues."""
    served.heal()
    served.forget()
    served.sql("TRUNCATE field, procedure, agency")
    for row in FIELDS:
        served.sql("INSERT INTO field (code, name) VALUES (%s, %s)", row)
    for procedure in PROCEDURES:
        served.sql("INSERT INTO procedure VALUES (%s, %s, %s)", procedure)
    for row in AGENCIES:
        served.sql("INSERT INTO agency (code, name) VALUES (%s, %s)", row)
    return served


class Hub:
    """A hub that holds what a test puts in."""

    def __init__(self, dsn: str, endpoint: str) -> None:
        hub_schema.install(dsn)
        self.settings = of(dsn, endpoint)
        self._connection = connect(dsn, application_name="test", autocommit=True)
        self._next = 0
        for code, name, field in PROCEDURES:
            self.put("procedure", procedure_code=code, name=name, field_code=field)
        for code, name in AGENCIES:
            self.put("agency", agency_code=code, name=name)

    def put(self, entity: str, *, deleted: bool = False, **values: Any) -> None:
        """One more golden record."""
        self._next += 1
        statement = "INSERT INTO hub.record (record, entity, body, deleted) VALUES (%s, %s, %s, %s)"
        with transaction(self._connection) as cursor:
            cursor.execute(statement, [self._next, entity, json.dumps(values), deleted])

    def change(self, code: str, **values: Any) -> None:
        """Other values in the record with this code."""
        statement = "UPDATE hub.record SET body = body || %s WHERE body ->> 'procedure_code' = %s OR body ->> 'agency_code' = %s"
        with transaction(self._connection) as cursor:
            cursor.execute(statement, [json.dumps(values), code, code])

    def bodies(self) -> list[tuple[Any, ...]]:
        """Everything it holds."""
        with transaction(self._connection) as cursor:
            cursor.execute("SELECT record, deleted, body FROM hub.record ORDER BY record")
            return cursor.fetchall()

    def close(self) -> None:
        self._connection.close()


def of(dsn: str, endpoint: str, **more: Any) -> Settings:
    configured = {"system": "national-portal", "endpoint": endpoint, "user": "city", "secret": SECRET, "unit": "H29", "deadline_seconds": 1.5, **more}
    return merge_settings(dsn).model_copy(update={"national": Configured(portal=Portal.model_validate(configured))})


@pytest.fixture
def hub(database: str, portal: PortalStandIn) -> Iterator[Hub]:
    made = Hub(database, portal.address.replace("localhost", "127.0.0.1"))
    yield made
    made.close()


def test_equal_catalogues_have_no_differences_and_every_request_passes_the_gate(hub: Hub, portal: PortalStandIn) -> None:
    assert compare(hub.settings) == []
    asked = [row["operation"] for row in portal.seen()]
    assert set(asked) == {"login", *SERVICES}
    assert asked.count("LayThuTuc") == len(PROCEDURES)
    connection = connect(hub.settings.hub.dsn, application_name="test")
    with transaction(connection) as cursor:
        cursor.execute("SELECT service, failures FROM hub.gate")
        assert cursor.fetchall() == [("portal national-portal", 0)]
    connection.close()


def test_what_differs_is_listed_by_code_and_nothing_is_applied(hub: Hub, portal: PortalStandIn) -> None:
    hub.change("1.000656", name="Đăng ký lại khai sinh", field_code="G15-TP09")
    hub.change("1.001193", name="ĐĂNG KÝ KHAI TỬ")
    hub.put("procedure", procedure_code="9.999999", name="Thủ tục riêng")
    hub.put("procedure", procedure_code="8.888888", name="Thủ tục đã bỏ", deleted=True)
    hub.put("agency", agency_code="H29.99", name="Phòng đã giải thể", valid_to=1)
    portal.sql("INSERT INTO agency (code, name) VALUES ('H29.02', 'Sở Y tế')")
    before = hub.bodies()
    assert compare(hub.settings) == [
        Difference("renamed", "procedure", "1.000656", "Đăng ký lại khai sinh", "Đăng ký khai sinh"),
        Difference("spelling", "procedure", "1.001193", "ĐĂNG KÝ KHAI TỬ", "Đăng ký khai tử"),
        Difference("removed", "procedure", "9.999999", "Thủ tục riêng", None),
        Difference("moved", "procedure", "1.000656", "G15-TP09", "G15-TP01"),
        Difference("added", "agency", "H29.02", None, "Sở Y tế"),
        Difference("removed", "field", "G15-TP09", None, None),
    ]
    assert hub.bodies() == before


def test_the_command_lists_differences_and_ends_with_one(
    hub: Hub, portal: PortalStandIn, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(national_catalogues, "settings_of", lambda _: hub.settings)
    assert national_catalogues.national_catalogues(as_json=True) == Exit.FINE
    assert json.loads(capsys.readouterr().out)["differences"] == []
    portal.sql("UPDATE agency SET name = 'Sở Khác' WHERE code = 'H29.01'")
    assert national_catalogues.national_catalogues(as_json=True) == Exit.FOUND_WRONG
    (found,) = json.loads(capsys.readouterr().out)["differences"]
    assert (found["kind"], found["catalogue"], found["code"], found["theirs"]) == ("renamed", "agency", "H29.01", "Sở Khác")
    assert national_catalogues.national_catalogues() == Exit.FOUND_WRONG
    assert "1 differences; nothing was changed" in capsys.readouterr().out


@pytest.mark.parametrize("operation", SERVICES)
@pytest.mark.parametrize("kind", ["truncated", "html", "cut"])
def test_half_a_catalogue_is_none(hub: Hub, portal: PortalStandIn, kind: str, operation: str) -> None:
    portal.fault(kind, operation=operation)
    with pytest.raises(UnknownOutcome):
        compare(hub.settings)


def test_an_empty_catalogue_and_one_without_names_propose_nothing(hub: Hub, portal: PortalStandIn) -> None:
    portal.sql("UPDATE procedure SET name = '' WHERE code = '1.000656'")
    with pytest.raises(Refused, match="TENTTHC"):
        compare(hub.settings)
    portal.sql("TRUNCATE procedure")
    with pytest.raises(Refused, match="empty"):
        compare(hub.settings)


def test_the_portals_refusal_is_one(hub: Hub, portal: PortalStandIn) -> None:
    portal.fault("code", operation="LayDanhMucCoQuan", code="7", message="Không có quyền")
    with pytest.raises(Refused, match=r"^7"):
        compare(hub.settings)


def test_an_interface_without_catalogues_says_so(hub: Hub, portal: PortalStandIn) -> None:
    endpoint = portal.address.replace("localhost", "127.0.0.1")
    with pytest.raises(ConfigError, match="catalogues"):
        compare(of(hub.settings.hub.dsn, endpoint, variant="ministry"))
    with pytest.raises(ConfigError, match="no national portal"):
        compare(hub.settings.model_copy(update={"national": None}))
