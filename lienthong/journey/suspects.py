"""What the hub's own tables show as not having happened yet: whole sets in single statements, the limits are looked at afterwards."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from connectors.postgres import Cursor, rows
from lienthong.config_expectations import Expected
from lienthong.journey.handover import Pair

WORKING = "SET LOCAL work_mem = '128MB'; SET LOCAL jit = off"
"""For statements over all dossiers."""

_VALUES = """r.record, r.updated_at, (r.body->>'status')::int, (r.body->>'channel')::int, r.body->>'procedure_code',
  (r.body->>'submitted_at')::bigint,
  (r.body->>'finished_at')::bigint, (r.body->>'status_at')::bigint, coalesce(r.body->>'local_code', r.body->>'national_code'),
  r.body->>'processing_agency_code', r.body->>'processing_unit', r.body->>'receiving_agency_code'"""
_NAMES = (
    "status", "channel", "procedure_code", "submitted_at", "finished_at", "status_at", "code", "processing_agency_code", "processing_unit",
    "receiving_agency_code",
)  # fmt: skip
_ALIVE = "r.entity = 'dossier' AND NOT r.deleted AND r.merged_into IS NULL"
_UNSEEN = """NOT EXISTS (SELECT FROM hub.contribution c WHERE c.record = e.record AND c.system = e.system AND c.seen >= e.version)
  AND NOT EXISTS (SELECT FROM hub.acknowledged a WHERE a.record = e.record AND a.system = e.system AND a.version >= e.version)"""
_COUNT = f"SELECT count(*) FROM hub.record r WHERE {_ALIVE}"  # noqa: S608 - a condition of our own, as below
_NOT_RECEIVED = f"""
SELECT {_VALUES} FROM hub.record r
WHERE {_ALIVE} AND r.body @> '{{"status": 1}}' AND r.body->>'received_at' IS NULL AND (r.body->>'submitted_at')::bigint <= %(at)s
"""  # noqa: S608
_NOT_ACKNOWLEDGED = f"""
SELECT e.record, e.system, e.version FROM hub.entitled e
WHERE e.entity = 'dossier' AND e.state = 's' AND e.system = ANY(%(systems)s) AND e.version <= %(newest)s AND {_UNSEEN}
"""  # noqa: S608
_NOT_SHOWN = f"""
SELECT r.record, p.system FROM hub.record r CROSS JOIN unnest(%(systems)s::text[]) AS p(system)
LEFT JOIN hub.entitled e ON e.record = r.record AND e.system = p.system AND e.state = 's'
WHERE {_ALIVE} AND (r.body->>'status')::int IN (9, 10) AND r.updated_at <= %(now)s AND CASE WHEN e.record IS NULL
  THEN NOT EXISTS (SELECT FROM hub.contribution c WHERE c.record = r.record AND c.system = p.system AND c.op = 's')
  ELSE {_UNSEEN} END
UNION SELECT r.record, p.system FROM hub.changed w JOIN hub.record r USING (record) CROSS JOIN unnest(%(systems)s::text[]) AS p(system)
WHERE {_ALIVE} AND (r.body->>'status')::int IN (9, 10)
"""  # noqa: S608
_UNCONFIRMED = """
SELECT DISTINCT ON (dossier) dossier, min(queued_at) OVER (PARTITION BY dossier), state, reason, kind FROM hub.delivery
WHERE system = %(system)s AND kind <> 'remove' AND (state IN ('pending', 'sent', 'unknown') OR (state = 'refused' AND cured_at IS NULL))
ORDER BY dossier, state = 'refused' DESC, id
"""
_NOT_TAKEN = """
SELECT e.record, e.version FROM hub.entitled e
WHERE e.entity = 'dossier' AND e.state = 's' AND e.system = %(system)s AND e.version <= %(newest)s AND NOT EXISTS (
  SELECT FROM hub.delivery_part p WHERE p.system = e.system AND p.entity = 'dossier' AND p.record = e.record AND p.version >= e.version)
"""
_NOT_TOLD = f"""
SELECT r.record FROM hub.record r WHERE {_ALIVE} AND (r.body->>'status')::int IN (9, 10) AND r.updated_at <= %(now)s
  AND NOT EXISTS (SELECT FROM hub.delivery_dossier d WHERE d.system = %(system)s AND d.dossier = r.record AND d.is_there)
"""  # noqa: S608


@dataclass(frozen=True, slots=True)
class Dossier:
    """What limits and causes need of a golden record: nothing about people."""

    record: int
    known_at: datetime  # when the hub last learnt something of it
    values: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Message:
    """What the ledger has open about one dossier: the worst of it, and since when."""

    since: datetime
    state: str
    reason: str | None
    kind: str


def _dossier(found: Sequence[Any]) -> Dossier:
    record, known_at, *values = found
    return Dossier(record, known_at, dict(zip(_NAMES, values, strict=True)))


def _micros(at: datetime) -> int:
    return int(at.timestamp() * 1_000_000)


def newest(at: datetime, limits: Sequence[Expected]) -> int:
    """The version of what was routed so long ago that a limit may be over: for limits in working time, everything."""
    hours = [limit.within.hours for limit in limits]
    return int((at.timestamp() - 3600 * min((h for h in hours if h is not None), default=0.0) * all(h is not None for h in hours)) * 1000)


def count(cursor: Cursor) -> int:
    """How many dossiers there are."""
    return int(rows(cursor, _COUNT)[0][0])


def not_received(cursor: Cursor, at: datetime) -> list[Dossier]:
    """Dossiers that were submitted and that nobody has received."""
    return [_dossier(found) for found in rows(cursor, _NOT_RECEIVED, {"at": _micros(at)})]


def not_acknowledged(cursor: Cursor, systems: Collection[str], limit: int) -> dict[Pair, int]:
    """Record and system: the version that was sent and that nothing here shows to have arrived."""
    found = rows(cursor, _NOT_ACKNOWLEDGED, {"systems": sorted(systems), "newest": limit})
    return {(record, system): version for record, system, version in found}


def not_shown(cursor: Cursor, systems: Collection[str], at: datetime) -> list[Pair]:
    """Finished dossiers at portals that are not known to have been told all of it."""
    return rows(cursor, _NOT_SHOWN, {"systems": sorted(systems), "now": at}) if systems else []


def not_confirmed(cursor: Cursor, system: str, limit: int) -> tuple[dict[int, Message], dict[int, int]]:
    """Of the national portal: what its ledger has open, and versions that never came into the ledger, by record."""
    told = {dossier: Message(*rest) for dossier, *rest in rows(cursor, _UNCONFIRMED, {"system": system})}
    return told, dict(rows(cursor, _NOT_TAKEN, {"system": system, "newest": limit}))


def not_told(cursor: Cursor, system: str, at: datetime) -> list[int]:
    """Finished dossiers that the national portal has not acknowledged at all."""
    return [record for (record,) in rows(cursor, _NOT_TOLD, {"system": system, "now": at})]


def dossiers(cursor: Cursor, records: Collection[int]) -> dict[int, Dossier]:
    """The named ones that exist."""
    found = rows(cursor, f"SELECT {_VALUES} FROM hub.record r WHERE r.record = ANY(%s) AND {_ALIVE}", [sorted(records)])  # noqa: S608
    return {one.record: one for one in map(_dossier, found)}
