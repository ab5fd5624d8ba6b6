"""From an answer of the population database to unified citizen values. Pure: no I/O.

An answer is a checked message (`connectors.soap`) in one of two profiles: `practice`, met in working code, and `qcvn109`, of the standard
QCVN 109:2017/BTTTT (domain.md §4). What it does not say is not in the values: absence is no word about a field, and never becomes null.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Literal
from zoneinfo import ZoneInfo

from connectors.http import Refused
from lienthong import units
from lienthong.readers import READERS, Unreadable, to_micros
from lienthong.settings import DEFAULT_ZONE

Profile = Literal["practice", "qcvn109"]
Values = dict[str, Any]

VIETNAM = ZoneInfo(DEFAULT_ZONE)
AHEAD = timedelta(minutes=5)
"""How far the service's clock may be ahead of ours."""

RELATIVES = {"Cha": "father", "Me": "mother", "VoChong": "spouse", "NguoiDaiDien": "representative", "ChuHo": "head_of_household"}

_TEXTS = (("QuocTich", "nationality"), ("TinhTrangHonNhan", "marital_status"), ("NhomMau", "blood_type"))
_CODED = (("DanToc", "ethnicity", "MaDanToc"), ("TonGiao", "religion", "MaTonGiao"))
_PLACEHOLDERS = {"000000001", "000000000", "123456789"}  # what real adapters send when there is no number (domain.md §1.3)
_FINEST = ("MaPhuongXa", "MaQuanHuyen", "MaTinhThanh")
_LAST_DAY_WITH_DISTRICTS = units.ONE_CITY - timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Asked:
    """Whom a look-up asked for: 12 digits, or the old 9; the name; the birth date as far as known, `YYYY` or `YYYY-MM-DD`."""

    number: str
    name: str
    birth: str

    def fields(self) -> dict[str, Any]:
        """The person's part of a request, the same in both profiles: the name in upper case, the date as yyyyMMdd or the year alone."""
        kind = "SoDinhDanh" if len(self.number) == len("079190000001") else "SoCMND"
        born = {"Nam": self.birth} if len(self.birth) == len("YYYY") else {"NgayThangNam": self.birth.replace("-", "")}
        return {kind: self.number, "HoVaTen": _name_text(self.name).upper(), "NgayThangNamSinh": born}


# ------------------------------------------------------------------ the collection
def person(answer: Mapping[str, Any], asked: Asked, request_id: str, now: datetime) -> Values | None:
    """The one person asked for, or None when the service says that there is none; raises `Refused` for any other answer."""
    found = people(answer, request_id, now)
    if len(found) > 1:
        raise Refused("answer", "the answer has several people where one was asked for")
    if not found:
        return None
    if asked.number not in (found[0].get("personal_number"), found[0].get("old_identity_number")):
        raise Refused("wrong-person", "the answer is about another person than was asked for")
    return found[0]


def people(answer: Mapping[str, Any], request_id: str, now: datetime) -> list[Values]:
    """Everybody in an answer; raises `Refused` for one that belongs to another request, counts wrong, or is of the future."""
    return [_values(citizen, as_of) for citizen, as_of in _citizens(answer, request_id, now)]


def family(answer: Mapping[str, Any], asked: Asked, request_id: str, now: datetime) -> dict[str, dict[str, str]] | None:
    """The relatives of the person asked for, by role; None when there is no such person. Nothing of them is kept."""
    if person(answer, asked, request_id, now) is None:
        return None
    citizen = answer["CongDan"][0]
    return {role: _relative(citizen[element]) for element, role in RELATIVES.items() if citizen.get(element)}


def _relative(element: Mapping[str, Any]) -> dict[str, str]:
    said = {"relation": element.get("QuanHe"), "number": element.get("SoDinhDanh"), "old_number": element.get("SoCMND")}
    name = _name(element["HoVaTen"]) if element.get("HoVaTen") else None
    return {key: value for key, value in {**said, "name": name, "nationality": element.get("QuocTich")}.items() if value}


def _citizens(answer: Mapping[str, Any], request_id: str, now: datetime) -> Iterator[tuple[Mapping[str, Any], datetime | None]]:
    citizens: Sequence[Mapping[str, Any]] = answer.get("CongDan") or ()
    if answer.get("id") not in (None, "", request_id):
        raise Refused("wrong-request", "the answer belongs to another request")
    count = answer.get("SoCongDan")
    if count is None and not citizens:
        raise Refused("answer", "an answer without people that does not say that there are none")
    if count is not None and int(count) != len(citizens):
        raise Refused("answer", "the answer does not hold as many people as it says")
    as_of = _moment(answer.get("ThoiDiemDuLieu"))
    if as_of is not None and as_of > now + AHEAD:
        raise Refused("clock", "the answer is dated in the future; compare the clocks")
    return ((citizen, as_of) for citizen in citizens)


