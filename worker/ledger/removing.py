"""Removal: the files that are to go, and the rows after them; also of a whole study, at a wish."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, delete, exists, func, select, update
from sqlalchemy.orm import Session

from worker.ledger.retention import (
    companions,
    deliveries,
    findings,
    instances,
    jobs,
    mark,
    receptions,
    removals,
    reports,
    studies,
)
from worker.states import RemovalCause, RemovalKind, StudyState
from worker.tables import Base, Removal, Study, UTCDateTime

requests, decisions, verdicts, shadows, notices = (
    Base.metadata.tables[name]
    for name in ("commitment_requests", "decisions", "verdicts", "shadow_findings", "notices")
)

_STUDY: Any = bindparam("study")
_PATHS: Any = bindparam("paths", expanding=True)
_ITS_REPORTS = select(reports.c.id).where(reports.c.study_id == _STUDY)
# Each table of files with what makes a row the study's, and what kind of removal it is part of.
_FILES = (
    (instances, instances.c.study_id == _STUDY, RemovalKind.IMAGES),
    (reports, reports.c.study_id == _STUDY, RemovalKind.REPORTS),
    (companions, companions.c.report_id.in_(_ITS_REPORTS), RemovalKind.REPORTS),
)


# --- files -----------------------------------------------------------------------------------


def leaving(session: Session, removal: Removal, limit: int) -> list[str]:
    """Give files that are to go by a removal, and hold the study's row."""
    study_id = session.scalar(_LOCKED, {"uid": removal.study_instance_uid})
    found: list[str] = []
    for table, is_its, kind in _FILES if study_id is not None else ():
        if removal.kind in (kind, RemovalKind.RESULTS):
            paths = (
                select(table.c.path)
                .where(is_its, table.c.removed_at.is_not(None), table.c.path != "")
                .limit(limit - len(found))
            )
            found += session.scalars(paths, {"study": study_id})
    return list(dict.fromkeys(found))


def save_gone(session: Session, removal: Removal, paths: Collection[str]) -> None:
    """Save that files are gone which a removal was to take; the study's row is held."""
    study_id = session.scalar(_LOCKED, {"uid": removal.study_instance_uid})
    for table, is_its, _ in _FILES:
        gone = (is_its, table.c.removed_at.is_not(None), table.c.path.in_(_PATHS))
        clearing = update(table).where(*gone).values(path="")
        session.execute(clearing, {"study": study_id, "paths": list(paths)})


def finish_removal(session: Session, removal: Removal, now: datetime) -> None:
    """Save that a removal is through; where it is one of results, the rows go with it."""
    study_id = session.scalar(_LOCKED, {"uid": removal.study_instance_uid})
    if study_id is not None and removal.kind == RemovalKind.RESULTS:
        _forget(session, study_id)
    session.execute(_FINISHING, {"removal": removal.id, "now": now})


_LOCKED = (
    select(studies.c.id).where(studies.c.study_instance_uid == bindparam("uid")).with_for_update()
)
_FINISHING = (
    update(removals)
    .where(removals.c.id == bindparam("removal"), removals.c.finished_at.is_(None))
    .values(finished_at=bindparam("now", type_=UTCDateTime()))
)


# --- rows ------------------------------------------------------------------------------------

_GONE_REPORTS = select(reports.c.id).where(
    reports.c.study_id == _STUDY, reports.c.removed_at.is_not(None)
)
_GONE_DELIVERIES = select(deliveries.c.id).where(deliveries.c.report_id.in_(_GONE_REPORTS))
_GONE_IMAGES = select(instances.c.id).where(
    instances.c.study_id == _STUDY, instances.c.removed_at.is_not(None)
)
# What refers to something goes before it.
_FORGETTING = (
    delete(requests).where(requests.c.delivery_id.in_(_GONE_DELIVERIES)),
    delete(deliveries).where(deliveries.c.report_id.in_(_GONE_REPORTS)),
    delete(companions).where(companions.c.report_id.in_(_GONE_REPORTS)),
    delete(notices).where(notices.c.report_id.in_(_GONE_REPORTS)),
    delete(reports).where(reports.c.study_id == _STUDY, reports.c.removed_at.is_not(None)),
    delete(verdicts).where(verdicts.c.instance_id.in_(_GONE_IMAGES)),
    delete(findings).where(findings.c.instance_id.in_(_GONE_IMAGES)),
    delete(shadows).where(shadows.c.instance_id.in_(_GONE_IMAGES)),
    delete(instances).where(instances.c.study_id == _STUDY, instances.c.removed_at.is_not(None)),
    delete(decisions).where(decisions.c.study_id == _STUDY),
)
_HAS_IMAGES = select(exists().where(instances.c.study_id == _STUDY))
_LEAVING_NOBODY = (
    delete(jobs).where(jobs.c.study_id == _STUDY),
    delete(receptions).where(receptions.c.study_id == _STUDY),
    delete(studies).where(studies.c.id == _STUDY),
)


