"""The hub in memory: its tables and the functions of `lienthong.hub` over dictionaries; the statements stand beside it.

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
from tests.simulation.database import Database, Fuse, MemoryConnection, MemoryCursor, Rows

TABLES = (
    "contribution", "identifier", "waiting", "record", "changed", "history", "entitled", "out_topic", "correction", "parked", "counter",
    "consumer_offset", "loaded", "setting", "step", "capture_state", "line",
)  # fmt: skip
AT = {name: place for place, name in enumerate(CONTRIBUTION)}
EPOCH, VERSION, RECORD, OP, CLAIM, PARENT, BODY = (AT[n] for n in ("epoch", "version", "record", "op", "claim", "parent_key", "body"))
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
    "contribution": lambda _, row: tuple(_read(row[BODY]) if name == "body" else row[AT[name]] for name in VIEWS["contribution"]),
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
            out[key] = Known(*(row[AT[n]] for n in ("record", "epoch", "version", "op", "mask", "claim", "delivered", "seen", "parent_key")))
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
        (r[RECORD], r[0], r[VERSION], r[OP], r[AT["delivered"]], _word(cursor, r) if r[OP] == "s" else None)
        for r in cursor["contribution"].values() if r[RECORD] in wanted and r[OP] != "p"
    ]  # fmt: skip


def part(cursor: MemoryCursor, records: Iterable[int]) -> None:
    for record in records:
        row = cursor["record"].get(record)
        if row is not None:
            change_rows(cursor["contribution"], lambda _, c, r=record: bool(c[RECORD] == r and c[BODY] is None and c[OP] == "s"), body=row["body"])


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
        if had is None or had[OP] != "s" or had[BODY] is not None or had[EPOCH] != epoch or had[AT["parent_key"]] != parent_key:
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
        cursor["contribution"][system, entity, key] = tuple(new.get(name, had[place]) for name, place in AT.items())
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
        cursor["correction"].setdefault((system, record, name, version), (entity, as_json(value), as_json(golden), owner, "open"))


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


def as_json(value: Any) -> str:
    return orjson.dumps(value).decode()


def change_rows(table: dict[Any, Any], chosen: Callable[[Any, Any], bool], **new: Any) -> int:
    """Replace columns of some rows, whether they are dictionaries or contributions; how many there were."""
    found = [key for key, row in table.items() if chosen(key, row)]
    for key in found:
        row = table[key]
        table[key] = row | new if isinstance(row, dict) else tuple(new.get(name, row[place]) for name, place in AT.items())
    return len(found)
