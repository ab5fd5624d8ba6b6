"""Which records a code names: national, local and linked codes, local keys, codes at the national portal, personal numbers, record ids."""

from __future__ import annotations

from typing import Any

import schemas
from connectors.postgres import Contended, Cursor, Unreachable, errors_translated, rows
from lienthong.errors import FatalError
from lienthong.settings import Settings

RECORDS_MAX = 20
SCAN_SECONDS = 2
SCAN_RECORDS = 100_000
"""So many of the newest records, and for so long, are searched one by one where no sweep has seen them: a page waits for it."""

_CLAIMED = ("dossier", "citizen", "procedure", "agency")
_BY_INDEX = """
SELECT record FROM hub.identifier WHERE claim = ANY(%(claims)s)
UNION SELECT record FROM hub.contribution WHERE system = ANY(%(systems)s) AND entity = ANY(%(entities)s) AND local_key = %(code)s
UNION SELECT record FROM hub.dossier_code WHERE code = %(code)s
UNION SELECT dossier FROM hub.delivery_dossier WHERE system = ANY(%(systems)s) AND code = %(code)s
UNION SELECT record FROM hub.record WHERE record = %(number)s
ORDER BY 1 LIMIT %(limit)s
"""
_BY_SCAN = """
SELECT record FROM hub.record WHERE record > %(after)s AND entity = 'dossier'
  AND (body->>'local_code' = %(code)s OR body->>'linked_code' = %(code)s) LIMIT %(limit)s
"""
_FROM = """
SELECT greatest(coalesce((SELECT value::bigint FROM hub.setting WHERE name = 'dossier codes record'), 0),
  coalesce((SELECT max(record) FROM hub.record), 0) - %s)
"""
_MERGED = "SELECT coalesce(merged_into, record) FROM hub.record WHERE record = ANY(%s)"


def find(cursor: Cursor, settings: Settings, code: str) -> list[int]:
    """The records under a code, at most twenty; of joined records the one that is left."""
    asked: dict[str, Any] = {
        "code": code,
        "claims": [f"{entity}:{code}" for entity in _CLAIMED],
        "systems": list(settings.systems),
        "entities": list(schemas.ENTITIES),
        "number": int(code) if code.isascii() and code.isdigit() and len(code) < 19 else None,
        "limit": RECORDS_MAX,
    }
    found = [record for (record,) in rows(cursor, _BY_INDEX, asked)] or _scan(cursor, asked)
    return sorted({int(record) for (record,) in rows(cursor, _MERGED, [found])}) if found else []


def _scan(cursor: Cursor, asked: dict[str, Any]) -> list[int]:
    """Local and linked codes of dossiers that came after the last sweep; nothing when it takes too long.

    From where on is given as a number, so that the planner sees how few are left and reads them by the key of the table.
    """
    asked = asked | {"after": rows(cursor, _FROM, [SCAN_RECORDS])[0][0]}
    try:
        with errors_translated():
            found = rows(cursor, f"SAVEPOINT scan; SET LOCAL statement_timeout = '{SCAN_SECONDS}s'; {_BY_SCAN}", asked)  # noqa: S608 - ours
    except (Contended, Unreachable, FatalError):
        cursor.execute("ROLLBACK TO SAVEPOINT scan")
        return []
    cursor.execute("SET LOCAL statement_timeout = 0")
    return [record for (record,) in found]
