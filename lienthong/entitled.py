"""What a party is entitled to see of a golden record: one answer for the router, for reconciliation and for certificates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import orjson

import schemas
from connectors.postgres import Cursor, rows
from lienthong.contracts import Terms

_GOLDEN = """
SELECT record, entity, parent, merged_into, deleted, sole, body::text, who::text FROM hub.record WHERE record = ANY(%s)
"""


@dataclass(frozen=True, slots=True)
class Golden:
    """A golden record as the router reads it."""

    record: int
    entity: str
    parent: int | None
    merged_into: int | None
    deleted: bool
    sole: str | None
    values: dict[str, Any]
    who: dict[str, str]

    def holder(self, group: str) -> str | None:
        """The system whose word a field group is."""
        return self.sole if self.sole is not None else self.who.get(group)

    def is_gone(self) -> bool:
        """Whether the record exists for nobody: its owner deleted it, or only its children have arrived."""
        return self.deleted or not self.values


@dataclass(frozen=True, slots=True)
class Due:
    """What one party is sent of one record: the values, the groups that are its own word, and the digest of all but those."""

    values: dict[str, Any]
    held: list[str]
    digest: bytes


def read_golden(cursor: Cursor, records: Sequence[int]) -> dict[int, Golden]:
    """Golden records of the hub by their ids."""
    out = {}
    for record, entity, parent, merged, deleted, sole, body, who in rows(cursor, _GOLDEN, [list(records)]):
        out[record] = Golden(record, entity, parent, merged, deleted, sole, orjson.loads(body or "{}"), orjson.loads(who or "null") or {})
    return out


def held_groups(golden: Golden, system: str) -> list[str]:
    """The field groups that are the system's own word."""
    return [group for group in schemas.groups(golden.entity) if golden.holder(group) == system]


def due(golden: Golden, terms: Terms, held: Sequence[str]) -> Due:
    """What is sent of a record under one contract, when these groups are the receiver's own."""
    groups = schemas.groups(golden.entity)
    values = terms.shape(golden.values)
    own = {name for group in held for name in groups[group]}
    told = {name: value for name, value in values.items() if name not in own}
    return Due(values, list(held), _digest(told, terms.withheld, golden.parent))


def _digest(values: Mapping[str, Any], withheld: Sequence[str], parent: int | None) -> bytes:
    said = [values, withheld] if parent is None else [values, withheld, parent]
    return blake2b(orjson.dumps(said, option=orjson.OPT_SORT_KEYS), digest_size=16).digest()
