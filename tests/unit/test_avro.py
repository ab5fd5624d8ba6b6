"""Records to bytes and back: nothing changes on the way, and what is no record is refused without showing a value."""

from __future__ import annotations

import io
from functools import reduce
from typing import Any

import fastavro
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import schemas
from connectors.avro import (
    Codec,
    DamagedError,
    SchemaError,
    UnfitError,
    canonical,
    frame,
    out_codec,
    projection_codec,
    unframe,
)
from connectors.avro_compiled import NotCompilableError, compiled

INT, LONG = 2**31, 2**63
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "string": st.text(),
    "partial-date": st.sampled_from(["1980", "1980-05", "1980-05-17"]),
    "int": st.integers(-INT, INT - 1),
    "date": st.integers(-INT, INT - 1),
    "long": st.integers(-LONG, LONG - 1),
    "instant": st.integers(-LONG, LONG - 1),
    "boolean": st.booleans(),
}
META = st.fixed_dictionaries(
    {
        "record": VALUES["long"],
        "parent": st.none() | VALUES["long"],
        "epoch": VALUES["long"],
        "version": VALUES["long"],
        "withheld": st.lists(st.text()),
        "held": st.lists(st.text()),
        "local_key": st.none() | st.text(),
        "parent_key": st.none() | st.text(),
        "yields": st.lists(st.text(), max_size=3),
    }
)


def values_of(entity: str) -> st.SearchStrategy[dict[str, Any]]:
    """Any value of an entity, without meta."""
    return st.fixed_dictionaries({field.name: st.none() | VALUES[field.type] for field in schemas.fields(entity)})


@st.composite
def contributions(draw: st.DrawFn) -> tuple[str, int, dict[str, Any]]:
    """An entity, a mask, and a value for the fields of the mask."""
    entity = draw(st.sampled_from(schemas.ENTITIES))
    mask = draw(st.integers(0, (1 << len(schemas.fields(entity))) - 1))
    whole = draw(values_of(entity))
    return entity, mask, {field.name: whole[field.name] for field in schemas.fields(entity) if mask >> field.index & 1}


