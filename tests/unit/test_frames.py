"""Frames: what is packed is unpacked, they stay small, and no changed byte goes unnoticed."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

import schemas
from connectors.avro import DamagedError
from lienthong import frames
from lienthong.frames import DELETE, ENTRIES_MAX, FRAME_BYTES_MAX, STATE, FrameBuilder, Header

HEAD = Header("ward-1", "dossier", "records", 3, 1_795_397_400_123, frames.mask_of("dossier", ["note", "status", "summary"]), 99)
BITS = {field.name: 1 << field.index for field in schemas.fields("dossier")}


def packed(key: str, note: str | None = "đơn", parent: str | None = None, record: int | None = None, edited: int | None = None) -> bytes:
    nulls, body = frames.encode_body("dossier", {"note": note, "status": 4, "summary": None}, BITS, HEAD.mask)
    return frames.pack_entry(STATE, key, parent=parent, record=record, delivered=record is not None, edited=edited, nulls=nulls, body=body)


def framed(*entries: bytes) -> bytes:
    builder = FrameBuilder(HEAD)
    assert [builder.add(entry) for entry in entries] == [None] * len(entries)
    frame = builder.close()
    assert frame is not None
    return frame


@given(st.text(max_size=50), st.none() | st.text(max_size=50), st.none() | st.text(max_size=20), st.none() | st.integers(0, 2**62))
def test_what_is_packed_is_unpacked(key: str, note: str | None, parent: str | None, record: int | None) -> None:
    header, entries = frames.open_frame(framed(packed(key, note, parent, record, edited=record)))
    (entry,) = frames.unpack_entries(header, entries)
    assert header == HEAD
    assert (entry.key, entry.parent, entry.record, entry.edited, entry.delivered) == (key, parent, record, record, record is not None)
    assert (entry.system, entry.epoch, entry.version, entry.at) == ("ward-1", 3, 1_795_397_400_123, 99)
    assert entry.values() == {"note": note, "status": 4, "summary": None}


def test_a_delete_speaks_about_no_field() -> None:
    gone = frames.pack_entry(DELETE, "1", parent=None, record=None, delivered=False, edited=None, nulls=0, body=b"")
    header, entries = frames.open_frame(framed(gone))
    (entry,) = frames.unpack_entries(header, entries)
    assert (entry.op, entry.mask, entry.values()) == (DELETE, 0, {})


def test_frames_are_bounded_in_number_and_bytes() -> None:
    for entry, count in ((packed("1"), 1200), (packed("1", "x" * 100_000), 10)):
        builder = FrameBuilder(HEAD)
        done = [frame for _ in range(count) if (frame := builder.add(entry)) is not None]
        last = builder.close()
        assert last is not None
        opened = [len(frames.open_frame(frame)[1]) for frame in [*done, last]]
        assert sum(opened) == count
        assert max(opened) <= ENTRIES_MAX
        assert max(map(len, done)) <= FRAME_BYTES_MAX + len(last)


def test_an_empty_builder_makes_no_frame() -> None:
    assert FrameBuilder(HEAD).close() is None


def test_every_flipped_bit_and_every_cut_is_noticed() -> None:
    frame = framed(packed("1"), packed("2", None, parent="7"))
    choice = random.Random(1)
    for place in range(len(frame)):
        damaged = bytearray(frame)
        damaged[place] ^= 1 << choice.randrange(8)
        with pytest.raises(DamagedError):
            frames.open_frame(bytes(damaged))
        with pytest.raises(DamagedError):
            frames.open_frame(frame[:place])
    with pytest.raises(DamagedError):
        frames.open_frame(frame + b"\0")


def test_an_entry_moved_to_another_frame_is_noticed() -> None:
    """The hash covers the header: an old version's entry cannot pass as a new one's."""
    other = FrameBuilder(Header("ward-1", "dossier", "records", 3, HEAD.version + 1, HEAD.mask, 99))
    other.add(packed("1"))
    theirs, ours = other.close(), framed(packed("1"))
    assert theirs is not None
    cut = len(ours) - len(packed("1")) - 12
    with pytest.raises(DamagedError):
        frames.open_frame(theirs[:cut] + ours[cut:])


def test_notes_are_json_with_their_header() -> None:
    header = Header("w", "dossier", "refused", 1, 2, 0, 3)
    contents = [{"key": str(n), "payload": "x" * 1000} for n in range(600)]
    found = []
    for frame in frames.note_frame(header, contents):
        head, entries = frames.open_frame(frame)
        found += frames.unpack_notes(head, entries)
    assert [note.content for note in found] == contents
    assert {note.header for note in found} == {header}


def test_a_root_and_all_that_belongs_to_it_have_one_partition() -> None:
    places = {frames.partition_of("ward-1", f"HS{n}", 4) for n in range(100)}
    assert places == {0, 1, 2, 3}
    assert frames.partition_of("ward-1", "Đồng", 4) == frames.partition_of("ward-1", "Đồng", 4)
