"""Folders and files that survive a power cut, named from open folders.

A name is durable once its folder is fsynced, and bytes once their file is. Everything is done from
a folder that is open: whatever is mounted or moved meanwhile, it stays in that folder.

References
----------
fsync(2); POSIX.1-2017, ``openat``
"""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PARTIAL = ".partial"


@contextmanager
def opened(path: str | Path, within: int | None = None) -> Iterator[int]:
    """Open a folder, by a path from the open folder `within`; give its descriptor."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY, dir_fd=within)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Make a folder, for its owner alone, and all above it, durably.

    Also what is there is fsynced: whoever made it may have died before that. A folder that we may
    not even list is not one that we made.
    """
    folder.mkdir(0o700, parents=True, exist_ok=True)
    for parent in folder.parents:
        with suppress(PermissionError), opened(parent) as above:
            os.fsync(above)


def make_within(parent: int, name: str) -> bool:
    """Make a folder, and tell so; it becomes durable when `parent` is fsynced."""
    try:
        os.mkdir(name, dir_fd=parent)
    except FileExistsError:
        return False
    return True


def is_within(folder: int, name: str) -> bool:
    """Tell whether a name is in an open folder."""
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def begin(folder: int) -> tuple[str, int]:
    """Make a temporary file in an open folder; give its name and its descriptor."""
    partial = f".{uuid.uuid4().hex}{PARTIAL}"
    return partial, os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666, dir_fd=folder)


def write_all(descriptor: int, data: bytes | memoryview) -> None:
    """Write all of some bytes, which write(2) may do in parts."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def begin_sync(descriptor: int, offset: int, size: int) -> None:
    """Have the disk begin with what was written to a file, so that its fsync has less to wait for.

    That the system may also forget it, once it is on the disk, is a by-effect.

    References
    ----------
    posix_fadvise(2), of Linux: what is dirty is written back before its memory is given up
    """
    with suppress(OSError):
        os.posix_fadvise(descriptor, offset, size, os.POSIX_FADV_DONTNEED)


def finish(descriptor: int, partial: str, source: int, name: str, folder: int) -> None:
    """Fsync a temporary file, and give it its name in one step; fsync the folder of that."""
    os.fsync(descriptor)
    os.replace(partial, name, src_dir_fd=source, dst_dir_fd=folder)
    os.fsync(folder)


def write_whole(folder: int, name: str, data: bytes | memoryview) -> None:
    """Write a temporary file, fsync it, and give it its name in one step; fsync the folder."""
    partial, descriptor = begin(folder)
    try:
        try:
            write_all(descriptor, data)
            finish(descriptor, partial, folder, name, folder)
        finally:
            os.close(descriptor)
    except BaseException:
        with suppress(OSError):
            os.unlink(partial, dir_fd=folder)
        raise


def settle_if_same(
    folder: int, name: str, size: int, read: Callable[[], bytes | memoryview]
) -> bool:
    """Tell whether a file is there with exactly the bytes that `read` gives; make it durable.

    Its writer may have died before it was, or it came back from a copy that nobody fsynced. Who
    removes files that nobody names looks at their age after it took the name away: so it is made
    young, and its name looked at after that.
    """
    try:
        descriptor = os.open(name, os.O_RDONLY, dir_fd=folder)
    except FileNotFoundError:
        return False
    with os.fdopen(descriptor, "rb") as file:
        if os.fstat(descriptor).st_size != size or file.read() != read():
            return False
        with suppress(OSError):  # where it cannot be written to, it is not removed either
            os.utime(descriptor)
        os.fsync(descriptor)
        if not _is_named(descriptor, folder, name):
            return False
    os.fsync(folder)
    return True


def _is_named(descriptor: int, folder: int, name: str) -> bool:
    try:
        named = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(named, os.fstat(descriptor))


class SettledFolders:
    """Remembers which folders this process made durable, so that their parent is fsynced once.

    That a folder is there says nothing: its maker, a thread or a process, may not have come as far
    as the fsync, or have died before it. A folder that was removed and made anew is another one;
    as it may have the number of the one before, none is remembered for as long as an empty folder
    stays.

    Parameters
    ----------
    most : int
        How many are remembered; one that is forgotten costs an fsync.
    lasting_s : float
        For how long.
    """

    def __init__(self, most: int = 4096, lasting_s: float = 3600.0) -> None:
        self._most = most
        self._lasting_s = lasting_s
        self._known: OrderedDict[str, tuple[tuple[int, int], float]] = OrderedDict()
        self._lock = threading.Lock()

    def forget(self, name: str) -> None:
        """Forget a folder that was made anew: its number may be that of the one before."""
        with self._lock:
            self._known.pop(name, None)

    def settle(self, parent: int, name: str, folder: int) -> None:
        """Make the name of an open folder durable in its parent."""
        found = os.fstat(folder)
        identity = (found.st_dev, found.st_ino)
        now = time.monotonic()
        with self._lock:
            known, since = self._known.get(name, (None, now))
            if known == identity and now - since < self._lasting_s:
                self._known.move_to_end(name)
                return
        os.fsync(parent)
        with self._lock:
            self._known[name] = (identity, now)
            while len(self._known) > self._most:
                self._known.popitem(last=False)
