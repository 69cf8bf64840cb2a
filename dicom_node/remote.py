"""A file in a bucket, read a window at a time: who reads it slowly does not hold all of it."""

from __future__ import annotations

import errno
import io
from typing import BinaryIO, Final, cast

from dicom_node.objects import Objects, StoreAway

# Most headers are shorter, and few images.
START: Final = 256 << 10
# What is fetched ahead of who reads on: a radiograph of 10 MB comes in three requests even to those
# who read it in small pieces, and some dozens of them may take their time.
WINDOW: Final = 5 << 20


class _Remote(io.BufferedIOBase):
    """Keeps the beginning, to which readers come back, and one window.

    What is asked for at once and is larger than a window is fetched by one request, and not kept.
    """

    def __init__(self, objects: Objects, path: str) -> None:
        super().__init__()
        self._objects, self._path = objects, path
        first = objects.part(path, 0, START)
        self._start, self._size, self._version = first.data, first.size, first.version
        self._window, self._window_at = b"", len(first.data)
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int | None = -1, /) -> bytes:
        end = self._size if size is None or size < 0 else min(self._size, self._at + size)
        pieces = list[bytes]()
        while self._at < end:
            piece = self._held(end) or self._fetched(end)
            self._at += len(piece)
            pieces.append(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError("a place before the beginning")
        self._at = base + offset
        return self._at

    def _held(self, end: int) -> bytes:
        """Give what is at hand of what is asked for, from where it begins."""
        at = self._at
        if at < len(self._start):
            return self._start[at:end]
        if self._window_at <= at:
            return self._window[at - self._window_at : end - self._window_at]
        return b""

    def _fetched(self, end: int) -> bytes:
        """Fetch what is asked for, or a window that begins with it."""
        at = self._at
        if end - at >= WINDOW:
            self._window, self._window_at = b"", end  # before: there need not be room for both
            return self._part(at, end)
        # Who goes from place to place looks at a little in each.
        goes_on = at == self._window_at + len(self._window)
        self._window = b""
        ahead = WINDOW if goes_on else START
        self._window = self._part(at, min(self._size, max(end, at + ahead)))
        self._window_at = at
        return self._window[: end - at]

    def _part(self, start: int, end: int) -> bytes:
        part = self._objects.part(self._path, start, end)
        if part.version != self._version or len(part.data) != end - start:
            raise StoreAway(errno.EIO, "a stored file was written anew while it was read")
        return part.data


def remote_file(objects: Objects, path: str) -> BinaryIO:
    """Open an object; its beginning is fetched at once.

    Raises
    ------
    OSError
        When it is not there, or the store does not answer; also later, as it is read.
    """
    return cast(BinaryIO, _Remote(objects, path))
