"""A target's own rows after it began a new life: a restored database gives serial numbers out again, and messages name them as they were (R4)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from connectors.postgres import Connection, Cursor, rows, transaction
from lienthong.errors import TransientError

if TYPE_CHECKING:
    from lienthong.apply.target import Arrived

_LIVES = """
SELECT s.system, count(*) FILTER (WHERE l.epoch >= s.epoch) FROM hub.capture_state s LEFT JOIN hub.loaded l USING (system)
WHERE s.epoch > 1 GROUP BY s.system
"""
_KEYS = """
SELECT c.record, c.local_key FROM hub.contribution c JOIN hub.capture_state s USING (system, epoch)
WHERE c.record = ANY(%s) AND c.system = %s AND c.op = 's' ORDER BY c.version
"""


def lives(cursor: Cursor, partitions: int) -> dict[str, bool]:
    """The systems that are not in their first life, and whether the hub knows all that they hold in this one."""
    return {system: passed >= partitions for system, passed in rows(cursor, _LIVES)}


class OwnKeys:
    """Tells which rows of one target are whose, from what the target itself has said in the life it is in."""

    def __init__(self, hub: Connection, system: str) -> None:
        self._hub = hub
        self._system = system
        self._looks = False

    def begin(self, known: Mapping[str, bool]) -> None:
        """Take up what `lives` has told; raises `TransientError` while the hub does not know all that the target holds in its new life."""
        self._looks = self._system in known
        if not known.get(self._system, True):
            raise TransientError(
                f"{self._system} begins a new life, and nothing is written there before the hub knows the rows that it holds now: it goes on by "
                f"itself when its load has ended and is merged. If no load of it runs: `lienthong load {self._system}`"
            )

    def renew(self, arrived: Sequence[Arrived]) -> list[Arrived]:
        """Let messages name the target's own rows as they are now; a row of an earlier life is none, whatever has its number today."""
        if self._looks:
            keys = self._keys({r for one in arrived for r in (one.record, one.value["meta"]["parent"]) if r is not None})
            for one in arrived:
                said = one.value if one.kind == "removed" else one.value["meta"]
                said["local_key"] = keys.get(one.record)
                said["parent_key"] = keys.get(said["parent"])
        return list(arrived)

    def _keys(self, records: Collection[int]) -> dict[int, str]:
        with transaction(self._hub) as cursor:
            return dict(rows(cursor, _KEYS, [sorted(records), self._system]))
