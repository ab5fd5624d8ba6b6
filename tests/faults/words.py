"""What the oracle knows of the applications: how each system writes things down, what it has said, and what must stand where.

It shares no code with the service.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

PORTAL, WARDS = "portal", ("ward-a", "ward-b")
SYSTEMS = (PORTAL, *WARDS)
UNITS = {"26737": "ward-a", "26740": "ward-b"}

INTAKE = ("procedure", "unit", "submitted", "name", "number", "phone", "remark")
HANDLING = ("status", "officer", "answer", "result")
IDENTITY, CONTACT, RESIDENCE = ("name", "born"), ("phone", "called"), ("address", "unit", "moved")
CITIZEN = (*IDENTITY, *CONTACT, *RESIDENCE)

# table -> (entity, key column or the column that leads to the root, {column: the name by which it is compared})
_WARD_TABLES = {
    "ho_so": ("dossier", "ma_qg", {
        "thu_tuc": "procedure", "phuong": "unit", "ngay_nop": "submitted", "ho_ten": "name", "cccd": "number", "dien_thoai": "phone",
        "ghi_chu": "remark", "trang_thai": "status", "can_bo": "officer", "y_kien": "answer", "ket_qua": "result"}),
    "nguoi_dan": ("citizen", "cccd", {
        "ho_ten": "name", "ngay_sinh": "born", "dia_chi": "address", "phuong": "unit", "cu_tru_luc": "moved", "dien_thoai": "phone",
        "lien_he_luc": "called"}),
    "phi": ("fee", "ho_so_id", {"ma": "code", "so_tien": "amount"}),
    "buoc": ("step", "ho_so_id", {"trang_thai": "status", "luc": "at", "can_bo": "officer"}),
}  # fmt: skip
TABLES: dict[str, dict[str, tuple[str, str, dict[str, str]]]] = {
    PORTAL: {
        "application": ("dossier", "code", {
            "procedure": "procedure", "unit": "unit", "submitted": "submitted", "name": "name", "number": "number", "phone": "phone",
            "remark": "remark", "state": "status", "officer": "officer", "answer": "answer", "result": "result"}),
        "person": ("citizen", "number", {
            "name": "name", "born": "born", "address": "address", "unit": "unit", "moved": "moved", "phone": "phone", "called": "called"}),
        "charge": ("fee", "application_id", {"code": "code", "amount": "amount"}),
        "step": ("step", "application_id", {"state": "status", "at": "at", "officer": "officer"}),
    },
    "ward-a": _WARD_TABLES,
    "ward-b": {name: table for name, table in _WARD_TABLES.items() if name != "buoc"},
}  # fmt: skip
_STATES = {"sent": 1, "received": 2, "refused": 3, "handled": 4, "more": 5, "done": 9, "returned": 10}
_TIMES = {"submitted": "timestamptz", "at": "timestamptz", "moved": "timestamptz", "called": "timestamptz"}

Key = tuple[str, str]  # entity, code
Fields = dict[str, Any]


@dataclass(slots=True)
class Words:
    """What the applications of one system have said: of every record the newest value of each field, and every step."""

    said: dict[Key, Fields] = field(default_factory=dict)
    gone: set[Key] = field(default_factory=set)
    steps: dict[str, Counter[tuple[Any, ...]]] = field(default_factory=lambda: defaultdict(Counter))
    fees: dict[str, dict[str, Any]] = field(default_factory=lambda: defaultdict(dict))
    given: Counter[tuple[Any, ...]] = field(default_factory=Counter)  # steps that the service has inserted here, net of what it removed


@dataclass(slots=True)
class Held:
    """What one system's tables hold now."""

    roots: dict[Key, Fields] = field(default_factory=dict)
    doubles: list[Key] = field(default_factory=list)
    steps: dict[str, Counter[tuple[Any, ...]]] = field(default_factory=lambda: defaultdict(Counter))
    fees: dict[str, Counter[tuple[Any, ...]]] = field(default_factory=lambda: defaultdict(Counter))

    def take(self, entity: str, code: str, row: Fields) -> None:
        """One row."""
        if entity == "step":
            self.steps[code][step(row)] += 1
        elif entity == "fee":
            self.fees[code][row["code"], row["amount"]] += 1
        elif (entity, code) in self.roots:
            self.doubles.append((entity, code))
        else:
            self.roots[entity, code] = row


