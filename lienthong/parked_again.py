"""One record read again at its source, as it stands there or with values that a person has corrected."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo

import schemas
from connectors.postgres import Cursor, DataRefused
from lienthong.errors import ConfigError
from lienthong.keys import root_of, split_key
from lienthong.load import Loader
from lienthong.mapping import Refusal
from lienthong.output import Output
from lienthong.problems import listed
from lienthong.readers import DEFAULTS, READERS, Unreadable
from lienthong.reading import EntityReading, _columns

_HEAD, _EDITED = 7, 5  # a reading's row: so many columns before the values, and which of them names the edited fields


@dataclass(frozen=True, slots=True)
class Answer:
    """What reading it again gave: what was sent, or why nothing was."""

    sent: bool
    words: str


class Again(Loader):
    """Reads single records of one system, and tells of each how it went."""

    def read(self, entity: str, key: str, corrected: Mapping[str, Any] | None = None, version: int | None = None) -> Answer:
        """Read one record; refused again it goes out as refused, with what is wrong now; a correction that does not fit goes nowhere.

        With `version` it takes the place of the refused state of that number, before what waits behind it.
        """
        self._ensure_life()
        with self._look() as (cursor, readings, output):
            output.version = output.version if version is None else version
            asked = "dossier" if entity == "dossier_event" and entity not in readings.entities else entity
            if asked not in readings.entities:
                raise ConfigError(f"{self.system} maps no {entity} any more: correct its profile, or discard the record")
            reading = readings.entities[asked]
            columns = len(reading.layout.mapping.key)
            parts = split_key(root_of(key, columns) if reading.layout.mapping.each is not None else key, columns)
            if corrected is None:
                reading.read_keys(cursor, [parts], output)
                refused = [content for contents in output.refused.values() for content in contents]
                answer = Answer(True, _told(refused, key))
            else:
                answer = _correct(cursor, reading, parts, corrected, output)
        self._publish(output)
        return answer


def _told(refused: list[dict[str, Any]], key: str) -> str:
    return next((f"{c['reason']} in {c['field'] or 'the record'}" for c in refused if c["key"] == key), "")


def _correct(cursor: Cursor, reading: EntityReading, parts: tuple[str, ...], corrected: Mapping[str, Any], output: Output) -> Answer:
    """The row as it stands at its source, with the corrected values in place of its own, through the same mapping."""
    names = list(reading.mapper.selected)
    unknown = sorted(set(corrected) - set(names))
    if unknown:
        raise ConfigError(f"the edit names {listed(unknown)}; {reading.entity} has {listed(names)} here")
    if reading.layout.mapping.each is not None:
        raise ConfigError("a record inside a document cannot be edited alone: correct it at its source")
    try:
        found = reading._run(cursor, reading._by_keys, _columns([parts]))
    except DataRefused as error:
        return Answer(False, f"its source cannot give it out ({error}): correct it there")
    if not found:
        return Answer(False, "it is gone at its source: replay it without an edit")
    row = list(found[0])
    try:
        for name, value in corrected.items():
            row[_HEAD + names.index(name)] = _selected(reading, name, value)
    except Unreadable as problem:
        return Answer(False, str(problem))
    if row[_EDITED] is not None:
        row[_EDITED] = sorted({*row[_EDITED], *corrected})
    made = reading._entry(row)
    if isinstance(made, Refusal):
        return Answer(False, f"the corrected record does not fit either: {made.reason} in {made.field or 'the record'}: {made.message}")
    output.add(reading.entity, row[1] if row[1] is not None else row[0], 0 if row[2] else reading.mapper.mask, made)
    return Answer(True, "")


def _selected(reading: EntityReading, name: str, value: Any) -> Any:
    """A value as a reading would have selected it: times and dates are numbers there already."""
    kind = schemas.field(reading.entity, name).type
    if isinstance(value, str) and kind in ("instant", "date") and reading.layout.is_native(name):
        return READERS[DEFAULTS[kind]].read(value, ZoneInfo(reading.layout.profile.zone))
    return value
