"""What citizens do at the portal, and what happens to records of citizens in wards, the department and the one-stop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from connectors.postgres import Cursor, one
from lienthong.simulate.city import City, insert
from lienthong.simulate.layouts import PORTAL, PORTAL_STATUS, compact
from lienthong.simulate.model import Value
from lienthong.simulate.spoiled import NEVER, NOT_YET
from lienthong.simulate.wards import PEOPLE, STORES, WARDS

# Dossiers born at the portal and not yet in anybody's hands: codes of its own series, no desk's number.
FRESH = """SELECT id, ma_ho_so_qg FROM ho_so WHERE ma_ho_so_qg LIKE 'G22.99-%%' AND ma_ho_so IS NULL
    AND trang_thai = 'MOI_DANG_KY' ORDER BY md5(id::text || %s) LIMIT 1 FOR UPDATE SKIP LOCKED"""
BORN_HERE = """SELECT id, ma_ho_so_qg FROM ho_so WHERE ma_ho_so_qg LIKE 'G22.99-%%' AND ma_ho_so IS NULL
    ORDER BY md5(id::text || %s) LIMIT 1 FOR UPDATE SKIP LOCKED"""


def _fresh(city: City, row: tuple[object, ...] | None) -> bool:
    return row is not None and row[1] not in city.received and row[1] not in city.closed and row[1] not in city.moved


def submit(city: City) -> str:
    """A citizen files a dossier online, for a ward or for the department."""
    ward = city.random.choice((*WARDS, None))
    dossier = city.cases.from_portal(ward=ward, on=city.tick())
    with city.at("city-portal") as cursor:
        key = one(cursor, f"SELECT nextval({PORTAL.sequences['dossier']})")  # noqa: S608
        assert key is not None
        insert(cursor, PORTAL.dossier(dossier, int(key[0])))
    return "submit"


def correct_filing(city: City) -> str | None:
    """A citizen corrects the address or phone of what he filed."""
    with city.at("city-portal") as cursor:
        found = one(cursor, BORN_HERE, [city.salt()])
        if found is None or found[1] in city.closed:
            return None
        address, phone = city.people.address(), f"08{city.random.randrange(10**8):08d}"
        cursor.execute("UPDATE chu_ho_so SET dia_chi = %s, dien_thoai = %s WHERE ho_so_id = %s", [address, phone, found[0]])
    city.wrote("city-portal", "dossier", found[1], {"applicant_address": address, "applicant_phone": phone})
    return "correct_filing"


def withdraw(city: City) -> str | None:
    """A citizen takes back what nobody has begun to handle."""
    at = city.tick()
    with city.at("city-portal") as cursor:
        found = one(cursor, FRESH, [city.salt()])
        if found is None or not _fresh(city, found):
            return None
        word = PORTAL_STATUS[6]
        cursor.execute("UPDATE ho_so SET trang_thai = %s, trang_thai_luc = %s WHERE id = %s", [word, at, found[0]])
        insert(cursor, [("tien_trinh", {"ho_so_id": found[0], "trang_thai": word, "thoi_diem": at,
            "nguoi_xu_ly": "Công dân",
                                        "ma_don_vi": None, "noi_dung": "Công dân xin rút"})])  # fmt: skip
    city.closed.add(found[1])
    city.wrote("city-portal", "dossier", found[1], {"status": 7, "status_at": at})
    return "withdraw"


def delete(city: City) -> str | None:
    """The portal deletes a dossier filed by mistake, with everything that hangs on it."""
    with city.at("city-portal") as cursor:
        found = one(cursor, FRESH, [city.salt()])
        if found is None or not _fresh(city, found):
            return None
        cursor.execute("DELETE FROM ho_so WHERE id = %s", [found[0]])
    city.closed.add(found[1])
    city.wrote("city-portal", "dossier", found[1], None)
    return "delete_at_portal"


def reroute(city: City) -> str | None:
    """The portal sends a dossier to another ward before anybody has begun."""
    with city.at("city-portal") as cursor:
        found = one(cursor, FRESH.replace("AND trang_thai", "AND ma_dvhc_xu_ly IS NOT NULL AND trang_thai"), [city.salt()])
        if found is None or not _fresh(city, found):
            return None
        current = one(cursor, "SELECT ma_dvhc_xu_ly FROM ho_so WHERE id = %s", [found[0]])
        ward = city.random.choice([name for name, unit in WARDS.items() if current != (unit,)])
        agency = f"H29.{WARDS[ward]}"
        cursor.execute("UPDATE ho_so SET ma_don_vi_xu_ly = %s, ma_dvhc_xu_ly = %s WHERE id = %s", [agency, WARDS[ward], found[0]])
    city.moved[found[1]] = ward
    city.wrote("city-portal", "dossier", found[1], {"processing_agency_code": agency, "processing_unit_code": WARDS[ward]})
    return "reroute"


def drop_paper(city: City) -> str | None:
    """A citizen removes one of several papers he filed."""
    with city.at("city-portal") as cursor:
        found = one(cursor, BORN_HERE, [city.salt()])
        if found is None or found[1] in city.closed:
            return None
        newest = "SELECT max(id) FROM giay_to WHERE ho_so_id = %s HAVING count(*) > 1"
        cursor.execute(f"DELETE FROM giay_to WHERE id = ({newest})", [found[0]])  # noqa: S608
        return "drop_paper" if cursor.rowcount else None


def rate(city: City) -> str | None:
    """A citizen rates the handling once the result is there."""
    with city.at("city-portal") as cursor:
        found = one(
            cursor,
            """SELECT h.id, coalesce(h.ma_ho_so_qg, h.ma_ho_so), h.trang_thai_luc FROM ho_so h
            WHERE h.trang_thai = 'DA_TRA_KET_QUA' AND NOT EXISTS (SELECT 1 FROM danh_gia g WHERE g.ho_so_id = h.id)
            ORDER BY md5(h.id::text || %s) LIMIT 1 FOR UPDATE SKIP LOCKED""",
            [city.salt()],
        )
        if found is None:
            return None
        rating = city.cases.rating(max(found[2], city.now) if found[2] else city.now)
        insert(cursor, [("danh_gia", {"ho_so_id": found[0], "diem": rating.score, "y_kien": rating.comment,
                                      "danh_gia_luc": rating.at})])  # fmt: skip
    return "rate"


# ------------------------------------------------------------------ records of citizens
@dataclass(frozen=True, slots=True)
class Register:
    """Where a system keeps its citizens."""

    table: str
    key: str
    number: str
    birth: str
    unit: str

    def pick(self, cursor: Cursor, city: City) -> tuple[Any, ...] | None:
        """An arbitrary citizen's key and number; spoiled rows are left alone, as a correction could make one sound."""
        sound = f"{self.number} ~ '^[0-9]{{12}}$' AND {self.birth} IS NOT NULL AND {self.unit} <> ALL(%s)"
        statement = f"""SELECT {self.key}, {self.number} FROM {self.table} WHERE {sound}
            ORDER BY md5({self.key}::text || %s) LIMIT 1 FOR UPDATE SKIP LOCKED"""  # noqa: S608
        return one(cursor, statement, [[NEVER, NOT_YET], city.salt()])


