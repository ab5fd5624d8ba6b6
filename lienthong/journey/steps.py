"""What every system has said and acknowledged about one record, in order: where it was said, when it arrived, and what proves it.

`at` is the source's own time (of a status step when it was taken, of other words the commit), `arrived_at` when the other side had it, and the
delay is from the source's commit to there. `both`: two parties show the same. `one-sided`: only one of them does. Field names are told, never values.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from connectors.postgres import Cursor, rows
from lienthong.journey.expect import shown
from lienthong.journey.handover import Handover
from lienthong.readers import from_micros

BOTH, ONE_SIDED = "both", "one-sided"
STEPS_MAX = 1000

_CHILDREN = {"dossier_event": "step", "dossier_component": "paper", "fee": "fee", "evaluation": "rating"}
_WORDS = """
SELECT r.record, r.entity, c.system, c.local_key, c.op::text, c.delivered, c.at, r.arrived_at, r.version, r.deleted,
  (r.body->>'status')::int, (coalesce(r.body->>'occurred_at', r.body->>'rated_at'))::bigint,
  coalesce(r.body->>'component_code', r.body->>'fee_code')
FROM hub.record r JOIN hub.contribution c USING (record)
WHERE (r.record = %(record)s OR r.parent = %(record)s) AND r.merged_into IS NULL AND c.op <> 'p'
ORDER BY c.record, c.at LIMIT %(limit)s
"""
_HISTORY = """
SELECT h.version, h.at, h.system, ARRAY(
         SELECT coalesce(o.key, n.key) FROM jsonb_each(h.before) o FULL JOIN jsonb_each(h.after) n USING (key)
         WHERE o.value IS DISTINCT FROM n.value ORDER BY 1),
       (h.before->>'status')::int, (h.after->>'status')::int
FROM (SELECT h.*, coalesce(lead(h.before) OVER (ORDER BY h.version), r.body) AS after
      FROM hub.history h JOIN hub.record r USING (record) WHERE h.record = %(record)s) h
