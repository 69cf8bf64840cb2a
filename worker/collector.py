"""The way to the collector of traces: who is away is told once, and holds up nothing."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import requests
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from worker.settings import Settings

log = logging.getLogger(__name__)

# A collector that is too slow takes some and not others: that is told so often at most.
TOLD_EVERY_S = 60.0


class Quiet(logging.Handler):
    """Hears what OpenTelemetry would log at every try, and passes on that something is wrong."""

    def __init__(self, line: Line) -> None:
        super().__init__(logging.WARNING)
        self._line = line

    def emit(self, record: logging.LogRecord) -> None:
        """Tell once; not its words, which may be the collector's."""
        if record.levelno >= self.level:
            self._line.broke()


class Line:
    """Tells, once each time, that traces do not arrive and that they do again."""

    def __init__(self, where: str) -> None:
        self._where, self._is_broken = where, False
        self._silent_until = 0.0

    def broke(self) -> None:
        """Hear that something did not arrive."""
        if not self._is_broken and time.monotonic() >= self._silent_until:
            self._is_broken = True
            log.warning(
                "traces do not arrive at %s, and are dropped until they do; start the collector, "
                "or correct CXR_OTLP_ENDPOINT and CXR_OTLP_HEADERS_FILE; nothing else waits for it",
                self._where,
            )

    def works(self) -> None:
        """Hear that something arrived."""
        if self._is_broken:
            self._is_broken = False
            self._silent_until = time.monotonic() + TOLD_EVERY_S
            log.info("traces arrive at %s again", self._where)


class Telling(SpanExporter):
    """Sends by another exporter, and tells when that begins to fail and when it works again."""

    def __init__(self, inner: SpanExporter, line: Line) -> None:
        self._inner, self._line = inner, line

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send spans; whatever goes wrong is a failure, and no more."""
        try:
            result = self._inner.export(spans)
        except Exception:  # noqa: BLE001  the thread that sends outlives whatever is answered
            result = SpanExportResult.FAILURE
        if result is SpanExportResult.SUCCESS:
            self._line.works()
        else:
            self._line.broke()
        return result

    def shutdown(self) -> None:
        """Give up what is tried just now."""
        self._inner.shutdown()


def exporter_of(settings: Settings) -> Telling:
    """Make what sends spans as the settings say, and have OpenTelemetry log nothing by itself."""
    line = Line(address_of(settings))
    _have_heard_by(Quiet(line))
    return Telling(_exporter(settings), line)


def takes_traces(settings: Settings) -> bool:
    """Send nothing to the collector, as one sends spans; tell whether it took that."""
    _have_heard_by(logging.NullHandler())
    exporter = _exporter(settings)
    try:
        return exporter.export(()) is SpanExportResult.SUCCESS
    finally:
        exporter.shutdown()


def address_of(settings: Settings) -> str:
    """Name the collector for people."""
    return urlsplit(settings.otlp_traces_url).netloc


def _exporter(settings: Settings) -> OTLPSpanExporter:
    session = requests.Session()
    session.hooks["response"].append(_refuse_detour)
    return OTLPSpanExporter(
        endpoint=settings.otlp_traces_url,
        headers=settings.otlp_headers() or None,
        session=session,
    )


def _refuse_detour(answer: requests.Response, *_: Any, **__: Any) -> None:
    """Take a redirection for the failure that it is: by it spans arrive nowhere."""
    if 300 <= answer.status_code < 400:
        raise requests.exceptions.InvalidURL("the collector is elsewhere")


def _have_heard_by(handler: logging.Handler) -> None:
    theirs = logging.getLogger("opentelemetry")
    theirs.handlers[:] = [handler]
    theirs.propagate = False
