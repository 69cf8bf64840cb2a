"""Requeue: owing a study again."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from worker.ledger.commitments import forget_failures, withdraw_commitment
from worker.ledger.decisions import (
    DecidedMeanwhile,
    dead_jobs,
    last_decision,
    locked_study,
    save_decision,
)
from worker.ledger.deliveries import OF_A_DELIVERY
from worker.ledger.jobs import BESIDE, move, owe
from worker.ledger.outages import end_outage
from worker.states import DecisionAction, DeliveryState, JobKind, JobState, NoticeState, StudyEvent
from worker.tables import Delivery, Instance, Job, Notice, Report, Study


def requeue(
    session: Session,
    study_instance_uid: str,
    now: datetime,
    reason: str = "",
    person: str = "",
    *,
    seen: int | None = None,
) -> int | None:
    """Owe a study again.

    What was given up is tried again. When nothing was, everything is done anew: classification,
    report and, where the report does not change, its delivery. What was found of images that were
    removed stands; where neither an image nor the report is left, there is nothing to do.

    Parameters
    ----------
    seen
        Id of the last decision about the study that whoever decides knew of, 0 for none; None when
        it does not matter.

    Returns
    -------
    int or None
        How many jobs are owed now; None when no such study is known.

    Raises
    ------
    DecidedMeanwhile
        When there is a decision that was not seen.
    """
    study = locked_study(session, study_instance_uid)
    if study is None:
        return None
    if seen is not None and last_decision(session, study) != seen:
        raise DecidedMeanwhile(study_instance_uid)
    dead = dead_jobs(session, study)
    save_decision(session, study, DecisionAction.REQUEUED, dead, reason, person, now)
    count = _revive(session, dead, now) if dead else _start_over(session, study, now)
    if not count:
        return 0
    kinds = {job.kind for job in dead}
    if not kinds or kinds - BESIDE:
        undelivered = kinds and kinds <= {*OF_A_DELIVERY, JobKind.NOTIFY}
        move(study, StudyEvent.DELIVERY_OWED if undelivered else StudyEvent.REQUEUED)
    return count


def _revive(session: Session, dead: Sequence[Job], now: datetime) -> int:
    for job in dead:
        job.state, job.due_at, job.attempts, job.deaths = JobState.DUE, now, 0, 0
        job.token += 1
        end_outage(session, job.destination)
        if job.kind == JobKind.DELIVER:
            session.get_one(Delivery, job.subject_id).state = DeliveryState.PENDING
        elif job.kind == JobKind.NOTIFY:
            session.get_one(Notice, job.subject_id).state = NoticeState.PENDING
        elif job.kind == JobKind.COMMIT:
            forget_failures(session, job.subject_id)
    return len(dead)


def _start_over(session: Session, study: Study, now: datetime) -> int:
    kept = (Instance.study_id == study.id, Instance.removed_at.is_(None))
    ids = session.scalars(select(Instance.id).where(*kept)).all()
    newest = select(func.max(Report.id)).where(Report.study_id == study.id).scalar_subquery()
    told = select(Report.id).where(Report.id == newest, Report.removed_at.is_(None))
    if not ids and session.scalar(told) is None:
        return 0
    for instance_id in ids:
        owe(session, JobKind.CLASSIFY, instance_id, study.id, now)
    owe(session, JobKind.REPORT, study.id, study.id, now)
    deliveries = session.scalars(select(Delivery).where(Delivery.report_id == newest)).all()
    for delivery in deliveries:
        # Owed again by save_report() when the report is the same, superseded when it is not.
        delivery.state = DeliveryState.PENDING
        withdraw_commitment(session, delivery)
        forget_failures(session, delivery.id)
    return len(ids) + 1