_PORTAL = Register("cong_dan", "id", "so_dinh_danh", "ngay_sinh", "ma_dvhc")
_JUSTICE = Register("ho_tich.cong_dan", "so_dinh_danh", "so_dinh_danh", "ngay_sinh", "ma_dvhc")
_V2 = Register("resident", "resident_id", "personal_id", "date_of_birth", "ward_code")
_HO_SO = Register(PEOPLE, '"Mã"', '"SoDinhDanh"', '"NgaySinh"', '"MaPhuongXa"')
_V2_ADDRESS = "UPDATE resident SET address = %s, ward_code = %s, residence_as_of = %s WHERE resident_id = %s"
_HO_SO_ADDRESS = """UPDATE quan_ly."Nhân khẩu" SET "DiaChi" = %s, "MaPhuongXa" = %s, "NgayCuTru" = %s WHERE "Mã" = %s"""
_RESIDENTS = {
    "ward-tan-dinh": (_V2, _V2_ADDRESS),
    "ward-sai-gon": (_V2, _V2_ADDRESS),
    "ward-binh-thoi": (_HO_SO, _HO_SO_ADDRESS),
}


def correct_contact(city: City) -> str | None:
    """A citizen changes the phone number of the account."""
    at, phone = city.tick(), f"05{city.random.randrange(10**8):08d}"
    with city.at("city-portal") as cursor:
        found = _PORTAL.pick(cursor, city)
        if found is None:
            return None
        cursor.execute("UPDATE cong_dan SET dien_thoai = %s, lien_he_luc = %s WHERE id = %s", [phone, at, found[0]])
    city.wrote("city-portal", "citizen", found[1], {"phone": phone, "contact_as_of": at})
    return "correct_contact"


