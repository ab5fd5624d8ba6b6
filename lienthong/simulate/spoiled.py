"""Rows that must be refused, one trap each (domain facts §2.7), and rows whose identifiers collide."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta

from lienthong.simulate.cases import Cases
from lienthong.simulate.model import VIETNAM, Dossier, Person
from lienthong.simulate.people import People
from lienthong.simulate.wards import WARDS

NEVER = "99999"  # a code the register has never had
ENDED = "26734"  # Phường Tân Định of Quận 1: ended on 2025-07-01
NOT_YET = "26732"  # Côn Đảo: its code began on 2025-07-01
SPOILED_NUMBERS = 90000
"""Desk numbers from here on mark spoiled rows, so that the simulator's own clerks leave them alone."""

Spoil = Callable[[Dossier], Dossier]


def _person(dossier: Dossier, **changes: str | None) -> Dossier:
    return replace(dossier, applicant=replace(dossier.applicant, **changes))  # type: ignore[arg-type]


def _short(dossier: Dossier) -> Dossier:
    return _person(dossier, number=(dossier.applicant.number or "")[:11])


def _letters(dossier: Dossier) -> Dossier:
    return _person(dossier, number="07919O0" + (dossier.applicant.number or "")[7:])


def _unknown_unit(dossier: Dossier) -> Dossier:
    return _person(dossier, unit=NEVER)


def _unit_ended(dossier: Dossier) -> Dossier:
    return _person(dossier, unit=ENDED)


def _nameless(dossier: Dossier) -> Dossier:
    return replace(dossier, nameless=True)


def _word(word: str) -> Spoil:
    return lambda dossier: replace(dossier, word=word)


def _impossible(dossier: Dossier) -> Dossier:
    return replace(dossier, submitted="20260231250000")


def _no_procedure(dossier: Dossier) -> Dossier:
    return replace(dossier, procedure=None)


_COMMON: tuple[tuple[str, Spoil], ...] = (
    ("malformed_personal_number", _short), ("malformed_personal_number", _letters), ("unknown_unit", _unknown_unit),
    ("unit_not_valid_then", _unit_ended), ("missing", _nameless),
)  # fmt: skip
TRAPS: dict[str, tuple[tuple[str, Spoil], ...]] = {
    "city-portal": _COMMON,
    "one-stop": (*_COMMON, ("unmapped_word", _word("posting")), ("unmapped_word", _word("interoperating"))),
    "dept-justice": (*_COMMON, ("unmapped_word", _word("CHUYEN_TIEP"))),
    "ward-tan-dinh": (*_COMMON, ("unmapped_word", _word("pausing")), ("unmapped_word", _word("collecting"))),
    "ward-sai-gon": (*_COMMON, ("unmapped_word", _word("correcting")), ("unmapped_word", _word("handover"))),
    "ward-binh-thoi": (
        *_COMMON,
        ("unmapped_word", _word("99")),
        ("impossible_date", _impossible),
        ("missing", _no_procedure),
    ),  # fmt: skip
}


def spoiled_dossiers(cases: Cases, system: str, each: int) -> Iterator[tuple[str, Dossier]]:
    """`each` refused dossiers of every trap of a system, with the reason; without papers, fees or steps."""
    for reason, spoil in TRAPS[system]:
        for _ in range(each):
            dossier = _plain(cases, system)
            yield reason, spoil(dossier)


def _plain(cases: Cases, system: str) -> Dossier:
    if system == "city-portal":
        made = cases.from_portal(ward="ward-sai-gon")
        made.national = cases.national(cases.today, series="G22.90")
    elif system == "one-stop":
        made = cases.from_one_stop()
    elif system == "dept-justice":
        made = cases.from_department()
    else:
        made = cases.from_desk(ward=system)
    if made.national is None:
        made.local = f"{made.counter}-{made.status_at or cases.today:%y%m%d}-{SPOILED_NUMBERS + cases.next_number('spoiled')}"
    made.steps, made.papers, made.fees, made.ratings = [], [], [], []
    return made


def spoiled_people(people: People, system: str, each: int, *, today: datetime) -> Iterator[tuple[str, Person]]:
    """Refused citizens: malformed, placeholder and missing numbers, codes of another time, no birth date, no name."""
    long_ago = datetime(2024, 5, 6, 9, 0, tzinfo=VIETNAM)
    lately = today - timedelta(days=90)
    home = WARDS.get(system, "26743")
    for _ in range(each):
        yield "unit_not_valid_then", people.person(unit=NOT_YET, moved=long_ago)
        yield "unknown_unit", people.person(unit=NEVER, moved=lately)
        yield "missing", replace(people.person(unit=home, moved=lately), birth=None)
        if system == "dept-justice":  # its own constraints keep the other mistakes out
            continue
        yield "malformed_personal_number", replace(people.person(unit=home, moved=lately), number="07909912345")
        yield "missing", replace(people.person(unit=home, moved=lately), number="000000001")
        yield "missing", replace(people.person(unit=home, moved=lately), name=None)


def colliding(cases: Cases, people: People, each: int) -> Iterator[tuple[list[Dossier], list[Person]]]:
    """In the ward whose tables allow it: one national code on two dossiers, one number on two people."""
    for _ in range(each):
        one, other = _plain(cases, "ward-binh-thoi"), _plain(cases, "ward-binh-thoi")
        one.national = other.national = cases.national(cases.today, series="G22.91")
        while other.procedure == one.procedure:
            other = replace(_plain(cases, "ward-binh-thoi"), national=one.national)
        first = people.person(unit=WARDS["ward-binh-thoi"], moved=cases.today - timedelta(days=300))
        second = replace(people.person(unit=WARDS["ward-binh-thoi"], moved=cases.today - timedelta(days=200)), number=first.number)
        second.birth = f"{int((first.birth or '1980')[:4]) + 7}"
        yield [one, other], [first, second]
