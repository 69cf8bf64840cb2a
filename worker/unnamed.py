"""Files that no row names: left by a node or a worker that died between writing and committing."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from itertools import islice

from dicom_node.clearance import Found, remove_unnamed, walk
from worker import ledger
from worker.desk import Desk
from worker.reading import ArchiveAway
from worker.removing import is_named
from worker.states import RemovalCause

# Who writes a file enters it within seconds, or dies.
UNNAMED_AFTER_S = 86_400.0
# Of how many files is asked at once whether they are named.
ASKED_AT_ONCE = 200


def find(desk: Desk, older_than_s: float = UNNAMED_AFTER_S) -> Iterator[Found]:
    """Find files that no row names and that were written so long ago, by default a day.

    Raises
    ------
    ArchiveAway
        When the archive cannot be looked through now.
    """
    before = time.time() - older_than_s
    try:
        old = (each for each in walk(desk.archive) if each.is_instance and _is_old(each, before))
        while part := list(islice(old, ASKED_AT_ONCE)):
            with desk.sessions() as session:
                named = ledger.named_paths(session, [each.sop_instance_uid for each in part])
            yield from (each for each in part if each.named not in named)
    except OSError as error:
        raise ArchiveAway.because(error) from error


def _is_old(found: Found, before: float) -> bool:
    return found.written_at < before


def remove(desk: Desk, files: Iterable[Found], person: str) -> list[Found]:
    """Remove files that no row names, unless they are named by now; give what went.

    Raises
    ------
    ArchiveAway
        When they cannot be removed now.
    """
    before, gone = time.time() - UNNAMED_AFTER_S, []
    for found in files:
        try:
            went = remove_unnamed(desk.archive, found, before, lambda each: is_named(desk, each))
        except OSError as error:
            raise ArchiveAway.because(error) from error
        if went:
            gone.append(found)
            with desk.sessions() as session, session.begin():
                ledger.save_unnamed(
                    session, found.study_instance_uid, 1, found.size, RemovalCause.UNNAMED,
                    person, desk.clock(),
                )  # fmt: skip
    return gone
