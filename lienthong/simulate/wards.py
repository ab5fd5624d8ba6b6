"""How the two kinds of ward software store a person or a dossier (see `lienthong.simulate.layouts`)."""

from __future__ import annotations

from lienthong.simulate.layouts import JUSTICE, ONE_STOP, ONE_STOP_STATUS, PORTAL, Key, Store, _int, compact, money
from lienthong.simulate.model import Dossier, Person, Row, Value


# ------------------------------------------------------------------ the one-stop product, version 2
def _v2_person(p: Person, key: Key) -> list[Row]:
    return [("resident", {
        "resident_id": _int(key), "personal_id": p.number, "old_id_no": p.old_number, "full_name": p.name,
        "gender": ("unknown", "male", "female")[p.sex], "date_of_birth": p.birth, "place_of_birth": p.birth_place,
        "nationality": "Việt Nam", "marital_status": p.marital, "identity_as_of": p.known, "address": p.address,
        "ward_code": p.unit, "residence_as_of": p.moved, "phone": p.phone, "email": p.email, "contact_as_of": p.reached,
    })]  # fmt: skip


def _v2_dossier(d: Dossier, key: Key) -> list[Row]:
    k, a = _int(key), d.applicant
    rows: list[Row] = [("dossier", {
        "dossier_id": k, "dossier_no": d.local, "national_no": d.national, "origin_dossier_no": d.linked,
        "service_code": d.procedure, "service_name": d.title, "channel": ("counter", "online", "postal")[d.channel - 1],
        "submit_date": d.submitted, "receive_date": d.received, "due_date": d.due, "finish_date": d.finished,
        "release_date": d.returned, "gov_agency_code": d.agency, "ward_code": d.unit, "receiving_agency": d.counter,
        "dossier_status": d.word or ONE_STOP_STATUS[d.status - 1], "status_date": d.status_at, "actor_name": d.handler,
        "actor_note": d.opinion, "brief_note": d.summary, "dossier_note": d.note, "result_no": d.result,
        "result_link": d.result_link, "fee_total": d.total, "payment_status": ("free", "unpaid", "paid")[d.payment],
        "payment_date": d.paid,
    })]  # fmt: skip
    if not d.nameless:
        rows.append(("dossier_applicant", {
            "dossier_id": k, "applicant_type": ("citizen", "business", "organization", "other")[d.kind - 1],
            "applicant_name": a.name, "applicant_id_no": a.number, "date_of_birth": a.birth, "contact_tel": a.phone,
            "contact_email": a.email, "address": a.address, "ward_code": a.unit,
        }))  # fmt: skip
    rows += [("dossier_state_history", {"dossier_id": k, "state": ONE_STOP_STATUS[s.status - 1], "changed_at": s.at,
                                        "actor_name": s.who, "agency_code": s.agency, "note": s.note})
             for s in d.steps]  # fmt: skip
    rows += [("dossier_file", {"dossier_id": k, "part_no": p.code, "display_name": p.name, "copies": p.copies,
                               "is_digital": p.digitised, "is_reused": p.reused, "file_url": p.link,
                               "checksum": p.digest,
                               "valid_until": p.valid_until}) for p in d.papers]  # fmt: skip
    rows += [("dossier_fee", {"dossier_id": k, "fee_code": f.code, "fee_name": f.name, "amount": f.amount,
                              "payment_method": f.method, "paid_at": f.paid}) for f in d.fees]  # fmt: skip
    return rows


# ------------------------------------------------------------------ the ward with software of its own
PEOPLE, DOSSIERS = 'quan_ly."Nhân khẩu"', 'quan_ly."Hồ sơ"'
PAPERS, FEES = 'quan_ly."Giấy tờ"', 'quan_ly."Lệ phí"'


def _plain(birth: str | None) -> str | None:
    return None if birth is None else birth.replace("-", "")


