"""Removals: which are under way, what was removed, and which files rows still name."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, func, select, text
from sqlalchemy.orm import Session

from worker.states import RemovalCause, RemovalKind
from worker.tables import UNFINISHED, Base, Removal, UTCDateTime

instances, reports, companions, removals = (
    Base.metadata.tables[name] for name in ("instances", "reports", "companions", "removals")
)
SINCE = bindparam("since", type_=UTCDateTime())


def unfinished(session: Session, limit: int) -> Sequence[Removal]:
    """List removals that were begun and not finished, the oldest first."""
    which = select(Removal).where(text(f"removals.{UNFINISHED}"))
    return session.scalars(which.order_by(Removal.id).limit(limit)).all()


def unfinished_of(session: Session, study_instance_uid: str) -> Sequence[Removal]:
    """List the removals of a study that were begun and not finished."""
    which = (Removal.study_instance_uid == study_instance_uid, Removal.finished_at.is_(None))
    return session.scalars(select(Removal).where(*which).order_by(Removal.id)).all()


def last_removed_at(session: Session, study_instance_uid: str) -> datetime | None:
    """Tell when images of a study were last removed because they were not to be kept."""
    at: datetime | None = session.scalar(_LAST, {"uid": study_instance_uid})
    return at


_LAST = select(func.max(removals.c.begun_at)).where(
    removals.c.study_instance_uid == bindparam("uid"),
    removals.c.kind.in_([RemovalKind.IMAGES, RemovalKind.RESULTS]),
)


def bytes_removed(session: Session, since: datetime) -> int:
    """Count what was removed since a time, by whomever."""
    return int(session.scalar(_BYTES, {"since": since}) or 0)


_BYTES = select(func.sum(removals.c.size_bytes)).where(removals.c.begun_at >= SINCE)


def save_unnamed(
    session: Session,
    study_instance_uid: str,
    count: int,
    size: int,
    cause: RemovalCause,
    person: str,
    now: datetime,
) -> None:
    """Save that files were removed which no row named."""
    session.add(
        Removal(
            study_instance_uid=study_instance_uid, kind=RemovalKind.FILES, count=count,
            size_bytes=size, cause=cause, person=person, reason="", begun_at=now, finished_at=now,
        )
    )  # fmt: skip


def named_paths(session: Session, sop_instance_uids: Collection[str]) -> set[str]:
    """Give the paths that rows have for these instances, be they promised or about to go."""
    values = {"uids": list(sop_instance_uids)}
    return {path for named in _NAMED for path in session.scalars(named, values)}


_UIDS: Any = bindparam("uids", expanding=True)
_NAMED = tuple(
    select(table.c.path).where(table.c.sop_instance_uid.in_(_UIDS))
    for table in (instances, reports, companions)
)
