"""The register of administrative units with its dates: which codes are valid when, and which unit of today they mean.

A code without a date means nothing: 167 of today's 168 codes were in use before 2025-07-01, 122 for another place.
The register has three eras; the changes of 2025-03-01 kept every code, so they fall inside the second.
Sources, gaps and licences: `data/README.md`.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date
from functools import cache, lru_cache
from importlib import resources
from typing import Literal

MERGER = date(2025, 1, 1)
ONE_CITY = date(2025, 7, 1)
REGISTER_STARTS = date(2024, 11, 1)
CITY = "79"
FORMER_PROVINCES = ("74", "77")

UnitRule = Literal["unchanged", "whole", "part"]


class UnknownUnit(KeyError):  # noqa: N818 - the fact is the name
    """The register has never had this code."""


class UnitNotValidThen(KeyError):  # noqa: N818 - the fact is the name
    """The register has the code, but not on that date."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """One administrative unit for one interval; the same code can be another unit at another time.

    `valid_from` of the oldest units is the oldest snapshot's day; `valid_to` is the first day no longer valid.
    """

    code: str
    name: str
    full_name: str
    unit_type: str
    level: str
    parent_code: str | None
    valid_from: date
    valid_to: date | None
    legal_basis: str | None


@dataclass(frozen=True, slots=True)
class Resolved:
    """Today's unit for a code of then: None where the old unit was split or has no single successor."""

    unit: str | None
    rule: UnitRule


@dataclass(frozen=True, slots=True)
class Link:
    """One old unit going, whole or in part, into one new unit on a day."""

    day: date
    old: str
    new: str
    relation: Literal["whole", "part"]
    same: bool  # code and name both stayed
    legal_basis: str


@dataclass(frozen=True, slots=True)
class Register:
    """The three eras, each code -> row, and the links between them."""

    eras: tuple[dict[str, Unit], ...]
    links: tuple[Link, ...]
    onward: dict[tuple[int, str], tuple[Link, ...]]  # (era, code) -> where it went at the era's end
    inward: dict[tuple[int, str], int]  # (era, code) -> how many units went into it at the era's start


def era_of(on: date) -> int:
    """0 before 2025-01-01, 1 before 2025-07-01, 2 from then."""
    return 2 if on >= ONE_CITY else 1 if on >= MERGER else 0


def known(code: str, on: date) -> bool:
    """Whether the register has this code on that day."""
    return code in register().eras[era_of(on)]


def resolve(code: str, on: date) -> Resolved:
    """Today's unit for a code that was written on `on`; raises `UnknownUnit` or `UnitNotValidThen`."""
    return _resolve(code, era_of(on))


@lru_cache(maxsize=4096)
def _resolve(code: str, era: int) -> Resolved:
    here = register()
    if code not in here.eras[era]:
        ever = any(code in units for units in here.eras)
        raise UnitNotValidThen(code) if ever else UnknownUnit(code)
    rule: UnitRule = "unchanged"
    while era < len(here.eras) - 1:
        step = _step(code, era)
        if step.unit is None:
            return step
        code, era = step.unit, era + 1
        rule = rule if step.rule == "unchanged" else step.rule
    return Resolved(code, rule)


def _step(code: str, era: int) -> Resolved:
    """Where a unit went at the end of its era."""
    here = register()
    links = here.onward.get((era, code), ())
    if not links:
        same = code in here.eras[era + 1]
        return Resolved(code, "unchanged") if same else Resolved(None, "part")
    if len(links) > 1 or links[0].relation == "part":
        return Resolved(None, "part")
    link = links[0]
    alone = here.inward[(era + 1, link.new)] == 1
    return Resolved(link.new, "unchanged" if link.same and alone else "whole")


def predecessors(code: str) -> tuple[Link, ...]:
    """Every link that leads, over one or two changes, to today's unit `code`, newest first; raises `UnknownUnit`."""
    here = register()
    if code not in here.eras[2]:
        raise UnknownUnit(code)
    direct = tuple(link for link in here.links if link.day == ONE_CITY and link.new == code)
    old = {link.old for link in direct}
    earlier = tuple(link for link in here.links if link.day < ONE_CITY and link.new in old)
    return direct + tuple(sorted(earlier, key=lambda link: link.day, reverse=True))