def _ho_so_person(p: Person, key: Key) -> list[Row]:
    return [(PEOPLE, _quoted({
        "Mã": _int(key), "SoDinhDanh": p.number, "SoCMND": p.old_number, "HoTen": p.name,
        "GioiTinh": ("Chưa rõ", "Nam", "Nữ")[p.sex], "NgaySinh": _plain(p.birth), "NoiSinh": p.birth_place,
        "QuocTich": "Việt Nam", "HonNhan": p.marital, "NgayCapNhat": compact(p.known), "DiaChi": p.address,
        "MaPhuongXa": p.unit, "NgayCuTru": compact(p.moved), "DienThoai": p.phone, "ThuDienTu": p.email,
        "NgayLienHe": compact(p.reached),
    }))]  # fmt: skip


def _ho_so_dossier(d: Dossier, key: Key) -> list[Row]:
    k, a = _int(key), d.applicant
    rows: list[Row] = [(DOSSIERS, _quoted({
        "SốTT": k, "MãHồSơ": d.local, "MãQuốcGia": d.national, "MaLienThong": d.linked, "MaTTHC": d.procedure,
        "TenTTHC": d.title, "KenhThucHien": d.channel, "NgayNop": compact(d.submitted),
        "NgayTiepNhan": compact(d.received),
        "NgayHenTra": compact(d.due), "NgayKetThuc": compact(d.finished), "NgayTra": compact(d.returned),
        "MaCoQuan": d.agency, "MaPhuongXuLy": d.unit, "MaCoQuanNhan": d.counter, "LoaiDoiTuong": d.kind,
        "ChuHoSo": None if d.nameless else a.name, "SoGiayTo": a.number, "NgaySinh": _plain(a.birth),
        "DienThoai": a.phone,
        "ThuDienTu": a.email, "DiaChi": a.address, "MaPhuongXa": a.unit,
        "TrangThai": int(d.word) if d.word else d.status - 1,
        "NgayTrangThai": compact(d.status_at), "CanBo": d.handler, "YKien": d.opinion, "TrichYeu": d.summary,
        "GhiChu": d.note,
        "SoKetQua": d.result, "TepKetQua": d.result_link, "TongPhi": money(d.total), "ThanhToan": d.payment,
        "NgayThanhToan": compact(d.paid),
    }))]  # fmt: skip
    rows += [(PAPERS, _quoted({
        "SốTT": k, "MaGiayTo": p.code, "TenGiayTo": p.name, "SoLuong": p.copies, "SoHoa": "C" if p.digitised else "K",
        "DungLai": "C" if p.reused else "K", "DuongDan": p.link, "MaBam": p.digest,
        "HetHan": p.valid_until.strftime("%Y%m%d") if p.valid_until else None,
    })) for p in d.papers]  # fmt: skip
    rows += [(FEES, _quoted({"SốTT": k, "MaPhi": f.code, "TenPhi": f.name, "SoTien": money(f.amount),
        "HinhThuc": f.method,
                             "NgayNopTien": compact(f.paid)})) for f in d.fees]  # fmt: skip
    return rows


def _quoted(row: dict[str, Value]) -> dict[str, Value]:
    return {f'"{name}"': value for name, value in row.items()}


V2 = Store(
    person=_v2_person, dossier=_v2_dossier,
    sequences={"citizen": "pg_get_serial_sequence('resident', 'resident_id')",
               "dossier": "pg_get_serial_sequence('dossier', 'dossier_id')"},
)  # fmt: skip
HO_SO = Store(
    person=_ho_so_person, dossier=_ho_so_dossier,
    sequences={"citizen": "pg_get_serial_sequence('quan_ly.\"Nhân khẩu\"', 'Mã')",
               "dossier": "pg_get_serial_sequence('quan_ly.\"Hồ sơ\"', 'SốTT')"},
)  # fmt: skip

STORES: dict[str, Store] = {
    "city-portal": PORTAL, "one-stop": ONE_STOP, "dept-justice": JUSTICE,
    "ward-tan-dinh": V2, "ward-sai-gon": V2, "ward-binh-thoi": HO_SO,
}  # fmt: skip
WARDS: dict[str, str] = {"ward-tan-dinh": "26737", "ward-sai-gon": "26740", "ward-binh-thoi": "27232"}
