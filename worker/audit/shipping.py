"""Sends what is in the file of the audit trail to a syslog receiver, in order, from where it was.

The file is the queue: nothing waits in memory, and what could not be sent is sent later, by this
process or the next. What was sent right before a break may come twice, but nothing is left out.
"""

from __future__ import annotations

import fcntl
import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Protocol

from worker.audit.position import (
    LONGEST_LINE,
    Position,
    PositionFile,
    files_of,
    name_of,
    saved_position,
)

log = logging.getLogger(__name__)

# Messages that are sent before it is asked whether they came, and the position is saved.
BATCH = 100
# How often the file is looked at for what other processes wrote.
LOOK_S = 1.0
RETRY_S, RETRY_MAX_S = 1.0, 60.0


class Sends(Protocol):
    """A connection to a receiver."""

    def send(self, line: bytes) -> None:
        """Send a message, or raise OSError."""

    def confirm(self) -> None:
        """Return when all that was sent has come, or raise OSError."""

    def close(self) -> None:
        """End the connection."""


class Shipping:
    """A thread that sends what the file holds.

    Parameters
    ----------
    path : Path
        The audit file.
    connect : callable
        Opens a connection to the receiver, or raises OSError.
    retry_s, retry_max_s : float
        First and longest wait before a receiver that is away is tried again, in seconds.
    """

    def __init__(
        self,
        path: Path,
        connect: Callable[[], Sends],
        retry_s: float = RETRY_S,
        retry_max_s: float = RETRY_MAX_S,
    ) -> None:
        self.path = path
        self._connect = connect
        self._waits = (retry_s, retry_max_s)
        self._connection: Sends | None = None
        self._seen: list[tuple[int, int]] = []
        self._failures = 0
        self._wake, self._stopped = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="audit", daemon=True)

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def wake(self) -> None:
        """Look at the file now: there is something to send."""
        self._wake.set()

    def stop(self, timeout_s: float = 5.0) -> None:
        """Send what is there if that can be done at once; the rest is sent after the next start."""
        self._stopped.set()
        self._wake.set()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while True:
            last = self._stopped.is_set()
            self._wake.clear()
            wait_s = self._try()
            if last or (wait_s and self._stopped.is_set()):
                break
            if wait_s:  # nothing but the end of the process makes it shorter
                self._stopped.wait(wait_s)
            else:
                self._wake.wait(LOOK_S)
        self._disconnect()

    def _try(self) -> float:
        """Send what there is; give how long to wait before that is tried again, 0 when it went."""
        try:
            self._send_all()
        except BlockingIOError:  # another process sends
            return LOOK_S
        except OSError as error:
            self._disconnect()
            if not self._failures:
                log.warning(
                    "the audit trail cannot be sent (%s) and waits in its file",
                    type(error).__name__,
                )
            self._failures += 1
            first, longest = self._waits
            return float(min(longest, first * 2 ** min(self._failures - 1, 16)))
        if self._failures:
            log.info("the audit trail is sent again")
        self._failures = 0
        return 0

    def _send_all(self) -> None:
        """Send all that was not sent yet, file by file."""
        now = self._state()
        if not now or now == self._seen:
            return
        positions = PositionFile(self.path)
        try:
            with _unsent(self.path, positions.load()) as files:
                for file, offset in files:
                    self._send_file(file, offset, positions)
        finally:
            positions.close()
        self._seen = now

    def _send_file(self, file: BinaryIO, offset: int, positions: PositionFile) -> None:
        # What another process writes at this moment is written when the lock is ours: to a file
        # that has been rotated, nobody writes from then on.
        fcntl.flock(file, fcntl.LOCK_SH)
        fcntl.flock(file, fcntl.LOCK_UN)
        name = name_of(file)
        if name is None:
            return
        file.seek(offset)
        lines = _whole_lines(file)
        while batch := list(islice(lines, BATCH)):
            connection = self._connected()
            for line in batch:
                connection.send(line.rstrip(b"\n"))
            connection.confirm()
            offset += sum(map(len, batch))
            positions.save(Position(name, offset))

    def _connected(self) -> Sends:
        if self._connection is None:
            self._connection = self._connect()
        self._connection.confirm()  # one that has been idle may have been ended
        return self._connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _state(self) -> list[tuple[int, int]]:
        """Tell what changes when something is written or rotated; nothing without a file."""
        found = []
        for each in files_of(self.path):
            with suppress(FileNotFoundError):  # just rotated
                found.append(each.stat())
        return [(each.st_ino, each.st_size) for each in found]


def _whole_lines(file: BinaryIO) -> Iterator[bytes]:
    """Give the lines that are complete; the last one may be under way."""
    while (line := file.readline(LONGEST_LINE)).endswith(b"\n"):
        yield line


def waiting_bytes(path: Path) -> int:
    """Count what was recorded and has not been sent yet."""
    with _unsent(path, saved_position(path)) as files:
        return sum(os.fstat(file.fileno()).st_size - offset for file, offset in files)


@contextmanager
def _unsent(path: Path, position: Position | None) -> Iterator[list[tuple[BinaryIO, int]]]:
    """Open what is to be sent, in its order, each file with where to begin.

    Where the position is None, that is all; where the file of the position is gone, what was
    written to since it was saved.
    """
    with ExitStack() as stack:
        files = _opened(path, stack)
        names = [name_of(file) for _, file in files]
        begun, offset = 0, 0
        if position is not None and position.file in names:
            begun, offset = names.index(position.file), position.offset
        elif position is not None:
            ages = [os.fstat(file.fileno()).st_mtime_ns for _, file in files[:-1]]
            begun = sum(age < position.saved_at for age in ages)
        yield [(file, 0 if i else offset) for i, (_, file) in enumerate(files[begun:])]


def _opened(path: Path, stack: ExitStack) -> list[tuple[Path, BinaryIO]]:
    """Open all files of the trail, the oldest first; as if nothing were rotated meanwhile."""
    while True:
        with suppress(FileNotFoundError):
            files: list[tuple[Path, BinaryIO]]
            files = [(each, stack.enter_context(each.open("rb"))) for each in files_of(path)]
            same = [os.path.samestat(each.stat(), os.fstat(file.fileno())) for each, file in files]
            if all(same) and [each for each, _ in files] == files_of(path):
                return files
        stack.close()
