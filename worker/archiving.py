"""The archive as the database knows it: whether what is in its place is the archive at all."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from sqlalchemy.exc import DBAPIError

from dicom_node.archive import MARK
from dicom_node.store import Store
from worker import ledger
from worker.database import SessionFactory

log = logging.getLogger(__name__)

# Of the newest instances a few may have been removed by a person.
_LOOKED_AT = 20
NOT_OURS = (
    "CXR_ARCHIVE holds nothing of what the database knows; perhaps its disk is not mounted. "
    f"If the files are lost for good, make an empty file {MARK} there"
)


def wait_for_archive(
    archive: Store,
    sessions: SessionFactory,
    stopped: threading.Event,
    turned: Callable[[], None] = lambda: None,
) -> None:
    """Wait until the archive is there; make it, with its mark, when nothing speaks against it.

    What is written to the mount point of a disk that is not mounted would be hidden, and so lost,
    when it is.

    Parameters
    ----------
    archive : Store
        Not made yet.
    sessions : callable
        Gives sessions that read.
    stopped : threading.Event
        Ends the waiting.
    turned : callable
        Called after each look that was in vain.
    """
    told = False
    while not stopped.is_set():
        why = made(archive, sessions)
        if not why:
            return
        if not told:
            log.warning("waiting for the archive: %s", why)
        told = True
        turned()
        stopped.wait(1)


def made(archive: Store, sessions: SessionFactory) -> str:
    """Make the archive where it is missing and may be made; tell why it is not there, or ""."""
    try:
        if not archive.is_there():
            if not may_be_ours(archive, sessions):
                return NOT_OURS
            archive.make()
    except OSError as error:
        return f"CXR_ARCHIVE cannot be used: {error.strerror}"
    except DBAPIError as error:
        return f"the database is away: {type(error.orig).__name__}"
    return ""


def may_be_ours(archive: Store, sessions: SessionFactory) -> bool:
    """Tell whether a folder without a mark may be taken for the archive.

    It may when the database knows of no instance, or when one of the newest is there: then it is
    the archive of an earlier version.

    Raises
    ------
    OSError
        When the folder cannot be looked into.
    """
    with sessions() as session:
        newest = ledger.newest_paths(session, _LOOKED_AT)
    return not newest or any(archive.has(path) for path in newest)