def successors(code: str, on: date) -> tuple[str, ...]:
    """All units of today that hold a part of what `code` meant on that day; raises like `resolve`."""
    resolved = resolve(code, on)
    if resolved.unit is not None:
        return (resolved.unit,)
    here, codes, era = register(), {code}, era_of(on)
    while era < len(here.eras) - 1:
        codes = {new for old in codes for new in _onward(here, old, era)}
        era += 1
    return tuple(sorted(codes))


def _onward(here: Register, code: str, era: int) -> Iterator[str]:
    links = here.onward.get((era, code), ())
    if links:
        yield from (link.new for link in links)
    elif code in here.eras[era + 1]:
        yield code


@cache
def all_units() -> tuple[Unit, ...]:
    """Every unit of every era, with its interval; one that did not change between two eras appears once."""
    first, second, third = register().eras
    going_on = {code for code, unit in first.items() if _goes_on(unit, second.get(code))}
    ended = [unit for code, unit in first.items() if code not in going_on]
    middle = [replace(unit, valid_from=REGISTER_STARTS) if code in going_on else unit for code, unit in second.items()]
    return (*ended, *middle, *third.values())


def _goes_on(unit: Unit, after: Unit | None) -> bool:
    """Whether a unit of the first era is the same one in the second."""
    if after is None or after.parent_code != unit.parent_code:
        return False
    return _step(unit.code, 0) == Resolved(unit.code, "unchanged")


# ------------------------------------------------------------------ reading the files
@cache
def register() -> Register:
    """The register, read once from the package's data files."""
    links = tuple(_links())
    before = list(_rows("admin_units_before_2025.csv"))
    first = _era(before, "2024-11-01", REGISTER_STARTS, MERGER)
    second = _era(before, "2025-03-01", MERGER, ONE_CITY)
    third = {row["code"]: _unit(row, ONE_CITY, None) for row in _rows("admin_units_2025.csv")}
    city = second[CITY]
    third[CITY] = Unit(
        code=CITY, name=city.name, full_name=city.full_name, unit_type=city.unit_type, level="province",
        parent_code=None, valid_from=ONE_CITY, valid_to=None, legal_basis="202/2025/QH15",
    )  # fmt: skip
    onward: dict[tuple[int, str], list[Link]] = {}
    inward: dict[tuple[int, str], int] = {}
    for link in links:
        # 2025-03-01 renamed without moving a code: 26707, 26710 and 754 stay what they are inside the second era.
        if link.day in (MERGER, ONE_CITY):
            era = era_of(link.day) - 1
            onward.setdefault((era, link.old), []).append(link)
            inward[(era + 1, link.new)] = inward.get((era + 1, link.new), 0) + 1
    return Register((first, second, third), links, {key: tuple(found) for key, found in onward.items()}, inward)


def _era(rows: list[dict[str, str]], snapshot: str, start: date, end: date) -> dict[str, Unit]:
    return {row["code"]: _unit(row, start, end) for row in rows if row["snapshot"] == snapshot}


def _unit(row: dict[str, str], start: date, end: date | None) -> Unit:
    return Unit(
        code=row["code"], name=row["name"], full_name=row["full_name"], unit_type=row["unit_type"], level=row["level"],
        parent_code=row["parent_code"] or None, valid_from=start, valid_to=end,
        legal_basis=row.get("legal_basis") or None,
    )  # fmt: skip


def _links() -> Iterator[Link]:
    for row in _rows("admin_unit_succession.csv"):
        yield Link(
            date.fromisoformat(row["effective_date"]), row["old_code"], row["new_code"],
            "part" if row["relation"] == "part" else "whole",
            row["same_code"] == "1" and row["same_name"] == "1", row["legal_basis"],
        )  # fmt: skip
    for code in (CITY, *FORMER_PROVINCES):
        yield Link(ONE_CITY, code, CITY, "whole", code == CITY, "202/2025/QH15")


def _rows(name: str) -> Iterator[dict[str, str]]:
    text = resources.files("lienthong").joinpath("data", name).read_text(encoding="utf-8-sig")
    yield from csv.DictReader(text.splitlines())
