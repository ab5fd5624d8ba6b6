"""The hub in memory: the statements of merge, links, parked and steps."""

from __future__ import annotations

from typing import Any

import orjson

from tests.simulation.database import Answer, MemoryCursor, Rows, columns, statement
from tests.simulation.hub_tables import AT, CLAIM, EPOCH, OP, PARENT, RECORD, VERSION, as_json, change_rows


# ------------------------------------------------------------------ the merge's own statements
@statement("SELECT pg_try_advisory_xact_lock(hashtext('lienthong.merge'))")
def _alone(_cursor: MemoryCursor, _: Any) -> Answer:
    return [(True,)]


@statement("SELECT next FROM hub.consumer_offset WHERE topic = %s AND partition = %s")
def _stored_offset(cursor: MemoryCursor, arguments: Any) -> Answer:
    following = cursor["consumer_offset"].get(tuple(arguments))
    return [] if following is None else [(following,)]


@statement("SELECT nextval('hub.record_id')")
def _next_id(cursor: MemoryCursor, _: Any) -> Answer:
    return [(next(cursor.database.record_ids),)]


@statement("SELECT local_key FROM hub.contribution WHERE system = %s AND entity = %s AND parent_key = %s AND op = 's'")
def _children_of_root(cursor: MemoryCursor, arguments: Any) -> Answer:
    system, entity, root = arguments
    return [(k[2],) for k, r in cursor["contribution"].items() if k[:2] == (system, entity) and r[PARENT] == root and r[OP] == "s"]


@statement("SELECT record FROM hub.record WHERE record = ANY(%s) AND merged_into IS NOT NULL")
def _gone_parents(cursor: MemoryCursor, arguments: Any) -> Answer:
    return [(r,) for r in arguments[0] if (row := cursor["record"].get(r)) is not None and row["merged_into"] is not None]


@statement("SELECT merged_into FROM hub.record WHERE record = %s")
def _merged_into(cursor: MemoryCursor, arguments: Any) -> Answer:
    row = cursor["record"].get(arguments[0])
    return [(row["merged_into"],)] if row is not None else []


@statement("SELECT DISTINCT system FROM hub.contribution WHERE record = %s AND op = 's'")
def _systems(cursor: MemoryCursor, arguments: Any) -> Answer:
    return [(s,) for s in sorted({k[0] for k, r in cursor["contribution"].items() if r[RECORD] == arguments[0] and r[OP] == "s"})]


@statement("SELECT DISTINCT system FROM hub.contribution WHERE record = %s AND op = 's' AND NOT delivered ORDER BY system")
def _own_rows(cursor: MemoryCursor, arguments: Any) -> Answer:
    found = {k[0] for k, r in cursor["contribution"].items() if r[RECORD] == arguments[0] and r[OP] == "s" and not r[AT["delivered"]]}
    return [(s,) for s in sorted(found)]


@statement("SELECT record FROM hub.record WHERE parent = ANY(%s)")
def _children(cursor: MemoryCursor, arguments: Any) -> Answer:
    return [(r,) for r, row in sorted(cursor["record"].items()) if row["parent"] in arguments[0]]


@statement("SELECT DISTINCT r.parent, k.system FROM unnest(%s::bigint[], %s::text[]) AS k(record, system) JOIN hub.record r")
def _removals_again(cursor: MemoryCursor, arguments: Any) -> Answer:
    places = {(cursor["record"].get(record, {}).get("parent"), system) for record, system in columns(arguments)}
    return [place for place in places if place in cursor["entitled"] and cursor["entitled"][place][-1] in ("w", "d")]


@statement("SELECT record FROM hub.record WHERE parent = ANY(%s) AND merged_into IS NULL")
def _living_children(cursor: MemoryCursor, arguments: Any) -> Answer:
    return [(r,) for r, row in sorted(cursor["record"].items()) if row["parent"] in arguments[0] and row["merged_into"] is None]


@statement("UPDATE hub.identifier SET record = %s WHERE claim IN (SELECT claim FROM hub.contribution WHERE record = %s AND claim IS NOT NULL)")
def _move_claims(cursor: MemoryCursor, arguments: Any) -> Answer:
    keep, gone = arguments
    claims = {r[CLAIM] for r in cursor["contribution"].values() if r[RECORD] == gone} & cursor["identifier"].keys()
    cursor["identifier"].update(dict.fromkeys(claims, keep))
    return len(claims)


@statement("UPDATE hub.contribution SET record = %s WHERE record = %s")
def _move_contributions(cursor: MemoryCursor, arguments: Any) -> Answer:
    keep, gone = arguments
    return change_rows(cursor["contribution"], lambda _, r: bool(r[RECORD] == gone), record=keep)


@statement("UPDATE hub.record SET merged_into = %s, sole = NULL, updated_at = now() WHERE record = %s")
def _merge_into(cursor: MemoryCursor, arguments: Any) -> Answer:
    return change_rows(cursor["record"], lambda r, _: r == arguments[1], merged_into=arguments[0], sole=None)


