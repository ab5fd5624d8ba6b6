"""What the stand-in of the national portal does with a request, both variants: rules, state, answers. The wire is `portal`."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from connectors.postgres import Cursor, one, rows

Document = dict[str, Any]

REQUIRED = {
    "dossier": ("MaHoSo", "MaTTHC", "DonViXuLy", "LoaiDoiTuong", "TrangThaiHoSo"),
    "progress": ("MaHoSo", "ThoiDiemXuLy", "TrangThai"),
}
LENGTH_MAX = {"TrichYeuHoSo": 1000, "NguoiXuLy": 50}
STATUSES = {str(number) for number in range(1, 11)}
_COMPACT = re.compile(r"\d{14}")
_ISO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d")
CATALOGUES = {
    "LayDanhSachTTHC": """SELECT jsonb_build_object('MATTHC', code, 'TENTTHC', name) FROM procedure ORDER BY code""",
    "LayThuTuc": """SELECT jsonb_build_object('MATTHC', p.code, 'TENTTHC', p.name,
                      'LINHVUCTHUCHIEN', jsonb_build_array(jsonb_build_object('MALINHVUC', f.code, 'TENLINHVUC', f.name)))
                    FROM procedure p JOIN field f ON f.code = p.field WHERE p.code = %(code)s""",
    "LayDanhMucCoQuan": """SELECT jsonb_build_object('MADONVI', code, 'TENDONVI', name, 'CAPDONVI', level) FROM agency ORDER BY code""",
    "LayDanhMucLinhVuc": """SELECT jsonb_build_object('MALINHVUC', code, 'TENLINHVUC', name, 'MANGANH', branch) FROM field ORDER BY code""",
}
"""Services that list what the portal knows: a statement each."""
KINDS = {"lgsp": {"1", "2", "3", "4"}, "ministry": {"0", "1", "2"}}


class Wrong(Exception):
    """The portal refuses the request: its own code, the HTTP status of the variant that has one, and words."""

    def __init__(self, code: str, status: int, message: str) -> None:
        super().__init__(message)
        self.code, self.status, self.message = code, status, message


# ------------------------------------------------------------------ sessions
def open_session(cursor: Cursor, account: str, secret: str, seconds: float) -> str:
    """Log in; the new token. Raises `Wrong` for an unknown account."""
    found = one(cursor, "SELECT secret FROM account WHERE name = %s", (account,))
    if found is None or found[0] != secret:
        raise Wrong("1", 401, "Sai tài khoản hoặc mật khẩu")
    token = secrets.token_hex(16)
    cursor.execute("INSERT INTO session VALUES (%s, %s, clock_timestamp() + %s * interval '1 s')", (token, account, seconds))
    return token


def check_session(cursor: Cursor, token: str | None) -> None:
    """Raises `Wrong` for a session that is over or was never given."""
    if one(cursor, "SELECT 1 FROM session WHERE token = %s AND ends_at > clock_timestamp()", (token,)) is None:
        raise Wrong("-1", 401, "Phiên làm việc không hợp lệ hoặc đã hết hạn")


def end_sessions(cursor: Cursor) -> None:
    """Nobody is logged in any more."""
    cursor.execute("DELETE FROM session")


# ------------------------------------------------------------------ effects
def create(cursor: Cursor, fields: Document, variant: str) -> None:
    """A new dossier; raises `Wrong` when it is there already."""
    _check_dossier(cursor, fields, variant)
    cursor.execute("INSERT INTO dossier (code, fields) VALUES (%s, %s) ON CONFLICT DO NOTHING", (fields["MaHoSo"], json.dumps(fields)))
    if not cursor.rowcount:
        raise Wrong("3", 409, f"Hồ sơ {fields['MaHoSo']} đã tồn tại")
    _remember(cursor, fields)


def update(cursor: Cursor, fields: Document, variant: str) -> None:
    """A new state of a dossier; raises `Wrong` when there is none."""
    _check_dossier(cursor, fields, variant)
    cursor.execute("UPDATE dossier SET fields = %s, updates = updates + 1 WHERE code = %s", (json.dumps(fields), fields["MaHoSo"]))
    if not cursor.rowcount:
        raise Wrong("4", 404, f"Hồ sơ {fields['MaHoSo']} không tồn tại")
    _remember(cursor, fields)


def progress(cursor: Cursor, fields: Document, variant: str) -> None:
    """A step of a dossier; a second one like it is another row."""
    _check(fields, REQUIRED["progress"])
    _check_status(fields["TrangThai"])
    _check_time("ThoiDiemXuLy", fields["ThoiDiemXuLy"], variant)
    if one(cursor, "SELECT 1 FROM dossier WHERE code = %s", (fields["MaHoSo"],)) is None:
        raise Wrong("4", 404, f"Hồ sơ {fields['MaHoSo']} không tồn tại")
    cursor.execute("INSERT INTO progress (code, fields) VALUES (%s, %s)", (fields["MaHoSo"], json.dumps(fields)))


def held(cursor: Cursor, code: str) -> Document | None:
    """A dossier with its steps; None when there is none."""
    found = one(cursor, "SELECT fields FROM dossier WHERE code = %s", (code,))
    if found is None:
        return None
    steps = [step for (step,) in rows(cursor, "SELECT fields FROM progress WHERE code = %s ORDER BY number", (code,))]
    return {**found[0], "DanhSachTienDo": steps}


def issue(cursor: Cursor, _fields: Document) -> str:
    """The next code, in the form of 2026: eight digits of date, seven of number."""
    (number,) = one(cursor, "SELECT nextval('issued')") or (0,)
    return f"G09.20-{datetime.now(UTC):%Y%m%d}-{number:07}"


def keep_file(cursor: Cursor, content: bytes) -> Document:
    """Store what identifies a file."""
    found = {"IdTepTin": secrets.token_hex(8), "HashTepTin": sha256(content).hexdigest()}
    cursor.execute("INSERT INTO file VALUES (%s, %s, %s)", (found["IdTepTin"], found["HashTepTin"], len(content)))
    return found


def catalogue(cursor: Cursor, service: str, asked: Document) -> list[Document]:
    """The rows of a catalogue; of `LayThuTuc` the one procedure asked for, with its fields."""
    return [row for (row,) in rows(cursor, CATALOGUES[service], {"code": asked.get("maTTHC")})]


def _remember(cursor: Cursor, fields: Document) -> None:
    cursor.execute("INSERT INTO history (code, status, fields) VALUES (%s, %s, %s)", (fields["MaHoSo"], fields["TrangThaiHoSo"], json.dumps(fields)))


# ------------------------------------------------------------------ rules
def _check_dossier(cursor: Cursor, fields: Document, variant: str) -> None:
    _check(fields, REQUIRED["dossier"])
    _check_status(fields["TrangThaiHoSo"])
    if fields["LoaiDoiTuong"] not in KINDS[variant]:
        raise Wrong("5", 400, "LoaiDoiTuong không hợp lệ")
    for name in fields:
        if name.startswith("Ngay"):
            _check_time(name, fields[name], variant)
    if variant == "ministry":
        _check_files(cursor, fields)


def _check_files(cursor: Cursor, fields: Document) -> None:
    """What was handed in digitally is here already: by its id, with its own hash; links are not followed."""
    for paper in fields.get("TaiLieuNop", []):
        is_digital = {"IdTepTin", "HashTepTin", "DuongDanTaiTepTin"} & paper.keys()
        if is_digital and one(cursor, "SELECT 1 FROM file WHERE id = %s AND hash = %s", (paper.get("IdTepTin"), paper.get("HashTepTin"))) is None:
            raise Wrong("5", 400, "IdTepTin không tồn tại")


def _check(fields: Document, required: tuple[str, ...]) -> None:
    if not _is_text(fields):
        raise Wrong("5", 400, "Dữ liệu phải là chuỗi ký tự")
    for name in required:
        if not fields.get(name):
            raise Wrong("5", 400, f"{name} không được để trống")
    for name, longest in LENGTH_MAX.items():
        if len(fields.get(name, "")) > longest:
            raise Wrong("5", 400, f"{name} vượt quá {longest} ký tự")


def _is_text(value: Any) -> bool:
    """Whether all of it is texts, in lists and objects."""
    if isinstance(value, Mapping):
        return all(_is_text(inside) for inside in value.values())
    return all(_is_text(inside) for inside in value) if isinstance(value, list) else isinstance(value, str)


def _check_status(status: str) -> None:
    if status not in STATUSES:
        raise Wrong("6", 400, "Trạng thái không hợp lệ")


def _check_time(name: str, value: str, variant: str) -> None:
    if not (_COMPACT if variant == "lgsp" else _ISO).fullmatch(value):
        raise Wrong("5", 400, f"{name} sai định dạng")
