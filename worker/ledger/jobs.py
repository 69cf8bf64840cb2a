"""Owed work: owing it, keeping it, striking it off, giving it up.

These statements run several times for each instance. They are built once, and of tables instead of
classes: what SQLAlchemy does to build them costs more than what a database does to run them.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import (
    CursorResult,
    Executable,
    Result,
    bindparam,
    delete,
    exists,
    func,
    select,
    text,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from worker.states import JobKind, JobState, StudyEvent, StudyState, after
from worker.tables import DEAD, Base, Job, Study

# Kinds of work that is done for one destination at a time.
BY_DESTINATION = frozenset({JobKind.DELIVER, JobKind.COMMIT, JobKind.NOTIFY})
# Kinds without which a study is through: its report is where it should be.
BESIDE = frozenset({JobKind.COMMIT, JobKind.NOTIFY})

jobs = Base.metadata.tables["jobs"]


class LeaseLost(Exception):
    """Someone else holds the work by now: write nothing."""


@dataclass(frozen=True, slots=True)
class Claim:
    """Work that this process holds until its lease expires.

    It waited from `due_at` to `claimed_at`: since it was owed, or since another try of it was due.
    """

    job_id: int
    token: int
    kind: JobKind
    subject_id: int
    study_id: int
    attempts: int
    deaths: int = 0
    due_at: datetime | None = None
    claimed_at: datetime | None = None

    @property
    def tries(self) -> int:
        """How often it was tried, this time included, without the tries that a death ended."""
        return self.attempts - self.deaths


def insert(session: Session, table: Any) -> Any:
    """Give the dialect's INSERT, which knows ON CONFLICT."""
    return insert_of(dialect_of(session), table)


def insert_of(dialect: str, table: Any) -> Any:
    """Give the INSERT of a dialect, which knows ON CONFLICT."""
    return (sqlite if dialect == "sqlite" else postgresql).insert(table)


def dialect_of(session: Session) -> str:
    """Name the kind of database."""
    return session.get_bind().dialect.name


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
    owe_all(session, [(kind, subject_id, due_at)], study_id, destination)


def owe_all(
    session: Session,
    owed: Sequence[tuple[JobKind, int, datetime]],
    study_id: int,
    destination: str = "",
) -> None:
    """Owe several things of one study at once, each with its subject and when it is due."""
    rows = [
        {
            "kind": kind, "subject_id": subject_id, "study_id": study_id, "due_at": due_at,
            "destination": destination, "state": JobState.DUE, "token": 0, "attempts": 0,
            "deaths": 0,
        }
        for kind, subject_id, due_at in owed
    ]  # fmt: skip
    session.execute(_owing(dialect_of(session)), rows)


@cache
def _owing(dialect: str) -> Executable:
    statement = insert_of(dialect, jobs)
    owing: Executable = statement.on_conflict_do_update(
        index_elements=["kind", "subject_id"],
        set_={
            "due_at": statement.excluded.due_at,
            "state": JobState.DUE,
            "attempts": 0,
            "deaths": 0,
            "token": jobs.c.token + 1,
            "last_error": None,
        },
    )
    return owing


_MINE = (jobs.c.id == bindparam("job"), jobs.c.token == bindparam("held"))
_HELD = select(exists().where(*_MINE))
_SETTLING = delete(jobs).where(*_MINE)
_EXTENDING = (
    update(jobs)
    .where(*_MINE, jobs.c.state == JobState.LEASED)
    .values(due_at=bindparam("until", type_=jobs.c.due_at.type))
)


def _mine(claim_: Claim) -> dict[str, int]:
    return {"job": claim_.job_id, "held": claim_.token}


def extend(session: Session, claim_: Claim, until: datetime) -> None:
    """Keep claimed work for longer; what was lost or put back meanwhile stays so."""
    session.execute(_EXTENDING, {**_mine(claim_), "until": until})


def locked(session: Session, study_id: int) -> Study:
    """Take a study for a change.

    Raises
    ------
    LeaseLost
        When it was erased, and all work on it with it.
    """
    study = session.scalars(_LOCKED, {"study": study_id}).one_or_none()
    if study is None:
        raise LeaseLost(f"study {study_id}")
    return study


_LOCKED = (
    select(Study)
    .where(Study.id == bindparam("study"))
    .with_for_update()
    .execution_options(populate_existing=True)
)


def is_held(session: Session, claim_: Claim) -> bool:
    """Take the study for a change, and tell whether nobody has taken claimed work over."""
    session.get(Study, claim_.study_id, with_for_update=True)
    return bool(session.scalar(_HELD, _mine(claim_)))


def settle(session: Session, claim_: Claim) -> None:
    """Strike done work off.

    Raises
    ------
    LeaseLost
        When the lease expired and was taken over, or the work is owed anew.
    """
    if _count(session.execute(_SETTLING, _mine(claim_))) != 1:
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

    Not so by a commitment or a notice: the destination has the report.
    """
    study = session.get(Study, claim_.study_id, with_for_update=True)
    if study is None or not _rewrite(session, claim_, state=JobState.DEAD, last_error=error):
        return False
    if claim_.kind not in BESIDE:
        move(study, StudyEvent.GIVEN_UP)
    return True


def note_dead_letters(session: Session, study: Study) -> None:
    """Let a study be FAILED that something was given up of, whatever else has just come about."""
    if has_dead_letters(session, study.id):
        move(study, StudyEvent.GIVEN_UP)


def has_dead_letters(session: Session, study_id: int) -> bool:
    """Tell whether something was given up of a study without which it is not through."""
    return session.execute(_GIVEN_UP, {"study": study_id}).first() is not None


_GIVEN_UP = (
    select(jobs.c.id)
    .where(
        jobs.c.study_id == bindparam("study"),
        jobs.c.state == JobState.DEAD,
        jobs.c.kind.not_in(sorted(BESIDE)),
    )
    .limit(1)
)


def give_up(session: Session, kind: JobKind, subject_id: int, error: str) -> None:
    """Give work up that nobody holds, or take it from who does."""
    session.execute(
        update(Job)
        .where(Job.kind == kind, Job.subject_id == subject_id)
        .values(state=JobState.DEAD, last_error=error, token=Job.token + 1)
    )


def _rewrite(session: Session, claim_: Claim, **values: Any) -> bool:
    changed = session.execute(update(jobs).where(*_MINE).values(**values), _mine(claim_))
    return _count(changed) == 1


def _count(result: Result[Any]) -> int:
    assert isinstance(result, CursorResult)  # what UPDATE and DELETE give
    return result.rowcount


def dead_letters(session: Session) -> Sequence[tuple[Job, str]]:
    """List given-up work with the UID of its study."""
    # One study after the other: joined, PostgreSQL might read all studies.
    uid = select(Study.study_instance_uid).where(Study.id == Job.study_id).scalar_subquery()
    rows = session.execute(select(Job, uid).where(text(f"jobs.{DEAD}")).order_by(Job.id))
    return [(job, uid) for job, uid in rows]


def depth(session: Session) -> dict[str, int]:
    """Count owed work by kind and state, such as ``CLASSIFY DUE``."""
    rows = session.execute(select(Job.kind, Job.state, func.count()).group_by(Job.kind, Job.state))
    return {f"{kind} {state}": count for kind, state, count in rows}
