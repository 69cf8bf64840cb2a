"""Removes what a removal was begun for: its files, and after them what else it takes.

A removal that was begun is finished by whoever comes next, however often it was tried before.
"""

from __future__ import annotations

import logging
import time

from dicom_node.archive import QUARANTINE
from dicom_node.clearance import Found, files_in, remove, remove_unnamed
from worker import ledger
from worker.desk import Desk
from worker.reading import ArchiveAway
from worker.states import RemovalCause, RemovalKind
from worker.tables import Removal

log = logging.getLogger(__name__)

# How many files go while a study's row is held.
FILES_AT_ONCE = 50
# What is erased with a study though no row names it: a node that wrote it has recorded it by then.
ERASED_AFTER_S = 3600.0


def finish(desk: Desk, removal: Removal) -> None:
    """Remove the files of a removal, some at a time, and note that it is finished.

    Raises
    ------
    ArchiveAway
        When they cannot be removed now.
    """
    if removal.kind == RemovalKind.RESULTS and removal.cause == RemovalCause.ERASED:
        _remove_leftovers(desk, removal)
    while True:
        with desk.sessions() as session, session.begin():
            paths = ledger.leaving(session, removal, FILES_AT_ONCE)
            if not paths:
                ledger.finish_removal(session, removal, desk.clock())
                break
            try:
                remove(desk.archive, paths)
            except OSError as error:
                raise ArchiveAway.because(error) from error
            ledger.save_gone(session, removal, paths)
    log.info(
        "%s of study %s removed: %d, %d bytes (%s)", removal.kind.lower(),
        removal.study_instance_uid, removal.count, removal.size_bytes, removal.cause.lower(),
    )  # fmt: skip


def finish_removals(desk: Desk, study_instance_uid: str) -> None:
    """Finish what was begun to be removed of a study, before anything of it is written anew.

    Raises
    ------
    ArchiveAway
        When it cannot be removed now.
    """
    with desk.sessions() as session:
        begun = ledger.unfinished_of(session, study_instance_uid)
    for removal in begun:
        finish(desk, removal)


def _remove_leftovers(desk: Desk, removal: Removal) -> None:
    """Remove what else there is of a study that is erased: in quarantine, or in no row."""
    uid, before = removal.study_instance_uid, time.time() - ERASED_AFTER_S
    try:
        aside = files_in(desk.archive, f"{QUARANTINE}/{uid}")
        remove(desk.archive, [found.path for found in aside])
        gone = [
            found
            for found in files_in(desk.archive, uid)
            if remove_unnamed(desk.archive, found, before, lambda each: is_named(desk, each))
        ]
    except OSError as error:
        raise ArchiveAway.because(error) from error
    if left := [*aside, *gone]:
        size = sum(found.size for found in left)
        with desk.sessions() as session, session.begin():
            ledger.save_unnamed(
                session, uid, len(left), size, RemovalCause.ERASED, removal.person, desk.clock()
            )


def is_named(desk: Desk, found: Found) -> bool:
    """Tell whether a row names a file."""
    with desk.sessions() as session:
        return found.named in ledger.named_paths(session, [found.sop_instance_uid])
