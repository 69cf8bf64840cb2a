"""The Minimal Lower Layer Protocol: one message to a receiver, and its answer, by a connection.

References
----------
HL7 MLLP Release 1 (block format); HL7 2.5.1 C.4.3
"""

from __future__ import annotations

import socket
import ssl
import time
from contextlib import ExitStack
from typing import Final

BEGIN, END = b"\x0b", b"\x1c\x0d"
# An acknowledgement is a few hundred bytes.
MOST_BYTES: Final = 64 * 1024


class NoConnection(OSError):
    """There is none, so that nothing was sent."""


class NoBlock(OSError):
    """What came is no block, or too long for one."""


def exchange(
    host: str, port: int, message: bytes, timeout_s: float, tls: ssl.SSLContext | None = None
) -> bytes:
    """Send a message, and give what is answered.

    Parameters
    ----------
    message
        Without its frame; it holds none of the frame's bytes.
    timeout_s
        For all of it together: a receiver may not draw it out.

    Raises
    ------
    NoConnection
        When nothing was sent.
    OSError
        When there is no answer in time, or none that is framed.
    """
    until = time.monotonic() + timeout_s
    with ExitStack() as opened:
        connection = opened.enter_context(connect(host, port, timeout_s, tls))
        connection.settimeout(_left(until))
        connection.sendall(BEGIN + message + END)
        return _block(connection, until)


def connect(
    host: str, port: int, timeout_s: float, tls: ssl.SSLContext | None = None
) -> socket.socket:
    """Connect to a receiver, over TLS where there is a context; raises NoConnection."""
    with ExitStack() as opened:
        try:
            plain = opened.enter_context(socket.create_connection((host, port), timeout_s))
            made = plain if tls is None else tls.wrap_socket(plain, server_hostname=host)
        except OSError as error:
            raise NoConnection(0, error.strerror or type(error).__name__) from error
        opened.pop_all()
        return made


def _block(connection: socket.socket, until: float) -> bytes:
    """Read until the end of a block."""
    data = b""
    while END not in data:
        connection.settimeout(_left(until))
        part = connection.recv(4096)
        if not part:
            raise NoBlock(0, "the receiver ended the connection before it answered")
        data += part
        if len(data) > MOST_BYTES or not data.startswith(BEGIN):
            raise NoBlock(0, "the receiver's answer is not framed as MLLP has it")
    return data[len(BEGIN) : data.index(END)]


def _left(until: float) -> float:
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError(0, "the receiver did not answer in time")
    return left
