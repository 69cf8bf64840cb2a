"""How far the audit trail has been sent: which file, and how many bytes of it.

A file is known by its first line, which holds when and by whom it was written: its name changes
when it is rotated, and the number of its inode is used again.
"""

from __future__ import annotations

import fcntl
import glob
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
    """A place in the audit trail, and when it was reached.

    Attributes
    ----------
    file : str
        SHA-256 of the first line of the file, hexadecimal.
    offset : int
        In bytes; all before it has been sent.
    saved_at : int
        When it was saved, in nanoseconds.
    """

    file: str
    offset: int
    saved_at: int = 0


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

    def load(self) -> Position | None:
        """Give the position; None before the first time."""
        return _read(self._descriptor)

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


def saved_position(path: Path) -> Position | None:
    """Give the position of an audit file, whoever is sending it; None before the first time."""
    try:
        with path.with_name(path.name + ENDING).open("rb") as file:
            return _read(file.fileno())
    except FileNotFoundError:
        return None


def _read(descriptor: int) -> Position | None:
    data = os.pread(descriptor, 1000, 0)
    try:
        known = json.loads(data)
        saved_at = os.fstat(descriptor).st_mtime_ns
        return Position(str(known["file"]), int(known["offset"]), saved_at)
    except (ValueError, KeyError, TypeError):
        return None


def name_of(file: BinaryIO) -> str | None:
    """Name an open file by its first line; None while it has none."""
    file.seek(0)
    line = file.readline(LONGEST_LINE)
    return hashlib.sha256(line).hexdigest() if line.endswith(b"\n") else None


def files_of(path: Path) -> list[Path]:
    """List the audit file and the rotated ones beside it, the oldest first."""
    ages: dict[Path, tuple[bool, int]] = {}
    for each in path.parent.glob(f"{glob.escape(path.name)}*"):
        if _is_of(path, each):
            with suppress(FileNotFoundError):  # just rotated again
                ages[each] = (each == path, each.stat().st_mtime_ns)
    return sorted(ages, key=ages.__getitem__)


def _is_of(path: Path, each: Path) -> bool:
    ending = each.name.removeprefix(path.name)
    rotated = not ending or ending[0] in ".-"
    return rotated and each.suffix not in (ENDING, *_PACKED)
