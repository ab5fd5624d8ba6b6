"""What the desks of wards and of the department do: receive, ask for more, decide, return, take money, delete."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from connectors.postgres import Cursor, one
from lienthong.simulate.cases import CLOSED, JUSTICE
from lienthong.simulate.city import City, insert
from lienthong.simulate.layouts import JUSTICE_STATUS, ONE_STOP_STATUS, compact
from lienthong.simulate.model import Row, Value
from lienthong.simulate.wards import DOSSIERS, STORES, WARDS

NEXT: dict[int, tuple[int, ...]] = {
    1: (2, 2, 2, 2, 2, 2, 2, 2, 2, 3), 2: (4, 4, 4, 4, 4, 4, 4, 7), 4: (9, 9, 9, 9, 9, 9, 5, 5, 6, 8), 5: (4,), 6: (4,
    ), 9: (10,),
}  # fmt: skip
OPEN = tuple(NEXT)
SOUND = "({local} IS NULL OR {local} !~ '-9[0-9]{{4}}$') AND ({national} IS NULL OR {national} !~ '^G22[.]9[01]')"

# unified field -> column, for what a desk decides
V2_COLUMNS = {
    "status": "dossier_status", "status_at": "status_date", "handler_name": "actor_name", "handler_note": "actor_note",
    "due_at": "due_date", "finished_at": "finish_date", "result_code": "result_no", "result_link": "result_link",
    "returned_at": "release_date", "payment_status": "payment_status", "paid_at": "payment_date",
}  # fmt: skip
JUSTICE_COLUMNS = {
    "status": "trang_thai", "status_at": "trang_thai_luc", "handler_name": "chuyen_vien", "handler_note": "y_kien",
    "due_at": "hen_tra", "finished_at": "xong_luc", "result_code": "so_ket_qua", "result_link": "tep_ket_qua",
    "returned_at": "tra_luc", "payment_status": "da_thu", "paid_at": "thu_luc",
}  # fmt: skip
HO_SO_COLUMNS = {
    "status": '"TrangThai"', "status_at": '"NgayTrangThai"', "handler_name": '"CanBo"', "handler_note": '"YKien"',
    "due_at": '"NgayHenTra"', "finished_at": '"NgayKetThuc"', "result_code": '"SoKetQua"', "result_link": '"TepKetQua"',
    "returned_at": '"NgayTra"', "payment_status": '"ThanhToan"', "paid_at": '"NgayThanhToan"',
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """How one kind of desk finds and changes its dossiers."""

    table: str
    key: str  # SQL expression that names a row as text
    local: str
    national: str
    agency: str
    total: str
    columns: Mapping[str, str]
    statuses: Mapping[int, Value]  # unified -> as stored
    payments: tuple[Value, ...]
    encode: Callable[[Value], Value]
    alive: str = "true"

    def pick(self, cursor: Cursor, city: City, agencies: list[str], statuses: tuple[int, ...], *, own: str = "") -> Found | None:
        """An arbitrary sound dossier of these agencies in one of these statuses, locked."""
        sound = SOUND.format(local=self.local, national=self.national)
        column = self.columns["status"]
        statement = f"""SELECT {self.key}, coalesce({self.national}, {self.local}), {column}, {self.total}::text,
                {self.national} IS NULL
            FROM {self.table} WHERE {self.alive} AND {sound} AND {self.agency} = ANY(%s) AND {column} = ANY(%s)
            AND ({self.local} LIKE %s OR %s = '') ORDER BY md5({self.key} || %s) LIMIT 1 FOR UPDATE SKIP LOCKED"""  # noqa: S608
        words = [self.statuses[status] for status in statuses]
        found = one(cursor, statement, [agencies, words, f"{own}-%", own, city.salt()])
        if found is None:
            return None
        back = {stored: status for status, stored in self.statuses.items()}
        return Found(found[0], found[1], back[found[2]], found[3] not in (None, "0", "0 đ"), found[4])

    def change(self, cursor: Cursor, key: str, values: Mapping[str, Value]) -> None:
        """Write what the desk decided."""
        stored = {self.columns[name]: self._stored(name, value) for name, value in values.items()}
        sets = ", ".join(f"{column} = %s" for column in stored)
        cursor.execute(f"UPDATE {self.table} SET {sets} WHERE {self.key} = %s", [*stored.values(), key])  # noqa: S608

    def _stored(self, name: str, value: Value) -> Value:
        if name == "status":
            assert isinstance(value, int)
            return self.statuses[value]
        if name == "payment_status":
            assert isinstance(value, int)
            return self.payments[value]
        return self.encode(value)


@dataclass(frozen=True, slots=True)
class Found:
    """A dossier a desk has taken up."""

    key: str
    code: str
    status: int
    costs: bool
    without_national: bool


def _numbered(words: list[str]) -> dict[int, Value]:
    return {number: word for number, word in enumerate(words, 1)}


def _compact(value: Value) -> Value:
    return compact(value) if isinstance(value, datetime) else value


_V2 = Desk(
    table="dossier", key="dossier_id::text", local="dossier_no", national="national_no", agency="gov_agency_code",
    total="fee_total", columns=V2_COLUMNS, statuses=_numbered(ONE_STOP_STATUS), payments=("free", "unpaid", "paid"),
    encode=lambda value: value,
)  # fmt: skip
DESKS: dict[str, Desk] = {
    "ward-tan-dinh": _V2,
    "ward-sai-gon": _V2,
    "ward-binh-thoi": Desk(
        table=DOSSIERS, key='"SốTT"::text', local='"MãHồSơ"', national='"MãQuốcGia"', agency='"MaCoQuan"',
        total='"TongPhi"',
        columns=HO_SO_COLUMNS, statuses={number: number - 1 for number in range(1, 11)}, payments=(0, 1, 2),
        encode=_compact,
    ),
    "dept-justice": Desk(
        table="ho_tich.ho_so", key="nam::text || '/' || so::text", local="ma_ho_so", national="ma_quoc_gia",
        agency="co_quan_xu_ly", total="tong_tien", columns=JUSTICE_COLUMNS, statuses=_numbered(JUSTICE_STATUS),
        payments=("KHONG", "CHUA", "ROI"), encode=lambda value: value, alive="NOT da_xoa",
    ),
}  # fmt: skip


def agencies_of(system: str) -> list[str]:
    """The agency ids whose dossiers a desk handles, those of its closed district included."""
    if system == "dept-justice":
        return [JUSTICE]
    return [f"H29.{WARDS[system]}", CLOSED[WARDS[system]]]


# ------------------------------------------------------------------ actions
def step(city: City, system: str) -> str | None:
    """Bring one dossier one status further."""
    desk, at = DESKS[system], city.tick()
    with city.at(system) as cursor:
        found = desk.pick(cursor, city, agencies_of(system), OPEN)
        if found is None or found.code in city.closed or city.moved.get(found.code, system) != system:
            return None
        status, who = city.random.choice(NEXT[found.status]), city.clerk()
        values = decided(found, status, at, who)
        desk.change(cursor, found.key, values)
        insert(cursor, _step_rows(system, found.key, status, at, who))
        if "paid_at" in values:
            insert(cursor, _fee_rows(system, found.key, at))
    city.received.add(found.code)
    city.wrote(system, "dossier", found.code, values)
    return {2: "receive", 5: "ask_supplement", 6: "ask_payment", 9: "decide", 10: "return"}.get(status, "process")


def decided(found: Found, status: int, at: datetime, who: str) -> dict[str, Value]:
    """The fields a desk writes when a dossier reaches a status."""
    values: dict[str, Value] = {"status": status, "status_at": at, "handler_name": who}
    if status == 2:
        values["due_at"] = at + timedelta(days=7)
    if status == 5:
        values["handler_note"] = "Đề nghị bổ sung giấy tờ; hạn 05 ngày"
    if status in (3, 8):
        values["handler_note"] = "Không đủ điều kiện"
    if status == 9:
        values |= {"finished_at": at, "result_code": f"KQ-{found.code}", "handler_note": "Đã ký số"}
    if status == 10:
        values |= {"returned_at": at, "result_link": f"https://kho.example.vn/kq/{found.code}.pdf"}
        if found.costs:
            values |= {"payment_status": 2, "paid_at": at}
    return values


def _step_rows(system: str, key: str, status: int, at: datetime, who: str) -> list[Row]:
    agency, note = agencies_of(system)[0], None if status < 5 else "Ghi nhận tại quầy"
    if system == "dept-justice":
        year, number = key.split("/")
        return [("ho_tich.buoc", {"nam": int(year), "so": int(number), "trang_thai": JUSTICE_STATUS[status - 1],
            "luc": at,
                                  "chuyen_vien": who, "co_quan": agency, "noi_dung": note})]  # fmt: skip
    if system == "ward-binh-thoi":
        return []  # its own trigger keeps the journal
    return [("dossier_state_history", {"dossier_id": int(key), "state": ONE_STOP_STATUS[status - 1], "changed_at": at,
                                       "actor_name": who, "agency_code": agency, "note": note})]  # fmt: skip


def _fee_rows(system: str, key: str, at: datetime) -> list[Row]:
    code, name = f"LP-TQ-{at:%m%d%H%M%S}", "Lệ phí thu tại quầy"
    if system == "dept-justice":
        year, number = key.split("/")
        return [("ho_tich.le_phi", {"nam": int(year), "so": int(number), "ma": code, "ten": name, "so_tien": 50_000,
                                    "cach_thu": "tiền mặt", "thu_luc": at})]  # fmt: skip
    if system == "ward-binh-thoi":
        return [('quan_ly."Lệ phí"', {'"SốTT"': int(key), '"MaPhi"': code, '"TenPhi"': name, '"SoTien"': "50.000 đ",
                                      '"HinhThuc"': "tiền mặt", '"NgayNopTien"': compact(at)})]  # fmt: skip
    return [("dossier_fee", {"dossier_id": int(key), "fee_code": code, "fee_name": name, "amount": 50_000,
                             "payment_method": "tiền mặt", "paid_at": at})]  # fmt: skip


def hand_in(city: City, ward: str) -> str:
    """A citizen comes to the ward's desk with a new dossier; sometimes one that another ward will handle."""
    others = [name for name in WARDS if name != ward]
    processing = city.random.choice(others) if city.random.random() < 0.15 else None
    dossier = city.cases.from_desk(ward=ward, processing=processing, on=city.tick().replace(microsecond=0))
    store = STORES[ward]
    with city.at(ward) as cursor:
        key = one(cursor, f"SELECT nextval({store.sequences['dossier']})")  # noqa: S608
        assert key is not None
        insert(cursor, store.dossier(dossier, int(key[0])))
    return "hand_in_at_desk"


