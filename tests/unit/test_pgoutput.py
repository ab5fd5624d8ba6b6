"""The messages of pgoutput, protocol 1, made byte by byte as the PostgreSQL manual describes them."""

from __future__ import annotations

import struct
from functools import partial

import pytest

from connectors.pgoutput import Decoder, Values
from lienthong.capture.notified import Notified, Use
from lienthong.capture.wal import _Snapshot

OID = 16_400
COMMITTED_MICROS = 1_772_413_200_000_000
TABLE = "public.Hồ sơ"


def begin(xid: int = 7) -> bytes:
    return b"B" + struct.pack(">qqI", 900, COMMITTED_MICROS - 946_684_800_000_000, xid)


def commit(end: int = 1000) -> bytes:
    return b"C" + struct.pack(">bqqq", 0, 900, end, 0)


def relation(name: str = "Hồ sơ", columns: tuple[str, ...] = ("id", "note", "status")) -> bytes:
    body = b"R" + struct.pack(">I", OID) + b"public\0" + name.encode() + b"\0d" + struct.pack(">H", len(columns))
    return body + b"".join(b"\1" + column.encode() + b"\0" + struct.pack(">II", 25, 0xFFFFFFFF) for column in columns)


def row(*values: str | bytes | None) -> bytes:
    """None = NULL, `u` in bytes = unchanged and not sent."""
    out = struct.pack(">H", len(values))
    for value in values:
        if value is None:
            out += b"n"
        elif value == b"u":
            out += b"u"
        else:
            text = value if isinstance(value, bytes) else value.encode()
            out += b"t" + struct.pack(">I", len(text)) + text
    return out


def change(op: bytes, body: bytes) -> bytes:
    return op + struct.pack(">I", OID) + body


class Seen:
    """Collects what a decoder says of one transaction."""

    def __init__(self, xid: int, at: int) -> None:
        self.xid, self.at, self.position = xid, at, 0
        self.changes: list[tuple[str, str, Values | None, Values | None]] = []
        self.emptied: list[str] = []

    def change(self, table: str, op: str, new: Values | None, old: Values | None) -> None:
        self.changes.append((table, op, new, old))

    def truncate(self, table: str) -> None:
        self.emptied.append(table)

    def end(self, position: int) -> None:
        self.position = position


def decoded(*messages: bytes) -> Seen:
    decoder = Decoder({TABLE: ("id", "status")}, Seen)
    done = [decoder.feed(message) for message in (begin(), relation(), *messages, commit())]
    assert done[:-1] == [None] * (len(done) - 1)
    assert done[-1] is not None
    return done[-1]


def test_a_transaction_has_its_xid_commit_time_and_the_end_of_its_commit() -> None:
    seen = decoded()
    assert (seen.xid, seen.at, seen.position) == (7, COMMITTED_MICROS, 1000)


@pytest.mark.parametrize(
    ("message", "op", "new", "old"),
    [
        (change(b"I", b"N" + row("1", "x", "new")), "I", {"id": "1", "status": "new"}, None),
        (change(b"I", b"N" + row("1", None, None)), "I", {"id": "1", "status": None}, None),
        (change(b"U", b"N" + row("1", b"u", "done")), "U", {"id": "1", "status": "done"}, None),
        (change(b"U", b"N" + row("1", "x", b"u")), "U", {"id": "1"}, None),
        (change(b"U", b"K" + row("1", None, None) + b"N" + row("2", "x", "new")), "U", {"id": "2", "status": "new"}, {"id": "1", "status": None}),
        (change(b"U", b"O" + row("1", "x", "a") + b"N" + row("1", "x", "b")), "U", {"id": "1", "status": "b"}, {"id": "1", "status": "a"}),
        (change(b"D", b"K" + row("1", None, None)), "D", None, {"id": "1", "status": None}),
        (change(b"I", b"N" + row("ồ\t\\", "x", "")), "I", {"id": "ồ\t\\", "status": ""}, None),
        (change(b"I", b"N" + row(b"\xe9", "x", "y")), "I", {"id": "\udce9", "status": "y"}, None),
    ],
)
def test_only_the_wanted_columns_of_a_change_are_kept(message: bytes, op: str, new: Values | None, old: Values | None) -> None:
    assert decoded(message).changes == [(TABLE, op, new, old)]


def test_a_truncate_names_all_its_tables() -> None:
    assert decoded(b"T" + struct.pack(">Ib", 1, 0) + struct.pack(">I", OID)).emptied == [TABLE]


@pytest.mark.parametrize("message", [b"O" + bytes(8) + b"x\0", b"Y" + bytes(4) + b"public\0t\0", b"M" + bytes(20)])
def test_other_messages_are_ignored(message: bytes) -> None:
    assert decoded(message).changes == []


def test_a_table_announced_again_has_its_new_columns() -> None:
    seen = decoded(
        change(b"I", b"N" + row("1", "x", "a")),
        relation(columns=("status", "id")),
        change(b"I", b"N" + row("b", "2")),
    )
    assert [new for _, _, new, _ in seen.changes] == [{"id": "1", "status": "a"}, {"status": "b", "id": "2"}]


# ------------------------------------------------------------------ what follows from it
ROOT = Use("dossier", None, ("id",), ("id",), direct=True, events="status")
PART = Use("dossier", "officer", ("dossier_id",), ("id",), direct=True)
REFERRED = Use("dossier", "address", ("id",), ("address_id",), direct=False)
USES = {"t": [ROOT], "part": [PART], "address": [REFERRED]}
new_transaction = partial(Notified.begin, USES)


def test_old_and_new_root_of_a_part_are_notified() -> None:
    noted = new_transaction(1, 0)
    noted.change("part", "U", {"dossier_id": "2"}, {"dossier_id": "1"})
    noted.change("part", "U", {"dossier_id": None}, {"dossier_id": "3"})
    noted.change("address", "U", {"id": "9"}, None)
    assert noted.roots == {"dossier": {("1",), ("2",), ("3",)}}
    assert noted.lookups == {("dossier", ("address_id",)): {("9",)}}


def test_a_row_that_tells_its_old_status_makes_no_step_of_the_same() -> None:
    noted = new_transaction(1, 0)
    noted.change("t", "U", {"id": "1", "status": "a"}, {"id": "1", "status": "a"})
    noted.change("t", "U", {"id": "1", "status": "b"}, {"id": "1", "status": "a"})
    noted.end(500)
    assert [(step.word, step.order) for step in noted.steps] == [("b", 500)]


def test_step_numbers_rise_from_transaction_to_transaction_and_fit_64_bits() -> None:
    orders: list[int] = []
    for position in (2**62 - 500, 2**62 - 400, 2**62):
        noted = new_transaction(1, 0)
        for status in "abc":
            noted.change("t", "U", {"id": "1", "status": status}, None)
        noted.end(position)
        orders += [step.order for step in noted.steps]
    assert orders == sorted(set(orders))
    assert orders[-1] < 2**63


@pytest.mark.parametrize(
    ("snapshot", "xid", "seen"),
    [
        ("10:20:12,15", 9, True),
        ("10:20:12,15", 11, True),
        ("10:20:12,15", 12, False),
        ("10:20:12,15", 20, False),
        ("4294967300:4294967310:", 5, True),
        ("4294967300:4294967310:4294967301", 5, False),
        ("4294967300:4294967310:", 4294967290, True),
    ],
)
def test_a_32_bit_xid_is_found_in_a_snapshot_of_any_epoch(snapshot: str, xid: int, *, seen: bool) -> None:
    assert _Snapshot(snapshot).sees({xid}) is seen
