"""Owed work: owing it, claiming it, striking it off, giving it up."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, CursorResult, Result, delete, exists, func, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session, aliased

from worker.states import JobKind, JobState, StudyEvent, StudyState, after
from worker.tables import Base, Job, Outage, Reception, Study

# Kinds of work that is done for one destination at a time.
BY_DESTINATION = frozenset({JobKind.DELIVER, JobKind.COMMIT})


class LeaseLost(Exception):
    """Someone else holds the work by now: write nothing."""


@dataclass(frozen=True, slots=True)
class Claim:
    """Work that this process holds until its lease expires."""

    job_id: int
    token: int
    kind: JobKind
    subject_id: int
    study_id: int
    attempts: int
    deaths: int = 0

    @property
    def tries(self) -> int:
        """How often it was tried, this time included, without the tries that a death ended."""
        return self.attempts - self.deaths


def insert(session: Session, table: type[Base]) -> Any:
    """Give the dialect's INSERT, which knows ON CONFLICT."""
    dialect = session.get_bind().dialect.name
    return (sqlite if dialect == "sqlite" else postgresql).insert(table)


def move(study: Study, event: StudyEvent) -> None:
    """Move a study on by the table of transitions."""
    study.state = after(StudyState(study.state), event)


def owe(
    session: Session,
    kind: JobKind,
    subject_id: int,
    study_id: int,
    due_at: datetime,
    destination: str = "",
) -> None:
    """Owe work, or owe it anew: a worker that is at it loses its lease, as its input changed."""
    statement = insert(session, Job).values(
        kind=kind, subject_id=subject_id, study_id=study_id, due_at=due_at,
        destination=destination, state=JobState.DUE, token=0, attempts=0, deaths=0,
    )  # fmt: skip
    session.execute(
        statement.on_conflict_do_update(
            index_elements=["kind", "subject_id"],
            set_={
                "due_at": statement.excluded.due_at,
                "state": JobState.DUE,
                "attempts": 0,
                "deaths": 0,
                "token": Job.token + 1,
                "last_error": None,
            },
        )
    )


def _ready(now: datetime, silence: timedelta) -> ColumnElement[bool]:
    """Tell whether a study may be reported: nobody is sending it, nothing is left to classify.

    A reception that has been silent for longer than the network timeout belongs to a node that
    died; it holds up nothing.
    """
    unclassified = aliased(Job)
    sending = exists().where(Reception.study_id == Job.study_id, Reception.last_at > now - silence)
    classifying = exists().where(
        unclassified.study_id == Job.study_id, unclassified.kind == JobKind.CLASSIFY
    )
    return ~sending & ~classifying


def claimable(
    kind: JobKind, now: datetime, silence: timedelta, destination: str | None = None
) -> list[ColumnElement[bool]]:
    """Give the terms by which a job may be claimed now."""
    where = [Job.kind == kind, Job.state != JobState.DEAD, Job.due_at <= now]
    if kind is JobKind.REPORT:
        where.append(_ready(now, silence))
    if kind in BY_DESTINATION:
        away = exists().where(Outage.destination == Job.destination, Outage.next_try_at > now)
        where.append(~away)
    if destination is not None:
        where += [Job.destination == destination, ~_busy(kind, destination, now)]
    return where


def _busy(kind: JobKind, destination: str, now: datetime) -> ColumnElement[bool]:
    """Tell whether work of a kind is under way at a destination.

    One at a time: a peer that hangs holds one worker then, and never all of them.
    """
    other = aliased(Job)
    return exists().where(
        other.kind == kind,
        other.destination == destination,
        other.state == JobState.LEASED,
        other.due_at > now,
    )


