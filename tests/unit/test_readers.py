"""Named readers: every local form, what it becomes, what is refused and why, and the way back."""

from __future__ import annotations

from datetime import date
from zoneinfo import ZoneInfo

import pytest

from lienthong.readers import EPOCH_DAY, READERS, Unreadable, Value, to_date

ZONE = ZoneInfo("Asia/Ho_Chi_Minh")
EIGHT = 1_772_413_200_000_000  # 2026-03-02 08:00 in Hà Nội
HOURS = 8 * 3_600_000_000
DAY = date(2026, 3, 2).toordinal() - EPOCH_DAY


@pytest.mark.parametrize(
    ("reader", "text", "value"),
    [
        ("text", "  Nguye\u0302\u0303n ", "  Nguye\u0302\u0303n "),
        ("trimmed", " a ", "a"),
        ("trimmed", "  ", None),
        ("upper", " hà nội ", "HÀ NỘI"),
        ("vietnamese_name", " Nguye\u0302\u0303n   Thị\tÁnh ", "Nguyễn Thị Ánh"),
        ("integer", "42", 42),
        ("integer", "42.00", 42),
        ("integer", "-7", -7),
        ("boolean", "t", True),
        ("boolean", "Có", True),
        ("boolean", "0", False),
        ("boolean", "không", False),
        ("boolean", "", False),
        ("instant", "2026-03-02T08:00:00", EIGHT),
        ("instant", "2026-03-02T01:00:00Z", EIGHT),
        ("instant", "2026-03-02 08:00:00+07:00", EIGHT),
        ("datetime_compact", "20260302080000", EIGHT),
        ("datetime_compact", " ", None),
        ("datetime_text", "02/03/2026 08:00:00", EIGHT),
        ("day_compact", "20260302", EIGHT - HOURS),
        ("day_text", " 02/03/2026", EIGHT - HOURS),
        ("day_text", "", None),
        ("date", "2026-03-02", DAY),
        ("date_compact", "20260302", DAY),
        ("date_text", "02/03/2026", DAY),
        ("date_text", "", None),
        ("partial_date", "1980", "1980"),
        ("partial_date", "19800000", "1980"),
        ("partial_date", "02/03/1980", "1980-03-02"),
        ("partial_date", "03/1980", "1980-03"),
        ("partial_date", "1980-03", "1980-03"),
        ("partial_date", "1980-03-02 00:00:00", "1980-03-02"),
        ("partial_date", "0", None),
        ("money_text", "1.200.000 đ", 1_200_000),
        ("money_text", "50,000", 50_000),
        ("money_text", "12000VNĐ", 12_000),
        ("money_text", "", None),
        ("personal_number", "079180001234", "079180001234"),
        ("personal_number", "000000001", None),
        ("personal_number", " ", None),
        ("unit_code", "26734", "26734"),
        ("unit_code", "79", "79"),
        ("unit_code", "", None),
    ],
)
def test_reads(reader: str, text: str, value: Value) -> None:
    assert READERS[reader].read(text, ZONE) == value


@pytest.mark.parametrize(
    ("reader", "text", "reason"),
    [
        ("integer", "12a", "not_a_number"),
        ("integer", "1.5", "not_a_number"),
        ("integer", "", "not_a_number"),
        ("boolean", "maybe", "not_a_boolean"),
        ("instant", "yesterday", "impossible_date"),
        ("instant", "0026-03-02T08:00:00", "impossible_date"),
        ("datetime_compact", "20260230080000", "impossible_date"),
        ("datetime_text", "2026-03-02 08:00:00", "impossible_date"),
        ("day_text", "02/03/2026 08:00:00", "impossible_date"),
        ("date", "2026-02-30", "impossible_date"),
        ("date_compact", "20261301", "impossible_date"),
        ("date_text", "31/04/2026", "impossible_date"),
        ("date", "9999-12-31", "impossible_date"),
        ("partial_date", "31/02/1980", "impossible_date"),
        ("partial_date", "1980-13", "impossible_date"),
        ("partial_date", "năm 1980", "impossible_date"),
        ("money_text", "free", "not_an_amount"),
        ("money_text", "1.20.000", "not_an_amount"),
        ("personal_number", "07918000123", "malformed_personal_number"),
        ("personal_number", "07918000123x", "malformed_personal_number"),
        ("personal_number", "０７９１８０００１２３４", "malformed_personal_number"),
        ("unit_code", "2673", "malformed_unit_code"),
    ],
)
def test_refuses_by_kind_and_never_shows_the_value(reader: str, text: str, reason: str) -> None:
    with pytest.raises(Unreadable) as refused:
        READERS[reader].read(text, ZONE)
    assert refused.value.reason == reason
    assert not text or text not in str(refused.value)


@pytest.mark.parametrize(
    ("reader", "value", "text"),
    [
        ("datetime_compact", EIGHT, "20260302080000"),
        ("datetime_text", EIGHT, "02/03/2026 08:00:00"),
        ("day_compact", EIGHT - HOURS, "20260302"),
        ("day_text", EIGHT - HOURS, "02/03/2026"),
        ("instant", EIGHT, "2026-03-02T01:00:00+00:00"),
        ("date", DAY, "2026-03-02"),
        ("date_compact", DAY, "20260302"),
        ("date_text", DAY, "02/03/2026"),
        ("partial_date_compact", "1980-03-02", "19800302"),
        ("partial_date_text", "1980-03-02", "02/03/1980"),
        ("partial_date_text", "1980", "1980"),
        ("money_text", 1_200_000, "1.200.000 đ"),
        ("text", "x", "x"),
        ("boolean", True, True),
    ],
)
def test_writes_what_it_would_read(reader: str, value: Value, text: Value) -> None:
    assert READERS[reader].write(value, ZONE) == text
    if isinstance(text, str):
        assert READERS[reader].read(text, ZONE) == value


@pytest.mark.parametrize("reader", sorted(READERS))
def test_null_is_written_as_null(reader: str) -> None:
    assert READERS[reader].write(None, ZONE) is None


def test_days_are_dates() -> None:
    assert to_date(DAY) == date(2026, 3, 2)
