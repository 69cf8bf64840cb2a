"""Connections that ask for nothing are closed; those that do are answered, if it takes long too."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator

import httpx
import pytest
import uvicorn

from tests.e2e.programs import free_port
from worker.web.patience import ImpatientProtocol


class Quick(ImpatientProtocol):
    patience_s = 0.3


async def slow_app(scope, receive, send):
    assert (await receive())["type"] == "http.request"
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
