"""All SQL of the application. Each function takes a Session and leaves the commit to its caller.

The rules that keep one study one story:

- A row and the work it owes (`jobs`) are committed together.
- Work is claimed before it is done: the lease hides it from others until it expires, and the token
  that grows with each claim refuses the late write of a worker that lost its lease.
- Whatever changes a study takes its row first (``FOR UPDATE``), so that a late image and a report
  under way are ordered: either the report saw the image or it is made again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, CursorResult, Result, delete, exists, func, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session, aliased

from dicom_node.storage_scp import Outcome, Received
from worker.states import (
    DeliveryState,
    JobKind,
    JobState,
    StudyEvent,
    StudyState,
    after,
)
from worker.tables import (
    Base,
    Delivery,
    FindingRow,
    Instance,
    Job,
    Model,
    Reception,
    Report,
    Study,
)


class LeaseLost(Exception):
    """Someone else holds the work by now: write nothing."""


@dataclass(frozen=True, slots=True)
class Claim:
    """Work that this process holds until its lease expires."""

    job_id: int
    token: int
    kind: JobKind
    subject_id: int
    study_id: int
    attempts: int


@dataclass(frozen=True, slots=True)
class NewFinding:
    """An answer about one instance, or the reason why there is none."""

    assessed: bool
    reason: str | None = None
    finding: str | None = None
    pneumonia: float | None = None
    bacterial: float | None = None
    viral: float | None = None
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NewReport:
    """A report whose bytes are durable in the archive."""

    sop_instance_uid: str
    sop_class_uid: str
    path: str
    sha256: str
    revision: int
    model_id: int


def _insert(session: Session, table: type[Base]) -> Any:
    """Give the dialect's INSERT, which knows ON CONFLICT."""
    dialect = session.get_bind().dialect.name
    return (sqlite if dialect == "sqlite" else postgresql).insert(table)


# --- reception -------------------------------------------------------------------------------


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
    _move(study, StudyEvent.STORED)
    owe(session, JobKind.CLASSIFY, instance.id, study.id, received.received_at)
    owe(session, JobKind.REPORT, study.id, study.id, received.received_at + quiet)
    _note_reception(session, received, study.id)
    return Outcome.STORED


def _conflict(session: Session, study: Study) -> Outcome:
    """Leave nothing behind: the study may have been entered for this instance alone."""
    if session.scalar(select(~exists().where(Instance.study_id == study.id))):
        session.delete(study)
    return Outcome.CONFLICT


