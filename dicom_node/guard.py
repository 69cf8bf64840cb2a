"""Guards one connection: how much a peer may send at once, how long it may take, in what language.

The library reads a PDU of any announced size into memory, waits for each of its bytes anew, and
knows TLS only from inside. Here every PDU has a limit of size and of time, and whatever ends a
connection before its time is one line of the log that says why and who.
"""

from __future__ import annotations

import logging
import socket
import ssl
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from dicom_node.data_values import HEADER, LAST_FRAGMENT, P_DATA_TF, DataValues
from dicom_node.intake import Intake
from dicom_node.prompt import is_readable

log = logging.getLogger(__name__)

# PS3.8 9.3.2: 128 presentation contexts with all transfer syntaxes there are take a third of this.
OPENING_LIMIT: Final = 1 << 20
# Of a PDU where we announce no maximum (PS3.8 D.1.1), and of a data set. No radiograph is larger.
UNLIMITED_PDU: Final = 64 << 20
MESSAGE_LIMIT: Final = 512 << 20

_A_ASSOCIATE_RQ = 0x01
_TYPES = range(0x01, 0x08)
# PS3.8 Table 9-10, as the library names them: the connection is closed, an invalid PDU, P-DATA-TF.
_CLOSED, _INVALID_PDU, _VALUES_CAME = "Evt17", "Evt19", "Evt10"
_TLS_HANDSHAKE = 0x16  # RFC 8446 5.1: the first byte of what a TLS client sends
# PS3.8 9.2.1: no association yet; data transfer; and waiting for the peer to close what is over.
_OPENING, _OPEN, _OVER = ("Sta1", "Sta2"), "Sta6", "Sta13"
# Requests of an association that are in memory and not yet begun.
_MOST_WAITING: Final = 2
_BUSY_S: Final = 0.001

# PS3.8 Table 9-26: source service-provider; reason not specified, unrecognized PDU, or invalid
# PDU parameter value.
_ABORT = b"\x07\x00\x00\x00\x00\x04\x00\x00\x02"
_NOT_SPECIFIED, _UNRECOGNIZED, _INVALID = b"\x00", b"\x01", b"\x06"

# What OpenSSL calls it -> what it means to whoever has to mend it.
_TLS_REASONS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "PEER_DID_NOT_RETURN_A_CERTIFICATE": "the client has no certificate",
        "UNSUPPORTED_PROTOCOL": "the client speaks an older TLS than 1.2",
        "NO_SHARED_CIPHER": "the client offers none of our cipher suites",
        "TLSV1_ALERT_UNKNOWN_CA": "the client does not trust our certificate",
        "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "the client does not accept our certificate",
        "SSLV3_ALERT_BAD_CERTIFICATE": "the client does not accept our certificate",
        "SSLV3_ALERT_CERTIFICATE_EXPIRED": "the client says that our certificate has expired",
        "TLSV1_ALERT_PROTOCOL_VERSION": "the client does not take TLS 1.2 or 1.3",
        "TLSV13_ALERT_CERTIFICATE_REQUIRED": "the client has no certificate",
        "UNEXPECTED_EOF_WHILE_READING": "the client hung up in the handshake",
    }
)


@dataclass(frozen=True, slots=True)
class Limits:
    """What one connection may take.

    Attributes
    ----------
    maximum_pdu : int
        What we announce, in bytes; 0 is unlimited (PS3.8 D.1).
    opening_s : float
        From the connection to the last byte of the association request, and for the TLS handshake
        before that.
    pdu_s : float
        From the first byte of a PDU to its last, after that.
    """

    maximum_pdu: int
    opening_s: float
    pdu_s: float


class _Refused(Exception):
    """Ends a connection; its text completes "closed the connection from <address>: "."""

    def __init__(self, why: str, abort: bytes = b"") -> None:
        super().__init__(why)
        self.abort = abort


