"""What the harness asks of everybody it measures, ours and the peers alike."""

from __future__ import annotations

from typing import Protocol

from benchmarks.meters import Groups
from benchmarks.work import Place, Work


class Contender(Protocol):
    """Moves every row of `source` to `target` and keeps it equal: the harness writes the one and watches the other.

    The order is prepare, begin, then any jobs, then close. Close also ends what a failed prepare or begin left.
    """

    name: str
    source: Place
    target: Place

    def prepare(self, work: Work) -> None:
        """Make source and target anew and start all that stands before the clock: broker, registry, stores."""

    def begin(self) -> None:
        """Start the flow. The clock of the load starts at the call, so start-up of the workers is part of it."""

    def check(self) -> None:
        """Raise when the flow has failed; called about every second while something is awaited."""

    def groups(self) -> Groups:
        """The processes that do the work now, servers included, by the name of their group."""

    def settings(self) -> dict[str, object]:
        """The settings that decide how fast it is, for the report."""

    def close(self) -> None:
        """End everything that was started."""
