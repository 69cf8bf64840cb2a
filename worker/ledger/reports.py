"""Reports: the story of a study, and the report that tells it.

What runs for each report is built once: building a statement costs more than running it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import CursorResult, Result, bindparam, delete, insert, select
from sqlalchemy.orm import Session, undefer

from worker.ledger.deliveries import settle_deliveries, withdraw
from worker.ledger.jobs import Claim, locked, move, note_dead_letters, owe, settle
from worker.states import (
    ANOTHER_PATIENT,
    REMOVED,
    CompanionKind,
    DeliveryState,
    JobKind,
    JobState,
    StudyEvent,
)
from worker.tables import (
    Base,
    Companion,
    Delivery,
    FindingRow,
    Instance,
    Job,
    Model,
    Report,
    Study,
)


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
class NewCompanion:
    """An object that goes with a report; its bytes are durable in the archive."""

    kind: CompanionKind
    sop_class_uid: str
    sop_instance_uid: str
    path: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Story:
    """A study with its instances, each with the finding of one model, and what is told of it yet.

    That is its last report, and the companions of all its reports by their SOP Instance UID, as far
    as they are kept; `last_digest` is that of the model of a last report that was removed.
    """

    study: Study
    model: Model
    findings: list[tuple[Instance, FindingRow]]
    last_report: Report | None
    companions: Mapping[str, NewCompanion] = field(default_factory=dict)
    last_digest: str = ""


def forget_receptions(session: Session, study_id: int, before: datetime) -> None:
    """Forget associations that were open when their node died: nobody else will close them."""
    session.execute(_FORGET, {"study": study_id, "before": before})


def story(session: Session, study_id: int, now: datetime) -> Story | None:
    """Gather what the report of a study is made of.

    All findings of one report come from one model: the newest that has answered for all instances.
    When none has (it changed in between), those that the newest has not seen are owed first, and
    None is returned. Of an image that was removed it can only be said that it is there no more.
    """
    study = locked(session, study_id)
    move(study, StudyEvent.QUIET)
    instances = session.scalars(_INSTANCES, {"study": study_id}).all()
    rows = session.scalars(_FINDINGS, {"study": study_id}).all()
    newest = model_of([row.model_id for row in rows], len(instances))
    by_instance = {row.instance_id: row for row in rows if row.model_id == newest}
    unseen = [i for i in instances if i.id not in by_instance]
    missing = [i for i in instances if i.removed_at is None and _is_owed(by_instance.get(i.id))]
    for instance in missing:
        owe(session, JobKind.CLASSIFY, instance.id, study_id, now)
    if missing or newest is None:
        return None
    by_instance |= _told_as_removed(session, unseen, newest, now)
    last = session.scalar(_LAST_REPORT, {"study": study_id})
    found = [(i, by_instance[i.id]) for i in instances]
    companions = {} if last is None else _companions(session, study_id)
    removed = last is not None and last.removed_at is not None
    digest = session.get_one(Model, last.model_id).digest if last and removed else ""
    return Story(study, session.get_one(Model, newest), found, last, companions, digest)


def _is_owed(row: FindingRow | None) -> bool:
    """Tell whether an image is to be looked at, be it again: its study may be another by now."""
    return row is None or row.reason == ANOTHER_PATIENT


def _told_as_removed(
    session: Session, unseen: Sequence[Instance], model_id: int, now: datetime
) -> dict[int, FindingRow]:
    told = {
        instance.id: FindingRow(
            instance_id=instance.id, model_id=model_id, assessed=False, reason=REMOVED, flags=[],
            created_at=now,
        )
        for instance in unseen
    }  # fmt: skip
    if told:
        session.add_all(told.values())
        session.flush()
    return told


def model_of(model_ids: Sequence[int], instances: int) -> int | None:
    """Choose the model of a report by those of all findings of a study, the oldest first.

    Where workers with two models take turns, neither may ever have seen all since the last image.
    """
    last = list(dict.fromkeys(reversed(model_ids)))
    answers = Counter(model_ids)
    whole = [model_id for model_id in last if answers[model_id] == instances]
    return next(iter([*whole, *last]), None)


def _companions(session: Session, study_id: int) -> dict[str, NewCompanion]:
    kept = (Report.study_id == study_id, Companion.removed_at.is_(None))
    rows = session.scalars(select(Companion).join(Report).where(*kept))
    return {row.sop_instance_uid: _new_companion(row) for row in rows}


def _new_companion(row: Companion) -> NewCompanion:
    kind = CompanionKind(row.kind)
    return NewCompanion(kind, row.sop_class_uid, row.sop_instance_uid, row.path, row.sha256)


def companions_of(
    session: Session, report_id: int, kinds: Collection[CompanionKind]
) -> Sequence[Companion]:
    """List what goes with a report to a destination that wants these kinds, pictures first."""
    where = (Companion.report_id == report_id, Companion.kind.in_(kinds))
    order = (Companion.kind.desc(), Companion.id)
    return session.scalars(select(Companion).where(*where).order_by(*order)).all()


def save_report(
    session: Session,
    claim_: Claim,
    new: NewReport,
    destinations: Sequence[str],
    now: datetime,
    companions: Sequence[NewCompanion] = (),
) -> None:
    """Save a report and owe its deliveries; deliveries of earlier revisions are superseded.

    A report that is known already (a retry, or a requeue) is not doubled; companions it had not,
    and destinations it was not yet owed to, are added.

    Raises
    ------
    LeaseLost
        When the study changed meanwhile: the report is out of date and nothing is written.
    """
    study = locked(session, claim_.study_id)
    settle(session, claim_)
    known = session.scalar(_BY_UID, {"uid": new.sop_instance_uid})
    report_id = _entered(session, study, new, now) if known is None else known
    _add_companions(session, report_id, companions)
    move(study, StudyEvent.REPORT_SAVED)
    if known is None:
        for each in destinations:
            _owe_delivery(session, study, _entered_delivery(session, report_id, each), each, now)
        note_dead_letters(session, study)
        return
    _owe_deliveries(session, study, report_id, destinations, now)
    note_dead_letters(session, study)
    settle_deliveries(session, study)


def _entered(session: Session, study: Study, new: NewReport, now: datetime) -> int:
    """Enter a report, and give its id."""
    row = {"study_id": study.id, "created_at": now, **asdict(new)}
    report_id = _id_of(session.execute(_ENTER_REPORT, row))
    if new.revision > 1:
        _supersede(session, study.id, report_id)
    return report_id


def _entered_delivery(session: Session, report_id: int, destination: str) -> int:
    row = {
        "report_id": report_id, "destination": destination, "state": DeliveryState.PENDING,
        "attempts": 0,
    }  # fmt: skip
    return _id_of(session.execute(_ENTER_DELIVERY, row))


def _id_of(entered: Result[Any]) -> int:
    assert isinstance(entered, CursorResult)  # what INSERT gives
    key = entered.inserted_primary_key
    assert key is not None
    return int(key[0])


def _add_companions(session: Session, report_id: int, companions: Sequence[NewCompanion]) -> None:
    if not companions:
        return
    known = select(Companion.sop_instance_uid).where(Companion.report_id == report_id)
    there = set(session.scalars(known))
    for new in companions:
        if new.sop_instance_uid not in there:
            session.add(Companion(report_id=report_id, **asdict(new)))


def _owe_deliveries(
    session: Session, study: Study, report_id: int, destinations: Sequence[str], now: datetime
) -> None:
    """Owe what is not delivered yet of a report that is known, and to all destinations."""
    known = session.execute(_DELIVERIES, {"report": report_id}).all()
    for row in known:
        if row.state == DeliveryState.PENDING:
            _owe_delivery(session, study, row.id, row.destination, now)
    for each in destinations:
        if each not in {row.destination for row in known}:
            _owe_delivery(session, study, _entered_delivery(session, report_id, each), each, now)


def _owe_delivery(
    session: Session, study: Study, delivery_id: int, destination: str, now: datetime
) -> None:
    owe(session, JobKind.DELIVER, delivery_id, study.id, now, destination)


def _supersede(session: Session, study_id: int, newest_report_id: int) -> None:
    """Withdraw what is still owed of earlier revisions, unless it is on its way just now.

    What a destination has already got of them stays delivered; it is no longer asked to keep it.
    """
    of_earlier = select(Report.id).where(Report.study_id == study_id, Report.id != newest_report_id)
    # One delivery after the other: joined, PostgreSQL might read what is owed of all studies.
    job = select(Job.state).where(Job.kind == JobKind.DELIVER, Job.subject_id == Delivery.id)
    earlier = session.execute(
        select(Delivery, job.scalar_subquery()).where(Delivery.report_id.in_(of_earlier))
    ).all()
    for delivery, state in earlier:
        undelivered = delivery.state in {DeliveryState.PENDING, DeliveryState.FAILED}
        if undelivered and state != JobState.LEASED:
            withdraw(session, delivery)
    unconfirmed = (Job.kind == JobKind.COMMIT, Job.subject_id.in_([row.id for row, _ in earlier]))
    session.execute(delete(Job).where(*unconfirmed).execution_options(synchronize_session=False))


# --- the statements --------------------------------------------------------------------------

_receptions = Base.metadata.tables["receptions"]
_FORGET = delete(_receptions).where(
    _receptions.c.study_id == bindparam("study"),
    _receptions.c.last_at <= bindparam("before", type_=_receptions.c.last_at.type),
)
_INSTANCES = select(Instance).where(Instance.study_id == bindparam("study")).order_by(Instance.id)
_FINDINGS = (
    select(FindingRow)
    .join(Instance, Instance.id == FindingRow.instance_id)
    .where(Instance.study_id == bindparam("study"))
    .options(undefer(FindingRow.heatmap))
    .order_by(FindingRow.id)  # a clock may be set back
)
_LAST_REPORT = (
    select(Report)
    .where(Report.study_id == bindparam("study"))
    .order_by(Report.revision.desc())
    .limit(1)
)
_BY_UID = select(Report.id).where(Report.sop_instance_uid == bindparam("uid"))
_ENTER_REPORT = insert(Base.metadata.tables["reports"])
_ENTER_DELIVERY = insert(Base.metadata.tables["deliveries"])
_DELIVERIES = select(Delivery.id, Delivery.destination, Delivery.state).where(
    Delivery.report_id == bindparam("report")
)
