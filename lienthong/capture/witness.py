"""The witness of a source's past: whoever stands further back than it stood before has lost something, and is not read (reliability §3.7).

What is compared: the timeline, the end of the log, and the number of the last probe that was seen there. The first shows a promotion or a
restore to a point in time, the second a server that was set back, the third a database that was reloaded from a dump, or whose log has
grown past the mark again. The cluster and the database themselves are compared by `lienthong.capture.state.check_identity`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from connectors.postgres import Connection, Cursor, one, rows, transaction
from lienthong.errors import FatalError, TransientError

LOOK_SECONDS = 5.0

_MARK = """
SELECT ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int, (pg_current_wal_flush_lsn() - '0/0'::pg_lsn)::bigint
"""
_SAVE = """
INSERT INTO hub.source_mark AS m (system, timeline, position, probe) VALUES (%s, %s, %s, %s)
ON CONFLICT (system) DO UPDATE SET timeline = greatest(m.timeline, excluded.timeline), position = greatest(m.position, excluded.position),
  probe = greatest(m.probe, excluded.probe), seen_at = clock_timestamp()
"""


class WentBack(FatalError):
    """A source went back in time or failed over; a person chooses how to go on."""

    code = "LT-LINE-004"


class Held(FatalError):
    """A system has missed what was sent to it; its own edits wait until it has everything again."""

    code = "LT-LINE-005"


@dataclass(frozen=True, slots=True)
class Mark:
    """How far a source is: timeline, end of its log in bytes, number of the newest probe there (0: none)."""

    timeline: int
    position: int
    probe: int


def mark_of(cursor: Cursor, system: str) -> Mark:
    """How far a source is now; raises `TransientError` when it is a standby, which is never read (protocol B1)."""
    found = one(cursor, "SELECT pg_is_in_recovery(), to_regclass('lienthong.probe') IS NOT NULL")
    assert found is not None
    if found[0]:
        raise TransientError(f"{system}: this server is a standby, and only a primary is read: is its dsn right?")
    probe = one(cursor, "SELECT number FROM lienthong.probe WHERE leg = 'in'") if found[1] else None
    mark = one(cursor, _MARK)
    assert mark is not None
    return Mark(int(mark[0]), int(mark[1]), int(probe[0]) if probe else 0)


def missing(known: Mark, now: Mark) -> str | None:
    """What shows that a source has lost something since it was last seen; None when nothing does."""
    if now.position < known.position:
        return "its log ends before what was there already"
    if now.probe < known.probe:
        return "a mark that was written there is gone"
    return "it is on an earlier timeline" if now.timeline < known.timeline else None


def choice(system: str, lost: str | None, timelines: tuple[int, int] | None) -> str:
    """Why a source is not read and what its operator can choose."""
    again = f"`lienthong load {system} --new-epoch` takes it as it is now and lists what it has forgotten"
    if lost is not None:
        return f"{system} went back in time: {lost}. Nothing of it is taken. Put the right database back, or go on with this one: {again}"
    before, now = timelines or (0, 0)
    return (
        f"{system} was promoted or restored: its timeline was {before} and is {now}. Nothing of it is taken until you choose. If nothing "
        f"was lost (a planned switch, a synchronous standby): `lienthong resume {system}`. Otherwise, or in doubt: {again}"
    )


@dataclass(frozen=True, slots=True)
class Known:
    """What the hub remembers of a source."""

    mark: Mark | None
    fenced: str | None
    failover: bool
    held: str | None
    fenced_probe: int | None = None  # the newest probe there when it was fenced


def load(connection: Connection, system: str) -> Known:
    """What the hub remembers of a source; of an unknown one, nothing."""
    with transaction(connection) as cursor:
        found = one(cursor, "SELECT timeline, position, probe, fenced, failover, held, fenced_probe FROM hub.source_mark WHERE system = %s", [system])
    if found is None:
        return Known(None, None, False, None)
    timeline, position, probe, *rest = found
    return Known(None if timeline is None else Mark(timeline, position, probe or 0), *rest)


def fence(connection: Connection, system: str, why: str, now: Mark, *, failover: bool = False) -> None:
    """Let nothing more of a source be taken, whatever it grows to meanwhile, until a person has chosen."""
    with transaction(connection) as cursor:
        cursor.execute(
            """INSERT INTO hub.source_mark (system, fenced, failover, fenced_probe) VALUES (%s, %s, %s, %s) ON CONFLICT (system)
               DO UPDATE SET fenced = excluded.fenced, failover = excluded.failover, fenced_probe = excluded.fenced_probe""",
            [system, why, failover, now.probe],
        )


def check_written(connection: Connection, system: str, cursor: Cursor) -> None:
    """Compare a system that is to be written to, in whose database the cursor is, with what it was as a source.

    Its serial keys may name other records now. Raises `WentBack` and remembers that, as when it is read.
    """
    known = load(connection, system)
    if known.fenced is not None:
        raise WentBack(known.fenced)
    if known.mark is None:
        return  # it is not read
    now = mark_of(cursor, system)
    lost = missing(known.mark, now)
    if lost is not None or now.timeline != known.mark.timeline:
        why = choice(system, lost, (known.mark.timeline, now.timeline))
        fence(connection, system, why, now, failover=lost is None)
        raise WentBack(why)


def fenced(cursor: Cursor) -> dict[str, str]:
    """The systems that wait for a person to choose, and why."""
    return dict(rows(cursor, "SELECT system, fenced FROM hub.source_mark WHERE fenced IS NOT NULL"))


def accept(connection: Connection, system: str, now: Mark, *, new_life: bool) -> None:
    """A person has chosen this source as it is now: the marks start here."""
    with transaction(connection) as cursor:
        cursor.execute(
            """INSERT INTO hub.source_mark AS m (system, timeline, position, probe, epoch_at)
               VALUES (%(system)s, %(timeline)s, %(position)s, %(probe)s, CASE WHEN %(new)s THEN clock_timestamp() END)
               ON CONFLICT (system) DO UPDATE SET timeline = excluded.timeline, position = excluded.position, probe = excluded.probe,
                 fenced = NULL, failover = false, epoch_at = coalesce(excluded.epoch_at, m.epoch_at), seen_at = clock_timestamp()""",
            {"system": system, "timeline": now.timeline, "position": now.position, "probe": now.probe, "new": new_life},
        )


def hold(connection: Connection, system: str, why: str | None) -> None:
    """Let a system's own edits wait, or with None let them go on."""
    with transaction(connection) as cursor:
        cursor.execute(
            "INSERT INTO hub.source_mark (system, held) VALUES (%s, %s) ON CONFLICT (system) DO UPDATE SET held = excluded.held", [system, why]
        )


