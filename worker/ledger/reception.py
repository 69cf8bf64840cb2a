"""Reception: an instance and the work it owes, entered in one transaction."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import delete, exists, func, select
from sqlalchemy.orm import Session

from dicom_node.records import Outcome, Received
from worker.ledger.jobs import insert, move, note_dead_letters, owe
from worker.states import JobKind, StudyEvent, StudyState
from worker.tables import Instance, Job, Reception, Study


def record(session: Session, received: Received, *, quiet: timedelta) -> Outcome:
    """Enter an instance whose bytes are durable, and the work it owes.

    Returns
    -------
    Outcome
        STORED; DUPLICATE when the same bytes are known already; CONFLICT when other bytes are
        known under the same SOP Instance UID, or the UID belongs to another study.
    """
    study = _locked_study(session, received)
    known = session.scalar(
        select(Instance).where(Instance.sop_instance_uid == received.sop_instance_uid)
    )
    if known is not None:
        same = known.sha256 == received.sha256 and known.study_id == study.id
        return Outcome.DUPLICATE if same else _conflict(session, study)
    instance = Instance(
        study_id=study.id,
        sop_instance_uid=received.sop_instance_uid,
        sop_class_uid=received.sop_class_uid,
        series_instance_uid=received.series_instance_uid,
        transfer_syntax_uid=received.transfer_syntax_uid,
        modality=_fit(received.modality, 16),
        calling_ae_title=_fit(received.calling_ae_title, 16),
        path=received.path,
        size_bytes=received.size,
        sha256=received.sha256,
        received_at=received.received_at,
    )
    session.add(instance)
    session.flush()
    study.last_received_at = max(study.last_received_at, received.received_at)
    move(study, StudyEvent.STORED)
    owe(session, JobKind.CLASSIFY, instance.id, study.id, received.received_at)
    owe(session, JobKind.REPORT, study.id, study.id, received.received_at + quiet)
    note_dead_letters(session, study)
    _note_reception(session, received, study.id)
    return Outcome.STORED


def _conflict(session: Session, study: Study) -> Outcome:
    """Leave nothing behind: the study may have been entered for this instance alone."""
    if session.scalar(select(~exists().where(Instance.study_id == study.id))):
        session.delete(study)
    return Outcome.CONFLICT


def _locked_study(session: Session, received: Received) -> Study:
    session.execute(
        insert(session, Study)
        .values(
            study_instance_uid=received.study_instance_uid,
            patient_id=_fit(received.patient_id, 256),
            accession_number=_fit(received.accession_number, 64),
            study_date=_fit(received.study_date, 8),
            state=StudyState.RECEIVING,
            calling_ae_title=_fit(received.calling_ae_title, 16),
            received_at=received.received_at,
            last_received_at=received.received_at,
        )
        .on_conflict_do_nothing(index_elements=["study_instance_uid"])
    )
    return session.scalars(
        select(Study)
        .where(Study.study_instance_uid == received.study_instance_uid)
        .with_for_update()
    ).one()


def _fit(text: str, length: int) -> str:
    """Cut what a column cannot hold: a modality may send more than the VR allows, or a NUL."""
    return text.replace("\0", "")[:length]


def _note_reception(session: Session, received: Received, study_id: int) -> None:
    statement = insert(session, Reception).values(
        association_id=received.association_id, study_id=study_id, last_at=received.received_at
    )
    session.execute(
        statement.on_conflict_do_update(
            index_elements=["association_id", "study_id"],
            set_={"last_at": statement.excluded.last_at},
        )
    )


def close_association(session: Session, association_id: str) -> datetime | None:
    """Forget an association that has ended.

    Returns
    -------
    datetime or None
        When the last of its studies becomes due for its report; None when it brought none.
    """
    mine = select(Reception.study_id).where(Reception.association_id == association_id)
    due_at = session.scalar(
        select(func.max(Job.due_at)).where(Job.kind == JobKind.REPORT, Job.subject_id.in_(mine))
    )
    session.execute(delete(Reception).where(Reception.association_id == association_id))
    return due_at
