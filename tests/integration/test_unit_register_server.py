"""The stand-in of the unit register: its own description, read by a stock client, as of any day."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import zeep.exceptions

from tests import stock_kit
from tests.national_kit import National, unit_register


@pytest.fixture
def register(database: str, tmp_path: Path) -> Iterator[National]:
    with unit_register(tmp_path / "register", database) as server:
        yield server
    stock_kit.close()


def units(register: National, operation: str, **asked: str) -> list[dict[str, str]]:
    """The rows of an answer, read as its users read them."""
    answer = stock_kit.stock(f"{register.register_url}?wsdl")[operation](**asked)
    diffgram = answer._value_2
    return [{child.tag: child.text for child in row} for row in diffgram.iter("TABLE")]


def test_units_as_of_a_day(register: National) -> None:
    old = units(register, "DanhMucPhuongXa", DenNgay="01/12/2024")
    new = units(register, "DanhMucPhuongXa", DenNgay="01/07/2025")
    assert (len(old), len(new)) == (485, 168)
    (before,) = [row for row in old if row["MaPhuongXa"] == "27232"]
    (after,) = [row for row in new if row["MaPhuongXa"] == "27232"]
    assert (before["TenPhuongXa"], before["MaQuanHuyen"], before["TenQuanHuyen"]) == ("Phường 9", "772", "Quận 11")
    assert (after["TenPhuongXa"], after["MaTinh"], "MaQuanHuyen" in after, after["LoaiHinh"]) == ("Phường Bình Thới", "79", False, "Phường")
    assert len(units(register, "DanhMucPhuongXa", DenNgay="01/12/2024", Tinh="79", QuanHuyen="760")) == 10
    assert [row["MaTinh"] for row in units(register, "DanhMucTinh", DenNgay="30/06/2025")] == ["74", "77", "79"]
    assert [row["TenTinh"] for row in units(register, "DanhMucTinh", DenNgay="01/07/2025")] == ["Thành phố Hồ Chí Minh"]
    assert units(register, "DanhMucQuanHuyen", DenNgay="01/07/2025") == []


def test_a_day_that_is_none_is_refused(register: National) -> None:
    with pytest.raises(zeep.exceptions.Fault, match="DenNgay"):
        units(register, "DanhMucTinh", DenNgay="31/02/2025")
