"""One dossier on its way to one system: was it sent, has the system acknowledged it, and if not, why probably not."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from connectors.postgres import Cursor, rows
from lienthong import status
from lienthong.advice import advice
from lienthong.contracts import Terms, terms_of
from lienthong.settings import Settings

FINE = ("normal", "running")
Pair = tuple[int, str]
"""Record and system."""

_FACTS = """
SELECT k.record, k.system, e.state::text, e.version, c.seen, c.rows > 0, c.at, coalesce(a.version, d.version), coalesce(a.seen_at, d.answered_at)
FROM unnest(%s::bigint[], %s::text[]) AS k(record, system)
LEFT JOIN hub.entitled e ON e.record = k.record AND e.system = k.system
LEFT JOIN hub.acknowledged a ON a.record = k.record AND a.system = k.system
LEFT JOIN LATERAL (SELECT max(seen) AS seen, count(*) AS rows, max(at) FILTER (WHERE seen IS NOT NULL) AS at FROM hub.contribution c
                   WHERE c.record = k.record AND c.system = k.system AND c.op = 's') c ON true
LEFT JOIN LATERAL (SELECT p.version, max(m.answered_at) AS answered_at FROM hub.delivery_part p
                   JOIN hub.delivery m ON m.system = p.system AND m.dossier = p.record
                   WHERE p.system = k.system AND p.entity = 'dossier' AND p.record = k.record GROUP BY p.version
                   HAVING bool_and(m.state = 'confirmed' OR m.cured_at IS NOT NULL)) d ON true
"""
"""The national portal acknowledges by its answers: when nothing that its ledger has of a dossier is open."""
_WAITING = "SELECT DISTINCT record FROM hub.changed WHERE record = ANY(%s)"
_OPEN = "SELECT substr(name, 6) FROM hub.setting WHERE name LIKE 'open %'"


@dataclass(frozen=True, slots=True, kw_only=True)
class Handover:
    """What the hub knows of one dossier at one system. Versions are those of the router; `at` is µs."""

    record: int
    system: str
    sent: int | None  # the version that was sent, while the system is entitled to it
    acknowledged: int | None  # the newest version that the system was seen to have applied
    acknowledged_at: int | None  # when: its own commit, as its next reading told; or when it was asked
    speaks: bool  # it has a row of it and has told so
    waits: bool  # a change of it is on the router's list
    parked: str | None = None  # why the system refuses it

    @property
    def holds(self) -> bool:
        """Whether the system is proven to have it, in whatever state."""
        return self.speaks or self.acknowledged is not None

    @property
    def is_current(self) -> bool:
        """Whether the system is proven to have all of it that the hub has for it."""
        if self.waits or self.parked:
            return False
        return self.speaks if self.sent is None else self.acknowledged is not None and self.acknowledged >= self.sent


@dataclass(frozen=True, slots=True)
class Cause:
    """Why something has not happened, as far as can be seen: a word, a sentence, and what to do."""

    kind: str
    reason: str
    advice: str


@dataclass(slots=True)
class Round:
    """What is the same for all dossiers that are looked at together: lines, contracts, who is delivered to."""

    settings: Settings
    lines: dict[tuple[str, str], dict[str, Any]]
    terms: dict[str, Terms] = field(default_factory=dict)
    opened: frozenset[str] = frozenset()

    @classmethod
    def look(cls, cursor: Cursor, settings: Settings) -> Round:
        """As it stands now."""
        lines = {(line["system"], line["stage"]): line for line in status.lines(settings)}
        opened = frozenset(name for (name,) in rows(cursor, _OPEN)) | {n for n, s in settings.systems.items() if s.capture == "none"}
        return cls(settings, lines, {t.system: t for t in terms_of(settings).get("dossier", ())}, opened)

    def line(self, system: str, stage: str) -> Cause | None:
        """What is wrong with a line, if anything."""
        line = self.lines.get((system, stage))
        if line is None or line["state"] in FINE:
            return None
        how = f"{stage} of {system} is {line['state']}" + (f" since {line['since']}" if line["since"] else "")
        return Cause("line", f"{how}: {line['reason'] or 'it is behind its limit'}", "lienthong status says what a person has to do")


def handovers(cursor: Cursor, pairs: Collection[Pair], parked: Mapping[Pair, str] | None = None) -> dict[Pair, Handover]:
    """What the hub knows of each dossier at each system; `parked`: what targets have said when they were asked."""
    wanted = sorted(set(pairs))
    if not wanted:
        return {}
    waiting = {record for (record,) in rows(cursor, _WAITING, [sorted({record for record, _ in wanted})])}
    out = {}
    for record, system, state, sent, seen, speaks, at, told, told_at in rows(cursor, _FACTS, [list(column) for column in zip(*wanted, strict=True)]):
        known = max((v for v in (seen, told) if v is not None), default=None)
        when = at if known == seen else None if told_at is None else int(told_at.timestamp() * 1_000_000)
        out[record, system] = Handover(
            record=record, system=system, sent=sent if state == "s" else None, acknowledged=known, acknowledged_at=when if known else None,
            speaks=bool(speaks), waits=record in waiting, parked=(parked or {}).get((record, system)),
        )  # fmt: skip
    return out


def why(one: Handover, values: Mapping[str, Any], around: Round) -> Cause:
    """Why a system does not have what it should have."""
    system = one.system
    if one.parked is not None:
        return Cause("parked", f"{system} refuses it: {one.parked}", advice(one.parked, system))
    if one.waits:
        busy = Cause("line", "it waits on the router's list behind other changes", "lienthong status: how many wait; it goes by itself")
        return around.line(system, "route") or busy
    if one.sent is None:
        return _never_sent(one, values, around)
    said = around.line(system, "apply") or around.line(system, "deliver")
    lost = Cause(
        "unknown", f"it was sent and the line moves, and {system} does not remember it: something was set back or deleted there",
        f"lienthong reconcile --system {system}, then lienthong repair",
    )  # fmt: skip
    return said or lost


def _never_sent(one: Handover, values: Mapping[str, Any], around: Round) -> Cause:
    terms = around.terms.get(one.system)
    if terms is None or not terms.in_scope(values, None):
        reason = f"the contract of {one.system} does not include it" if terms else f"{one.system} has no contract for dossiers"
        place = f" (agency {values.get('processing_agency_code') or '?'}, unit {values.get('processing_unit') or '?'})"
        return Cause("contract", reason + place, "correct its agency or unit at its source, or the contract in contracts.yaml")
    if one.system not in around.opened:
        return Cause("line", f"nothing is delivered to {one.system} before its first load", f"lienthong load {one.system}")
    return around.line(one.system, "route") or Cause(
        "unknown", f"it is in the contract of {one.system} and was not sent", f"lienthong reconcile --system {one.system}, then lienthong repair"
    )


def missing(pairs: Sequence[Handover]) -> dict[str, list[int]]:
    """System: records that it was sent and is not proven to have."""
    out: dict[str, list[int]] = {}
    for one in pairs:
        if one.sent is not None and not one.is_current:
            out.setdefault(one.system, []).append(one.record)
    return out
