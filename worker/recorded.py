"""Changes by the command line that are written to the audit trail before they are made."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlalchemy.orm import Session, sessionmaker

    from worker.audit.messages import Person
    from worker.audit.schema import Message


def sessions_here() -> sessionmaker[Session]:
    """Read the settings; give sessions on a database whose schema is the one we know."""
    from worker import composition, database, logs

    logs.configure(composition.settings().log_level)
    database.require_schema(composition.engine())
    return database.build_sessions(composition.engine())


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
    from worker import composition, given_up
    from worker.audit.messages import Person

    trail = composition.trail()
    try:
        with sessions() as session, session.begin():
            yield session
            session.flush()
            trail.record(message(Person(given_up.who())))
            then()
    finally:
        trail.close()
