"""What the national portal is told of a dossier and its steps: unified values as message fields. Pure; domain rules of its messages.

A field that nobody told us is left out: no placeholder, no invented id, no value of another field in its place. What does not fit a
field is refused with the field's name, never cut; a status is sent as it is. Links travel, but do not count in digests: systems put a
time stamp in them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from types import MappingProxyType
from typing import Any
from zoneinfo import ZoneInfo

import orjson

from lienthong.errors import RecordError
from lienthong.readers import from_micros

ZONE = ZoneInfo("Asia/Ho_Chi_Minh")
STATUSES = range(1, 11)
LENGTH_MAX = MappingProxyType({"TrichYeuHoSo": 1000, "NguoiXuLy": 50})
LINKS = frozenset({"DuongDanTaiTepTin", "DuongDanTepTinKetQua"})
NO_NUMBER = frozenset({"000000001"})
"""Sent by an adapter in the field where the number is missing."""

Fields = dict[str, Any]
"""The fields of a message as they stand in its JSON."""
Values = Mapping[str, Any]
"""Unified values of one record."""


class Unsendable(RecordError):
    """The portal has no place for this; the source corrects the field, and the next state is sent."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__("unsendable", field, f"{field}: {message}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """How one version of the portal's messages writes values."""

    instant: Callable[[int], str]
    applicant_kinds: Mapping[int, str]
    code_is_issued: bool  # by the portal, before a dossier is created
    takes_files: bool  # papers are put there; otherwise they travel as links


def compact(micros: int) -> str:
    """`20260305100000`: fourteen digits in Asia/Ho_Chi_Minh, without a mark of the zone."""
    return from_micros(micros).astimezone(ZONE).strftime("%Y%m%d%H%M%S").zfill(14)


def iso(micros: int) -> str:
    """`2026-03-05T10:00:00+07:00`: ISO 8601 to the second, with the zone."""
    return from_micros(micros).astimezone(ZONE).isoformat(timespec="seconds")


LGSP = Form(instant=compact, applicant_kinds=MappingProxyType({1: "1", 2: "2", 3: "3", 4: "4"}), code_is_issued=False, takes_files=False)
MINISTRY = Form(instant=iso, applicant_kinds=MappingProxyType({1: "0", 2: "1"}), code_is_issued=True, takes_files=True)
"""The list of 2026 knows citizens, enterprises and household businesses; agencies and other organisations have no place in it."""

_TEXTS = MappingProxyType(
    {
        "local_code": "SoBienNhan", "procedure_name": "TenTTHC", "receiving_agency_code": "NoiNopHoSo", "applicant_name": "ChuHoSo",
        "applicant_email": "Email", "applicant_phone": "SoDienThoai", "summary": "TrichYeuHoSo", "note": "GhiChu",
    }
)  # fmt: skip
_INSTANTS = MappingProxyType(
    {
        "submitted_at": "NgayNopHoSo", "received_at": "NgayTiepNhan", "due_at": "NgayHenTra", "returned_at": "NgayTra",
        "finished_at": "NgayKetThucXuLy",
    }
)  # fmt: skip
_REJECTED = 3
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")
NATIONAL_FORM = re.compile(r"(\d{3}\.\d{2}\.\d{2}\.)?[A-Z]\d{2}(\.\d{2,5})*-(\d{6}|\d{8})-\d{4,7}")


def form_of(variant: str, applicant_kinds: Mapping[int, str] | None = None) -> Form:
    """The form of a configured variant, with a list of applicants' kinds of its own where the agreement has one."""
    form = {"lgsp": LGSP, "ministry": MINISTRY}[variant]
    if applicant_kinds is None:
        return form
    return replace(form, applicant_kinds=applicant_kinds)


