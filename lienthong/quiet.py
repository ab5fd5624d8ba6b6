"""Wait until nothing is on its way: no source ahead of its capture, no frame unmerged, no change unrouted, no message unapplied or undelivered."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from connectors.kafka import Ends
from connectors.postgres import Cursor, connect, one, rows, transaction
from lienthong import frames, probe
from lienthong.errors import TransientError
from lienthong.receivers import receivers
from lienthong.route import topic_of
from lienthong.settings import Settings

POLL_SECONDS = 0.25
# A step whose dossier was refused waits for the next state of the dossier.
_UNDELIVERED = """
SELECT FROM hub.delivery m JOIN hub.delivery_dossier d USING (system, dossier)
WHERE m.system = %s AND m.state IN ('pending', 'sent', 'unknown') AND (d.is_there OR m.kind <> 'progress') LIMIT 1
"""
ROUNDS = 2  # what the first round waited for may have caused an echo or a correction


def what_moves(settings: Settings, since_micros: int, ends: Ends, *, delivery: bool = True) -> str | None:
    """The first stage that still has work, in words; None when all is quiet since the given time (µs). Without `delivery`, among the systems."""
    hub = connect(settings.hub.dsn, application_name="lienthong quiet")
    try:
        with transaction(hub) as cursor:
            behind = rows(
                cursor,
                """SELECT system FROM hub.line WHERE stage = 'capture' AND system = ANY(%s)
                   AND through < TIMESTAMPTZ 'epoch' + %s * INTERVAL '1 microsecond'""",
                [[n for n, s in settings.systems.items() if s.capture != "none"], since_micros],
            )
            if behind:
                return f"capture of {behind[0][0]}"
            end_of = ends.of(frames.TOPIC)  # before what is stored: signs of life never end, and none that comes meanwhile is waited for
            stored = dict(rows(cursor, "SELECT partition, next FROM hub.consumer_offset WHERE topic = %s", [frames.TOPIC]))
            changed = one(cursor, "SELECT count(*) FROM hub.changed WHERE record <> %s", [probe.RECORD])
            served = receivers(cursor, settings)
            delivered = not delivery or _delivered(cursor, settings, ends)
    finally:
        hub.close()
    if any(stored.get(partition, 0) < end for partition, end in end_of.items()):
        return "merge"
    if changed is None or changed[0]:
        return "route"
    return _unapplied(settings, served, ends) or (None if delivered else "deliver")


def _delivered(cursor: Cursor, settings: Settings, ends: Ends) -> bool:
    """Whether the national portal has answered everything that it is to be told."""
    portal = settings.national.portal if settings.national is not None else None
    if portal is None:
        return True
    topic = topic_of(portal.system)
    end = ends.of(topic).get(0, 0)
    queued = one(cursor, "SELECT next FROM hub.consumer_offset WHERE topic = %s AND partition = 0", [topic])
    if (queued[0] if queued else 0) < end:
        return False
    return one(cursor, _UNDELIVERED, [portal.system]) is None


def _unapplied(settings: Settings, served: Sequence[str], ends: Ends) -> str | None:
    for system in served:
        end = ends.of(topic_of(system)).get(0, 0)
        if not end:
            continue
        connection = connect(settings.dsn_of(system), application_name="lienthong quiet")
        try:
            with transaction(connection) as cursor:
                found = one(cursor, "SELECT next FROM lienthong.consumer_offset WHERE topic = %s", [topic_of(system)])
        finally:
            connection.close()
        if found is None or found[0] < end:
            return f"apply to {system}"
    return None


def wait_quiet(settings: Settings, *, timeout_seconds: float, told: Callable[[str], None] = lambda _: None, delivery: bool = True) -> float:
    """Wait until everything committed before now, and all that follows from it, has arrived; returns the seconds it took.

    Without `delivery`, what is on its way to the national portal is not waited for.

    Raises `TransientError` naming the stage that still moves when the time is over.
    """
    begun = time.monotonic()
    ends = Ends(settings.kafka.brokers)
    try:
        for _ in range(ROUNDS):
            since = int(time.time() * 1_000_000)
            while (moving := what_moves(settings, since, ends, delivery=delivery)) is not None:
                told(moving)
                if time.monotonic() - begun > timeout_seconds:
                    raise TransientError(f"still moving after {timeout_seconds:.0f} s: {moving}; see `lienthong status`")
                time.sleep(POLL_SECONDS)
    finally:
        ends.close()
    return time.monotonic() - begun
