"""What a sweep keeps in the hub: its findings, what targets have acknowledged, the codes that records are found by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from connectors.postgres import Connection, Cursor, rows, transaction
from lienthong.journey.causes import Finding
from lienthong.journey.targets import Memory

_ACKNOWLEDGED = """
INSERT INTO hub.acknowledged AS a (record, system, version) SELECT * FROM unnest(%s::bigint[], %s::text[], %s::bigint[]) ORDER BY 1, 2
ON CONFLICT (record, system) DO UPDATE SET version = excluded.version, seen_at = clock_timestamp() WHERE a.version < excluded.version
"""
_COLUMNS = {
    "kind": "text", "system": "text", "record": "bigint", "local_key": "text", "local_code": "text", "procedure_code": "text", "agency": "text",
    "unit": "text", "since": "timestamptz", "limit_at": "timestamptz", "holder": "text", "cause": "text", "reason": "text", "advice": "text",
}  # fmt: skip
_GIVEN = ", ".join(f"%({name})s::{kind}[]" for name, kind in _COLUMNS.items())
_CHANGED = ", ".join(f"{name} = excluded.{name}" for name in list(_COLUMNS)[4:])
_SAME = "(l.kind, l.system) = (g.kind, g.system) AND l.record IS NOT DISTINCT FROM g.record AND l.local_key IS NOT DISTINCT FROM g.local_key"
_FORGET = f"""
DELETE FROM hub.lost_dossier l WHERE NOT (l.system = ANY(%(unasked)s) AND l.kind IN ('not_seen', 'not_acknowledged'))
AND NOT EXISTS (SELECT FROM unnest(%(kind)s::text[], %(system)s::text[], %(record)s::bigint[], %(local_key)s::text[])
                AS g(kind, system, record, local_key) WHERE {_SAME})
"""  # noqa: S608 - names of our own, as below
_KEEP = f"""
INSERT INTO hub.lost_dossier ({", ".join(_COLUMNS)}, found_at) SELECT g.*, %(at)s FROM unnest({_GIVEN}) AS g
ON CONFLICT (kind, system, record, local_key) DO UPDATE SET {_CHANGED}
"""  # noqa: S608
_CODES = """
INSERT INTO hub.dossier_code
SELECT DISTINCT k.code, s.record FROM (
  SELECT record, body->>'local_code' AS local_code, body->>'linked_code' AS linked_code FROM hub.record
  WHERE entity = 'dossier' AND updated_at >= %(since)s
  UNION ALL SELECT record, body->>'local_code', body->>'linked_code' FROM hub.contribution
  WHERE entity = 'dossier' AND body IS NOT NULL AND version >= extract(epoch FROM %(since)s) * 1000
) s CROSS JOIN LATERAL (VALUES (s.local_code), (s.linked_code)) AS k(code) WHERE k.code IS NOT NULL
ON CONFLICT DO NOTHING
"""
_THROUGH = """
INSERT INTO hub.setting SELECT 'dossier codes', (transaction_timestamp() - INTERVAL '1 hour')::text
UNION ALL SELECT 'dossier codes record', greatest(coalesce(max(record), 0) - 20000, 0)::text FROM hub.record
ON CONFLICT (name) DO UPDATE SET value = excluded.value
"""  # an hour and twenty blocks of numbers back: what was merged by transactions that began earlier comes later


def keep_acknowledged(cursor: Cursor, answers: Mapping[str, Memory]) -> None:
    """Remember what targets have said to have applied, so that they are not asked again."""
    told = [(record, system, version) for system, memory in answers.items() for record, (version, _) in memory.applied.items()]
    if told:
        cursor.execute(_ACKNOWLEDGED, [list(column) for column in zip(*told, strict=True)])


def keep_codes(cursor: Cursor) -> int:
    """Note the local and linked codes that have come since the last sweep; how many are new."""
    found = rows(cursor, "SELECT value FROM hub.setting WHERE name = 'dossier codes'")
    cursor.execute(_CODES, {"since": datetime.fromisoformat(found[0][0]) if found else datetime.fromisoformat("1970-01-01T00:00:00+00:00")})
    new = int(cursor.rowcount)
    cursor.execute(_THROUGH)
    return new


def known_unseen(connection: Connection) -> dict[tuple[str, str], datetime]:
    """What earlier sweeps have found that the hub never saw, and since when it is missing."""
    with transaction(connection) as cursor:
        found = rows(cursor, "SELECT system, local_key, since FROM hub.lost_dossier WHERE kind = 'not_seen'")
    return {(system, key): since for system, key, since in found}


def loaded(connection: Connection, partitions: int) -> set[str]:
    """The systems whose first load has passed every partition: of the others nothing is expected yet."""
    with transaction(connection) as cursor:
        found = rows(cursor, "SELECT system FROM hub.loaded GROUP BY system HAVING count(*) >= %s", [partitions])
    return {system for (system,) in found}


def replace(cursor: Cursor, findings: Sequence[Finding], at: datetime, unasked: Sequence[str]) -> int:
    """Store the findings in the place of the last ones; those about systems that could not be asked stay. Returns how many are due."""
    cursor.execute("SELECT pg_advisory_xact_lock(hashtext('lienthong.lost'))")
    given: dict[str, object] = {name: [_value(finding, name) for finding in findings] for name in _COLUMNS}
    given |= {"at": at, "unasked": list(unasked)}
    cursor.execute(_FORGET, given)
    if findings:
        cursor.execute(_KEEP, given)
    return int(rows(cursor, "SELECT count(*) FROM hub.lost_dossier WHERE limit_at <= %s", [at])[0][0])


def note(cursor: Cursor, at: datetime, took_seconds: float, dossiers: int, found: int, unasked: Sequence[str]) -> None:
    """Note that a sweep has been; those of more than a year ago are forgotten."""
    cursor.execute("DELETE FROM hub.lost_sweep WHERE at < clock_timestamp() - INTERVAL '400 days'")
    statement = "INSERT INTO hub.lost_sweep (at, took_seconds, dossiers, found, unasked) VALUES (%s, %s, %s, %s, %s)"
    cursor.execute(statement, [at, round(took_seconds, 3), dossiers, found, list(unasked)])


def _value(finding: Finding, name: str) -> object:
    if name in ("reason", "advice"):
        return getattr(finding.cause, name)
    return finding.cause.kind if name == "cause" else getattr(finding, name)
