"""The hub in memory: the functions of `lienthong.hub` and the statements of merge, links, parked, steps and route over dictionaries.

`in_memory()` puts it in the place of the real functions for cursors in memory only; a real cursor gets the real ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import orjson

from connectors.postgres import transaction
from lienthong import hub
from lienthong.errors import FencedError, TransientError
from lienthong.frames import Note
from lienthong.hub import Known, Row
from lienthong.hub_statements import CONTRIBUTION
from tests.simulation.database import Answer, Database, Fuse, MemoryConnection, MemoryCursor, Rows, columns, statement

TABLES = (
    "contribution", "identifier", "waiting", "record", "changed", "history", "entitled", "out_topic", "correction", "parked", "counter",
    "consumer_offset", "loaded", "setting", "step", "capture_state", "line",
)  # fmt: skip
_AT = {name: place for place, name in enumerate(CONTRIBUTION)}
EPOCH, VERSION, RECORD, OP, CLAIM, PARENT, BODY = (_AT[n] for n in ("epoch", "version", "record", "op", "claim", "parent_key", "body"))
ROUTING = ("processing_agency_code", "processing_unit", "receiving_agency_code")


def empty_hub(fuse: Fuse | None = None) -> Database:
    """A hub that has just been installed."""
    return Database(*TABLES, fuse=fuse or Fuse())


# ------------------------------------------------------------------ what a test looks at, in both
VIEWS = {
    "contribution": ("system", "entity", "local_key", "record", "epoch", "version", "op", "delivered", "mask", "body", "claim", "parent_key", "seen"),
    "record": ("record", "entity", "parent", "merged_into", "deleted", "sole", "version", "body", "who"),
    "identifier": ("claim", "record"),
    "waiting": ("claim", "system", "entity", "local_key"),
    "history": ("record", "version", "system", "before", "who"),
    "entitled": ("record", "system", "hash", "state"),
    "out_topic": ("topic", "next"),
    "correction": ("system", "record", "field", "version", "entity", "asked", "golden", "owner", "state"),
    "parked": ("system", "entity", "local_key", "kind", "field", "reason", "version", "state"),
    "counter": ("system", "entity", "outcome", "n"),
    "consumer_offset": ("topic", "partition", "next"),
    "changed": ("record", "lane", "resend"),
    "loaded": ("system", "partition"),
    "step": ("system", "local_key", "status", "epoch", "number"),
}  # fmt: skip


def view(connection: Any, table: str) -> list[dict[str, Any]]:
    """The rows of a table of the hub, without clocks and serial numbers."""
    names = VIEWS[table]
    if isinstance(connection, MemoryConnection):
        found = [_shown(table, key, row) for key, row in connection.database[table].items()]
    else:
        texts = {"op": "op::text", "state": "state::text"}
        with transaction(connection) as cursor:
            cursor.execute(f"SELECT {', '.join(texts.get(n, n) for n in names)} FROM hub.{table}")  # noqa: S608 - names of our own
            found = [tuple(bytes(v) if isinstance(v, memoryview) else v for v in row) for row in cursor.fetchall()]
    return [dict(zip(names, row, strict=True)) for row in found]


def _read(text: str | None) -> Any:
    return None if text is None else orjson.loads(text)


def _record_shown(number: int, row: dict[str, Any]) -> tuple[Any, ...]:
    plain = tuple(row[name] for name in ("entity", "parent", "merged_into", "deleted", "sole", "version"))
    return (number, *plain, _read(row["body"]), _read(row["who"]))


_SHOWN: dict[str, Callable[[Any, Any], tuple[Any, ...]]] = {
    "contribution": lambda _, row: tuple(_read(row[BODY]) if name == "body" else row[_AT[name]] for name in VIEWS["contribution"]),
    "record": _record_shown,
    "history": lambda key, row: (*key, row[0], _read(row[1]), _read(row[2])),
    "entitled": lambda key, row: (*key, *row[1:]),
    "correction": lambda key, row: (*key, row[0], _read(row[1]), _read(row[2]), *row[3:]),
    "parked": lambda _, row: (*row["place"], row["field"], row["reason"], row["version"], row["state"]),
    "changed": lambda key, row: (row[0], key[0], row[1]),
    "loaded": lambda key, _: tuple(key),
    "waiting": lambda key, _: tuple(key),
}
"""A row in memory in the order of its view; the other tables are keys and values as they are."""


def _shown(table: str, key: Any, row: Any) -> tuple[Any, ...]:
    if table in _SHOWN:
        return _SHOWN[table](key, row)
    return (*(key if isinstance(key, tuple) else (key,)), *(row if isinstance(row, tuple) else (row,)))


# ------------------------------------------------------------------ the functions of lienthong.hub
def move_offsets(cursor: MemoryCursor, moves: Mapping[tuple[str, int], tuple[int | None, int]], table: str = "hub.consumer_offset") -> None:
    offsets = cursor[table.partition(".")[2]]
    for place, (expected, following) in sorted(moves.items()):
        if offsets.get(place) != expected and "offset" in cursor.database.guards:
            raise FencedError(f"{place}: another process has moved on from offset {expected}")
        offsets[place] = following


def existing(cursor: MemoryCursor, keys: Sequence[tuple[str, str, str]]) -> dict[tuple[str, str, str], Known]:
    out = {}
    for key in keys:
        row = cursor["contribution"].get(tuple(key))
        if row is not None:
            out[key] = Known(*(row[_AT[n]] for n in ("record", "epoch", "version", "op", "mask", "claim", "delivered", "seen", "parent_key")))
    return out


def _word(cursor: MemoryCursor, row: Sequence[Any]) -> str | None:
    """What a contribution says: its own body, else the golden record as it stands."""
    own: str | None = row[BODY]
    return own if own is not None else cursor["record"].get(row[RECORD], {}).get("body")


def bodies(cursor: MemoryCursor, keys: Sequence[tuple[str, str, str]]) -> dict[tuple[str, str, str], dict[str, Any]]:
    found = {key: cursor["contribution"].get(tuple(key)) for key in keys}
    return {key: orjson.loads(_word(cursor, row) or "null") for key, row in found.items() if row is not None and row[OP] == "s"}


def claim(cursor: MemoryCursor, wanted: Mapping[str, int]) -> dict[str, int]:
    held = cursor["identifier"]
    for code, record in wanted.items():
        held.setdefault(code, record)
    return {code: held[code] for code, record in wanted.items() if held[code] != record}


def release(cursor: MemoryCursor, given_up: Sequence[tuple[str, int, str, str, str]]) -> None:
    for code, record, *key in given_up:
        others = (r for k, r in cursor["contribution"].items() if k != tuple(key) and r[RECORD] == record)
        if cursor["identifier"].get(code) == record and not any(r[CLAIM] == code and r[OP] == "s" for r in others):
            del cursor["identifier"][code]


def lock(cursor: MemoryCursor, records: Iterable[int]) -> dict[int, Row]:
    found = {r: cursor["record"].get(r) for r in sorted(set(records))}
    out = {}
    for record, row in found.items():
        if row is not None:
            body, who = row["body"], row["who"]
            read = {n: row[n] for n in ("entity", "parent", "merged_into", "deleted", "sole", "version")}
            out[record] = Row(record, **read, body=orjson.loads(body) if body else {}, who=orjson.loads(who) if who else None)
    return out


def of_records(cursor: MemoryCursor, records: Iterable[int]) -> Rows:
    wanted = set(records)
    return [
        (r[RECORD], r[0], r[VERSION], r[OP], r[_AT["delivered"]], _word(cursor, r) if r[OP] == "s" else None)
        for r in cursor["contribution"].values() if r[RECORD] in wanted and r[OP] != "p"
    ]  # fmt: skip


def part(cursor: MemoryCursor, records: Iterable[int]) -> None:
    for record in records:
        row = cursor["record"].get(record)
        if row is not None:
            _change(cursor["contribution"], lambda _, c, r=record: bool(c[RECORD] == r and c[BODY] is None and c[OP] == "s"), body=row["body"])


def put_contributions(cursor: MemoryCursor, contributions: Sequence[Sequence[Any]]) -> int:
    return sum(_put_newer(cursor, tuple(row)) for row in contributions)


def _put_newer(cursor: MemoryCursor, row: tuple[Any, ...]) -> bool:
    had = cursor["contribution"].get(row[:3])
    if had is None or ((had[EPOCH], had[VERSION]) >= (row[EPOCH], row[VERSION]) and "contribution" in cursor.database.guards):
        return False
    cursor["contribution"][row[:3]] = row
    return True


def update_sole(cursor: MemoryCursor, given: Sequence[Sequence[Any]]) -> list[tuple[int, int, bool, bool]]:
    out = []
    for n, system, entity, key, parent_key, claim, epoch, version, delivered, mask, at, golden in given:
        had = cursor["contribution"].get((system, entity, key))
        if had is None or had[OP] != "s" or had[BODY] is not None or had[EPOCH] != epoch or had[_AT["parent_key"]] != parent_key:
            continue
        record = had[RECORD]
        row = cursor["record"].get(record)
        if row is None or row["sole"] != system or row["merged_into"] is not None:
            continue
        held = claim if parent_key is None or claim is None else f"{entity}:{row['parent']}{claim[len(entity) :]}"
        if had[CLAIM] != held or (had[VERSION] >= version and "contribution" in cursor.database.guards):
            continue
        before, now = (orjson.loads(text or "null") for text in (row["body"], golden))
        differs = row["deleted"] or before != now
        cursor["record"][record] = row | {"body": golden, "version": row["version"] + differs, "deleted": False}
        new = {"version": version, "delivered": delivered, "mask": mask, "at": at}
        cursor["contribution"][system, entity, key] = tuple(new.get(name, had[place]) for name, place in _AT.items())
        if differs:
            cursor["history"][record, row["version"]] = (system, row["body"], None)
            note_changed(cursor, [(record, 0, None, at)])
        rerouted = entity == "dossier" and any((before or {}).get(n) != now.get(n) for n in ROUTING)
        out.append((n, record, differs, rerouted))
    return out


def promise(cursor: MemoryCursor, promised: Sequence[Sequence[Any]]) -> None:
    for row in promised:
        cursor["contribution"].setdefault(tuple(row[:3]), tuple(row))


def add_contributions(cursor: MemoryCursor, contributions: Sequence[Sequence[Any]]) -> None:
    for row in contributions:
        if tuple(row[:3]) in cursor["contribution"]:
            raise TransientError("a contribution was stored meanwhile (23505)")
        cursor["contribution"][tuple(row[:3])] = tuple(row)


def put_records(cursor: MemoryCursor, golden: Sequence[Sequence[Any]]) -> None:
    for record, entity, parent, deleted, sole, version, body, who in golden:
        had = cursor["record"].get(record, {"entity": entity, "merged_into": None})
        new = {"parent": parent, "deleted": deleted, "sole": sole, "version": version, "body": body, "who": who}
        cursor["record"][record] = had | new


def add_records(cursor: MemoryCursor, golden: Sequence[Sequence[Any]]) -> None:
    assert not [row for row in golden if row[0] in cursor["record"]], "a golden record that is there already"
    put_records(cursor, golden)


def update_records(cursor: MemoryCursor, golden: Sequence[Sequence[Any]]) -> None:
    put_records(cursor, [row for row in golden if row[0] in cursor["record"]])


def put_history(cursor: MemoryCursor, history: Sequence[Sequence[Any]]) -> None:
    for record, version, system, before, who in history:
        assert (record, version) not in cursor["history"], "a version of a golden record is in its history twice"
        cursor["history"][record, version] = (system, before, who)


def put_corrections(
    cursor: MemoryCursor, system: str, entity: str, record: int, version: int, asked: Iterable[tuple[str, Any, Any, str | None]]
) -> None:
    for name, value, golden, owner in asked:
        cursor["correction"].setdefault((system, record, name, version), (entity, _json(value), _json(golden), owner, "open"))


def routing_of(cursor: MemoryCursor, records: Sequence[int]) -> dict[int, dict[str, Any]]:
    found = {record: cursor["record"].get(record) for record in records}
    bodies_ = {record: orjson.loads(row["body"] or "{}") for record, row in found.items() if row is not None}
    return {record: {name: body.get(name) for name in ROUTING} for record, body in bodies_.items()}


def note_loaded(cursor: MemoryCursor, notes: Iterable[Note]) -> None:
    for note in notes:
        cursor["loaded"].setdefault((note.header.system, int(note.content["partition"])), True)


def note_changed(cursor: MemoryCursor, changed: Sequence[tuple[int, int, str | None, int]]) -> None:
    for record, lane, resend, at in changed:
        cursor["changed"][lane, next(cursor.database.serial)] = (record, resend, at)


def count(cursor: MemoryCursor, counts: Mapping[tuple[int, str, str, str], int], _readings: Any = None) -> None:
    for (_, *names), n in counts.items():
        place = tuple(names)
        cursor["counter"][place] = cursor["counter"].get(place, 0) + n


def beat(cursor: MemoryCursor, system: str, stage: str, part: int, through_micros: int, *_: Any) -> None:
    cursor["line"][system, stage, part] = max(cursor["line"].get((system, stage, part), 0), through_micros)


def with_rows(cursor: MemoryCursor, text: str, _shape: str, given: Sequence[Sequence[Any]]) -> MemoryCursor:
    cursor.execute(text, given)
    return cursor


FUNCTIONS: tuple[Callable[..., Any], ...] = (
    move_offsets, existing, bodies, claim, release, lock, of_records, part, put_contributions, update_sole, promise, add_contributions,
    put_records, add_records, update_records, put_history, put_corrections, routing_of, note_loaded, note_changed, count, beat, with_rows,
)  # fmt: skip


@contextmanager
def in_memory() -> Iterator[None]:
    """While it lasts, the functions of `lienthong.hub` work on cursors in memory too."""
    real = {function.__name__: getattr(hub, function.__name__) for function in FUNCTIONS}
    with patch.multiple(hub, **{f.__name__: _either(f, real[f.__name__]) for f in FUNCTIONS}):
        yield


def _either(memory: Callable[..., Any], real: Callable[..., Any]) -> Callable[..., Any]:
    def chosen(cursor: Any, *arguments: Any, **named: Any) -> Any:
        if not isinstance(cursor, MemoryCursor):
            return real(cursor, *arguments, **named)
        if memory is not with_rows:
            cursor.database.fuse.burn()
        return memory(cursor, *arguments, **named)

    return chosen


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()


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
    found = {k[0] for k, r in cursor["contribution"].items() if r[RECORD] == arguments[0] and r[OP] == "s" and not r[_AT["delivered"]]}
    return [(s,) for s in sorted(found)]


@statement("SELECT record FROM hub.record WHERE parent = ANY(%s)")
def _children(cursor: MemoryCursor, arguments: Any) -> Answer:
    return [(r,) for r, row in sorted(cursor["record"].items()) if row["parent"] in arguments[0]]


@statement("SELECT record FROM hub.record WHERE parent = ANY(%s) AND merged_into IS NULL")
def _living_children(cursor: MemoryCursor, arguments: Any) -> Answer:
    return [(r,) for r, row in sorted(cursor["record"].items()) if row["parent"] in arguments[0] and row["merged_into"] is None]


def _change(table: dict[Any, Any], chosen: Callable[[Any, Any], bool], **new: Any) -> int:
    """Replace columns of some rows, whether they are dictionaries or contributions; how many there were."""
    found = [key for key, row in table.items() if chosen(key, row)]
    for key in found:
        row = table[key]
        table[key] = row | new if isinstance(row, dict) else tuple(new.get(name, row[place]) for name, place in _AT.items())
    return len(found)


@statement("UPDATE hub.identifier SET record = %s WHERE claim IN (SELECT claim FROM hub.contribution WHERE record = %s AND claim IS NOT NULL)")
def _move_claims(cursor: MemoryCursor, arguments: Any) -> Answer:
    keep, gone = arguments
    claims = {r[CLAIM] for r in cursor["contribution"].values() if r[RECORD] == gone} & cursor["identifier"].keys()
    cursor["identifier"].update(dict.fromkeys(claims, keep))
    return len(claims)


@statement("UPDATE hub.contribution SET record = %s WHERE record = %s")
def _move_contributions(cursor: MemoryCursor, arguments: Any) -> Answer:
    keep, gone = arguments
    return _change(cursor["contribution"], lambda _, r: bool(r[RECORD] == gone), record=keep)


@statement("UPDATE hub.record SET merged_into = %s, sole = NULL, updated_at = now() WHERE record = %s")
def _merge_into(cursor: MemoryCursor, arguments: Any) -> Answer:
    return _change(cursor["record"], lambda r, _: r == arguments[1], merged_into=arguments[0], sole=None)


@statement("UPDATE hub.record SET sole = NULL WHERE record = %s")
def _not_sole(cursor: MemoryCursor, arguments: Any) -> Answer:
    return _change(cursor["record"], lambda r, _: r == arguments[0], sole=None)


@statement("SELECT record, entity FROM hub.record WHERE parent = %s ORDER BY record")
def _children_with_entity(cursor: MemoryCursor, arguments: Any) -> Answer:
    return [(r, row["entity"]) for r, row in sorted(cursor["record"].items()) if row["parent"] == arguments[0]]


@statement("UPDATE hub.record SET parent = %s WHERE record = %s")
def _set_parent(cursor: MemoryCursor, arguments: Any) -> Answer:
    return _change(cursor["record"], lambda r, _: r == arguments[1], parent=arguments[0])


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
    return _change(cursor["contribution"], lambda _, r: bool(r[RECORD] == record and r[CLAIM] == old), claim=new)


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
    return _change(cursor["contribution"], lambda k, _: k == tuple(key), claim=code)


@statement("DELETE FROM hub.waiting WHERE (system, entity, local_key) = (%s, %s, %s)")
def _wait_no_more(cursor: MemoryCursor, arguments: Any) -> Answer:
    return len([cursor["waiting"].pop(place) for place in list(cursor["waiting"]) if place[1:] == tuple(arguments)])


# ------------------------------------------------------------------ parked
@statement("UPDATE hub.parked SET state = 'closed', closed_at = clock_timestamp() WHERE state = 'open' AND kind = 'link'")
def _close_link(cursor: MemoryCursor, arguments: Any) -> Answer:
    return _change(cursor["parked"], lambda _, p: bool(p["place"] == (*arguments, "link") and p["state"] == "open"), state="closed")


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
    return _change(cursor["parked"], lambda n, p: bool(n == number and p["version"] < limit), **new)


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

    return _change(cursor["parked"], cured, state="closed")


@statement("INSERT INTO hub.correction (system, entity, record, field, asked, golden, owner, version) SELECT")
def _keep_overwritten(cursor: MemoryCursor, given: Any) -> Answer:
    same = (given["system"], given["record"], given["field"])
    asked = _json(orjson.loads(given["was"]))
    if any(k[:3] == same and row[1] == asked and row[4] == "open" for k, row in cursor["correction"].items()):
        return 0
    place = (*same, given["version"])
    if place in cursor["correction"]:
        return 0
    written = None if given["written"] is None else _json(orjson.loads(given["written"]))
    cursor["correction"][place] = (given["entity"], asked, written, None, "open")
    return 1


# ------------------------------------------------------------------ steps
@statement("SELECT s.system, s.local_key, s.status, s.epoch, s.number FROM hub.step s")
def _steps(cursor: MemoryCursor, arguments: Any) -> Answer:
    return [(*key, *cursor["step"][key]) for key in columns(arguments) if key in cursor["step"]]


@statement("INSERT INTO hub.step AS s (system, local_key, status, epoch, number) VALUES")
def _put_step(cursor: MemoryCursor, arguments: Any) -> Answer:
    system, key, status, epoch, number = arguments
    had = cursor["step"].get((system, key))
    if had is None or had[1:] < (epoch, number):
        cursor["step"][system, key] = (status, epoch, number)
    return None


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
    return _change(cursor["capture_state"], _held_by(*arguments), leased=True)


@statement("UPDATE hub.capture_state SET finished = greatest(finished, %s), position = coalesce(%s, position)")
def _save_state(cursor: MemoryCursor, arguments: Any) -> Answer:
    number, position, system, owner, epoch = arguments
    row = cursor["capture_state"].get(system)
    if row is None or (row["owner"], row["epoch"]) != (owner, epoch):
        return 0
    new = {"finished": max(row["finished"], number), "position": row["position"] if position is None else position}
    return _change(cursor["capture_state"], _held_by(system, owner), **new)


@statement("UPDATE hub.capture_state SET lease_until = '-infinity' WHERE system = %s AND lease_owner = %s")
def _release_lease(cursor: MemoryCursor, arguments: Any) -> Answer:
    return _change(cursor["capture_state"], _held_by(*arguments), leased=False)


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
