"""Syslog over TLS: the envelope of a message, and the connection to a receiver.

References
----------
RFC 5424 6 (message), RFC 5425 4.3 (framing), DICOM PS3.15 A.6
"""

from __future__ import annotations

import fcntl
import select
import socket
import ssl
import struct
import termios
import time
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from dicom_node.tls import CIPHER_SUITES
from worker import tls_files
from worker.audit.schema import Outcome
from worker.settings_values import Receiver

APP_NAME = "cxr-worker"
MSGID = "DICOM+RFC3881"
# PS3.15 A.6: facility 10 (security), severity 5 (notice); 4 (warning) for what failed.
_FACILITY, _NOTICE, _WARNING = 10, 5, 4

AUTHORITY, CERTIFICATE, KEY = "CXR_AUDIT_AUTHORITY", "CXR_AUDIT_CERTIFICATE", "CXR_AUDIT_KEY"
TIMEOUT_S = 10.0
# How long a receiver has to refuse our certificate, which TLS 1.3 lets it do after we could send.
REFUSAL_S = 1.0


def enveloped(xml: str, outcome: Outcome, host: str, pid: int, at: datetime) -> bytes:
    """Put an audit message into an envelope: a line of ASCII, without its end."""
    priority = _FACILITY * 8 + (_WARNING if outcome else _NOTICE)
    name = "".join(each for each in host if "!" <= each <= "~")[:255] or "-"
    when = at.isoformat(timespec="milliseconds")
    line = f"<{priority}>1 {when} {name} {APP_NAME} {pid} {MSGID} - {xml}".encode("ascii")
    assert b"\n" not in line  # the schema writes none
    return line


def client_context(
    authority: Path, certificate: Path | None = None, key: Path | None = None
) -> ssl.SSLContext:
    """Return what the connection to a receiver is made with.

    The receiver's certificate must be vouched for by `authority`, or be in it, and name the host.

    Raises
    ------
    ConfigurationError
        With the setting whose file is missing, is not PEM or does not belong to the other.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(":".join((*CIPHER_SUITES, "@SECLEVEL=2")))
    tls_files.trust(context, AUTHORITY, authority)
    if certificate is not None:
        assert key is not None  # the settings come in pairs
        tls_files.present(context, (CERTIFICATE, certificate), (KEY, key))
    return context


class Connection:
    """A connection to a receiver.

    Parameters
    ----------
    receiver : Receiver
        Where it is.
    context : ssl.SSLContext
        Whom we trust, and who we are.

    Raises
    ------
    OSError
        When it cannot be reached, or refuses us.
    """

    def __init__(self, receiver: Receiver, context: ssl.SSLContext) -> None:
        plain = socket.create_connection((receiver.host, receiver.port), TIMEOUT_S)
        try:
            self._socket = context.wrap_socket(plain, server_hostname=receiver.host)
        except BaseException:
            plain.close()
            raise
        try:
            select.select([self._socket], [], [], REFUSAL_S)
            self._require_open()
        except BaseException:
            self._socket.close()
            raise

    def send(self, line: bytes) -> None:
        """Send a message.

        Raises
        ------
        OSError
            When the connection is broken.
        """
        self._socket.sendall(b"%d " % len(line) + line)

    def confirm(self) -> None:
        """Return when the receiver's machine has all that was sent.

        That it was also kept, no message of syslog tells.

        Raises
        ------
        OSError
            When the connection broke before that, or it took too long.

        References
        ----------
        tcp(7), ``SIOCOUTQ``
        """
        until = time.monotonic() + TIMEOUT_S
        while True:
            self._require_open()
            if not self._unacknowledged():
                return
            if time.monotonic() > until:
                raise TimeoutError("the receiver does not acknowledge what was sent")
            time.sleep(0.005)

    def close(self) -> None:
        """End the connection."""
        with suppress(OSError):
            self._socket.close()

    def _unacknowledged(self) -> int:
        """Count the bytes that the other side's TCP has not acknowledged."""
        (count,) = struct.unpack(
            "i", fcntl.ioctl(self._socket.fileno(), termios.TIOCOUTQ, b"\0" * 4)
        )
        return int(count)

    def _require_open(self) -> None:
        """Refuse to go on with a connection that the receiver has ended; it never has to speak."""
        self._socket.settimeout(0)
        try:
            while self._socket.recv(4096):
                pass
        except (ssl.SSLWantReadError, BlockingIOError):
            return
        finally:
            self._socket.settimeout(TIMEOUT_S)
        raise ConnectionResetError("the receiver has ended the connection")
