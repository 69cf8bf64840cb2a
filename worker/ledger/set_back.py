"""Work that a clock has left due too late: it was ahead when the work was owed, and was set back.

A machine that starts with a wrong time would else leave studies in silence until that time comes.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from sqlalchemy import CursorResult, bindparam, case, update
from sqlalchemy.orm import Session

from worker.ledger.claiming import IS_OWED
from worker.ledger.jobs import jobs
from worker.states import JobKind, JobState
from worker.tables import Base, UTCDateTime

# A report that is to be kept, and a notice, may have been told to wait as long as it takes.
_KINDS = (JobKind.CLASSIFY, JobKind.REPORT)
_outages = Base.metadata.tables["outages"]


def bring_forward(
    session: Session,
    destinations: Iterable[str],
    now: datetime,
    longest: timedelta,
    lease: timedelta,
) -> int:
    """Let work be due that is due later than any is; tell how much.

    Parameters
    ----------
    destinations
        Of the reports that are looked at.
    longest
        No classification, report or delivery is due later than that from now.
    lease
        Whoever has such work in hand has so long to say so.
    """
    times = {"now": now, "latest": now + longest, "lease": now + lease}
    here = sum(_brought(session, kind, "", times) for kind in _KINDS)
    return here + sum(_brought(session, JobKind.DELIVER, each, times) for each in destinations)


def _brought(session: Session, kind: JobKind, destination: str, times: dict[str, datetime]) -> int:
    there = {"there": destination, **times}
    if destination:
        session.execute(_TRY_NOW, there)
    brought = session.execute(_BRINGING, {"what": kind, **there})
    assert isinstance(brought, CursorResult)  # what UPDATE gives
    return brought.rowcount


_NOW, _LATEST, _LEASE = (
    bindparam(name, type_=UTCDateTime()) for name in ("now", "latest", "lease")
)
_BRINGING = (
    update(jobs)
    .where(
        jobs.c.kind == bindparam("what"),
        jobs.c.destination == bindparam("there"),
        IS_OWED,
        jobs.c.due_at > _LATEST,
    )
    .values(due_at=case((jobs.c.state == JobState.LEASED, _LEASE), else_=_NOW))
)
_TRY_NOW = (
    update(_outages)
    .where(_outages.c.destination == bindparam("there"), _outages.c.next_try_at > _LATEST)
    .values(next_try_at=_NOW)
)
