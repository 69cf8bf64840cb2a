"""Removing files from the archive: those that are named, and those that nobody names any more.

Everything may be done twice, and by several at once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from typing import Any

from dicom_node import folder_clearance, object_clearance
from dicom_node.folder_clearance import EMPTY_S
from dicom_node.found import Found
from dicom_node.object_archive import ObjectArchive
from dicom_node.store import Store

__all__ = ["EMPTY_S", "Found", "files_in", "remove", "remove_unnamed", "size_of", "walk"]


def _way(archive: Store) -> Any:
    return object_clearance if isinstance(archive, ObjectArchive) else folder_clearance


def remove(archive: Store, paths: Collection[str]) -> None:
    """Remove stored files; those that are gone already are no matter.

    Raises
    ------
    OSError
        When the archive is away (``ENODEV``), or takes no changes now.
    """
    _way(archive).remove(archive, paths)


def size_of(archive: Store, paths: Collection[str]) -> int:
    """Return the size of stored files together; of those that are gone it is nothing."""
    size = 0
    for path in paths:
        with suppress(OSError):
            size += archive.size(path)
    return size


def walk(archive: Store) -> Iterator[Found]:
    """Find all files of the archive but its mark; what fails is raised as they are gone through.

    Raises
    ------
    OSError
        When the archive is away (``ENODEV``).
    """
    yield from _way(archive).walk(archive)


def files_in(archive: Store, folder: str) -> list[Found]:
    """List the files in a folder.

    Raises
    ------
    OSError
        When a bucket does not answer; a folder that cannot be listed has none.
    """
    found: list[Found] = _way(archive).files_in(archive, folder)
    return found


def remove_unnamed(
    archive: Store, found: Found, before: float, is_named: Callable[[Found], bool]
) -> bool:
    """Remove a file that nobody names and that has not been written since; tell whether it went.

    Whoever stores it again meanwhile has it afterwards. One that was left aside, by who died over
    it, comes back if it is named.

    Parameters
    ----------
    before : float
        In seconds since 1970.
    is_named : callable
        Tells whether anybody names the file.

    Raises
    ------
    OSError
        When the archive is away (``ENODEV``), or takes no changes now.
    """
    return bool(_way(archive).remove_unnamed(archive, found, before, is_named))
