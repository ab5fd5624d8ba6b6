"""The stand-in of the register of administrative units: `python -m lienthong.embedded.national.unit_register --dsn …`."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import partial
from importlib.resources import files
from typing import Any

from lxml import etree

from connectors.postgres import Cursor, one, rows
from lienthong.embedded.national.contract import Contract
from lienthong.embedded.national.envelope import Element, SoapFault, text
from lienthong.embedded.national.process import options, serve
from lienthong.embedded.national.service import Endpoint
from lienthong.embedded.national.store import Store

SCHEMA = "unit_register"
PATH = "/DMDVHC.asmx"
_NAMESPACE = "http://tempuri.org/"
_XSD = "http://www.w3.org/2001/XMLSchema"
_DIFFGRAM = "urn:schemas-microsoft-com:xml-diffgram-v1"
_MSDATA = "urn:schemas-microsoft-com:xml-msdata"
_COLUMNS = {
    "province": ("MaTinh", "TenTinh", "LoaiHinh"),
    "district": ("MaTinh", "TenTinh", "MaQuanHuyen", "TenQuanHuyen", "LoaiHinh"),
    "ward": ("MaTinh", "TenTinh", "MaQuanHuyen", "TenQuanHuyen", "MaPhuongXa", "TenPhuongXa", "LoaiHinh"),
}
_LEVELS = {"DanhMucTinh": "province", "DanhMucQuanHuyen": "district", "DanhMucPhuongXa": "ward"}
_KINDS = {
    "thanh_pho": "Thành phố", "tinh": "Tỉnh", "quan": "Quận", "huyen": "Huyện", "thi_xa": "Thị xã", "phuong": "Phường", "xa": "Xã",
    "thi_tran": "Thị trấn", "dac_khu": "Đặc khu",
}  # fmt: skip
_QUERY = """
SELECT u.level, u.code, u.name, u.kind, p.code AS province, p.name AS province_name, d.code AS district, d.name AS district_name
FROM unit AS u
LEFT JOIN unit AS p ON p.level = 'province' AND p.code = u.province AND p.valid_from <= %(on)s AND (p.valid_to > %(on)s OR p.valid_to IS NULL)
LEFT JOIN unit AS d ON d.level = 'district' AND d.code = u.district AND d.valid_from <= %(on)s AND (d.valid_to > %(on)s OR d.valid_to IS NULL)
WHERE u.level = %(level)s AND u.valid_from <= %(on)s AND (u.valid_to > %(on)s OR u.valid_to IS NULL)
  AND (%(province)s IS NULL OR u.province = %(province)s) AND (%(district)s IS NULL OR u.district = %(district)s)
