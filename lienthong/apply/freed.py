"""What a foreign key of the target refused goes through by itself when the row it waited for has come or gone.

A dossier's row cannot be taken while a child is under it that nobody had heard of; a record cannot be stored before the row it names.
The batch that takes the child, or brings the row, tells the parked message to be put through again, in its own transaction.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from connectors.postgres import Cursor
from lienthong.apply.table import TargetEntity, Write

if TYPE_CHECKING:
    from lienthong.apply.target import Known

# `field` of what the target's own rules refused is the constraint. What waits behind a parked message leaves with it.
_AGAIN = """
UPDATE lienthong.parked p SET state = 'replay' WHERE p.state = 'parked' AND (p.entity, p.record) IN (
  SELECT f.entity, f.record FROM lienthong.parked f JOIN pg_constraint c ON c.conname = f.field AND c.contype = 'f'
  WHERE f.state = 'parked' AND f.reason = 'refused_by_target' AND ({}))
"""
_LEFT = _AGAIN.format("f.entity = 'dossier' AND f.record = ANY(%s)")
_CAME = _AGAIN.format("c.confrelid = ANY(SELECT to_regclass(name) FROM unnest(%s::text[]) name)")


@dataclass(slots=True)
class Freed:
    """What a batch has changed that a parked message may wait for."""

    left: set[int] = field(default_factory=set)  # dossiers that a child has left
    came: set[str] = field(default_factory=set)  # tables with a new row that rows of other tables may name

    def note(self, row: Mapping[str, Any]) -> None:
        """Remember what one applied record may have freed."""
        if row.get("left") is not None:
            self.left.add(row["left"])
        if "came" in row:
            self.came.add(row["came"])

    def wake(self, cursor: Cursor) -> None:
        """Tell what waited for it to be put through again."""
        if self.left:
            cursor.execute(_LEFT, [sorted(self.left)])
        if self.came:
            cursor.execute(_CAME, [sorted(self.came)])


def by_state(target: TargetEntity, had: Known | None, write: Write, *, is_new: bool) -> dict[str, Any]:
    """What a written record frees: the dossier that it was under before; for what names its table, a row that was not there."""
    freed: dict[str, Any] = {}
    if had is not None and had.parent != write.parent:
        freed["left"] = had.parent
    if is_new and write.parent is None and target.entity != "dossier":
        freed["came"] = target.table
    return freed


def by_removal(had: Known | None, write: Write) -> dict[str, Any]:
    """What a removed record frees: the dossier that it was under."""
    return {"left": write.parent if write.parent is not None or had is None else had.parent}
