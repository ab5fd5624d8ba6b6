"""Runs a state machine through many histories and counts them."""

from __future__ import annotations

import os
import time
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"
STEPS = 60 if LONG else 30
EXAMPLES = 20_000 if LONG else 150
BUGGED_EXAMPLES = 6_000 if LONG else 600

_tried: dict[str, tuple[int, float]] = {}


def run(machine: type[RuleBasedStateMachine], examples: int = EXAMPLES, *, steps: int = STEPS) -> None:
    """Try this many histories; a failing one is made as short as can be and printed. The short profile tries the same ones every time."""
    _run(machine, examples, steps, (Phase.explicit, Phase.generate, Phase.shrink))


def run_bugged(machine: type[RuleBasedStateMachine], *, steps: int = STEPS) -> None:
    """The same for a product with a planted bug: it must fail, and how short the history gets does not matter."""
    _run(machine, BUGGED_EXAMPLES, steps, (Phase.generate,))


def _run(machine: type[RuleBasedStateMachine], examples: int, steps: int, phases: tuple[Phase, ...]) -> None:
    chosen: dict[str, Any] = {"derandomize": True} if not LONG else {}
    begun, count = time.monotonic(), _Counted(machine)
    try:
        run_state_machine_as_test(
            count.machine,
            settings=settings(
                max_examples=examples, stateful_step_count=steps, deadline=None, database=None, phases=phases, report_multiple_bugs=False,
                suppress_health_check=list(HealthCheck), **chosen,
            ),
        )  # fmt: skip
    finally:
        tried, seconds = _tried.get(machine.__name__, (0, 0.0))
        _tried[machine.__name__] = (tried + count.tried, seconds + time.monotonic() - begun)


class _Counted:
    """The machine, counting how often it begins."""

    def __init__(self, machine: type[RuleBasedStateMachine]) -> None:
        self.tried = 0

        def begin(state: RuleBasedStateMachine) -> None:
            self.tried += 1
            machine.__init__(state)

        self.machine = type(machine.__name__, (machine,), {"__init__": begin})


def report() -> list[str]:
    """How many histories each machine has tried, and how many a minute."""
    return [
        f"simulation: {name}: {tried:,} histories in {seconds:.1f} s, {tried / seconds * 60:,.0f} a minute"
        for name, (tried, seconds) in _tried.items()
        if seconds
    ]
