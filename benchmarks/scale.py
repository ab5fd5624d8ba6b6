"""The job `scale`: the same work on tables of growing size. A service that keeps up costs the same for each record."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import pairwise

from benchmarks.contender import Contender
from benchmarks.jobs import Load, Stream, measure_load, measure_stream
from benchmarks.meters import Cost
from benchmarks.work import CHANGES_PER_GROUP, Work

PARTS = (100, 10, 1)
SMALLEST_ROWS = 2_000
CHANGES = 5000 * CHANGES_PER_GROUP


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """Load and stream at one number of rows."""

    rows: int
    load: Load
    stream: Stream


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """All sizes, smallest first."""

    sizes: list[Size]

    @property
    def equal(self) -> bool:
        """Whether every target became equal to its source."""
        return all(size.load.equal and size.stream.equal for size in self.sizes)

    @property
    def stream_growth(self) -> float:
        """CPU of a change on the largest table, divided by that on the smallest."""
        return round(self.change_us(self.sizes[-1]) / self.change_us(self.sizes[0]), 2)

    @property
    def load_us(self) -> list[float]:
        """CPU of each further row from one size to the next, in µs: starting is in both, so it cancels out."""
        return [round((cpu(more.load.cost) - cpu(fewer.load.cost)) / (more.rows - fewer.rows) * 1e6, 1) for fewer, more in pairwise(self.sizes)]

    @staticmethod
    def change_us(size: Size) -> float:
        """CPU of one change, in µs."""
        return round(cpu(size.stream.cost) / size.stream.changes * 1e6, 1)

    def as_dict(self) -> dict[str, object]:
        """For `bench.json`."""
        change_us = {size.rows: self.change_us(size) for size in self.sizes}
        grown = {"change_us": change_us, "stream_growth": self.stream_growth, "further_row_us": self.load_us}
        return {**grown, "equal": self.equal, "sizes": [asdict(size) for size in self.sizes]}


def cpu(cost: Cost) -> float:
    """All CPU seconds."""
    return sum(cost.cpu_seconds.values())


def measure_scale(start: Callable[[], Contender], work: Work) -> Scale:
    """Load and stream the same changes at a hundredth, a tenth and all of the rows."""
    rows = sorted({max(work.rows // part, SMALLEST_ROWS) for part in PARTS})
    changes = min(CHANGES, work.changes)
    return Scale(sizes=[_size(start(), Work(rows=n, changes=changes, latency_seconds=0)) for n in rows])


def _size(contender: Contender, work: Work) -> Size:
    try:
        contender.prepare(work)
        load = measure_load(contender, work)
        return Size(rows=work.rows, load=load, stream=measure_stream(contender, work))
    finally:
        contender.close()
