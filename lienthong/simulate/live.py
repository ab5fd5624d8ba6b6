"""The city at work: clerks and citizens act at a steady rate, each in its own system and on rows that are there."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from random import Random

from lienthong.simulate import citizens, desks
from lienthong.simulate.city import City, Lived, opened
from lienthong.simulate.wards import WARDS

Act = Callable[[City], str | None]

_WARD_NAMES = tuple(WARDS)
_DESK_NAMES = (*_WARD_NAMES, *_WARD_NAMES, "dept-justice")


def _ward(city: City) -> str:
    return city.random.choice(_WARD_NAMES)


def _move(city: City) -> str | None:
    ward, other = city.random.sample(_WARD_NAMES, 2)
    return citizens.correct_address(city, ward, to_ward=other)


ACTIONS: tuple[tuple[int, Act], ...] = (
    (46, lambda city: desks.step(city, city.random.choice(_DESK_NAMES))),
    (14, citizens.submit),
    (6, lambda city: desks.hand_in(city, _ward(city))),
    (6, citizens.rate),
    (6, lambda city: citizens.correct_address(city, _ward(city))),
    (4, citizens.correct_contact),
    (4, citizens.correct_filing),
    (3, citizens.correct_identity),
    (2, lambda city: citizens.register(city, _ward(city))),
    (2, citizens.withdraw),
    (2, citizens.reroute),
    (1, citizens.delete),
    (1, lambda city: desks.delete(city, city.random.choice(_DESK_NAMES))),
    (1, citizens.drop_paper),
    (1, citizens.correct_at_one_stop),
    (1, _move),
)
OVERSTEP_SHARE = 0.01


def live(
    dsns: Mapping[str, str], *, seed: int = 1, steps: int | None = None, seconds: float | None = None,
    rate: float = 20.0,
    stop: threading.Event | None = None,
) -> Lived:  # fmt: skip
    """Act `rate` times a second until `steps` actions, `seconds` or `stop`, and return what happened."""
    stop = stop or threading.Event()
    with opened(dsns, Random(f"live {seed}")) as city:
        began = time.monotonic()
        done = 0
        while not stop.is_set() and (steps is None or done < steps):
            if seconds is not None and time.monotonic() - began >= seconds:
                break
            _act(city)
            done += 1
            stop.wait(max(0.0, began + done / rate - time.monotonic()))
        return city.lived


def _act(city: City) -> None:
    if city.random.random() < OVERSTEP_SHARE:
        word = desks.overstep(city)
    else:
        weights, acts = [weight for weight, _ in ACTIONS], [act for _, act in ACTIONS]
        word = city.random.choices(acts, weights)[0](city)
    city.lived.actions[word or "nothing_to_do"] += 1