ORDER BY u.province, u.district, u.code
"""


def listed(request: Element, cursor: Cursor, _now: datetime, *, operation: str) -> Element:
    """The units of one level as of a day, of one province or district when the request names it."""
    level = _LEVELS[operation]
    try:
        on = datetime.strptime(text(request, "DenNgay") or "", "%d/%m/%Y").date()  # noqa: DTZ007 - a day, not a moment
    except ValueError:
        raise SoapFault("Client", "DenNgay is not a day") from None
    asked = {"on": on, "level": level, "province": text(request, "Tinh"), "district": text(request, "QuanHuyen")}
    return _answer(operation, _COLUMNS[level], [_row(found) for found in rows(cursor, _QUERY, asked)])


def _row(found: tuple[Any, ...]) -> dict[str, str | None]:
    level, code, name, kind, province, province_name, district, district_name = found
    if level == "province":
        return {"MaTinh": code, "TenTinh": name, "LoaiHinh": kind}
    parents = {"MaTinh": province, "TenTinh": province_name, "LoaiHinh": kind}
    if level == "district":
        return parents | {"MaQuanHuyen": code, "TenQuanHuyen": name}
    return parents | {"MaQuanHuyen": district, "TenQuanHuyen": district_name, "MaPhuongXa": code, "TenPhuongXa": name}


def _answer(operation: str, columns: Sequence[str], found: Sequence[dict[str, str | None]]) -> Element:
    """A .NET DataSet: its schema, then a diffgram with one TABLE a row; what is null has no element."""
    answer = etree.Element(f"{{{_NAMESPACE}}}{operation}Response", nsmap={"tns": _NAMESPACE})  # a default namespace would swallow the rows
    result = etree.SubElement(answer, f"{{{_NAMESPACE}}}{operation}Result")
    result.append(_schema(columns))
    diffgram = etree.SubElement(result, f"{{{_DIFFGRAM}}}diffgram", nsmap={"diffgr": _DIFFGRAM, "msdata": _MSDATA})
    table = etree.SubElement(diffgram, "NewDataSet")
    for index, row in enumerate(found):
        element = etree.SubElement(table, "TABLE")
        element.set(f"{{{_DIFFGRAM}}}id", f"TABLE{index + 1}")
        element.set(f"{{{_MSDATA}}}rowOrder", str(index))
        for column in columns:
            if row.get(column) is not None:
                etree.SubElement(element, column).text = row[column]
    return answer


def _schema(columns: Sequence[str]) -> Element:
    schema = etree.Element(f"{{{_XSD}}}schema", nsmap={"xs": _XSD, "msdata": _MSDATA}, id="NewDataSet")
    outer = etree.SubElement(schema, f"{{{_XSD}}}element", {"name": "NewDataSet", f"{{{_MSDATA}}}IsDataSet": "true"})
    choice = etree.SubElement(etree.SubElement(outer, f"{{{_XSD}}}complexType"), f"{{{_XSD}}}choice", minOccurs="0", maxOccurs="unbounded")
    table = etree.SubElement(choice, f"{{{_XSD}}}element", name="TABLE")
    sequence = etree.SubElement(etree.SubElement(table, f"{{{_XSD}}}complexType"), f"{{{_XSD}}}sequence")
    for column in columns:
        etree.SubElement(sequence, f"{{{_XSD}}}element", name=column, type="xs:string", minOccurs="0")
    return schema


# ------------------------------------------------------------------ the register as it was published
def fill(store: Store) -> None:
    """Put the published registers of `lienthong/data` in, once: each snapshot holds until the next, today's from the day it came into force."""
    with store.transaction() as cursor:
        cursor.execute("LOCK TABLE unit IN EXCLUSIVE MODE")
        if one(cursor, "SELECT 1 FROM unit LIMIT 1") is None:
            statement = "INSERT INTO unit VALUES (%s, %s, %s, %s, %s, %s, %s, %s)"
            cursor.executemany(statement, list(_published()))


def _published() -> Iterator[tuple[str | None, ...]]:
    before = _read("admin_units_before_2025.csv")
    now = _read("admin_units_2025.csv")
    changed = min(row["valid_from"] for row in now)
    snapshots = [*sorted({row["snapshot"] for row in before}), changed]
    provinces = {row["province_code"] for row in now}
    for row in before:
        until: str | None = snapshots[snapshots.index(row["snapshot"]) + 1]
        if row["level"] == "province" and row["code"] in provinces and until == changed:
            until = None  # today's file lists wards only; their province is one that went on
        yield _unit(row, row["province_code"], row["district_code"] or None, row["snapshot"], until)
    for row in now:
        yield _unit(row, row["province_code"], None, row["valid_from"], None)


def _unit(row: dict[str, str], province: str, district: str | None, first: str, until: str | None) -> tuple[str | None, ...]:
    level = row["level"]
    kind = _KINDS.get(row["unit_type"], row["unit_type"])
    parents = (province, None) if level == "province" else (province, district)
    return (level, row["code"], row["full_name"], kind, *parents, first, until)


def _read(name: str) -> list[dict[str, str]]:
    with (files("lienthong") / "data" / name).open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve the register until the process is ended."""
    asked = options("unit_register", arguments)
    store = Store(asked.dsn, asked.schema or SCHEMA, "unit.sql")
    fill(store)
    operations = {operation: partial(listed, operation=operation) for operation in _LEVELS}
    serve(asked, store, {PATH: Endpoint(Contract("unit_register"), operations)})


if __name__ == "__main__":
    main()
