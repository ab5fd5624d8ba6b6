"""The fields of a golden record: whose word each is, since when and by which rule; personal data masked unless a purpose is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import schemas
from lienthong.authority import RECORD, Authority, Said, fold
from lienthong.readers import from_micros, to_date

TAIL = 4


def fields_of(
    authority: Authority, entity: str, said: Sequence[Said], routing: Mapping[str, Any] | None, *, show: bool
) -> tuple[list[dict[str, Any]], str | None]:
    """Each field that has a value, and which system is the owner of the record's existence; `routing` is that of the dossier above it."""
    folded = fold(authority, entity, said, routing)
    on = authority.date_of(entity, [s for s in said if s.exists])
    out = []
    for field in schemas.fields(entity):
        if field.name not in folded.values:
            continue
        owner = folded.who.get(field.group)
        speaker = next((s for s in said if s.system == owner and field.name in s.values), None) or next(s for s in said if field.name in s.values)
        out.append(
            {
                "field": field.name,
                "value": _shown(field, folded.values[field.name], show=show),
                "system": speaker.system,
                "since": from_micros(speaker.version * 1000).isoformat(timespec="seconds"),
                "basis": authority.rule(entity, field.group, on).basis,
            }
        )
    return out, folded.who.get(RECORD)


def _shown(field: schemas.Field, value: Any, *, show: bool) -> Any:
    if value is None:
        return None
    if field.type == "instant":
        value = from_micros(value).isoformat()
    elif field.type == "date":
        value = to_date(value).isoformat()
    return value if show or field.pii == "public" else hidden(value)


def hidden(value: Any) -> str:
    """The last four characters of a text that is long enough to have others."""
    text = str(value)
    return f"*****{text[-TAIL:]}" if len(text) > 2 * TAIL else "*****"
