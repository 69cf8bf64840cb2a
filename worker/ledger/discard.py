"""Discard: a person decides that what was given up is not to be done."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import delete
from sqlalchemy.orm import Session

from worker.ledger.decisions import dead_jobs, locked_study, save_decision
from worker.ledger.deliveries import (
    is_reported_anew,
    settle_deliveries,
    states_of_deliveries,
)
from worker.ledger.jobs import move
from worker.states import DecisionAction, DeliveryState, JobKind, StudyEvent
from worker.tables import Delivery, Job, Study

# What a study needs before it can have a report.
_BEFORE_A_REPORT = (JobKind.CLASSIFY, JobKind.REPORT)


def discard(
    session: Session, study_instance_uid: str, reason: str, person: str, now: datetime
) -> int | None:
    """Strike off what was given up of a study.

    Where its report is at a destination, or on its way to one, the study goes on with that. Where
    there is none, the study is DISCARDED, until another image comes or it is requeued.

    Returns
    -------
    int or None
        How many dead letters were struck off; None when no such study is known.
    """
    study = locked_study(session, study_instance_uid)
    if study is None:
        return None
    dead = dead_jobs(session, study)
    if not dead:
        return 0
    save_decision(session, study, DecisionAction.DISCARDED, dead, reason, person, now)
    for job in dead:
        if job.kind == JobKind.DELIVER:
            session.get_one(Delivery, job.subject_id).state = DeliveryState.DISCARDED
        session.delete(job)
    session.flush()
    if any(job.kind in _BEFORE_A_REPORT for job in dead):
        owed = (Job.study_id == study.id, Job.kind.in_(_BEFORE_A_REPORT))
        session.execute(delete(Job).where(*owed).execution_options(synchronize_session=False))
        move(study, StudyEvent.WRITTEN_OFF)
    elif any(job.kind == JobKind.DELIVER for job in dead):
        _go_on(session, study)
    return len(dead)


def _go_on(session: Session, study: Study) -> None:
    """Move a study on whose report does not go everywhere."""
    states = states_of_deliveries(session, study)
    if is_reported_anew(session, study):
        return
    if states <= {DeliveryState.DISCARDED}:
        move(study, StudyEvent.WRITTEN_OFF)
    elif DeliveryState.PENDING in states:
        move(study, StudyEvent.DELIVERY_OWED)
    settle_deliveries(session, study)
