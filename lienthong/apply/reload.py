"""Send a target again what it has missed: what it holds is compared with what it is entitled to, and only the difference goes out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from connectors.kafka import Ends
from connectors.postgres import Connection, Cursor, connect, one, streamed, transaction
from lienthong.apply import own_keys
from lienthong.capture import witness
from lienthong.errors import ConfigError, TransientError
from lienthong.hub import named
from lienthong.route import topic_of
from lienthong.settings import Settings

POLL_SECONDS = 0.25
AT_ONCE = 5000

_ENTITLED = "SELECT record, version, state::text FROM hub.entitled WHERE system = %(system)s ORDER BY record"
_APPLIED = "SELECT record, max(version), '' FROM lienthong.applied GROUP BY record ORDER BY record"
_SEND = "INSERT INTO hub.changed (record, lane, resend) SELECT record, 1, %s FROM unnest(%s::bigint[]) record ORDER BY record"

Told = Callable[[str], None]
Listed = tuple[int, int, str]  # record, version, state


@dataclass(slots=True)
class Compared:
    """What a target holds against what it is entitled to."""

    same: int = 0
    differ: list[int] = field(default_factory=list)  # records it holds in another version than it was sent, or not at all
    unknown: int = 0  # records it was once sent and the hub knows nothing of


@dataclass(frozen=True, slots=True)
class Resent:
    """What a resend did."""

    system: str
    same: int
    resent: int
    unknown: int
    still_different: int
    moved_to: int | None
    seconds: float


def compare(hub: Connection, target: Connection, system: str) -> Compared:
    """Walk through both lists side by side, in record order."""
    compared = Compared()
    with transaction(hub) as mine, transaction(target) as theirs:
        walk(compared, _listed(mine, _ENTITLED, system), _listed(theirs, _APPLIED, system))
    return compared


def walk(compared: Compared, entitled: Iterator[Listed], applied: Iterator[Listed]) -> None:
    """Compare two lists in record order. A record that was joined with another has no row of its own any more."""
    for here, there in _side_by_side(entitled, applied):
        if here is None:
            compared.unknown += 1
        elif (there is None and here[2] == "m") or (there is not None and there[1] >= here[1]):
            compared.same += 1
        else:
            compared.differ.append(here[0])


def _listed(cursor: Cursor, statement: str, system: str) -> Iterator[Listed]:
    yield from streamed(cursor, statement, {"system": system})


def _side_by_side(left: Iterator[Listed], right: Iterator[Listed]) -> Iterator[tuple[Listed | None, Listed | None]]:
    one_, other = next(left, None), next(right, None)
    while one_ is not None or other is not None:
        record = min(side[0] for side in (one_, other) if side is not None)
        here, there = one_ if one_ and one_[0] == record else None, other if other and other[0] == record else None
        yield here, there
        one_ = next(left, None) if here else one_
        other = next(right, None) if there else other


class Reload:
    """Brings one target up to what it is entitled to."""

    def __init__(self, settings: Settings, system: str) -> None:
        if not settings.systems[system].apply or settings.contract_of(system) is None:
            raise ConfigError(f"{system} is not written to by this service (apply: false, or no contract): there is nothing to send again")
        self.settings, self.system, self.topic = settings, system, topic_of(system)
        with named():
            self.hub = connect(settings.hub.dsn, application_name=f"lienthong resend {system}")
        self.target = connect(settings.dsn_of(system), application_name=f"lienthong resend {system}")
        self.ends = Ends(settings.kafka.brokers)

    def run(self, *, wait_seconds: float, told: Told = lambda _: None) -> Resent:
        """Compare, send the difference, wait until it is applied, and let the system's own edits go on.

        Raises `WentBack` or `TransientError` at once where something else must come first.
        """
        begun = time.monotonic()
        self._check_written()
        moved = self._regain()
        told("comparing")
        compared = compare(self.hub, self.target, self.system)
        self._send(compared.differ)
        self._wait(begun + wait_seconds, told)
        left = compare(self.hub, self.target, self.system)
        witness.hold(self.hub, self.system, None)
        return Resent(
            self.system,
            compared.same,
            len(compared.differ),
            compared.unknown,
            len(left.differ),
            moved,
            time.monotonic() - begun,
        )

    def _check_written(self) -> None:
        """Nothing is written to a system that went back in time, or has begun a new life that the hub does not know yet: that comes first."""
        after = f"; after that, `lienthong resend {self.system}` again"
        fenced = witness.load(self.hub, self.system).fenced
        if fenced is not None:
            raise witness.WentBack(fenced + after)
        with transaction(self.hub) as cursor:
            known = own_keys.lives(cursor, self.settings.kafka.partitions)
        try:
            own_keys.OwnKeys(self.hub, self.system).begin(known)
        except TransientError as error:
            raise TransientError(f"{error}{after}") from None

    def _regain(self) -> int | None:
        """Where the stored position is not in the topic any more, go to where it begins: what is missing before that is sent again."""
        start, end = self.ends.starts(self.topic).get(0, 0), self.ends.of(self.topic).get(0, 0)
        stored = self._stored()
        if stored is not None and start <= stored <= end:
            return None
        if stored is None and not start:
            return None
        with transaction(self.target) as cursor:
            cursor.execute(
                """INSERT INTO lienthong.consumer_offset (topic, partition, next) VALUES (%s, 0, %s)
                   ON CONFLICT (topic, partition) DO UPDATE SET next = excluded.next""",
                [self.topic, start],
            )
        return start

    def _stored(self) -> int | None:
        with transaction(self.target) as cursor:
            found = one(cursor, "SELECT next FROM lienthong.consumer_offset WHERE topic = %s AND partition = 0", [self.topic])
        return int(found[0]) if found else None

    def _send(self, records: Sequence[int]) -> None:
        for at in range(0, len(records), AT_ONCE):
            with transaction(self.hub) as cursor:
                cursor.execute(_SEND, [self.system, list(records[at : at + AT_ONCE])])

    def _wait(self, until: float, told: Told) -> None:
        """Until the router has sent it and the target has applied it; raises `TransientError` naming who has not."""
        while (waiting := self._waits_for()) is not None:
            self._check_written()
            told(waiting)
            if time.monotonic() > until:
                raise TransientError(
                    f"{self.system}: it still waits for {waiting}; does `lienthong run` run? Begin this command again then: it sends only "
                    "what is still missing, and the system's own edits wait until it has ended"
                )
            time.sleep(POLL_SECONDS)

    def _waits_for(self) -> str | None:
        with transaction(self.hub) as cursor:
            if one(cursor, "SELECT 1 FROM hub.changed WHERE resend = %s LIMIT 1", [self.system]):
                return "route"
        return "apply" if (self._stored() or 0) < self.ends.of(self.topic).get(0, 0) else None

    def close(self) -> None:
        """Close the connections."""
        self.ends.close()
        self.target.close()
        self.hub.close()
