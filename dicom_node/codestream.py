"""What a compressed frame says it is, before a decoder believes it.

A few kilobytes can claim to be gigapixels, whatever Rows and Columns say; a decoder would allocate
what the code stream claims, some never return from a stream that tells no size, and most make an
image of one that was cut off, with rubbish where its end is missing.

References
----------
ITU-T T.81 B.2.2 (JPEG), T.87 C.2.2 (JPEG-LS), T.800 A.5.1 (JPEG 2000)
"""

from __future__ import annotations

import struct
from typing import NamedTuple

_SOI = b"\xff\xd8"
_SOC_SIZ = b"\xff\x4f\xff\x51"
# What a frame begins with, and no later part of one.
FRAME_STARTS = (_SOI, _SOC_SIZ)
# EOI of JPEG and JPEG-LS, EOC of JPEG 2000; no coded data contain it.
_END = b"\xff\xd9"
# A JP2 file instead of a bare code stream: not allowed (PS3.5 A.4.4), and met.
_JP2 = b"\x00\x00\x00\x0cjP  "
# Start of frame, JPEG's SOF0 to SOF15 without DHT, JPG and DAC, and JPEG-LS's SOF55.
_FRAME_MARKERS = (frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}) | {0xF7}
# Markers without a length: TEM, RST0 to RST7, SOI.
_BARE_MARKERS = frozenset({0x01, *range(0xD0, 0xD9)})


class Claim(NamedTuple):
    """What a code stream says of itself.

    Attributes
    ----------
    rows, columns, samples : int
        Its size, and its components.
    bits : int
        Of the first component's samples.
    is_signed : bool
        Whether these may be negative; only JPEG 2000 tells.
    is_complete : bool
        Whether its end is there.
    """

    rows: int
    columns: int
    samples: int
    bits: int
    is_signed: bool
    is_complete: bool


def read_claim(frame: bytes) -> Claim | None:
    """Read what a code stream claims to be; None when it does not tell.

    Parameters
    ----------
    frame : bytes
        A JPEG, JPEG-LS or JPEG 2000 code stream.
    """
    try:
        if frame.startswith(_SOC_SIZ):
            return _jpeg2000_claim(frame, 0)
        if frame.startswith(_JP2) and _SOC_SIZ in frame:
            return _jpeg2000_claim(frame, frame.index(_SOC_SIZ))
        if frame.startswith(_SOI):
            return _jpeg_claim(frame)
    except (struct.error, IndexError):
        pass
    return None


def _jpeg2000_claim(frame: bytes, at: int) -> Claim:
    """Read the SIZ segment: the reference grid, less the image's offset in it."""
    right, bottom, left, top = struct.unpack_from(">4I", frame, at + 8)
    samples, depth = struct.unpack_from(">HB", frame, at + 40)
    bits, is_signed = (depth & 0x7F) + 1, depth > 0x7F
    return Claim(bottom - top, right - left, samples, bits, is_signed, _ends(frame, at))


def _jpeg_claim(frame: bytes) -> Claim | None:
    """Walk the marker segments to the frame header."""
    at = 2
    while frame[at] == 0xFF:
        marker = frame[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
        elif marker in _BARE_MARKERS:
            at += 2
        elif marker in _FRAME_MARKERS:
            bits, rows, columns, samples = struct.unpack_from(">BHHB", frame, at + 4)
            return Claim(rows, columns, samples, bits, False, _ends(frame, at))
        else:
            at += 2 + int(struct.unpack_from(">H", frame, at + 2)[0])
    return None


def _ends(frame: bytes, after: int) -> bool:
    """Tell whether a code stream's end is there; where it is, that is at the very end."""
    return frame.rfind(_END, after) >= 0
