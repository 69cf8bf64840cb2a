"""DICOM spoken byte by byte, for senders that are cheap, slow, broken or hostile."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from io import BytesIO

from pydicom.dataset import Dataset
from pynetdicom import build_context
from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.dsutils import encode
from pynetdicom.pdu import A_ASSOCIATE_RQ, P_DATA_TF
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    MaximumLengthNotification,
)

from tests.datasets import image

EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
VERIFICATION = "1.2.840.10008.1.1"

# PS3.8 9.3: types of PDUs.
RQ, AC, RJ, P_DATA, RELEASE_RQ, RELEASE_RP, ABORT = range(1, 8)


def pdu(kind: int, body: bytes = b"\0\0\0\0", length: int | None = None) -> bytes:
    """A PDU; its length is that of the body, unless it lies."""
    return struct.pack(">BxL", kind, len(body) if length is None else length) + body


@cache
def request(calling: str = "MODALITY", called: str = "NODE", maximum: int = 16382) -> bytes:
    """An A-ASSOCIATE-RQ for CR and Verification, in that order: contexts 1 and 3."""
    asked = A_ASSOCIATE()
    asked.application_context_name = "1.2.840.10008.3.1.1.1"
    asked.calling_ae_title, asked.called_ae_title = calling, called
    contexts = []
    for number, uid in ((1, image().SOPClassUID), (3, VERIFICATION)):
        context = build_context(uid, EXPLICIT_VR_LITTLE_ENDIAN)
        context.context_id = number
        contexts.append(context)
    asked.presentation_context_definition_list = contexts
    length, implementation = MaximumLengthNotification(), ImplementationClassUIDNotification()
    length.maximum_length_received = maximum
    implementation.implementation_class_uid = "1.2.3.4"
    asked.user_information = [length, implementation]
    encoded: bytes = A_ASSOCIATE_RQ(asked).encode()
    return encoded


def store(ds: Dataset, context_id: int = 1, maximum: int = 16382) -> list[bytes]:
    """The PDUs of a C-STORE request: the command in one, the data set in as many as it takes."""
    ask = C_STORE()
    ask.MessageID, ask.Priority = 1, 2
    ask.AffectedSOPClassUID = ds.SOPClassUID
    ask.AffectedSOPInstanceUID = ds.SOPInstanceUID
    ask.DataSet = BytesIO(encode(ds, False, True) or b"")
    message = C_STORE_RQ()
    message.primitive_to_message(ask)
    return [P_DATA_TF(part).encode() for part in message.encode_msg(context_id, maximum)]


def store_as(sop_class_uid: str, sop_instance_uid: str, ds: Dataset, maximum: int = 16382) -> bytes:
    """A C-STORE request whose command names what it likes, in the context of CR."""
    command = b"".join((
        _element(0x0002, _uid(sop_class_uid)),
        _element(0x0100, struct.pack("<H", 0x0001)),
        _element(0x0110, struct.pack("<H", 7)),
        _element(0x0700, struct.pack("<H", 0)),
        _element(0x0800, struct.pack("<H", 1)),
        _element(0x1000, _uid(sop_instance_uid)),
    ))  # fmt: skip
    command = _element(0x0000, struct.pack("<L", len(command))) + command
    first = pdu(P_DATA, struct.pack(">LBB", len(command) + 2, 1, 3) + command)
    return first + b"".join(store(ds, maximum=maximum)[1:])


def _element(element: int, value: bytes) -> bytes:
    return struct.pack("<HHL", 0, element, len(value)) + value


def _uid(text: str) -> bytes:
    return text.encode("latin-1") + b"\0" * (len(text) % 2)


class Wire:
    """One connection to a node."""

    def __init__(self, port: int, timeout_s: float = 60) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=timeout_s)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, *data: bytes) -> None:
        self.socket.sendall(b"".join(data))

    def read(self) -> tuple[int, bytes]:
        """Give the next PDU as (type, body); (0, b"") when the node has hung up."""
        try:
            header = self._exactly(6)
            kind, length = struct.unpack(">BxL", header)
            return kind, self._exactly(length)
        except (ConnectionError, struct.error):
            return 0, b""

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = self.socket.recv(size - len(data))
            if not more:
                raise ConnectionError
            data += more
        return data

    def read_to_the_end(self) -> list[int]:
        """Give the types of all PDUs until the node hangs up."""
        kinds = []
        while kind := self.read()[0]:
            kinds.append(kind)
        return kinds

    def associate(self, calling: str = "MODALITY") -> int:
        """Ask for an association; give the type of the answer."""
        self.send(request(calling))
        return self.read()[0]

    def answer(self) -> int | None:
        """Give the status of the next response; None when the association ended instead."""
        kind, body = self.read()
        return status_of(body) if kind == P_DATA else None

    def store(self, ds: Dataset) -> int | None:
        """Store an instance; give its status, None when none came."""
        self.send(*store(ds))
        return self.answer()

    def release(self) -> int:
        """Release; give the type of the answer."""
        self.send(pdu(RELEASE_RQ))
        return self.read()[0]

    def reset(self) -> None:
        """Hang up with a reset, as a crashed or firewalled peer does."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def close(self) -> None:
        self.socket.close()


@contextmanager
def wired(port: int, timeout_s: float = 60) -> Iterator[Wire]:
    wire = Wire(port, timeout_s)
    try:
        yield wire
    finally:
        wire.close()


def status_of(body: bytes) -> int | None:
    """Find Status (0000,0900) in the command of a response."""
    return next((s for s in _statuses(body[6:])), None)


def _statuses(command: bytes) -> Iterator[int]:
    """Walk through a command set, which is Implicit VR Little Endian (PS3.7 6.3.1)."""
    at = 0
    while at + 8 <= len(command):
        group, element, length = struct.unpack_from("<HHL", command, at)
        if (group, element) == (0x0000, 0x0900):
            yield struct.unpack_from("<H", command, at + 8)[0]
        at += 8 + length


def cut(parts: Sequence[bytes], at: int) -> bytes:
    """The first `at` bytes of some PDUs."""
    return b"".join(parts)[:at]
