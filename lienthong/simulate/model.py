"""What the simulator invents, before any system's own way of storing it: people, dossiers and what belongs to them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, timezone

VIETNAM = timezone(timedelta(hours=7))

Value = str | int | bool | datetime | date | None
Row = tuple[str, dict[str, Value]]  # table as SQL writes it, column -> value


@dataclass(slots=True, kw_only=True)
class Person:
    """A citizen as one system knows him; `birth` is YYYY or YYYY-MM-DD."""

    number: str | None
    name: str | None
    sex: int
    birth: str | None
    birth_place: str
    marital: str
    address: str
    unit: str | None
    moved: datetime
    known: datetime
    phone: str
    email: str | None
    reached: datetime
    old_number: str | None = None
    ethnicity: str = "Kinh"


@dataclass(slots=True, kw_only=True)
class Step:
    """One status a dossier reached."""

    status: int
    at: datetime
    who: str
    agency: str
    note: str | None = None


@dataclass(slots=True, kw_only=True)
class Paper:
    """One paper of a dossier."""

    code: str
    name: str
    copies: int
    digitised: bool
    reused: bool
    link: str
    digest: str
    valid_until: date | None


@dataclass(slots=True, kw_only=True)
class Fee:
    """One fee of a dossier, in đồng."""

    code: str
    name: str
    amount: int
    method: str
    paid: datetime | None


@dataclass(slots=True, kw_only=True)
class Rating:
    """A citizen's rating of the handling."""

    score: int
    comment: str
    at: datetime


@dataclass(slots=True, kw_only=True)
class Dossier:
    """A dossier with everything that hangs on it; `word` is a local status word that no profile maps."""

    national: str | None
    local: str | None
    procedure: str | None
    title: str
    channel: int
    submitted: datetime | str
    received: datetime | None
    due: datetime | None
    agency: str
    unit: str | None
    counter: str
    applicant: Person
    kind: int = 1
    status: int = 1
    status_at: datetime | None = None
    finished: datetime | None = None
    returned: datetime | None = None
    handler: str | None = None
    opinion: str | None = None
    summary: str | None = None
    note: str | None = None
    result: str | None = None
    result_link: str | None = None
    total: int | None = None
    payment: int = 0
    paid: datetime | None = None
    linked: str | None = None
    word: str | None = None
    nameless: bool = False
    steps: list[Step] = field(default_factory=list)
    papers: list[Paper] = field(default_factory=list)
    fees: list[Fee] = field(default_factory=list)
    ratings: list[Rating] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Procedure:
    """One line of the catalogue of procedures."""

    code: str
    name: str
    field: str
    level: int
    agency: str
    days: int
    days_kind: str
    fee: int
    papers: tuple[tuple[str, str], ...]