@st.composite
def out_records(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    """An entity's name and a whole outgoing record of it."""
    entity = draw(st.sampled_from(schemas.ENTITIES))
    return entity, {"meta": draw(META), **draw(values_of(entity))}


SAMPLE = {
    "meta": {
        "record": 7,
        "parent": None,
        "epoch": 1,
        "version": 300,
        "withheld": ["note"],
        "held": [],
        "local_key": "a|b",
        "parent_key": "7",
        "yields": ["processing"],
    },
    "status": 4,
    "submitted_at": 1_760_000_000_000_000,
    "applicant_name": "Nguyễn Thị Ánh",
    "procedure_code": "1.004222",
}


# ------------------------------------------------------------------ round trips
@given(contributions())
def test_contribution_comes_back_as_it_went(given_part: tuple[str, int, dict[str, Any]]) -> None:
    entity, mask, value = given_part
    codec = projection_codec(entity, mask)
    assert codec.decode(codec.encode(value)) == value


@given(out_records())
def test_outgoing_record_comes_back_as_it_went(record: tuple[str, dict[str, Any]]) -> None:
    name, value = record
    assert out_codec(name).decode(out_codec(name).encode(value)) == value


@given(out_records())
def test_bytes_are_those_of_plain_fastavro(record: tuple[str, dict[str, Any]]) -> None:
    name, value = record
    schema = schemas.without_logical_types(schemas.by_id(schemas.schema_id(name)))
    buffer = io.BytesIO()
    fastavro.schemaless_writer(buffer, schema, value)
    assert out_codec(name).encode(value) == buffer.getvalue()
    assert fastavro.schemaless_reader(io.BytesIO(out_codec(name).encode(value)), schema, None) == value


def test_missing_keys_are_null_and_unknown_keys_stay_behind() -> None:
    codec = projection_codec("fee", 0b11)
    assert codec.decode(codec.encode({"name": "Lệ phí", "colour": "red"})) == {"fee_code": None, "name": "Lệ phí"}


def test_instants_and_dates_are_plain_numbers_though_the_schema_names_logical_types() -> None:
    codec = Codec(schemas.raw("fee"))
    value = {"meta": SAMPLE["meta"], "fee_code": "P1", "name": None, "amount": 1, "method": None, "paid_at": -5}
    assert codec.decode(codec.encode(value)) == value


def test_lists_may_be_any_plain_collection() -> None:
    encode = out_codec("dossier").encode
    expected = encode({**SAMPLE, "meta": {**SAMPLE["meta"], "withheld": ["note"]}})
    for kind in (tuple, set, frozenset):
        assert encode({**SAMPLE, "meta": {**SAMPLE["meta"], "withheld": kind(["note"])}}) == expected
    with pytest.raises(UnfitError):
        encode({**SAMPLE, "meta": {**SAMPLE["meta"], "withheld": "note"}})


@pytest.mark.parametrize("name", schemas.RECORDS)
def test_our_own_records_take_the_compiled_path(name: str) -> None:
    compiled(schemas.physical(name))


@pytest.mark.parametrize(
    "declared",
    [{"type": "enum", "name": "E", "symbols": ["a"]}, "double", ["null", "string", "int"], ["string", "null"], "bytes"],
)
def test_other_shapes_take_fastavro(declared: object) -> None:
    schema = {"type": "record", "name": "R", "fields": [{"name": "x", "type": declared}]}
    with pytest.raises(NotCompilableError):
        compiled(schema)
    value = {"x": 0.5 if declared == "double" else b"a" if declared == "bytes" else "a"}
    whole = Codec(schema).encode(value)
    assert Codec(schema).decode(whole) == value
    for damaged in (whole[:-1], whole + b"x"):
        with pytest.raises(DamagedError):
            Codec(schema).decode(damaged)
    with pytest.raises(UnfitError) as caught:
        Codec(schema).encode({"x": ["secret"]})
    assert caught.value.field == "x"
    assert "secret" not in str(caught.value)


def test_default_that_is_not_null_is_written_for_a_missing_key() -> None:
    codec = Codec({"type": "record", "name": "R", "fields": [{"name": "x", "type": "int", "default": 7}]})
    assert codec.decode(codec.encode({})) == {"x": 7}


# ------------------------------------------------------------------ what does not fit
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("status", "4"),
        ("status", INT),
        ("status", 4.0),
        ("status", True),
        ("fee_total", LONG),
        ("fee_total", -LONG - 1),
        ("applicant_name", 5),
        ("applicant_name", b"Anh"),
        ("applicant_name", "secret \ud800"),
        ("submitted_at", "2026-01-01"),
    ],
)
def test_value_of_another_type_is_refused_naming_the_field_and_not_the_value(field: str, value: object) -> None:
    with pytest.raises(UnfitError) as caught:
        out_codec("dossier").encode({**SAMPLE, field: value})
    assert caught.value.field == field
    assert caught.value.reason == "unfit"
    assert str(value) not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("meta", [None, {}, {**SAMPLE["meta"], "withheld": [None]}, {**SAMPLE["meta"], "version": None}])  # type: ignore[dict-item]
def test_record_without_whole_meta_is_refused(meta: object) -> None:
    with pytest.raises(UnfitError) as caught:
        out_codec("dossier").encode({**SAMPLE, "meta": meta})
    assert caught.value.field == "meta"


def test_what_is_no_dictionary_is_refused() -> None:
    with pytest.raises(UnfitError, match="must be a dictionary, not list"):
        out_codec("dossier").encode([])  # type: ignore[arg-type]


# ------------------------------------------------------------------ damaged bytes
@pytest.mark.parametrize("length", range(len(out_codec("dossier").encode(SAMPLE))))
def test_truncated_record_is_refused(length: int) -> None:
    with pytest.raises(DamagedError):
        out_codec("dossier").decode(out_codec("dossier").encode(SAMPLE)[:length])