ORDER BY h.version LIMIT %(limit)s
"""
_MESSAGES = """
SELECT system, kind, state, queued_at, sent_at, answered_at, reason FROM hub.delivery
WHERE system = ANY(%(systems)s) AND dossier = %(record)s ORDER BY id LIMIT %(limit)s
"""
_OF = "(SELECT record FROM hub.record WHERE record = %(record)s OR parent = %(record)s)"
_PARKED = f"""
SELECT p.system, p.entity, p.parked_at, p.closed_at, p.state, p.field, p.reason FROM hub.contribution c
JOIN hub.parked p ON (p.system, p.entity, p.local_key) = (c.system, c.entity, c.local_key) WHERE c.record IN {_OF} ORDER BY p.id LIMIT %(limit)s
"""  # noqa: S608 - a query of our own
_CORRECTIONS = f"SELECT system, at, field, owner, state FROM hub.correction WHERE record IN {_OF} ORDER BY id LIMIT %(limit)s"  # noqa: S608
_PROOFS = """
SELECT p.system, p.proved_at FROM hub.contribution c JOIN hub.proof p USING (system, entity, local_key) WHERE c.record = %(record)s ORDER BY 1
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing that was said, handed over, acknowledged or parked."""

    system: str
    kind: str
    what: str
    at: datetime | None = None
    arrived_at: datetime | None = None
    told_at: datetime | None = None  # the commit, where `at` is another time: the delay begins with it
    proof: str = BOTH

    def document(self) -> dict[str, Any]:
        """As a JSON object."""
        told = self.told_at or self.at
        delay = None if told is None or self.arrived_at is None else round((self.arrived_at - told).total_seconds(), 3)
        return {
            "at": _iso(self.at), "arrived_at": _iso(self.arrived_at), "delay_seconds": delay, "system": self.system, "kind": self.kind,
            "what": self.what, "proof": self.proof,
        }  # fmt: skip

    @property
    def place(self) -> tuple[bool, datetime]:
        """Where it stands in the journey; what has no time comes last."""
        when = self.at or self.arrived_at
        return when is None, when or from_micros(0)


def steps(cursor: Cursor, record: int, known_at: datetime, systems: Sequence[str], handed: Mapping[str, Handover]) -> list[Step]:
    """All steps of a record, in order; `known_at`: its last change at the hub, `handed`: how it stands at each system that it was sent to."""
    asked = {"record": record, "systems": list(systems), "limit": STEPS_MAX}
    words = rows(cursor, _WORDS, asked)
    found = [*_said(words, rows(cursor, _HISTORY, asked), record), *_under(words, record), *_handed(handed, known_at)]
    found += [_message(*message) for message in rows(cursor, _MESSAGES, asked)]
    found += [_parked(*each) for each in rows(cursor, _PARKED, asked)]
    found += [
        Step(system=system, kind="correction", what=f"asks for another {field} than {owner or 'its owner'} ({state})", at=at, proof=ONE_SIDED)
        for system, at, field, owner, state in rows(cursor, _CORRECTIONS, asked)
    ]
    proved = rows(cursor, _PROOFS, asked)
    found += [Step(system=system, kind="compared", what="found equal by reconciliation", arrived_at=at) for system, at in proved]
    return sorted(found, key=lambda step: step.place)


# ------------------------------------------------------------------ what systems said
def _said(words: Sequence[tuple[Any, ...]], history: Sequence[tuple[Any, ...]], record: int) -> Iterator[Step]:
    """The words about the record itself: its first, and every one that has changed it."""
    own = [word for word in words if word[0] == record]
    newest = {word[2]: word[6] for word in own if word[6]}
    last = {system: version for version, _, system, *_ in history}
    if not history or history[0][0] > 0:
        yield from _first(own, history)
    for version, at, system, names, before, after in history:
        source = newest.get(system) if last.get(system) == version else None
        said = f"status {shown(before)} → {shown(after)}; " if before != after else ""
        what = f"{said}changes {', '.join(names)}" if names else "has a row of it too; no field changes"
        yield Step(system=system or "hub", kind="said", what=what, at=_before(source, at), arrived_at=at)
    yield from (
        Step(system=word[2], kind="deleted", what=f"deletes it ({word[3]})", at=from_micros(word[6]) if word[6] else None)
        for word in own
        if word[4] == "d"
    )


def _first(own: Sequence[tuple[Any, ...]], history: Sequence[tuple[Any, ...]]) -> Iterator[Step]:
    """Who brought the record: the one with a row of its own, the earliest where several have."""
    mine = sorted((word for word in own if not word[5] and word[4] == "s"), key=lambda word: word[6])
    if not mine:
        return
    word = mine[0]
    later = {system for _, _, system, *_ in history}
    arrived = word[7]
    at = _before(word[6], arrived) if arrived is not None and word[2] not in later else None
    yield Step(system=word[2], kind="said", what="brings it", at=at, arrived_at=arrived)


def _under(words: Sequence[tuple[Any, ...]], record: int) -> Iterator[Step]:
    """Steps, papers, fees and ratings: each by whoever told it first."""
    seen: set[int] = set()
    for number, entity, system, _, _, _, at, arrived, _, deleted, status, when, code in words:
        if number == record or number in seen:
            continue
        seen.add(number)
        kind = _CHILDREN.get(entity, entity)
        what = f"status {shown(status)}" if entity == "dossier_event" else f"{kind} {code or ''}".strip()
        source = when or at
        told = None if arrived is None else _before(at, arrived)
        yield Step(
            system=system, kind=kind, what=what + (" (deleted)" if deleted else ""), at=from_micros(source) if source else None,
            arrived_at=arrived, told_at=told,
        )  # fmt: skip


# ------------------------------------------------------------------ what was handed over
def _handed(handed: Mapping[str, Handover], known_at: datetime) -> Iterator[Step]:
    for system, one in sorted(handed.items()):
        if one.sent is None:
            continue
        sent = max(from_micros(one.sent * 1000), known_at)  # its number was drawn in a block, so the golden record may be younger
        if one.is_current and one.acknowledged_at:
            arrived = from_micros(one.acknowledged_at)
            yield Step(system=system, kind="acknowledged", what="holds what was handed over", at=min(sent, arrived), arrived_at=arrived)
        elif one.is_current:
            yield Step(system=system, kind="acknowledged", what="holds what was handed over", at=sent)
        else:
            what = f"handed over, refused there: {one.parked}" if one.parked else "handed over, not acknowledged"
            yield Step(system=system, kind="handed over", what=what, at=sent, proof=ONE_SIDED)


def _message(system: str, kind: str, state: str, queued: datetime, sent: datetime | None, answered: datetime | None, reason: str | None) -> Step:
    why = f": {reason}" if reason else ""
    proof = BOTH if state == "confirmed" else ONE_SIDED
    return Step(system=system, kind="delivery", what=f"{kind} {state}{why}", at=queued, arrived_at=answered or sent, proof=proof)


def _parked(system: str, entity: str, at: datetime, closed: datetime | None, state: str, field: str | None, reason: str) -> Step:
    ended = "" if closed is None else f", {state} {closed.isoformat(timespec='seconds')}"
    return Step(system=system, kind="parked", what=f"{entity} {field or ''} {reason}{ended}".replace("  ", " "), at=at, proof=ONE_SIDED)


def _before(micros: int | None, arrived: datetime) -> datetime | None:
    """The source's time of a word, if it is of this word: a newer one of the same system may have changed nothing."""
    at = None if not micros else from_micros(micros)
    return at if at is not None and at <= arrived else None


def _iso(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat(timespec="milliseconds")