@statement("UPDATE hub.record SET sole = NULL WHERE record = %s")
def _not_sole(cursor: MemoryCursor, arguments: Any) -> Answer:
    return change_rows(cursor["record"], lambda r, _: r == arguments[0], sole=None)


@statement("SELECT record, entity FROM hub.record WHERE parent = %s ORDER BY record")
def _children_with_entity(cursor: MemoryCursor, arguments: Any) -> Answer:
    return [(r, row["entity"]) for r, row in sorted(cursor["record"].items()) if row["parent"] == arguments[0]]


@statement("UPDATE hub.record SET parent = %s WHERE record = %s")
def _set_parent(cursor: MemoryCursor, arguments: Any) -> Answer:
    return change_rows(cursor["record"], lambda r, _: r == arguments[1], parent=arguments[0])


@statement("SELECT DISTINCT claim FROM hub.contribution WHERE record = %s AND claim LIKE %s")
def _claims_like(cursor: MemoryCursor, arguments: Any) -> Answer:
    record, prefix = arguments[0], arguments[1].removesuffix("%")
    return [(c,) for c in sorted({r[CLAIM] for r in cursor["contribution"].values() if r[RECORD] == record and (r[CLAIM] or "").startswith(prefix)})]


@statement("INSERT INTO hub.identifier VALUES (%s, %s) ON CONFLICT DO NOTHING")
def _add_claim(cursor: MemoryCursor, arguments: Any) -> Answer:
    cursor["identifier"].setdefault(*arguments)
    return None


@statement("UPDATE hub.contribution SET claim = %s WHERE record = %s AND claim = %s")
def _renew_claim(cursor: MemoryCursor, arguments: Any) -> Answer:
    new, record, old = arguments
    return change_rows(cursor["contribution"], lambda _, r: bool(r[RECORD] == record and r[CLAIM] == old), claim=new)


@statement("DELETE FROM hub.identifier WHERE claim = %s")
def _drop_claim(cursor: MemoryCursor, arguments: Any) -> Answer:
    return int(cursor["identifier"].pop(arguments[0], None) is not None)


@statement("SELECT record FROM hub.identifier WHERE claim = %s")
def _holder(cursor: MemoryCursor, arguments: Any) -> Answer:
    record = cursor["identifier"].get(arguments[0])
    return [] if record is None else [(record,)]


@statement("INSERT INTO hub.waiting VALUES (%s, %s, %s, %s) ON CONFLICT DO NOTHING")
def _wait(cursor: MemoryCursor, arguments: Any) -> Answer:
    cursor["waiting"].setdefault(tuple(arguments), True)
    return None


@statement("SELECT w.claim, w.system, w.entity, w.local_key, c.parent_key, c.record, i.record FROM hub.waiting w JOIN hub.contribution c")
def _waiting(cursor: MemoryCursor, arguments: Any) -> Answer:
    found: Rows = []
    for code, *key in sorted(cursor["waiting"]):
        row = cursor["contribution"].get(tuple(key))
        if code in arguments[0] and row is not None and row[OP] == "s" and row[CLAIM] is None:
            found.append((code, *key, row[PARENT], row[RECORD], cursor["identifier"].get(code)))
    return found


@statement("SELECT DISTINCT w.system, w.entity, w.local_key FROM hub.waiting w JOIN hub.contribution c")
def _answered(cursor: MemoryCursor, _arguments: Any) -> Answer:
    keys = sorted({place[1:] for place in cursor["waiting"]})
    return [key for key in keys if (row := cursor["contribution"].get(key)) is not None and (row[CLAIM] is not None or row[OP] == "d")]


@statement("UPDATE hub.contribution SET claim = %s WHERE (system, entity, local_key) = (%s, %s, %s)")
def _give_claim(cursor: MemoryCursor, arguments: Any) -> Answer:
    code, *key = arguments
    return change_rows(cursor["contribution"], lambda k, _: k == tuple(key), claim=code)


@statement("DELETE FROM hub.waiting WHERE (system, entity, local_key) = (%s, %s, %s)")
def _wait_no_more(cursor: MemoryCursor, arguments: Any) -> Answer:
    return len([cursor["waiting"].pop(place) for place in list(cursor["waiting"]) if place[1:] == tuple(arguments)])


# ------------------------------------------------------------------ parked
@statement("UPDATE hub.parked SET state = 'closed', closed_at = clock_timestamp() WHERE state = 'open' AND kind = 'link'")
def _close_link(cursor: MemoryCursor, arguments: Any) -> Answer:
    return change_rows(cursor["parked"], lambda _, p: bool(p["place"] == (*arguments, "link") and p["state"] == "open"), state="closed")