class Guard:
    """Reads from a connection in the library's place, within limits.

    Parameters
    ----------
    assoc : pynetdicom.association.Association
        An acceptor whose threads have not started yet.
    limits : Limits
        What it may take.
    """

    def __init__(self, assoc: Any, limits: Limits) -> None:
        self._dul, self._dimse = assoc.dul, assoc.dimse
        self._transport = assoc.dul.socket
        self._limits = limits
        self._address = f"{assoc.requestor.address}:{assoc.requestor.port}"
        self._port = assoc.acceptor.port
        self._deadline = time.monotonic() + limits.opening_s
        self._intake = Intake(self._transport, limits.pdu_s)
        self._message_size = 0
        self._is_over = False
        self.has_told = False
        self._heard_at = time.monotonic()
        self._dul._read_pdu_data = self._read
        self._look = self._dul._is_transport_event
        self._dul._is_transport_event = self._look_unless_busy
        self._send = self._dul._process_recv_primitive
        self._dul._process_recv_primitive = self._send_in_turn
        self._has_sent = False
        self._waiting = assoc.dimse.msg_queue
        self._run = self._dul.run
        self._dul.run = self._run_or_tell

    def handshake(self, context: ssl.SSLContext) -> bool:
        """Take up TLS on the connection, and tell why not if it fails; runs in its own thread."""
        plain: socket.socket = self._transport.socket
        try:
            plain.settimeout(self._limits.opening_s)
            first = plain.recv(1, socket.MSG_PEEK)
            if not first:
                return False  # a probe of the port
            if first[0] != _TLS_HANDSHAKE:
                what = "plain DICOM" if first[0] == _A_ASSOCIATE_RQ else "what it sends is no TLS,"
                self._tell(f"{what} on port {self._port}, which takes TLS only")
                return False
            self._transport.socket = tls = context.wrap_socket(
                plain, server_side=True, do_handshake_on_connect=False
            )
            tls.settimeout(self._limits.opening_s)
            tls.do_handshake()
        except OSError as error:  # ssl.SSLError is one
            self._tell(f"TLS: {_tls_reason(error)}")
            return False
        tls.settimeout(self._limits.pdu_s)
        self._deadline = time.monotonic() + self._limits.opening_s
        return True

    @property
    def silent_s(self) -> float:
        """For how long the peer has said nothing."""
        return time.monotonic() - self._heard_at

    def close(self) -> None:
        """Close a connection that the library does not, or no more, take care of."""
        connection: socket.socket | None = self._transport.socket
        if connection is not None:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def _look_unless_busy(self) -> bool:
        """Read no more while requests wait to be served.

        Who does not wait for our answers (PS3.7 D.3.3.3 was not negotiated) fills the connection,
        and not the memory.
        """
        if self._state == _OPEN and self._waiting.qsize() > _MOST_WAITING:
            time.sleep(_BUSY_S)
            return False
        if self._intake.pending:
            self._read()
            return True
        return bool(self._look())

    def _send_in_turn(self) -> bool:
        """Send no two messages in a row without a look at what came meanwhile.

        The library reads when it has nothing to send: while answers are found faster than they go
        out, it would not hear that the peer cancels or aborts.
        """
        if self._has_sent and self._state == _OPEN and self._look_unless_busy():
            self._dul._idle_timer.restart()
            self._has_sent = False
            return True
        self._has_sent = bool(self._send())
        return self._has_sent

    def _read(self) -> None:
        """Read a PDU, and what of its message is there too, unless we have something to say."""
        while self._read_pdu():
            # The library does that when it sees an event, of which a message has one here.
            self._dul._idle_timer.restart()
            if self._dimse.message is None or self._has_to_speak():
                break
            if not (self._intake.pending or is_readable(self._transport.socket)):
                break

    def _has_to_speak(self) -> bool:
        """Tell whether something is to be sent, such as an abort, or the thread is to end."""
        return bool(self._dul._kill_thread or self._dul.to_provider_queue.queue)

    def _read_pdu(self) -> bool:
        """Read one PDU, and pass it on with the event that it is (PS3.8 9.2.1).

        Returns
        -------
        bool
            Whether its values went to DIMSE already, and there is no event to wait for.
        """
        if self._is_over:  # the library reads on before it closes
            self._dul.event_queue.put(_CLOSED)
            return False
        try:
            data = self._receive()
            self._heard_at = time.monotonic()
            return self._pass_on(data)
        except _Refused as error:
            self._end(str(error), error.abort)
        except TimeoutError:
            self._end("its PDU did not come in time", _ABORT + _NOT_SPECIFIED)
        except OSError:  # the peer hung up: the association's end tells
            pass
        self._dul.event_queue.put(_CLOSED)
        return False

    def _receive(self) -> memoryview:
        """Give the next PDU; valid until the next one is asked for."""
        self._start_pdu()
        header = self._intake.look(HEADER.size, self._deadline)
        kind, length = HEADER.unpack(header)
        self._check_header(kind, length, header)
        return self._intake.take(HEADER.size + length, self._deadline)

    def _pass_on(self, data: memoryview) -> bool:
        # Then its values go to DIMSE from where they are. That is all that the state machine would
        # do (PS3.8 9.2.3.2, DT-2), for each of a message's many PDUs.
        at_once = self._state == _OPEN and self._dul.event_queue.empty()
        try:
            if data[0] == P_DATA_TF:
                kept = data if at_once else memoryview(bytes(data))
                pdu, event = self._values(kept), _VALUES_CAME
            else:
                pdu, event = self._dul._decode_pdu(bytearray(data))
        except _Refused:
            raise
        except Exception:  # noqa: BLE001 - the library raises what it likes
            self._tell("it sends a PDU that cannot be decoded")
            self._dul.event_queue.put(_INVALID_PDU)
            return False
        if at_once and event == _VALUES_CAME:
            return self._take(pdu)
        self._dul.event_queue.put(event)
        self._dul._recv_pdu.put(pdu)
        return False

    def _take(self, values: DataValues) -> bool:
        try:
            self._dimse.receive_primitive(values.to_primitive())
        except Exception as error:  # noqa: BLE001 - the library raises what it likes
            self._tell(f"it sends a message that cannot be understood: {type(error).__name__}")
            self._dul.event_queue.put(_INVALID_PDU)
            return False
        return True

    def _start_pdu(self) -> None:
        if self._state not in (*_OPENING, _OVER):
            self._deadline = time.monotonic() + self._limits.pdu_s

    def _check_header(self, kind: int, length: int, data: memoryview) -> None:
        is_opening = self._state in _OPENING
        if kind == _TLS_HANDSHAKE and data[1] == 3 and is_opening:
            raise _Refused(f"TLS on port {self._port}, which takes plain DICOM only")
        if kind not in _TYPES:
            raise _Refused("what it sends is not DICOM", _ABORT + _UNRECOGNIZED)
        limit = OPENING_LIMIT if is_opening else (self._limits.maximum_pdu or UNLIMITED_PDU)
        # Some count the header in (PS3.8 D.1 does not).
        if length > limit + HEADER.size:
            allowed = "before an association" if is_opening else "in one, as we announced"
            raise _Refused(
                f"a PDU of {length} bytes; at most {limit} are taken {allowed}", _ABORT + _INVALID
            )

    def _values(self, data: memoryview) -> DataValues:
        """Take a P-DATA-TF apart, and count what its message grows to: all of it is in memory."""
        values = DataValues(data)
        for _, value in values.each:
            self._message_size += len(value)
            if self._message_size > MESSAGE_LIMIT:
                raise _Refused("it sends a data set beyond all measure", _ABORT + _INVALID)
            if value[0] & LAST_FRAGMENT:
                self._message_size = 0
        return values

    def _run_or_tell(self) -> None:
        """Run the library's thread; what it does not expect ends the association, in one line."""
        try:
            self._run()
        except Exception as error:  # noqa: BLE001 - the thread ends here
            self._end(f"the connection broke: {type(error).__name__}", _ABORT + _NOT_SPECIFIED)
            self.close()

    def _end(self, why: str, abort: bytes) -> None:
        self._is_over = True
        self._tell(why)
        connection: socket.socket | None = self._transport.socket
        if connection is None or self._state == _OVER:
            return
        with suppress(OSError):
            connection.settimeout(1.0)
            connection.sendall(abort)

    @property
    def _state(self) -> str:
        return str(self._dul.state_machine.current_state)

    def _tell(self, why: str) -> None:
        if not self.has_told and self._state != _OVER:
            self.has_told = True
            log.warning("closed the connection from %s: %s", self._address, why)


def _tls_reason(error: OSError) -> str:
    """Say in words why there is no TLS with a client."""
    if isinstance(error, TimeoutError):
        return "the client did not complete the handshake in time"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the client's certificate is not accepted: {error.verify_message}"
    if isinstance(error, ssl.SSLError) and error.reason:
        return _TLS_REASONS.get(error.reason, error.reason.lower().replace("_", " "))
    return "the client hung up in the handshake"
