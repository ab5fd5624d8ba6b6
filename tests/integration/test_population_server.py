"""The stand-in of the population database: a stock zeep client of its own ?wsdl gets the answers."""

from __future__ import annotations

import hashlib
import json
import urllib.request
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

from lienthong.embedded.national.contract import FOLDER
from tests.national_kit import ASK_BA, ASK_MAI, BA, CALL, MAI, National
from tests.stock_kit import answered, client, faultcode, plain, request


# ------------------------------------------------------------------ the contract
def test_the_pinned_files_are_as_their_hashes_say() -> None:
    sums = dict(reversed(line.split()) for line in (FOLDER / "SHA256SUMS").read_text().splitlines())
    found = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in FOLDER.iterdir() if file.name != "SHA256SUMS"}
    assert found == sums


def test_a_stock_client_looks_a_person_up(server: National) -> None:
    found = client(server).TraCuuThongTinCongDan(**CALL, **ASK_MAI)
    (person,) = found.CongDan
    assert (found.SoCongDan, found.id, found.ThoiDiemDuLieu) == (1, CALL["MaYeuCau"], datetime(2026, 10, 1, 1, tzinfo=UTC))
    assert (person.SoDinhDanh, person.SoCMND, person.GioiTinh) == (MAI["personal_number"], MAI["old_identity_number"], "2")
    assert (person.HoVaTen.Ho, person.HoVaTen.ChuDem, person.HoVaTen.Ten) == (None, None, MAI["full_name"])
    assert (person.NgayThangNamSinh.NgayThangNam, person.DanToc, person.QuocTich) == ("19900504", "01", "VN")
    assert (person.ThuongTru.MaTinhThanh, person.ThuongTru.MaQuanHuyen, person.ThuongTru.MaPhuongXa) == ("79", None, "26740")
    assert (person.Cha.HoVaTen.Ten, person.ChuHo.QuanHe, person.Me) == ("NGUYỄN VĂN AN", "01", None)


def test_a_birth_year_alone_and_an_address_with_a_district(server: National) -> None:
    (person,) = client(server).TraCuuThongTinCongDan(**CALL, **ASK_BA).CongDan
    assert (person.NgayThangNamSinh.Nam, person.NgayThangNamSinh.NgayThangNam) == ("1938", None)
    assert (person.ThuongTru.MaQuanHuyen, person.ThuongTru.MaPhuongXa, person.SoCMND) == ("772", "27232", None)


def test_the_profile_of_the_standard(server: National) -> None:
    found = client(server, "qcvn109").TraCuuThongTinCongDan(**CALL, **ASK_MAI)
    (person,) = found.CongDan
    assert person.NgayThangNamSinh.NgayThangNam.isoformat() == "1990-05-04"
    assert (person.DanToc.MaDanToc, person.TonGiao.MaTonGiao) == ("01", "00")
    assert (person.ThuongTru.MaDonViHanhChinh, person.QueQuan.MaDonViHanhChinh) == ("26740", "760")
    assert found.ThoiDiemDuLieu == datetime(2026, 10, 1, 8)  # noqa: DTZ001 - Vietnam time without a zone, as in the standard's example


def test_nobody_of_that_number_name_and_birth_is_an_empty_collection(server: National) -> None:
    for wrong in (
        {"SoDinhDanh": "079190999999"},
        {"HoVaTen": "NGUYỄN THỊ LAN"},
        {"NgayThangNamSinh": {"Nam": "1991"}},
        {"NgayThangNamSinh": {"NgayThangNam": "19900505"}},
    ):
        found = client(server).TraCuuThongTinCongDan(**CALL, **(ASK_MAI | wrong))
        assert (found.SoCongDan, found.CongDan) == (0, [])


def test_by_the_old_number_and_the_year(server: National) -> None:
    asked = {"SoCMND": MAI["old_identity_number"], "HoVaTen": "Nguyễn Thị Mai", "NgayThangNamSinh": {"Nam": "1990"}}
    assert client(server).TraCuuThongTinCongDan(**CALL, **asked).SoCongDan == 1


def test_verifying_says_yes_or_no_and_nothing_else(server: National) -> None:
    service = client(server)
    assert service.XacThucThongTinCongDan(**CALL, **ASK_MAI) is True
    assert service.XacThucThongTinCongDan(**CALL, **(ASK_MAI | {"HoVaTen": "NGUYỄN THỊ LAN"})) is False
    status, body = answered(server, request("XacThucThongTinCongDan"))
    assert status == 200
    assert MAI["full_name"].encode() not in body


def test_family_comes_without_the_rest_of_the_record(server: National) -> None:
    (person,) = client(server).XacMinhThongTinNhanThan(**CALL, **ASK_MAI).CongDan
    assert (person.Cha.SoDinhDanh, person.ThuongTru, person.DanToc) == ("079060000002", None, None)


def test_pages_of_a_period(server: National) -> None:
    start = datetime(2024, 1, 1, tzinfo=UTC)
    server.people(*({**BA, "personal_number": f"0790380010{n:02}", "as_of": (start + timedelta(days=n)).isoformat()} for n in range(5)))
    period = {"TuNgay": str(int(start.timestamp() * 1000)), "DenNgay": str(int((start + timedelta(days=4)).timestamp() * 1000)), "Loai": "1"}
    pages = [client(server).TraCuuThongTinCongDan(**CALL, **period, Trang=page, SoBanGhi=3) for page in (1, 2)]
    assert [[person.SoDinhDanh[-1] for person in page.CongDan] for page in pages] == [["0", "1", "2"], ["3"]]


def test_a_request_that_does_not_follow_the_schema_is_refused_without_being_quoted(server: National) -> None:
    asked = request(**(ASK_MAI | {"SoDinhDanh": "0791900000012"}))
    status, body = answered(server, asked)
    assert (status, faultcode(body)) == (500, "soapenv:Client")
    assert b"0791900000012" not in body
    assert server.processed() == 0


def test_requests_are_counted_where_they_arrive(server: National) -> None:
    service = client(server)
    for _ in range(2):
        service.TraCuuThongTinCongDan(**CALL, **ASK_MAI)
    service.XacThucThongTinCongDan(**(CALL | {"MaYeuCau": "2"}), **ASK_MAI)
    with urllib.request.urlopen(f"{server.address}/seen") as response:
        counts = json.load(response)
    assert counts == {"requests": 4, "processed": 3, "distinct": 2, "most_per_second": server.most_in_a_second(0.999)}
    (seen, *_) = server.seen("TraCuuThongTinCongDan")
    assert (seen["request_id"], seen["officer"], seen["unit"], seen["status"]) == (CALL["MaYeuCau"], "canbo01", "000.00.00.H29", 200)


def test_a_chunked_request_is_read(server: National) -> None:
    parts, body, connection = urlsplit(server.url()), request(), plain(server)
    connection.request("POST", parts.path, iter([body[:100], body[100:]]), encode_chunked=True, headers={"Transfer-Encoding": "chunked"})
    assert connection.getresponse().status == 200
