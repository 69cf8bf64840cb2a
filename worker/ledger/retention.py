"""Retention: which studies may lose their images, reports or rows, and what is removed of them.

A removal is owed like any other work: the rows that it concerns are marked in the transaction that
enters it, so that nothing promises their files any more, and only then do the files go. Whoever
removes a file holds the study's row, as does whoever enters an instance of it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Select,
    and_,
    bindparam,
    exists,
    func,
    or_,
    select,
    text,
    tuple_,
    update,
)
from sqlalchemy.orm import Session

from worker.states import RemovalCause, RemovalKind, StudyState
from worker.tables import KEPT, Base, Removal, UTCDateTime

studies, instances, findings, reports, companions, deliveries, jobs, receptions, removals = (
    Base.metadata.tables[name]
    for name in (
        "studies", "instances", "findings", "reports", "companions", "deliveries", "jobs",
        "receptions", "removals",
    )
)  # fmt: skip

BEFORE = bindparam("before", type_=UTCDateTime())
SINCE = bindparam("since", type_=UTCDateTime())
_STUDIES: Any = bindparam("studies", expanding=True)
_STUDY: Any = bindparam("study")

# What may go is of a study that is through: its report is where it should be, or a person has
# decided to do without.
THROUGH = (StudyState.DELIVERED, StudyState.COMMITTED, StudyState.DISCARDED)


@dataclass(frozen=True, slots=True)
class Rule:
    """Which studies lose what, and why.

    Attributes
    ----------
    before : datetime
        What is as old as that.
    since : datetime
        An association that has been silent since then is gone.
    """

    kind: RemovalKind
    cause: RemovalCause
    before: datetime
    since: datetime


class Place(NamedTuple):
    """A place among all that is kept of a kind, the oldest first."""

    at: datetime
    id: int
    study_id: int


# --- what may go -----------------------------------------------------------------------------


def oldest(session: Session, rule: Rule, after: Place | None, limit: int) -> list[Place]:
    """Give a page of what is old enough, the oldest first; whether it may go is another question.

    Parameters
    ----------
    after : Place or None
        The last of the page before.
    """
    values: dict[str, Any] = {"before": rule.before, "limit": limit}
    if after is not None:
        values |= {"at": after.at, "id": after.id}
    rows = session.execute(_page(rule.kind, after is not None), values)
    return [Place(*row) for row in rows]


@cache
def _page(kind: RemovalKind, goes_on: bool) -> Select[Any]:
    at, id_, study_id, kept = {
        RemovalKind.IMAGES: (*instances.c["received_at", "id", "study_id"], "instances"),
        RemovalKind.REPORTS: (*reports.c["created_at", "id", "study_id"], "reports"),
        RemovalKind.RESULTS: (*studies.c["received_at", "id", "id"], ""),
    }[kind]
    page = select(at, id_.label("row_id"), study_id.label("study")).where(at < BEFORE)
    if kept:
        page = page.where(text(f"{kept}.{KEPT}"))
    if goes_on:
        place = tuple_(bindparam("at", type_=UTCDateTime()), bindparam("id"))
        page = page.where(tuple_(at, id_) > place)
    return page.order_by(at, id_).limit(bindparam("limit"))


def may_go(session: Session, rule: Rule, study_ids: Collection[int]) -> set[int]:
    """Choose the studies that a rule may take something of now.

    None that owes work, to which nothing is owed any more only when all was delivered: where a
    destination offers commitment, that is owed until it is given, given up, or written off.
    """
    values = {"before": rule.before, "since": rule.since, "studies": list(study_ids)}
    return set(session.scalars(_may_go(rule.kind, rule.cause), values))


@cache
def _may_go(kind: RemovalKind, cause: RemovalCause) -> Select[Any]:
    terms = [studies.c.id.in_(_STUDIES), _is_through(), *_rests()]
    if cause is RemovalCause.AGE:
        terms += _is_old(kind)
    if kind is RemovalKind.RESULTS:
        terms += [~_has_kept(instances), ~_has_kept(reports), ~_has_unfinished()]
    return select(studies.c.id).where(*terms)


def _of_a_study(table: Any, *terms: ColumnElement[bool]) -> ColumnElement[bool]:
    # OFFSET has PostgreSQL ask for one study after the other, and not join all first.
    return exists(
        select(table.c.study_id).where(table.c.study_id == studies.c.id, *terms).offset(0)
    )


def _is_through() -> ColumnElement[bool]:
    """Tell whether a study has come to its end.

    A report that is owed to nobody, as there were no destinations, has come to its end as well.
    """
    newest = (
        select(func.max(reports.c.id)).where(reports.c.study_id == studies.c.id).correlate(studies)
    )
    sent = exists(
        select(deliveries.c.id).where(deliveries.c.report_id == newest.scalar_subquery()).offset(0)
    )
    # As it is named, a study is to be looked up by its id; by its state there are too many.
    state = func.coalesce(studies.c.state, "")
    to_nobody = and_(state == StudyState.REPORTED, ~sent)
    return or_(state.in_([str(each) for each in THROUGH]), to_nobody)


def _rests() -> list[ColumnElement[bool]]:
    return [~_of_a_study(jobs), ~_of_a_study(receptions, receptions.c.last_at > SINCE)]


def _is_old(kind: RemovalKind) -> list[ColumnElement[bool]]:
    """Tell whether the youngest that a study has of a kind is old enough."""
    reported = _of_a_study(reports, reports.c.created_at >= BEFORE)
    received = studies.c.last_received_at < BEFORE
    return {
        RemovalKind.IMAGES: [received],
        RemovalKind.REPORTS: [~reported],
        RemovalKind.RESULTS: [received, ~reported],
    }[kind]


def _has_kept(table: Any) -> ColumnElement[bool]:
    return _of_a_study(table, table.c.removed_at.is_(None))


def _has_unfinished() -> ColumnElement[bool]:
    named = removals.c.study_instance_uid == studies.c.study_instance_uid
    return exists(select(removals.c.id).where(named, removals.c.finished_at.is_(None)).offset(0))


# --- marking ---------------------------------------------------------------------------------


def mark(
    session: Session,
    study_id: int,
    kind: RemovalKind,
    now: datetime,
    size_of: Callable[[Collection[str]], int],
) -> tuple[int, int]:
    """Promise the files of a kind no longer; give how many they are, and of how many bytes.

    The study's row is held.

    Parameters
    ----------
    size_of : callable
        Gives the size of files whose rows do not say it; at once, as the row is held.
    """
    values = {"study": study_id, "now": now}
    if kind is RemovalKind.IMAGES:
        sizes = session.scalars(_IMAGES_KEPT, values).all()
        session.execute(_MARK_IMAGES, values)
        return len(sizes), sum(sizes)
    paths = unsized(session, study_id)
    session.execute(_MARK_REPORTS, values)
    session.execute(_MARK_ALONG, values)
    return len(paths), size_of(paths)


def unsized(session: Session, study_id: int) -> set[str]:
    """Name the files that are kept of a study and whose rows do not say their size."""
    values = {"study": study_id}
    return {*session.scalars(_REPORTS_KEPT, values), *session.scalars(_ALONG_KEPT, values)}


def bytes_kept(session: Session, study_id: int) -> int:
    """Count the bytes of the images that are kept of a study."""
    return sum(session.scalars(_IMAGES_KEPT, {"study": study_id}))


_ITS_REPORTS = select(reports.c.id).where(reports.c.study_id == _STUDY)
_IS_ITS_IMAGE = instances.c.study_id == _STUDY
_IS_ITS_REPORT = reports.c.study_id == _STUDY
_IS_ALONG = companions.c.report_id.in_(_ITS_REPORTS)
_NOW = bindparam("now", type_=UTCDateTime())

_IMAGES_KEPT, _REPORTS_KEPT, _ALONG_KEPT = (
    select(column).where(is_its, column.table.c.removed_at.is_(None))
    for column, is_its in (
        (instances.c.size_bytes, _IS_ITS_IMAGE),
        (reports.c.path, _IS_ITS_REPORT),
        (companions.c.path, _IS_ALONG),
    )
)
_MARK_IMAGES, _MARK_REPORTS, _MARK_ALONG = (
    update(table).where(is_its, table.c.removed_at.is_(None)).values(removed_at=_NOW)
    for table, is_its in (
        (instances, _IS_ITS_IMAGE), (reports, _IS_ITS_REPORT), (companions, _IS_ALONG),
    )
)  # fmt: skip


def begin_removal(
    session: Session,
    study_id: int,
    rule: Rule,
    now: datetime,
    size_of: Callable[[Collection[str]], int],
    person: str = "",
) -> Removal | None:
    """Begin to remove what a rule says of a study; None when it may not go, or nothing is left."""
    uid = session.scalar(_LOCKED, {"study": study_id})
    if uid is None or not may_go(session, rule, [study_id]):
        return None
    if rule.kind is RemovalKind.RESULTS:
        count, size = session.scalar(_COUNT, {"study": study_id}) or 0, 0
    else:
        count, size = mark(session, study_id, rule.kind, now, size_of)
        if not count:
            return None
    removal = Removal(
        study_instance_uid=uid, kind=rule.kind, count=count, size_bytes=size, cause=rule.cause,
        person=person, reason="", begun_at=now,
    )  # fmt: skip
    session.add(removal)
    session.flush()
    return removal


_LOCKED = select(studies.c.study_instance_uid).where(studies.c.id == _STUDY).with_for_update()
_COUNT = select(func.count()).where(_IS_ITS_IMAGE)