def _moment(at: datetime | None) -> datetime | None:
    return at.replace(tzinfo=VIETNAM) if at is not None and at.tzinfo is None else at


# ------------------------------------------------------------------ one citizen
def _values(citizen: Mapping[str, Any], as_of: datetime | None) -> Values:
    try:
        values = {
            "personal_number": citizen["SoDinhDanh"],
            "full_name": _name(citizen["HoVaTen"]),
            "sex": int(citizen["GioiTinh"]),
            "birth_date": _birth(citizen["NgayThangNamSinh"]),
            **_optional(citizen),
        }
    except Unreadable as problem:
        raise Refused("answer", f"the answer holds a value that cannot be: {problem.reason}") from None
    if as_of is not None:
        values["identity_as_of"] = to_micros(as_of)
    on = day_in_vietnam(as_of)
    if place := _place(citizen.get("NoiDangKyKhaiSinh")):
        values["birth_place"] = _place_text(place, on)
    if place := _place(citizen.get("ThuongTru")):
        values |= _residence(place, on)
        if as_of is not None:
            values["residence_as_of"] = to_micros(as_of)
    return values


def _optional(citizen: Mapping[str, Any]) -> Values:
    """Fields that an answer need not have; an empty one says as little as a missing one."""
    found: Values = {field: citizen.get(element) for element, field in _TEXTS}
    for element, field, inside in _CODED:
        said = citizen.get(element)
        found[field] = said.get(inside) if isinstance(said, Mapping) else said
    found["old_identity_number"] = None if citizen.get("SoCMND") in _PLACEHOLDERS else citizen.get("SoCMND")
    return {field: value for field, value in found.items() if value}


def _name(parts: Mapping[str, str | None]) -> str:
    """The whole name: in practice it sits in `Ten`, and the other parts are empty."""
    return _name_text(" ".join(part for part in (parts.get("Ho"), parts.get("ChuDem"), parts["Ten"]) if part))


def _name_text(text: str) -> str:
    return str(READERS["vietnamese_name"].read(text, VIETNAM))


def _birth(born: Mapping[str, Any]) -> str:
    """The date, or the year alone: as much as is known."""
    said = born.get("NgayThangNam") or born.get("Nam")
    found = READERS["partial_date"].read(said.isoformat() if isinstance(said, date) else str(said), VIETNAM)
    if found is None:
        raise Unreadable("impossible_date", "a birth date that is none")
    return str(found)


# ------------------------------------------------------------------ addresses
def day_in_vietnam(as_of: datetime | None) -> date:
    """The day codes of an answer are read at; of an answer that does not say, today."""
    return (as_of or datetime.now(VIETNAM)).astimezone(VIETNAM).date()


def _place(element: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """A place that says something."""
    return element if element and any(value for name, value in element.items() if name != "QuocGia") else None


def _code(place: Mapping[str, Any], on: date) -> tuple[str | None, date]:
    """The finest code of a place and the day it is read at: a district says that the address was written before 2025-07-01."""
    code = place.get("MaDonViHanhChinh") or next((place[name] for name in _FINEST if place.get(name)), None)
    return code, min(on, _LAST_DAY_WITH_DISTRICTS) if place.get("MaQuanHuyen") else on


def _residence(place: Mapping[str, Any], on: date) -> Values:
    """Text and code as they came, and today's unit where the register knows it: a place outside the city has none."""
    code, day = _code(place, on)
    values: Values = {} if not place.get("ChiTiet") else {"residence_address": place["ChiTiet"]}
    if code is None:
        return values
    values |= {"residence_unit_code": code, "residence_unit": None, "residence_unit_rule": None}
    try:
        resolved = units.resolve(code, day)
    except (units.UnknownUnit, units.UnitNotValidThen):
        return values
    return values | {"residence_unit": resolved.unit, "residence_unit_rule": resolved.rule}


def _place_text(place: Mapping[str, Any], on: date) -> str:
    """A place as text: what was written, else the name of its unit then, else its code."""
    code, day = _code(place, on)
    if place.get("ChiTiet") or code is None:
        return str(place.get("ChiTiet") or "")
    unit = units.register().eras[units.era_of(day)].get(code)
    return unit.full_name if unit is not None else code
