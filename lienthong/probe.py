"""Probe records: does anything still travel each line? What processes say of themselves is not asked (reliability §3.7).

On the leg `in` a number is written at the source, captured like any change, and seen by the merge. On the leg `out` it is put on the
router's list, sent to the system's topic and written by the applier into the system's database. `lienthong.prober` sends and judges.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from connectors.kafka import Message, Producer
from connectors.postgres import Cursor, rows
from lienthong import frames
from lienthong.frames import Note
from lienthong.output import Output
from lienthong.settings import Settings

KEY = b"probe"
NUMBER = "lienthong_probe"
RECORD = 0  # on the router's list: no record, a probe

_STANDING = """
SELECT system, leg, state, stage, reason, extract(epoch FROM clock_timestamp() - since)::float8, took_seconds,
       extract(epoch FROM clock_timestamp() - at)::float8, arrived_at,
       greatest(extract(epoch FROM clock_timestamp()) - coalesce(nullif(arrived, 0) / 1e6, extract(epoch FROM since)), 0)::float8
FROM hub.probe ORDER BY system, leg
"""


def interval_seconds(systems: int) -> float:
    """How often each system gets a probe: with many systems more rarely, so that there are never more than four a second."""
    return max(5.0, systems / 4)


# ------------------------------------------------------------------ on its way
def put(output: Output, number: int) -> None:
    """Capture: pass on the probe that a reading was notified of (0: none), in a partition that changes from probe to probe."""
    if number:
        header = frames.Header(output.system, "?", "probe", output.epoch, output.version, 0, output.at)
        for frame in frames.note_frame(header, [{"number": number}]):
            output.emit(number // 1_000_000 % output.partitions, frame)


def merged(cursor: Cursor, notes: Iterable[Note]) -> None:
    """Merge: what has arrived in the hub."""
    arrived: dict[str, int] = {}
    for note in notes:
        if note.header.kind == "probe":
            arrived[note.header.system] = max(arrived.get(note.header.system, 0), int(note.content["number"]))
    for system, number in sorted(arrived.items()):
        cursor.execute(
            """UPDATE hub.probe SET arrived = %(n)s, arrived_at = clock_timestamp(),
                 took_seconds = greatest(extract(epoch FROM clock_timestamp()) - %(n)s / 1e6, 0),
                 since = CASE WHEN %(n)s >= number THEN NULL ELSE since END
               WHERE system = %(s)s AND leg = 'in' AND arrived < %(n)s""",
            {"n": number, "s": system},
        )


def forward(producer: Producer, taken: Iterable[Sequence[Any]], topic_of: Any) -> None:
    """Route: the probes among what was taken from the list (lane, id, record, resend to, at) go to their topics, last.

    A probe has no value, so a consumer that reads records passes over it, and compaction keeps at most one.
    """
    for _, _, record, system, number in taken:
        if record == RECORD and system is not None:
            producer.send(topic_of(system), None, key=KEY, partition=0, headers=[(NUMBER, str(number).encode())])


def applied(cursor: Cursor, messages: Iterable[Message]) -> None:
    """Apply: what has arrived in the target, in the transaction of its batch."""
    numbers = [int(dict(m.headers)[NUMBER]) for m in messages if m.value is None and m.key == KEY and NUMBER in dict(m.headers)]
    if numbers:
        cursor.execute(
            """INSERT INTO lienthong.probe AS p (leg, number) VALUES ('out', %s) ON CONFLICT (leg) DO UPDATE
               SET number = excluded.number, at = clock_timestamp() WHERE p.number < excluded.number""",
            [max(numbers)],
        )


# ------------------------------------------------------------------ how it stands
def legs_of(settings: Settings, system: str) -> list[str]:
    """The legs of a system's lines: `in` where it is captured, `out` where it is written to."""
    party = settings.systems[system]
    into = party.apply and settings.contract_of(system) is not None
    return (["in"] if party.capture != "none" else []) + (["out"] if into else [])


def standing(cursor: Cursor, settings: Settings) -> list[dict[str, Any]]:
    """Each leg of each system: whether its probe has arrived, or how long it has been waited for and where it is stuck.

    `age_seconds` is how long ago the newest probe that has arrived was sent (the first, while none has): it grows too when nobody sends any.
    """
    out = []
    silent_after = 3 * interval_seconds(len(settings.systems)) + 10
    for system, leg, state, stage, reason, waiting, took, looked, arrived_at, age in rows(cursor, _STANDING):
        party = settings.systems.get(system)
        if party is None or leg not in legs_of(settings, system):
            continue
        if looked > silent_after:
            state, reason = "unwatched", f"nobody has looked for {looked:.0f} s: does `lienthong run watch` run?"
        elif state == "waiting" and waiting is not None and waiting > party.lag_limit_seconds:
            state = "late"
        out.append(
            {
                "system": system,
                "leg": leg,
                "state": state,
                "stage": stage,
                "waiting_seconds": None if waiting is None else round(waiting, 1),
                "limit_seconds": party.lag_limit_seconds,
                "took_seconds": None if took is None else round(took, 3),
                "age_seconds": None if arrived_at is None and waiting is None else round(age, 1),
                "arrived_at": None if arrived_at is None else arrived_at.isoformat(),
                "reason": reason,
            }
        )
    return out
