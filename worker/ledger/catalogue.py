"""The catalogue: what the archive holds, received and made, for those who ask over the network."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
    Select,
    and_,
    desc,
    or_,
    select,
    text,
    tuple_,
    union,
)
from sqlalchemy.orm import Session

from worker.tables import DOTTED, KEPT, Companion, Instance, Report, Study


@dataclass(frozen=True, slots=True)
class Holding:
    """An object in the archive, which is not to be removed.

    Attributes
    ----------
    path : str
        Relative to the archive's root.
    sha256 : str
        Of the whole file.
    size_bytes : int or None
        Of the whole file; None for what we made.
    series_instance_uid : str or None
        None for what we made: it stands in the file.
    modality : str or None
        None for what we made.
    """

    study_id: int
    sop_class_uid: str
    sop_instance_uid: str
    path: str
    sha256: str
    size_bytes: int | None = None
    series_instance_uid: str | None = None
    modality: str | None = None

    @property
    def is_ours(self) -> bool:
        """Whether we made it."""
        return self.series_instance_uid is None


@dataclass(frozen=True, slots=True)
class Narrowing:
    """What the database can tell of a query; "" and () tell nothing.

    Attributes
    ----------
    study_date_from, study_date_to : str
        The ends of a range, YYYYMMDD; a study without a date, or with an odd one, is within it.
    """

    study_instance_uids: Collection[str] = ()
    patient_id: str = ""
    accession_number: str = ""
    study_date_from: str = ""
    study_date_to: str = ""


def studies_by(
    session: Session, narrowing: Narrowing, *, after: Study | None, limit: int
) -> Sequence[Study]:
    """Give a page of studies that may match, the newest first.

    They come as they were received; where only dates narrow, as they were made.

    Parameters
    ----------
    session : Session
        Reads only.
    narrowing : Narrowing
        What is known of them.
    after : Study or None
        The last study of the page before.
    limit : int
        Rows of a page.
    """
    conditions, dates = _conditions(narrowing), _dates(narrowing)
    if dates and not conditions:
        ids = session.scalars(_by_date(dates, after, limit)).all()
        page = select(Study).where(Study.id.in_(ids))
        return session.scalars(page.order_by(Study.study_date.desc(), Study.id.desc())).all()
    if dates:
        conditions.append(or_(Study.study_date == "", _IS_DOTTED, and_(*dates)))
    if after is not None:
        conditions.append(_before(Study.received_at, after.received_at, after))
    newest_first = select(Study).order_by(Study.received_at.desc(), Study.id.desc())
    return session.scalars(newest_first.where(*conditions).limit(limit)).all()


def _conditions(narrowing: Narrowing) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if narrowing.study_instance_uids:
        conditions.append(Study.study_instance_uid.in_(narrowing.study_instance_uids))
    if narrowing.patient_id:
        conditions.append(Study.patient_id == narrowing.patient_id)
    if narrowing.accession_number:
        conditions.append(Study.accession_number == narrowing.accession_number)
    return conditions


def _dates(narrowing: Narrowing) -> list[ColumnElement[bool]]:
    dates: list[ColumnElement[bool]] = []
    if narrowing.study_date_from:
        dates.append(Study.study_date >= narrowing.study_date_from)
    if narrowing.study_date_to:
        dates.append(Study.study_date <= narrowing.study_date_to)
    return dates


# The old form of a date, cut to what the column holds: it may be of any day.
_IS_DOTTED: Any = text(f"studies.{DOTTED}")


def _before(column: Any, value: object, after: Study) -> ColumnElement[bool]:
    return tuple_(column, Study.id) < tuple_(value, after.id)


def _by_date(
    dates: list[ColumnElement[bool]], after: Study | None, limit: int
) -> CompoundSelect[int, str]:
    """Select a page of those within dates, of those with an odd one, and of those without any.

    Each of the three is read from an index, in its order; together they would be sorted anew for
    each page.
    """
    parts: list[list[ColumnElement[bool]]] = [[Study.study_date == ""]]
    if after is None:
        parts += [dates, [_IS_DOTTED]]
    elif after.study_date == "":  # the last of all
        parts[0].append(Study.id < after.id)
    else:
        behind = _before(Study.study_date, after.study_date, after)
        parts += [[*dates, behind], [_IS_DOTTED, behind]]
    pages = (
        select(Study.id, Study.study_date)
        .where(*part)
        .order_by(Study.study_date.desc(), Study.id.desc())
        .limit(limit)
        .subquery()
        for part in parts
    )
    each = union(*(select(page.c.id, page.c.study_date) for page in pages))
    return each.order_by(desc("study_date"), desc("id")).limit(limit)


def holdings_of(session: Session, study_ids: Collection[int]) -> dict[int, list[Holding]]:
    """Give what is held of some studies: instances as received, then what we made of them."""
    found: dict[int, list[Holding]] = {study_id: [] for study_id in study_ids}
    for holding in _select(session, study_ids=study_ids):
        known = found[holding.study_id]
        # A later revision of a report takes its companions over.
        if all(holding.sop_instance_uid != each.sop_instance_uid for each in known):
            known.append(holding)
    return found


def holding(session: Session, sop_instance_uid: str) -> Holding | None:
    """Give one object, None when it is not held."""
    return next(iter(_select(session, sop_instance_uid=sop_instance_uid)), None)


def studies_with(session: Session, sop_instance_uids: Collection[str]) -> tuple[str, ...]:
    """Give the UIDs of the studies of some objects, as far as those are held."""
    found = [holding(session, uid) for uid in sop_instance_uids]
    ids = {each.study_id for each in found if each is not None}
    return tuple(session.scalars(select(Study.study_instance_uid).where(Study.id.in_(ids))))


def was_removed(session: Session, study_instance_uid: str, sop_instance_uid: str = "") -> bool:
    """Tell whether a study, or one object of it, was held once; what was erased never was."""
    known = select(Study.id).where(Study.study_instance_uid == study_instance_uid)
    study_id = session.scalar(known)
    if study_id is None or not sop_instance_uid:
        return study_id is not None
    return any(
        session.scalar(statement.where(table.sop_instance_uid == sop_instance_uid)) == study_id
        for statement, table in (
            (select(Instance.study_id), Instance),
            (select(Report.study_id), Report),
            (select(Report.study_id).join_from(Companion, Report), Companion),
        )
    )


def newest_paths(session: Session, limit: int) -> Sequence[str]:
    """Give the paths of the instances that were received last and are kept, the newest first."""
    newest_first = select(Instance.path).where(text(f"instances.{KEPT}"))
    newest_first = newest_first.order_by(Instance.received_at.desc(), Instance.id.desc())
    return session.scalars(newest_first.limit(limit)).all()


# What Holding is made of, as far as a table has it.
_RECEIVED = (
    Instance.study_id, Instance.sop_class_uid, Instance.sop_instance_uid, Instance.path,
    Instance.sha256, Instance.size_bytes, Instance.series_instance_uid, Instance.modality,
)  # fmt: skip
_MADE = (Report.study_id, Report.sop_class_uid, Report.sop_instance_uid, Report.path, Report.sha256)
_ALONG = (
    Report.study_id, Companion.sop_class_uid, Companion.sop_instance_uid, Companion.path,
    Companion.sha256,
)  # fmt: skip


def _select(
    session: Session, *, study_ids: Collection[int] = (), sop_instance_uid: str = ""
) -> list[Holding]:
    statements: list[Select[Any]] = []
    for columns, table in ((_RECEIVED, Instance), (_MADE, Report), (_ALONG, Companion)):
        # By a term, PostgreSQL would take what is kept for little, and read all of it.
        statement: Select[Any] = select(*columns, table.removed_at).order_by(table.id)
        if table is Companion:
            statement = statement.join_from(Companion, Report)
        if sop_instance_uid:
            statement = statement.where(table.sop_instance_uid == sop_instance_uid)
        else:
            statement = statement.where(columns[0].in_(study_ids))
        statements.append(statement)
    rows = [row for statement in statements for row in session.execute(statement)]
    return [Holding(*values) for *values, removed_at in rows if removed_at is None]