def delete(city: City, system: str) -> str | None:
    """A desk deletes a dossier of its own that was entered by mistake; the department only marks it."""
    desk, agencies = DESKS[system], agencies_of(system)
    with city.at(system) as cursor:
        found = desk.pick(cursor, city, agencies, (1, 2), own=agencies[0])
        if found is None or not found.without_national or found.code in city.closed:
            return None
        if system == "dept-justice":
            cursor.execute(f"UPDATE {desk.table} SET da_xoa = true WHERE {desk.key} = %s", [found.key])  # noqa: S608
        else:
            cursor.execute(f"DELETE FROM {desk.table} WHERE {desk.key} = %s", [found.key])  # noqa: S608
    city.closed.add(found.code)
    city.wrote(system, "dossier", found.code, None)
    return "delete_at_desk"


def overstep(city: City) -> str | None:
    """A ward's clerk changes a phone number that only the portal may change."""
    ward = city.random.choice(("ward-tan-dinh", "ward-sai-gon"))
    with city.at(ward) as cursor:
        found = one(
            cursor,
            """SELECT d.dossier_id, d.national_no FROM dossier d
            WHERE d.national_no LIKE 'G22.99-%%' AND d.dossier_no IS NULL AND dossier_status = ANY(%s)
            ORDER BY md5(d.dossier_id::text || %s) LIMIT 1 FOR UPDATE SKIP LOCKED""",
            [list(ONE_STOP_STATUS), city.salt()],
        )
        if found is None or found[1] in city.closed:
            return None
        cursor.execute("UPDATE dossier_applicant SET contact_tel = '0999999999' WHERE dossier_id = %s", [found[0]])
    city.received.add(found[1])
    city.wrote(ward, "dossier", found[1], {"applicant_phone": "0999999999"}, owner=False)
    return "overstep"
