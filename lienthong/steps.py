"""Status steps made from row images: each real change of status becomes one dossier_event, echoes of our own writes none (S1, B5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import schemas
from connectors.postgres import Cursor, rows
from lienthong import hub
from lienthong.frames import STATE, Entry, Note, encode_body, mask_of

_EVENT = "dossier_event"
_BEFORE = (0, -1)  # epoch and number before every step
_UPSERT = """
INSERT INTO hub.step AS s (system, local_key, status, epoch, number) VALUES (%s, %s, %s, %s, %s)
ON CONFLICT (system, local_key) DO UPDATE SET status = excluded.status, epoch = excluded.epoch, number = excluded.number
WHERE (s.epoch, s.number) < (excluded.epoch, excluded.number)
"""


def events(cursor: Cursor, notes: Sequence[Note]) -> list[Entry]:
    """The events that these step notes stand for, in order, and the notes' refusals turned into `refused` notes by the caller.

    A step equal to the one before it is no step (the row changed, not its status); one from our own transaction only moves the mark;
    one already seen (a replay) is skipped by its number.
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
        if step["status"] == status or step["ours"]:
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


def _loaded(
    cursor: Cursor, keys: Sequence[tuple[str, str]], first: Mapping[tuple[str, str], int]
) -> dict[tuple[str, str], tuple[int | None, tuple[int, int]]]:
    """The status a dossier had in an earlier reading is where its steps begin: a later change of another column is none."""
    known = hub.existing(cursor, [(system, "dossier", key) for system, key in keys])
    earlier = [place for place, had in known.items() if had.op == "s" and had.version < first[place[0], place[2]]]
    found = hub.bodies(cursor, earlier)
    return {(system, key): (body.get("status"), _BEFORE) for (system, _, key), body in found.items()}
