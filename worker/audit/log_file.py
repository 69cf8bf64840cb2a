"""The file of the audit trail: one message a line, on the disk before anything is shown.

Several processes append to it, and logrotate moves it away: it is opened again when its name no
longer leads to it.

References
----------
open(2), ``O_APPEND``; flock(2); fsync(2)
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from dicom_node import durable


class LogFile:
    """Appends lines to a file, durably; safe to share between threads and processes.

    Parameters
    ----------
    path : Path
        The file; it and its folder are made when they are missing, for our user alone.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._descriptor: int | None = None

    def append(self, lines: Sequence[bytes]) -> None:
        """Append lines, and return when they are on the disk.

        Parameters
        ----------
        lines
            Each without its end; they hold none.

        Raises
        ------
        OSError
            When that failed; what was written of them is taken back.
        """
        with self._lock, self._open() as descriptor:
            end = os.fstat(descriptor).st_size
            # A process that died while it wrote may have left a part of a line.
            whole = [line + b"\n" for line in lines]
            torn = end > 0 and os.pread(descriptor, 1, end - 1) != b"\n"
            try:
                durable.write_all(descriptor, (b"\n" if torn else b"") + b"".join(whole))
                os.fsync(descriptor)
            except OSError:
                os.ftruncate(descriptor, end)
                raise

    def close(self) -> None:
        """Close the file; it is opened again when it is needed."""
        with self._lock:
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None

    @contextmanager
    def _open(self) -> Iterator[int]:
        """Give the file that has the name now, and keep other processes from writing to it."""
        while True:
            descriptor = self._descriptor
            if descriptor is None:
                descriptor = self._descriptor = self._opened()
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            try:
                if self._is_current(descriptor):
                    yield descriptor
                    return
            finally:
                fcntl.flock(descriptor, fcntl.LOCK_UN)
            os.close(descriptor)
            self._descriptor = None

    def _opened(self) -> int:
        folder = self.path.parent
        if not folder.exists():
            durable.make_folder(folder)
            folder.chmod(0o700)
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        descriptor = os.open(self.path, flags, 0o600)
        with durable.opened(folder) as above:
            os.fsync(above)  # the name, should it be new
        return descriptor

    def _is_current(self, descriptor: int) -> bool:
        try:
            named = self.path.stat()
        except FileNotFoundError:
            return False
        return os.path.samestat(named, os.fstat(descriptor))
