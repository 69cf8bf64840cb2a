"""A file that is written while its bytes still come, before anybody knows what it is called."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import BinaryIO, Final

from dicom_node import durable

# How much is hashed and written at once: what comes in small parts is gathered.
_PIECE: Final = 1 << 20
# How much is written between two looks at the disk's free space.
_STEP: Final = 4 << 20


class Draft:
    """A temporary file in an open folder, hashed as it is written.

    What the disk does not take is kept as `error`, and told to whoever wants to keep the file: who
    writes it is in the middle of receiving, and cannot answer yet.

    Parameters
    ----------
    folder : int
        A descriptor, which becomes the draft's own.
    require_space : callable
        Raises ``OSError`` when the disk should take no more; it gets the number of bytes to come.

    Attributes
    ----------
    error : OSError or None
        Why it cannot be kept.
    """

    def __init__(self, folder: int, require_space: Callable[[int], None]) -> None:
        self._folder = folder
        self._require_space = require_space
        self._hash = hashlib.sha256()
        self._checked = 0
        self._lock = threading.Lock()
        self._is_closed = False
        self._gathered = memoryview(bytearray(_PIECE))
        self._filled = 0
        self._written = 0
        self.error: OSError | None = None
        self.name, self.descriptor = durable.begin(folder)

    @property
    def size(self) -> int:
        """How many bytes it has so far."""
        return self._written + self._filled

    @property
    def sha256(self) -> str:
        """The hash of all bytes so far, in lower-case hexadecimal."""
        self._put_down()
        return self._hash.hexdigest()

    def write(self, data: bytes | memoryview) -> None:
        """Write more bytes."""
        view = memoryview(data)
        while view and self.error is None:
            part = view[: _PIECE - self._filled]
            self._gathered[self._filled : self._filled + len(part)] = part
            self._filled += len(part)
            view = view[len(part) :]
            if self._filled == _PIECE:
                self._put_down()

    def _put_down(self) -> None:
        """Hash and write what was gathered, unless it was discarded meanwhile."""
        with self._lock:
            if not self._is_closed:
                self._put_down_now()

    def _put_down_now(self) -> None:
        data, self._filled = self._gathered[: self._filled], 0
        try:
            if self._written + len(data) > self._checked:
                self._require_space(_STEP)
                self._checked = self._written + len(data) + _STEP
            self._hash.update(data)
            durable.write_all(self.descriptor, data)
            durable.begin_sync(self.descriptor, self._written, len(data))
            self._written += len(data)
        except OSError as error:
            # Its traceback would hold what was to be written, which its owner could not give up.
            self.error = error.with_traceback(None)

    def open(self) -> BinaryIO:
        """Open it for reading, from its beginning.

        Raises
        ------
        OSError
            When not all of it was written.
        """
        self._put_down()
        if self.error is not None:
            raise self.error
        file = os.fdopen(os.dup(self.descriptor), "rb")
        file.seek(0)
        return file

    def finish(self, name: str, folder: int) -> None:
        """Give it its name in an open folder, durably.

        Raises
        ------
        OSError
            When the disk does not take it.
        """
        self._put_down()
        if self.error is not None:
            raise self.error
        durable.finish(self.descriptor, self.name, self._folder, name, folder)

    def discard(self) -> None:
        """Remove it, unless it got its name."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
        os.close(self.descriptor)
        with suppress(OSError):
            os.unlink(self.name, dir_fd=self._folder)
        os.close(self._folder)
