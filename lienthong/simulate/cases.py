"""Dossiers of every age and fate: where they were handed in, who handles them, and how far they have come."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import date, datetime, timedelta
from random import Random

from lienthong.deadlines import Calendar
from lienthong.simulate.catalogue import JUSTICE_PROCEDURES, WARD_PROCEDURES
from lienthong.simulate.model import VIETNAM, Dossier, Fee, Paper, Person, Procedure, Rating, Step
from lienthong.simulate.people import People, any_code, code_of
from lienthong.simulate.wards import WARDS

ONE_CITY = datetime(2025, 7, 2, 8, 0, tzinfo=VIETNAM)
OLDEST = datetime(2024, 3, 4, 8, 0, tzinfo=VIETNAM)
PORTAL_COUNTER, ONE_STOP_COUNTER, JUSTICE = "H29.99", "H29.01", "H29.15"
# Agencies of districts that ended on 2025-07-01 still stand in old dossiers. All agency ids here are invented.
CLOSED = {"26737": "H29.21", "26740": "H29.21", "27232": "H29.31"}

SECOND = timedelta(seconds=1)
PATHS = ((1,), (1, 3), (1, 2), (1, 2, 4), (1, 2, 4, 5), (1, 2, 4, 5, 4), (1, 2, 4, 6), (1, 2, 4, 8), (1, 2, 7),
         (1, 2, 4, 9), (1, 2, 4, 9, 10), (1, 2, 4, 5, 4, 9, 10), (1, 2, 4, 6, 4, 9, 10))  # fmt: skip
_WEIGHTS = (6, 2, 8, 14, 7, 4, 3, 2, 2, 10, 26, 10, 6)
_STAFF = ("Lê Thị Hạnh", "Phạm Quốc Dũng", "Trần Minh Châu", "Nguyễn Thu Trang", "Vũ Đức Long", "Hồ Kim Oanh")
_NOTES = (None, None, None, "Đã đối chiếu bản chính", "Nhận kết quả tại nhà", "Liên hệ trước khi đến; hẹn\tsau 14 giờ",
          "Hồ sơ liên quan\nđến thửa đất số 12", 'Công dân ghi: "gấp"', "C:\\scan\\2025")  # fmt: skip
PORTAL_DAYS = 25
FRESH_SHARE = 0.12
"""Of the dossiers of the last days at the portal, how many nobody has received yet; the law gives one working day for it."""
SPARE_HOURS = 4
"""So long stay those that nobody has received within their working day, while somebody looks at the city."""
_COMMENTS = ("Rất hài lòng", "Hài lòng", "Chờ hơi lâu", "Cán bộ tận tình", "Phải bổ sung nhiều lần")


class Cases:
    """Makes dossiers of the time up to `today`; the same random state gives the same ones, as long before it, and no code twice unless asked."""

    def __init__(self, random: Random, people: People, *, today: datetime, first_number: int = 0) -> None:
        self.today = today.astimezone(VIETNAM).replace(minute=0, second=0, microsecond=0)
        self._unreceived_since = unreceived_since(self.today)
        self._random = random
        self._people = people
        self._first = first_number
        self._numbers: dict[str, int] = {}

    # -------------------------------------------------------- codes
    def next_number(self, series: str) -> int:
        """The next number of a series of codes."""
        self._numbers[series] = self._numbers.get(series, self._first) + 1
        return self._numbers[series]

    def national(self, on: datetime, *, series: str = "G22.99") -> str:
        """A code issued centrally: 8-digit date, 7-digit number (the ministries' form of 2026)."""
        return f"{series}-{on.astimezone(VIETNAM):%Y%m%d}-{self.next_number(series):07d}"

    def desk_code(self, agency: str, on: datetime) -> str:
        """A code of a counter; for dossiers before the merger in one of the older forms."""
        day = on.astimezone(VIETNAM)
        if day.date() >= date(2025, 7, 1):
            return f"{agency}-{day:%y%m%d}-{self.next_number(agency):04d}"
        number = self.next_number("closed agencies")
        forms = (f"000.00.{number % 40:02d}.H29-{day:%y%m%d}-{number:04d}",
            f"{agency}.{number % 9:02d}-{day:%y%m%d}-{number:04d}",
                 f"{agency}-{day:%Y%m%d}-{number:07d}")  # fmt: skip
        return forms[number % 3]

    # -------------------------------------------------------- kinds of dossiers
    def from_portal(self, *, ward: str | None, on: datetime | None = None) -> Dossier:
        """Filed online, for the ward or with `ward` None for the department of justice; not received where that is no working day ago."""
        path: tuple[int, ...] = (1,)
        if on is None and self._random.random() < FRESH_SHARE:
            on = self._moment(self._unreceived_since, self.today, office_hours=False)
        elif on is None:
            on = self._moment(self.today - timedelta(days=PORTAL_DAYS), self._unreceived_since)
            path = self._received_path()
        return self._dossier(ward=ward, counter=PORTAL_COUNTER, on=on, path=path, channel=2, national=True)

    def from_desk(self, *, ward: str, processing: str | None = None, old: bool = False, on: datetime | None = None) -> Dossier:
        """Handed in at a ward's desk, for this ward or (any counter of the city will do) for another one."""
        unit = WARDS[ward]
        moment = on or (self._moment(OLDEST, ONE_CITY - timedelta(days=5)) if old else self._moment(ONE_CITY, self.today))
        path = (1,) if processing or on else self._path(old=old)
        return self._dossier(ward=processing or ward, counter=CLOSED[unit] if old else f"H29.{unit}", on=moment, path=path, channel=1, national=False)

    def from_department(self) -> Dossier:
        """Handed in at the department of justice itself."""
        moment = self._moment(ONE_CITY, self.today)
        return self._dossier(ward=None, counter=JUSTICE, on=moment, path=self._path(old=False), channel=1, national=False)

    def from_one_stop(self) -> Dossier:
        """Handed in at the city's centre for the department of justice."""
        moment = self._moment(self.today - timedelta(days=30), self.today)
        return self._dossier(ward=None, counter=ONE_STOP_COUNTER, on=moment, path=(1, 2), channel=1, national=False)

    def in_both(self, *, ward: str) -> tuple[Dossier, Dossier]:
        """One dossier as the portal and as the ward know it: the ward further on, and with a few other words."""
        moment = self._moment(ONE_CITY, self.today - timedelta(days=20))
        at_ward = self._dossier(ward=ward, counter=f"H29.{WARDS[ward]}", on=moment, path=self._received_path(), channel=2, national=True)
        at_ward.local = self.desk_code(f"H29.{WARDS[ward]}", moment)
        at_portal = replace(
            at_ward, status=1, status_at=moment, due=None, finished=None, returned=None, handler=None, opinion=None,
            result=None, result_link=None, payment=min(at_ward.payment, 1), paid=None, steps=at_ward.steps[:1],
            fees=[], summary=at_ward.summary, applicant=replace(at_ward.applicant),
        )  # fmt: skip
        at_ward.steps, at_ward.papers = at_ward.steps[1:], []
        if self._random.random() < 0.4:  # the ward's clerk typed another address: intake is the portal's word
            at_ward.applicant = replace(at_ward.applicant, address=self._people.address())
        if at_ward.status == 10 and self._random.random() < 0.5:
            at_portal.ratings = [self.rating(at_ward.status_at or moment)]
        return at_portal, at_ward

    # -------------------------------------------------------- parts
    def _dossier(self, *, ward: str | None, counter: str, on: datetime, path: tuple[int, ...], channel: int, national: bool) -> Dossier:
        random = self._random
        procedure = random.choice(WARD_PROCEDURES if ward else JUSTICE_PROCEDURES)
        unit = WARDS[ward] if ward else None
        agency = JUSTICE if unit is None else CLOSED[unit] if on < ONE_CITY else f"H29.{unit}"
        dossier = Dossier(
            national=self.national(on) if national else None, local=None if national else self.desk_code(counter, on),
            procedure=procedure.code, title=procedure.name, channel=channel, submitted=on, received=None, due=None,
            agency=agency, unit=code_of(random, unit, on) if unit else None, counter=counter,
            applicant=self._applicant(on),
            summary=f"{procedure.name} – hồ sơ của công dân", note=random.choice(_NOTES),
            papers=self.papers(procedure), total=procedure.fee, payment=1 if procedure.fee else 0,
            kind=random.choice((1, 1, 1, 1, 1, 2, 3, 4)),
        )  # fmt: skip
        if channel == 1 or len(path) > 1:
            dossier.received = on + timedelta(minutes=20)
        self._walk(dossier, procedure, path)
        return dossier

    def _walk(self, dossier: Dossier, procedure: Procedure, path: tuple[int, ...]) -> None:
        random, at = self._random, dossier.submitted
        assert isinstance(at, datetime)
        for position, status in enumerate(path):
            wait = timedelta(minutes=random.randrange(30, 2000))
            at = at if position == 0 else at + min(wait, (self.today - at) // 2 // SECOND * SECOND)
            who = "Cổng dịch vụ công" if position == 0 and dossier.channel == 2 else random.choice(_STAFF)
            dossier.steps.append(Step(status=status, at=at, who=who, agency=dossier.agency, note=random.choice(_NOTES)))
            advance(dossier, status, at, who, procedure.days)
        if dossier.payment == 2 and procedure.fee:
            dossier.fees.append(self.fee(procedure, dossier.paid))

    def fee(self, procedure: Procedure, paid: datetime | None) -> Fee:
        """The fee of a procedure."""
        method = self._random.choice(("tiền mặt", "chuyển khoản", "trực tuyến"))
        return Fee(code=f"LP-{procedure.code[:8]}", name=f"Lệ phí {procedure.name}", amount=procedure.fee, method=method, paid=paid)

    def papers(self, procedure: Procedure) -> list[Paper]:
        """Some of the procedure's papers."""
        random, out = self._random, []
        for code, name in random.sample(procedure.papers, random.randrange(1, len(procedure.papers) + 1)):
            number = self.next_number("paper")
            digest = hashlib.sha256(f"{code}{number}".encode()).hexdigest()
            valid = self.today.date() + timedelta(days=random.randrange(-200, 900)) if random.random() < 0.3 else None
            out.append(Paper(
                code=code, name=name, copies=random.randrange(1, 4), digitised=random.random() < 0.8,
                reused=random.random() < 0.2, link=f"https://kho.example.vn/{number:07d}.pdf", digest=digest,
                valid_until=valid,
            ))  # fmt: skip
        return out

    def rating(self, after: datetime) -> Rating:
        """What a citizen thinks of it, a while after the result."""
        at = after + timedelta(minutes=self._random.randrange(10, 3000))
        return Rating(score=self._random.choice((5, 5, 4, 4, 3, 2, 1)), comment=self._random.choice(_COMMENTS), at=at)

    def _applicant(self, on: datetime) -> Person:
        person = self._people.person(unit=any_code(self._random, on), moved=on - timedelta(days=400))
        if person.birth and self._random.random() < 0.15:
            person.birth = person.birth[:4]
        return person

    def _path(self, *, old: bool) -> tuple[int, ...]:
        path = self._random.choices(PATHS, _WEIGHTS)[0]
        return (1, 2, 4, 9, 10) if old and self._random.random() < 0.7 else path

    def _received_path(self) -> tuple[int, ...]:
        return self._random.choices(PATHS[1:], _WEIGHTS[1:])[0]

    def _moment(self, start: datetime, end: datetime, *, office_hours: bool = True) -> datetime:
        """A moment of the span, a while before today; it takes as much of the random state whatever day it is."""
        end = min(end, self.today - timedelta(hours=1))
        moment = start + timedelta(seconds=int(self._random.random() * (end - start).total_seconds()))
        return min(moment.replace(hour=8 + moment.hour % 9), end) if office_hours else moment


def unreceived_since(now: datetime) -> datetime:
    """Since when what was filed online may be unreceived for some hours yet: one working day is not over."""
    calendar, hour = Calendar.load(), timedelta(hours=1)
    since = now
    while calendar.add_working_days(since - hour, 1) > now + SPARE_HOURS * hour:
        since -= hour
    return since


def advance(dossier: Dossier, status: int, at: datetime, who: str, days: int) -> None:
    """Bring a dossier to a status, with everything that follows from it."""
    dossier.status, dossier.status_at = status, at
    if status == 1:
        return
    dossier.handler = who
    if dossier.due is None and status == 2:
        dossier.due = at + timedelta(days=days + days // 5 * 2)
    if status in (3, 8):
        dossier.opinion = "Hồ sơ không đủ điều kiện giải quyết"
    if status == 5:
        dossier.opinion = "Đề nghị bổ sung giấy tờ"
    if status == 9:
        dossier.finished, dossier.opinion = at, "Đã ký"
        dossier.result = f"KQ-{dossier.local or dossier.national}"
    if status == 10:
        dossier.returned = at
        name = hashlib.sha256((dossier.result or "").encode()).hexdigest()[:12]
        dossier.result_link = f"https://kho.example.vn/kq/{name}.pdf"
        if dossier.total:
            dossier.payment, dossier.paid = 2, at