@given(out_records(), st.binary(min_size=1, max_size=20))
def test_bytes_after_the_record_are_refused(record: tuple[str, dict[str, Any]], tail: bytes) -> None:
    name, value = record
    with pytest.raises(DamagedError):
        out_codec(name).decode(out_codec(name).encode(value) + tail)


@given(contributions(), st.data())
def test_truncated_contribution_is_refused(given_part: tuple[str, int, dict[str, Any]], data: st.DataObject) -> None:
    entity, mask, value = given_part
    assume(mask)
    whole = projection_codec(entity, mask).encode(value)
    with pytest.raises(DamagedError):
        projection_codec(entity, mask).decode(whole[: data.draw(st.integers(0, len(whole) - 1))])


@given(out_records(), st.data())
def test_flipped_bit_is_refused_or_read_as_another_record_and_never_anything_else(
    record: tuple[str, dict[str, Any]],
    data: st.DataObject,
) -> None:
    name, value = record
    damaged = bytearray(out_codec(name).encode(value))
    place = data.draw(st.integers(0, len(damaged) - 1))
    damaged[place] ^= 1 << data.draw(st.integers(0, 7))
    try:
        read = out_codec(name).decode(bytes(damaged))
    except DamagedError:
        return
    assert out_codec(name).encode(read) != out_codec(name).encode(value) or read == value


@given(st.sampled_from(schemas.RECORDS), st.binary(max_size=200))
def test_any_bytes_are_a_record_or_damaged(name: str, noise: bytes) -> None:
    try:
        read = out_codec(name).decode(noise)
    except DamagedError:
        return
    assert out_codec(name).decode(out_codec(name).encode(read)) == read


def test_string_that_is_not_utf8_is_refused() -> None:
    codec = projection_codec("fee", 0b1)
    assert codec.encode({"fee_code": "ab"}) == b"\x02\x04ab"
    with pytest.raises(DamagedError):
        codec.decode(b"\x02\x04a\xff")


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\x04", id="branch-2-of-2"),
        pytest.param(b"\x01\x04ab", id="branch-minus-1"),
        pytest.param(b"\x02\x03ab", id="negative-length"),
        pytest.param(b"\x02\x01", id="length-minus-1"),
        pytest.param(b"\x02\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01ab", id="length-2-63"),
        pytest.param(b"\x02" + b"\xff" * 30 + b"\x01ab", id="endless-number"),
        pytest.param(b"\x02\x84\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x00ab", id="number-longer-than-64-bits"),
    ],
)
def test_impossible_string_is_refused(data: bytes) -> None:
    with pytest.raises(DamagedError):
        projection_codec("fee", 0b1).decode(data)


@pytest.mark.parametrize("number", [INT, -INT - 1])
def test_number_too_large_for_its_type_is_refused(number: int) -> None:
    long_codec = projection_codec("fee", 1 << schemas.field("fee", "amount").index)
    int_codec = projection_codec("dossier", 1 << schemas.field("dossier", "status").index)
    with pytest.raises(DamagedError):
        int_codec.decode(long_codec.encode({"amount": number}))


def test_boolean_other_than_zero_and_one_is_refused() -> None:
    codec = projection_codec("dossier_component", 1 << schemas.field("dossier_component", "reused").index)
    assert codec.decode(b"\x02\x01") == {"reused": True}
    with pytest.raises(DamagedError):
        codec.decode(b"\x02\x07")


# ------------------------------------------------------------------ bombs
LIST_OF_TEXT = {
    "type": "record",
    "name": "R",
    "fields": [{"name": "items", "type": {"type": "array", "items": "string"}}],
}


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01", id="2-63-items"),
        pytest.param(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x02", id="minus-2-63-items-with-size"),
        pytest.param(b"\x80\x80\x80\x80\x10" + b"\x00" * 1000, id="2-31-empty-items-in-1000-bytes"),
        pytest.param(b"\x02\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01", id="one-huge-item"),
        pytest.param(b"\x02\x00" * 1000, id="list-without-end"),
    ],
)
def test_list_longer_than_its_bytes_is_refused(data: bytes) -> None:
    with pytest.raises(DamagedError):
        Codec(LIST_OF_TEXT).decode(data)


