"""Removing files from the archive in a folder, as `dicom_node.clearance` says.

What should be the archive must be it: a file that is not at the mount point of a disk that is not
mounted is not gone. Everything may be done twice, and by several at once.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from itertools import groupby
from pathlib import Path

from dicom_node import durable
from dicom_node.archive import MARK, QUARANTINE, Archive
from dicom_node.found import Found, aside_of

# How long a folder stays that is empty: longer than anybody remembers that it is durable.
EMPTY_S = 86_400.0


def require(archive: Archive) -> None:
    """See that the archive is there; raises as `remove` does."""
    with archive.opened():
        pass


def portions(paths: Sequence[str]) -> list[Sequence[str]]:
    """Leave files together: their folder is made durable once."""
    return [paths]


def remove(
    archive: Archive,
    paths: Collection[str],
    within_s: float | None = None,  # noqa: ARG001  a disk answers when it does
) -> None:
    """Remove stored files; those that are gone already are no matter.

    Raises
    ------
    OSError
        When the archive is away (``ENODEV``), or its disk is read-only.
    """
    places = sorted(path.rpartition("/")[::2] for path in paths)
    with archive.opened() as root:
        for parent, names in groupby(places, key=lambda place: place[0]):
            with suppress(FileNotFoundError), durable.opened(parent, root) as folder:
                for _, name in names:
                    with suppress(FileNotFoundError):
                        os.unlink(name, dir_fd=folder)
                os.fsync(folder)


def walk(archive: Archive) -> Iterator[Found]:
    """Find all files of the archive, one folder after the other; folders long empty are removed.

    Raises
    ------
    OSError
        When the archive is away (``ENODEV``).
    """
    require(archive)
    for folder in _folders(archive.root):
        inner = _folders(folder) if folder.name == QUARANTINE else [folder]
        for each in inner:
            yield from files_in(archive, each.relative_to(archive.root).as_posix())
    yield from (found for found in files_in(archive, "") if found.path != MARK)


def _folders(above: Path) -> Iterator[Path]:
    with suppress(OSError), os.scandir(above) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield Path(entry.path)


def files_in(archive: Archive, folder: str) -> list[Found]:
    """List the files in a folder; one that has long been empty is removed."""
    found, is_empty = [], True
    with suppress(OSError), os.scandir(archive.root / folder) as entries:
        for entry in entries:
            is_empty = False
            with suppress(OSError):
                if entry.is_file(follow_symlinks=False):
                    about = entry.stat(follow_symlinks=False)
                    path = f"{folder}/{entry.name}" if folder else entry.name
                    found.append(Found(path, about.st_size, about.st_mtime))
    if is_empty and folder:
        _remove_empty(archive.root / folder)
    return found


def _remove_empty(folder: Path) -> None:
    with suppress(OSError):
        if time.time() - folder.stat().st_mtime > EMPTY_S:
            folder.rmdir()


def remove_unnamed(
    archive: Archive, found: Found, before: float, is_named: Callable[[Found], bool]
) -> bool:
    """Remove a file that nobody names and that has not been written since; tell whether it went.

    Its name is taken away first. Who writes the file meanwhile makes another one of that name, or
    has made it young: then it is given back. One that was left aside comes back if it is named.
    What may be an instance is called as its bytes: there are never others under its name.

    Parameters
    ----------
    before : float
        In seconds since 1970.
    is_named : callable
        Tells whether anybody names the file.

    Raises
    ------
    OSError
        When the archive is away (``ENODEV``), or its disk is read-only.
    """
    folder, _, name = found.named.rpartition("/")
    aside = aside_of(name)
    was_aside = found.path != found.named
    if not was_aside and (found.written_at >= before or is_named(found)):
        return False
    # What is not found is being removed by another process.
    with (
        suppress(FileNotFoundError),
        archive.opened() as root,
        durable.opened(folder or ".", root) as opened,
    ):
        if not was_aside:
            os.rename(name, aside, src_dir_fd=opened, dst_dir_fd=opened)
        written_at = os.stat(aside, dir_fd=opened).st_mtime
        if written_at >= before or is_named(found):
            # What may have been written there meanwhile has the same bytes, as it has the name.
            os.rename(aside, name, src_dir_fd=opened, dst_dir_fd=opened)
            os.fsync(opened)
            return False
        os.unlink(aside, dir_fd=opened)
        os.fsync(opened)
        return True
    return False
