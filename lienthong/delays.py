"""How long changes take from hop to hop, as histograms: each process counts what it has committed, and adds it up in the hub twice a second.

| Hop | From | To |
|---|---|---|
| `source_to_hub` | the commit at the source, or the reading of a load | committed in the hub |
| `hub_to_target` | sent by the router | committed at the target |
| `source_to_target` | the commit at the source of a change that was sent for it | committed at the target |

Clocks are those of the machines that stamped: the source's, the router's, and that of the process which commits. A process that dies loses what it
has counted since its last beat; what it has not counted is not counted by anybody else.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import lru_cache
from itertools import accumulate
from math import inf

from connectors.kafka import Message
from connectors.postgres import Cursor
from lienthong import probe

BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 21600.0, 86400.0)
"""Upper bounds in seconds; 60 is the usual lag limit."""
BOUNDS = (*BUCKETS, inf)

SOURCE_TO_HUB, HUB_TO_TARGET, SOURCE_TO_TARGET = "source_to_hub", "hub_to_target", "source_to_target"
COMMITTED, COMMITTED_AT = "ce_time", 4
"""The header of a message that tells when its change was committed at its source, and its place among them; one that is sent again has none."""

_STORE = """
INSERT INTO hub.delay AS d (hop, system, le, records, seconds)
SELECT * FROM unnest(%s::text[], %s::text[], %s::float8[], %s::bigint[], %s::float8[])
ON CONFLICT (hop, system, le) DO UPDATE SET records = d.records + excluded.records, seconds = d.seconds + excluded.seconds
"""
FOUND = "SELECT hop, system, le, records, seconds FROM hub.delay ORDER BY hop, system, le"


class Delays:
    """What one process has counted since it last told the hub."""

    def __init__(self) -> None:
        self._counted: dict[tuple[str, str], tuple[list[int], list[float]]] = {}  # hop, system -> records, seconds of each interval

    def merged(self, counts: Mapping[tuple[int, str, str, str], int]) -> None:
        """A batch is in the hub: its entries by commit (µs), system, entity, outcome, as `lienthong.batch` counts them."""
        now = time.time()
        for (at, system, _, outcome), n in counts.items():
            if outcome == "captured":
                records, seconds = self._of(SOURCE_TO_HUB, system)
                delay = now - at / 1_000_000
                number = bisect_left(BUCKETS, delay)
                records[number] += n
                seconds[number] += n * delay

    def applied(self, system: str, messages: Iterable[Message]) -> None:
        """A batch is committed at a target."""
        now = time.time()
        records, seconds = self._of(HUB_TO_TARGET, system)
        all_records, all_seconds = self._of(SOURCE_TO_TARGET, system)
        for message in messages:
            if message.key == probe.KEY:
                continue
            delay = now - message.timestamp_millis / 1000
            number = bisect_left(BUCKETS, delay)
            records[number] += 1
            seconds[number] += delay
            headers = message.headers
            if len(headers) > COMMITTED_AT and headers[COMMITTED_AT][0] == COMMITTED:
                delay = now - _seconds_of(headers[COMMITTED_AT][1])
                number = bisect_left(BUCKETS, delay)
                all_records[number] += 1
                all_seconds[number] += delay

    def _of(self, hop: str, system: str) -> tuple[list[int], list[float]]:
        counted = self._counted.get((hop, system))
        if counted is None:
            counted = self._counted[hop, system] = ([0] * len(BOUNDS), [0.0] * len(BOUNDS))
        return counted

    def store(self, cursor: Cursor) -> None:
        """Add it up in the hub, in an order that is everybody's. Where the other clock is ahead, a delay counts as 0."""
        counted, self._counted = self._counted, {}
        found = [
            (hop, system, bound, n, max(total, 0.0))
            for (hop, system), columns in sorted(counted.items())
            for bound, n, total in zip(BOUNDS, *columns, strict=True)
            if n
        ]
        if found:
            cursor.execute(_STORE, [list(column) for column in zip(*found, strict=True)])


def summed(found: Iterable[tuple[str, str, float, int, float]]) -> dict[tuple[str, str], tuple[list[int], float]]:
    """Of the rows that `FOUND` asks for, by hop and system: how many records took up to each of `BOUNDS`, and the sum of all their seconds."""
    made: dict[tuple[str, str], tuple[dict[float, int], list[float]]] = {}
    for hop, system, le, records, seconds in found:
        of, sums = made.setdefault((hop, system), ({}, []))
        of[le] = records
        sums.append(seconds)
    return {place: (list(accumulate(of.get(bound, 0) for bound in BOUNDS)), sum(sums)) for place, (of, sums) in made.items()}


@lru_cache(maxsize=4096)
def _seconds_of(committed: bytes) -> float:
    return datetime.fromisoformat(committed.decode()).timestamp()