class Witness:
    """Watches one source for one reader of it.

    `open` comes before the reader looks at the source: what the hub knew then, the source must have reached.
    """

    def __init__(self, connection: Connection, system: str) -> None:
        self._hub = connection
        self.system = system
        self._known: Mark | None = None
        self._saved_at = 0.0
        self.place: Callable[[Cursor, str], str | None] | None = None  # why the system has lost its place in its out-topic
        self._asked_place = False
        self.passes_held = False  # the load of a new life: nothing is written there before its end, so what holds the system waits for it

    def open(self) -> None:
        """Take up what the hub remembers; raises `WentBack` or `Held` when nothing may be taken now."""
        known = load(self._hub, self.system)
        self._refuse(known)
        self._known, self._saved_at, self._asked_place = known.mark, 0.0, False

    def _refuse(self, known: Known) -> None:
        if known.fenced is not None:
            raise WentBack(known.fenced)
        if known.held is not None and not self.passes_held:
            raise Held(known.held)

    def check(self, cursor: Cursor) -> None:
        """Compare the source with what it was; raises `WentBack` or `Held` and remembers that."""
        self._check_place(cursor)
        now, known = mark_of(cursor, self.system), self._known
        if known is not None:
            lost = missing(known, now)
            if lost is not None or now.timeline != known.timeline:
                self.went_back(lost, now, (known.timeline, now.timeline))
        self._known = now
        if time.monotonic() - self._saved_at > LOOK_SECONDS:
            self._saved_at = time.monotonic()
            self._refuse(load(self._hub, self.system))
            with transaction(self._hub) as mine:
                mine.execute(_SAVE, [self.system, now.timeline, now.position, now.probe])

    def _check_place(self, cursor: Cursor) -> None:
        if self.place is None or self._asked_place:
            return
        why = self.place(cursor, self.system)
        if why is not None:
            hold(self._hub, self.system, why)
            raise Held(why)
        self._asked_place = True

    def went_back(self, lost: str | None, now: Mark, timelines: tuple[int, int] | None = None) -> None:
        """Fence the source as it is now; raises `WentBack`."""
        why = choice(self.system, lost, timelines)
        fence(self._hub, self.system, why, now, failover=lost is None)
        raise WentBack(why)


def resume(connection: Connection, system: str, now: Mark) -> None:
    """Go on after a failover in which nothing was lost, or with the right database put back; raises `WentBack` when something is missing."""
    known = load(connection, system)
    if known.fenced is None:
        raise FatalError(f"{system} is not stopped for going back in time; `lienthong status` shows what is the matter")
    lost = missing(known.mark, now) if known.mark is not None else None
    # The log of the wrong database may have grown past the mark; a probe that it had lost when it was fenced does not come back.
    is_proven = known.fenced_probe is not None and now.probe > known.fenced_probe
    if lost is not None or not (known.failover or is_proven):
        raise WentBack(choice(system, lost or "it does not show anything that it had lost when it was stopped", None))
    accept(connection, system, now, new_life=False)
