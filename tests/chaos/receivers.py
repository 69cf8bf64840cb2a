"""Receivers of notices as processes of their own, each with a diary and as bad as it is told to be.

`python -m tests.chaos.receivers webhook PORT FOLDER SECRET_FILE`, or `hl7 PORT FOLDER`.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import signal
import socket
import socketserver
import struct
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.chaos.behaviour import ABORT, BUSY, HANG, OK, SLOW
from tests.chaos.diary import Diary, Try
from tests.receivers import BEGIN, END, acknowledgement, message_from

# How long a receiver that is slow takes for its answer: less than the worker's patience.
SLOW_S = 2.0
OLDEST_S = 300
TAKEN = b"HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n"
UNAVAILABLE = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 2\r\ncontent-length: 0\r\n\r\n"


class Receiver:
    """What both kinds have in common: a try is written down, and then answered or not."""

    def __init__(self, diary: Diary) -> None:
        self._diary = diary

    def receive(
        self, connection: socket.socket, message_id: str, content: bytes, *, genuine: bool
    ) -> str:
        """Write a try down; say whether to answer it OK or BUSY, or not at all."""
        how = self._diary.behaviour.how
        taken = how in (OK, SLOW)
        # One that hangs or breaks off has kept it or not: nobody can know.
        kept = taken or (how != BUSY and sum(message_id.encode()) % 2 == 1)
        words = content.decode("utf-8", "replace")
        self._diary.enter(Try(message_id, words, genuine, kept, taken))
        if how == ABORT:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        while how == HANG and self._diary.behaviour.how == HANG:
            time.sleep(0.1)
        return OK if taken else how

    def answer(self, connection: socket.socket, words: bytes) -> None:
        """Say something, a byte at a time if need be; whoever asked may be gone."""
        with suppress(OSError):
            if self._diary.behaviour.how != SLOW:
                connection.sendall(words)
                return
            for number in range(len(words)):
                connection.sendall(words[number : number + 1])
                time.sleep(SLOW_S / len(words))


def is_genuine(headers: dict[str, str], body: bytes, secret: bytes) -> bool:
    """Tell whether a request is signed with a secret, and not an old one that is played back."""
    sent = headers.get("webhook-timestamp", "0")
    signed = f"{headers.get('webhook-id')}.{sent}.".encode() + body
    right = "v1," + base64.b64encode(hmac.digest(secret, signed, hashlib.sha256)).decode()
    return right in headers.get("webhook-signature", "") and abs(time.time() - int(sent)) < OLDEST_S


def webhook(port: int, diary: Diary, secret: bytes) -> socketserver.BaseServer:
    receiver = Receiver(diary)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            genuine = is_genuine(headers, body, secret)
            how = receiver.receive(
                self.connection, headers["webhook-id"], body, genuine=genuine
            )  # fmt: skip
            self.close_connection = True
            if how in (OK, BUSY):
                receiver.answer(self.connection, TAKEN if how == OK else UNAVAILABLE)

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 50

        def handle_error(self, *_: object) -> None:
            pass

    return Server(("127.0.0.1", port), Handler)


def hl7(port: int, diary: Diary) -> socketserver.BaseServer:
    receiver = Receiver(diary)

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            message = message_from(self.request)
            if message is None:
                return
            message_id = message.split(b"|")[9].decode()
            how = receiver.receive(self.request, message_id, message, genuine=True)
            if how in (OK, BUSY):
                code = "AA" if how == OK else "AE"
                receiver.answer(self.request, BEGIN + acknowledgement(code, message) + END)

    class Server(socketserver.ThreadingTCPServer):
        allow_reuse_address = daemon_threads = True
        request_queue_size = 50

        def handle_error(self, *_: object) -> None:
            pass

    return Server(("127.0.0.1", port), Handler)


def serve(server: socketserver.BaseServer) -> None:
    """Listen until SIGTERM."""
    stop: Callable[[], None] = server.shutdown
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=stop).start())
    print("listens", flush=True)
    server.serve_forever(0.2)


if __name__ == "__main__":
    _, kind, port, folder, *more = sys.argv
    if kind == "webhook":
        secret = base64.b64decode(Path(more[0]).read_text())
        serve(webhook(int(port), Diary(Path(folder)), secret))
    else:
        serve(hl7(int(port), Diary(Path(folder))))
