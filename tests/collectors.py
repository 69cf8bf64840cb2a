"""An OTLP/HTTP collector on loopback, for tests of traces."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass(frozen=True)
class Seen:
    """A span as it arrived; ids in hexadecimal, the parent's empty for the first of a trace."""

    trace_id: str
    span_id: str
    parent_id: str
    name: str
    service: str
    instance: str
    attributes: dict[str, Any]
    start_ns: int
    end_ns: int
    is_error: bool
    words: str


@dataclass
class Collector:
    """Keeps what it is sent.

    Attributes
    ----------
    answer : bytes
        What it says, the status line included, instead of what a collector says.
    hangs : threading.Event or None
        It answers nothing before this is set.
    """

    port: int = 0
    spans: list[Seen] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    answer: bytes = b""
    hangs: threading.Event | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @contextmanager
    def listening(self) -> Iterator[Collector]:
        server = ThreadingHTTPServer(("127.0.0.1", self.port), self._handler())
        server.daemon_threads = True
        self.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            if self.hangs is not None:
                self.hangs.set()
            server.shutdown()
            server.server_close()

    def named(self, name: str, trace_id: str = "") -> list[Seen]:
        """Give the spans of a name, of one trace if that is said."""
        return [
            span
            for span in list(self.spans)
            if span.name == name and trace_id in ("", span.trace_id)
        ]

    def of_trace(self, trace_id: str) -> list[Seen]:
        return [span for span in list(self.spans) if span.trace_id == trace_id]

    def _take(self, path: str, headers: dict[str, str], body: bytes) -> None:
        self.paths.append(path)
        self.headers.append({name.lower(): value for name, value in headers.items()})
        self.bodies.append(body)
        self.spans += _seen(body)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        collector = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                collector._take(self.path, dict(self.headers), body)
                if collector.hangs is not None:
                    collector.hangs.wait()
                if collector.answer:
                    self.wfile.write(collector.answer)
                    self.close_connection = True
                    return
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Stay silent."""

        return Handler


def _seen(body: bytes) -> Iterator[Seen]:
    for of_process in ExportTraceServiceRequest.FromString(body).resource_spans:
        resource = {each.key: _value(each.value) for each in of_process.resource.attributes}
        for scope in of_process.scope_spans:
            for span in scope.spans:
                yield Seen(
                    span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex(), span.name,
                    resource["service.name"], resource["service.instance.id"],
                    {each.key: _value(each.value) for each in span.attributes},
                    span.start_time_unix_nano, span.end_time_unix_nano,
                    span.status.code == 2, span.status.message,
                )  # fmt: skip


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(each) for each in value.array_value.values]
    return getattr(value, kind)