# ------------------------------------------------------------------ messages
def dossier_fields(form: Form, dossier: Values, fees: Sequence[Values] = (), papers: Sequence[Values] = (), field: str | None = None) -> Fields:
    """The fields of `DongBoHoSoMC`; raises `Unsendable`. Where the portal issues the codes, `MaHoSo` is added when it has.

    `field` is the code of the field of the dossier's procedure, where that is known.
    """
    fields: Fields = {}
    if not form.code_is_issued:
        code = _text("MaHoSo", dossier_code(dossier))
        fields["MaHoSo"] = _required("MaHoSo", code, "the dossier has no code in the form the portal knows, and none is invented")
    fields["MaTTHC"] = _required("MaTTHC", _text("MaTTHC", dossier.get("procedure_code")), "nobody told the procedure")
    _put(fields, "MaLinhVuc", _text("MaLinhVuc", field))
    agency = _text("DonViXuLy", dossier.get("processing_agency_code"))
    fields["DonViXuLy"] = _required("DonViXuLy", agency, "nobody told which agency processes the dossier")
    fields["LoaiDoiTuong"] = _applicant_kind(form, dossier.get("applicant_kind"))
    fields["TrangThaiHoSo"] = _status("TrangThaiHoSo", dossier.get("status"))
    for name, theirs in _TEXTS.items():
        _put(fields, theirs, _text(theirs, dossier.get(name)))
    for name, theirs in _INSTANTS.items():
        _put(fields, theirs, _instant(form, dossier.get(name)))
    if dossier.get("status") == _REJECTED:
        _put(fields, "NgayTuChoi", _instant(form, dossier.get("status_at")))
    _put(fields, "KenhThucHien", _number(dossier.get("channel")))
    _put(fields, "DinhDanhCHS", _identity(dossier.get("applicant_personal_number")))
    _put(fields, "DanhSachLePhi", [_fee(fee) for fee in fees])
    _put(fields, "TaiLieuNop", [_file(form, paper) for paper in papers if not _is_other(paper)])
    _put(fields, "DanhSachTepDinhKemKhac", [_other(paper) for paper in papers if _is_other(paper)])
    _put(fields, "DanhSachGiayToKetQua", _results(dossier))
    return fields


def dossier_code(dossier: Values) -> str | None:
    """What the portal knows a dossier by: its national code, else its own where it has the national form.

    That form is the unit's id, the day and a number (circular 01/2018/TT-VPCP art. 19; decision 20/2020/QĐ-TTg; domain.md §1.1).
    """
    local = dossier.get("local_code")
    return dossier.get("national_code") or (local if local and NATIONAL_FORM.fullmatch(local) else None)


def progress_fields(form: Form, event: Values) -> Fields:
    """The fields of `CapNhatTienDoHoSoMC` without `MaHoSo`, which is the dossier's; raises `Unsendable`."""
    moment = _instant(form, event.get("occurred_at"))
    fields: Fields = {
        "ThoiDiemXuLy": _required("ThoiDiemXuLy", moment, "nobody told when the step was taken"),
        "TrangThai": _status("TrangThai", event.get("status")),
    }
    _put(fields, "NguoiXuLy", _text("NguoiXuLy", event.get("handler_name")))
    _put(fields, "PhongBanXuLy", _text("PhongBanXuLy", event.get("agency_code")))
    _put(fields, "NoiDungXuLy", _text("NoiDungXuLy", event.get("note")))
    return fields


# ------------------------------------------------------------------ comparing
def digest(fields: Fields) -> bytes:
    """Equal for messages that say the same: links do not count."""
    return blake2b(orjson.dumps(_without_links(fields), option=orjson.OPT_SORT_KEYS), digest_size=16).digest()


def step_key(fields: Values) -> tuple[str, str, str]:
    """The only natural key a step has within its dossier: time, status, unit."""
    return str(fields.get("ThoiDiemXuLy")), str(fields.get("TrangThai")), str(fields.get("PhongBanXuLy") or "")


def step_digest(fields: Values) -> bytes:
    """The same as bytes of one length."""
    return blake2b(orjson.dumps(step_key(fields)), digest_size=16).digest()


def exact_digest(event: Values) -> bytes:
    """A step as we tell it apart from others: the portal's times end at the second, and 4, 5, 4 may have less."""
    return blake2b(orjson.dumps([event.get(name) for name in ("occurred_at", "status", "agency_code")]), digest_size=16).digest()


def says(read: Values, sent: Fields) -> bool:
    """Whether a dossier read back says all that was sent, links aside."""
    return all(_without_links(read.get(name)) == _without_links(value) for name, value in sent.items() if name not in LINKS)


