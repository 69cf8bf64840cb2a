"""What the processes of a role, or of `up`, tell the one of them that is asked from outside.

Each keeps what it counts in its own memory, and tells it by a socket in a folder that they share:
whoever died tells nothing, and leaves nothing behind that could be taken for the living.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import socketserver
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric as Family

log = logging.getLogger(__name__)

SUFFIX = ".told"
# A process that does not tell within this is left out.
PATIENCE_S = 3.0
AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Told:
    """What one process tells.

    Attributes
    ----------
    role
        Its role, such as ``node``.
    process
        Its number among those that a role forks; empty for the one that forks.
    beat_s
        How long ago its main loop turned; None for a process that has none.
    facts
        What it is ready with, such as its model.
    metrics
        What it counts, in Prometheus' text format.
    """

    role: str
    process: str = ""
    beat_s: float | None = None
    facts: dict[str, str] = field(default_factory=dict)
    metrics: str = ""


class Teller:
    """Tells whoever connects to a socket of this process's name, from threads of its own."""

    def __init__(self, folder: Path, name: str, tell: Callable[[], Told]) -> None:
        path = folder / f"{name}{SUFFIX}"
        path.unlink(missing_ok=True)  # of one that died

        class Handler(socketserver.StreamRequestHandler):
            timeout = PATIENCE_S

            def handle(self) -> None:
                with suppress(OSError):
                    self.wfile.write(json.dumps(asdict(tell())).encode())

        self._server = _Server(str(path), Handler)
        serve = self._server.serve_forever
        threading.Thread(target=serve, name="telling", daemon=True).start()

    def forget(self) -> None:
        """Let go of the socket of the process that this one was forked from."""
        self._server.socket.close()

    def stop(self) -> None:
        """Tell nobody any more."""
        self._server.shutdown()
        self._server.server_close()
        Path(str(self._server.server_address)).unlink(missing_ok=True)


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        """Say in a line what the library prints with a traceback."""
        error = type(sys.exc_info()[1]).__name__
        log.warning("this process could not tell what it counts: %s", error)


def gather(folder: Path) -> list[Told]:
    """Ask all processes that tell in a folder, at once; those that do not answer are left out."""
    paths = sorted(folder.glob(f"*{SUFFIX}"))
    with ThreadPoolExecutor(AT_ONCE, "gather") as threads:
        return [told for told in threads.map(_ask, paths) if told is not None]


def _ask(path: Path) -> Told | None:
    try:
        with socket.socket(socket.AF_UNIX) as asking:
            asking.settimeout(PATIENCE_S)
            asking.connect(os.fspath(path))
            with asking.makefile("rb") as answer:
                return Told(**json.load(answer))
    except (OSError, ValueError):  # nobody listens, or it died over its answer
        return None


def families(told: Iterable[Told]) -> Iterator[Family]:
    """Put together what several processes count, each with its role."""
    from prometheus_client.parser import text_string_to_metric_families

    merged: dict[str, Family] = {}
    for each in told:
        whose = {"role": each.role} | ({"process": each.process} if each.process else {})
        for found in text_string_to_metric_families(each.metrics):
            whole = merged.setdefault(found.name, found)
            samples = [s._replace(labels={**s.labels, **whose}) for s in found.samples]
            whole.samples = (whole.samples if whole is not found else []) + samples
    yield from merged.values()
