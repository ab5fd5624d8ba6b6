"""A person of the stand-in's table as the element CongDan, in the profile met in practice and in that of QCVN 109:2017/BTTTT."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from lxml import etree

from lienthong.embedded.national.envelope import Element

ANSWER = "http://www.mic.gov.vn/dancu/1.0"
VIETNAM = ZoneInfo("Asia/Ho_Chi_Minh")

Row = Mapping[str, Any]
"""A row of the table `person`, as JSON."""


@dataclass(frozen=True, slots=True)
class Profile:
    """What differs between the two messages of the same name."""

    date: Callable[[str], str]
    time: Callable[[datetime], str]
    place: Callable[[Row], Sequence[tuple[str, str | None]]]
    ethnicity: str | None
    religion: str | None


def _practice_place(place: Row) -> Sequence[tuple[str, str | None]]:
    codes = [("MaTinhThanh", place.get("province")), ("MaQuanHuyen", place.get("district")), ("MaPhuongXa", place.get("ward"))]
    return [*codes, ("ChiTiet", place.get("detail")), ("QuocGia", place.get("country", "VN"))]


def _standard_place(place: Row) -> Sequence[tuple[str, str | None]]:
    code = place.get("ward") or place.get("district") or place.get("province")
    return [("MaDonViHanhChinh", code), ("ChiTiet", place.get("detail")), ("QuocGia", place.get("country", "VN"))]


PRACTICE = Profile(
    date=lambda date: date.replace("-", ""),
    time=lambda at: at.astimezone(VIETNAM).isoformat(timespec="milliseconds"),
    place=_practice_place,
    ethnicity=None,
    religion=None,
)
STANDARD = Profile(
    date=lambda date: date,
    time=lambda at: at.astimezone(VIETNAM).replace(tzinfo=None).isoformat(timespec="seconds"),
    place=_standard_place,
    ethnicity="MaDanToc",
    religion="MaTonGiao",
)

_PLACES = (("NoiDangKyKhaiSinh", "birth_place"), ("QueQuan", "home_place"), ("ThuongTru", "residence"), ("NoiOHienTai", "current_place"))
_RELATIVES = (("Cha", "father"), ("Me", "mother"), ("VoChong", "spouse"), ("NguoiDaiDien", "representative"))


def collection(people: Sequence[Element], *, request_id: str | None, at: str) -> Element:
    """The answer around people: how many, when the data was true, which request."""
    made = etree.Element(f"{{{ANSWER}}}CongdanCollection", nsmap={"ns1": ANSWER})
    for name, value in (("SoCongDan", str(len(people))), ("GhiChu", ""), ("ThoiDiemDuLieu", at), ("id", request_id)):
        if value is not None:
            made.set(name, value)
    made.extend(people)
    return made


def citizen(row: Row, profile: Profile) -> Element:
    """Everything the table knows of a person."""
    made = _identity(row)
    _coded(made, "DanToc", row["ethnicity"], profile.ethnicity)
    _coded(made, "TonGiao", row["religion"], profile.religion)
    for name, value in (("TinhTrangHonNhan", row["marital_status"]), ("NhomMau", row["blood_type"]), ("QuocTich", row["nationality"])):
        _put(made, name, value)
    _born(made, row["birth_date"], profile)
    for name, column in _PLACES:
        if row[column]:
            _fill(_sub(made, name), profile.place(row[column]))
    _family(made, row)
    _put(made, "SoSoHoKhau", row["household"])
    return made


def family(row: Row, profile: Profile) -> Element:
    """Who the person is, and the family; nothing else."""
    made = _identity(row)
    _born(made, row["birth_date"], profile)
    _family(made, row)
    return made


def _identity(row: Row) -> Element:
    made = etree.Element(f"{{{ANSWER}}}CongDan", nsmap={"ns1": ANSWER})
    _put(made, "SoDinhDanh", row["personal_number"])
    etree.SubElement(made, f"{{{ANSWER}}}SoCMND").text = row["old_identity_number"]  # empty when there is none, as met in practice
    _name(made, row["full_name"])
    _put(made, "GioiTinh", str(row["sex"]))
    return made


def _family(made: Element, row: Row) -> None:
    for name, column in _RELATIVES:
        if relative := row[column]:
            _relative(_sub(made, name), relative)
    if head := row["head"]:
        element = _sub(made, "ChuHo")
        _put(element, "QuanHe", head.get("relation"))
        _fill(element, [("SoDinhDanh", head.get("number")), ("SoCMND", head.get("old_number"))])
        if head.get("name"):
            _name(element, head["name"])


def _relative(element: Element, relative: Row) -> None:
    _fill(element, [("SoDinhDanh", relative.get("number")), ("SoCMND", relative.get("old_number")), ("QuocTich", relative.get("nationality"))])
    if relative.get("name"):
        _name(element, relative["name"])


def _name(parent: Element, name: str) -> None:
    """The whole name in Ten, the other parts empty: that is how it comes in practice."""
    _fill_all(_sub(parent, "HoVaTen"), [("Ho", None), ("ChuDem", None), ("Ten", name)])


def _born(parent: Element, date: str, profile: Profile) -> None:
    element = _sub(parent, "NgayThangNamSinh")
    _put(element, "Nam" if len(date) == len("YYYY") else "NgayThangNam", date if len(date) == len("YYYY") else profile.date(date))


def _coded(parent: Element, name: str, code: str | None, inside: str | None) -> None:
    if code is not None and inside is not None:
        _put(_sub(parent, name), inside, code)
    else:
        _put(parent, name, code)


def _sub(parent: Element, name: str) -> Element:
    return etree.SubElement(parent, f"{{{ANSWER}}}{name}")


def _put(parent: Element, name: str, value: str | None) -> None:
    if value is not None:
        _sub(parent, name).text = value


def _fill(parent: Element, values: Sequence[tuple[str, str | None]]) -> None:
    for name, value in values:
        _put(parent, name, value)


def _fill_all(parent: Element, values: Sequence[tuple[str, str | None]]) -> None:
    for name, value in values:
        _sub(parent, name).text = value
