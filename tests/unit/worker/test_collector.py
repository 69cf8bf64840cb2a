"""The collector of traces: what it does, or does not, holds up nobody and fills no log."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from opentelemetry.context import Context

from tests.collectors import Collector
from tests.e2e.programs import free_port, wait_until
from worker import tracing
from worker.collector import Line
from worker.settings import Settings
from worker.spans import Tracer

# Nothing is asserted about time; this only ends a test that hangs.
WAIT_S = 60.0


@pytest.fixture(autouse=True)
def _in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")


@contextmanager
def sending(**environ: str) -> Iterator[Callable[[int], None]]:
    """Give what makes spans in a process that sends them."""
    tracing.start(Settings.from_env(environ), "node")
    tracer = tracing._This.tracer
    assert isinstance(tracer, Tracer)

    def make(count: int) -> None:
        for _ in range(count):
            tracer.begin("receive", Context(), datetime.now(UTC)).end()

    try:
        yield make
    finally:
        tracing.stop()


def lines(caplog: pytest.LogCaptureFixture, word: str) -> list[str]:
    return [each.getMessage() for each in caplog.records if word in each.getMessage()]


def test_spans_go_to_the_path_of_otlp_with_the_headers_that_are_set(tmp_path: Path) -> None:
    headers = tmp_path / "headers"
    headers.write_text("Authorization: Bearer hunter2\n")
    with Collector().listening() as collector:
        environ = {"CXR_OTLP_ENDPOINT": collector.url, "CXR_OTLP_HEADERS_FILE": str(headers)}
        with sending(**environ) as make:
            make(3)
        assert len(collector.spans) == 3  # stopping has sent what was left
    assert set(collector.paths) == {"/v1/traces"}
    assert collector.headers[0]["authorization"] == "Bearer hunter2"
    assert {span.service for span in collector.spans} == {"cxr-node"}


def test_what_is_set_for_all_of_opentelemetry_is_heeded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "ward-7")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-scope-orgid=ward")
    with Collector().listening() as collector, sending(CXR_OTLP_ENDPOINT=collector.url) as make:
        make(1)
    assert {span.service for span in collector.spans} == {"ward-7"}
    assert collector.headers[0]["x-scope-orgid"] == "ward"


def test_a_collector_that_is_away_is_told_of_once_and_once_when_it_is_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    collector = Collector(free_port())
    with sending(CXR_OTLP_ENDPOINT=collector.url) as make:
        make(600)
        wait_until(lambda: bool(lines(caplog, "do not arrive")), WAIT_S, "the line")
        make(600)
        with collector.listening():

            def arrives() -> bool:
                make(1)
                return bool(lines(caplog, "arrive at") and lines(caplog, "again"))

            wait_until(arrives, WAIT_S, "the collector's return")
    assert len(lines(caplog, "do not arrive")) == 1
    assert len(lines(caplog, "again")) == 1
    assert {record.name for record in caplog.records} == {"worker.collector"}


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 500 Oh no\r\nContent-Length: 6\r\n\r\nsecret",
        b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 307 There\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 503 Later\r\nRetry-After: 99999\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nshort",
        b"\x00\xff nonsense",
        b"HTTP/1.1 999999 \xff\r\n\r\n",
    ],
)
def test_an_answer_that_is_none_is_told_of_once(
    caplog: pytest.LogCaptureFixture, answer: bytes
) -> None:
    silent = Collector(answer=answer)
    with silent.listening(), sending(CXR_OTLP_ENDPOINT=silent.url) as make:
        for _ in range(3):
            sent = len(silent.bodies)
            make(1)
            wait_until(lambda sent=sent: len(silent.bodies) > sent, WAIT_S, "a try")
    assert len(lines(caplog, "do not arrive")) == 1
    assert len(caplog.records) == 1
    assert "secret" not in caplog.text


def test_a_collector_that_hangs_holds_up_neither_work_nor_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "600")
    monkeypatch.setattr("worker.spans.FLUSH_S", 0.1)
    hangs = threading.Event()
    with Collector(hangs=hangs).listening() as collector:
        with sending(CXR_OTLP_ENDPOINT=collector.url) as make:
            make(1)
            wait_until(lambda: bool(collector.bodies), WAIT_S, "the first request")
            make(5000)
        # What sends the last of them was left behind.
        assert "spans" in {thread.name for thread in threading.enumerate()}


def test_what_waits_for_a_collector_is_bounded(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "600")
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "64")
    # It keeps a line from being heard twice in 20 seconds; another test may have heard it.
    monkeypatch.setattr(logging.getLogger("opentelemetry.sdk._shared_internal"), "filters", [])
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "16")
    hangs = threading.Event()
    collector = Collector(hangs=hangs)
    with collector.listening(), sending(CXR_OTLP_ENDPOINT=collector.url) as make:
        make(1)
        wait_until(lambda: bool(collector.bodies), WAIT_S, "the first request")
        make(1000)
        hangs.set()
        wait_until(lambda: len(collector.spans) >= 65, WAIT_S, "what was kept")
    assert len(collector.spans) == 65
    assert len(lines(caplog, "do not arrive")) == 1


def test_a_collector_that_takes_some_and_not_others_fills_no_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    line = Line("collector:4318")
    for _ in range(100):
        line.broke()
        line.works()
    assert len(caplog.records) == 2
