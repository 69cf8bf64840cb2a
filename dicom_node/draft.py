"""A file that is written while its bytes still come, before anybody knows what it is called."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import BinaryIO

from dicom_node import durable

# How much is written between two looks at the disk's free space.
_STEP = 4 << 20


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
    size : int
        In bytes, so far.
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
        self.size = 0
        self.error: OSError | None = None
        self.name, self.descriptor = durable.begin(folder)

    @property
    def sha256(self) -> str:
        """The hash of all bytes so far, in lower-case hexadecimal."""
        return self._hash.hexdigest()

    def write(self, data: bytes | memoryview) -> None:
        """Write more bytes."""
        if self.error is not None:
            return
        try:
            if self.size + len(data) > self._checked:
                self._require_space(_STEP)
                self._checked = self.size + len(data) + _STEP
            self._hash.update(data)
            durable.write_all(self.descriptor, data)
            self.size += len(data)
        except OSError as error:
            self.error = error

    def open(self) -> BinaryIO:
        """Open it for reading, from its beginning.

        Raises
        ------
        OSError
            When not all of it was written.
        """
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
