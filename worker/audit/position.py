"""How far the audit trail has been sent: which file, and how many bytes of it.

A file is known by its first line, which holds when and by whom it was written: its name changes
when it is rotated, and the number of its inode is used again.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

ENDING = ".sent"
_PACKED = (".gz", ".bz2", ".xz", ".zst")
LONGEST_LINE = 1_000_000


@dataclass(frozen=True, slots=True)
class Position:
    """A place in the audit trail.

    Attributes
    ----------
    file : str
        SHA-256 of the first line of the file, hexadecimal.
    offset : int
        In bytes; all before it has been sent.
    """

    file: str
    offset: int


class PositionFile:
    """Keeps the position beside the audit file, and keeps other processes from sending as well.

    Parameters
    ----------
    path : Path
        The audit file.

    Raises
    ------
    BlockingIOError
        When another process sends it already.
    OSError
        When the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        name = path.with_name(path.name + ENDING)
        self._descriptor = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._descriptor)
            raise

    def load(self) -> tuple[Position | None, int]:
        """Give the position, and when it was saved, in nanoseconds; None before the first time."""
        data = os.pread(self._descriptor, 1000, 0)
        saved_at = os.fstat(self._descriptor).st_mtime_ns
        try:
            known = json.loads(data)
            return Position(str(known["file"]), int(known["offset"])), saved_at
        except (ValueError, KeyError, TypeError):
            return None, saved_at

    def save(self, position: Position) -> None:
        """Save the position, durably.

        Raises
        ------
        OSError
            When that failed.
        """
        record = {"file": position.file, "offset": position.offset}
        # Of one length, so that it is replaced as a whole.
        os.pwrite(self._descriptor, json.dumps(record).ljust(127).encode() + b"\n", 0)
        os.fsync(self._descriptor)

    def close(self) -> None:
        """Let another process send."""
        os.close(self._descriptor)


def name_of(file: BinaryIO) -> str | None:
    """Name an open file by its first line; None while it has none."""
    file.seek(0)
    line = file.readline(LONGEST_LINE)
    return hashlib.sha256(line).hexdigest() if line.endswith(b"\n") else None


def files_of(path: Path) -> list[Path]:
    """List the audit file and the rotated ones beside it, the oldest first."""
    ages: dict[Path, tuple[bool, int]] = {}
    for each in path.parent.glob(f"{path.name}*"):
        if _is_of(path, each):
            with suppress(FileNotFoundError):  # just rotated again
                ages[each] = (each == path, each.stat().st_mtime_ns)
    return sorted(ages, key=ages.__getitem__)


def _is_of(path: Path, each: Path) -> bool:
    ending = each.name.removeprefix(path.name)
    rotated = not ending or ending[0] in ".-"
    return rotated and each.suffix not in (ENDING, *_PACKED)
