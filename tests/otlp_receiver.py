"""An OTLP receiver: takes spans as any collector does (OTLP over HTTP, protobuf of the standard) and appends each to a file, one JSON a line.

Run as a process: python -m tests.otlp_receiver PORT FILE
"""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse
from opentelemetry.proto.common.v1.common_pb2 import KeyValue

from lienthong.embedded.ports import free_port

ROOT = Path(__file__).resolve().parents[1]


@contextmanager
def receiving(file: Path) -> Iterator[dict[str, str]]:
    """A receiver as a process of its own; the environment in which every commit is followed and sent to it."""
    port = free_port()
    receiver = subprocess.Popen([sys.executable, "-m", "tests.otlp_receiver", str(port), str(file)], cwd=ROOT)
    address = f"http://127.0.0.1:{port}"
    try:
        yield {"OTEL_EXPORTER_OTLP_ENDPOINT": address, "OTEL_TRACES_SAMPLER": "always_on", "OTEL_BSP_SCHEDULE_DELAY": "200"}
    finally:
        receiver.kill()
        receiver.wait()


def received(file: Path) -> list[dict[str, Any]]:
    """Every span that a receiver has written so far."""
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()] if file.exists() else []


def spans_of(body: bytes) -> Iterator[dict[str, Any]]:
    """The spans of one request."""
    for of_resource in ExportTraceServiceRequest.FromString(body).resource_spans:
        resource = _attributes(of_resource.resource.attributes)
        for of_scope in of_resource.scope_spans:
            for span in of_scope.spans:
                yield {
                    "service": resource["service.name"],
                    "resource": resource,
                    "name": span.name,
                    "trace": span.trace_id.hex(),
                    "span": span.span_id.hex(),
                    "parent": span.parent_span_id.hex(),
                    "begun": span.start_time_unix_nano,
                    "ended": span.end_time_unix_nano,
                    "attributes": _attributes(span.attributes),
                }


def _attributes(given: Any) -> dict[str, Any]:
    def value(one: KeyValue) -> Any:
        return getattr(one.value, one.value.WhichOneof("value") or "string_value")

    return {one.key: value(one) for one in given}


class Receiver(BaseHTTPRequestHandler):
    """POST /v1/traces."""

    file: Path

    def do_POST(self) -> None:  # noqa: N802 - the name that http.server asks for
        """Take one request."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        with self.file.open("a", encoding="utf-8") as file:
            for span in spans_of(body):
                file.write(json.dumps(span) + "\n")
        answer = ExportTraceServiceResponse().SerializeToString()
        self.send_response(200 if self.path == "/v1/traces" else 404)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def main() -> None:
    """Serve until killed."""
    Receiver.file = Path(sys.argv[2])
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Receiver).serve_forever()


if __name__ == "__main__":
    main()