def _without_links(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_links(inside) for name, inside in value.items() if name not in LINKS}
    return [_without_links(inside) for inside in value] if isinstance(value, list) else value


# ------------------------------------------------------------------ single fields
def _put(fields: Fields, name: str, value: Any) -> None:
    """A field nobody told us is left out."""
    if value not in (None, "", []):
        fields[name] = value


def _required(name: str, value: str | None, why: str) -> str:
    if value is None:
        raise Unsendable(name, why)
    return value


def _text(name: str, value: Any) -> str | None:
    """A text that fits its field; one that is too long is refused, because cutting it changes what it says."""
    if value is None or value == "":
        return None
    longest = LENGTH_MAX.get(name)
    if longest is not None and len(value) > longest:
        raise Unsendable(name, f"{len(value)} characters, where the portal takes {longest}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Unsendable(name, "holds what is no text") from None
    return str(value)


def _number(value: int | None) -> str | None:
    return None if value is None else str(value)


def _instant(form: Form, micros: int | None) -> str | None:
    return None if micros is None else form.instant(micros)


def _status(name: str, value: int | None) -> str:
    """The status as it is: neither made better nor, when it is none of the ten, left empty."""
    if value is None or value not in STATUSES:
        raise Unsendable(name, "nobody told the status" if value is None else f"{value} is none of the portal's statuses 1 to 10")
    return str(value)


def _applicant_kind(form: Form, kind: int | None) -> str:
    if kind is None:
        raise Unsendable("LoaiDoiTuong", "nobody told the kind of applicant")
    if kind not in form.applicant_kinds:
        raise Unsendable("LoaiDoiTuong", f"the portal's list has no kind of applicant for our {kind}")
    return form.applicant_kinds[kind]


def _identity(number: str | None) -> list[Fields] | None:
    """`LoaiDinhDanh` 1 is the personal number, 2 the identity number of nine digits; what stands for a missing number is none."""
    if number is None or number in NO_NUMBER or not number.strip("0"):
        return None
    kind = {12: "1", 9: "2"}.get(len(number)) if number.isascii() and number.isdigit() else None
    if kind is None:
        raise Unsendable("DinhDanhCHS", "neither a personal number of 12 digits nor an identity number of 9")
    return [{"LoaiDinhDanh": kind, "SoDinhDanh": number}]


def _fee(fee: Values) -> Fields:
    fields: Fields = {}
    for name, theirs in (("name", "TenPhiLePhi"), ("fee_code", "MaPhiLePhi"), ("method", "HinhThucThu")):
        _put(fields, theirs, _text(theirs, fee.get(name)))
    _put(fields, "Gia", _number(fee.get("amount")))
    return fields


def _file(form: Form, paper: Values) -> Fields:
    fields: Fields = {"IsDeleted": "False"}
    for name, theirs in (("component_code", "MaThanhPhanHoSo"), ("name", "TenTepDinhKem"), ("file_link", "DuongDanTaiTepTin")):
        _put(fields, theirs, _text(theirs, paper.get(name)))
    for name, theirs in (("digitised", "DuocSoHoa"), ("reused", "DuocTaiSuDung")):
        _put(fields, theirs, None if paper.get(name) is None else str(int(paper[name])))
    if form.takes_files and paper.get("file_link") and _SHA256.fullmatch(paper.get("file_hash") or ""):
        fields["HashTepTin"] = paper["file_hash"].lower()
    return fields


def _is_other(paper: Values) -> bool:
    """Whether it was handed in on paper only."""
    return bool(paper.get("name")) and not paper.get("file_link")


def _other(paper: Values) -> Fields:
    fields: Fields = {"TenGiayTo": _text("TenGiayTo", paper.get("name"))}
    _put(fields, "SoLuong", _number(paper.get("quantity")))
    return fields


def _results(dossier: Values) -> list[Fields]:
    """The result that the dossier has; when it has none, none is made from the papers that were handed in."""
    fields: Fields = {}
    for name, theirs in (("result_code", "MaGiayToKetQua"), ("result_link", "DuongDanTepTinKetQua")):
        _put(fields, theirs, _text(theirs, dossier.get(name)))
    return [fields] if fields else []
