"""Reports: the story of a study, and the report that tells it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import exists, select
from sqlalchemy.orm import Session

from worker.ledger.deliveries import settle_deliveries, withdraw
from worker.ledger.jobs import Claim, move, owe, settle
from worker.states import DeliveryState, JobKind, JobState, StudyEvent
from worker.tables import Delivery, FindingRow, Instance, Job, Model, Report, Study


@dataclass(frozen=True, slots=True)
class NewReport:
    """A report whose bytes are durable in the archive."""

    sop_instance_uid: str
    sop_class_uid: str
    path: str
    sha256: str
    revision: int
    model_id: int


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
    move(study, StudyEvent.QUIET)
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
    settle(session, claim_)
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
    move(study, StudyEvent.REPORT_SAVED)
    settle_deliveries(session, study)


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
        withdraw(session, delivery)
