"""The archive in a bucket: the same names and promises as in a folder, over `Objects`.

Success comes after the store's answer to the one request that writes an object, which holds its
hash. What is large waits on a disk of this machine until it is complete; what waits there has no
name, so that it is gone as soon as the process is.
"""

from __future__ import annotations

import errno
import hashlib
import os
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final

from dicom_node import durable
from dicom_node.archive import (
    MARK,
    MARK_TEXT,
    QUARANTINE,
    StoredFile,
    free_within,
    name_of,
    remove_all,
    stale,
)
from dicom_node.draft import Draft
from dicom_node.objects import Entry, Objects
from dicom_node.remote import remote_file

# For how long it counts that the mark was there.
MARK_GOOD_S: Final = 60.0
# An object older than this is written again when it comes again: whoever removes what nobody names
# leaves alone what is younger than an hour.
YOUNG_S: Final = 600.0
# So much of an object is had to be compared.
_AT_ONCE: Final = 16 << 20


class ObjectArchive:
    """Instances and reports in a bucket; safe to share between threads and processes.

    Parameters
    ----------
    place : str
        Its URL, for a person.
    objects : Objects
        What lies there.
    spool : Path
        A folder of this machine for what comes in and is large; made when it is needed.
    reserve_bytes : int
        Free space that must remain on the spool's disk; less raises ``OSError`` (``ENOSPC``).
    """

    def __init__(self, place: str, objects: Objects, spool: Path, reserve_bytes: int = 0) -> None:
        self.place = place
        self.objects = objects
        self.spool = spool
        self.reserve_bytes = reserve_bytes
        self.is_slow_to_remove = False  # whether the last removal was not answered in time
        self._marked_at = -MARK_GOOD_S

    def make(self) -> None:
        """Put the mark into the bucket, which must exist.

        Raises
        ------
        OSError
            When the store does not take it.
        """
        sha256 = hashlib.sha256(MARK_TEXT).hexdigest()
        with suppress(FileExistsError):
            self.objects.put(MARK, MARK_TEXT, sha256, anew=True)

    def is_there(self) -> bool:
        """Ask the store for the mark."""
        try:
            self.objects.look(MARK)
        except OSError:
            return False
        self._marked_at = time.monotonic()
        return True

    def require(self, *, anew: bool = False) -> None:
        """See that it is the archive; the mark is asked for once a minute.

        Parameters
        ----------
        anew : bool
            Ask for it in any case.

        Raises
        ------
        OSError
            ``ENODEV`` when it has no mark, else why the store does not answer.
        """
        if not anew and time.monotonic() - self._marked_at < MARK_GOOD_S:
            return
        try:
            self.objects.look(MARK)
        except FileNotFoundError as error:
            raise OSError(
                errno.ENODEV, f"CXR_ARCHIVE has no {MARK}, so it is not the archive"
            ) from error
        self._marked_at = time.monotonic()

    def write(
        self, study_instance_uid: str, sop_instance_uid: str, data: bytes | memoryview
    ) -> StoredFile:
        """Store `data`; when this returns the store has answered for it.

        The name holds the content's hash: writing the same bytes again changes nothing, and other
        bytes under the same UID never touch the first.

        Raises
        ------
        InvalidInstance
            When a UID cannot be part of a path.
        OSError
            When the store cannot be reached, or does not take the bytes.
        """
        found = StoredFile("", len(data), hashlib.sha256(data).hexdigest())
        return self._store(study_instance_uid, sop_instance_uid, found, data)

    def draft(self, start: bytes) -> Draft:
        """Begin a file on this machine's disk, to be given to `keep` in the end.

        Raises
        ------
        OSError
            When the archive is away, or that disk is full or would be.
        """
        self.require()
        self.spool.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder = os.open(self.spool, os.O_RDONLY | os.O_DIRECTORY)
        try:
            draft = Draft(folder, partial(self._require_space, folder))
        except BaseException:
            os.close(folder)
            raise
        os.unlink(draft.name, dir_fd=folder)  # it stays for as long as it is open
        draft.write(start)
        return draft

    def keep(self, study_instance_uid: str, sop_instance_uid: str, draft: Draft) -> StoredFile:
        """Store what was drafted, as `write` does, and with its errors."""
        sha256 = draft.sha256
        if draft.error is not None:
            raise draft.error
        found = StoredFile("", draft.size, sha256)
        opened = Path(f"/proc/self/fd/{draft.descriptor}")
        return self._store(study_instance_uid, sop_instance_uid, found, opened)

    def _store(
        self,
        study_instance_uid: str,
        sop_instance_uid: str,
        found: StoredFile,
        data: bytes | memoryview | Path,
    ) -> StoredFile:
        name = name_of(study_instance_uid, sop_instance_uid, found.sha256)
        path = f"{study_instance_uid}/{name}"
        self.require()
        try:
            self.objects.put(path, data, found.sha256, anew=True)
        except FileExistsError:
            if not self._is_same_and_young(path, found):
                self.objects.put(path, data, found.sha256, anew=False)
        return replace(found, path=path)

    def _is_same_and_young(self, path: str, found: StoredFile) -> bool:
        try:
            there = self.objects.look(path)
            if there.size != found.size or time.time() - there.written_at > YOUNG_S:
                return False
            digest = hashlib.sha256()
            for start in range(0, there.size, _AT_ONCE):
                digest.update(self.objects.part(path, start, start + _AT_ONCE).data)
            return digest.hexdigest() == found.sha256
        except FileNotFoundError:  # it was removed just then
            return False

    def _require_space(self, folder: int, size: int) -> None:
        if self.reserve_bytes and free_within(folder) - size < self.reserve_bytes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def stays(self, path: str) -> bool:
        """Tell, once its row is committed, that what was just written was not removed meanwhile.

        Whoever removes it gives it back where it has a row, and else we see here that it is gone.
        It is asked for always: not every store tells that an object was there before.

        Raises
        ------
        OSError
            When the store does not answer.
        """
        return self.has(path)

    def has(self, path: str) -> bool:
        """Tell whether a stored file is there.

        Raises
        ------
        OSError
            When the store does not answer.
        """
        try:
            self.look(path)
        except FileNotFoundError:
            return False
        return True

    def look(self, path: str) -> Entry:
        """Find a stored file.

        Raises
        ------
        ValueError
            When `path` leads out of the archive.
        OSError
            When it is not there, or the store does not answer.
        """
        return self.objects.look(_inside(path))

    def size(self, path: str) -> int:
        """Return how many bytes a stored file has; raises as `look` does."""
        return self.look(path).size

    def open(self, path: str) -> BinaryIO:
        """Open a stored file for reading; raises as `look` does.

        Its beginning is fetched, and more as it is read; all of one version, or that fails.
        """
        return remote_file(self.objects, _inside(path))

    def read(self, path: str) -> bytes:
        """Return a stored file's bytes; raises as `look` does."""
        return self.objects.read(_inside(path))

    def source(self, path: str) -> Callable[[], bytes]:
        """Give what fetches a stored file, to be sent."""
        return partial(self.read, path)

    def quarantine(self, path: str) -> str:
        """Copy a stored file aside, remove it from its place, and return its new relative path.

        Raises
        ------
        OSError
            When it is not there, or the store does not do it.
        """
        aside = f"{QUARANTINE}/{_inside(path)}"
        try:
            self.objects.copy(path, aside)
        except FileNotFoundError:
            # Another thread, which was sent the same, moved it.
            if not self.has(aside):
                raise
        self.objects.remove(path)
        return aside

    def probe(self) -> None:
        """Write an object, and remove it again.

        Raises
        ------
        OSError
            When that cannot be done.
        """
        name = f".doctor-{uuid.uuid4().hex}"
        self.objects.put(name, b"", hashlib.sha256(b"").hexdigest(), anew=True)
        self.objects.remove(name)

    def free_bytes(self) -> int:
        """Return the space that is free for what comes in: a bucket has no end, the spool has.

        Raises
        ------
        OSError
            When the spool's folder cannot be made.
        """
        self.spool.mkdir(mode=0o700, parents=True, exist_ok=True)
        with durable.opened(self.spool) as folder:
            return free_within(folder)

    def remove_partial(self) -> int:
        """Remove from the spool what has a name still: its process died just as it began."""
        return remove_all(self.stale_partial())

    def stale_partial(self) -> Iterator[Path]:
        """Find files of the spool an hour old or more."""
        return stale(self.spool.glob(f".*{durable.PARTIAL}"))


def _inside(path: str) -> str:
    if path.startswith("/") or {"", ".", ".."} & set(path.split("/")):
        raise ValueError("the path leads out of the archive")
    return path
