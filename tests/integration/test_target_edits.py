"""Local edits at a target while we write: seen in parts too, and told in the unified model's words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from connectors.postgres import connect, transaction
from lienthong.apply.table import TargetEntity
from lienthong.errors import TransientError
from tests.apply_kit import DOSSIER, NOON, Ward, state


@pytest.fixture
def ward(database: str) -> Iterator[Ward]:
    made = Ward(database)
    yield made
    made.close()


def test_an_edit_of_a_part_between_look_and_write_is_not_lost_without_a_trace(ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    ward.apply(state(7, 1))
    clerk = connect(ward.settings.systems["ward"].dsn, application_name="a clerk")
    update = TargetEntity.update
    came_through: list[bool] = []

    def edited_before(self: TargetEntity, cursor: Any, writes: Any) -> None:
        for edit in ("UPDATE nguoi SET dien_thoai = '0999'", "UPDATE dia_chi SET dia_chi = 'moved'"):
            try:
                with transaction(clerk) as own:
                    own.execute(f"SET LOCAL lock_timeout = '300ms'; {edit}")
                came_through.append(True)
            except TransientError:
                came_through.append(False)
        update(self, cursor, writes)

    monkeypatch.setattr(TargetEntity, "update", edited_before)
    ward.apply(state(7, 2, DOSSIER | {"applicant_phone": "0777", "applicant_address": "2 Lê Lợi"}))
    clerk.close()
    assert came_through == [False, False], "the clerk's edit waits for ours, and then counts as the newer one"
    assert (ward.dossiers()[0]["dien_thoai"], ward.dossiers()[0]["dia_chi"]) == ("0777", "2 Lê Lợi")


def test_an_overwritten_edit_is_told_in_unified_words(ward: Ward) -> None:
    """Capture tells the same edit in these words: one edit is then one correction request."""
    ward.apply(state(7, 1))
    ward.sql("""UPDATE "Hồ sơ" SET "Trạng thái" = 'xong', ngay_nop = '2026-03-05 13:00'""")
    ward.apply(state(7, 2))
    told = {field: (was, base, written) for _, field, was, base, written in ward.overwritten()}
    assert told == {"status": (9, 4, 4), "submitted_at": (NOON + 3_600_000_000, NOON, NOON)}


def test_equal_words_are_no_edit(ward: Ward) -> None:
    ward.apply(state(7, 1))
    ward.sql("""UPDATE "Hồ sơ" SET local_only = 'x'""")
    ward.apply(state(7, 2, DOSSIER | {"status": 9}))
    assert ward.overwritten() == []
