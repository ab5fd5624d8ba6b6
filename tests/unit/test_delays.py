"""Delays are counted into their intervals, and shown as Prometheus' histograms are: cumulative."""

from __future__ import annotations

import time

import pytest

from connectors.kafka import Message
from lienthong import delays, probe
from lienthong.readers import from_micros
from lienthong.route import _headers


def message(sent: float, committed: float | None, key: bytes = b"dossier:1") -> Message:
    """One of an out-topic, with the headers that the router gives it."""
    headers = _headers("dossier", 1, 0 if committed is None else int(committed * 1_000_000))
    return Message("lienthong.out.ward", 0, 0, int(sent * 1000), key, b"", (*headers, ("lt_digest", b"")))


def counted(made: delays.Delays) -> dict[tuple[str, str, float], int]:
    return {
        (hop, system, bound): n for (hop, system), (records, _) in made._counted.items() for bound, n in zip(delays.BOUNDS, records, strict=True) if n
    }


def test_entries_count_by_their_commit_and_only_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 1000.0)
    made = delays.Delays()
    made.merged({(999_960_000, "ward", "dossier", "captured"): 3, (999_960_000, "ward", "dossier", "merged"): 3, (1, "a", "fee", "captured"): 1})
    assert counted(made) == {("source_to_hub", "ward", 0.05): 3, ("source_to_hub", "a", 3600.0): 1}


def test_messages_count_from_the_router_and_from_the_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 200_000.0)
    made = delays.Delays()
    made.applied("ward", [message(199_999.7, 199_990.0), message(199_999.7, None), message(200_001.0, 1.0), message(1.0, None, probe.KEY)])
    assert counted(made) == {
        ("hub_to_target", "ward", 0.5): 2, ("hub_to_target", "ward", 0.05): 1,
        ("source_to_target", "ward", 10.0): 1, ("source_to_target", "ward", float("inf")): 1,
    }  # fmt: skip


def test_the_header_stands_where_it_is_looked_for() -> None:
    at = 1_795_479_786_707_123
    assert _headers("dossier", 1, at)[delays.COMMITTED_AT] == (delays.COMMITTED, from_micros(at).isoformat().encode())


def test_histograms_are_cumulative() -> None:
    found = [("source_to_hub", "ward", 0.1, 2, 0.2), ("source_to_hub", "ward", 60.0, 1, 40.0), ("source_to_hub", "ward", float("inf"), 1, 90_000.0)]
    ((place, (records, seconds)),) = delays.summed(found).items()
    assert place == ("source_to_hub", "ward")
    assert records == [0, *[2] * 8, *[3] * 6, 4]
    assert seconds == pytest.approx(90_040.2)
