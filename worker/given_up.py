"""What was given up, for the command line: finding it, trying it again, doing without it."""

from __future__ import annotations

import getpass
import os
from collections.abc import Callable, Iterator, Sequence

from sqlalchemy.orm import Session

from worker import ledger
from worker.database import SessionFactory
from worker.desk import Bell, Desk
from worker.states import JobKind
from worker.tables import Job, Study

# Writes down in the audit trail that something is done about a study; nothing is done if it fails.
WriteDown = Callable[[Study], None]


def dead_letters(sessions: SessionFactory, destination: str | None) -> list[tuple[Job, str]]:
    """List given-up work with the UIDs of its studies: all, or what is owed to a destination."""
    with sessions() as session:
        found = ledger.dead_letters(session)
    return [(job, uid) for job, uid in found if destination in (None, job.destination)]


def studies_with(letters: Sequence[tuple[Job, str]]) -> list[str]:
    """Name the studies of given-up work, each once."""
    return list(dict.fromkeys(uid for _, uid in letters))


def requeue(
    desk: Desk,
    studies: Sequence[str],
    reason: str,
    announce: Callable[[Bell], None],
    person: str,
    write_down: WriteDown,
    *,
    seen: int | None = None,
) -> Iterator[tuple[str, int | None]]:
    """Owe studies again; give each with how many jobs are owed, None when it is unknown.

    `seen` is as in `worker.ledger.requeue`.
    """
    for uid in studies:
        with desk.sessions() as session, session.begin():
            owed = ledger.requeue(session, uid, desk.clock(), reason, person, seen=seen)
            _write_down(session, uid, owed, write_down)
        yield uid, owed
    for kind in (JobKind.CLASSIFY, JobKind.REPORT) if studies else ():
        announce(Bell(kind))


def discard(
    desk: Desk, studies: Sequence[str], reason: str, write_down: WriteDown
) -> Iterator[tuple[str, int | None]]:
    """Strike given-up work off; give each study with how much it was, None when it is unknown."""
    for uid in studies:
        with desk.sessions() as session, session.begin():
            count = ledger.discard(session, uid, reason, who(), desk.clock())
            _write_down(session, uid, count, write_down)
        yield uid, count


def _write_down(session: Session, uid: str, count: int | None, write_down: WriteDown) -> None:
    """Have a change written down, if it is one, once the database took it; then it is committed."""
    if not count:
        return
    session.flush()
    study = ledger.locked_study(session, uid)
    assert study is not None  # it was counted
    write_down(study)


def who() -> str:
    """Name the person at the command line, as the system knows them."""
    try:
        return getpass.getuser()[:64]
    except (KeyError, OSError):  # a container's user without a name
        return f"user {os.getuid()}"
