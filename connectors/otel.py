"""The door to OpenTelemetry: finished spans out over OTLP (HTTP with protobuf), from a thread of its own; what cannot be sent is dropped."""

from __future__ import annotations

import logging
from typing import Literal

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, TraceFlags

logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)  # a collector that is away is no news of the service, and there is one line a second

_KINDS = {"out": SpanKind.PRODUCER, "in": SpanKind.CONSUMER}
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)


class Spans:
    """Where finished spans go. Address, headers and patience are those of the standard's variables (OTEL_EXPORTER_OTLP_…, OTEL_BSP_…)."""

    def __init__(self, *, service: str, role: str, version: str) -> None:
        self._resource = Resource.create({"service.namespace": service, "service.name": f"{service}-{role}", "service.version": version})
        self._scope = InstrumentationScope(service, version)
        self._processor = BatchSpanProcessor(OTLPSpanExporter())

    def send(
        self, name: str, *, trace: int, span: int, parent: int | None, kind: Literal["out", "in"], during: tuple[int, int], **attributes: str | int
    ) -> None:
        """Queue one finished span, from µs to µs; drops it when the queue is full. `kind`: it ended by sending, or began by receiving."""
        self._processor.on_end(
            ReadableSpan(
                name=name,
                context=_context(trace, span, is_remote=False),
                parent=None if parent is None else _context(trace, parent, is_remote=True),
                resource=self._resource,
                attributes={f"lienthong.{key}": value for key, value in attributes.items()},
                kind=_KINDS[kind],
                start_time=during[0] * 1000,
                end_time=during[1] * 1000,
                instrumentation_scope=self._scope,
            )
        )

    def close(self) -> None:
        """Send what is queued, as far as the collector takes it."""
        self._processor.shutdown()  # type: ignore[no-untyped-call]  # it has no annotation


def _context(trace: int, span: int, *, is_remote: bool) -> SpanContext:
    return SpanContext(trace, span, is_remote, _SAMPLED)
