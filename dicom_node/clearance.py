"""Removing files from the archive: those that are named, and those that nobody names any more.

Everything may be done twice, and by several at once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

from dicom_node import folder_clearance, object_clearance
from dicom_node.folder_clearance import EMPTY_S
from dicom_node.found import Found
from dicom_node.object_archive import ObjectArchive
from dicom_node.store import Store

__all__ = [
    "EMPTY_S", "Found", "files_in", "portions", "remove", "remove_unnamed", "require", "sizes_of",
    "walk",
]  # fmt: skip


def _way(archive: Store) -> Any:
    return object_clearance if isinstance(archive, ObjectArchive) else folder_clearance


def require(archive: Store) -> None:
    """See that the archive is there and answers, before anybody else waits for that.

    Raises
    ------
    OSError
        When the archive is away (``ENODEV``), or a bucket does not answer.
    """
    _way(archive).require(archive)


def portions(archive: Store, paths: Sequence[str]) -> list[Sequence[str]]:
    """Divide files into those that are best removed together: in a bucket each is a request."""
    divided: list[Sequence[str]] = _way(archive).portions(paths)
    return divided


def remove(archive: Store, paths: Collection[str], within_s: float | None = None) -> None:
    """Remove stored files; those that are gone already are no matter.

    Parameters
    ----------
    within_s : float or None
        For how long a bucket may take to answer for each: for who makes others wait.

    Raises
    ------
    OSError
        When the archive is away (``ENODEV``), or takes no changes now.
    """
    _way(archive).remove(archive, paths, within_s)


def sizes_of(archive: Store, paths: Collection[str]) -> dict[str, int]:
    """Give the sizes of stored files, but of those that are gone.

    An archive that does not answer is asked no more: what is not known then is left out.
    """
    sizes: dict[str, int] = {}
    for path in paths:
        try:
            sizes[path] = archive.size(path)
        except FileNotFoundError:
            continue
        except OSError:
            break
    return sizes


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
