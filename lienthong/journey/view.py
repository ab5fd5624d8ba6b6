"""The journey of whatever a code names, as one document for the command line and for the page; each look is recorded."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import orjson

from connectors.postgres import Cursor, connect, rows, transaction
from lienthong import hub
from lienthong.authority import Authority
from lienthong.golden import said_of
from lienthong.journey import targets
from lienthong.journey.expect import Limits
from lienthong.journey.fields import fields_of, hidden
from lienthong.journey.find import find
from lienthong.journey.handover import Handover, handovers, missing
from lienthong.journey.standing import responsible, standing
from lienthong.journey.steps import steps
from lienthong.settings import Settings

_STATES = {"s": "sent", "w": "withdrawn", "d": "deleted", "m": "merged"}
_RECORD = """
SELECT r.entity, r.deleted, r.parent, r.body::text, r.updated_at, p.body::text
FROM hub.record r LEFT JOIN hub.record p ON p.record = r.parent WHERE r.record = %s
"""
_KEYS = "SELECT DISTINCT system, local_key FROM hub.contribution WHERE record = %s AND op <> 'p' ORDER BY 1, 2"
_PORTAL = "SELECT system, code FROM hub.delivery_dossier WHERE dossier = %s AND code IS NOT NULL"
_SENT = "SELECT system, state::text, version FROM hub.entitled WHERE record = %s ORDER BY 1"
_AUDIT = "INSERT INTO hub.view_audit (viewer, purpose, record) VALUES (%s, %s, %s)"
_CODES = {"national_code": "national", "local_code": "local", "linked_code": "linked"}


def of(settings: Settings, code: str, *, viewer: str, purpose: str | None) -> list[dict[str, Any]]:
    """The journey of every record under a code; personal data is masked unless a purpose is given, and each look is recorded with its viewer.

    Targets that are not known to hold what they were sent are asked; one that does not answer leaves its step one-sided.
    """
    with hub.named():
        connection = connect(settings.hub.dsn, application_name="lienthong trace")
        try:
            with transaction(connection) as cursor:
                found = find(cursor, settings, code)
                looked: list[int | None] = [*found] or [None]
                cursor.executemany(_AUDIT, [[viewer, purpose, record] for record in looked])
            with transaction(connection) as cursor:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
                return [_one(cursor, settings, record, show=purpose is not None) for record in found]
        finally:
            connection.close()


def _one(cursor: Cursor, settings: Settings, record: int, *, show: bool) -> dict[str, Any]:
    entity, deleted, parent, body, known_at, above = rows(cursor, _RECORD, [record])[0]
    said = said_of(cursor, [record])[record]
    authority = Authority(settings)
    fields, owner = fields_of(authority, entity, said, orjson.loads(above) if above else None, show=show)
    sent = rows(cursor, _SENT, [record])
    values: Mapping[str, Any] = orjson.loads(body) if body else {}
    handed = _handed(cursor, settings, record, [system for system, *_ in sent] + [s.system for s in said], ask=entity == "dossier")
    holder, expected = (
        standing(Limits.of(settings), values, known_at, handed, responsible(authority, values), owner) if entity == "dossier" else (owner, None)
    )
    return {
        "record": record,
        "entity": entity,
        "parent": parent,
        "deleted": deleted,
        "codes": _codes(cursor, record, values, show=show or entity != "citizen"),
        "holder": holder,
        "expected": expected,
        "owner_of_existence": owner,
        "systems": sorted({s.system for s in said}),
        "steps": [step.document() for step in steps(cursor, record, known_at, list(settings.systems), handed)],
        "fields": fields,
        "sent": [
            {"system": system, "state": _STATES[state], "version": version, "acknowledged": handed[system].is_current}
            for system, state, version in sent
        ],
        "as_of": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _handed(cursor: Cursor, settings: Settings, record: int, systems: list[str], *, ask: bool) -> dict[str, Handover]:
    """How a record stands at each system; who is not known to have what it was sent is asked."""
    pairs = [(record, system) for system in systems]
    handed = handovers(cursor, pairs)
    reached = set(settings.with_database())
    wanted = {system: records for system, records in missing(list(handed.values())).items() if system in reached} if ask else {}
    answers, _ = targets.memories(settings, wanted)
    return {system: targets.recalled(one, answers.get(system)) for (_, system), one in handed.items()}


def _codes(cursor: Cursor, record: int, values: Mapping[str, Any], *, show: bool) -> list[dict[str, Any]]:
    """Every code it is known by, and with whom."""
    out = [{"scheme": scheme, "value": values[name], "system": None} for name, scheme in _CODES.items() if values.get(name)]
    keys = rows(cursor, _KEYS, [record])
    out += [{"scheme": "key", "value": key if show else hidden(key), "system": system} for system, key in keys]
    out += [{"scheme": "portal", "value": code, "system": system} for system, code in rows(cursor, _PORTAL, [record])]
    return out
