"""What must hold of a ledger at every moment, and what must have come of it in the end."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from io import BytesIO
from typing import Any

from pydicom import dcmread
from sqlalchemy import select
from sqlalchemy.orm import Session

from tests.ward import Ward
from worker import ledger
from worker.states import ARRIVED, TRANSITIONS, DeliveryState, JobKind, JobState, StudyState
from worker.states import StudyEvent as Event
from worker.tables import Delivery, Instance, Job, Report, Study

FINISHED = {StudyState.DELIVERED, StudyState.COMMITTED}

# What one transaction may make of a study: one event, or what a report or an answer brings along.
_AT_ONCE = [
    *((event,) for event in Event),
    (Event.REPORT_SAVED, Event.ALL_DELIVERED),
    (Event.REPORT_SAVED, Event.ALL_DELIVERED, Event.ALL_COMMITTED),
    (Event.ALL_DELIVERED, Event.ALL_COMMITTED),
    (Event.DELIVERY_OWED, Event.GIVEN_UP),
]


def is_explained(old: str, new: str) -> bool:
    """Tell whether the table of transitions leads from a state to another in one transaction."""
    return any(_after_all(StudyState(old), events) == new for events in _AT_ONCE)


def _after_all(state: StudyState, events: Iterable[Event]) -> StudyState | None:
    """Follow events that all change the state."""
    found: StudyState | None = state
    for event in events:
        found = TRANSITIONS.get((found, event)) if found else None
    return found


# --- at every moment -------------------------------------------------------------------------


def nothing_acknowledged_is_lost(ward: Ward, acknowledged: Mapping[str, str]) -> None:
    """`acknowledged`: the SHA-256 of what was answered with Success, by SOP Instance UID."""
    rows = {row.sop_instance_uid: row for row in ward.all(Instance)}
    for uid, sha256 in acknowledged.items():
        assert uid in rows, f"{uid} was acknowledged and is not known"
        assert rows[uid].sha256 == sha256, f"{uid} was acknowledged with other bytes"
        kept = hashlib.sha256(ward.archive.read(rows[uid].path)).hexdigest()
        assert kept == sha256, f"{uid} was acknowledged and is not kept as it was"


def nothing_is_leased_forever(ward: Ward) -> None:
    for job in ward.jobs():
        if job.state == JobState.LEASED:
            assert job.due_at <= ward.clock() + ward.desk.lease, f"{job.kind} is held for too long"


def revisions_are_counted(ward: Ward) -> None:
    revisions = defaultdict(list)
    for report in ward.all(Report):
        revisions[report.study_id].append(report.revision)
    for found in revisions.values():
        assert found == list(range(1, len(found) + 1)), f"revisions {found}"


def states_fit_what_is_owed(ward: Ward) -> None:
    """No study stands still without a reason: work that is due some time, or a dead letter."""
    with ward.sessions() as session:
        for study in session.scalars(select(Study)):
            _state_fits(session, study)


def _state_fits(session: Session, study: Study) -> None:
    jobs = session.scalars(select(Job).where(Job.study_id == study.id)).all()
    owed = {(job.kind, job.subject_id) for job in jobs}
    dead = [job for job in jobs if job.state == JobState.DEAD]
    report = current_report(session, study.id)
    deliveries = _deliveries(session, report)
    states = {delivery.state for delivery in deliveries}
    where = f"{study.state}: {[(j.kind, j.state) for j in jobs]}, {[d.state for d in deliveries]}"
    if study.state in FINISHED:
        assert report is not None, where
        assert states <= {*ARRIVED, DeliveryState.DISCARDED}, where
        assert {job.kind for job in jobs} <= {JobKind.COMMIT}, where
    elif study.state != StudyState.DISCARDED:
        assert jobs, f"nothing is owed of a study that is {where}"
    if study.state == StudyState.COMMITTED:
        assert states - {DeliveryState.DISCARDED} == {DeliveryState.COMMITTED}, where
        assert not jobs, where
    if study.state in {StudyState.RECEIVING, StudyState.READY}:
        assert JobKind.REPORT in {job.kind for job in jobs}, where
    if study.state == StudyState.REPORTED:
        assert report is not None, where
        assert {job.kind for job in dead} <= {JobKind.COMMIT}, where
    if study.state == StudyState.FAILED:
        assert dead, where
    for delivery in deliveries:
        _delivery_fits(delivery, owed, where)


def _delivery_fits(delivery: Delivery, owed: set[tuple[str, int]], where: str) -> None:
    to_send, to_commit = (JobKind.DELIVER, delivery.id), (JobKind.COMMIT, delivery.id)
    if delivery.state == DeliveryState.COMMITTED:
        assert not {to_send, to_commit} & owed, where
    elif delivery.state in {DeliveryState.DELIVERED, DeliveryState.DISCARDED}:
        assert to_send not in owed, where
    elif delivery.state == DeliveryState.FAILED:
        assert to_send in owed, where
    else:
        assert delivery.state == DeliveryState.PENDING, where
        again = any(kind == JobKind.REPORT for kind, _ in owed)
        assert to_send in owed or again, where


def current_report(session: Session, study_id: int) -> Report | None:
    of_study = select(Report).where(Report.study_id == study_id)
    return session.scalars(of_study.order_by(Report.revision.desc()).limit(1)).first()


def _deliveries(session: Session, report: Report | None) -> list[Delivery]:
    if report is None:
        return []
    return list(session.scalars(select(Delivery).where(Delivery.report_id == report.id)))


# --- in the end ------------------------------------------------------------------------------


def nothing_is_owed_but_dead_letters(ward: Ward) -> None:
    with ward.sessions() as session:
        dead = {job.id for job, _ in ledger.dead_letters(session)}
    left = [(job.kind, job.state, job.due_at) for job in ward.jobs() if job.id not in dead]
    assert not left, f"still owed: {left}"


def every_study_has_its_story_told(
    ward: Ward, promised: Mapping[str, Iterable[str]]
) -> dict[tuple[str, str], str]:
    """Hold each study's end against what was promised.

    Give the UID of the current report that arrived, by its destination and study.

    Parameters
    ----------
    promised
        Where each report must go, by its SOP Instance UID.
    """
    told = {}
    with ward.sessions() as session:
        letters = ledger.dead_letters(session)
        for study in session.scalars(select(Study)):
            dead = [job for job, uid in letters if uid == study.study_instance_uid]
            if {JobKind.CLASSIFY, JobKind.REPORT} & {job.kind for job in dead}:
                continue
            if study.state == StudyState.DISCARDED:
                continue
            report = _told(ward, session, study, dead)
            deliveries = _deliveries(session, report)
            names = {delivery.destination for delivery in deliveries}
            assert names >= set(promised[report.sop_instance_uid])
            for delivery in deliveries:
                if delivery.state in ARRIVED:
                    key = (delivery.destination, study.study_instance_uid)
                    told[key] = report.sop_instance_uid
    return told


def _told(ward: Ward, session: Session, study: Study, dead: list[Job]) -> Report:
    """Give the one report of a study that arrived wherever there is no dead letter."""
    report = current_report(session, study.id)
    assert report is not None, f"a study that is {study.state} has no report"
    instances = session.scalars(select(Instance).where(Instance.study_id == study.id))
    assert evidence_of(ward.archive.read(report.path)) == {i.sop_instance_uid for i in instances}
    undelivered = {job.subject_id for job in dead if job.kind == JobKind.DELIVER}
    for delivery in _deliveries(session, report):
        arrived = {*ARRIVED, DeliveryState.DISCARDED}
        expected = {DeliveryState.FAILED} if delivery.id in undelivered else arrived
        assert delivery.state in expected, f"a delivery is {delivery.state}"
    assert undelivered or study.state in FINISHED, f"a study without a dead letter is {study.state}"
    return report


def evidence_of(report: bytes) -> set[str]:
    ds = dcmread(BytesIO(report))
    return {
        str(item.ReferencedSOPInstanceUID)
        for study in ds.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    }


def each_report_is_always_the_same(sent: Iterable[bytes]) -> None:
    seen: dict[str, bytes] = {}
    for data in sent:
        assert seen.setdefault(uid_of(data), data) == data, "one report was sent with two contents"


def uid_of(report: bytes) -> str:
    meta: Any = dcmread(BytesIO(report), specific_tags=[]).file_meta
    return str(meta.MediaStorageSOPInstanceUID)


def last_sent(sent: Iterable[tuple[bytes, str]]) -> dict[tuple[str, str], str]:
    """Give the UID of the report that each destination got last of each study."""
    last = {}
    for data, destination in sent:
        ds = dcmread(BytesIO(data), specific_tags=["StudyInstanceUID"])
        last[destination, str(ds.StudyInstanceUID)] = uid_of(data)
    return last


def the_current_report_came_last(
    told: Mapping[tuple[str, str], str], sent: Iterable[tuple[bytes, str]]
) -> None:
    """Where it arrived: a destination that is no longer set keeps the report that it has."""
    last = last_sent(sent)
    for key, uid in told.items():
        assert last[key] == uid, "an old report followed the current one"
