"""Destinations that are away: one try at a time, further and further apart, whatever is owed.

Without this, each of a thousand reports would find out for itself that a destination is dead.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from worker.ledger.jobs import insert
from worker.tables import Outage


def failures_of(session: Session, destination: str) -> int:
    """Count the tries that failed since a destination last answered."""
    found = select(Outage.failures).where(Outage.destination == destination)
    return session.scalar(found) or 0


def save_outage(
    session: Session, destination: str, now: datetime, next_try_at: datetime, error: str
) -> None:
    """Save that a destination could not be reached, or had no room; nothing is sent meanwhile."""
    statement = insert(session, Outage).values(
        destination=destination, since=now, failures=1, next_try_at=next_try_at, last_error=error
    )
    session.execute(
        statement.on_conflict_do_update(
            index_elements=["destination"],
            set_={
                "failures": Outage.failures + 1,
                "next_try_at": statement.excluded.next_try_at,
                "last_error": error,
            },
        )
    )


def end_outage(session: Session, destination: str) -> None:
    """Save that a destination answers."""
    session.execute(delete(Outage).where(Outage.destination == destination))


def outages(session: Session) -> Sequence[Outage]:
    """List the destinations that are away."""
    return session.scalars(select(Outage).order_by(Outage.destination)).all()
