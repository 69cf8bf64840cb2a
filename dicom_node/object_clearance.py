"""Removing objects from the archive in a bucket, as `dicom_node.clearance` says.

Nothing can be renamed there, and nothing is locked. What is removed is copied aside first; who
stored it again meanwhile sees, once it is in a row, that it is gone (`ObjectArchive.stays`).
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress

from dicom_node.archive import MARK
from dicom_node.found import Found, aside_of
from dicom_node.object_archive import ObjectArchive

# There is never anything of this name.
NOTHING = ".cxr-worker-nothing"


def require(archive: ObjectArchive) -> None:
    """Ask the store for the mark, also where it was there a moment ago; raises as `remove` does.

    Some stores read while they remove nothing. Where a removal was not answered in time, one that
    removes nothing is asked for first. (Not always: with versions each would leave a mark.)
    """
    archive.require(anew=True)
    if archive.is_slow_to_remove:
        archive.objects.remove(NOTHING)
        archive.is_slow_to_remove = False


def portions(paths: Sequence[str]) -> list[Sequence[str]]:
    """Divide files into one each: each is a request, between which somebody may look at the clock.

    There is a request for a thousand, but not in all that speaks like S3.
    """
    return [[path] for path in paths]


def remove(archive: ObjectArchive, paths: Collection[str], within_s: float | None = None) -> None:
    """Remove stored files; those that are gone already are no matter.

    Raises
    ------
    OSError
        When the store does not answer, or does not allow it.
    """
    archive.require()
    for path in paths:
        try:
            archive.objects.remove(path, within_s)
        except OSError as error:
            archive.is_slow_to_remove |= error.errno == errno.ETIMEDOUT
            raise


def walk(archive: ObjectArchive) -> Iterator[Found]:
    """Find all files of the archive.

    Raises
    ------
    OSError
        When the store does not answer.
    """
    archive.require()
    yield from (found for found in _below(archive) if found.path != MARK)


def files_in(archive: ObjectArchive, folder: str) -> list[Found]:
    """List the files in a folder; raises as `walk` does."""
    return [each for each in _below(archive, folder) if each.path.rpartition("/")[0] == folder]


def _below(archive: ObjectArchive, folder: str = "") -> Iterator[Found]:
    return (Found(each.path, each.size, each.written_at) for each in archive.objects.below(folder))


def remove_unnamed(
    archive: ObjectArchive, found: Found, before: float, is_named: Callable[[Found], bool]
) -> bool:
    """Remove a file that nobody names and that has not been written since; tell whether it went.

    Parameters
    ----------
    before : float
        In seconds since 1970.
    is_named : callable
        Tells whether anybody names the file.

    Raises
    ------
    OSError
        When the store does not answer, or does not allow it.
    """
    folder, _, name = found.named.rpartition("/")
    aside = f"{folder}/{aside_of(name)}" if folder else aside_of(name)
    archive.require()
    if found.path == found.named and not _put_aside(archive, found, aside, before, is_named):
        return False
    if is_named(found):
        with suppress(FileNotFoundError):  # another process gave it back
            archive.objects.copy(aside, found.named)
        archive.objects.remove(aside)
        return False
    archive.objects.remove(aside)
    return True


def _put_aside(
    archive: ObjectArchive,
    found: Found,
    aside: str,
    before: float,
    is_named: Callable[[Found], bool],
) -> bool:
    """Take the name of a file away, if it may go; a copy stays for who names it just then."""
    if found.written_at >= before or is_named(found):
        return False
    try:
        if archive.objects.look(found.path).written_at >= before:
            return False
        archive.objects.copy(found.path, aside)
    except FileNotFoundError:  # it is being removed by another process
        return False
    archive.objects.remove(found.path)
    return True
