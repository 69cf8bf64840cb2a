"""Deliveries: what each destination answered, and when a study is through."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import delete, exists, func, select
from sqlalchemy.orm import Session

from worker.ledger.jobs import Claim, LeaseLost, bury, move, put_back, settle
from worker.states import DeliveryState, JobKind, StudyEvent
from worker.tables import Delivery, Job, Report, Study


def withdraw(session: Session, delivery: Delivery) -> None:
    """Owe a delivery no longer: a later revision takes its place."""
    delivery.state = DeliveryState.SUPERSEDED
    session.execute(delete(Job).where(Job.kind == JobKind.DELIVER, Job.subject_id == delivery.id))


def delivery_of(session: Session, claim_: Claim) -> tuple[Delivery, Report]:
    """Fetch the delivery of a claim and its report."""
    delivery = session.get_one(Delivery, claim_.subject_id)
    return delivery, session.get_one(Report, delivery.report_id)


def withdraw_superseded(session: Session, claim_: Claim) -> bool:
    """Withdraw a delivery when a later revision is there: an old story never follows a new one.

    Raises
    ------
    LeaseLost
        When another worker has taken the delivery over.
    """
    session.get_one(Study, claim_.study_id, with_for_update=True)
    delivery, report = delivery_of(session, claim_)
    newest = select(func.max(Report.revision)).where(Report.study_id == claim_.study_id)
    if report.revision == session.scalar(newest):
        return False
    settle(session, claim_)
    delivery.state = DeliveryState.SUPERSEDED
    return True


def save_delivered(
    session: Session, claim_: Claim, status: int, answer: str, now: datetime
) -> None:
    """Save that a destination has accepted the report.

    Raises
    ------
    LeaseLost
        When another worker has taken the delivery over.
    """
    study = session.get_one(Study, claim_.study_id, with_for_update=True)
    settle(session, claim_)
    delivery = _answered(session, claim_, status, answer)
    delivery.state, delivery.delivered_at = DeliveryState.DELIVERED, now
    session.flush()
    settle_deliveries(session, study)


def save_failed_delivery(
    session: Session, claim_: Claim, status: int | None, answer: str, due_at: datetime | None
) -> None:
    """Save what went wrong: tried again at `due_at`, or given up for a person when None.

    A lost lease is not an error: whoever holds the work by now answers for it.
    """
    try:
        if withdraw_superseded(session, claim_):
            return
    except LeaseLost:
        return
    if due_at is not None:
        if put_back(session, claim_, due_at, answer):
            _answered(session, claim_, status, answer)
    elif bury(session, claim_, answer):
        delivery = _answered(session, claim_, status, answer)
        delivery.state = DeliveryState.FAILED


def _answered(session: Session, claim_: Claim, status: int | None, answer: str) -> Delivery:
    delivery = session.get_one(Delivery, claim_.subject_id)
    delivery.attempts += 1
    delivery.last_status, delivery.last_answer = status, answer
    return delivery


def settle_deliveries(session: Session, study: Study) -> None:
    """Move the study on when its current report has reached every destination."""
    newest = select(func.max(Report.id)).where(Report.study_id == study.id).scalar_subquery()
    states = set(session.scalars(select(Delivery.state).where(Delivery.report_id == newest)))
    owed_anew = exists().where(Job.kind == JobKind.REPORT, Job.subject_id == study.id)
    if states == {DeliveryState.DELIVERED} and not session.scalar(select(owed_anew)):
        move(study, StudyEvent.ALL_DELIVERED)
