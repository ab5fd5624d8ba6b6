"""The hub in memory: the statements of capture's lines and of the router."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.simulation.database import Answer, MemoryCursor, columns, statement
from tests.simulation.hub_tables import OP, RECORD, VERSION, change_rows, note_changed


# ------------------------------------------------------------------ capture's row in the hub: lease, numbers, position
@statement("INSERT INTO hub.capture_state (system) VALUES (%s) ON CONFLICT DO NOTHING")
def _state_of_router(cursor: MemoryCursor, arguments: Any) -> Answer:
    cursor["capture_state"].setdefault(arguments[0], _no_state())
    return None


def _no_state() -> dict[str, Any]:
    return {"epoch": 1, "drawn": 0, "finished": 0, "position": None, "identity": None, "owner": None, "leased": False}


@statement("INSERT INTO hub.capture_state (system, drawn, finished, position, identity) VALUES")
def _create_state(cursor: MemoryCursor, arguments: Any) -> Answer:
    system, drawn, finished, position, identity = arguments
    new = {"drawn": drawn, "finished": finished, "position": position, "identity": identity}
    cursor["capture_state"].setdefault(system, _no_state() | new)
    return None


@statement("SELECT epoch, drawn, finished, position, identity FROM hub.capture_state WHERE system = %s")
def _load_state(cursor: MemoryCursor, arguments: Any) -> Answer:
    row = cursor["capture_state"].get(arguments[0])
    return [] if row is None else [tuple(row[n] for n in ("epoch", "drawn", "finished", "position", "identity"))]


@statement("UPDATE hub.capture_state SET drawn = greatest(drawn + 1, %s) + 1000, lease_owner = %s")
def _draw_block(cursor: MemoryCursor, arguments: Any) -> Answer:
    now, owner, system, _ = arguments
    row = cursor["capture_state"].get(system)
    if row is None or (row["owner"] != owner and row["leased"]):
        return []
    new = row | {"drawn": max(row["drawn"] + 1, now) + 1000, "owner": owner, "leased": True}
    cursor["capture_state"][system] = new
    return [(new["drawn"], new["epoch"])]


def _held_by(system: str, owner: str) -> Callable[[Any, Any], bool]:
    return lambda name, row: bool(name == system and row["owner"] == owner)


@statement("UPDATE hub.capture_state SET lease_until = clock_timestamp() + INTERVAL '20 s' WHERE system = %s AND lease_owner = %s")
def _renew(cursor: MemoryCursor, arguments: Any) -> Answer:
    return change_rows(cursor["capture_state"], _held_by(*arguments), leased=True)


@statement("UPDATE hub.capture_state SET finished = greatest(finished, %s), position = coalesce(%s, position)")
def _save_state(cursor: MemoryCursor, arguments: Any) -> Answer:
    number, position, system, owner, epoch = arguments
    row = cursor["capture_state"].get(system)
    if row is None or (row["owner"], row["epoch"]) != (owner, epoch):
        return 0
    new = {"finished": max(row["finished"], number), "position": row["position"] if position is None else position}
    return change_rows(cursor["capture_state"], _held_by(system, owner), **new)


@statement("UPDATE hub.capture_state SET lease_until = '-infinity' WHERE system = %s AND lease_owner = %s")
def _release_lease(cursor: MemoryCursor, arguments: Any) -> Answer:
    return change_rows(cursor["capture_state"], _held_by(*arguments), leased=False)


# ------------------------------------------------------------------ the router's statements
@statement("SELECT lane, id, record, resend, at FROM hub.changed ORDER BY lane, id LIMIT %s")
def _take_changed(cursor: MemoryCursor, arguments: Any) -> Answer:
    return [(lane, n, *row) for (lane, n), row in sorted(cursor["changed"].items())][: arguments[0]]


@statement("SELECT record, entity, parent, merged_into, deleted, sole, body::text, who::text FROM hub.record WHERE record = ANY(%s)")
def _golden(cursor: MemoryCursor, arguments: Any) -> Answer:
    names = ("entity", "parent", "merged_into", "deleted", "sole", "body", "who")
    return [(r, *(row[n] for n in names)) for r in arguments[0] if (row := cursor["record"].get(r)) is not None]


@statement("SELECT record, system, state::text, hash FROM hub.entitled WHERE record = ANY(%s)")
def _entitled(cursor: MemoryCursor, arguments: Any) -> Answer:
    return [(*key, row[2], row[1]) for key, row in cursor["entitled"].items() if key[0] in arguments[0]]


@statement("SELECT record, system, local_key FROM hub.contribution WHERE record = ANY(%s) AND op = 's' ORDER BY version")
def _local_keys(cursor: MemoryCursor, arguments: Any) -> Answer:
    found = [(r[VERSION], r[RECORD], k[0], k[2]) for k, r in cursor["contribution"].items() if r[RECORD] in arguments[0] and r[OP] == "s"]
    return [row[1:] for row in sorted(found)]


@statement("SELECT system, record, entity, version, NULL, 's' FROM {given} b ORDER BY record, system")
def _entitled_in_doubt(cursor: MemoryCursor, given: Any) -> Answer:
    for system, record, *_ in given:
        version, *_ = cursor["entitled"].get((record, system), (0,))
        cursor["entitled"][record, system] = (version, None, "s")
    return len(given)


@statement("SELECT topic, next FROM hub.out_topic FOR UPDATE")
def _out_topics(cursor: MemoryCursor, _: Any) -> Answer:
    return list(cursor["out_topic"].items())


@statement("UPDATE hub.out_topic SET next = %s WHERE topic = %s AND next = %s")
def _move_out_topic(cursor: MemoryCursor, arguments: Any) -> Answer:
    following, topic, expected = arguments
    if cursor["out_topic"].get(topic) != expected:
        return 0
    cursor["out_topic"][topic] = following
    return 1


@statement("INSERT INTO hub.out_topic VALUES (%s, %s) ON CONFLICT (topic) DO UPDATE SET next = excluded.next")
def _put_out_topic(cursor: MemoryCursor, arguments: Any) -> Answer:
    topic, following = arguments
    cursor["out_topic"][topic] = following
    return 1


@statement("SELECT system, local_key FROM hub.parked WHERE state = 'open' AND kind = 'route' AND reason = 'too_large'")
def _too_large(_cursor: MemoryCursor, _: Any) -> Answer:
    return []  # no record of the simulation is that large


@statement("INSERT INTO hub.entitled AS e (system, record, entity, version, hash, state) SELECT system, record, entity, version, hash, state")
def _put_entitled(cursor: MemoryCursor, given: Any) -> Answer:
    for system, record, _, version, digest, state in given:
        cursor["entitled"][record, system] = (version, digest, state)
    return len(given)


@statement("DELETE FROM hub.changed WHERE (lane, id) IN")
def _drop_changed(cursor: MemoryCursor, arguments: Any) -> Answer:
    return len([cursor["changed"].pop(key, None) for key in columns(arguments)])


@statement("SELECT system FROM hub.loaded GROUP BY system HAVING count(*) >= %s")
def _loaded(cursor: MemoryCursor, arguments: Any) -> Answer:
    systems = [system for system, _ in cursor["loaded"]]
    return [(system,) for system in sorted(set(systems)) if systems.count(system) >= arguments[0]]


@statement("SELECT name FROM hub.setting WHERE name LIKE 'open %%'")
def _opened(cursor: MemoryCursor, _: Any) -> Answer:
    return [(name,) for name in cursor["setting"] if name.startswith("open ")]


@statement("INSERT INTO hub.setting VALUES (%s, '') ON CONFLICT DO NOTHING")
def _note_open(cursor: MemoryCursor, arguments: Any) -> Answer:
    cursor["setting"].setdefault(arguments[0], "")
    return None


@statement("INSERT INTO hub.changed (record, lane) SELECT record, 1 FROM hub.record ORDER BY record")
def _change_all(cursor: MemoryCursor, _: Any) -> Answer:
    note_changed(cursor, [(record, 1, None, 0) for record in sorted(cursor["record"])])
    return len(cursor["record"])
