"""Erasing: all that there is here of a study, or of a patient, because a person says so."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from worker import ledger
from worker.desk import Desk
from worker.given_up import WriteDown
from worker.reading import ArchiveAway
from worker.removing import finish, sizes
from worker.tables import Removal, Study


def find(desk: Desk, *, patient_id: str = "", study: str = "") -> Sequence[Study]:
    """Find what is to be erased: the studies of a patient, or one study."""
    with desk.sessions() as session:
        return ledger.studies_of(session, patient_id=patient_id, study_instance_uid=study)


def owing(desk: Desk, studies: Sequence[Study]) -> list[str]:
    """Name those of some studies that owe work, or are being received."""
    since = desk.clock() - desk.silence
    with desk.sessions() as session:
        owes = [each for each in studies if ledger.is_owed(session, each.id, since)]
    return [each.study_instance_uid for each in owes]


def erase(
    desk: Desk,
    studies: Sequence[Study],
    person: str,
    reason: str,
    write_down: WriteDown,
    *,
    even_if_owed: bool,
) -> Iterator[tuple[str, list[Removal] | None, str]]:
    """Erase studies, one after the other.

    Yields
    ------
    tuple
        The study's UID; what was removed, None when it owes work; why files stay for now, or "".
    """
    for study in studies:
        uid, now = study.study_instance_uid, desk.clock()
        size = sizes(desk, study.id)
        with desk.sessions() as session, session.begin():
            # Taken first, so that nothing becomes owed between the look and the deed.
            owes = ledger.is_owed(session, study.id, now - desk.silence, hold=True)
            allowed = even_if_owed or not owes
            erased = (
                ledger.begin_erasure(session, study.id, person, reason, now, size)
                if allowed
                else None
            )
            if erased:
                write_down(study)
        yield uid, erased, _finished(desk, erased or [])


def _finished(desk: Desk, erased: Sequence[Removal]) -> str:
    """Finish what was begun; say why not, where it cannot be done now: then the relay does it."""
    try:
        for removal in erased:
            finish(desk, removal)
    except ArchiveAway as error:
        return str(error)
    return ""
