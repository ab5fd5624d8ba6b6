"""One record explained: who says so, since when, which rule decided; personal data masked unless a purpose is given."""

from __future__ import annotations

import logging
from typing import Any

import orjson

import schemas
from connectors.postgres import Cursor, connect, rows, transaction
from lienthong.authority import RECORD, Authority, fold
from lienthong.contracts import masked
from lienthong.golden import said_of
from lienthong.readers import from_micros, to_date
from lienthong.settings import Settings

logger = logging.getLogger(__name__)

_STATES = {"s": "sent", "w": "withdrawn", "d": "deleted", "m": "merged"}


def explain(settings: Settings, code: str, *, purpose: str | None, officer: str) -> list[dict[str, Any]]:
    """Every record under a code, each field with whose word it is, since when and on which basis."""
    if purpose is not None:
        logger.info("record viewed with personal data", extra={"action": "view_record", "officer": officer, "purpose": purpose})
    connection = connect(settings.hub.dsn, application_name="lienthong trace")
    try:
        with transaction(connection) as cursor:
            return [_one(cursor, Authority(settings), record, show=purpose is not None) for record in _find(cursor, code)]
    finally:
        connection.close()


def _find(cursor: Cursor, code: str) -> list[int]:
    found = rows(
        cursor,
        """SELECT record FROM hub.identifier WHERE claim = ANY(%(claims)s)
           UNION SELECT record FROM hub.contribution WHERE local_key = %(code)s
           UNION SELECT record FROM hub.record WHERE body->>'local_code' = %(code)s OR record::text = %(code)s ORDER BY 1 LIMIT 20""",
        {"claims": [f"dossier:{code}", f"citizen:{code}", f"procedure:{code}"], "code": code},
    )
    return [int(r) for (r,) in found]


def _one(cursor: Cursor, authority: Authority, record: int, *, show: bool) -> dict[str, Any]:
    entity, deleted, parent = rows(cursor, "SELECT entity, deleted, parent FROM hub.record WHERE record = %s", [record])[0]
    routing = rows(cursor, "SELECT body::text FROM hub.record WHERE record = %s", [parent]) if parent is not None else []
    said = said_of(cursor, [record])[record]
    folded = fold(authority, entity, said, orjson.loads(routing[0][0]) if routing and routing[0][0] else None)
    on = authority.date_of(entity, [s for s in said if s.exists])
    fields = []
    for field in schemas.fields(entity):
        if field.name not in folded.values:
            continue
        owner = folded.who.get(field.group)
        speaker = next((s for s in said if s.system == owner and field.name in s.values), None) or next(s for s in said if field.name in s.values)
        fields.append(
            {
                "field": field.name,
                "value": _shown(field, folded.values[field.name], show=show),
                "system": speaker.system,
                "since": from_micros(speaker.version * 1000).isoformat(timespec="seconds"),
                "basis": authority.rule(entity, field.group, on).basis,
            }
        )
    sent = rows(cursor, "SELECT system, state::text, version FROM hub.entitled WHERE record = %s ORDER BY 1", [record])
    return {
        "record": record,
        "entity": entity,
        "deleted": deleted,
        "owner_of_existence": folded.who.get(RECORD),
        "systems": sorted(s.system for s in said),
        "fields": fields,
        "sent": [{"system": s, "state": _STATES[state], "version": version} for s, state, version in sent],
    }


def _shown(field: schemas.Field, value: Any, *, show: bool) -> Any:
    if value is None:
        return None
    if field.type == "instant":
        value = from_micros(value).isoformat()
    elif field.type == "date":
        value = to_date(value).isoformat()
    return value if show or field.pii == "public" else masked("last4", value)