def hear(words: Words, system: str, key: Key, op: str, names: Mapping[str, str], now: Fields | None, before: Fields | None) -> None:
    if op == "D":
        words.said.pop(key, None)
        words.gone.add(key)
        if key[0] == "dossier":
            words.steps.pop(key[1], None)
            words.fees.pop(key[1], None)
        return
    assert now is not None
    new, old = unified(now, names), unified(before, names) if before is not None else {}
    changed = {name: value for name, value in new.items() if before is None or old[name] != value}
    if before is None:
        words.gone.discard(key)
        words.said[key] = changed
    else:
        words.said.setdefault(key, {}).update(changed)
    if system == "ward-b" and key[0] == "dossier" and "status" in changed:  # its steps are the values of the status column
        words.steps[key[1]][changed["status"], None, None] += 1


def hear_child(words: Words, code: str, entity: str, op: str, row: Fields, *, ours: bool) -> None:
    count = -1 if op == "D" else 1
    if entity == "step":
        if ours and op != "U":
            words.given[code, *step(row)] += count
        elif not ours and op != "U" and (op == "I" or words.steps[code][step(row)]):
            words.steps[code][step(row)] += count  # not where a system deletes what it was given
    elif not ours:
        if op == "D":
            words.fees[code].pop(row["code"], None)
        else:
            words.fees[code][row["code"]] = row["amount"]


def true_roots(words: Mapping[str, Words]) -> Iterator[tuple[Key, tuple[Fields, set[str]]]]:
    """Every record that must exist: its right values, and who must hold it."""
    for key in {key for system in SYSTEMS for key in words[system].said}:
        home = next((s for s in SYSTEMS if key in words[s].said and _is_whole(key, words[s].said[key])), None)
        if home is None or (key in words[PORTAL].gone and key not in words[PORTAL].said):
            continue  # only words about a record that its owner has deleted
        unit = first(words, key, "unit", (*WARDS, PORTAL) if key[0] == "citizen" else SYSTEMS)
        handler = UNITS[unit]
        orders: dict[str, tuple[str, ...]] = {name: SYSTEMS for name in (*INTAKE, *IDENTITY, *CONTACT)}
        if key[0] == "citizen":
            orders |= dict.fromkeys(RESIDENCE, (*WARDS, PORTAL))
            names: Iterable[str] = CITIZEN
        else:
            orders |= dict.fromkeys(HANDLING, (handler, *SYSTEMS))
            names = (*INTAKE, *HANDLING)
        yield key, ({name: first(words, key, name, orders[name]) for name in names}, {PORTAL, handler, home})


def _is_whole(key: Key, said: Fields) -> bool:
    return ("procedure" if key[0] == "dossier" else "born") in said


def first(words: Mapping[str, Words], key: Key, name: str, order: Iterable[str]) -> Any:
    return next((words[s].said[key][name] for s in order if name in words[s].said.get(key, {})), None)


def unified(row: Fields, names: Mapping[str, str]) -> Fields:
    return {name: _value(name, row.get(column)) for column, name in names.items()}  # a column may be away for a while


def _value(name: str, value: Any) -> Any:
    if value is None:
        return None
    if name == "status":
        return _STATES[value] if isinstance(value, str) else value
    if name == "name":
        return " ".join(str(value).casefold().split())
    if name in _TIMES:
        return _instant(str(value))
    return value


def _instant(text: str) -> float:
    at = datetime.fromisoformat(text)
    return (at if at.tzinfo is not None else at.replace(tzinfo=timezone(timedelta(hours=7)))).timestamp()


def step(row: Fields) -> tuple[Any, ...]:
    return row["status"], row["at"], row["officer"]


def dossier_table(system: str) -> tuple[str, str]:
    return next((table, leads) for table, (entity, leads, _) in TABLES[system].items() if entity == "dossier")
