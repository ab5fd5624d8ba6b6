"""Traces: one change followed from its commit at the source to the systems it reaches, by OpenTelemetry (docs/decisions/0013).

Nothing is carried from stage to stage as far as the out-topics: the instant of the commit travels with every record anyway, so each stage works
out the same ids from it. Messages of out-topics carry the W3C `traceparent`, for whoever reads them. Off, this costs one look at a variable.
"""

from __future__ import annotations

import re
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from connectors.postgres import Cursor, rows
from lienthong import __version__
from lienthong.errors import ConfigError

if TYPE_CHECKING:
    from connectors.kafka import Message
    from connectors.otel import Spans
    from lienthong.batch import Batch
    from lienthong.national.ledger import Outcome

SHARE = 0.01
"""Of all readings, the share that is followed, where OTEL_TRACES_SAMPLER_ARG names no other."""
RECORDS_MAX = 100
"""Records of one commit that are followed by each stage at a time: a bulk update shows by its first hundred."""
_UNFOLLOWED = 1000
QUEUED_MAX = 10_000
"""Deliveries under way of which the trace is remembered."""

HEADER = "traceparent"
_HEADER = re.compile(rb"00-([0-9a-f]{32})-([0-9a-f]{16})-01")
_ADDRESSES = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")

Sent = tuple[int, str, str, int]
"""Record, entity, system and commit (µs) of a message that the router sends."""

_QUEUED = "SELECT id, record FROM hub.delivery WHERE system = %s AND record = ANY(%s) AND queued_at >= now() AND state = 'pending'"


class _State:
    spans: Spans | None = None
    bound = 0
    queued: dict[int, tuple[int, int, int]] = {}  # noqa: RUF012 - of this process: message in the ledger -> trace, parent span, since


# ------------------------------------------------------------------ on and off
def start(role: str, environ: Mapping[str, str]) -> bool:
    """Begin to send spans when the environment names a collector; returns whether it does."""
    if not any(environ.get(name) for name in _ADDRESSES) or environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    try:
        from connectors.otel import Spans
    except ImportError:
        raise ConfigError("OTEL_EXPORTER_OTLP_ENDPOINT is set, but OpenTelemetry is not installed: pip install 'lienthong[otel]'") from None
    _State.bound = round(share_of(environ) * 2**64)
    is_followed.cache_clear()
    _State.spans = Spans(service="lienthong", role=role, version=__version__)
    return True


def share_of(environ: Mapping[str, str]) -> float:
    """The share of readings to follow, by the standard's variables; raises `ConfigError` for a share that is none."""
    sampler = environ.get("OTEL_TRACES_SAMPLER", "traceidratio").removeprefix("parentbased_")
    if sampler in ("always_on", "always_off"):
        return float(sampler == "always_on")
    text = environ.get("OTEL_TRACES_SAMPLER_ARG", str(SHARE))
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise ConfigError(f"OTEL_TRACES_SAMPLER_ARG: {text} is no share between 0 and 1")
    return share


def stop() -> None:
    """Send what is left."""
    spans, _State.spans = _State.spans, None
    if spans is not None:
        spans.close()


# ------------------------------------------------------------------ ids
@lru_cache(maxsize=4096)
def trace_of(at: int) -> int:
    """The trace of a commit at `at` µs."""
    return int.from_bytes(blake2b(b"%d" % at, digest_size=16).digest())


def span_of(at: int, *place: int | str) -> int:
    """The span of one stage in it: of the reading itself, of a record at the merge, of a record on its way to a system."""
    return int.from_bytes(blake2b(repr((at, *place)).encode(), digest_size=8).digest())


@lru_cache(maxsize=4096)
def is_followed(at: int) -> bool:
    """Whether a commit is among the share; every process decides the same."""
    return at % _UNFOLLOWED != 0 and trace_of(at) % 2**64 < _State.bound


def unfollowed(at: int) -> int:
    """The instant of a load or a look-up, as near to `at` as one is that no process follows: nobody has committed a change then."""
    return at - at % _UNFOLLOWED


def now() -> int:
    """The time in µs, as spans have it."""
    return time.time_ns() // 1000


def _since(begun: int) -> tuple[int, int]:
    """From then to now; a source's clock may be ahead of ours."""
    ended = now()
    return min(begun, ended), ended


