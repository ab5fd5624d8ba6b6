"""How each of the demo's systems stores a person or a dossier: unified values to rows of its own tables.

Written from the systems' DDL, not from the profiles: the profiles are what is being tried.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from lienthong.simulate.model import VIETNAM, Dossier, Person, Procedure, Row, Value

Key = int | str | tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """One kind of system: rows for a person and for a dossier, and where its keys come from."""

    person: Callable[[Person, Key], list[Row]]
    dossier: Callable[[Dossier, Key], list[Row]]
    sequences: Mapping[str, str]  # entity -> SQL expression of the sequence its keys come from


def local(moment: datetime | str | None) -> str | None:
    """A time without zone, as a local clock shows it."""
    if moment is None or isinstance(moment, str):
        return moment
    return moment.astimezone(VIETNAM).strftime("%Y-%m-%d %H:%M:%S")


def compact(moment: datetime | str | None) -> str | None:
    """yyyyMMddHHmmss local time; a string is a deliberate mistake and stays."""
    if moment is None or isinstance(moment, str):
        return moment
    return moment.astimezone(VIETNAM).strftime("%Y%m%d%H%M%S")


def money(amount: int | None) -> str | None:
    """1.200.000 đ"""
    return None if amount is None else f"{amount:,}".replace(",", ".") + " đ"


def day_first(birth: str | None) -> str | None:
    """dd/MM/yyyy or yyyy."""
    return None if birth is None else "/".join(reversed(birth.split("-")))


# ------------------------------------------------------------------ city-portal
PORTAL_STATUS = [
    "MOI_DANG_KY",
    "DUOC_TIEP_NHAN",
    "KHONG_TIEP_NHAN",
    "DANG_XU_LY",
    "YEU_CAU_BO_SUNG",
    "NGHIA_VU_TAI_CHINH",
    "CONG_DAN_RUT",
    "DUNG_XU_LY",
    "DA_XU_LY_XONG",
    "DA_TRA_KET_QUA",
]


def _portal_person(p: Person, key: Key) -> list[Row]:
    return [("cong_dan", {
        "id": _int(key), "so_dinh_danh": p.number, "so_cmnd": p.old_number, "ho_ten": p.name, "gioi_tinh": p.sex,
        "ngay_sinh": p.birth, "quoc_tich": "Việt Nam", "nhan_than_luc": p.known, "dia_chi": p.address,
        "ma_dvhc": p.unit,
        "dia_chi_luc": p.moved, "dien_thoai": p.phone, "thu_dien_tu": p.email, "lien_he_luc": p.reached,
    })]  # fmt: skip


def _portal_dossier(d: Dossier, key: Key) -> list[Row]:
    k, a = _int(key), d.applicant
    root: dict[str, Value] = {
        "id": k, "ma_ho_so_qg": d.national, "ma_ho_so": d.local, "ma_lien_thong": d.linked, "ma_tthc": d.procedure,
        "ten_tthc": d.title, "kenh": d.channel, "ngay_nop": d.submitted, "ngay_tiep_nhan": d.received,
        "ngay_hen_tra": d.due,
        "ngay_ket_thuc": d.finished, "ngay_tra": d.returned, "ma_don_vi_xu_ly": d.agency, "ma_dvhc_xu_ly": d.unit,
        "ma_don_vi_nhan": d.counter, "trang_thai": d.word or PORTAL_STATUS[d.status - 1], "trang_thai_luc": d.status_at,
        "nguoi_xu_ly": d.handler, "y_kien_xu_ly": d.opinion, "trich_yeu": d.summary, "ghi_chu": d.note,
        "ma_ket_qua": d.result, "duong_dan_ket_qua": d.result_link, "tong_phi": d.total, "thanh_toan": d.payment,
        "thanh_toan_luc": d.paid,
    }  # fmt: skip
    rows: list[Row] = [("ho_so", root)]
    if not d.nameless:
        rows.append(("chu_ho_so", {
            "ho_so_id": k, "loai_doi_tuong": d.kind, "ho_ten": a.name, "so_dinh_danh": a.number, "ngay_sinh": a.birth,
            "dien_thoai": a.phone, "thu_dien_tu": a.email, "dia_chi": a.address, "ma_dvhc": a.unit,
        }))  # fmt: skip
    rows += [("tien_trinh", {"ho_so_id": k, "trang_thai": PORTAL_STATUS[s.status - 1], "thoi_diem": s.at,
        "nguoi_xu_ly": s.who,
                             "ma_don_vi": s.agency, "noi_dung": s.note}) for s in d.steps]  # fmt: skip
    rows += [("giay_to", {"ho_so_id": k, "ma_giay_to": p.code, "ten_giay_to": p.name, "so_luong": p.copies,
                          "da_so_hoa": p.digitised, "tai_su_dung": p.reused, "duong_dan": p.link, "ma_bam": p.digest,
                          "het_han": p.valid_until}) for p in d.papers]  # fmt: skip
    rows += [("le_phi", {"ho_so_id": k, "ma_phi": f.code, "ten_phi": f.name, "so_tien": f.amount, "hinh_thuc": f.method,
                         "thanh_toan_luc": f.paid}) for f in d.fees]  # fmt: skip
    rows += [("danh_gia", {"ho_so_id": k, "diem": r.score, "y_kien": r.comment, "danh_gia_luc": r.at}) for r in d.ratings]
    return rows


def portal_procedure(p: Procedure) -> list[Row]:
    """The portal's row for one line of the catalogue."""
    return [("thu_tuc", {"ma_tthc": p.code, "ten_tthc": p.name, "ma_linh_vuc": p.field, "muc_do": p.level,
        "ma_co_quan": p.agency,
                         "so_ngay": p.days,
                         "loai_ngay": "lich" if p.days_kind == "calendar" else "lam_viec"})]  # fmt: skip