def test_list_in_several_blocks_is_read() -> None:
    assert Codec(LIST_OF_TEXT).decode(b"\x02\x02a\x03\x08\x02b\x02c\x00") == {"items": ["a", "b", "c"]}


@pytest.mark.parametrize(
    "items",
    [
        "null",
        {"type": "record", "name": "Empty", "fields": []},
        ["null", "string"],
        {"type": "array", "items": "string"},
        {"type": "fixed", "name": "None", "size": 0},
    ],
)
def test_schema_with_items_that_take_no_bytes_is_refused(items: object) -> None:
    bomb = {
        "type": "record",
        "name": "R",
        "fields": [{"name": "all", "type": ["null", {"type": "array", "items": items}]}],
    }
    with pytest.raises(SchemaError, match="R.all"):
        Codec(bomb)


def test_record_over_the_limit_is_refused_both_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    codec = projection_codec("fee", 0b1)
    whole = codec.encode({"fee_code": "x" * 100})
    monkeypatch.setattr("connectors.avro.MAX_RECORD_BYTES", 100)
    with pytest.raises(UnfitError, match="longer than 100"):
        codec.encode({"fee_code": "x" * 100})
    with pytest.raises(DamagedError, match="longer than 100"):
        codec.decode(whole)


@pytest.mark.parametrize(
    "schema",
    [
        {},
        [],
        "string",
        "nonsense",
        {"type": "record"},
        {"type": "strng"},
        {"type": "record", "name": "R", "fields": None},
        {"type": "record", "name": "R", "fields": [{"name": "x", "type": "strng"}]},
        {"type": "enum", "name": "E", "symbols": []},
    ],
)
def test_what_is_no_schema_of_a_record_is_refused(schema: Any) -> None:
    with pytest.raises(SchemaError):
        canonical(schema)


def test_canonical_form_ignores_what_does_not_change_the_bytes() -> None:
    assert canonical(schemas.raw("fee")) == canonical(schemas.physical("fee"))
    assert canonical(schemas.raw("fee")) != canonical(schemas.projection("fee", 0b1))


# ------------------------------------------------------------------ framing
@given(st.integers(0, 2**32 - 1), st.binary())
def test_framed_record_comes_back(schema_id: int, body: bytes) -> None:
    framed = frame(schema_id, body)
    assert framed[:5] == b"\x00" + schema_id.to_bytes(4, "big")
    assert unframe(framed) == (schema_id, body)


@pytest.mark.parametrize("data", [b"", b"\x00\x00\x00\x00", b"\x01\x00\x00\x00\x01x", b'{"a": 1}'])
def test_what_is_not_framed_is_refused(data: bytes) -> None:
    with pytest.raises(DamagedError):
        unframe(data)


def test_codecs_are_made_once() -> None:
    assert projection_codec("dossier", 0b101) is projection_codec("dossier", 0b101)
    assert out_codec("dossier") is out_codec("dossier")


def test_outgoing_records_are_written_in_the_released_schema_their_id_names(monkeypatch: pytest.MonkeyPatch) -> None:
    grown = {**schemas.raw("fee"), "fields": [*schemas.raw("fee")["fields"], {"name": "new", "type": "string"}]}
    real = schemas.raw
    monkeypatch.setattr(schemas, "raw", lambda name: grown if name == "fee" else real(name))
    out_codec.cache_clear()
    value = {"meta": SAMPLE["meta"], "fee_code": "P1"}
    assert "new" not in out_codec("fee").decode(out_codec("fee").encode(value))


def test_whole_mask_equals_every_field() -> None:
    mask = reduce(lambda bits, field: bits | 1 << field.index, schemas.fields("unit"), 0)
    assert set(projection_codec("unit", mask).decode(b"\x00" * 9)) == {field.name for field in schemas.fields("unit")}
