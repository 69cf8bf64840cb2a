"""What people decide about given-up work, and why."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from worker.states import DecisionAction, JobState
from worker.tables import Decision, Job, Study


def locked_study(session: Session, study_instance_uid: str) -> Study | None:
    """Take a study for a change; None when no such study is known."""
    named = select(Study).where(Study.study_instance_uid == study_instance_uid)
    return session.scalar(named.with_for_update())


def dead_jobs(session: Session, study: Study) -> Sequence[Job]:
    """List what was given up of a study."""
    dead = (Job.study_id == study.id, Job.state == JobState.DEAD)
    return session.scalars(select(Job).where(*dead).order_by(Job.id)).all()


class DecidedMeanwhile(Exception):
    """Somebody decided about a study since it was looked at."""


def last_decision(session: Session, study: Study) -> int:
    """Give the id of the last decision about a study; 0 when there is none."""
    return session.scalar(select(func.max(Decision.id)).where(Decision.study_id == study.id)) or 0


def save_decision(
    session: Session,
    study: Study,
    action: DecisionAction,
    given_up: Sequence[Job],
    reason: str,
    person: str,
    now: datetime,
) -> None:
    """Save who decided what about given-up work, and why."""
    words = [" ".join(filter(None, (j.kind, j.destination, j.last_error))) for j in given_up]
    session.add(
        Decision(
            study_id=study.id, action=action, given_up=words, reason=reason, person=person,
            decided_at=now,
        )
    )  # fmt: skip