# ------------------------------------------------------------------ one-stop
ONE_STOP_STATUS = ["receiving", "new", "denied", "processing", "waiting", "paying", "cancelled", "unresolved", "releasing", "done"]


def _one_stop_person(p: Person, key: Key) -> list[Row]:
    return [("onestop.person", {
        "person_uid": str(key), "citizen_id": p.number, "former_id": p.old_number, "full_name": p.name,
        "sex": "UMF"[p.sex],
        "birth": day_first(p.birth), "birth_place": p.birth_place, "nationality": "Việt Nam",
        "marital_status": p.marital,
        "identity_at": local(p.known), "address": p.address, "unit": p.unit, "residence_at": local(p.moved),
        "phone": p.phone,
        "email": p.email, "contact_at": local(p.reached),
    })]  # fmt: skip


def _one_stop_dossier(d: Dossier, key: Key) -> list[Row]:
    k, a = str(key), d.applicant
    rows: list[Row] = [("onestop.dossier", {
        "dossier_uid": k, "dossier_code": d.local, "national_code": d.national, "linked_code": d.linked,
        "procedure_code": d.procedure, "procedure_name": d.title, "channel": ("desk", "online", "post")[d.channel - 1],
        "submitted": local(d.submitted), "received": local(d.received), "due": local(d.due),
        "finished": local(d.finished),
        "returned": local(d.returned), "handling_agency": d.agency, "handling_unit": d.unit,
        "counter_agency": d.counter,
        "status": d.word or ONE_STOP_STATUS[d.status - 1], "status_at": local(d.status_at), "handler": d.handler,
        "handler_note": d.opinion, "summary": d.summary, "note": d.note, "result_code": d.result,
        "result_link": d.result_link,
    })]  # fmt: skip
    if not d.nameless:
        rows.append(("onestop.applicant", {
            "dossier_uid": k, "kind": ("citizen", "enterprise", "organisation", "other")[d.kind - 1],
            "full_name": a.name,
            "citizen_id": a.number, "birth": day_first(a.birth), "phone": a.phone, "email": a.email,
        }))  # fmt: skip
    rows.append(("onestop.applicant_address", {"dossier_uid": k, "street": a.address, "unit": a.unit}))
    payment = ("none", "due", "paid")[d.payment]
    rows.append(("onestop.payment", {"dossier_uid": k, "total": d.total, "state": payment, "paid": local(d.paid)}))
    rows += [("onestop.step", {"dossier_uid": k, "status": ONE_STOP_STATUS[s.status - 1], "happened": local(s.at),
                               "handler": s.who, "agency": s.agency, "note": s.note}) for s in d.steps]  # fmt: skip
    rows += [("onestop.paper", {"dossier_uid": k, "paper_code": p.code, "paper_name": p.name, "copies": p.copies,
                                "digitised": p.digitised, "reused": p.reused, "link": p.link, "sha256": p.digest,
                                "valid_until": p.valid_until}) for p in d.papers]  # fmt: skip
    rows += [("onestop.fee", {"dossier_uid": k, "fee_code": f.code, "fee_name": f.name, "amount": f.amount,
                              "method": f.method, "paid": local(f.paid)}) for f in d.fees]  # fmt: skip
    return rows