@statement("""INSERT INTO hub.parked (system, entity, local_key, kind, field, reason, message, version) SELECT""")
def _park_link(cursor: MemoryCursor, arguments: Any) -> Answer:
    system, entity, key, field, reason, _, version, *_ = arguments
    place = (system, entity, key, "link")
    if any(p["place"] == place and p["state"] == "open" for p in cursor["parked"].values()):
        return 0
    cursor["parked"][next(cursor.database.serial)] = {"place": place, "field": field, "reason": reason, "version": version, "state": "open"}
    return 1


@statement("INSERT INTO hub.parked (system, entity, local_key, kind, field, reason, message, topic")
def _park(cursor: MemoryCursor, arguments: Any) -> Answer:
    system, entity, key, kind, field, reason, _, _, _, _, version, _ = arguments
    row = {"place": (system, entity, key, kind), "field": field, "reason": reason, "version": version, "state": "open"}
    cursor["parked"][next(cursor.database.serial)] = row
    return 1


@statement("SELECT id FROM hub.parked WHERE state = 'open' AND kind = 'refused' AND (system, entity, local_key) = (%s, %s, %s)")
def _parked_before(cursor: MemoryCursor, arguments: Any) -> Answer:
    place = (*arguments, "refused")
    found = [(p["version"], n) for n, p in cursor["parked"].items() if p["place"] == place and p["state"] == "open"]
    return [(max(found)[1],)] if found else []


@statement("UPDATE hub.parked SET field = %s, reason = %s, message = %s, payload = %s, version = %s WHERE id = %s AND version < %s")
def _park_again(cursor: MemoryCursor, arguments: Any) -> Answer:
    field, reason, _, _, version, number, limit = arguments
    new = {"field": field, "reason": reason, "version": version}
    return change_rows(cursor["parked"], lambda n, p: bool(n == number and p["version"] < limit), **new)


@statement("SELECT 1 FROM hub.parked WHERE state = 'open' AND kind = 'refused' LIMIT 1")
@statement("SELECT 1 FROM hub.parked WHERE state = 'open' AND kind IN ('refused', 'ghost') LIMIT 1")
def _any_refused(cursor: MemoryCursor, _: Any) -> Answer:
    return [(1,) for p in cursor["parked"].values() if p["state"] == "open" and p["place"][3] in ("refused", "ghost")][:1]


@statement("SELECT 1 FROM hub.contribution WHERE (system, entity, local_key) = (%s, %s, %s) AND op <> 'p' AND (epoch, version) > (%s, %s)")
def _newer_contribution(cursor: MemoryCursor, arguments: Any) -> Answer:
    row = cursor["contribution"].get(tuple(arguments[:3]))
    return [(1,)] if row is not None and row[OP] != "p" and (row[EPOCH], row[VERSION]) > tuple(arguments[3:]) else []


@statement("UPDATE hub.parked p SET state = 'closed'")
def _close_cured(cursor: MemoryCursor, arguments: Any) -> Answer:
    good = {tuple(key): version for *key, version in columns(arguments)}

    def cured(_: Any, row: dict[str, Any]) -> bool:
        *key, kind = row["place"]
        return row["state"] == "open" and kind in ("refused", "ghost") and tuple(key) in good and row["version"] <= good[tuple(key)]

    return change_rows(cursor["parked"], cured, state="closed")


@statement("INSERT INTO hub.correction (system, entity, record, field, asked, golden, owner, version) SELECT")
def _keep_overwritten(cursor: MemoryCursor, given: Any) -> Answer:
    same = (given["system"], given["record"], given["field"])
    asked = as_json(orjson.loads(given["was"]))
    if any(k[:3] == same and row[1] == asked and row[4] == "open" for k, row in cursor["correction"].items()):
        return 0
    place = (*same, given["version"])
    if place in cursor["correction"]:
        return 0
    written = None if given["written"] is None else as_json(orjson.loads(given["written"]))
    cursor["correction"][place] = (given["entity"], asked, written, None, "open")
    return 1


# ------------------------------------------------------------------ steps
@statement("SELECT s.system, s.local_key, s.status, s.epoch, s.number FROM hub.step s")
def _steps(cursor: MemoryCursor, arguments: Any) -> Answer:
    return [(*key, *cursor["step"][key]) for key in columns(arguments) if key in cursor["step"]]


@statement("SELECT k.system, k.local_key FROM unnest(%s::text[], %s::text[]) AS k(system, local_key) WHERE NOT EXISTS (SELECT FROM hub.step s")
def _without_step(cursor: MemoryCursor, arguments: Any) -> Answer:
    return [key for key in columns(arguments) if key not in cursor["step"]]


@statement("INSERT INTO hub.step AS s (system, local_key, status, epoch, number) VALUES")
def _put_step(cursor: MemoryCursor, arguments: Any) -> Answer:
    system, key, status, epoch, number = arguments
    had = cursor["step"].get((system, key))
    if had is None or had[1:] < (epoch, number):
        cursor["step"][system, key] = (status, epoch, number)
    return None
