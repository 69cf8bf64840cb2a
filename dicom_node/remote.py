"""A file that is read from elsewhere: its beginning first, and all of it once more is asked for."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import BinaryIO, Final, cast

# Most headers are shorter, and few images.
START: Final = 256 << 10


class _Remote(io.BufferedIOBase):
    def __init__(self, start: bytes, whole: Callable[[], bytes]) -> None:
        self._data, self._whole = start, whole
        self._is_whole = len(start) < START
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int | None = -1, /) -> bytes:
        is_all = size is None or size < 0
        if is_all or self._at + cast(int, size) > len(self._data):
            self._fetch()
        part = self._data[self._at : None if is_all else self._at + cast(int, size)]
        self._at += len(part)
        return part

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        if whence == io.SEEK_END:
            self._fetch()
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: len(self._data)}[whence]
        if base + offset < 0:
            raise ValueError("a place before the beginning")
        self._at = base + offset
        return self._at

    def _fetch(self) -> None:
        if not self._is_whole:
            self._data, self._is_whole = self._whole(), True


def remote_file(start: bytes, whole: Callable[[], bytes]) -> BinaryIO:
    """Make a file of its first `START` bytes, and of what gives all of them.

    Parameters
    ----------
    start : bytes
        Fewer when that is all.
    """
    return cast(BinaryIO, _Remote(start, whole))