# ------------------------------------------------------------------ the stages
def captured(system: str, at: int, records: int) -> None:
    """A reading is in `lienthong.in`: the span begins with its newest commit, by the source's clock."""
    if (spans := _State.spans) is None or not records or not is_followed(at):
        return
    spans.send("capture", trace=trace_of(at), span=span_of(at), parent=None, kind="out", during=_since(at), system=system, records=records)


def merged(batch: Batch, begun: int) -> None:
    """A batch is in the hub."""
    if (spans := _State.spans) is None:
        return
    during = _since(begun)
    arrived: dict[int, list[tuple[int, str, str]]] = defaultdict(list)
    for entry, record in [*((item.entry, item.record) for item in batch.items), *zip(batch.stored, batch.stored_records, strict=True)]:
        if is_followed(entry.at):
            arrived[entry.at].append((record, entry.system, entry.entity))
    for at, records in arrived.items():
        ids: dict[str, Any] = {"trace": trace_of(at), "parent": span_of(at)}
        for record, system, entity in sorted(records)[:RECORDS_MAX]:
            spans.send("merge", **ids, span=span_of(at, record), kind="in", during=during, system=system, entity=entity, record=record)


def followed(sends: Iterable[Sent]) -> frozenset[Sent]:
    """Those of the router's messages that carry their trace."""
    if _State.spans is None:
        return frozenset()
    leaving: dict[int, list[Sent]] = defaultdict(list)
    for one in sends:
        if is_followed(one[3]):
            leaving[one[3]].append(one)
    return frozenset(one for every in leaving.values() for one in sorted(every)[:RECORDS_MAX])


def header_of(one: Sent) -> tuple[str, bytes]:
    """The W3C header of a message."""
    record, _, system, at = one
    return HEADER, b"00-%032x-%016x-01" % (trace_of(at), span_of(at, record, system))


def routed(sent: Iterable[Sent], begun: int) -> None:
    """What the router sent is acknowledged."""
    if (spans := _State.spans) is None:
        return
    during = _since(begun)
    for record, entity, system, at in sent:
        ids: dict[str, Any] = {"trace": trace_of(at), "span": span_of(at, record, system), "parent": span_of(at, record)}
        spans.send("route", **ids, kind="out", during=during, system=system, entity=entity, record=record)


def applied(system: str, messages: Sequence[Message], begun: int) -> None:
    """A batch is committed in a target."""
    if (spans := _State.spans) is None:
        return
    during = _since(begun)
    for trace, parent, entity, record in _carried(messages):
        ids: dict[str, Any] = {"trace": trace, "span": span_of(begun, parent), "parent": parent}
        spans.send("apply", **ids, kind="in", during=during, system=system, entity=entity, record=record)


def queued(cursor: Cursor, system: str, messages: Sequence[Message]) -> None:
    """What a batch puts into the ledger of the national portal, before its commit: remembered until the portal has answered."""
    if _State.spans is None:
        return
    carried = {record: (trace, parent) for trace, parent, _, record in _carried(messages)}
    if not carried or len(_State.queued) > QUEUED_MAX:
        return
    at = now()
    for number, record in rows(cursor, _QUEUED, [system, list(carried)]):
        _State.queued[number] = (*carried[record], at)


def delivered(system: str, outcomes: Iterable[Outcome]) -> None:
    """What became of messages to the national portal."""
    if (spans := _State.spans) is None:
        return
    for outcome in outcomes:
        task = outcome.task
        if outcome.state in ("confirmed", "refused") and (held := _State.queued.pop(task.id, None)) is not None:
            trace, parent, begun = held
            ids: dict[str, Any] = {"trace": trace, "span": span_of(task.id, parent), "parent": parent}
            spans.send("deliver", **ids, kind="in", during=_since(begun), system=system, record=task.dossier, outcome=outcome.state)


def _carried(messages: Iterable[Message]) -> Iterator[tuple[int, int, str, int]]:
    """Trace, span, entity and record of the messages that carry a trace."""
    for message in messages:
        carried = next((_HEADER.fullmatch(value) for name, value in message.headers if name == HEADER), None)
        entity, _, record = (message.key or b"").decode("ascii", "replace").partition(":")
        if carried is not None and record.isdigit():
            yield int(carried[1], 16), int(carried[2], 16), entity, int(record)