# ------------------------------------------------------------------ dept-justice
JUSTICE_STATUS = ["MOI", "TIEP_NHAN", "TU_CHOI", "DANG_XU_LY", "CHO_BO_SUNG", "CHO_NOP_PHI", "RUT", "DUNG", "XONG", "DA_TRA"]


def _justice_person(p: Person, _key: Key) -> list[Row]:
    return [("ho_tich.cong_dan", {
        "so_dinh_danh": p.number, "so_cmnd": p.old_number, "ho_va_ten": p.name,
        "gioi_tinh": ("CHUA_RO", "NAM", "NU")[p.sex], "ngay_sinh": p.birth, "noi_sinh": p.birth_place,
        "quoc_tich": "Việt Nam", "hon_nhan": p.marital, "dan_toc": p.ethnicity, "ton_giao": "Không", "nhom_mau": None,
        "nhan_than_tai": p.known, "noi_cu_tru": p.address, "ma_dvhc": p.unit, "cu_tru_tai": p.moved,
        "dien_thoai": p.phone,
        "thu_dien_tu": p.email, "lien_he_tai": p.reached,
    })]  # fmt: skip


def _justice_dossier(d: Dossier, key: Key) -> list[Row]:
    assert isinstance(key, tuple)
    a = d.applicant
    book: dict[str, Value] = {"nam": key[0], "so": key[1]}
    rows: list[Row] = [("ho_tich.ho_so", {
        **book, "ma_ho_so": d.local, "ma_quoc_gia": d.national, "ma_lien_thong": d.linked, "ma_thu_tuc": d.procedure,
        "ten_thu_tuc": d.title, "kenh": ("TRUC_TIEP", "TRUC_TUYEN", "BUU_CHINH")[d.channel - 1], "nop_luc": d.submitted,
        "nhan_luc": d.received, "hen_tra": d.due, "xong_luc": d.finished, "tra_luc": d.returned,
        "co_quan_xu_ly": d.agency,
        "dvhc_xu_ly": d.unit, "co_quan_nhan": d.counter, "loai_nguoi_nop": d.kind,
        "nguoi_nop": None if d.nameless else a.name, "dinh_danh_nop": a.number, "ngay_sinh_nop": a.birth,
        "dien_thoai_nop": a.phone, "thu_dien_tu_nop": a.email, "trich_yeu": d.summary, "ghi_chu": d.note,
        "trang_thai": d.word or JUSTICE_STATUS[d.status - 1], "trang_thai_luc": d.status_at, "chuyen_vien": d.handler,
        "y_kien": d.opinion, "so_ket_qua": d.result, "tep_ket_qua": d.result_link, "tong_tien": d.total,
        "da_thu": ("KHONG", "CHUA", "ROI")[d.payment], "thu_luc": d.paid,
    })]  # fmt: skip
    rows.append(("ho_tich.dia_chi_nguoi_nop", {**book, "dia_chi": a.address, "ma_dvhc": a.unit}))
    rows += [("ho_tich.buoc", {**book, "trang_thai": JUSTICE_STATUS[s.status - 1], "luc": s.at, "chuyen_vien": s.who,
                               "co_quan": s.agency, "noi_dung": s.note}) for s in d.steps]  # fmt: skip
    rows += [("ho_tich.giay_to", {**book, "ma": p.code, "ten": p.name, "so_ban": p.copies, "so_hoa": p.digitised,
                                  "dung_lai": p.reused, "tep": p.link, "ma_bam": p.digest, "het_han": p.valid_until})
             for p in d.papers]  # fmt: skip
    rows += [("ho_tich.le_phi", {**book, "ma": f.code, "ten": f.name, "so_tien": f.amount, "cach_thu": f.method,
                                 "thu_luc": f.paid}) for f in d.fees]  # fmt: skip
    return rows


def _int(key: Key) -> int:
    assert isinstance(key, int)
    return key


PORTAL = Store(
    person=_portal_person, dossier=_portal_dossier,
    sequences={"citizen": "pg_get_serial_sequence('cong_dan', 'id')",
    "dossier": "pg_get_serial_sequence('ho_so', 'id')"},
)  # fmt: skip
ONE_STOP = Store(person=_one_stop_person, dossier=_one_stop_dossier, sequences={})
JUSTICE = Store(person=_justice_person, dossier=_justice_dossier, sequences={"dossier": "'ho_tich.so_thu_tu'"})
