"""How large a compressed frame says it is, before a decoder believes it.

A few kilobytes can claim to be gigapixels, whatever Rows and Columns say; a decoder would allocate
what the code stream claims, and some never return from a stream that tells no size.

References
----------
ITU-T T.81 B.2.2 (JPEG), T.87 C.2.2 (JPEG-LS), T.800 A.5.1 (JPEG 2000)
"""

from __future__ import annotations

import struct

_SOI = b"\xff\xd8"
_SOC_SIZ = b"\xff\x4f\xff\x51"
# A JP2 file instead of a bare code stream: not allowed (PS3.5 A.4.4), and met.
_JP2 = b"\x00\x00\x00\x0cjP  "
# Start of frame, JPEG's SOF0 to SOF15 without DHT, JPG and DAC, and JPEG-LS's SOF55.
_FRAME_MARKERS = (frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}) | {0xF7}
# Markers without a length: TEM, RST0 to RST7, SOI.
_BARE_MARKERS = frozenset({0x01, *range(0xD0, 0xD9)})


def claimed_size(frame: bytes) -> tuple[int, int] | None:
    """Return the rows and columns that a code stream claims; None when it does not tell.

    Parameters
    ----------
    frame : bytes
        A JPEG, JPEG-LS or JPEG 2000 code stream.
    """
    try:
        if frame.startswith(_SOC_SIZ):
            return _jpeg2000_size(frame)
        if frame.startswith(_JP2) and _SOC_SIZ in frame:
            return _jpeg2000_size(frame[frame.index(_SOC_SIZ) :])
        if frame.startswith(_SOI):
            return _jpeg_size(frame)
    except (struct.error, IndexError):
        pass
    return None


def _jpeg2000_size(frame: bytes) -> tuple[int, int]:
    """Read the SIZ segment: the reference grid, less the image's offset in it."""
    right, bottom, left, top = struct.unpack_from(">4I", frame, 8)
    return bottom - top, right - left


def _jpeg_size(frame: bytes) -> tuple[int, int] | None:
    """Walk the marker segments to the frame header."""
    at = 2
    while frame[at] == 0xFF:
        marker = frame[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
        elif marker in _BARE_MARKERS:
            at += 2
        elif marker in _FRAME_MARKERS:
            rows, columns = struct.unpack_from(">2H", frame, at + 5)
            return rows, columns
        else:
            at += 2 + int(struct.unpack_from(">H", frame, at + 2)[0])
    return None