def correct_address(city: City, ward: str, *, to_ward: str | None = None) -> str | None:
    """A ward corrects the address of somebody who lives there, or notes that he moved to another ward."""
    at, address, unit = city.tick(), city.people.address(), WARDS[to_ward or ward]
    residents, statement = _RESIDENTS[ward]
    with city.at(ward) as cursor:
        found = residents.pick(cursor, city)
        if found is None or found[1] in city.closed:
            return None
        moment = compact(at) if ward == "ward-binh-thoi" else at
        cursor.execute(statement, [address, unit, moment, found[0]])
    if to_ward:
        city.closed.add(found[1])
    values: dict[str, Value] = {"residence_address": address, "residence_unit_code": unit, "residence_as_of": at}
    city.wrote(ward, "citizen", found[1], values)
    return "move" if to_ward else "correct_address"


def register(city: City, ward: str) -> str:
    """A ward enters a new resident."""
    person = city.people.person(unit=WARDS[ward], moved=city.tick())
    store = STORES[ward]
    with city.at(ward) as cursor:
        key = one(cursor, f"SELECT nextval({store.sequences['citizen']})")  # noqa: S608
        assert key is not None
        insert(cursor, store.person(person, int(key[0])))
    return "register_citizen"


def correct_identity(city: City) -> str | None:
    """The department of justice notes a marriage or a divorce."""
    at, marital = city.tick(), city.random.choice(("Đã kết hôn", "Đã ly hôn"))
    statement = "UPDATE ho_tich.cong_dan SET hon_nhan = %s, nhan_than_tai = %s WHERE so_dinh_danh = %s"
    with city.at("dept-justice") as cursor:
        found = _JUSTICE.pick(cursor, city)
        if found is None:
            return None
        cursor.execute(statement, [marital, at, found[0]])
    city.wrote("dept-justice", "citizen", found[1], {"marital_status": marital, "identity_as_of": at})
    return "correct_identity"


def correct_at_one_stop(city: City) -> str | None:
    """The one-stop corrects the applicant's street of a dossier handed in there."""
    street = city.people.address()
    with city.at("one-stop") as cursor:
        found = one(
            cursor,
            """SELECT dossier_uid, dossier_code FROM onestop.dossier WHERE dossier_code LIKE 'H29.01-%%'
            AND dossier_code !~ '-9[0-9]{4}$' ORDER BY md5(dossier_uid::text || %s) LIMIT 1 FOR UPDATE SKIP LOCKED""",
            [city.salt()],
        )
        if found is None:
            return None
        cursor.execute("UPDATE onestop.applicant_address SET street = %s WHERE dossier_uid = %s", [street, found[0]])
    city.wrote("one-stop", "dossier", found[1], {"applicant_address": street})
    return "correct_at_one_stop"
