"""Connections that ask for nothing are closed; those that do are answered, if it takes long too."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from types import SimpleNamespace

import httpx
import pytest
import uvicorn
from uvicorn.server import ServerState

from tests.e2e.programs import free_port
from worker.web.patience import ImpatientProtocol


class Quick(ImpatientProtocol):
    patience_s = 0.3


# More than the system's own buffers hold.
LARGE = 16 << 20


async def slow_app(scope, receive, send):
    assert (await receive())["type"] == "http.request"
    if scope["path"] in ("/large", "/pieces"):
        size = LARGE if scope["path"] == "/large" else 1 << 16
        length = (b"content-length", b"%d" % LARGE)
        await send({"type": "http.response.start", "status": 200, "headers": [length]})
        for left in range(LARGE - size, -1, -size):
            await send({"type": "http.response.body", "body": bytes(size), "more_body": left > 0})
        return
    await asyncio.sleep(1.0 if scope["path"] == "/slow" else 0)
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]}
    )
    await send({"type": "http.response.body", "body": b"ok"})


@pytest.fixture
def port() -> Iterator[int]:
    port = free_port()
    config = uvicorn.Config(
        slow_app, "127.0.0.1", port, http=Quick, log_config=None, lifespan="off",
        limit_concurrency=20,
    )  # fmt: skip
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield port
    server.should_exit = True
    thread.join()


@pytest.mark.parametrize(
    "begun",
    [
        b"",
        b"GET / HTTP/1.1\r\nHost: x\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf",
    ],
)
def test_who_does_not_ask_keeps_nobody_out(port: int, begun: bytes) -> None:
    silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(20)]
    for each in silent:
        each.sendall(begun)
        each.settimeout(30)
    for each in silent:
        while each.recv(1000):  # that there are too many, perhaps; then the end
            pass
    assert httpx.get(f"http://127.0.0.1:{port}/").status_code == 200
    for each in silent:
        each.close()


def test_an_answer_may_take_longer_than_a_question(port: int) -> None:
    assert httpx.get(f"http://127.0.0.1:{port}/slow").text == "ok"


def test_a_connection_is_used_again(port: int) -> None:
    with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
        for _ in range(5):
            assert client.get("/").status_code == 200
            time.sleep(0.1)


@pytest.mark.parametrize("path", ["/large", "/pieces"], ids=["written at once", "written in part"])
def test_who_does_not_read_keeps_nobody_out(port: int, path: str) -> None:
    with ExitStack() as deaf:
        for _ in range(19):  # and who comes then is one too many
            each = deaf.enter_context(socket.socket())
            each.settimeout(30)
            each.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            each.connect(("127.0.0.1", port))
            each.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode() * 3)
            assert each.recv(12, socket.MSG_PEEK) == b"HTTP/1.1 200"
        deadline = time.monotonic() + 30
        while httpx.get(f"http://127.0.0.1:{port}/").status_code != 200:
            assert time.monotonic() < deadline, "those who do not read are never hung up on"
            time.sleep(0.1)


class Waiting(asyncio.Transport):
    """A connection whose other end reads so much between looks."""

    def __init__(self) -> None:
        super().__init__()
        self.left = 1 << 20
        self.is_aborted = False
        self.closed = 0

    def get_write_buffer_size(self) -> int:
        return self.left

    def is_closing(self) -> bool:
        return self.closed > 0

    def close(self) -> None:
        self.closed += 1

    def abort(self) -> None:
        self.is_aborted = True


def answering(*, is_complete: bool) -> tuple[ImpatientProtocol, Waiting]:
    """Connect somebody who was answered, in part or to the end, and has not read it yet."""
    protocol = ImpatientProtocol(uvicorn.Config(slow_app), ServerState(), {})
    transport = Waiting()
    protocol.connection_made(transport)
    protocol.cycle = SimpleNamespace(more_body=False, response_complete=is_complete)
    return protocol, transport


def looks(protocol: ImpatientProtocol, transport: Waiting, *lefts: int) -> bool:
    for left in lefts:
        transport.left = left
        protocol._look()
    return transport.is_aborted


def test_who_reads_slowly_is_not_hung_up_on() -> None:
    async def run() -> None:
        protocol, transport = answering(is_complete=False)
        protocol.pause_writing()
        assert not looks(protocol, transport, *range(100_000, 0, -10_000))
        for _ in range(10):  # as much as before, but of what was written anew
            protocol.resume_writing()
            protocol.pause_writing()
            assert not looks(protocol, transport, 100_000)
        assert not looks(protocol, transport, 100_000, 100_000, 100_000)
        assert not looks(protocol, transport, 99_999)
        assert looks(protocol, transport, *[99_999] * 4)
        assert protocol._timer is not None
        protocol._timer.cancel()

    asyncio.run(run())


def test_what_is_closed_is_not_closed_again_but_aborted_when_it_is_not_read() -> None:
    """Over TLS, the transport of the standard library forgets the rest when it is closed twice."""

    async def run() -> None:
        protocol, transport = answering(is_complete=True)
        assert looks(protocol, transport, *[100_000] * 8)
        assert transport.closed == 1
        assert protocol._timer is not None
        protocol._timer.cancel()

    asyncio.run(run())
