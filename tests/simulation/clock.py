"""One clock for all simulated processes: it stands still unless a test moves it, so a history is the same each time."""

from __future__ import annotations


class Clock:
    """Stands where the module `time` is."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begin again."""
        self.seconds = 1_000_000.0

    def time(self) -> float:
        """Seconds since 1970."""
        return self.seconds

    def monotonic(self) -> float:
        """Seconds since some time."""
        return self.seconds

    def sleep(self, seconds: float) -> None:
        """Nobody waits."""
        self.seconds += seconds


CLOCK = Clock()
