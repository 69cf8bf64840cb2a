"""Claiming: which owed work may be done now, and taking it.

A claim reads the few jobs that it takes, whatever else is owed, due later or given up. So these
statements go by indexes alone; each is built once, as building them takes longer than running them.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import cache
from typing import Any

from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
    Row,
    Select,
    bindparam,
    case,
    exists,
    func,
    literal,
    select,
    text,
    union_all,
    update,
)
from sqlalchemy.orm import Session

from worker.ledger.jobs import BY_DESTINATION, Claim, dialect_of, jobs
from worker.states import JobKind, JobState
from worker.tables import LEASED, OWED, Base, UTCDateTime

outages, receptions = (Base.metadata.tables[name] for name in ("outages", "receptions"))

NOW = bindparam("now", type_=UTCDateTime())
SINCE = bindparam("since", type_=UTCDateTime())
IS_OWED = text(f"jobs.{OWED}")


def claimable(kind: JobKind, now: datetime, silence: timedelta) -> list[ColumnElement[bool]]:
    """Give the terms by which jobs that are named besides may be claimed now.

    They are not those of the index of all that is owed: the names are to be looked up.
    """
    due = [jobs.c.kind == kind, jobs.c.state != JobState.DEAD, jobs.c.due_at <= now]
    return due + (_ready(now - silence) if kind is JobKind.REPORT else [])


def _due_terms(kind: JobKind, destination: Any, now: Any, since: Any) -> list[Any]:
    """Give the terms by which a job is due; the first are those of an index, in its order."""
    return [
        jobs.c.kind == kind,
        jobs.c.destination == destination,
        IS_OWED,
        jobs.c.due_at <= now,
        *(_ready(since) if kind is JobKind.REPORT else ()),
    ]


def _ready(since: Any) -> list[ColumnElement[bool]]:
    """Tell whether a study may be reported: nobody is sending it, nothing is left to classify.

    A reception that has been silent since `since`, longer than the network timeout, belongs to a
    node that died; it holds up nothing.
    """
    other = jobs.alias("other")
    sending = select(receptions.c.study_id).where(
        receptions.c.study_id == jobs.c.study_id, receptions.c.last_at > since
    )
    classifying = select(other.c.id).where(
        other.c.study_id == jobs.c.study_id, other.c.kind == JobKind.CLASSIFY
    )
    # OFFSET has PostgreSQL ask for one study after the other, and not join all first.
    return [~exists(sending.offset(0)), ~exists(classifying.offset(0))]


def _free(kind: JobKind, destination: Any, now: Any) -> list[ColumnElement[bool]]:
    """Give the terms by which a destination may get something: it is not away, and not busy.

    One at a time: a peer that hangs holds one worker then, and never all of them.
    """
    leased = jobs.alias("leased")
    away = (outages.c.destination == destination, outages.c.next_try_at > now)
    busy = (
        leased.c.kind == kind,
        leased.c.destination == destination,
        text(f"leased.{LEASED}"),
        leased.c.due_at > now,
    )
    return [~exists().where(*away), ~exists().where(*busy)]


# --- claim -----------------------------------------------------------------------------------


def claim(
    session: Session,
    kind: JobKind,
    limit: int,
    now: datetime,
    lease: timedelta,
    *,
    silence: timedelta = timedelta(seconds=60),
    destination: str = "",
) -> list[Claim]:
    """Claim due work, oldest first, until `now` + `lease`.

    Work that failed or whose worker died is claimed alone, so that a poisonous instance never
    takes its batch mates with it a second time. A lease that ran out is the death of a worker.
    """
    if destination and dialect_of(session) == "postgresql":
        # One after the other: two at once would each see the destination idle.
        session.execute(_TURN, {"place": f"{kind} {destination}"})
    values = {"now": now, "since": now - silence, "destination": destination, "limit": limit}
    due = session.execute(_due(kind), values).all()
    fresh = [job for job in due if not job.attempts]
    taken = fresh if fresh and fresh[0] is due[0] else due[:1]
    if taken:
        session.execute(_LEASING, {"ids": [job.id for job in taken], "until": now + lease})
    return [_claimed(kind, job, now) for job in taken]


_TURN = select(func.pg_advisory_xact_lock(func.hashtext(bindparam("place"))))
_LEASING = (
    update(jobs)
    .where(jobs.c.id.in_(bindparam("ids", expanding=True)))
    .values(
        deaths=jobs.c.deaths + case((jobs.c.state == JobState.LEASED, 1), else_=0),
        state=JobState.LEASED,
        due_at=bindparam("until"),
        token=jobs.c.token + 1,
        attempts=jobs.c.attempts + 1,
    )
)


@cache
def _due(kind: JobKind) -> Select[Any]:
    c, destination = jobs.c, bindparam("destination", type_=jobs.c.destination.type)
    if kind in BY_DESTINATION:
        # None when nothing may be sent there: then no job is looked at.
        free = select(destination).where(*_free(kind, destination, NOW))
        destination = free.scalar_subquery()  # type: ignore[assignment]
    return (
        select(c.id, c.subject_id, c.study_id, c.state, c.token, c.attempts, c.deaths, c.due_at)
        .where(*_due_terms(kind, destination, NOW, SINCE))
        .order_by(c.due_at, c.id)
        .limit(bindparam("limit"))
        .with_for_update(skip_locked=True)
    )


def _claimed(kind: JobKind, job: Row[Any], now: datetime) -> Claim:
    deaths = job.deaths + (job.state == JobState.LEASED)
    return Claim(
        job.id, job.token + 1, kind, job.subject_id, job.study_id, job.attempts + 1, deaths,
        job.due_at, now,
    )  # fmt: skip


# --- what the relay announces ----------------------------------------------------------------


def due_bells(session: Session, now: datetime, silence: timedelta) -> list[tuple[JobKind, str]]:
    """List what is due and unclaimed, as (kind, destination); what the relay announces."""
    found = session.execute(_bells(), {"now": now, "since": now - silence})
    return [(JobKind(kind), destination) for kind, destination in found]


@cache
def _bells() -> CompoundSelect[Any]:
    return union_all(*(_bells_of(kind) for kind in JobKind))


def _bells_of(kind: JobKind) -> Select[str, str]:
    if kind in BY_DESTINATION:
        destination = _destinations(kind).c.destination
        due = exists(select(jobs.c.id).where(*_due_terms(kind, destination, NOW, SINCE)))
        return select(literal(kind.value), destination).where(due, *_free(kind, destination, NOW))
    due = exists(select(jobs.c.id).where(*_due_terms(kind, "", NOW, SINCE)))
    return select(literal(kind.value), literal("")).where(due)


def _destinations(kind: JobKind) -> Any:
    """Give the destinations to which work is owed, from one to the next, however much it is."""
    least = select(func.min(jobs.c.destination)).where(jobs.c.kind == kind, IS_OWED)
    first = select(least.scalar_subquery().label("destination"))
    found = first.cte(f"to_{kind.lower()}", recursive=True)
    after = least.where(jobs.c.destination > found.c.destination).scalar_subquery()
    return found.union_all(select(after).where(found.c.destination.is_not(None)))


@cache
def destinations_owed(kind: JobKind) -> Select[Any]:
    """Select the destinations to which work of a kind is owed."""
    found = _destinations(kind)
    return select(found.c.destination).where(found.c.destination.is_not(None))
