"""Status steps made from row images: each real change of status becomes one dossier_event, echoes of our own writes none (S1, B5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress

import schemas
from connectors.avro import DamagedError
from connectors.postgres import Cursor, rows
from lienthong import hub
from lienthong.frames import STATE, Entry, Note, encode_body, mask_of

_DOSSIER, _EVENT = "dossier", "dossier_event"
_BEFORE = (0, -1)  # epoch and number before every step
_UPSERT = """
INSERT INTO hub.step AS s (system, local_key, status, epoch, number) VALUES (%s, %s, %s, %s, %s)
ON CONFLICT (system, local_key) DO UPDATE SET status = excluded.status, epoch = excluded.epoch, number = excluded.number
WHERE (s.epoch, s.number) < (excluded.epoch, excluded.number)
"""

_WITHOUT = """
SELECT k.system, k.local_key FROM unnest(%s::text[], %s::text[]) AS k(system, local_key)
WHERE NOT EXISTS (SELECT FROM hub.step s WHERE (s.system, s.local_key) = (k.system, k.local_key))
"""


def events(cursor: Cursor, notes: Sequence[Note]) -> list[Entry]:
    """The events that these step notes stand for, in order, and the notes' refusals turned into `refused` notes by the caller.

    A step equal to the one before it is no step (the row changed, not its status); one from our own transaction only moves the mark;
    one already seen (a replay) is skipped by its number. With the first a row began: it is a step whatever a load has seen there meanwhile.
    """
    steps = sorted((n for n in notes if n.header.kind == "step" and n.content["status"] is not None), key=lambda n: n.content["order"])
    if not steps:
        return []
    keys = sorted({(n.header.system, n.content["root"]) for n in steps})
    seen = _loaded(cursor, keys, {(n.header.system, n.content["root"]): n.header.version for n in reversed(steps)}) | {
        (system, key): (status, (epoch, number))
        for system, key, status, epoch, number in rows(
            cursor,
            """SELECT s.system, s.local_key, s.status, s.epoch, s.number FROM hub.step s
               JOIN unnest(%s::text[], %s::text[]) AS k(system, local_key) USING (system, local_key) FOR UPDATE OF s""",
            [[k[0] for k in keys], [k[1] for k in keys]],
        )
    }
    made, bits = [], {f.name: 1 << f.index for f in schemas.fields(_EVENT)}
    for note in steps:
        head, step = note.header, note.content
        key = (head.system, step["root"])
        status, place = seen.get(key, (None, _BEFORE))
        if (head.epoch, step["order"]) <= place:
            continue
        seen[key] = (step["status"], (head.epoch, step["order"]))
        if step["ours"] or (step["status"] == status and not step.get("first")):
            continue
        values = {"status": step["status"], "occurred_at": step["at"]}
        mask = mask_of(_EVENT, values)
        nulls, body = encode_body(_EVENT, values, bits, mask)
        made.append(
            Entry(
                head.system,
                _EVENT,
                f"{step['root']}@{head.epoch:x}.{step['order']:x}",
                STATE,
                head.epoch,
                head.version,
                mask,
                nulls,
                body,
                step["root"],
                None,
                False,
                None,
                head.at,
            )
        )
    for (system, key), (status, place) in sorted(seen.items()):
        if place != _BEFORE:
            cursor.execute(_UPSERT, [system, key, status, *place])
    return made


def keep(cursor: Cursor, entries: Sequence[Entry]) -> None:
    """Where the steps of these dossiers begin: what a load or a later look tells of a status must not hide the step that led to it.

    A look may be newer than the steps that were read so far; without a step of before, the status until now is their beginning.
    """
    keys = [(entry.system, entry.key) for entry in entries]
    columns = [[system for system, _ in keys], [key for _, key in keys]]
    without = set(rows(cursor, _WITHOUT, columns)) if keys else set()
    told = {(e.system, _DOSSIER, e.key): _status_of(e) for e in entries if (e.system, e.key) in without}
    before = hub.bodies(cursor, list(told))
    begun = [(*place[::2], body.get("status"), *_BEFORE) for place, body in sorted(before.items()) if body.get("status") != told[place]]
    for row in begun:
        cursor.execute(_UPSERT, row)


def _status_of(entry: Entry) -> int | None:
    with suppress(DamagedError):  # parked where the batch's records are opened
        found: int | None = entry.values().get("status")
        return found
    return None


def _loaded(
    cursor: Cursor, keys: Sequence[tuple[str, str]], first: Mapping[tuple[str, str], int]
) -> dict[tuple[str, str], tuple[int | None, tuple[int, int]]]:
    """The status a dossier had in an earlier reading is where its steps begin: a later change of another column is none."""
    known = hub.existing(cursor, [(system, _DOSSIER, key) for system, key in keys])
    earlier = [place for place, had in known.items() if had.op == "s" and had.version < first[place[0], place[2]]]
    found = hub.bodies(cursor, earlier)
    return {(system, key): (body.get("status"), _BEFORE) for (system, _, key), body in found.items()}
