"""Storage Commitment: what destinations are asked to confirm, and what they answered (PS3.4 J).

A COMMIT job says that a delivery is not confirmed yet. It stands until the answer comes, and is due
when it is time to ask, or to ask again. The answer may come to another process than the one that
asked, before that one has noted anything: so a request is committed before it goes out.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from dicom_node.records import Commitment, Reference
from dicom_node.status import describe
from worker.ledger.deliveries import is_current, is_reported_anew, settle_deliveries
from worker.ledger.jobs import Claim, drop, give_up, move, note_dead_letters, owe
from worker.states import DeliveryState, JobKind, StudyEvent
from worker.tables import CommitmentRequest, Delivery, Job, Report, Study

# How often a report is sent again that its destination says it has not kept, and the first wait.
MOST_FAILURES = 3
FAILURE_WAIT = timedelta(seconds=10)


def save_request(
    session: Session, claims: Sequence[Claim], transaction_uid: str, now: datetime
) -> list[Reference]:
    """Save that a destination is about to be asked about deliveries; give what to ask about.

    Deliveries that are no longer there to be confirmed are struck off.
    """
    references = []
    for claim_ in claims:
        delivery = session.get(Delivery, claim_.subject_id)
        delivered = delivery is not None and delivery.state == DeliveryState.DELIVERED
        if delivery is None or not delivered or not is_current(session, delivery):
            drop(session, [claim_])
            continue
        assert delivery.sop_class_uid is not None  # saved with the state DELIVERED
        assert delivery.sop_instance_uid is not None
        references.append(Reference(delivery.sop_class_uid, delivery.sop_instance_uid))
        session.add(
            CommitmentRequest(
                delivery_id=delivery.id, transaction_uid=transaction_uid, asked_at=now
            )
        )
    return references


def save_commitment(session: Session, commitment: Commitment, now: datetime) -> bool:
    """Save what a destination answered; False when nothing was asked by that Transaction UID.

    What it keeps is COMMITTED. What it does not keep is sent again, a few times. What it does not
    mention stays unanswered.
    """
    rows = session.execute(
        select(CommitmentRequest, Delivery, Report.study_id)
        .join(Delivery, Delivery.id == CommitmentRequest.delivery_id)
        .join(Report, Report.id == Delivery.report_id)
        .where(CommitmentRequest.transaction_uid == commitment.transaction_uid)
        .order_by(Report.study_id, Delivery.id)  # two answers lock studies in the same order
    ).all()
    failed = dict(commitment.failed)
    for request, delivery, study_id in rows:
        study = session.get(Study, study_id, with_for_update=True)
        # As it is now that the study is locked; erased, perhaps.
        there = session.get(Delivery, delivery.id, populate_existing=True)
        if study is None or there is None or there.state != DeliveryState.DELIVERED:
            continue
        if delivery.sop_instance_uid in commitment.committed:
            _confirm(session, study, delivery, now)
        elif delivery.sop_instance_uid in failed:
            request.failure_reason = failed[delivery.sop_instance_uid]
            session.flush()
            _deny(session, study, delivery, describe(request.failure_reason), now)
    return bool(rows)


def _confirm(session: Session, study: Study, delivery: Delivery, now: datetime) -> None:
    delivery.state, delivery.committed_at = DeliveryState.COMMITTED, now
    withdraw_commitment(session, delivery)
    session.flush()
    settle_deliveries(session, study)


def _deny(session: Session, study: Study, delivery: Delivery, why: str, now: datetime) -> None:
    """Owe a delivery again that the destination did not keep, or give its commitment up."""
    delivery.last_answer = f"taken, but not kept: {why}"
    if not is_current(session, delivery):
        withdraw_commitment(session, delivery)
        return
    failures = session.scalar(
        select(func.count()).where(
            CommitmentRequest.delivery_id == delivery.id,
            CommitmentRequest.failure_reason.is_not(None),
        )
    )
    assert failures is not None  # COUNT gives a number
    if failures > MOST_FAILURES:
        owe(session, JobKind.COMMIT, delivery.id, study.id, now, delivery.destination)
        give_up(session, JobKind.COMMIT, delivery.id, delivery.last_answer)
        return
    withdraw_commitment(session, delivery)
    delivery.state = DeliveryState.PENDING
    due_at = now + FAILURE_WAIT * 4 ** (failures - 1)
    owe(session, JobKind.DELIVER, delivery.id, study.id, due_at, delivery.destination)
    if not is_reported_anew(session, study):
        move(study, StudyEvent.DELIVERY_OWED)
        note_dead_letters(session, study)


def withdraw_commitment(session: Session, delivery: Delivery) -> None:
    """Ask a destination no longer to keep a report."""
    session.execute(delete(Job).where(Job.kind == JobKind.COMMIT, Job.subject_id == delivery.id))


def forget_failures(session: Session, delivery_id: int) -> None:
    """Count what a destination did not keep anew: a person has asked for another try."""
    session.execute(
        update(CommitmentRequest)
        .where(CommitmentRequest.delivery_id == delivery_id)
        .values(failure_reason=None)
    )
