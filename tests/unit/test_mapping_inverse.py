"""One mapping serves both directions: what is written to a target is read back as the same value (design §5)."""

from __future__ import annotations

import unicodedata
from datetime import UTC, date, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

import schemas
from lienthong.keys import join_key, split_key
from lienthong.layout import Column, Layout
from lienthong.mapping import Mapper, Refusal
from lienthong.readers import DEFAULTS, EPOCH_DAY, READERS, Unreadable, to_micros
from lienthong.settings import Profile

TEXT = Column("text", "b", "text")
FIRST, LAST = date(1800, 1, 1), date(2200, 12, 31)
# Vietnam has kept one offset since 1975; before that some local times came twice.
SECONDS = st.integers(to_micros(datetime(1976, 1, 1, tzinfo=UTC)) // 10**6, to_micros(datetime(2199, 1, 1, tzinfo=UTC)) // 10**6)
WORDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
MIDNIGHTS = st.dates(date(1976, 1, 1), LAST).map(lambda day: to_micros(datetime(day.year, day.month, day.day, tzinfo=ZoneInfo("Asia/Ho_Chi_Minh"))))
DAYS = st.integers(FIRST.toordinal() - EPOCH_DAY, LAST.toordinal() - EPOCH_DAY)


def _spaced(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).split())


@st.composite
def partial_dates(draw: st.DrawFn) -> str:
    """YYYY, YYYY-MM or YYYY-MM-DD."""
    return draw(st.dates(FIRST, LAST)).isoformat()[: draw(st.sampled_from([4, 7, 10]))]


# Per reader a field of its type, and the values that it can yield.
VALUES: dict[str, tuple[str, str, st.SearchStrategy[Any]]] = {
    "text": ("dossier", "note", WORDS),
    "trimmed": ("dossier", "note", WORDS.map(str.strip).filter(bool)),
    "upper": ("dossier", "note", WORDS.map(lambda w: w.strip().upper().strip()).filter(lambda w: w and w == w.upper())),
    "vietnamese_name": ("dossier", "applicant_name", WORDS.map(_spaced).filter(lambda w: w and w == _spaced(w))),
    "integer": ("dossier", "fee_total", st.integers(-(2**63), 2**63 - 1)),
    "boolean": ("dossier_component", "digitised", st.booleans()),
    "instant": (
        "dossier",
        "finished_at",
        SECONDS.flatmap(lambda s: st.integers(0, 999_999).map(lambda us: s * 10**6 + us)),
    ),
    "datetime_compact": ("dossier", "finished_at", SECONDS.map(lambda s: s * 10**6)),
    "day_compact": ("dossier", "due_at", MIDNIGHTS),
    "day_text": ("dossier", "returned_at", MIDNIGHTS),
    "datetime_text": ("dossier", "finished_at", SECONDS.map(lambda s: s * 10**6)),
    "date": ("dossier_component", "valid_until", DAYS),
    "date_compact": ("dossier_component", "valid_until", DAYS),
    "date_text": ("dossier_component", "valid_until", DAYS),
    "partial_date": ("dossier", "applicant_birth_date", partial_dates()),
    "partial_date_compact": ("dossier", "applicant_birth_date", partial_dates()),
    "partial_date_text": ("dossier", "applicant_birth_date", partial_dates()),
    "money_text": ("dossier", "fee_total", st.integers(-(10**15), 10**15)),
    "personal_number": ("dossier", "applicant_personal_number", st.from_regex(r"[1-8][0-9]{11}", fullmatch=True)),
    "unit_code": ("dossier", "processing_agency_code", st.from_regex(r"[0-9]{5}", fullmatch=True)),
}


def mapper(entity: str, spec: dict[str, Any], name: str, column: Column = TEXT) -> Mapper:
    """A mapper of one field that is kept in one column."""
    profile = Profile.model_validate({"profile": "p", "entities": {entity: {"table": "t", "key": "k", "fields": {name: {"column": "c", **spec}}}}})
    return Mapper(Layout(entity, profile, profile.entities[entity], {"t": {"k": TEXT, "c": column}}))


def as_column(written: Any) -> str | None:
    """What a text column holds after the value was written to it."""
    return None if written is None else str(written).lower() if isinstance(written, bool) else str(written)


def read_back(made: Mapper, name: str, raw: Any) -> Any:
    made.required = ()
    values = made.read([raw])
    assert not isinstance(values, Refusal), values
    return values[name]


