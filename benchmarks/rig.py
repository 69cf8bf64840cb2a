"""What benchmarks of the whole run against: `cxr-worker up` in a folder of its own, and a PACS."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from dicom_node.errors import PacsWorkerError
from dicom_node.peer import Peer

NODE = "CXRWORKER"
_START_S = 180.0
_STOP_S = 60.0


def free_port() -> int:
    """Find a free port of the loopback interface."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def environment(home: Path, port: int, settings: Mapping[str, str]) -> dict[str, str]:
    """Give the environment of a role that has nothing of this shell's settings."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("CXR_")}
    ours = {
        "CXR_HOME": str(home), "CXR_ARCHIVE": str(home / "archive"), "CXR_ARCHIVE_RESERVE_MB": "0",
        "CXR_WEB_PORT": "off",
        "CXR_BIND": "127.0.0.1", "CXR_PORT": str(port), "CXR_AE_TITLE": NODE,
        # The chest that is sent is an adult's: it is to be assessed all the same.
        "CXR_POPULATION": "ignore",
    }  # fmt: skip
    return clean | ours | settings


@contextmanager
def program(
    words: Sequence[str | Path], env: Mapping[str, str], log: Path
) -> Iterator[subprocess.Popen[str]]:
    """Run a program until the block ends, and stop it as Ctrl-C does; its errors go to a file."""
    with log.open("ab") as errors:
        running = subprocess.Popen(  # noqa: S603  our own programs, and peers
            [*map(str, words)], env=env, stdout=subprocess.PIPE, stderr=errors, text=True
        )
    try:
        yield running
    finally:
        running.send_signal(signal.SIGINT)
        try:
            running.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()


@contextmanager
def process(
    words: Sequence[str], env: Mapping[str, str], ready: str, log: Path
) -> Iterator[subprocess.Popen[str]]:
    """Run a Python program; begin when it prints a line with `ready`.

    Raises
    ------
    PacsWorkerError
        When it ends, or is not ready, in time.
    """
    with program([sys.executable, *words], env, log) as running:
        timer = threading.Timer(_START_S, running.kill)
        timer.start()
        assert running.stdout is not None  # it is a pipe
        is_ready = any(ready in line for line in running.stdout)
        timer.cancel()
        if not is_ready:
            raise PacsWorkerError(f"{' '.join(words)} did not start:\n{log.read_text()[-2000:]}")
        yield running


def wait_for_port(port: int, log: Path) -> None:
    """Wait until somebody listens on a port of the loopback interface.

    Raises
    ------
    PacsWorkerError
        When nobody does in time.
    """
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.01)
    raise PacsWorkerError(f"nobody listens on port {port}:\n{log.read_text()[-2000:]}")


@contextmanager
def node(settings: Mapping[str, str] | None = None) -> Iterator[tuple[Peer, int]]:
    """Run the node alone, with its broker and database; give where it listens, and its process."""
    with tempfile.TemporaryDirectory(prefix="cxr-bench-node-") as name:
        home, log, port = Path(name), Path(name) / "log", free_port()
        env = environment(home, port, settings or {})
        role = [sys.executable, "-m", "worker"]
        upgrade = [*role, "db", "upgrade"]
        subprocess.run(upgrade, env=env, check=True, capture_output=True)  # noqa: S603
        with program([*role, "redis"], env, log), program([*role, "node"], env, log) as running:
            wait_for_port(port, log)
            yield Peer(NODE, "127.0.0.1", port), running.pid


@contextmanager
def up(settings: Mapping[str, str] | None = None) -> Iterator[tuple[Peer, dict[str, str]]]:
    """Run `cxr-worker up`; give where it listens, and its environment."""
    with tempfile.TemporaryDirectory(prefix="cxr-bench-") as name:
        port = free_port()
        env = environment(Path(name), port, settings or {})
        with process(["-m", "worker", "up"], env, "is ready", Path(name) / "up.log"):
            yield Peer(NODE, "127.0.0.1", port), env


@contextmanager
def pacs() -> Iterator[tuple[Peer, Path]]:
    """Run a PACS in a process of its own; give it, and the file that it writes arrivals to.

    Each line of that is a time of `time.monotonic()` and the Study Instance UID of a report.
    """
    with tempfile.TemporaryDirectory(prefix="cxr-bench-pacs-") as name:
        port = free_port()
        arrivals = Path(name) / "arrivals"
        arrivals.touch()
        words = ["-m", "benchmarks.pacs", str(port), str(arrivals)]
        with process(words, os.environ, "listens", Path(name) / "log"):
            yield Peer("PACS", "127.0.0.1", port), arrivals


def arrived(arrivals: Path) -> dict[str, float]:
    """Read when the first report of each study arrived."""
    found: dict[str, float] = {}
    with suppress(FileNotFoundError):
        for line in arrivals.read_text().splitlines():
            when, _, study = line.partition(" ")
            found.setdefault(study, float(when))
    return found
