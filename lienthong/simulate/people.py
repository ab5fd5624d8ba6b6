"""Invented people: Vietnamese names, personal numbers of valid structure, addresses on real units."""

from __future__ import annotations

import unicodedata
from datetime import date, datetime, timedelta
from functools import cache
from random import Random

from lienthong import units
from lienthong.simulate.model import VIETNAM, Person

_FAMILY = [
    "Nguyễn",
    "Nguyễn",
    "Nguyễn",
    "Nguyễn",
    "Trần",
    "Trần",
    "Lê",
    "Lê",
    "Phạm",
    "Huỳnh",
    "Hoàng",
    "Phan",
    "Vũ",
    "Võ",
    "Đặng",
    "Bùi",
    "Đỗ",
    "Hồ",
    "Ngô",
    "Dương",
    "Lý",
    "Đinh",
    "Trương",
    "Mai",
    "Lâm",
]
_MIDDLE = {
    1: ["Văn", "Hữu", "Đức", "Minh", "Quốc", "Công", "Thành", "Xuân", "Ngọc", "Gia", "Bảo", "Thanh", "Hoàng", "Trọng", "Anh"],
    2: ["Thị", "Thị", "Thị", "Ngọc", "Thu", "Minh", "Kim", "Thanh", "Bích", "Phương", "Hồng", "Khánh", "Mỹ", "Như", "Xuân"],
}
_GIVEN = {
    1: [
        "An",
        "Bình",
        "Cường",
        "Dũng",
        "Đạt",
        "Hải",
        "Hiếu",
        "Hùng",
        "Huy",
        "Khang",
        "Khoa",
        "Kiên",
        "Long",
        "Nam",
        "Nghĩa",
        "Phúc",
        "Quân",
        "Sơn",
        "Tài",
        "Thắng",
        "Tuấn",
        "Vinh",
    ],
    2: [
        "An",
        "Anh",
        "Châu",
        "Chi",
        "Diễm",
        "Dung",
        "Hà",
        "Hạnh",
        "Hiền",
        "Hoa",
        "Huệ",
        "Hương",
        "Lan",
        "Linh",
        "Loan",
        "Mai",
        "Nga",
        "Nhung",
        "Oanh",
        "Quyên",
        "Thảo",
        "Trang",
        "Tuyết",
        "Yến",
    ],
}
_STREETS = (
    "Hai Bà Trưng", "Trần Quang Khải", "Nguyễn Hữu Cầu", "Đồng Khởi", "Lê Lợi", "Pasteur", "Lê Thánh Tôn", "Hàn Thuyên",
    "Lạc Long Quân", "Bình Thới", "Hàn Hải Nguyên", "Ông Ích Khiêm", "Xóm Đất", "Lãnh Binh Thăng",
    "Cách Mạng Tháng Tám",
)  # fmt: skip
_MARITAL = ("Chưa kết hôn", "Đã kết hôn", "Đã ly hôn", "Góa")
_ETHNIC = ("Kinh", "Kinh", "Kinh", "Kinh", "Hoa", "Khmer", "Chăm", "Tày")
_BIRTH_CODES = ("079", "079", "079", "074", "077", "001", "080", "082", "087", "092", "048", "038")
_OLD_PHRASES = ("", " (khu phố 3)", ", hẻm 12", " – tầng 2", ", chung cư “Phố Đông”")


class People:
    """Makes people; the same random state gives the same people, and no personal number twice."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._numbers: set[str] = set()

    def person(self, *, unit: str | None, moved: datetime) -> Person:
        """One citizen who has lived in `unit` (a code of that day) since `moved`."""
        random = self._random
        sex = random.choice((1, 2))
        birth = date(1945, 1, 1) + timedelta(days=random.randrange(365 * 63))
        phone = f"0{random.choice('35789')}{random.randrange(10**8):08d}"
        name = self._name(sex)
        return Person(
            number=self._number(sex, birth.year), name=name, sex=sex, birth=birth.isoformat(),
            birth_place=random.choice(("Thành phố Hồ Chí Minh", "Bình Dương", "Bà Rịa - Vũng Tàu", "Hà Nội",
            "Long An")),
            marital=random.choice(_MARITAL), address=self.address(), unit=unit, moved=moved,
            known=moved + timedelta(days=random.randrange(1, 40)), phone=phone, email=self._email(name),
            reached=moved + timedelta(days=random.randrange(1, 60)), ethnicity=random.choice(_ETHNIC),
            old_number=f"{random.randrange(10**9):09d}" if birth.year < 1998 and random.random() < 0.5 else None,
        )  # fmt: skip

    def _name(self, sex: int) -> str:
        random = self._random
        return f"{random.choice(_FAMILY)} {random.choice(_MIDDLE[sex])} {random.choice(_GIVEN[sex])}"

    def _number(self, sex: int, year: int) -> str:
        """Decree 137/2015 art. 13: place of registration, century and sex, year, six random digits; no check digit."""
        century = (year // 100 - 19) * 2 + (0 if sex == 1 else 1)
        while True:
            number = f"{self._random.choice(_BIRTH_CODES)}{century}{year % 100:02d}{self._random.randrange(10**6):06d}"
            if number not in self._numbers:
                self._numbers.add(number)
                return number

    def address(self) -> str:
        """A street address without its unit."""
        random = self._random
        return f"{random.randrange(1, 400)} {random.choice(_STREETS)}{random.choice(_OLD_PHRASES)}"

    def _email(self, name: str) -> str | None:
        if self._random.random() < 0.3:
            return None
        plain = unicodedata.normalize("NFD", name.lower().replace("đ", "d"))
        letters = "".join(c for c in plain if c.isalnum() and c.isascii())
        return f"{letters}{self._random.randrange(1000)}@example.com"


@cache
def codes_then(unit: str, era: int) -> tuple[str, ...]:
    """The codes that in an era (see `lienthong.units`) wholly became today's `unit`."""
    day = (date(2024, 12, 1), date(2025, 3, 2), date(2026, 1, 1))[era]
    here = units.register().eras[era]
    return tuple(sorted(code for code, u in here.items() if u.level == "ward" and units.resolve(code, day).unit == unit))


@cache
def _wards(era: int) -> tuple[str, ...]:
    return tuple(sorted(code for code, unit in units.register().eras[era].items() if unit.level == "ward"))


def code_of(random: Random, unit: str, on: datetime) -> str:
    """A code that on that day meant (a part of) today's `unit` and nothing else."""
    return random.choice(codes_then(unit, units.era_of(on.astimezone(VIETNAM).date())))


def any_code(random: Random, on: datetime) -> str:
    """Any ward's code of that day; some of them were split later."""
    return random.choice(_wards(units.era_of(on.astimezone(VIETNAM).date())))
