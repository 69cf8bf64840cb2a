"""Atomic, durable storage of Part 10 bytes, addressed by UID and content.

A file is complete and on the disk, or it is not there under its name: the bytes go to a temporary
file in the same folder, which is fsynced and renamed, and then the folder is fsynced too.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from dicom_node.errors import InvalidInstance

# PS3.5 9.1: components of digits, without leading zeros, and dots; 64 characters at most. What we
# make of an instance repeats its UIDs: of invalid ones no valid report can be made.
_COMPONENT = r"(?:0|[1-9][0-9]*)"
_UID = re.compile(rf"{_COMPONENT}(?:\.{_COMPONENT})*")
_UID_LENGTH = 64
_PARTIAL = ".partial"
_STALE_S = 3600.0
QUARANTINE = "quarantine"


@dataclass(frozen=True, slots=True)
class StoredFile:
    """Where an instance lies and what it is.

    Attributes
    ----------
    path : str
        Relative to the archive's root, with forward slashes.
    size : int
        In bytes.
    sha256 : str
        Of the whole file, in lower-case hexadecimal.
    """

    path: str
    size: int
    sha256: str


def is_valid_uid(uid: str) -> bool:
    """Tell whether `uid` may be stored, and so become part of a path.

    References
    ----------
    DICOM PS3.5 9.1
    """
    return len(uid) <= _UID_LENGTH and _UID.fullmatch(uid) is not None


def _fsync_folder(folder: Path) -> None:
    """Make the names in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _make_folder(folder: Path) -> None:
    """Make `folder`, durably: its name is in its parent, so the parent is fsynced."""
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    _fsync_folder(folder.parent)


class Archive:
    """Instances and reports on disk; safe to share between threads and processes.

    Parameters
    ----------
    root : Path
        Made when it is missing.
    reserve_bytes : int
        Free space that must remain after a write; less raises ``OSError`` (``ENOSPC``).

    Raises
    ------
    OSError
        When the folder cannot be made.
    """

    def __init__(self, root: Path, reserve_bytes: int = 0) -> None:
        self.root = Path(root).resolve()
        self.reserve_bytes = reserve_bytes
        _make_folder(self.root)

    def write(
        self, study_instance_uid: str, sop_instance_uid: str, data: bytes | memoryview
    ) -> StoredFile:
        """Store `data` durably; when this returns it survives a power cut.

        The name holds the content's hash: writing the same bytes again changes nothing, and other
        bytes under the same UID never touch the first.

        Raises
        ------
        InvalidInstance
            When a UID cannot be part of a path.
        OSError
            When the disk is full (or would be), or does not take the bytes.
        """
        for uid in (study_instance_uid, sop_instance_uid):
            if not is_valid_uid(uid):
                raise InvalidInstance("UNDECODABLE", "The instance has an invalid UID.")
        digest = hashlib.sha256(data).hexdigest()
        name = f"{sop_instance_uid}.{digest[:16]}.dcm"
        stored = StoredFile(f"{study_instance_uid}/{name}", len(data), digest)
        folder = self.root / study_instance_uid
        if not self._holds(folder / name, data):
            self._require_space(len(data))
            _make_folder(folder)
            self._replace(folder / name, data)
        # Also when the file was there: its writer may have died before this line.
        _fsync_folder(folder)
        return stored

    def _holds(self, path: Path, data: bytes | memoryview) -> bool:
        """Tell whether the file is there with exactly these bytes."""
        try:
            return path.stat().st_size == len(data) and path.read_bytes() == data
        except FileNotFoundError:
            return False

    def _require_space(self, size: int) -> None:
        if self.reserve_bytes and self.free_bytes() - size < self.reserve_bytes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _replace(self, path: Path, data: bytes | memoryview) -> None:
        """Write a temporary file, fsync it, and give it its name in one step."""
        partial = path.with_name(f".{uuid.uuid4().hex}{_PARTIAL}")
        try:
            with partial.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        except BaseException:
            with suppress(OSError):
                partial.unlink()
            raise

    def absolute(self, path: str) -> Path:
        """Return the full path of a stored file.

        Raises
        ------
        ValueError
            When `path` leads out of the archive.
        """
        full = (self.root / path).resolve()
        if not full.is_relative_to(self.root):
            raise ValueError("the path leads out of the archive")
        return full

    def open(self, path: str) -> BinaryIO:
        """Open a stored file for reading.

        Raises
        ------
        OSError
            When it is not there or cannot be read.
        """
        return self.absolute(path).open("rb")

    def read(self, path: str) -> bytes:
        """Return a stored file's bytes.

        Raises
        ------
        OSError
            When it is not there or cannot be read.
        """
        return self.absolute(path).read_bytes()

    def quarantine(self, path: str) -> str:
        """Move a stored file aside, durably, and return its new relative path.

        Raises
        ------
        OSError
            When it is not there or cannot be moved.
        """
        source = self.absolute(path)
        folder = self.root / QUARANTINE / source.parent.name
        _make_folder(folder)
        target = folder / source.name
        source.replace(target)
        _fsync_folder(folder)
        _fsync_folder(source.parent)
        return target.relative_to(self.root).as_posix()

    def free_bytes(self) -> int:
        """Return the space that is free for us on the archive's disk."""
        return shutil.disk_usage(self.root).free

    def remove_partial(self) -> int:
        """Remove temporary files of writers that died, an hour old or more; return how many."""
        limit = time.time() - _STALE_S
        removed = 0
        for partial in self.root.glob(f"*/.*{_PARTIAL}"):
            with suppress(FileNotFoundError):
                if partial.stat().st_mtime < limit:
                    partial.unlink()
                    removed += 1
        return removed
