"""Deliveries: what each destination answered, and when a study is through.

What runs for each report is built once: building a statement costs more than running it.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from sqlalchemy import bindparam, delete, exists, func, select, update
from sqlalchemy.orm import Session, aliased
from sqlalchemy.orm.attributes import set_committed_value

from worker.ledger.jobs import Claim, LeaseLost, bury, locked, move, owe, put_back, settle
from worker.states import ARRIVED, DeliveryState, JobKind, StudyEvent
from worker.tables import Base, Delivery, Job, Report, Study

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
    """Give the report of a delivery with its study; withdraw it (None) if a later one is there.

    An old story never follows a new one. To be called right before the report is sent: with work
    that waits its turn, somebody may have done something else since it was claimed.

    Raises
    ------
    LeaseLost
        When the delivery was taken over, or is not owed any more.
    """
    study = locked(session, claim_.study_id)
    row = session.execute(
        _REPORT_TO_SEND,
        {"delivery": claim_.subject_id, "job": claim_.job_id, "held": claim_.token},
    ).one_or_none()
    if row is None or not row.is_held:
        raise LeaseLost(f"{claim_.kind} of {claim_.subject_id}")
    report: Report = row.Report
    set_committed_value(report, "study", study)
    if report.revision == row.last:
        return report
    settle(session, claim_)
    session.execute(_MOVE, {"delivery": claim_.subject_id, "state": DeliveryState.SUPERSEDED})
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
    study = locked(session, claim_.study_id)
    settle(session, claim_)
    arrived = {
        "delivered_at": now,
        "sop_class_uid": delivered.sop_class_uid,
        "sop_instance_uid": delivered.sop_instance_uid,
    }
    session.execute(_ARRIVE, {**arrived, **_answered(claim_, delivered.status, answer)})
    if commit:
        delivery = session.get_one(Delivery, claim_.subject_id)
        if is_current(session, delivery):
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
            session.execute(_ANSWER, _answered(claim_, status, answer))
    elif bury(session, claim_, answer):
        session.execute(_ANSWER, _answered(claim_, status, answer))
        session.execute(_MOVE, {"delivery": claim_.subject_id, "state": DeliveryState.FAILED})


def _answered(claim_: Claim, status: int | None, answer: str) -> dict[str, object]:
    return {"delivery": claim_.subject_id, "last_status": status, "last_answer": answer}


def states_of_deliveries(session: Session, study: Study) -> set[str]:
    """Give the states of the last report's deliveries."""
    return set(session.scalars(_STATES, {"study": study.id}))


def settle_deliveries(session: Session, study: Study) -> None:
    """Move the study on when every destination has its current report, or keeps it for good."""
    states = states_of_deliveries(session, study)
    states.discard(DeliveryState.DISCARDED)  # a person has decided to do without
    if not states or not states <= ARRIVED or is_reported_anew(session, study):
        return
    move(study, StudyEvent.ALL_DELIVERED)
    if states == {DeliveryState.COMMITTED}:
        move(study, StudyEvent.ALL_COMMITTED)


def is_reported_anew(session: Session, study: Study) -> bool:
    """Tell whether another report is owed than the last."""
    return bool(session.scalar(_IS_REPORTED_ANEW, {"study": study.id}))


# --- the statements --------------------------------------------------------------------------

_deliveries = Base.metadata.tables["deliveries"]
_other = aliased(Report)
_REPORT_TO_SEND = (
    select(
        Report,
        select(func.max(_other.revision))
        .where(_other.study_id == Report.study_id)
        .scalar_subquery()
        .label("last"),
        exists().where(Job.id == bindparam("job"), Job.token == bindparam("held")).label("is_held"),
    )
    .join(Delivery, Delivery.report_id == Report.id)
    .where(Delivery.id == bindparam("delivery"))
)
_THE_DELIVERY = update(_deliveries).where(_deliveries.c.id == bindparam("delivery"))
_MOVE = _THE_DELIVERY.values(state=bindparam("state"))
_ANSWER = _THE_DELIVERY.values(
    attempts=_deliveries.c.attempts + 1,
    last_status=bindparam("last_status"),
    last_answer=bindparam("last_answer"),
)
_ARRIVE = _ANSWER.values(
    state=DeliveryState.DELIVERED,
    delivered_at=bindparam("delivered_at"),
    sop_class_uid=bindparam("sop_class_uid"),
    sop_instance_uid=bindparam("sop_instance_uid"),
    committed_at=None,
)
_NEWEST = select(func.max(Report.id)).where(Report.study_id == bindparam("study"))
_STATES = select(Delivery.state).where(Delivery.report_id == _NEWEST.scalar_subquery())
_IS_REPORTED_ANEW = select(
    exists().where(Job.kind == JobKind.REPORT, Job.subject_id == bindparam("study"))
)
