"""What stands before a data set in a file: preamble, prefix and file meta information.

The same bytes as `pynetdicom.events.Event.encoded_dataset` gives, without a data set being made for
each of them.
"""

from __future__ import annotations

import struct
from typing import Final

from pynetdicom import PYNETDICOM_IMPLEMENTATION_UID, PYNETDICOM_IMPLEMENTATION_VERSION

# PS3.10 7.1: (0002,0001) File Meta Information Version.
_VERSION: Final = struct.pack("<HH2sHL", 0x0002, 0x0001, b"OB", 0, 2) + b"\x00\x01"


def file_start(sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str) -> bytes:
    """Return the beginning of a Part 10 file.

    References
    ----------
    DICOM PS3.10 7.1 (Explicit VR Little Endian)
    """
    meta = b"".join((
        _VERSION,
        _element(0x0002, b"UI", sop_class_uid, b"\0"),
        _element(0x0003, b"UI", sop_instance_uid, b"\0"),
        _element(0x0010, b"UI", transfer_syntax_uid, b"\0"),
        _element(0x0012, b"UI", PYNETDICOM_IMPLEMENTATION_UID, b"\0"),
        _element(0x0013, b"SH", PYNETDICOM_IMPLEMENTATION_VERSION, b" "),
    ))  # fmt: skip
    length = struct.pack("<HH2sHL", 0x0002, 0x0000, b"UL", 4, len(meta))
    return b"\0" * 128 + b"DICM" + length + meta


def _element(element: int, vr: bytes, text: str, padding: bytes) -> bytes:
    # What is no UID is refused, by the one who compares it with the data set's.
    value = str(text).encode("ascii", "replace")
    value += padding * (len(value) % 2)
    return struct.pack("<HH2sH", 0x0002, element, vr, len(value)) + value
