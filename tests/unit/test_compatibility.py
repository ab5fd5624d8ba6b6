"""A change of the model that would break a reader is told by record, field and reader."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest

import schemas
from connectors.avro import SchemaError, compatibility
from lienthong.schema_check import WORKING_COPY, Problem, check_releases

Change = Callable[[dict[str, Any]], None]


def working_with(name: str, change: Change) -> dict[str, Any]:
    """The working copy with one record changed."""
    working = {record: deepcopy(schemas.raw(record)) for record in schemas.RECORDS}
    change(working[name])
    return working


def field_of(schema: dict[str, Any], name: str) -> dict[str, Any]:
    """One declared field of a schema."""
    return next(field for field in schema["fields"] if field["name"] == name)


def told(problems: list[Problem]) -> set[tuple[str, str, str]]:
    """Which field of which record breaks which reader."""
    return {(problem.record, problem.field, problem.reader) for problem in problems}


def test_released_versions_and_working_copy_read_each_other() -> None:
    assert check_releases() == []


def test_new_optional_field_at_the_end_is_fine() -> None:
    def change(schema: dict[str, Any]) -> None:
        schema["fields"].append({"name": "colour", "type": ["null", "string"], "default": None})

    assert check_releases(working=working_with("fee", change)) == []


def remove(name: str) -> Change:
    return lambda schema: schema["fields"].remove(field_of(schema, name))


def retype(name: str, declared: object) -> Change:
    return lambda schema: field_of(schema, name).update(type=declared)


def rename(name: str, new_name: str) -> Change:
    return lambda schema: field_of(schema, name).update(name=new_name)


def append(**field: Any) -> Change:
    return lambda schema: schema["fields"].append(field)


def swap_last(schema: dict[str, Any]) -> None:
    schema["fields"][-1], schema["fields"][-2] = schema["fields"][-2], schema["fields"][-1]


def add_to_meta(schema: dict[str, Any]) -> None:
    schema["fields"][0]["type"]["fields"].append({"name": "lane", "type": "int"})


RELEASE = "release 1"
CHANGES: list[tuple[str, Change, str, str, str]] = [
    ("removed required field", remove("amount"), "amount", RELEASE, "requires it"),
    ("removed optional field", remove("method"), "method", RELEASE, "take it for empty"),
    ("renamed field", rename("method", "manner"), "method", RELEASE, "take it for empty"),
    ("no longer required", lambda schema: field_of(schema, "amount").pop("required"), "amount", RELEASE, "requires it"),
    (
        "newly required",
        lambda schema: field_of(schema, "method").update(required=True),
        "method",
        WORKING_COPY,
        "requires it",
    ),
    (
        "new field without default",
        append(name="colour", type="string"),
        "colour",
        WORKING_COPY,
        "no default for colour",
    ),
    (
        "new required field",
        append(name="colour", type=["null", "string"], default=None, required=True),
        "colour",
        WORKING_COPY,
        "requires it",
    ),
    ("text becomes number", retype("method", ["null", "int"]), "method", RELEASE, "INT"),
    ("text becomes number", retype("method", ["null", "int"]), "method", WORKING_COPY, "STRING"),
    ("wider number", retype("method", ["null", "string", "long"]), "method", RELEASE, "LONG"),
    ("narrower number", retype("amount", ["null", "int"]), "amount", WORKING_COPY, "LONG"),
    (
        "other clock",
        retype("paid_at", ["null", {"type": "long", "logicalType": "timestamp-millis"}]),
        "paid_at",
        RELEASE,
        "takes it for timestamp-micros, the writer means timestamp-millis",
    ),
    ("clock lost", retype("paid_at", ["null", "long"]), "paid_at", RELEASE, "the writer means a plain value"),
    (
        "new field in the middle",
        lambda schema: schema["fields"].insert(1, {"name": "x", "type": ["null", "int"], "default": None}),
        "fee_code",
        RELEASE,
        "moved from place 1 to 2",
    ),
    ("swapped fields", swap_last, "paid_at", RELEASE, "moved from place 5 to 4"),
    ("meta grows", add_to_meta, "meta", WORKING_COPY, "no default for lane"),
    ("renamed record", lambda schema: schema.update(name="Charge"), "", RELEASE, "Charge"),
]


@pytest.mark.parametrize(("change", "field", "reader", "words"), [case[1:] for case in CHANGES], ids=[case[0] for case in CHANGES])
def test_breaking_change_names_the_field_and_the_reader(change: Change, field: str, reader: str, words: str) -> None:
    problems = check_releases(working=working_with("fee", change))
    assert ("fee", field, reader) in told(problems)
    assert any(words in problem.message for problem in problems if (problem.field, problem.reader) == (field, reader))
    assert {problem.record for problem in problems} == {"fee"}


@pytest.mark.parametrize("name", schemas.RECORDS)
def test_every_field_of_every_record_is_guarded(name: str) -> None:
    for field in schemas.raw(name)["fields"]:
        assert (name, field["name"], RELEASE) in told(check_releases(working=working_with(name, remove(field["name"]))))


def test_record_that_disappeared_breaks_its_readers() -> None:
    working = {name: schemas.raw(name) for name in schemas.RECORDS if name != "merged"}
    assert told(check_releases(working=working)) == {("merged", "", RELEASE)}


def test_record_never_released_is_told() -> None:
    released = [version for version in schemas.released() if version.name != "parked"]
    (problem,) = check_releases(released)
    assert (problem.record, problem.writer) == ("parked", WORKING_COPY)
    assert "never released" in problem.message


def test_frozen_file_that_was_edited_is_told() -> None:
    first, *rest = schemas.released()
    (problem,) = check_releases([replace(first, text=first.text + " "), *rest])
    assert problem.record == first.name
    assert "the frozen file was changed" in problem.message


def test_every_released_version_is_asked_not_only_the_newest() -> None:
    """A field that release 1 had, release 2 lost and the working copy brings back with another meaning."""
    first = schemas.released()[4]
    second = replace(first, release=2, id=13, schema=deepcopy(first.schema))
    second.schema["fields"].remove(field_of(second.schema, "paid_at"))
    working = working_with("fee", retype("paid_at", ["null", "string"]))
    readers = {problem.reader for problem in check_releases([first, second], working={"fee": working["fee"]})}
    assert "release 1" in readers


def test_problem_reads_as_one_line() -> None:
    problem = check_releases(working=working_with("fee", remove("method")))[0]
    assert str(problem) == ("fee.method: reader release 1, writer working copy: the field is gone, the reader would take it for empty")


def test_compatibility_names_the_field() -> None:
    reader, writer = schemas.raw("fee"), working_with("fee", remove("amount"))["fee"]
    assert compatibility(reader, writer) == ["field amount: the reader requires it and the writer may leave it out"]
    assert compatibility(writer, reader) == []


def test_invalid_schema_is_refused_not_called_compatible() -> None:
    broken = working_with("fee", retype("amount", "strng"))["fee"]
    with pytest.raises(SchemaError):
        compatibility(broken, schemas.raw("fee"))
    with pytest.raises(SchemaError):
        compatibility(schemas.raw("fee"), broken)
