"""A syslog receiver over TLS on the loopback interface (RFC 5425), for tests."""

from __future__ import annotations

import socket
import ssl
import threading
from contextlib import suppress

from dicom_node.tls import TlsFiles
from worker.settings_values import Receiver


class SyslogReceiver:
    """Keeps the messages that it gets; can go away and come back at the same port.

    Parameters
    ----------
    files
        Its certificate and key, and whose clients' certificates it accepts.
    asks
        Whether clients have to show one.
    """

    def __init__(self, files: TlsFiles, *, asks: bool = False) -> None:
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(files.certificate, files.key)
        if asks:
            self.context.load_verify_locations(files.authority)
            self.context.verify_mode = ssl.CERT_REQUIRED
        self.messages: list[str] = []
        self.refused = 0
        self._port = 0
        self._connections: list[socket.socket] = []
        self._listener: socket.socket | None = None

    @property
    def address(self) -> Receiver:
        return Receiver("127.0.0.1", self._port)

    def start(self) -> None:
        """Listen, at the same port as before."""
        listener = socket.create_server(("127.0.0.1", self._port))
        self._port = listener.getsockname()[1]
        self._listener = listener
        threading.Thread(target=self._listen, args=[listener], daemon=True).start()

    def stop(self) -> None:
        """Go away, with all connections."""
        assert self._listener is not None
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.hang_up()

    def hang_up(self) -> None:
        """End the connections, but go on listening."""
        for connection in self._connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()
        self._connections = []

    def _listen(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                plain, _ = listener.accept()
                threading.Thread(target=self._serve, args=[plain], daemon=True).start()

    def _serve(self, plain: socket.socket) -> None:
        try:
            connection = self.context.wrap_socket(plain, server_side=True)
        except OSError:
            self.refused += 1
            plain.close()
            return
        self._connections.append(connection)
        with suppress(OSError, ValueError), connection.makefile("rb") as stream:
            while length := self._length(stream):
                self.messages.append(stream.read(length).decode("ascii"))

    def _length(self, stream: object) -> int:
        """Read MSG-LEN, and the space after it (RFC 5425 4.3)."""
        digits = b""
        while (byte := stream.read(1)) not in (b" ", b""):  # type: ignore[attr-defined]
            digits += byte
        assert not digits.startswith(b"0")
        return int(digits) if digits else 0
