"""Removes what a removal was begun for: its files, and after them what else it takes.

A removal that was begun is finished by whoever comes next, however often it was tried before.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Sequence

from dicom_node.archive import QUARANTINE
from dicom_node.clearance import (
    Found,
    files_in,
    portions,
    remove,
    remove_unnamed,
    require,
    sizes_of,
)
from worker import ledger
from worker.desk import Desk
from worker.reading import ArchiveAway
from worker.states import RemovalCause, RemovalKind
from worker.tables import Removal

log = logging.getLogger(__name__)

# How many files go while a study's row is held, and for how long it is before the next file has to
# wait: SQLite holds up all writers meanwhile, and PostgreSQL ends what rests for a minute.
FILES_AT_ONCE, HELD_S = 50, 5.0
# How long a bucket may take to answer for the last of them. With the time before, that is less than
# anybody waits for a row: 15 s on PostgreSQL, 30 s on SQLite.
ANSWER_S = 5.0
# What is erased with a study though no row names it: a node that wrote it has recorded it by then.
ERASED_AFTER_S = 3600.0


def sizes(desk: Desk, study_id: int | None) -> Callable[[Collection[str]], int]:
    """Ask how large the reports of a study are, before its row is held; what is not known is 0.

    Parameters
    ----------
    study_id : int or None
        None asks for nothing: the sizes of images are in their rows.
    """
    known: dict[str, int] = {}
    if study_id is not None:
        with desk.sessions() as session:
            paths = ledger.unsized(session, study_id)
        known = sizes_of(desk.archive, sorted(paths))
    return lambda paths: sum(known.get(path, 0) for path in paths)


def finish(desk: Desk, removal: Removal) -> None:
    """Remove the files of a removal, some at a time, and note that it is finished.

    Raises
    ------
    ArchiveAway
        When they cannot be removed now.
    """
    if removal.kind == RemovalKind.RESULTS and removal.cause == RemovalCause.ERASED:
        _remove_leftovers(desk, removal)
    while not _is_through(desk, removal):
        try:
            require(desk.archive)  # here nobody waits with us until it answers
        except OSError as error:
            raise ArchiveAway.because(error) from error
        _remove_some(desk, removal)
    log.info(
        "%s of study %s removed: %d, %d bytes (%s)", removal.kind.lower(),
        removal.study_instance_uid, removal.count, removal.size_bytes, removal.cause.lower(),
    )  # fmt: skip


def _is_through(desk: Desk, removal: Removal) -> bool:
    """Tell whether all files of a removal are gone; then its rows go, too."""
    with desk.sessions() as session, session.begin():
        if ledger.leaving(session, removal, 1):
            return False
        ledger.finish_removal(session, removal, desk.clock())
        return True


def _remove_some(desk: Desk, removal: Removal) -> None:
    with desk.sessions() as session, session.begin():
        # What comes again is entered while nobody has the row: it is no longer among these then.
        gone, error = _removed(desk, ledger.leaving(session, removal, FILES_AT_ONCE))
        if gone:
            ledger.save_gone(session, removal, gone)
    if error is not None:
        raise ArchiveAway.because(error) from error


def _removed(desk: Desk, paths: Sequence[str]) -> tuple[list[str], OSError | None]:
    """Remove files for a few seconds; give those that are gone, and what was in the way."""
    began_at, gone = time.monotonic(), list[str]()
    for few in portions(desk.archive, paths):
        try:
            remove(desk.archive, few, ANSWER_S)
        except OSError as error:  # one that is not answered may be done yet: it is done again
            return gone, error
        gone += few
        if time.monotonic() - began_at > HELD_S:
            break
    return gone, None


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