def _forget(session: Session, study_id: int) -> None:
    """Delete the rows of what was removed, and the study's if no image came meanwhile."""
    for statement in _FORGETTING:
        session.execute(statement, {"study": study_id})
    if not session.scalar(_HAS_IMAGES, {"study": study_id}):
        for statement in _LEAVING_NOBODY:
            session.execute(statement, {"study": study_id})


# --- erasing ---------------------------------------------------------------------------------


def studies_of(
    session: Session, *, patient_id: str = "", study_instance_uid: str = ""
) -> Sequence[Study]:
    """List the studies of a patient, or the one that is named."""
    if study_instance_uid:
        which = Study.study_instance_uid == study_instance_uid
    else:
        which = Study.patient_id == patient_id
    return session.scalars(select(Study).where(which).order_by(Study.received_at, Study.id)).all()


def is_owed(session: Session, study_id: int, since: datetime, *, hold: bool = False) -> bool:
    """Tell whether a study owes work, or somebody is sending it who was heard since a time.

    Its row may be held, so that it stays so.
    """
    if hold:
        session.execute(_NAME, {"study": study_id})
    return bool(session.scalar(_IS_OWED, {"study": study_id, "since": since}))


_IS_OWED = select(
    exists(select(jobs.c.id).where(jobs.c.study_id == _STUDY))
    | exists(
        select(receptions.c.study_id).where(
            receptions.c.study_id == _STUDY,
            receptions.c.last_at > bindparam("since", type_=UTCDateTime()),
        )
    )
)


def begin_erasure(
    session: Session,
    study_id: int,
    person: str,
    reason: str,
    now: datetime,
    size_of: Callable[[Collection[str]], int],
) -> list[Removal]:
    """Begin to remove all that there is of a study, whatever it owes; that is owed no longer.

    What was found is forgotten at once, and nothing is promised any more; the files and then the
    rows go when the removals are finished. An image that comes meanwhile is another matter.
    """
    uid = session.scalar(_NAME, {"study": study_id})
    if uid is None:
        return []
    for statement in _STRIKING:
        session.execute(statement, {"study": study_id})
    rows = []
    for kind in (RemovalKind.IMAGES, RemovalKind.REPORTS):
        rows.append((kind, *mark(session, study_id, kind, now, size_of)))
    rows = [row for row in rows if row[1]]
    rows.append((RemovalKind.RESULTS, session.scalar(_COUNT, {"study": study_id}) or 0, 0))
    erased = [
        Removal(
            study_instance_uid=uid, kind=kind, count=count, size_bytes=size,
            cause=RemovalCause.ERASED, person=person, reason=reason, begun_at=now,
        )
        for kind, count, size in rows
    ]  # fmt: skip
    session.add_all(erased)
    session.flush()
    return erased


_COUNT = select(func.count()).where(instances.c.study_id == _STUDY)
_NAME = select(studies.c.study_instance_uid).where(studies.c.id == _STUDY).with_for_update()
_ITS_IMAGES = select(instances.c.id).where(instances.c.study_id == _STUDY)
_STRIKING = (
    delete(jobs).where(jobs.c.study_id == _STUDY),
    delete(verdicts).where(verdicts.c.instance_id.in_(_ITS_IMAGES)),
    delete(findings).where(findings.c.instance_id.in_(_ITS_IMAGES)),
    delete(shadows).where(shadows.c.instance_id.in_(_ITS_IMAGES)),
    update(studies).where(studies.c.id == _STUDY).values(state=StudyState.DISCARDED),
)
