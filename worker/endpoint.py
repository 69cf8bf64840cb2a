"""The HTTP port of a role: a few pages that are read, by machines and by people."""

from __future__ import annotations

import logging
import socket
import socketserver
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from dicom_node.errors import ConfigurationError

log = logging.getLogger(__name__)

# How long whoever asks may take to ask, and to read.
PATIENCE_S = 5.0


@dataclass(frozen=True, slots=True)
class Page:
    """An answer."""

    body: bytes
    content_type: str
    status: int = HTTPStatus.OK


Pages = Mapping[str, Callable[[], Page]]


class Endpoint:
    """Answers GET of some paths, from threads of its own.

    Attributes
    ----------
    port : int
        Where it listens.

    Raises
    ------
    ConfigurationError
        When the port cannot be had.
    """

    def __init__(self, bind: str, port: int, pages: Pages) -> None:
        try:
            self._server = _server_of(bind)((bind, port), _handler_of(pages))
        except OSError as error:
            raise ConfigurationError(
                "CXR_METRICS_PORT", f"{bind}:{port} cannot be had: {error.strerror}"
            ) from error
        self.port = int(self._server.server_address[1])
        serve = self._server.serve_forever
        threading.Thread(target=serve, name="metrics", daemon=True).start()

    def forget(self) -> None:
        """Let go of the port of the process that this one was forked from."""
        self._server.socket.close()

    def stop(self) -> None:
        """Listen no more."""
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def server_bind(self) -> None:
        """Bind without asking a name server for our name, which may take its time."""
        socketserver.TCPServer.server_bind(self)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        """Say in a line what the library prints with a traceback."""
        log.debug("a request for metrics broke: %s", type(sys.exc_info()[1]).__name__)


class _Server6(_Server):
    address_family = socket.AF_INET6


def _server_of(bind: str) -> type[_Server]:
    return _Server6 if ":" in bind else _Server


def _handler_of(pages: Pages) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = PATIENCE_S
        server_version, sys_version = "cxr-worker", ""

        def do_GET(self) -> None:
            page = pages.get(self.path.partition("?")[0])
            if page is None:
                self.send_error(HTTPStatus.NOT_FOUND, explain=" ".join(pages))
                return
            try:
                answer = page()
            except Exception as error:
                log.exception("%s could not be answered", self.path.partition("?")[0])
                self.send_error(HTTPStatus.INTERNAL_SERVER_ERROR, explain=type(error).__name__)
                return
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.content_type)
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(answer.body)

        do_HEAD = do_GET  # noqa: N815  the library's name

        def log_message(self, *_: Any) -> None:
            """Stay silent: it is asked every few seconds."""

    return Handler
