"""Names and keys: tables as a profile writes them, local keys of several columns, text that is no text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lienthong.capture.notified import uses_of, wanted_columns
from lienthong.keys import join_key, split_key
from lienthong.layout import full_name, table_parts
from lienthong.reading import shown
from lienthong.settings import Profile


@pytest.mark.parametrize(
    ("written", "parts"),
    [
        ("dossier", ("public", "dossier")),
        ("motcua.ho_so", ("motcua", "ho_so")),
        ('"Hồ sơ"', ("public", "Hồ sơ")),
        ('quan_ly."Hồ sơ"', ("quan_ly", "Hồ sơ")),
        ('"Quản lý"."a.b"', ("Quản lý", "a.b")),
    ],
)
def test_tables_as_a_profile_writes_them(written: str, parts: tuple[str, str]) -> None:
    assert table_parts(written) == parts
    assert full_name(written) == ".".join(parts)


@given(st.lists(st.text(alphabet="a|\\ồ ", max_size=6), min_size=1, max_size=4))
def test_a_local_key_gives_its_columns_back(parts: list[str]) -> None:
    assert split_key(join_key(parts), len(parts)) == tuple(parts)


@given(
    st.tuples(st.text(alphabet="a|\\", max_size=5), st.text(alphabet="a|\\", max_size=5)),
    st.tuples(st.text(alphabet="a|\\", max_size=5), st.text(alphabet="a|\\", max_size=5)),
)
def test_two_records_never_have_one_local_key(one: tuple[str, str], other: tuple[str, str]) -> None:
    assert (join_key(one) == join_key(other)) == (one == other)


def test_a_key_of_one_column_is_its_text() -> None:
    assert join_key(["a|b\\c"]) == "a|b\\c"


def test_text_is_shown_as_it_is_and_broken_bytes_are_written_out() -> None:
    text = "Đồng 😀"
    assert shown(text) is text
    assert shown(b"caf\xe9 \xc4\x91".decode("utf-8", "surrogateescape")) == "caf\\xe9 đ"


PROFILE = Profile.model_validate(
    {
        "profile": "p",
        "entities": {
            "dossier": {
                "table": 'q."Hồ sơ"',
                "key": ["b", "a"],
                "events": "st",
                "fields": {"status": "st"},
                "parts": {
                    "own": {"table": "own", "on": {"x": "a", "y": "b"}},
                    "far": {"table": "far", "on": {"id": "far_id"}},
                },
            },
        },
    }
)


def test_a_part_that_holds_the_whole_key_names_its_root_in_the_roots_own_order() -> None:
    (own,) = uses_of(PROFILE)["public.own"]
    assert (own.columns, own.root_columns, own.direct) == (("y", "x"), ("b", "a"), True)


def test_a_part_that_is_referred_to_needs_a_look_up() -> None:
    (far,) = uses_of(PROFILE)["public.far"]
    assert (far.columns, far.root_columns, far.direct) == (("id",), ("far_id",), False)


def test_a_notification_needs_keys_join_columns_and_the_status() -> None:
    wanted = wanted_columns(PROFILE)
    assert set(wanted["q.Hồ sơ"]) == {"a", "b", "st"}
    assert set(wanted["public.own"]) == {"x", "y"}
    assert wanted["lienthong.overwritten"] == ("id",)
