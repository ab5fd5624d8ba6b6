"""When a line stops instead of parking: shares, windows, and what happens after a stop."""

from __future__ import annotations

import pytest

from lienthong.breaker import Breaker, MassFailure
from lienthong.errors import TransientError
from lienthong.settings import Parking, Stop


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def looks(breaker: Breaker, *seen_and_failed: tuple[int, int], entity: str = "dossier") -> int:
    """Looks one after the other; how many were refused before the line stopped, or -1 when it did not."""
    refused = 0
    for seen, failed in seen_and_failed:
        breaker.saw(entity, seen)
        for _ in range(failed):
            try:
                breaker.failed(entity, "unmapped_word", "status")
            except MassFailure:
                return refused
            refused += 1
    return -1


@pytest.mark.parametrize(("seen_and_failed", "stops_after"), [
    ([(50, 50)], -1),
    ([(200, 99)], -1),
    ([(1000, 300)], -1),
    ([(1000, 301)], 300),
    ([(200, 200)], 99),
    ([(1, 1)] * 200, 99),
    ([(1, 1), (9, 0)] * 200, -1),
    ([(1000, 0)] * 50 + [(1, 1)] * 1000, 428),
], ids=["too few", "one less", "the share itself", "one more", "all", "one by one", "one in ten", "after a good day"])  # fmt: skip
def test_a_line_stops_at_the_number_and_above_the_share(seen_and_failed: list[tuple[int, int]], stops_after: int) -> None:
    assert looks(Breaker("ward", Stop()), *seen_and_failed) == stops_after


def test_what_was_rolled_back_comes_again_and_is_not_counted_as_good() -> None:
    breaker = Breaker("ward", Stop())
    breaker.saw("dossier", 100)

    def a_right_is_missing() -> None:
        with breaker.attempt():
            breaker.saw("dossier", 300)
            raise TransientError("no")

    for _ in range(50):
        with pytest.raises(TransientError):
            a_right_is_missing()
    assert looks(breaker, (300, 300)) == 120


def test_entities_are_counted_apart() -> None:
    breaker = Breaker("ward", Stop())
    breaker.saw("dossier", 100_000)
    assert looks(breaker, (150, 150), entity="fee") == 99


def test_old_refusals_are_forgotten() -> None:
    clock = Clock()
    breaker = Breaker("ward", Stop(), clock=clock)
    for _ in range(500):
        clock.now += 60
        assert looks(breaker, (1, 1)) == -1, "one a minute is no mass failure"


def test_after_a_stop_one_more_refusal_is_enough_until_a_look_has_passed() -> None:
    breaker = Breaker("ward", Stop())
    assert looks(breaker, (200, 200)) == 99
    assert looks(breaker, (50, 50)) == 15, "the share of the look counts at once"
    assert looks(breaker, (1, 1)) == 0
    assert looks(breaker, (100, 10)) == -1, "cured: what is left is parked"
    assert looks(breaker, (50, 50)) == -1, "and the number counts again"


def test_a_share_of_one_never_stops() -> None:
    assert looks(Breaker("ward", Stop(share=1)), (5000, 5000)) == -1


def test_the_reason_names_system_entity_and_cause() -> None:
    breaker = Breaker("ward-tan-dinh", Stop(records=1), verb="refused by the target")
    with pytest.raises(MassFailure, match="ward-tan-dinh: 1 of 1 fee records were refused by the target, the last for missing in amount"):
        breaker.failed("fee", "missing", "amount")


def test_a_policy_for_an_entity_that_is_not_there_is_an_error() -> None:
    assert Parking().holds("dossier") is False
    assert Parking(later={"dossier": "hold"}).holds("dossier") is True
    with pytest.raises(ValueError, match="there is no entity dosier; there are citizen"):
        Parking.model_validate({"later": {"dosier": "hold"}})