def test_every_reader_is_tried() -> None:
    assert set(VALUES) == set(READERS)
    for reader, (entity, name, _) in VALUES.items():
        assert schemas.field(entity, name).type in READERS[reader].types


@pytest.mark.parametrize("reader", sorted(READERS))
@given(data=st.data())
def test_write_then_read_gives_the_same_value(reader: str, data: st.DataObject) -> None:
    entity, name, values = VALUES[reader]
    value = data.draw(values)
    made = mapper(entity, {"read": reader}, name)
    assert read_back(made, name, as_column(made.writer(name)(value))) == value


@pytest.mark.parametrize("reader", sorted(READERS))
def test_null_is_written_as_null_and_read_as_null(reader: str) -> None:
    entity, name, _ = VALUES[reader]
    made = mapper(entity, {"read": reader}, name)
    assert made.writer(name)(None) is None
    assert read_back(made, name, None) is None


@pytest.mark.parametrize("field_type", sorted(DEFAULTS))
def test_every_type_of_the_model_has_a_default_reader(field_type: str) -> None:
    assert field_type in READERS[DEFAULTS[field_type]].types


# ------------------------------------------------------------------ the zone
@given(micros=VALUES["datetime_compact"][2])
@pytest.mark.parametrize("zone", ["Asia/Ho_Chi_Minh", "UTC", "Pacific/Kiritimati"])
def test_local_times_are_written_in_the_zone_they_are_read_in(zone: str, micros: int) -> None:
    made = mapper("dossier", {"read": "datetime_compact", "zone": zone}, "finished_at")
    assert read_back(made, "finished_at", made.writer("finished_at")(micros)) == micros


def test_a_timestamp_column_gets_the_local_time_without_zone() -> None:
    made = mapper("dossier", {}, "finished_at", Column("timestamp", "b", "timestamp without time zone"))
    noon_in_hanoi = to_micros(datetime(2026, 3, 5, 5, 0, 0, 250_000, tzinfo=UTC))
    written = made.writer("finished_at")(noon_in_hanoi)
    assert written == "2026-03-05 12:00:00.250000"
    assert READERS["instant"].read(written, ZoneInfo("Asia/Ho_Chi_Minh")) == noon_in_hanoi


# ------------------------------------------------------------------ value maps
LOCAL = {"dang_xu_ly": 4, "xu_ly": 4, "cho_bo_sung": 5, "1": 1, "true": 2}


@given(status=st.sampled_from(sorted(set(LOCAL.values()))))
def test_a_mapped_word_is_written_as_a_word_that_means_the_same(status: int) -> None:
    made = mapper("dossier", {"values": LOCAL}, "status")
    assert read_back(made, "status", made.writer("status")(status)) == status


def test_of_several_local_words_the_first_is_written() -> None:
    assert mapper("dossier", {"values": LOCAL}, "status").writer("status")(4) == "dang_xu_ly"


@pytest.mark.parametrize("local", [{1: 4, 2: 5}, {True: 4, False: 5}], ids=["numbers", "yes and no"])
def test_words_may_be_numbers_or_booleans(local: dict[Any, int]) -> None:
    made = mapper("dossier", {"values": local}, "status")
    for status in local.values():
        assert read_back(made, "status", as_column(made.writer("status")(status))) == status


def test_a_unified_word_without_a_local_one_is_refused_not_guessed() -> None:
    with pytest.raises(Unreadable) as refused:
        mapper("dossier", {"values": LOCAL}, "status").writer("status")(10)
    assert refused.value.reason == "unmapped_word"


# ------------------------------------------------------------------ keys
@given(parts=st.lists(st.text(max_size=6), min_size=2, max_size=4))
def test_composite_keys_survive_any_separator_inside(parts: list[str]) -> None:
    assert split_key(join_key(parts), len(parts)) == tuple(parts)


@given(st.text(max_size=12))
def test_a_single_key_is_its_text(key: str) -> None:
    assert split_key(join_key([key]), 1) == (key,)


@given(
    st.lists(st.text("a|\\", max_size=4), min_size=2, max_size=2),
    st.lists(st.text("a|\\", max_size=4), min_size=2, max_size=2),
)
def test_different_keys_are_different_texts(one: list[str], other: list[str]) -> None:
    assert (join_key(one) == join_key(other)) == (one == other)