def claim(
    session: Session,
    kind: JobKind,
    limit: int,
    now: datetime,
    lease: timedelta,
    *,
    silence: timedelta = timedelta(seconds=60),
    destination: str | None = None,
) -> list[Claim]:
    """Claim due work, oldest first, until `now` + `lease`.

    Work that failed or whose worker died is claimed alone, so that a poisonous instance never
    takes its batch mates with it a second time. A lease that ran out is the death of a worker.
    """
    if destination is not None and session.get_bind().dialect.name == "postgresql":
        # One after the other: two at once would each see the destination idle.
        turn = func.pg_advisory_xact_lock(func.hashtext(f"{kind} {destination}"))
        session.execute(select(turn))
    jobs = session.scalars(
        select(Job)
        .where(*claimable(kind, now, silence, destination))
        .order_by(Job.due_at, Job.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    ).all()
    fresh = [job for job in jobs if not job.attempts]
    jobs = fresh if fresh and fresh[0] is jobs[0] else jobs[:1]
    for job in jobs:
        job.deaths += job.state == JobState.LEASED
        job.state, job.due_at = JobState.LEASED, now + lease
        job.token += 1
        job.attempts += 1
    session.flush()
    return [
        Claim(job.id, job.token, kind, job.subject_id, job.study_id, job.attempts, job.deaths)
        for job in jobs
    ]


def extend(session: Session, claim_: Claim, until: datetime) -> None:
    """Keep claimed work for longer; what was lost or put back meanwhile stays so."""
    mine = (Job.id == claim_.job_id, Job.token == claim_.token, Job.state == JobState.LEASED)
    session.execute(update(Job).where(*mine).values(due_at=until))


def is_held(session: Session, claim_: Claim) -> bool:
    """Take the study for a change, and tell whether nobody has taken claimed work over."""
    session.get_one(Study, claim_.study_id, with_for_update=True)
    mine = exists().where(Job.id == claim_.job_id, Job.token == claim_.token)
    return bool(session.scalar(select(mine)))


def due_bells(session: Session, now: datetime, silence: timedelta) -> list[tuple[JobKind, str]]:
    """List what is due and unclaimed, as (kind, destination); what the relay announces."""
    bells: list[tuple[JobKind, str]] = []
    for kind in JobKind:
        where = claimable(kind, now, silence)
        if kind in BY_DESTINATION:
            found = session.scalars(select(Job.destination).where(*where).distinct()).all()
            free = [each for each in found if not session.scalar(select(_busy(kind, each, now)))]
            bells += [(kind, destination) for destination in free]
        elif session.scalar(select(Job.id).where(*where).limit(1)) is not None:
            bells.append((kind, ""))
    return bells


def settle(session: Session, claim_: Claim) -> None:
    """Strike done work off.

    Raises
    ------
    LeaseLost
        When the lease expired and was taken over, or the work is owed anew.
    """
    done = session.execute(delete(Job).where(Job.id == claim_.job_id, Job.token == claim_.token))
    if _count(done) != 1:
        raise LeaseLost(f"{claim_.kind} of {claim_.subject_id}")


def drop(session: Session, claims: Sequence[Claim]) -> None:
    """Strike off work that is not wanted any more, if nobody else has it by now."""
    for claim_ in claims:
        with suppress(LeaseLost):
            settle(session, claim_)


def put_back(
    session: Session, claim_: Claim, due_at: datetime, error: str, *, counts: bool = True
) -> bool:
    """Release work that failed, to be tried again at `due_at`; False when the lease was lost.

    A try that says nothing about the work itself does not count as one.
    """
    attempts = claim_.attempts if counts else claim_.attempts - 1
    return _rewrite(
        session, claim_, state=JobState.DUE, due_at=due_at, last_error=error, attempts=attempts
    )


def hand_back(
    session: Session, claim_: Claim, due_at: datetime, error: str, *, counts: bool
) -> None:
    """Release work that its worker could not finish; where it lost the lease, that was no death."""
    mine = (Job.id == claim_.job_id, Job.token == claim_.token)
    state = session.scalar(select(Job.state).where(*mine).with_for_update())
    if state is None:
        take_death_back(session, claim_)
    elif state == JobState.LEASED:  # else the step has said what becomes of it
        put_back(session, claim_, due_at, error, counts=counts)


def take_death_back(session: Session, claim_: Claim) -> None:
    """Count a death less: whoever lost this lease is alive, and says so.

    It stood still, or could not reach the database, until another took the work over.
    """
    taken_over = (Job.id == claim_.job_id, Job.token > claim_.token, Job.deaths > 0)
    fewer = {"deaths": Job.deaths - 1, "attempts": Job.attempts - 1}
    session.execute(update(Job).where(*taken_over).values(fewer))


def bury(session: Session, claim_: Claim, error: str) -> bool:
    """Give work up, for a person to see; the study is FAILED.

    Not so by a commitment: the destination has the report.
    """
    study = session.get_one(Study, claim_.study_id, with_for_update=True)
    if not _rewrite(session, claim_, state=JobState.DEAD, last_error=error):
        return False
    if claim_.kind is not JobKind.COMMIT:
        move(study, StudyEvent.GIVEN_UP)
    return True


def note_dead_letters(session: Session, study: Study) -> None:
    """Let a study be FAILED that something was given up of, whatever else has just come about."""
    dead = (Job.study_id == study.id, Job.state == JobState.DEAD, Job.kind != JobKind.COMMIT)
    if session.scalar(select(Job.id).where(*dead).limit(1)) is not None:
        move(study, StudyEvent.GIVEN_UP)


def give_up(session: Session, kind: JobKind, subject_id: int, error: str) -> None:
    """Give work up that nobody holds, or take it from who does."""
    session.execute(
        update(Job)
        .where(Job.kind == kind, Job.subject_id == subject_id)
        .values(state=JobState.DEAD, last_error=error, token=Job.token + 1)
    )


def _rewrite(session: Session, claim_: Claim, **values: Any) -> bool:
    changed = session.execute(
        update(Job).where(Job.id == claim_.job_id, Job.token == claim_.token).values(**values)
    )
    return _count(changed) == 1


def _count(result: Result[Any]) -> int:
    assert isinstance(result, CursorResult)  # what UPDATE and DELETE give
    return result.rowcount


def dead_letters(session: Session) -> Sequence[tuple[Job, str]]:
    """List given-up work with the UID of its study."""
    rows = session.execute(
        select(Job, Study.study_instance_uid)
        .join(Study, Study.id == Job.study_id)
        .where(Job.state == JobState.DEAD)
        .order_by(Job.id)
    )
    return [(job, uid) for job, uid in rows]


def depth(session: Session) -> dict[str, int]:
    """Count owed work by kind and state, such as ``CLASSIFY DUE``."""
    rows = session.execute(select(Job.kind, Job.state, func.count()).group_by(Job.kind, Job.state))
    return {f"{kind} {state}": count for kind, state, count in rows}