def _locked_study(session: Session, received: Received) -> Study:
    session.execute(
        _insert(session, Study)
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
    statement = _insert(session, Reception).values(
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


def _move(study: Study, event: StudyEvent) -> None:
    study.state = after(StudyState(study.state), event)


# --- owed work -------------------------------------------------------------------------------


def owe(
    session: Session,
    kind: JobKind,
    subject_id: int,
    study_id: int,
    due_at: datetime,
    destination: str = "",
) -> None:
    """Owe work, or owe it anew: a worker that is at it loses its lease, as its input changed."""
    statement = _insert(session, Job).values(
        kind=kind, subject_id=subject_id, study_id=study_id, due_at=due_at,
        destination=destination, state=JobState.DUE, token=0, attempts=0,
    )  # fmt: skip
    session.execute(
        statement.on_conflict_do_update(
            index_elements=["kind", "subject_id"],
            set_={
                "due_at": statement.excluded.due_at,
                "state": JobState.DUE,
                "attempts": 0,
                "token": Job.token + 1,
                "last_error": None,
            },
        )
    )


def _ready(now: datetime, silence: timedelta) -> ColumnElement[bool]:
    """Tell whether a study may be reported: nobody is sending it, nothing is left to classify.

    A reception that has been silent for longer than the network timeout belongs to a node that
    died; it holds up nothing.
    """
    unclassified = aliased(Job)
    sending = exists().where(Reception.study_id == Job.study_id, Reception.last_at > now - silence)
    classifying = exists().where(
        unclassified.study_id == Job.study_id, unclassified.kind == JobKind.CLASSIFY
    )
    return ~sending & ~classifying


def _claimable(
    kind: JobKind, now: datetime, silence: timedelta, destination: str | None = None
) -> list[ColumnElement[bool]]:
    where = [Job.kind == kind, Job.state != JobState.DEAD, Job.due_at <= now]
    if kind is JobKind.REPORT:
        where.append(_ready(now, silence))
    if destination is not None:
        where.append(Job.destination == destination)
    return where


def claim(
    session: Session,
    kind: JobKind,
    limit: int,
    now: datetime,
    lease: timedelta,
    *,
    silence: timedelta = timedelta(seconds=60),
    destination: str | None = None,
) -> list[Claim]:
    """Claim due work, oldest first, until `now` + `lease`.

    Work that failed or whose worker died is claimed alone, so that a poisonous instance never
    takes its batch mates with it a second time.
    """
    jobs = session.scalars(
        select(Job)
        .where(*_claimable(kind, now, silence, destination))
        .order_by(Job.due_at, Job.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    ).all()
    fresh = [job for job in jobs if not job.attempts]
    jobs = fresh if fresh and fresh[0] is jobs[0] else jobs[:1]
    for job in jobs:
        job.state, job.due_at = JobState.LEASED, now + lease
        job.token += 1
        job.attempts += 1
    session.flush()
    return [
        Claim(job.id, job.token, kind, job.subject_id, job.study_id, job.attempts) for job in jobs
    ]


def extend(session: Session, claims: Sequence[Claim], until: datetime) -> None:
    """Keep claimed work for longer; what was lost or put back meanwhile stays so."""
    for claim_ in claims:
        mine = (Job.id == claim_.job_id, Job.token == claim_.token, Job.state == JobState.LEASED)
        session.execute(update(Job).where(*mine).values(due_at=until))


def due_bells(session: Session, now: datetime, silence: timedelta) -> list[tuple[JobKind, str]]:
    """List what is due and unclaimed, as (kind, destination); what the relay announces."""
    bells: list[tuple[JobKind, str]] = []
    for kind in JobKind:
        where = _claimable(kind, now, silence)
        if kind is JobKind.DELIVER:
            found = session.scalars(select(Job.destination).where(*where).distinct())
            bells += [(kind, destination) for destination in found]
        elif session.scalar(select(Job.id).where(*where).limit(1)) is not None:
            bells.append((kind, ""))
    return bells


def _settle(session: Session, claim_: Claim) -> None:
    """Strike done work off.

    Raises
    ------
    LeaseLost
        When the lease expired and was taken over, or the work is owed anew.
    """
    done = session.execute(delete(Job).where(Job.id == claim_.job_id, Job.token == claim_.token))
    if _count(done) != 1:
        raise LeaseLost(f"{claim_.kind} of {claim_.subject_id}")


def put_back(session: Session, claim_: Claim, due_at: datetime, error: str) -> bool:
    """Release work that failed, to be tried again at `due_at`; False when the lease was lost."""
    return _rewrite(session, claim_, state=JobState.DUE, due_at=due_at, last_error=error)


def bury(session: Session, claim_: Claim, error: str) -> bool:
    """Give work up, for a person to see; the study is FAILED."""
    study = session.get_one(Study, claim_.study_id, with_for_update=True)
    if not _rewrite(session, claim_, state=JobState.DEAD, last_error=error):
        return False
    _move(study, StudyEvent.GIVEN_UP)
    return True


def _rewrite(session: Session, claim_: Claim, **values: Any) -> bool:
    changed = session.execute(
        update(Job).where(Job.id == claim_.job_id, Job.token == claim_.token).values(**values)
    )
    return _count(changed) == 1


def _count(result: Result[Any]) -> int:
    assert isinstance(result, CursorResult)  # what UPDATE and DELETE give
    return result.rowcount


# --- classify --------------------------------------------------------------------------------


def claimed_instances(session: Session, claims: Sequence[Claim]) -> dict[int, Instance]:
    """Fetch the instances of classification claims, by their id."""
    ids = [claim_.subject_id for claim_ in claims]
    return {i.id: i for i in session.scalars(select(Instance).where(Instance.id.in_(ids)))}


def model_row(
    session: Session,
    *,
    name: str,
    version: str,
    digest: str,
    details: dict[str, Any],
    now: datetime,
) -> int:
    """Give the id of the model's row, made on its first use."""
    session.execute(
        _insert(session, Model)
        .values(name=name, version=version, digest=digest, details=details, first_used_at=now)
        .on_conflict_do_nothing(index_elements=["digest"])
    )
    return session.scalars(select(Model.id).where(Model.digest == digest)).one()


def save_finding(
    session: Session, claim_: Claim, model_id: int, new: NewFinding, now: datetime
) -> None:
    """Save one instance's finding and strike its classification off.

    Raises
    ------
    LeaseLost
        When another worker has taken the instance over.
    """
    _settle(session, claim_)
    values = {
        "assessed": new.assessed, "reason": new.reason, "finding": new.finding,
        "pneumonia": new.pneumonia, "bacterial": new.bacterial, "viral": new.viral,
        "flags": list(new.flags), "created_at": now,
    }  # fmt: skip
    statement = _insert(session, FindingRow).values(
        instance_id=claim_.subject_id, model_id=model_id, **values
    )
    session.execute(
        statement.on_conflict_do_update(index_elements=["instance_id", "model_id"], set_=values)
    )


def ready_studies(
    session: Session, study_ids: Iterable[int], now: datetime, silence: timedelta
) -> bool:
    """Tell whether any of these studies may be reported now."""
    where = _claimable(JobKind.REPORT, now, silence)
    found = select(Job.id).where(*where, Job.study_id.in_(set(study_ids))).limit(1)
    return session.scalar(found) is not None


# --- report ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Story:
    """A study with its instances, each with the finding of one model, and its last report."""

    study: Study
    model: Model
    findings: list[tuple[Instance, FindingRow]]
    last_report: Report | None


def story(session: Session, study_id: int, now: datetime) -> Story | None:
    """Gather what the report of a study is made of.

    All findings of one report come from one model: the newest that answered. Instances it has not
    seen (the model changed in between) are owed to it first, and None is returned.
    """
    study = session.get_one(Study, study_id, with_for_update=True)
    _move(study, StudyEvent.QUIET)
    instances = session.scalars(
        select(Instance).where(Instance.study_id == study_id).order_by(Instance.id)
    ).all()
    rows = session.scalars(
        select(FindingRow)
        .where(FindingRow.instance_id.in_([i.id for i in instances]))
        .order_by(FindingRow.created_at, FindingRow.id)
    ).all()
    newest = rows[-1].model_id if rows else None
    by_instance = {row.instance_id: row for row in rows if row.model_id == newest}
    missing = [i for i in instances if i.id not in by_instance]
    for instance in missing:
        owe(session, JobKind.CLASSIFY, instance.id, study_id, now)
    if missing or newest is None:
        return None
    last = session.scalar(
        select(Report).where(Report.study_id == study_id).order_by(Report.revision.desc()).limit(1)
    )
    found = [(i, by_instance[i.id]) for i in instances]
    return Story(study, session.get_one(Model, newest), found, last)


def save_report(
    session: Session, claim_: Claim, new: NewReport, destinations: Sequence[str], now: datetime
) -> None:
    """Save a report and owe its deliveries; deliveries of earlier revisions are superseded.

    A report that is known already (a retry, or a requeue) is not doubled; destinations it was not
    yet owed to are added.

    Raises
    ------
    LeaseLost
        When the study changed meanwhile: the report is out of date and nothing is written.
    """
    study = session.get_one(Study, claim_.study_id, with_for_update=True)
    _settle(session, claim_)
    report = session.scalar(select(Report).where(Report.sop_instance_uid == new.sop_instance_uid))
    if report is None:
        report = Report(
            study_id=study.id, model_id=new.model_id, revision=new.revision,
            sop_instance_uid=new.sop_instance_uid, sop_class_uid=new.sop_class_uid,
            path=new.path, sha256=new.sha256, created_at=now,
        )  # fmt: skip
        session.add(report)
        session.flush()
        _supersede(session, study.id, report.id)
    _owe_deliveries(session, report, destinations, now)
    _move(study, StudyEvent.REPORT_SAVED)
    _settle_deliveries(session, study)


def _owe_deliveries(
    session: Session, report: Report, destinations: Sequence[str], now: datetime
) -> None:
    rows = session.scalars(select(Delivery).where(Delivery.report_id == report.id))
    known = {delivery.destination: delivery for delivery in rows}
    for destination in destinations:
        if destination not in known:
            known[destination] = Delivery(
                report_id=report.id, destination=destination, state=DeliveryState.PENDING
            )
            session.add(known[destination])
    session.flush()
    for delivery in known.values():
        if delivery.state == DeliveryState.PENDING:
            owe(session, JobKind.DELIVER, delivery.id, report.study_id, now, delivery.destination)


def _supersede(session: Session, study_id: int, newest_report_id: int) -> None:
    """Withdraw what is still owed of earlier revisions, unless it is on its way just now."""
    on_its_way = exists().where(
        Job.kind == JobKind.DELIVER, Job.subject_id == Delivery.id, Job.state == JobState.LEASED
    )
    owed = (
        select(Delivery)
        .join(Report)
        .where(
            Report.study_id == study_id,
            Report.id != newest_report_id,
            Delivery.state.in_([DeliveryState.PENDING, DeliveryState.FAILED]),
            ~on_its_way,
        )
    )
    for delivery in session.scalars(owed):
        _withdraw(session, delivery)


def _withdraw(session: Session, delivery: Delivery) -> None:
    delivery.state = DeliveryState.SUPERSEDED
    session.execute(delete(Job).where(Job.kind == JobKind.DELIVER, Job.subject_id == delivery.id))


# --- deliver ---------------------------------------------------------------------------------


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
    _settle(session, claim_)
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
    _settle(session, claim_)
    delivery = _answered(session, claim_, status, answer)
    delivery.state, delivery.delivered_at = DeliveryState.DELIVERED, now
    session.flush()
    _settle_deliveries(session, study)


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


def _settle_deliveries(session: Session, study: Study) -> None:
    """Move the study on when its current report has reached every destination."""
    newest = select(func.max(Report.id)).where(Report.study_id == study.id).scalar_subquery()
    states = set(session.scalars(select(Delivery.state).where(Delivery.report_id == newest)))
    owed_anew = exists().where(Job.kind == JobKind.REPORT, Job.subject_id == study.id)
    if states == {DeliveryState.DELIVERED} and not session.scalar(select(owed_anew)):
        _move(study, StudyEvent.ALL_DELIVERED)


# --- requeue ---------------------------------------------------------------------------------


def requeue(session: Session, study_instance_uid: str, now: datetime) -> int | None:
    """Owe a study again.

    What was given up is tried again. When nothing was, everything is done anew: classification,
    report and, where the report does not change, its delivery.

    Returns
    -------
    int or None
        How many jobs are owed now; None when no such study is known.
    """
    study = session.scalar(
        select(Study).where(Study.study_instance_uid == study_instance_uid).with_for_update()
    )
    if study is None:
        return None
    dead = session.scalars(
        select(Job).where(Job.study_id == study.id, Job.state == JobState.DEAD)
    ).all()
    count = _revive(session, dead, now) if dead else _start_over(session, study, now)
    undelivered = dead and all(job.kind == JobKind.DELIVER for job in dead)
    _move(study, StudyEvent.DELIVERY_OWED if undelivered else StudyEvent.REQUEUED)
    return count


def _revive(session: Session, dead: Sequence[Job], now: datetime) -> int:
    for job in dead:
        job.state, job.due_at, job.attempts = JobState.DUE, now, 0
        job.token += 1
        if job.kind == JobKind.DELIVER:
            session.get_one(Delivery, job.subject_id).state = DeliveryState.PENDING
    return len(dead)


def _start_over(session: Session, study: Study, now: datetime) -> int:
    ids = session.scalars(select(Instance.id).where(Instance.study_id == study.id)).all()
    for instance_id in ids:
        owe(session, JobKind.CLASSIFY, instance_id, study.id, now)
    owe(session, JobKind.REPORT, study.id, study.id, now)
    newest = select(func.max(Report.id)).where(Report.study_id == study.id).scalar_subquery()
    # Owed again by save_report() when the report turns out the same, superseded when it does not.
    session.execute(
        update(Delivery)
        .where(Delivery.report_id == newest)
        .values(state=DeliveryState.PENDING)
        .execution_options(synchronize_session=False)
    )
    return len(ids) + 1


def dead_letters(session: Session) -> Sequence[tuple[Job, str]]:
    """List given-up work with the UID of its study."""
    rows = session.execute(
        select(Job, Study.study_instance_uid)
        .join(Study, Study.id == Job.study_id)
        .where(Job.state == JobState.DEAD)
        .order_by(Job.id)
    )
    return [(job, uid) for job, uid in rows]


def depth(session: Session) -> dict[str, int]:
    """Count owed work by kind and state, such as ``CLASSIFY DUE``."""
    rows = session.execute(select(Job.kind, Job.state, func.count()).group_by(Job.kind, Job.state))
    return {f"{kind} {state}": count for kind, state, count in rows}
