"""Whose word counts: the authority table resolved for one record. Pure functions of contributions and configuration."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

import schemas
from lienthong.readers import from_micros
from lienthong.settings import DEFAULT_ZONE, Rule, Settings

RECORD = "record"
_ZONE = ZoneInfo(DEFAULT_ZONE)
# The field of a record at which its rules are looked up (protocol R5: a date inside the data, never now).
_DATED_BY = {
    "dossier": ("received_at", "submitted_at"),
    "dossier_event": ("occurred_at",),
    "evaluation": ("rated_at",),
    "citizen": (),
}


@dataclass(frozen=True, slots=True)
class Said:
    """What one system says about one record: its fields (`values`), when, and whether the record exists there."""

    system: str
    version: int
    values: Mapping[str, Any]
    exists: bool = True
    delivered: bool = False


@dataclass(frozen=True, slots=True)
class Golden:
    """The folded record: values, whose word each field group is, and whether it exists."""

    values: dict[str, Any]
    who: dict[str, str]
    deleted: bool


class Authority:
    """The authority table of a configuration."""

    def __init__(self, settings: Settings) -> None:
        self._rules = settings.authority
        self._kinds = {name: f"kind:{system.kind}" for name, system in settings.systems.items()}
        self._by_unit = {unit: name for name, system in settings.systems.items() for unit in system.units}
        self._by_agency = {agency: name for name, system in settings.systems.items() for agency in system.agencies}
        self.rank = lru_cache(maxsize=65536)(self._rank)

    def rule(self, entity: str, group: str, on: date) -> Rule:
        """The rule in force for a field group at a date of the record."""
        rules = self._rules.get(entity, {}).get(group, ())
        for rule in reversed(rules):
            if rule.valid_from <= on:
                return rule
        return rules[0] if rules else Rule(order=("nobody",), basis="no rule configured")

    def _rank(self, system: str, entity: str, group: str, on: date, processing: str | None, receiving: str | None) -> int | None:
        names = {system, self._kinds.get(system, "")}
        if processing == system:
            names.add("@processing")
        if receiving == system:
            names.add("@receiving")
        for position, entry in enumerate(self.rule(entity, group, on).order):
            if entry in names:
                return position
        return None

    def roles(self, routing: Mapping[str, Any]) -> tuple[str | None, str | None]:
        """The systems responsible for processing and for receiving, from a dossier's `routing` group."""
        processing = self._by_agency.get(routing.get("processing_agency_code") or "") or self._by_unit.get(routing.get("processing_unit") or "")
        receiving = self._by_agency.get(routing.get("receiving_agency_code") or "")
        return processing, receiving

    def outranks(self, system: str, holder: str | None, entity: str, group: str, on: date, roles: tuple[str | None, str | None]) -> bool:
        """Whether the system's own word, once it speaks, would count above the present holder's."""
        processing, receiving = roles
        mine = self.rank(system, entity, group, on, processing, receiving)
        theirs = self.rank(holder, entity, group, on, processing, receiving) if holder is not None else None
        return mine is not None and (theirs is None or mine < theirs)

    def always_has_say(self, system: str, entity: str, mask: int) -> bool:
        """Whether every rule of every group among the fields of `mask` names the system or its kind, at every date."""
        names = {system, self._kinds.get(system, "")}
        spoken = {f.group for f in schemas.fields(entity) if mask >> f.index & 1} | {RECORD}
        rules = [self._rules.get(entity, {}).get(group, ()) for group in spoken]
        return all(group_rules and all(names & set(rule.order) for rule in group_rules) for group_rules in rules)

    def date_of(self, entity: str, said: Iterable[Said]) -> date:
        """The date of the record at which rules are looked up: the earliest any system gives."""
        for field in _DATED_BY.get(entity, ()):
            moments = [s.values[field] for s in said if s.values.get(field) is not None]
            if moments:
                return from_micros(min(moments)).astimezone(_ZONE).date()
        return date.max


def ranked(said: Iterable[Said], rank: Callable[[Said], int | None]) -> list[Said]:
    """The contributions that have a say, best first; equal ranks by newest reading, then by name."""
    candidates = [(place, -s.version, s.system, s) for s in said if (place := rank(s)) is not None]
    return [s for *_, s in sorted(candidates, key=lambda c: c[:3])]


def _one_each(contributions: Iterable[Said]) -> dict[str, Said]:
    """Of each system the row that speaks for it: one that exists before one that is gone, then the newest, then by content."""
    said: dict[str, Said] = {}
    for s in contributions:
        held = said.get(s.system)
        if held is None or _precedence(held) < _precedence(s):
            said[s.system] = s
    return said


def _precedence(s: Said) -> tuple[bool, int, bool, str]:
    return s.exists, s.version, not s.delivered, repr(sorted(s.values.items(), key=lambda item: item[0]))


def fold(authority: Authority, entity: str, contributions: Iterable[Said], parent_routing: Mapping[str, Any] | None = None) -> Golden:
    """The golden record: per field group the best-ranked system that speaks about it; a field it leaves out comes from the next.

    Depends only on the set of contributions: any order and any duplication give the same record.
    """
    contributions = tuple(contributions)
    said = _one_each(contributions)
    alive = [s for s in said.values() if s.exists]
    on = authority.date_of(entity, alive)
    routing: Mapping[str, Any] = parent_routing or {}
    values: dict[str, Any] = {}
    who: dict[str, str] = {}

    def order(group: str, among: Iterable[Said]) -> list[Said]:
        processing, receiving = authority.roles(routing)
        return ranked(among, lambda s: authority.rank(s.system, entity, group, on, processing, receiving))

    groups = schemas.groups(entity)
    for group in sorted(groups, key=lambda g: g != "routing"):
        speakers = [s for s in order(group, alive) if any(name in s.values for name in groups[group])]
        for name in groups[group]:
            for s in speakers:
                if name in s.values:
                    values[name] = s.values[name]
                    break
        if speakers:
            who[group] = speakers[0].system
        if group == "routing" and values:
            routing = dict(values)
    # A system's own word about existence counts beside a copy of ours that it holds: one may have been put back just when it deleted its own.
    own = _one_each(s for s in contributions if not s.delivered)
    claims = list((own or said).values())
    existence = order(RECORD, claims)
    deleted = not existence[0].exists if existence else not any(s.exists for s in claims)
    if existence:
        who[RECORD] = existence[0].system
    return Golden(values, who, deleted)
