"""Does the unified model still read, and is it still read by, every version ever released?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256

import schemas
from connectors.avro import breaks
from schemas import Released, Schema

WORKING_COPY = "working copy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One field (or, when it is empty, a whole record) of one writer that breaks one reader."""

    record: str
    field: str
    reader: str
    writer: str
    message: str

    def __str__(self) -> str:
        place = f"{self.record}.{self.field}" if self.field else self.record
        return f"{place}: reader {self.reader}, writer {self.writer}: {self.message}"


def check_releases(
    released: Iterable[Released] | None = None,
    working: dict[str, Schema] | None = None,
) -> list[Problem]:
    """Compare the working copy with every released version, both directions; by default those of this installation."""
    versions = list(schemas.released() if released is None else released)
    today = {name: schemas.raw(name) for name in schemas.RECORDS} if working is None else working
    found = [problem for version in versions for problem in _check_version(version, today.get(version.name))]
    unreleased = sorted(today.keys() - {version.name for version in versions})
    return found + [
        Problem(
            record=name,
            field="",
            reader="every consumer",
            writer=WORKING_COPY,
            message="was never released: copy it to schemas/released/ and give it an id in index.json",
        )
        for name in unreleased
    ]


def _check_version(version: Released, today: Schema | None) -> Iterator[Problem]:
    release = f"release {version.release}"
    if sha256(version.text.encode()).hexdigest() != version.sha256:
        yield Problem(
            record=version.name,
            field="",
            reader=release,
            writer=release,
            message="the frozen file was changed; restore it, and make a new release instead",
        )
    if today is None:
        yield Problem(
            record=version.name,
            field="",
            reader=release,
            writer=WORKING_COPY,
            message="the record is gone; readers of this release wait for it for ever",
        )
        return
    sides = ((release, version.schema, WORKING_COPY, today), (WORKING_COPY, today, release, version.schema))
    for reader, reading, writer, writing in sides:
        for found in breaks(reading, writing):
            yield Problem(record=version.name, field=found.field, reader=reader, writer=writer, message=found.reason)
    yield from _moved_fields(version, release, today)


def _moved_fields(version: Released, release: str, today: Schema) -> Iterator[Problem]:
    """Contributions on their way name fields by place, and a field gone reads as null, which says nothing is there."""
    places = {field["name"]: place for place, field in enumerate(today["fields"])}
    for place, field in enumerate(version.schema["fields"]):
        now = places.get(field["name"])
        if now == place:
            continue
        message = (
            "the field is gone, the reader would take it for empty"
            if now is None
            else (f"the field moved from place {place} to {now}; new fields go at the end")
        )
        yield Problem(record=version.name, field=field["name"], reader=release, writer=WORKING_COPY, message=message)
