"""Atomic, durable storage of Part 10 bytes, addressed by UID and content.

A file is complete and on the disk, or it is not there under its name: the bytes go to a temporary
file in the same folder, which is fsynced and renamed, and then the folder is fsynced too, and the
name of the folder in the folder above.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import BinaryIO

from dicom_node import durable
from dicom_node.draft import Draft
from dicom_node.errors import InvalidInstance

# PS3.5 9.1: components of digits, without leading zeros, and dots; 64 characters at most. What we
# make of an instance repeats its UIDs: of invalid ones no valid report can be made.
_COMPONENT = r"(?:0|[1-9][0-9]*)"
_UID = re.compile(rf"{_COMPONENT}(?:\.{_COMPONENT})*")
_UID_LENGTH = 64
STALE_S = 3600.0
QUARANTINE = "quarantine"
MARK = ".cxr-worker-archive"
MARK_TEXT = b"""This folder is the archive of cxr-worker.
Where this file is missing, nothing is written: what should be the archive is then, most likely,
the mount point of a disk that is not mounted.
"""


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


def name_of(study_instance_uid: str, sop_instance_uid: str, sha256: str) -> str:
    """Name the file of an instance, which holds the hash of its bytes.

    Raises
    ------
    InvalidInstance
        When a UID cannot be part of a path.
    """
    for uid in (study_instance_uid, sop_instance_uid):
        if not is_valid_uid(uid):
            raise InvalidInstance("UNDECODABLE", "The instance has an invalid UID.")
    return f"{sop_instance_uid}.{sha256[:16]}.dcm"


def _away() -> OSError:
    """Say that what should be the archive is none: the bare mount point of its disk, mostly."""
    return OSError(
        errno.ENODEV,
        f"CXR_ARCHIVE has no {MARK}, so the archive is not there; is its disk mounted?",
    )


class Archive:
    """Instances and reports on disk; safe to share between threads and processes.

    A mark in its folder tells it from the mount point of a disk that is not mounted. Without the
    mark nothing is written; as soon as it is back, writing goes on.

    Parameters
    ----------
    root : Path
        Its folder.
    reserve_bytes : int
        Free space that must remain after a write; less raises ``OSError`` (``ENOSPC``).
    make : bool
        Make the folder and its mark when they are missing; else that is left to `make`.

    Raises
    ------
    OSError
        When the folder or its mark cannot be made.
    """

    def __init__(self, root: Path, reserve_bytes: int = 0, *, make: bool = True) -> None:
        self.root = Path(root).resolve()
        self.reserve_bytes = reserve_bytes
        self._settled = durable.SettledFolders()
        if make:
            self.make()

    @property
    def place(self) -> str:
        """Its folder, for a person."""
        return str(self.root)

    def make(self) -> None:
        """Make the folder and its mark, durably, where they are missing.

        Raises
        ------
        OSError
            When they cannot be made.
        """
        if not self.is_there():
            # The mark comes last: where it is, the folders above are durable.
            durable.make_folder(self.root)
            with durable.opened(self.root) as root:
                durable.write_whole(root, MARK, MARK_TEXT)

    def is_there(self) -> bool:
        """Tell whether the folder is the archive, and not the mount point of its disk."""
        try:
            with self.opened():
                return True
        except OSError:
            return False

    @contextmanager
    def opened(self) -> Iterator[int]:
        """Open the folder, if it is the archive.

        What is written from there goes to the archive's disk, even if that is unmounted meanwhile.

        Raises
        ------
        OSError
            When it is not the archive (``ENODEV``), or cannot be opened.
        """
        try:
            root = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise _away() from error
        try:
            if not durable.is_within(root, MARK):
                raise _away()
            yield root
        finally:
            os.close(root)

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
            When the archive is away (``ENODEV``), its disk is full or would be, or does not take
            the bytes.
        """
        size = len(data)
        found = StoredFile("", size, hashlib.sha256(data).hexdigest())
        uids = (study_instance_uid, sop_instance_uid)
        return self._store(
            *uids, found, size, lambda: data, lambda n, f: durable.write_whole(f, n, data)
        )

    def draft(self, start: bytes) -> Draft:
        """Begin a file of which more is to come, to be given to `keep` in the end.

        Raises
        ------
        OSError
            As `write` does.
        """
        with self.opened() as root:
            folder = os.dup(root)
        try:
            draft = Draft(folder, partial(self._require_space, folder))
        except BaseException:
            os.close(folder)
            raise
        draft.write(start)
        return draft

    def keep(self, study_instance_uid: str, sop_instance_uid: str, draft: Draft) -> StoredFile:
        """Store what was drafted, as `write` does, and with its errors."""

        def read() -> bytes:
            with draft.open() as file:
                return file.read()

        uids = (study_instance_uid, sop_instance_uid)
        found = StoredFile("", draft.size, draft.sha256)
        return self._store(*uids, found, 0, read, draft.finish)

    def _store(
        self,
        study_instance_uid: str,
        sop_instance_uid: str,
        found: StoredFile,
        needed: int,
        read: Callable[[], bytes | memoryview],
        write: Callable[[str, int], None],
    ) -> StoredFile:
        """Store bytes under the name that goes with them, where they are not stored already.

        Parameters
        ----------
        found : StoredFile
            What they are, but for the path.
        needed : int
            How many bytes more of the disk they take.
        read : callable
            Gives them, where a file of that name is there.
        write : callable
            Writes them under a name in an open folder.
        """
        name = name_of(study_instance_uid, sop_instance_uid, found.sha256)
        with self.opened() as root:
            if not self._settle_if_same(root, study_instance_uid, name, found.size, read):
                self._require_space(root, needed)
                try:
                    self._write_within(root, study_instance_uid, name, write)
                except FileNotFoundError:  # the folder was removed just then, as it was empty
                    self._write_within(root, study_instance_uid, name, write)
        return replace(found, path=f"{study_instance_uid}/{name}")

    def _write_within(
        self, root: int, study_instance_uid: str, name: str, write: Callable[[str, int], None]
    ) -> None:
        if durable.make_within(root, study_instance_uid):
            self._settled.forget(study_instance_uid)
        with durable.opened(study_instance_uid, root) as folder:
            write(name, folder)
            self._settled.settle(root, study_instance_uid, folder)

    def _settle_if_same(
        self,
        root: int,
        study_instance_uid: str,
        name: str,
        size: int,
        read: Callable[[], bytes | memoryview],
    ) -> bool:
        try:
            with durable.opened(study_instance_uid, root) as folder:
                if not durable.settle_if_same(folder, name, size, read):
                    return False
                self._settled.settle(root, study_instance_uid, folder)
                return True
        except FileNotFoundError:
            return False

    def _require_space(self, folder: int, size: int) -> None:
        if self.reserve_bytes and free_within(folder) - size < self.reserve_bytes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

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

    def stays(self, path: str) -> bool:
        """Tell, once its row is committed, that what was just written was not removed meanwhile.

        It may have been: the rows that named it before may have gone with the file.

        Raises
        ------
        OSError
            When the disk does not say.
        """
        return self.has(path)

    def has(self, path: str) -> bool:
        """Tell whether a stored file is there."""
        return self.absolute(path).is_file()

    def size(self, path: str) -> int:
        """Return how many bytes a stored file has.

        Raises
        ------
        OSError
            When it is not there.
        """
        return self.absolute(path).stat().st_size

    def source(self, path: str) -> Path:
        """Give a stored file to be sent: by its full path."""
        return self.absolute(path)

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
        parent, name = self.absolute(path).relative_to(self.root).parts
        with self.opened() as root, durable.opened(parent, root) as source:
            durable.make_within(root, QUARANTINE)
            with durable.opened(QUARANTINE, root) as aside:
                self._settled.settle(root, QUARANTINE, aside)
                durable.make_within(aside, parent)
                with durable.opened(parent, aside) as target:
                    os.fsync(aside)
                    _move(name, source, target)
        return f"{QUARANTINE}/{parent}/{name}"

    def probe(self) -> None:
        """Write a file, making the folder, and remove it again.

        Raises
        ------
        OSError
            When that cannot be done.
        """
        self.root.mkdir(0o700, parents=True, exist_ok=True)
        probe = self.root / f".doctor-{os.getpid()}"
        probe.write_bytes(b"")
        probe.unlink()

    def free_bytes(self) -> int:
        """Return the space that is free for us on the archive's disk.

        Raises
        ------
        OSError
            When its folder is not there.
        """
        with durable.opened(self.root) as root:
            return free_within(root)

    def remove_partial(self) -> int:
        """Remove temporary files of writers that died, an hour old or more; return how many.

        What cannot be removed, from a disk that is read-only now, harms nobody.
        """
        return remove_all(self.stale_partial())

    def stale_partial(self) -> Iterator[Path]:
        """Find temporary files of writers that died, an hour old or more."""
        for folder in ("", "*/"):
            yield from stale(self.root.glob(f"{folder}.*{durable.PARTIAL}"))


def stale(files: Iterable[Path]) -> Iterator[Path]:
    """Give those of some files that are an hour old or more."""
    limit = time.time() - STALE_S
    for each in files:
        with suppress(OSError):
            if each.stat().st_mtime < limit:
                yield each


def remove_all(files: Iterable[Path]) -> int:
    """Remove files, those that can be; return how many went."""
    removed = 0
    for each in files:
        with suppress(OSError):
            each.unlink()
            removed += 1
    return removed


def free_within(folder: int) -> int:
    """Return the space that is free for us on the disk of an open folder."""
    disk = os.fstatvfs(folder)
    return disk.f_bavail * disk.f_frsize


def _move(name: str, source: int, target: int) -> None:
    """Move a file from one open folder to another, durably."""
    try:
        os.replace(name, name, src_dir_fd=source, dst_dir_fd=target)
    except FileNotFoundError:
        # Another thread, which was sent the same, moved it.
        if not durable.is_within(target, name):
            raise
    os.fsync(target)
    os.fsync(source)
