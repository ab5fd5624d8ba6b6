"""Golden records that do not fit into one message of an out-topic: refused alone, shown as parked, sent when they fit again.

A record that several systems have filled with long texts may be larger than any of its contributions (protocol R7).
"""

from __future__ import annotations

from connectors.kafka import MESSAGE_BYTES_MAX
from connectors.postgres import Cursor, rows

HEADERS_BYTES = 1000  # key and headers travel within the same limit

Place = tuple[str, int]  # system, record


class TooLarge:
    """The records that are parked because a message of theirs would be too large; one router keeps it, for the life of its process."""

    def __init__(self, cursor: Cursor) -> None:
        found = rows(cursor, "SELECT system, local_key FROM hub.parked WHERE state = 'open' AND kind = 'route' AND reason = 'too_large'")
        self._open: set[Place] = {(system, int(record)) for system, record in found}
        self._fresh: dict[Place, tuple[str, int]] = {}
        self._cured: set[Place] = set()

    def refuses(self, system: str, record: int, entity: str, body: bytes) -> bool:
        """Whether a message is too large; it is noted, to be parked by `store`."""
        if len(body) <= MESSAGE_BYTES_MAX - HEADERS_BYTES:
            self.fits(system, record)
            return False
        self._fresh[system, record] = (entity, len(body))
        return True

    def fits(self, system: str, record: int) -> None:
        """What a system is to have of a record, it has now, or can be sent."""
        if (system, record) in self._open:
            self._cured.add((system, record))

    def forget(self) -> None:
        """The reading is not stored: what was noted for it is noted again by the next."""
        self._fresh, self._cured = {}, set()

    def store(self, cursor: Cursor, version: int) -> None:
        """Park what is too large, each record once, and close what is cured, in the transaction of the reading."""
        for (system, record), (entity, size) in self._fresh.items():
            if (system, record) in self._open:
                continue
            words = f"{size:,} bytes in all fields together where a message carries at most {MESSAGE_BYTES_MAX:,}: shorten it at its owners"
            cursor.execute(
                """INSERT INTO hub.parked (system, entity, local_key, kind, reason, message, version)
                   VALUES (%s, %s, %s, 'route', 'too_large', %s, %s)""",
                [system, entity, str(record), words, version],
            )
        if self._cured:
            cursor.execute(
                """UPDATE hub.parked SET state = 'closed', closed_at = clock_timestamp()
                   WHERE state = 'open' AND kind = 'route' AND reason = 'too_large'
                   AND (system, local_key) IN (SELECT * FROM unnest(%s::text[], %s::text[]))""",
                [[system for system, _ in self._cured], [str(record) for _, record in self._cured]],
            )

    def stored(self) -> None:
        """The transaction has committed."""
        self._open = (self._open | self._fresh.keys()) - self._cured
        self.forget()
