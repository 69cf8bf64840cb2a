"""The answer to a C-STORE request, encoded at once.

The library makes a data set of it, element by element, which takes longer than to store a small
instance.
"""

from __future__ import annotations

import struct
from typing import Any, Final

from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.pdu_primitives import P_DATA

# PS3.7 Table 9.3-2, E.1: Command Field, Command Data Set Type (none follows).
_C_STORE_RSP: Final = 0x8001
_NO_DATA_SET: Final = 0x0101
_LAST_OF_COMMAND: Final = b"\x03"  # PS3.8 E.2, message control header


def quicken(assoc: Any) -> None:
    """Let an association's answers to C-STORE requests be encoded here.

    Parameters
    ----------
    assoc : pynetdicom.association.Association
        An acceptor whose threads have not started yet.
    """
    send = assoc.dimse.send_msg

    def send_quickly(primitive: Any, context_id: int) -> None:
        encoded = encode(primitive) if isinstance(primitive, C_STORE) else None
        longest = assoc.dimse.maximum_pdu_size
        # PS3.8 D.1: the maximum counts the six bytes of an item's header; 0 is unlimited.
        if encoded is None or 0 < longest < len(encoded) + 6:
            send(primitive, context_id)
            return
        values = P_DATA()
        values.presentation_data_value_list.append((context_id, _LAST_OF_COMMAND + encoded))
        assoc.dul.send_pdu(values)

    assoc.dimse.send_msg = send_quickly


def encode(answer: C_STORE) -> bytes | None:
    """Return the command set of an answer; None for what has more to say, and for a request.

    References
    ----------
    DICOM PS3.7 9.3.1.2, 6.3.1 (Implicit VR Little Endian)
    """
    if answer.MessageIDBeingRespondedTo is None or answer.OffendingElement is not None:
        return None
    said = (answer.AffectedSOPClassUID, answer.AffectedSOPInstanceUID, answer.ErrorComment)
    if not all(str(text or "").isascii() for text in said):
        return None
    command = b"".join((
        _uid(0x0002, answer.AffectedSOPClassUID),
        _number(0x0100, _C_STORE_RSP),
        _number(0x0120, answer.MessageIDBeingRespondedTo),
        _number(0x0800, _NO_DATA_SET),
        _number(0x0900, answer.Status),
        _text(0x0902, answer.ErrorComment),
        _uid(0x1000, answer.AffectedSOPInstanceUID),
    ))  # fmt: skip
    return struct.pack("<HHLL", 0x0000, 0x0000, 4, len(command)) + command


def _number(element: int, value: int) -> bytes:
    return struct.pack("<HHLH", 0x0000, element, 2, value)


def _uid(element: int, uid: str | None) -> bytes:
    return b"" if uid is None else _padded(element, str(uid).encode("ascii"), b"\0")


def _text(element: int, text: str | None) -> bytes:
    return b"" if not text else _padded(element, text.encode("ascii"), b" ")


def _padded(element: int, value: bytes, padding: bytes) -> bytes:
    value += padding * (len(value) % 2)
    return struct.pack("<HHL", 0x0000, element, len(value)) + value
