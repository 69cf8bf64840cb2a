"""Reads a deflated instance as far as it is needed, and keeps none of it.

What is half a megabyte may inflate to hundreds, which would all be in memory for a few attributes:
several of those at once, and there is no memory for anything else.

References
----------
DICOM PS3.5 A.5
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Sequence
from typing import Any, BinaryIO, Final, cast

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

# A deflated data set may grow a thousandfold, and is inflated to its end before it is stored. No
# radiograph is so large: 10000 x 10000 samples of 16 bits are 191 MiB, which are 43 x 43 cm at
# 43 micrometres, or a whole spine at 100 and twice as wide.
MAX_INFLATED: Final = 224 << 20
# Of that, before the pixels, so much is read; what nobody asks for does not count.
_MOST_BEFORE: Final = 32 << 20
_CHUNK: Final = 256 << 10
# So much is read at once: of a file in a bucket, what was fetched at first holds most headers.
_PIECE: Final = 64 << 10
# How far one can go back: a reader does so by a header, or by what may be a delimiter.
_BACK: Final = 64 << 10

# PS3.10 7.1: the prefix and (0002,0000), the length of the file meta information.
_META_START: Final = b"DICM\x02\x00\x00\x00UL\x04\x00"
_LONGEST_META: Final = 64 << 10
_SYNTAX: Final = b"\x02\x00\x10\x00UI\x16\x00"
_DEFLATED: Final = _SYNTAX + str(DeflatedExplicitVRLittleEndian).encode()
_PLAIN: Final = _SYNTAX + str(ExplicitVRLittleEndian).encode().ljust(0x16, b"\0")


class Inflating(io.BufferedIOBase):
    """A deflated instance as the file that it were in Explicit VR Little Endian.

    Parameters
    ----------
    start
        Preamble, prefix and file meta information, of that transfer syntax.
    deflated
        At what follows.

    Attributes
    ----------
    most_read : int or None
        How much more may be read; None for all.
    """

    def __init__(self, start: bytes, deflated: BinaryIO) -> None:
        super().__init__()
        self.most_read: int | None = None
        self._deflated = deflated
        self._inflater = zlib.decompressobj(-zlib.MAX_WBITS)  # there is no zlib header
        self._window, self._window_at, self._at = start, 0, 0
        self._left = MAX_INFLATED

    def readable(self) -> bool:
        """Tell that it can be read."""
        return True

    def seekable(self) -> bool:
        """Tell that one can go on, and back a little."""
        return True

    def tell(self) -> int:
        """Give the place."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place; what lies between is inflated when something is read there.

        Raises
        ------
        ValueError
            When it is too far back, or counted from the end.
        """
        at = offset + (self._at if whence == io.SEEK_CUR else 0)
        if whence == io.SEEK_END or at < self._window_at:
            raise ValueError("what was inflated is not kept")
        self._at = at
        return at

    def read(self, size: int | None = -1) -> bytes:
        """Read so many bytes, or to the end.

        Raises
        ------
        ValueError
            When it is more than may be read, or inflates beyond all measure, or is cut off.
        zlib.error
            When it is not deflated.
        """
        found, left = bytearray(), -1 if size is None else size
        while left and self._is_there():
            begin = self._at - self._window_at
            piece = self._window[begin : begin + left if left > 0 else None]
            self._count(len(piece))
            found += piece
            self._at += len(piece)
            left -= len(piece) if left > 0 else 0
        return bytes(found)

    def _is_there(self) -> bool:
        """Inflate as far as the place; tell whether there is something."""
        while self._at >= self._window_at + len(self._window):
            piece = self._next()
            if not piece:
                return False
            kept = self._window[-_BACK:]
            self._window_at += len(self._window) - len(kept)
            self._window = kept + piece
        return True

    def _next(self) -> bytes:
        piece = self._inflater.decompress(self._inflater.unconsumed_tail, _CHUNK)
        while not piece and not self._inflater.eof:
            data = self._deflated.read(_PIECE)
            if not data:
                raise ValueError("the deflated data set is cut off")
            piece = self._inflater.decompress(data, _CHUNK)
        self._left -= len(piece)
        if self._left < 0:
            raise ValueError("the data set inflates beyond all measure")
        return piece

    def _count(self, size: int) -> None:
        if self.most_read is None:
            return
        self.most_read -= size
        if self.most_read < 0:
            raise ValueError("there is too much before the pixels")


def inflating(file: BinaryIO) -> Inflating | None:
    """Give what reads a Part 10 file inflated; None, and the file as it was, for any other.

    Parameters
    ----------
    file
        At its beginning.
    """
    begin = file.tell()
    start = file.read(144)
    if start[128:140] == _META_START:
        length = int.from_bytes(start[140:], "little")
        meta = file.read(length) if length <= _LONGEST_META else b""
        if _DEFLATED in meta:
            return Inflating(start + meta.replace(_DEFLATED, _PLAIN, 1), file)
    file.seek(begin)
    return None


def read_before_pixels(
    file: BinaryIO, tags: Sequence[int | str] | None = None
) -> tuple[Dataset, BinaryIO]:
    """Read an instance but its pixels.

    Parameters
    ----------
    file
        At its beginning.
    tags
        Tags or keywords of what is wanted; all when this is None.

    Returns
    -------
    Dataset, binary file
        The second stands at the pixel data, if there is any, and is inflated.

    Raises
    ------
    Exception
        Whatever pydicom raises on bytes that are no data set; the kinds are not documented.
    """
    wanted: Any = None if tags is None else list(tags)
    inflated = inflating(file)
    if inflated is None:
        return dcmread(file, stop_before_pixels=True, specific_tags=wanted), file
    inflated.most_read = _MOST_BEFORE
    source = cast(BinaryIO, inflated)
    ds = dcmread(source, stop_before_pixels=True, specific_tags=wanted)
    inflated.most_read = None
    ds.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    return ds, source
