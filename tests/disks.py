"""A disk that forgets what was not fsynced, and writers that stop at any step."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

_CHANGING = ("mkdir", "replace", "rename", "unlink", "fsync")

Inode = tuple[int, int]


class Killed(BaseException):
    """Stands for kill -9: nothing catches it, and nothing is tidied up after it."""


class ForgetfulDisk:
    """Remembers what would be left of a folder after a power cut.

    A file has the content of its last fsync, and a folder the names of its last fsync. What was
    there in the beginning is durable. Inodes are held open, so that none is used twice.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._lock = threading.Lock()
        self._content: dict[Inode, bytes] = {}
        self._names: dict[Inode, dict[str, Inode]] = {}
        self._held: dict[Inode, int] = {}
        self._time, self._times = 0, dict[Inode, int]()
        for folder, _, names in os.walk(root):
            self._note_path(folder)
            for name in names:
                self._note_path(f"{folder}/{name}")

    def close(self) -> None:
        while self._held:
            os.close(self._held.popitem()[1])

    def before_fsync(self, descriptor: int) -> Callable[[], None]:
        """Look at what an fsync will make durable; call the result when it has."""
        with self._lock:
            self._time += 1
            time = self._time
            is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
            if is_folder and not self._has(descriptor):
                return lambda: None
            inode = self._hold(os.dup(descriptor))
            if is_folder:
                names = {name: self._inode(name, descriptor) for name in os.listdir(descriptor)}
                found = {name: each for name, each in names.items() if each is not None}
                return lambda: self._keep(self._names, inode, time, found)
            content = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
            return lambda: self._keep(self._content, inode, time, content)

    def _has(self, folder: int) -> bool:
        """Tell whether a folder is this disk's: the root, or below it."""
        path, root = ".", self.root.stat()
        found = os.stat(path, dir_fd=folder)
        while not os.path.samestat(found, root):
            path += "/.."
            above = os.stat(path, dir_fd=folder)
            if os.path.samestat(found, above):
                return False
            found = above
        return True

    def _keep(self, kept: dict[Inode, Any], inode: Inode, time: int, found: Any) -> None:
        with self._lock:
            if self._times.get(inode, 0) < time:
                self._times[inode] = time
                kept[inode] = found

    def _note_path(self, path: str) -> None:
        descriptor = os.open(path, os.O_RDONLY)
        self.before_fsync(descriptor)()
        os.close(descriptor)

    def _inode(self, name: str, folder: int) -> Inode | None:
        try:
            return self._hold(os.open(name, os.O_RDONLY, dir_fd=folder))
        except FileNotFoundError:  # renamed meanwhile, so not yet durable
            return None

    def _hold(self, descriptor: int) -> Inode:
        found = os.fstat(descriptor)
        inode = (found.st_dev, found.st_ino)
        if inode in self._held:
            os.close(descriptor)
        else:
            self._held[inode] = descriptor
        return inode

    def after_power_cut(self) -> dict[str, bytes | None]:
        """List the files that are left, by path; None where a name is left without its bytes."""
        found = self.root.stat()
        return dict(self._left((found.st_dev, found.st_ino), ""))

    def _left(self, folder: Inode, prefix: str) -> Iterator[tuple[str, bytes | None]]:
        for name, inode in self._names.get(folder, {}).items():
            if stat.S_ISDIR(os.fstat(self._held[inode]).st_mode):
                yield from self._left(inode, f"{prefix}{name}/")
            else:
                yield prefix + name, self._content.get(inode)

    def with_all_names(self) -> dict[str, bytes | None]:
        """List the files when the disk kept every name, and bytes only where it had to."""
        listed: dict[str, bytes | None] = {}
        for folder, _, names in os.walk(self.root):
            for name in names:
                path = Path(folder, name)
                found = path.stat()
                key = path.relative_to(self.root).as_posix()
                listed[key] = self._content.get((found.st_dev, found.st_ino))
        return listed


class Stops:
    """Lets a thread go as far as a step, and no further: it is killed there, or it waits.

    A step is a call of the system that changes names or makes something durable.
    """

    def __init__(self) -> None:
        self._limits: dict[int, tuple[int, Callable[[], None]]] = {}
        self._taken: dict[int, int] = {}

    @contextmanager
    def after(self, steps: int, then: Callable[[], None]) -> Iterator[None]:
        """Call `then` in this thread before each step beyond the first `steps`."""
        me = threading.get_ident()
        self._limits[me], self._taken[me] = (steps, then), 0
        try:
            yield
        finally:
            del self._limits[me]

    def step(self) -> None:
        me = threading.get_ident()
        if me in self._limits:
            self._taken[me] += 1
            steps, then = self._limits[me]
            if self._taken[me] > steps:
                then()


def kill() -> None:
    raise Killed


@contextmanager
def watched(disk: ForgetfulDisk, stops: Stops) -> Iterator[None]:
    """Watch the calls of the system while the block runs."""

    def wrap(name: str) -> Callable[..., Any]:
        call = getattr(os, name)

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            if name != "open" or args[1] & os.O_CREAT:
                stops.step()
            if name != "fsync":
                return call(*args, **kwargs)
            keep = disk.before_fsync(args[0])
            call(*args, **kwargs)
            return keep()

        return wrapped

    with pytest.MonkeyPatch.context() as patch:
        for name in (*_CHANGING, "open"):
            patch.setattr(os, name, wrap(name))
        yield
