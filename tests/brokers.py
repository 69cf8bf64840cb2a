"""Brokers for tests: Redis with a replica and sentinels, RabbitMQ, and TLS in front of either."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import redis

from tests.e2e.programs import START_S, free_port, listens, wait_until
from worker.embedded import find_server

MASTER = "cxr-master"


class Valkey:
    """A Redis on a TCP port of the loopback interface; it keeps nothing."""

    def __init__(self, folder: Path, *words: str) -> None:
        self.port = free_port()
        self._words = (*words, "--save", "", "--appendonly", "no")
        self._folder = folder / str(self.port)
        self._folder.mkdir(parents=True)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def client(self) -> redis.Redis:
        return redis.Redis(port=self.port, socket_timeout=5)

    def start(self) -> None:
        words = ("--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._folder))
        self._process = subprocess.Popen(
            [str(find_server()), *words, *self._words], stdout=subprocess.DEVNULL
        )
        wait_until(lambda: listens(self.port), START_S, "the start of Redis")

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()


class Sentinels:
    """A master with one replica, and three sentinels that watch them."""

    def __init__(self, folder: Path, password: str = "") -> None:
        self.master = Valkey(folder)
        self.replica = Valkey(folder, "--replicaof", f"127.0.0.1 {self.master.port}")
        self.ports = [free_port() for _ in range(3)]
        self._folder, self._password = folder, password
        self._processes: list[subprocess.Popen[bytes]] = []

    @property
    def url(self) -> str:
        return ";".join(f"sentinel://127.0.0.1:{port}/0" for port in self.ports)

    def start(self) -> None:
        self.master.start()
        self.replica.start()
        for port in self.ports:
            file = self._folder / f"sentinel-{port}.conf"
            file.write_text(self._text(port))
            self._processes.append(
                subprocess.Popen(
                    [str(find_server()), str(file), "--sentinel"], stdout=subprocess.DEVNULL
                )
            )
        wait_until(self._all_know_all, START_S, "the sentinels' finding of all others")

    def _text(self, port: int) -> str:
        return (
            f"port {port}\nbind 127.0.0.1\ndir {self._folder}\n"
            f"sentinel monitor {MASTER} 127.0.0.1 {self.master.port} 2\n"
            f"sentinel down-after-milliseconds {MASTER} 2000\n"
            f"sentinel failover-timeout {MASTER} 10000\n"
            + (
                f"requirepass {self._password}\nsentinel sentinel-pass {self._password}\n"
                if self._password
                else ""
            )
        )

    def _told(self, port: int) -> dict[str, object]:
        client = redis.Redis(port=port, socket_timeout=5, password=self._password or None)
        with suppress(redis.RedisError):
            return dict(client.sentinel_master(MASTER))  # type: ignore[no-untyped-call]
        return {}

    def _all_know_all(self) -> bool:
        told = [self._told(port) for port in self.ports]
        return all(
            each.get("num-slaves") == 1 and each.get("num-other-sentinels") == 2 for each in told
        )

    def have_moved(self) -> bool:
        """Tell whether the replica has taken the master's place."""
        return all(self._told(port).get("port") == self.replica.port for port in self.ports)

    def kill(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()
        self.master.kill()
        self.replica.kill()


# Read now: the tests themselves run without our settings.
REQUIRED = bool(os.environ.get("CXR_REQUIRE_RABBITMQ"))
# What is on Debian's PATH runs as one user only, and without our environment: this is what it runs.
RABBITMQ = ("/usr/lib/rabbitmq/bin/rabbitmq-server", "rabbitmq-server")


def find_rabbitmq() -> str:
    """Find the program; skip a test without it, or fail it where that is asked for."""
    found = next((path for each in RABBITMQ if (path := shutil.which(each))), None)
    if found is None and REQUIRED:
        pytest.fail("RabbitMQ is not installed")
    if found is None:
        pytest.skip("RabbitMQ is not installed")
    return found


class RabbitMq:
    """A RabbitMQ of the test's own, on ports of the loopback interface."""

    def __init__(self) -> None:
        self._program = find_rabbitmq()
        self._folder = Path(tempfile.mkdtemp(prefix="cxr-rabbit-"))
        self.port, self._distribution, self._mapper_port = free_port(), free_port(), free_port()
        self._process: subprocess.Popen[bytes] | None = None
        # Erlang's, by which its nodes find each other; one that it started itself would stay.
        self._mapper = subprocess.Popen(
            ["epmd", "-port", str(self._mapper_port), "-address", "127.0.0.1"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}//"

    def _environment(self) -> dict[str, str]:
        configuration = self._folder / "rabbitmq.conf"
        configuration.write_text(
            f"listeners.tcp.1 = 127.0.0.1:{self.port}\nvm_memory_high_watermark.absolute = 1GB\n"
            "disk_free_limit.absolute = 1MB\n"
        )
        return os.environ | {
            "HOME": str(self._folder),
            "RABBITMQ_NODENAME": f"cxr{self.port}@localhost",
            "RABBITMQ_MNESIA_BASE": str(self._folder / "data"),
            "RABBITMQ_LOG_BASE": str(self._folder / "log"),
            "RABBITMQ_CONFIG_FILE": str(configuration),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self._folder / "plugins"),
            "RABBITMQ_DIST_PORT": str(self._distribution),
            "ERL_EPMD_PORT": str(self._mapper_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
        }

    def start(self) -> None:
        self._process = subprocess.Popen(
            [self._program], env=self._environment(), stdin=subprocess.DEVNULL,
            stdout=(self._folder / "out").open("ab"), stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
        wait_until(lambda: listens(self.port), START_S, "the start of RabbitMQ")

    def kill(self) -> None:
        """Kill it with all that it started, as when its machine goes."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, 9)
            self._process.wait()
            wait_until(lambda: not listens(self.port), START_S, "the end of RabbitMQ")

    def remove(self) -> None:
        self.kill()
        self._mapper.kill()
        self._mapper.wait()
        shutil.rmtree(self._folder, ignore_errors=True)


@contextmanager
def forwarding(targets: Callable[[], int], context: ssl.SSLContext | None = None) -> Iterator[int]:
    """Forward connections, each to the port that `targets` gives; with a context, from TLS.

    Gives the port that it listens on.
    """
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=_accept, args=(server, targets, context), daemon=True).start()
        try:
            yield server.getsockname()[1]
        finally:
            with suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)


def _accept(
    server: socket.socket, targets: Callable[[], int], context: ssl.SSLContext | None
) -> None:
    with suppress(OSError):
        while True:
            client, _ = server.accept()
            threading.Thread(target=_join, args=(client, targets(), context), daemon=True).start()


def _join(client: socket.socket, port: int, context: ssl.SSLContext | None) -> None:
    with suppress(OSError):
        client.settimeout(30)
        near = context.wrap_socket(client, server_side=True) if context else client
        near.settimeout(None)
        far = socket.create_connection(("127.0.0.1", port))
        threading.Thread(target=_copy, args=(far, near), daemon=True).start()
        _copy(near, far)


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    for each in (target, source):
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
