"""Programs that the tests start, watch and stop: ours, DCMTK's and Orthanc."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

# Generous: machines that run tests are slow and shared.
START_S = 240
STOP_S = 90


def free_port() -> int:
    """Give a TCP port of the loopback interface that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def wait_until(happened: Callable[[], bool], timeout_s: float, what: str) -> None:
    """Wait until something has happened; fail with its name when the time is up."""
    deadline = time.monotonic() + timeout_s
    while not happened():
        assert time.monotonic() < deadline, f"{what} did not happen in {timeout_s:.0f} s"
        time.sleep(0.2)


def listens(port: int) -> bool:
    """Tell whether somebody listens on a port of the loopback interface."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def clean_environment(**settings: str) -> dict[str, str]:
    """Give our environment without settings of ours, and with these."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("CXR_")}
    return kept | {"CXR_WEB_PORT": "off"} | settings


def run(command: Sequence[str | Path], **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, with its output."""
    return subprocess.run(
        list(map(str, command)), capture_output=True, text=True, timeout=300, check=False, **options
    )


@contextmanager
def running(
    command: Sequence[str | Path], log: Path, env: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program in the background, its output in a file; stop it as Ctrl-C does."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            list(map(str, command)), stdin=subprocess.DEVNULL, stdout=output,
            stderr=subprocess.STDOUT, env=env,
        )  # fmt: skip
    try:
        yield process
    finally:
        stop(process)


def stop(process: subprocess.Popen[bytes]) -> int:
    """Stop a program as Ctrl-C does, and give its exit status."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
    try:
        return process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        raise


def family(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """List a process with all that descend from it."""
    parent = psutil.Process(process.pid)
    return [parent, *parent.children(recursive=True)]


def alive(processes: Sequence[psutil.Process]) -> list[str]:
    """List those that still run; a zombie has ended."""
    return [
        " ".join(process.cmdline())
        for process in processes
        if process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    ]


def living_in(home: Path) -> list[str]:
    """List all processes on this machine that have `home` in their environment as CXR_HOME."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("CXR_HOME") == str(home):
                found.append(" ".join(process.cmdline()))
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
    return found


class Orthanc:
    """An Orthanc of the test's own, asked by its REST interface.

    Parameters
    ----------
    folder
        Where its files go; made.
    node_port
        Where it finds cxr-worker.
    **settings
        Further settings of Orthanc.
    """

    def __init__(self, folder: Path, node_port: int, **settings: Any) -> None:
        self.folder = folder
        self.port, self.http_port = free_port(), free_port()
        folder.mkdir()
        self.configuration = folder / "orthanc.json"
        self.configuration.write_text(
            json.dumps(
                {
                    "Name": "cxr-worker tests",
                    "StorageDirectory": str(folder / "storage"),
                    "IndexDirectory": str(folder / "storage"),
                    "RemoteAccessAllowed": False,
                    "AuthenticationEnabled": False,
                    "HttpPort": self.http_port,
                    "DicomAet": "ORTHANC",
                    "DicomPort": self.port,
                    "DicomModalities": {"cxr-worker": ["CXRWORKER", "127.0.0.1", node_port]},
                    "Plugins": [],
                }
                | settings
            )
        )

    def ask(self, path: str, data: bytes | None = None) -> bytes:
        """GET a path, or POST data to it."""
        url = f"http://127.0.0.1:{self.http_port}{path}"
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(url, data=data, timeout=120) as answer:
            content: bytes = answer.read()
            return content

    def is_up(self) -> bool:
        """Tell whether both interfaces answer."""
        return listens(self.http_port) and listens(self.port)

    def send_to_node(self, instance: bytes) -> None:
        """Store an instance here, and send its study to cxr-worker by C-STORE."""
        stored = json.loads(self.ask("/instances", instance))
        self.ask("/modalities/cxr-worker/store", stored["ParentStudy"].encode())

    def instances(self) -> list[bytes]:
        """Fetch all instances as files."""
        return [self.ask(f"/instances/{name}/file") for name in json.loads(self.ask("/instances"))]
