"""A source's row in the hub: the lease of its one reader, reading numbers in blocks, where to resume, who the source is."""

from __future__ import annotations

import time
from dataclasses import dataclass

from connectors.postgres import Connection, Cursor, one, transaction
from lienthong import hub
from lienthong.errors import FatalError, FencedError

LEASE_SECONDS = 20
BLOCK = 1000

_IDENTITY = """
SELECT s.system_identifier::text || '/' || (SELECT oid FROM pg_database WHERE datname = current_database())
FROM pg_control_system() s
"""


def identity_of(cursor: Cursor) -> str:
    """Which cluster and database this is: a restored or recreated one is another."""
    found = one(cursor, _IDENTITY)
    assert found is not None
    return str(found[0])


@dataclass(slots=True)
class Stored:
    """What the hub knows about a source."""

    epoch: int
    drawn: int
    finished: int
    position: str | None
    identity: str | None


def load(connection: Connection, system: str) -> Stored | None:
    """The state of a source, or None when it was never captured."""
    with transaction(connection) as cursor:
        found = one(cursor, "SELECT epoch, drawn, finished, position, identity FROM hub.capture_state WHERE system = %s", [system])
    return Stored(*found) if found else None


def create(connection: Connection, system: str, position: str, identity: str) -> None:
    """Begin the life of a source: its position is fixed and a first reading counts as finished."""
    number = int(time.time() * 1000)
    with transaction(connection) as cursor:
        cursor.execute(
            """INSERT INTO hub.capture_state (system, drawn, finished, position, identity) VALUES (%s, %s, %s, %s, %s)
               ON CONFLICT (system) DO NOTHING""",
            [system, number, number, position, identity],
        )


def new_epoch(connection: Connection, system: str, position: str, identity: str) -> None:
    """A source begins again: everything it says from now on wins over what it said before."""
    with transaction(connection) as cursor:
        cursor.execute(
            """UPDATE hub.capture_state SET epoch = epoch + 1, drawn = greatest(drawn + 1, %(now)s), finished = greatest(drawn + 1, %(now)s),
               position = %(position)s, identity = %(identity)s, lease_until = '-infinity' WHERE system = %(system)s""",
            {"now": int(time.time() * 1000), "position": position, "identity": identity, "system": system},
        )


class Numbers:
    """Reading numbers of one source: drawn in the hub before each snapshot, in blocks, never reused (protocol B2).

    Drawing a block also renews the lease; a reader that lost it gets `FencedError`.
    """

    def __init__(self, connection: Connection, system: str) -> None:
        self._connection = connection
        self.system = system
        self._owner = hub.worker_name("capture")
        self._next = 0
        self._end = 0
        self._renew_at = 0.0
        self.epoch = 0
        self.finished = 0

    def draw(self) -> int:
        """The number of the next reading."""
        if self._next >= self._end or time.monotonic() > self._renew_at:
            self._block()
        self._next += 1
        return self._next

    def renew(self) -> None:
        """Keep the lease in the middle of a long reading, whose number is drawn already."""
        with transaction(self._connection) as cursor:
            cursor.execute(
                f"""UPDATE hub.capture_state SET lease_until = clock_timestamp() + INTERVAL '{LEASE_SECONDS} s'
                    WHERE system = %s AND lease_owner = %s""",  # noqa: S608
                [self.system, self._owner],
            )
            if cursor.rowcount != 1:
                raise FencedError(f"{self.system}: another process reads this source now")

    def _block(self) -> None:
        now = int(time.time() * 1000)
        with transaction(self._connection) as cursor:
            found = one(
                cursor,
                f"""UPDATE hub.capture_state SET drawn = greatest(drawn + 1, %s) + {BLOCK}, lease_owner = %s,
                   lease_until = clock_timestamp() + INTERVAL '{LEASE_SECONDS} s'
                   WHERE system = %s AND (lease_owner = %s OR lease_until < clock_timestamp()) RETURNING drawn, epoch""",  # noqa: S608
                [now, self._owner, self.system, self._owner],
            )
            if found is None:
                raise FencedError(f"{self.system}: another process reads this source; it is tried again when its lease ends")
        self._end, self.epoch = int(found[0]), int(found[1])
        self._next = self._end - BLOCK
        self._renew_at = time.monotonic() + LEASE_SECONDS / 3

    def save(self, number: int, position: str | None) -> None:
        """Record a finished reading and, where the hub holds it, the position to resume from."""
        with transaction(self._connection) as cursor:
            cursor.execute(
                """UPDATE hub.capture_state SET finished = greatest(finished, %s), position = coalesce(%s, position)
                   WHERE system = %s AND lease_owner = %s AND epoch = %s""",
                [number, position, self.system, self._owner, self.epoch],
            )
            if cursor.rowcount != 1:
                raise FencedError(f"{self.system}: another process reads this source now, or it has begun a new life")

    def forget(self) -> None:
        """Give up what is drawn: the next number is of the epoch that is then."""
        self._next = self._end = 0

    def release(self) -> None:
        """Give the lease back, so that the next reader need not wait."""
        with transaction(self._connection) as cursor:
            cursor.execute(
                "UPDATE hub.capture_state SET lease_until = '-infinity' WHERE system = %s AND lease_owner = %s", [self.system, self._owner]
            )


def check_identity(stored: Stored, now: str, system: str) -> None:
    """A source that is another database than before has gone back in time or was replaced: its line stops."""
    if stored.identity is not None and stored.identity != now:
        raise FatalError(
            f"{system}: this is not the database it was (another cluster or a re-created database); "
            f"nothing is captured until a person runs `lienthong load {system} --new-epoch`"
        )
