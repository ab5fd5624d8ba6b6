"""Traces without a collector: which commits are followed, which ids they get, and that nothing is done while nobody wants them."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from connectors.kafka import Message
from lienthong import tracing
from lienthong.batch import Batch
from lienthong.errors import ConfigError

AT = 1_772_420_400_123_457
COLLECTOR = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}


class Kept:
    """Stands where spans are sent."""

    def __init__(self) -> None:
        self.spans: list[dict[str, Any]] = []

    def send(self, name: str, **given: Any) -> None:
        self.spans.append({"name": name, **given})

    def close(self) -> None:
        """Nothing is open."""


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> Iterator[Kept]:
    monkeypatch.setattr("connectors.otel.Spans", lambda **_: Kept())
    assert tracing.start("test", {**COLLECTOR, "OTEL_TRACES_SAMPLER": "always_on"})
    spans = tracing._State.spans
    assert isinstance(spans, Kept)
    yield spans
    tracing.stop()


@pytest.mark.parametrize(
    "environ", [{}, {"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, {**COLLECTOR, "OTEL_SDK_DISABLED": "true"}], ids=["none", "empty", "disabled"]
)
def test_nothing_is_sent_unless_the_environment_names_a_collector(environ: dict[str, str]) -> None:
    assert not tracing.start("test", environ)
    tracing.captured("ward", AT, 1)
    assert tracing.followed([(1, "dossier", "ward", AT)]) == frozenset()


@pytest.mark.parametrize(
    ("environ", "share"),
    [
        ({}, tracing.SHARE),
        ({"OTEL_TRACES_SAMPLER_ARG": "0.5"}, 0.5),
        ({"OTEL_TRACES_SAMPLER": "parentbased_always_on"}, 1.0),
        ({"OTEL_TRACES_SAMPLER": "always_off", "OTEL_TRACES_SAMPLER_ARG": "1"}, 0.0),
    ],
)
def test_the_share_is_that_of_the_standards_variables(environ: dict[str, str], share: float) -> None:
    assert tracing.share_of(environ) == share


@pytest.mark.parametrize("share", ["2", "-0.1", "half", "nan"])
def test_a_share_that_is_none_is_refused(share: str) -> None:
    with pytest.raises(ConfigError, match="is no share between 0 and 1"):
        tracing.share_of({"OTEL_TRACES_SAMPLER_ARG": share})


def test_about_the_share_is_followed_and_every_process_follows_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("connectors.otel.Spans", lambda **_: Kept())
    instants = range(AT, AT + 20_000, 2)
    followed = []
    for _ in range(2):
        tracing.start("test", {**COLLECTOR, "OTEL_TRACES_SAMPLER_ARG": "0.1"})
        followed.append({at for at in instants if tracing.is_followed(at)})
        tracing.stop()
    assert followed[0] == followed[1]
    assert 850 < len(followed[0]) < 1150


def test_loads_and_records_without_a_commit_are_not_followed(kept: Kept) -> None:
    assert tracing.is_followed(AT)
    assert not tracing.is_followed(tracing.unfollowed(AT))
    assert not tracing.is_followed(0)
    tracing.captured("ward", tracing.unfollowed(AT), 10)
    tracing.captured("ward", AT, 0)  # a reading of nothing but a probe
    assert kept.spans == []


def batch(records: int) -> Batch:
    made = Batch()
    for record in range(records, 0, -1):
        made.items.append(SimpleNamespace(entry=SimpleNamespace(at=AT, system="ward", entity="dossier"), record=record))  # type: ignore[arg-type]
    return made


def test_every_stage_works_out_the_same_trace_and_its_parent(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = (7, "dossier", "portal", AT)
    tracing.captured("ward", AT, 1)
    made = batch(0)
    made.stored.append(SimpleNamespace(at=AT, system="ward", entity="dossier"))  # type: ignore[arg-type]
    made.stored_records.append(7)
    tracing.merged(made, AT + 10)
    carried = tracing.followed([sent])
    tracing.routed(carried, AT + 20)
    message = Message("lienthong.out.portal", 0, 0, 0, b"dossier:7", b"", (tracing.header_of(sent),))
    tracing.applied("portal", [message], AT + 30)
    monkeypatch.setattr(tracing, "rows", lambda *_: [(900, 7)])
    tracing.queued(None, "portal", [message])  # type: ignore[arg-type]
    done = SimpleNamespace(state="confirmed", task=SimpleNamespace(id=900, dossier=7))
    tracing.delivered("portal", [SimpleNamespace(state="pending", task=done.task), done, done])  # type: ignore[list-item]
    assert [span["name"] for span in kept.spans] == ["capture", "merge", "route", "apply", "deliver"]
    assert len({span["trace"] for span in kept.spans}) == 1
    assert len({span["span"] for span in kept.spans}) == 5
    parents = [span["parent"] for span in kept.spans]
    assert parents == [None, *(span["span"] for span in kept.spans[:3]), kept.spans[2]["span"]]
    assert all(begun <= ended for begun, ended in (span["during"] for span in kept.spans))


def test_of_a_bulk_update_the_first_hundred_records_are_followed(kept: Kept) -> None:
    tracing.merged(batch(250), AT)
    assert [span["record"] for span in kept.spans] == list(range(1, tracing.RECORDS_MAX + 1))
    carried = tracing.followed((record, "dossier", "portal", AT) for record in range(250, 0, -1))
    assert {record for record, *_ in carried} == set(range(1, tracing.RECORDS_MAX + 1))


@pytest.mark.parametrize("value", [b"", b"00-zz-11-01", b"00-" + 32 * b"1" + b"-1-01", "ữ".encode()])
def test_a_header_that_is_none_is_passed_over(kept: Kept, value: bytes) -> None:
    tracing.applied("portal", [Message("t", 0, 0, 0, b"dossier:7", b"", (("traceparent", value),))], AT)
    assert kept.spans == []
