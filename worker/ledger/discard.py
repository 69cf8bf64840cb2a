"""Discard: a person decides that what was given up is not to be done."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from worker.ledger.decisions import dead_jobs, locked_study, save_decision
from worker.ledger.deliveries import (
    is_reported_anew,
    settle_deliveries,
    states_of_deliveries,
)
from worker.ledger.jobs import move
from worker.states import DecisionAction, DeliveryState, JobKind, JobState, NoticeState, StudyEvent
from worker.tables import Delivery, Job, Notice, Study

# What a study needs before it can have a report.
_BEFORE_A_REPORT = {JobKind.CLASSIFY, JobKind.REPORT}


def discard(
    session: Session, study_instance_uid: str, reason: str, person: str, now: datetime
) -> int | None:
    """Strike off what was given up of a study.

    What cannot be delivered to one destination may still go to the others. What cannot be reported
    is DISCARDED, with all that is owed before its report, until another image comes or it is
    requeued.

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
    kinds = {job.kind for job in dead}
    struck = [*dead, *(_owed_before_a_report(session, study) if kinds & _BEFORE_A_REPORT else ())]
    save_decision(session, study, DecisionAction.DISCARDED, struck, reason, person, now)
    for job in struck:
        if job.kind == JobKind.DELIVER:
            session.get_one(Delivery, job.subject_id).state = DeliveryState.DISCARDED
        elif job.kind == JobKind.NOTIFY:
            session.get_one(Notice, job.subject_id).state = NoticeState.DISCARDED
        session.delete(job)
    session.flush()
    if kinds & _BEFORE_A_REPORT:
        move(study, StudyEvent.WRITTEN_OFF)
    elif JobKind.DELIVER in kinds:
        _go_on(session, study)
    return len(dead)


def _owed_before_a_report(session: Session, study: Study) -> Sequence[Job]:
    owed = (Job.study_id == study.id, Job.kind.in_(_BEFORE_A_REPORT), Job.state != JobState.DEAD)
    return session.scalars(select(Job).where(*owed).order_by(Job.id).with_for_update()).all()


def _go_on(session: Session, study: Study) -> None:
    """Move a study on whose report does not go everywhere."""
    states = states_of_deliveries(session, study)
    if is_reported_anew(session, study):
        move(study, StudyEvent.REQUEUED)
    elif states <= {DeliveryState.DISCARDED}:
        move(study, StudyEvent.WRITTEN_OFF)
    elif DeliveryState.PENDING in states:
        move(study, StudyEvent.DELIVERY_OWED)
    settle_deliveries(session, study)
