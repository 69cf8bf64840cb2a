"""Deliveries: what each destination answered, and when a study is through."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from sqlalchemy import delete, exists, func, select
from sqlalchemy.orm import Session, aliased

from worker.ledger.jobs import Claim, LeaseLost, bury, move, owe, put_back, settle
from worker.states import ARRIVED, DeliveryState, JobKind, StudyEvent
from worker.tables import Delivery, Job, Report, Study

if TYPE_CHECKING:
    from dicom_node.storage_scu import Delivered

OF_A_DELIVERY = (JobKind.DELIVER, JobKind.COMMIT)


def withdraw(session: Session, delivery: Delivery) -> None:
    """Owe a delivery no longer: a later revision takes its place."""
    delivery.state = DeliveryState.SUPERSEDED
    owed = (Job.kind.in_(OF_A_DELIVERY), Job.subject_id == delivery.id)
    session.execute(delete(Job).where(*owed))


def is_current(session: Session, delivery: Delivery) -> bool:
    """Tell whether a delivery is of its study's last report."""
    report = session.get_one(Report, delivery.report_id)
    newest = select(func.max(Report.revision)).where(Report.study_id == report.study_id)
    return report.revision == session.scalar(newest)


def report_to_send(session: Session, claim_: Claim) -> Report | None:
    """Give the report of a delivery; withdraw it, and give None, when a later revision is there.

    An old story never follows a new one. To be called right before the report is sent: with work
    that waits its turn, somebody may have done something else since it was claimed.

    Raises
    ------
    LeaseLost
        When the delivery was taken over, or is not owed any more.
    """
    session.get_one(Study, claim_.study_id, with_for_update=True)
    other = aliased(Report)
    newest = select(func.max(other.revision)).where(other.study_id == Report.study_id)
    mine = exists().where(Job.id == claim_.job_id, Job.token == claim_.token)
    delivery, report, last, is_held = session.execute(
        select(Delivery, Report, newest.scalar_subquery(), mine)
        .join(Report, Report.id == Delivery.report_id)
        .where(Delivery.id == claim_.subject_id)
    ).one()
    if not is_held:
        raise LeaseLost(f"{claim_.kind} of {claim_.subject_id}")
    if report.revision == last:
        return report
    settle(session, claim_)
    delivery.state = DeliveryState.SUPERSEDED
    return None


def save_delivered(
    session: Session,
    claim_: Claim,
    delivered: Delivered,
    answer: str,
    now: datetime,
    *,
    commit: bool = False,
) -> None:
    """Save that a destination has accepted the report, and owe its commitment if there is one.

    Raises
    ------
    LeaseLost
        When another worker has taken the delivery over.
    """
    study = session.get_one(Study, claim_.study_id, with_for_update=True)
    settle(session, claim_)
    delivery = _answered(session, claim_, delivered.status, answer)
    delivery.state, delivery.delivered_at = DeliveryState.DELIVERED, now
    delivery.sop_class_uid = delivered.sop_class_uid
    delivery.sop_instance_uid = delivered.sop_instance_uid
    delivery.committed_at = None
    session.flush()
    if commit and is_current(session, delivery):
        owe(session, JobKind.COMMIT, delivery.id, study.id, now, delivery.destination)
    settle_deliveries(session, study)


def save_failed_delivery(
    session: Session,
    claim_: Claim,
    status: int | None,
    answer: str,
    due_at: datetime | None,
    *,
    counts: bool = True,
) -> None:
    """Save what went wrong: tried again at `due_at`, or given up for a person when None.

    A try that says nothing about the report itself does not count as one of it. A lost
    lease is not an error: whoever holds the work by now answers for it.
    """
    try:
        if report_to_send(session, claim_) is None:
            return
    except LeaseLost:
        return
    if due_at is not None:
        if put_back(session, claim_, due_at, answer, counts=counts):
            _answered(session, claim_, status, answer)
    elif bury(session, claim_, answer):
        delivery = _answered(session, claim_, status, answer)
        delivery.state = DeliveryState.FAILED


def _answered(session: Session, claim_: Claim, status: int | None, answer: str) -> Delivery:
    delivery = session.get_one(Delivery, claim_.subject_id)
    delivery.attempts += 1
    delivery.last_status, delivery.last_answer = status, answer
    return delivery


def states_of_deliveries(session: Session, study: Study) -> set[str]:
    """Give the states of the last report's deliveries."""
    newest = select(func.max(Report.id)).where(Report.study_id == study.id).scalar_subquery()
    return set(session.scalars(select(Delivery.state).where(Delivery.report_id == newest)))


def is_reported_anew(session: Session, study: Study) -> bool:
    """Tell whether another report is owed than the last."""
    owed = exists().where(Job.kind == JobKind.REPORT, Job.subject_id == study.id)
    return bool(session.scalar(select(owed)))


def settle_deliveries(session: Session, study: Study) -> None:
    """Move the study on when every destination has its current report, or keeps it for good."""
    states = states_of_deliveries(session, study)
    states.discard(DeliveryState.DISCARDED)  # a person has decided to do without
    if not states or not states <= ARRIVED or is_reported_anew(session, study):
        return
    move(study, StudyEvent.ALL_DELIVERED)
    if states == {DeliveryState.COMMITTED}:
        move(study, StudyEvent.ALL_COMMITTED)
