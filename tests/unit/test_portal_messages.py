"""What the national portal is told: every hazard that was seen in adapters of the field is a test that catches it in us."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

import schemas
from lienthong.national import portal_messages as messages
from lienthong.national.papers import place_of
from lienthong.national.portal_messages import LGSP, MINISTRY, Unsendable, compact, digest, dossier_fields, iso, progress_fields, says, step_key
from lienthong.readers import to_micros


def at(*parts: int) -> int:
    return to_micros(datetime(*parts, tzinfo=UTC))  # type: ignore[misc,arg-type]


DOSSIER: dict[str, Any] = {
    "national_code": "H29.26737-260305-0001",
    "local_code": "BN-1",
    "procedure_code": "1.000656.000.00.00.H29",
    "procedure_name": "Đăng ký khai sinh",
    "processing_agency_code": "H29.26737",
    "receiving_agency_code": "H29.01",
    "channel": 2,
    "submitted_at": at(2026, 3, 5, 1, 2, 3),
    "received_at": at(2026, 3, 5, 3),
    "due_at": at(2026, 3, 12, 10),
    "applicant_kind": 1,
    "applicant_name": "Nguyễn Văn An",
    "applicant_personal_number": "079200000001",
    "applicant_phone": "0901234567",
    "status": 4,
    "status_at": at(2026, 3, 6, 2),
}
EVENT: dict[str, Any] = {
    "status": 5,
    "occurred_at": at(2026, 3, 6, 17),
    "handler_name": "Trần Thị Bình",
    "agency_code": "H29.26737",
    "note": "Bổ sung giấy tờ",
}
FEES = [{"fee_code": "LP1", "name": "Lệ phí", "amount": 50000, "method": "1"}]
PAPERS = [
    {"component_code": "TP1", "name": "Tờ khai", "file_link": "https://files/1?t=1", "digitised": True, "reused": False},
    {"component_code": "TP2", "name": "Giấy chứng sinh", "quantity": 2},
]


def of(**changes: Any) -> dict[str, Any]:
    return dossier_fields(LGSP, {**DOSSIER, **changes})


def texts(value: Any) -> list[Any]:
    """Everything that is neither a list nor an object."""
    if isinstance(value, dict | list):
        return [leaf for inside in (value.values() if isinstance(value, dict) else value) for leaf in texts(inside)]
    return [value]


def refusal(**changes: Any) -> Unsendable:
    with pytest.raises(Unsendable) as caught:
        of(**changes)
    return caught.value


# ------------------------------------------------------------------ the message
def test_a_dossier_becomes_the_fields_of_the_message() -> None:
    assert dossier_fields(LGSP, DOSSIER, FEES, PAPERS) == {
        "MaHoSo": "H29.26737-260305-0001",
        "SoBienNhan": "BN-1",
        "MaTTHC": "1.000656.000.00.00.H29",
        "TenTTHC": "Đăng ký khai sinh",
        "DonViXuLy": "H29.26737",
        "NoiNopHoSo": "H29.01",
        "KenhThucHien": "2",
        "NgayNopHoSo": "20260305080203",
        "NgayTiepNhan": "20260305100000",
        "NgayHenTra": "20260312170000",
        "LoaiDoiTuong": "1",
        "ChuHoSo": "Nguyễn Văn An",
        "DinhDanhCHS": [{"LoaiDinhDanh": "1", "SoDinhDanh": "079200000001"}],
        "SoDienThoai": "0901234567",
        "TrangThaiHoSo": "4",
        "DanhSachLePhi": [{"MaPhiLePhi": "LP1", "TenPhiLePhi": "Lệ phí", "HinhThucThu": "1", "Gia": "50000"}],
        "TaiLieuNop": [
            {
                "MaThanhPhanHoSo": "TP1",
                "TenTepDinhKem": "Tờ khai",
                "DuongDanTaiTepTin": "https://files/1?t=1",
                "DuocSoHoa": "1",
                "DuocTaiSuDung": "0",
                "IsDeleted": "False",
            }
        ],
        "DanhSachTepDinhKemKhac": [{"TenGiayTo": "Giấy chứng sinh", "SoLuong": "2"}],
    }


def test_every_value_is_a_text() -> None:
    found = texts(dossier_fields(LGSP, {**DOSSIER, "result_code": "KQ.1", "result_link": "https://x"}, FEES, PAPERS)) + texts(
        progress_fields(LGSP, EVENT)
    )
    assert found
    assert all(isinstance(value, str) for value in found)


def test_instants_are_fourteen_digits_of_the_citys_clock() -> None:
    assert compact(at(2025, 12, 31, 17)) == "20260101000000"
    assert compact(at(2026, 3, 5, 3)) == "20260305100000"
    assert iso(at(2026, 3, 5, 3)) == "2026-03-05T10:00:00+07:00"


def test_a_step_becomes_the_fields_of_its_message() -> None:
    assert progress_fields(LGSP, EVENT) == {
        "ThoiDiemXuLy": "20260307000000",
        "TrangThai": "5",
        "NguoiXuLy": "Trần Thị Bình",
        "PhongBanXuLy": "H29.26737",
        "NoiDungXuLy": "Bổ sung giấy tờ",
    }


def test_every_field_of_the_model_that_is_read_exists() -> None:
    names = {field.name for field in schemas.fields("dossier")}
    assert set(DOSSIER) | set(messages._TEXTS) | set(messages._INSTANTS) <= names
    assert set(EVENT) <= {field.name for field in schemas.fields("dossier_event")}


# ------------------------------------------------------------------ statuses
@pytest.mark.parametrize("status", range(1, 11))
def test_a_status_is_never_rewritten(status: int) -> None:
    """Adapters turned 5, 6 and 8 into 9, which looks better in the index."""
    assert of(status=status)["TrangThaiHoSo"] == str(status)
    assert progress_fields(LGSP, {**EVENT, "status": status})["TrangThai"] == str(status)


@pytest.mark.parametrize("status", [None, 0, 11, 19, -1])
def test_a_status_that_is_none_of_the_ten_is_refused_and_not_sent_empty(status: int | None) -> None:
    assert refusal(status=status).field == "TrangThaiHoSo"
    with pytest.raises(Unsendable):
        progress_fields(LGSP, {**EVENT, "status": status})


def test_the_day_of_a_refusal_is_told_only_of_a_refused_dossier() -> None:
    assert of(status=3)["NgayTuChoi"] == "20260306090000"
    assert "NgayTuChoi" not in of(status=4)


# ------------------------------------------------------------------ nothing invented
def test_a_missing_national_code_is_refused_and_not_invented() -> None:
    """Adapters gave such dossiers five random digits."""
    assert refusal(national_code=None).field == "MaHoSo"


@pytest.mark.parametrize("code", ["H29.26737-260305-0001", "000.00.12.H29-240305-0007", "H29.01.02-20240305-0000007"])
def test_a_dossier_without_a_national_code_goes_by_its_own_where_that_has_the_national_form(code: str) -> None:
    assert of(national_code=None, local_code=code)["MaHoSo"] == code
    assert of(local_code=code)["MaHoSo"] == DOSSIER["national_code"]


@pytest.mark.parametrize("code", ["BN-1", "H29.26737-2603-0001", "26737/2026/12", "H29.26737-260305-1; x"])
def test_a_local_number_is_no_code_for_the_portal(code: str) -> None:
    assert refusal(national_code=None, local_code=code).field == "MaHoSo"


def test_a_missing_result_is_not_made_from_the_papers_handed_in() -> None:
    assert "DanhSachGiayToKetQua" not in dossier_fields(LGSP, {**DOSSIER, "status": 10}, (), PAPERS)
    assert of(result_code="KQ.G07.000122")["DanhSachGiayToKetQua"] == [{"MaGiayToKetQua": "KQ.G07.000122"}]


def test_a_missing_summary_is_left_out_and_not_filled() -> None:
    """Adapters sent `Dinhkem`."""
    assert "TrichYeuHoSo" not in of(summary=None)
    assert "TrichYeuHoSo" not in of(summary="")


def test_the_phone_is_no_fax() -> None:
    assert "Fax" not in of()


@pytest.mark.parametrize("number", [None, "000000001", "000000000", "000000000000"])
def test_what_stands_for_a_missing_number_is_no_number(number: str | None) -> None:
    assert "DinhDanhCHS" not in of(applicant_personal_number=number)


def test_the_kind_of_number_follows_its_length() -> None:
    assert of(applicant_personal_number="024000001")["DinhDanhCHS"][0]["LoaiDinhDanh"] == "2"
    assert refusal(applicant_personal_number="07920000000").field == "DinhDanhCHS"


@pytest.mark.parametrize(
    ("field", "theirs"), [("procedure_code", "MaTTHC"), ("processing_agency_code", "DonViXuLy"), ("applicant_kind", "LoaiDoiTuong")]
)
def test_a_mandatory_field_that_nobody_told_is_named(field: str, theirs: str) -> None:
    assert refusal(**{field: None}).field == theirs


def test_a_step_without_its_time_is_refused_and_not_dated_today() -> None:
    with pytest.raises(Unsendable) as caught:
        progress_fields(LGSP, {**EVENT, "occurred_at": None})
    assert caught.value.field == "ThoiDiemXuLy"


def test_a_step_whose_officer_nobody_told_is_sent_without_one() -> None:
    assert "NguoiXuLy" not in progress_fields(LGSP, {**EVENT, "handler_name": None})


# ------------------------------------------------------------------ nothing cut
def test_a_summary_too_long_is_refused_and_not_cut() -> None:
    assert len(of(summary="ạ" * 1000)["TrichYeuHoSo"]) == 1000
    error = refusal(summary="ạ" * 1001)
    assert error.field == "TrichYeuHoSo"
    assert "1001 characters, where the portal takes 1000" in str(error)
    assert "ạ" not in str(error)


def test_an_officers_name_too_long_is_refused_and_not_cut() -> None:
    """Adapters cut it to 50."""
    assert len(progress_fields(LGSP, {**EVENT, "handler_name": "B" * 50})["NguoiXuLy"]) == 50
    with pytest.raises(Unsendable) as caught:
        progress_fields(LGSP, {**EVENT, "handler_name": "B" * 51})
    assert caught.value.field == "NguoiXuLy"


def test_what_is_no_text_is_refused() -> None:
    assert refusal(applicant_name="An\udc80").field == "ChuHoSo"


# ------------------------------------------------------------------ lists that differ by version
def test_the_kinds_of_applicant_follow_the_list_of_the_version() -> None:
    assert [of(applicant_kind=kind)["LoaiDoiTuong"] for kind in (1, 2, 3, 4)] == ["1", "2", "3", "4"]
    assert [dossier_fields(MINISTRY, {**DOSSIER, "applicant_kind": kind})["LoaiDoiTuong"] for kind in (1, 2)] == ["0", "1"]


@pytest.mark.parametrize("kind", [3, 4])
def test_a_kind_of_applicant_that_the_list_lacks_is_refused_and_not_sent_as_another(kind: int) -> None:
    with pytest.raises(Unsendable) as caught:
        dossier_fields(MINISTRY, {**DOSSIER, "applicant_kind": kind})
    assert caught.value.field == "LoaiDoiTuong"


def test_an_agreement_may_have_a_list_of_its_own() -> None:
    form = messages.form_of("lgsp", {1: "1", 3: "4"})
    assert dossier_fields(form, {**DOSSIER, "applicant_kind": 3})["LoaiDoiTuong"] == "4"


def test_the_ministry_issues_the_code_and_writes_times_its_own_way() -> None:
    fields = dossier_fields(MINISTRY, {**DOSSIER, "national_code": None})
    assert "MaHoSo" not in fields
    assert fields["NgayTiepNhan"] == "2026-03-05T10:00:00+07:00"


# ------------------------------------------------------------------ comparing
def test_links_do_not_count_in_digests() -> None:
    """Systems put a time stamp into them, so the same dossier would differ at every send."""
    moved = [{**PAPERS[0], "file_link": "https://files/1?t=2"}, PAPERS[1]]
    same = dossier_fields(LGSP, {**DOSSIER, "result_link": "a"}, FEES, PAPERS), dossier_fields(LGSP, {**DOSSIER, "result_link": "b"}, FEES, moved)
    assert same[0] != same[1]
    assert digest(same[0]) == digest(same[1])
    assert digest(same[0]) != digest(dossier_fields(LGSP, {**DOSSIER, "status": 5}, FEES, PAPERS))


def test_a_dossier_read_back_says_what_was_sent_or_not() -> None:
    sent = dossier_fields(LGSP, DOSSIER, FEES, PAPERS)
    assert says({**sent, "TenLinhVuc": "more than we sent"}, sent)
    assert not says({**sent, "TrangThaiHoSo": "2"}, sent)
    assert not says({name: value for name, value in sent.items() if name != "DanhSachLePhi"}, sent)


def test_a_step_is_known_by_time_status_and_unit() -> None:
    fields = progress_fields(LGSP, EVENT)
    assert step_key({**fields, "NoiDungXuLy": "other words"}) == step_key(fields)
    for change in ({"ThoiDiemXuLy": "20260307000001"}, {"TrangThai": "4"}, {"PhongBanXuLy": "H29.1"}):
        assert step_key({**fields, **change}) != step_key(fields)


# ------------------------------------------------------------------ papers where the portal takes files
def test_the_hash_a_system_tells_of_a_paper_goes_along_only_where_files_are_put() -> None:
    papers = [{"component_code": "TP1", "file_link": "https://files/1", "file_hash": "A" * 64}]
    assert dossier_fields(MINISTRY, DOSSIER, (), papers)["TaiLieuNop"][0]["HashTepTin"] == "a" * 64
    assert "HashTepTin" not in dossier_fields(LGSP, DOSSIER, (), papers)["TaiLieuNop"][0]
    for no_sha256 in ("d41d8cd98f00b204e9800998ecf8427e", "", None):
        told = [{**papers[0], "file_hash": no_sha256}]
        assert "HashTepTin" not in dossier_fields(MINISTRY, DOSSIER, (), told)["TaiLieuNop"][0]


def test_the_field_of_the_procedure_is_told_where_it_is_known() -> None:
    assert dossier_fields(LGSP, DOSSIER, field="G15-TP01")["MaLinhVuc"] == "G15-TP01"
    assert "MaLinhVuc" not in dossier_fields(LGSP, DOSSIER)
    assert "TenLinhVuc" not in dossier_fields(LGSP, DOSSIER, field="G15-TP01")


@pytest.mark.parametrize(
    ("link", "place"),
    [
        ("https://files.city/papers/1.pdf?t=1", "https://files.city/papers/"),
        ("https://files.city/papers/a/b%20c.pdf", "https://files.city/papers/"),
        ("https://files.city/other/1.pdf", None),
        ("https://files.city.evil/papers/1.pdf", None),
        ("https://user@files.city/papers/1.pdf", None),
        ("http://files.city/papers/1.pdf", None),
        ("https://files.city/papers/../secret", None),
        ("https://files.city/papers/%2e%2e/secret", None),
        ("https://files.city/papers/..%5csecret", None),
        ("https://files.city/papers/a b\r\nHost: x", None),
        ("https://[files/papers/1.pdf", None),
        ("file:///etc/passwd", None),
        ("/papers/1.pdf", None),
    ],
)
def test_papers_are_fetched_from_configured_places_only(link: str, place: str | None) -> None:
    assert place_of(link, ("https://files.city/papers/",)) == place
