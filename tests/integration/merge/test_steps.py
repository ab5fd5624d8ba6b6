"""The merge on a real hub: status steps from row images."""

from __future__ import annotations

from typing import Any

import pytest

from lienthong.frames import Header, note_frame
from tests.merge_kit import DAY, DOSSIER, X1, Hub, state


# ------------------------------------------------------------------ status steps from row images
def _step(root: str, status: int | None, order: int, *, ours: bool = False, first: bool = False) -> dict[str, Any]:
    step = {"root": root, "at": DAY + order * 1_000_000, "order": order, "ours": ours, "first": first, "status": status}
    return step if status is not None else step | {"problem": "a word", "reason": "unmapped_word"}


def _steps(version: int, *contents: dict[str, Any]) -> bytes:
    return note_frame(Header("ward-a", "dossier_event", "step", 1, version, 0, DAY), contents)[0]


def test_every_change_of_status_is_one_event_and_a_replay_none(city: Hub) -> None:
    sent = _steps(1, _step("W", 2, 1), _step("W", 4, 2), _step("W", 4, 3), _step("W", 5, 4, ours=True), _step("W", 9, 5))
    city.merge(X1, sent)
    city.merge(sent)
    assert sorted(event["status"] for event in city.golden("dossier_event")) == [2, 4, 9]


def test_a_replay_that_begins_in_the_middle_makes_no_step(city: Hub) -> None:
    """Seen again after the last step, an earlier touch of the row would look like a step back."""
    touched = _step("W", 4, 3)
    city.merge(X1, _steps(1, _step("W", 2, 1), _step("W", 4, 2), touched, _step("W", 9, 4)))
    city.merge(_steps(2, touched, _step("W", 9, 4)))
    assert sorted(event["status"] for event in city.golden("dossier_event")) == [2, 4, 9]


def test_a_step_with_an_unmapped_word_is_parked(city: Hub) -> None:
    city.merge(_steps(1, _step("W", None, 1), _step("W", 4, 2)))
    assert [(p["reason"], p["field"]) for p in city.parked("refused")] == [("unmapped_word", "status")]
    assert [event["status"] for event in city.golden("dossier_event")] == [4]


def test_a_loaded_dossiers_first_other_change_is_no_step(city: Hub) -> None:
    city.merge(state("ward-a", "W", 1, DOSSIER | {"status": 4}))
    city.merge(_steps(2, _step("W", 4, 1), _step("W", 5, 2)))
    assert [event["status"] for event in city.golden("dossier_event")] == [5]


def test_a_load_that_was_quicker_than_the_log_hides_no_first_step(city: Hub) -> None:
    """The chunk of a load looks after a dossier was handed in, and before the reading that tells of it."""
    city.merge(state("ward-a", "W", 1, DOSSIER | {"status": 2}))
    city.merge(_steps(2, _step("W", 2, 1, first=True), _step("W", 2, 2)))
    assert [event["status"] for event in city.golden("dossier_event")] == [2]


@pytest.mark.parametrize("is_known_first", [True, False])
def test_a_look_that_is_newer_than_the_steps_read_so_far_hides_none(city: Hub, is_known_first: bool) -> None:
    """Also where the batch stores what it can before it looks the rest up."""
    city.merge(state("ward-a", "W", 1, DOSSIER | {"status": 2}))
    city.merger._most_is_known = is_known_first
    city.merge(state("ward-a", "W", 2, DOSSIER | {"status": 4}))
    city.merge(_steps(3, _step("W", 4, 1), _step("W", 4, 2)))
    assert [event["status"] for event in city.golden("dossier_event")] == [4]


def test_a_new_epoch_counts_its_steps_from_the_beginning(city: Hub) -> None:
    city.merge(X1, _steps(1, _step("W", 2, 900)))
    again = note_frame(Header("ward-a", "dossier_event", "step", 2, 2, 0, DAY), [_step("W", 4, 1)])[0]
    city.merge(again)
    assert sorted(event["status"] for event in city.golden("dossier_event")) == [2, 4]
