"""Changes by the command line that are written to the audit trail before they are made."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from worker.command_line import begin

if TYPE_CHECKING:
    from sqlalchemy.orm import Session, sessionmaker

    from worker.audit.messages import Person, StudyOf
    from worker.audit.schema import Message
    from worker.audit.trail import Trail
    from worker.given_up import WriteDown


def sessions_here() -> sessionmaker[Session]:
    """Read the settings; give sessions on a database whose schema is the one we know."""
    from worker import composition, database

    begin()
    database.require_schema(composition.engine())
    return database.build_sessions(composition.engine())


@contextmanager
def by_whom() -> Iterator[tuple[Trail, Person]]:
    """Give the audit trail, and who is at the command line."""
    from worker import composition, given_up
    from worker.audit.messages import Person

    trail = composition.trail()
    try:
        yield trail, Person(given_up.who())
    finally:
        trail.close()


@contextmanager
def recorded(
    sessions: sessionmaker[Session],
    message: Callable[[Person], Message],
    then: Callable[[], object] = lambda: None,
) -> Iterator[Session]:
    """Give a transaction that is committed once what it does is in the audit trail.

    Parameters
    ----------
    message
        Says what was done, and by whom; asked for once it is done.
    then
        What is done outside the database, once it is written down; the transaction is committed if
        it does not fail.
    """
    with by_whom() as (trail, person), sessions() as session, session.begin():
        yield session
        session.flush()
        trail.record(message(person))
        then()


@contextmanager
def writing_down(message: Callable[[Person, StudyOf], Message]) -> Iterator[WriteDown]:
    """Give what writes down that whoever is at the command line does something about a study.

    Parameters
    ----------
    message
        Says what is done, by whom, about which study.
    """
    from worker.audit.messages import StudyOf

    with by_whom() as (trail, person):
        yield lambda study: trail.record(
            message(person, StudyOf(study.study_instance_uid, study.patient_id))
        )


def doing(what: str) -> Callable[[Person, StudyOf], Message]:
    """Say of a study, in words, what is done about it."""
    from worker.audit.messages import study_changed

    return lambda person, study: study_changed(person, study, what)
