"""The HTTP port: its pages and nothing else, and no way to hold it up."""

from __future__ import annotations

import http.client
import logging
import socket
from collections.abc import Iterator

import pytest

from dicom_node.errors import ConfigurationError
from worker.endpoint import Endpoint, Page


def broken() -> Page:
    raise ValueError("PLANTED-ID-4711")


PAGES = {
    "/metrics": lambda: Page(b"a 1\n", "text/plain"),
    "/readyz": lambda: Page(b"{}", "application/json", 503),
    "/broken": broken,
}


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    made = Endpoint("127.0.0.1", 0, PAGES)
    yield made
    made.stop()


def asked(endpoint: Endpoint, path: str, method: str = "GET") -> tuple[int, str, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", endpoint.port, timeout=10)
    connection.request(method, path)
    answer = connection.getresponse()
    return answer.status, answer.headers.get("Content-Type", ""), answer.read()


def test_a_page_is_answered_with_its_type_and_status(endpoint: Endpoint) -> None:
    assert asked(endpoint, "/metrics") == (200, "text/plain", b"a 1\n")
    assert asked(endpoint, "/metrics?a=b") == (200, "text/plain", b"a 1\n")
    assert asked(endpoint, "/readyz") == (503, "application/json", b"{}")


def test_who_asks_for_the_head_gets_no_body(endpoint: Endpoint) -> None:
    assert asked(endpoint, "/metrics", "HEAD") == (200, "text/plain", b"")


@pytest.mark.parametrize(("path", "method", "status"), [
    ("/", "GET", 404), ("/etc/passwd", "GET", 404), ("/metrics", "POST", 501),
])  # fmt: skip
def test_nothing_else_is_answered(endpoint: Endpoint, path: str, method: str, status: int) -> None:
    assert asked(endpoint, path, method)[0] == status


def test_a_page_that_fails_says_what_failed_and_no_more(
    endpoint: Endpoint, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR, "worker.endpoint"):
        status, _, body = asked(endpoint, "/broken")
    assert status == 500
    assert b"ValueError" in body
    assert b"PLANTED" not in body
    assert "/broken could not be answered" in caplog.text


def test_who_connects_and_says_nothing_holds_up_nobody(endpoint: Endpoint) -> None:
    with socket.create_connection(("127.0.0.1", endpoint.port)):
        assert asked(endpoint, "/metrics")[0] == 200


def test_a_port_that_is_taken_names_its_setting(endpoint: Endpoint) -> None:
    with pytest.raises(ConfigurationError, match="CXR_METRICS_PORT"):
        Endpoint("127.0.0.1", endpoint.port, PAGES)
