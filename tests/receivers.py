"""Receivers of notices on loopback: an HTTP server and an MLLP receiver, each as bad as asked."""

from __future__ import annotations

import socket
import socketserver
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

HANG = "hang"
BEGIN, END = b"\x0b", b"\x1c\x0d"


def message_from(connection: socket.socket) -> bytes | None:
    """Read a message of MLLP; None when whoever sent it is gone before its end."""
    data = b""
    while END not in data:
        part = connection.recv(4096)
        if not part:
            return None
        data += part
    return data.removeprefix(BEGIN).removesuffix(END)


@dataclass
class Webhook:
    """What came, and what is answered to each: a status, a status with headers, or HANG.

    When the answers are used up, 204.
    """

    answers: list[Any] = field(default_factory=list)
    came: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    url: str = ""
    over: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def listening(self, tls: ssl.SSLContext | None = None) -> Iterator[Webhook]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers["content-length"])
                headers = {name.lower(): value for name, value in self.headers.items()}
                receiver.came.append((headers, self.rfile.read(length)))
                receiver.paths.append(self.path)
                answer = receiver.answers.pop(0) if receiver.answers else 204
                if answer == HANG:
                    receiver.over.wait(60)
                    return
                status, more = answer if isinstance(answer, tuple) else (answer, {})
                self.send_response(status)
                for name, value in more.items():
                    self.send_header(name, value)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        self.url = f"http{'s' if tls else ''}://localhost:{server.server_port}/hook/s3cret-path"
        with _serving(server, self.over):
            yield self


@dataclass
class Mllp:
    """What came, without its frame, and what is answered to each: a code, bytes, or HANG.

    When the answers are used up, AA. Bytes go out as they are.
    """

    answers: list[str | bytes] = field(default_factory=list)
    came: list[bytes] = field(default_factory=list)
    port: int = 0
    over: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def listening(self, tls: ssl.SSLContext | None = None, port: int = 0) -> Iterator[Mllp]:
        receiver = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                message = message_from(self.request)
                if message is None:
                    return
                receiver.came.append(message)
                answer = receiver.answers.pop(0) if receiver.answers else "AA"
                if answer == HANG:
                    receiver.over.wait(60)
                elif isinstance(answer, bytes):
                    self.wfile.write(answer)
                else:
                    self.wfile.write(BEGIN + acknowledgement(answer, message) + END)

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
            allow_reuse_address = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                pass

        server = Server(("127.0.0.1", port), Handler)
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        self.port = server.server_address[1]
        with _serving(server, self.over):
            yield self


def acknowledgement(code: str, message: bytes, about: str = "") -> bytes:
    """Write what a receiver answers."""
    fields = message.split(b"\r")[0].decode().split("|")
    head = f"MSH|^~\\&|HIS|WARD|{fields[2]}||20260101000000||ACK^R01^ACK|9|P|2.5.1"
    return f"{head}\rMSA|{code}|{about or fields[9]}\r".encode()


@contextmanager
def _serving(server: socketserver.BaseServer, over: threading.Event) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        server.shutdown()
        server.server_close()
        thread.join()
