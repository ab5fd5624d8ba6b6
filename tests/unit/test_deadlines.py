"""A dossier against its deadline at any instant: pauses, extensions, the official score; properties over all histories."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lienthong.config import ConfigProblems
from lienthong.config_deadlines import DeadlineRules, Limit
from lienthong.deadlines import Calendar
from lienthong.deadlines.facts import Case, _case, limit_of, promises
from lienthong.deadlines.figures import Tally, percent, period
from lienthong.deadlines.official import score
from lienthong.deadlines.published import differences
from lienthong.deadlines.standing import Facts, State, due_after, moved, standing
from lienthong.errors import ConfigError
from tests.config_kit import FILES, load, write

VIETNAM = timezone(timedelta(hours=7))
CALENDAR = Calendar.load()
HOUR = 3_600_000_000
DAY = 24 * HOUR


def at(text: str) -> int:
    moment = datetime.fromisoformat(text).replace(tzinfo=VIETNAM)
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


# ------------------------------------------------------------------ by hand, in the week of 16 November 2026
START = at("2026-11-16T09:00")
THREE_DAYS = Limit(amount=3)


def facts(*steps: tuple[str, int], due: str | None = "2026-11-19T09:00", **more: object) -> Facts:
    promised = () if due is None else ((0, at(due)),)
    made = Facts(received=START, steps=((START, 2), *((at(when), status) for when, status in steps)), promises=promised)
    return replace(made, **more)  # type: ignore[arg-type] # the names are those of Facts


@pytest.mark.parametrize(
    ("steps", "now", "state"),
    [
        ([], "2026-11-16T08:59", "not received"),
        ([], "2026-11-16T09:00", "in time"),
        ([], "2026-11-19T09:00", "in time"),
        ([], "2026-11-19T09:01", "overdue"),
        ([("2026-11-19T09:00", 9)], "2026-11-19T10:00", "on time"),
        ([("2026-11-19T09:01", 9)], "2026-11-19T10:00", "late"),
        ([("2026-11-19T09:01", 9)], "2026-11-19T09:00", "in time"),  # not known yet what would come
        ([("2026-11-17T09:00", 5)], "2026-11-25T09:00", "paused"),
        ([("2026-11-20T09:00", 5)], "2026-11-25T09:00", "overdue"),  # it was late before it paused
        ([("2026-11-17T09:00", 6), ("2026-11-18T09:00", 4)], "2026-11-20T09:00", "in time"),  # waiting for a fee pauses too
        ([("2026-11-17T09:00", 6), ("2026-11-18T09:00", 4)], "2026-11-20T09:01", "overdue"),
        ([("2026-11-17T09:00", 5), ("2026-11-24T09:00", 4), ("2026-11-26T09:00", 9)], "2026-11-27T09:00", "on time"),
        ([("2026-11-17T09:00", 5), ("2026-11-24T09:00", 4), ("2026-11-26T09:01", 9)], "2026-11-27T09:00", "late"),
        ([("2026-11-18T09:00", 9), ("2026-11-19T08:00", 4)], "2026-11-20T09:00", "overdue"),  # taken up again
        ([("2026-11-18T09:00", 9), ("2026-11-20T08:00", 10)], "2026-11-20T09:00", "on time"),  # ended when decided, not when fetched
        ([("2026-11-18T09:00", 7)], "2026-11-20T09:00", "on time"),
    ],
)
def test_where_a_dossier_stands(steps: list[tuple[str, int]], now: str, state: State) -> None:
    assert standing(facts(*steps), at(now), CALENDAR).state == state


def test_what_was_never_received_has_no_deadline() -> None:
    assert standing(Facts(steps=((START, 1), (START + DAY, 3))), START + 9 * DAY, CALENDAR).state == "not received"
    assert standing(Facts(steps=((START, 2),)), START, CALENDAR).state == "no due date"


def test_without_a_promise_the_procedures_limit_counts() -> None:
    found = standing(facts(due=None, limit=THREE_DAYS), at("2026-11-17T00:00"), CALENDAR)
    assert found.due == at("2026-11-19T09:00")
    for unit, due in (("hours", at("2026-11-16T14:00")), ("calendar_days", at("2026-11-20T00:00") - 1)):
        limit = Limit.model_validate({"amount": 3, "unit": unit})
        assert standing(facts(due=None, limit=limit), at("2026-11-17T00:00"), CALENDAR).due == due


def test_an_extension_counts_from_when_it_was_made_and_is_told_apart() -> None:
    extended = facts(due="2026-11-19T09:00", promises=((0, at("2026-11-19T09:00")), (at("2026-11-18T15:00"), at("2026-11-24T09:00"))))
    before, after = (standing(extended, at(when), CALENDAR) for when in ("2026-11-18T14:59", "2026-11-23T09:00"))
    assert (before.due, before.is_extended) == (at("2026-11-19T09:00"), False)
    assert (after.due, after.is_extended, after.state) == (at("2026-11-24T09:00"), True, "in time")
    late = standing(extended, at("2026-11-24T10:00"), CALENDAR)
    assert (late.state, late.late) == ("overdue", HOUR)


def test_a_pause_that_is_in_an_extension_is_not_added_again() -> None:
    steps = ((at("2026-11-17T09:00"), 5), (at("2026-11-18T09:00"), 4), (at("2026-11-23T09:00"), 5), (at("2026-11-23T11:00"), 4))
    extended = facts(promises=((0, at("2026-11-19T09:00")), (at("2026-11-18T09:05"), at("2026-11-24T09:00"))))
    found = standing(replace(extended, steps=(*extended.steps, *steps)), at("2026-11-24T08:00"), CALENDAR)
    assert found.due == at("2026-11-24T11:00")  # moved by the second pause alone
    assert found.paused == 10 * HOUR


def test_lateness_is_working_time() -> None:
    found = standing(facts(("2026-11-23T10:00", 9)), at("2026-11-24T09:00"), CALENDAR)
    assert (found.state, found.late) == ("late", (2 * 8 + 1) * HOUR)


# ------------------------------------------------------------------ the official score
@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([("2026-11-19T09:00", 9), ("2026-11-23T09:00", 10)], "on time"),  # the end is status 9
        ([("2026-11-19T09:01", 10)], "late"),
        ([("2026-11-17T09:00", 8)], "on time"),
        ([("2026-11-17T09:00", 3)], "on time"),
        ([("2026-11-20T09:00", 7)], "late"),  # withdrawn counts, because it had been received
        ([("2026-11-17T09:00", 5)], "on time"),  # waits for the citizen: ended at the request
        ([("2026-11-20T09:00", 5)], "late"),
        ([("2026-11-17T09:00", 5), ("2026-11-19T09:00", 4), ("2026-11-21T09:00", 9)], "on time"),  # his two days are not counted
        ([("2026-11-17T09:00", 5), ("2026-11-19T09:00", 4), ("2026-11-21T09:01", 9)], "late"),
        ([("2026-11-16T10:00", 5), ("2026-11-16T11:00", 4), ("2026-11-16T12:00", 5), ("2026-11-16T13:00", 4), ("2026-11-17T09:00", 9)], "late"),
        ([("2026-11-17T09:00", 4)], "open"),
    ],
)
def test_the_official_score(steps: list[tuple[str, int]], expected: str) -> None:
    assert score(facts(*steps), at("2026-11-30T09:00"), CALENDAR) == expected


def test_the_official_score_leaves_out_what_was_not_received_and_takes_the_procedures_limit() -> None:
    end = ("2026-11-19T09:00", 9)
    assert score(facts(end, received=None), at("2026-11-30T09:00"), CALENDAR) == "left out"
    assert score(facts(end, due=None), at("2026-11-30T09:00"), CALENDAR) == "left out"
    assert score(facts(end, due=None, limit=THREE_DAYS), at("2026-11-30T09:00"), CALENDAR) == "on time"


# ------------------------------------------------------------------ properties
moments = st.integers(START, START + 60 * DAY)
steps = st.lists(st.tuples(moments, st.integers(1, 10)), max_size=12)
limits = st.builds(Limit, amount=st.integers(1, 30), unit=st.sampled_from(["working_days", "hours", "calendar_days"]))
promised = st.lists(st.tuples(moments, moments), max_size=3).map(lambda later: tuple(later and [(0, later[0][1]), *later[1:]]))
histories = st.builds(Facts, received=st.one_of(st.none(), moments), steps=steps.map(tuple), promises=promised, limit=st.one_of(st.none(), limits))
spans = st.lists(moments, min_size=2, max_size=8, unique=True).map(lambda cut: [*zip(sorted(cut)[::2], sorted(cut)[1::2], strict=False)])


@given(moments, moments, limits)
def test_who_comes_later_is_never_due_earlier(one: int, other: int, limit: Limit) -> None:
    first, second = sorted((one, other))
    assert first < due_after(CALENDAR, first, limit) <= due_after(CALENDAR, second, limit)


@given(moments, limits, st.integers(0, 30))
def test_a_longer_limit_is_never_due_earlier(start: int, limit: Limit, more: int) -> None:
    assert due_after(CALENDAR, start, limit) <= due_after(CALENDAR, start, limit.model_copy(update={"amount": limit.amount + more}))


@given(moments, spans)
def test_a_pause_adds_exactly_the_time_that_passed_in_it(due: int, pauses: list[tuple[int, int]]) -> None:
    paused = sum(CALENDAR.worked_micros(end) - CALENDAR.worked_micros(begin) for begin, end in pauses)
    after = moved(CALENDAR, due, pauses)
    assert CALENDAR.worked_micros(after) - CALENDAR.worked_micros(due) == paused
    assert after >= due
    in_days = moved(CALENDAR, due, pauses, in_calendar_days=True)
    passed = sum(end - begin for begin, end in pauses)
    assert in_days == (CALENDAR.day_end_micros(due + passed) if passed else due)
    assert in_days >= due + passed


@given(histories, moments, st.randoms(use_true_random=False))
def test_the_order_and_number_of_arrivals_do_not_matter(history: Facts, now: int, chance: object) -> None:
    shuffled, promised_again = [*history.steps, *history.steps[:3]], [*history.promises]
    chance.shuffle(shuffled)  # type: ignore[attr-defined] # hypothesis gives a random.Random
    chance.shuffle(promised_again)  # type: ignore[attr-defined]
    again = replace(history, steps=tuple(shuffled), promises=tuple(promised_again))
    assert standing(again, now, CALENDAR) == standing(history, now, CALENDAR)
    assert score(again, now, CALENDAR) == score(history, now, CALENDAR)


@given(histories, moments, steps, st.lists(st.tuples(moments, moments), max_size=2))
def test_what_happens_later_changes_nothing_of_before(history: Facts, now: int, more: list[tuple[int, int]], extended: list[tuple[int, int]]) -> None:
    """Computed again for a past instant, a dossier stands where it stood, whatever has happened since."""
    after = tuple((now + 1 + when - START, status) for when, status in more)
    new = tuple((now + 1 + since - START, due) for since, due in extended) if history.promises else ()
    later = replace(history, steps=history.steps + after, promises=history.promises + new)
    assert standing(later, now, CALENDAR) == standing(history, now, CALENDAR)
    assert score(later, now, CALENDAR) == score(history, now, CALENDAR)


@given(histories, moments, moments)
def test_once_overdue_without_an_extension_it_stays_late(history: Facts, one: int, other: int) -> None:
    """Pausing after the due date, or ending, does not make anything on time again."""
    first, second = sorted((one, other))
    history = replace(history, promises=history.promises[:1])
    if standing(history, first, CALENDAR).state == "overdue":
        later = standing(history, second, CALENDAR)
        ends_before = [when for when, status in history.steps if status in (3, 7, 8, 9, 10) and when <= first]
        assert later.state in ("overdue", "late") or ends_before
        assert later.ended is None or later.ended > first or ends_before


@given(histories, moments)
def test_a_dossier_is_in_exactly_one_state_that_fits_its_dates(history: Facts, now: int) -> None:
    found = standing(history, now, CALENDAR)
    if found.state in ("on time", "late"):
        assert found.ended is not None
        assert found.due is not None
        assert (found.ended <= found.due) is (found.state == "on time")
    if found.state in ("in time", "paused", "overdue"):
        assert found.ended is None
        assert found.due is not None
        assert (now <= found.due) is (found.state != "overdue")
    assert found.late >= 0
    assert found.paused >= 0


# ------------------------------------------------------------------ what figures are made with
def test_promises_are_read_from_what_stood_before() -> None:
    assert promises(30, [10, 20], [1, 2]) == ((0, 1), (10, 2), (20, 30))
    assert promises(30, [10, 20], [30, 30]) == ((0, 30),)
    assert promises(None, [10], [5]) == ((0, 5),)
    assert promises(7, [], []) == ((0, 7),)
    assert promises(None, [], []) == ()


def test_a_limit_is_found_by_the_whole_code_or_its_national_head() -> None:
    limits = {"1.004222": Limit(amount=3), "1.004222.000.00.00.H29": Limit(amount=4)}
    assert limit_of(limits, "1.004222.000.00.00.H29") == Limit(amount=4)
    assert limit_of(limits, "1.004222.000.00.00.H30") == Limit(amount=3)
    assert limit_of(limits, "1.004223") is None
    assert limit_of(limits, None) is None


def test_a_share_is_cut_so_that_only_all_is_a_hundred() -> None:
    assert percent(99_999, 100_000) == 99.99
    assert percent(9_981, 10_000) == 99.81
    assert percent(3, 3) == 100.0
    assert percent(0, 0) is None


def test_a_month_ends_when_it_ends_and_cannot_be_asked_for_before_it_begins() -> None:
    october = date(2026, 10, 1)
    whole = period(datetime(2026, 11, 20, tzinfo=UTC), october)
    assert whole.first == at("2026-10-01T00:00")
    assert whole.at == at("2026-11-01T00:00") - 1
    assert period(datetime(2026, 10, 5, tzinfo=UTC), october).at == at("2026-10-05T07:00")
    with pytest.raises(ConfigError, match="has not begun"):
        period(datetime(2026, 9, 30, 16, 59, tzinfo=UTC), october)


def test_every_figure_that_differs_is_named() -> None:
    before = {"unit": [{"key": "*", "late": 1}, {"key": "1", "late": 1}]}
    after = {"unit": [{"key": "*", "late": 2}, {"key": "1", "late": 1}, {"key": "2", "late": 1}]}
    found = [(d.by, d.key, d.figure, d.published, d.now) for d in differences(before, after)]
    assert found == [("unit", "*", "late", 1, 2), ("unit", "2", "late", None, 1)]
    assert differences(after, after) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"hours": ["13:30-17:00", "07:00-11:30"]},
        {"hours": ["11:30-07:00"]},
        {"hours": []},
        {"disputed": {"2026-11-24": "maybe"}},
        {"days": {"2026-12-31": {"kind": "off"}}},
        {"limits": {"1.004222": {"amount": 0}}},
        {"limits": {"1.004222": {"amount": 1, "unit": "weeks"}}},
        {"holidays": {}},
    ],
)
def test_what_is_decided_wrongly_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        DeadlineRules.model_validate(wrong)


# ------------------------------------------------------------------ deadlines.yaml
def example() -> str:
    """The example of docs/configuration.md."""
    page = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text("utf-8")
    return page.partition("## deadlines.yaml")[2].partition("```yaml\n")[2].partition("```")[0]


def test_what_the_city_decides_is_optional(tmp_path: Path) -> None:
    assert load(write(tmp_path, FILES)).deadlines == DeadlineRules()
    rules = load(write(tmp_path, {**FILES, "deadlines": example()})).deadlines
    assert rules.days[date(2028, 1, 31)].kind == "off"
    assert rules.limits == {"2.000815": Limit(amount=4, unit="hours")}
    assert not Calendar.load(rules).is_working(date(2026, 11, 24))


def test_a_wrong_word_is_named_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigProblems, match=r"deadlines\.yaml:2:\d+: disputed"):
        load(write(tmp_path, {**FILES, "deadlines": example().replace('"off"}', '"perhaps"}', 1)}))


# ------------------------------------------------------------------ an end recorded before the reception
def case(*, status: int, received: str, finished: str | None, steps: tuple[tuple[str, int], ...] = ()) -> Case:
    packed = [at(when) << 4 | reached for when, reached in steps]
    ended = None if finished is None else at(finished)
    return _case(
        ("H29.1", "1", "1.1", at(received), at("2026-11-19T09:00"), status, ended, ended, None, packed, [0] * len(packed), None, None, 0), {}
    )


def test_a_dossier_finished_before_its_reception_is_finished_and_was_handled_in_no_time() -> None:
    steps = (("2026-11-18T10:00", 9), ("2026-11-18T15:00", 2))
    found = case(status=9, received="2026-11-18T15:00", finished="2026-11-18T10:00", steps=steps)
    assert found.is_inconsistent
    stands = standing(found.facts, at("2026-11-30T09:00"), CALENDAR)
    assert (stands.state, stands.ended) == ("on time", at("2026-11-18T10:00"))
    assert found.facts.received == stands.ended
    assert standing(found.facts, at("2026-11-18T12:00"), CALENDAR).state == "on time", "between the two it is finished as well"


def test_a_dossier_that_was_taken_up_again_after_its_end_is_open() -> None:
    steps = (("2026-11-16T10:00", 3), ("2026-11-17T10:00", 2), ("2026-11-17T11:00", 4))
    found = case(status=4, received="2026-11-17T10:00", finished=None, steps=steps)
    assert not found.is_inconsistent
    assert standing(found.facts, at("2026-11-18T09:00"), CALENDAR).state == "in time"


def test_an_ordinary_dossier_is_consistent() -> None:
    steps = (("2026-11-16T10:00", 2), ("2026-11-18T10:00", 9))
    assert not case(status=9, received="2026-11-16T10:00", finished="2026-11-18T10:00", steps=steps).is_inconsistent


def test_inconsistent_ones_are_told_only_where_there_are_any() -> None:
    assert "inconsistent" not in Tally(ended=1).row("*")
    assert Tally(ended=1, inconsistent=1).row("*")["inconsistent"] == 1
