"""From a local row to a unified contribution, and from a unified record back to local columns. Pure: no I/O."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any
from zoneinfo import ZoneInfo

import schemas
from lienthong import units
from lienthong.layout import TEXT_CHARACTERS_MAX, Layout
from lienthong.readers import DEFAULTS, READERS, Unreadable, Value, day_of, from_micros, to_date
from lienthong.settings import FieldMap

STATUSES = range(1, 11)

Read = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a row does not become a record; the message never holds the value."""

    field: str
    reason: str
    message: str


class UnmappedWord(Unreadable):
    """A local word the profile does not map."""


def _lookup(spec: FieldMap, zone: ZoneInfo, field: schemas.Field) -> Read | None:
    """The function from selected value to unified value; None where the value is taken as it is."""
    if spec.values is not None:
        table = {_word(local): unified for local, unified in spec.values.items()}
        return lambda raw: _mapped(table, raw)
    reader = READERS[spec.read or DEFAULTS[field.type]]
    local = ZoneInfo(spec.zone) if spec.zone else zone
    return lambda raw: reader.read(raw if isinstance(raw, str) else str(raw), local)


def _word(value: str | int | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _mapped(table: dict[str, Any], raw: Any) -> Any:
    word = _word(raw)
    if word in table:
        return table[word]
    # A status word is configuration, not a person's data, and the operator must know which one to map (design §4).
    raise UnmappedWord("unmapped_word", f"the local word {word[:40]!r} has no mapping: add it to `values` in the profile")


def _long_text(raw: str) -> str:
    if len(raw) > TEXT_CHARACTERS_MAX:
        raise Unreadable("too_large", f"more than {TEXT_CHARACTERS_MAX:,} characters, which is the most that is carried")
    return raw


def _of_bounded_length(read: Read | None) -> Read:
    """The same reader for a column of any length: what was cut by the reading must not pass for the whole."""
    if read is None:
        return _long_text
    return lambda raw: read(_long_text(raw) if isinstance(raw, str) else raw)


class Mapper:
    """Reads the selected values of one layout into unified records, and writes unified values as local ones."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.zone = ZoneInfo(layout.profile.zone)
        fields = {f.name: f for f in schemas.fields(layout.entity)}
        self.names: tuple[str, ...] = tuple(sorted(layout.mapping.fields, key=lambda n: fields[n].index))
        self._plan: list[tuple[str, int, Read | None]] = []
        self._constants: dict[str, Value] = {}
        self._columns = [n for n in self.names if layout.mapping.fields[n].column is not None]
        for position, name in enumerate(self._columns):
            spec = layout.mapping.fields[name]
            read = None if layout.is_native(name) and spec.values is None else _lookup(spec, self.zone, fields[name])
            if layout.may_be_long(name):
                read = _of_bounded_length(read)
            self._plan.append((name, position, read))
        for name, spec in layout.mapping.fields.items():
            if spec.column is None:
                self._constants[name] = spec.constant
        self._units = [(n, layout.mapping.fields[n].on) for n in self.names if n.endswith("unit_code") and layout.entity != "agency"]
        self.required = tuple(f.name for f in fields.values() if f.required)
        self._status = "status" in self.names
        present = {*self.names, *(n.removesuffix("_code") for n, _ in self._units), *(n.removesuffix("_code") + "_rule" for n, _ in self._units)}
        self.mask = sum(1 << fields[name].index for name in present)
        self.index = {name: field.index for name, field in fields.items()}
        self.encoder_order = tuple(name for name in fields if name in present)

    def status_of(self, word: str) -> int:
        """The unified status of a local word as text; raises `Unreadable` when it is not mapped."""
        spec = self.layout.mapping.fields["status"]
        read = _lookup(spec, self.zone, schemas.field(self.layout.entity, "status"))
        status = read(word) if read is not None else word
        if status not in STATUSES:
            raise UnmappedWord("unmapped_word", "a status outside 1 to 10: map it with `values` in the profile")
        return int(status)

    @property
    def selected(self) -> Sequence[str]:
        """The fields whose values a reading selects, in order."""
        return self._columns

    # ------------------------------------------------------------ reading
    def read(self, raws: Sequence[Any], *, complete: bool = True) -> dict[str, Any] | Refusal:
        """The unified values of one row, or why it is refused; a row that we delivered need not be complete."""
        values: dict[str, Any] = dict(self._constants)
        name = ""
        try:
            for name, position, read in self._plan:
                raw = raws[position]
                values[name] = raw if raw is None or read is None else read(raw)
            for name in self.required:
                if complete and values.get(name) is None:
                    return Refusal(name, "missing", "a mandatory field has no value")
            if self._status and values["status"] not in STATUSES and (complete or values["status"] is not None):
                return Refusal("status", "unmapped_word", "a status outside 1 to 10: map it with `values` in the profile")
            for name, on in self._units:
                self._resolve(values, name, on)
        except Unreadable as problem:
            return Refusal(name, problem.reason, str(problem))
        return values

    def _resolve(self, values: dict[str, Any], name: str, on: str | None) -> None:
        code = values[name]
        target = name.removesuffix("_code")
        if code is None:
            values[target] = values[target + "_rule"] = None
            return
        try:
            resolved = units.resolve(code, self._date(values, on))
        except units.UnitNotValidThen:
            raise Unreadable("unit_not_valid_then", "a unit code that was not valid on the record's date") from None
        except units.UnknownUnit:
            raise Unreadable("unknown_unit", "a unit code that the register has never had") from None
        values[target], values[target + "_rule"] = resolved.unit, resolved.rule

    def _date(self, values: dict[str, Any], on: str | None) -> date:
        name = on or next((n for n in ("submitted_at", "residence_as_of", "valid_from") if n in values), None)
        moment = values.get(name) if name else None
        if moment is None:
            return date.today()  # noqa: DTZ011 - a code without a date is read with today's register
        return day_of(moment, self.zone) if moment > 1_000_000 else to_date(moment)

    def unified(self, name: str, local: Any) -> Any:
        """What one local value, as JSON has it, means in the unified model; where the profile cannot say, the value itself."""
        try:
            read = _lookup(self.layout.mapping.fields[name], self.zone, schemas.field(self.layout.entity, name))
            return local if local is None or read is None else read(local)
        except Unreadable:
            return local

    # ------------------------------------------------------------ writing
    def writer(self, name: str) -> Callable[[Any], Any]:
        """The function from unified value to what the column takes."""
        spec = self.layout.mapping.fields[name]
        if spec.values is not None:
            inverse: dict[Any, Any] = {}
            for local, unified in spec.values.items():
                inverse.setdefault(unified, local)
            return lambda value: _inverse(inverse, value)
        reader = READERS[spec.read or DEFAULTS[schemas.field(self.layout.entity, name).type]]
        zone = ZoneInfo(spec.zone) if spec.zone else self.zone
        column = self.layout.column_type(name)
        if reader is READERS["instant"] and column is not None and column.base in ("timestamp", "date"):
            return lambda value: None if value is None else _local_timestamp(value, zone)
        return lambda value: reader.write(value, zone)


def _local_timestamp(micros: int, zone: ZoneInfo) -> str:
    return from_micros(micros).astimezone(zone).replace(tzinfo=None).isoformat(sep=" ")


def _inverse(table: dict[Any, Any], value: Any) -> Any:
    if value is None:
        return None
    if value in table:
        return table[value]
    raise Unreadable("unmapped_word", "the unified word has no local one in the target's profile: add it to `values`")
