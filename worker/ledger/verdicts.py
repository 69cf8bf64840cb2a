"""Verdicts: what readers think of the answers; each is a row, and the last of a reader counts."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, Select, bindparam, exists, func, select
from sqlalchemy.orm import Session

from worker.ledger.decisions import locked_study
from worker.states import Finding, Label, Verdict
from worker.tables import Base, UTCDateTime, VerdictRow

_NAMES = ("verdicts", "findings", "instances", "studies", "models")
verdicts, findings, instances, studies, models = (Base.metadata.tables[name] for name in _NAMES)


@dataclass(frozen=True, slots=True)
class NewVerdict:
    """What a reader thinks of what a model says of an instance.

    Attributes
    ----------
    finding : Finding or None
        What they saw that it says; None where it was not assessed.
    """

    sop_instance_uid: str
    model_id: int
    finding: Finding | None
    verdict: Verdict
    label: Label | None
    comment: str
    person: str


def save_verdict(session: Session, study_instance_uid: str, new: NewVerdict, now: datetime) -> bool:
    """Save a verdict; False when the model does not, or no longer, say that of the instance.

    The study is held: what is being erased gets no verdict that would stay behind.
    """
    study = locked_study(session, study_instance_uid)
    if study is None:
        return False
    values = {"study": study.id, "uid": new.sop_instance_uid, "model": new.model_id}
    about = session.execute(_ABOUT, values).one_or_none()
    if about is None or about.finding != new.finding:
        return False
    session.add(
        VerdictRow(
            instance_id=about.instance_id, model_id=new.model_id, finding=new.finding,
            verdict=new.verdict, label=new.label, comment=new.comment, person=new.person,
            decided_at=now,
        )
    )  # fmt: skip
    return True


_ABOUT = (
    select(*findings.c["instance_id", "finding"])
    .join_from(instances, findings)
    .where(
        instances.c.sop_instance_uid == bindparam("uid"),
        instances.c.study_id == bindparam("study"),
        findings.c.model_id == bindparam("model"),
    )
)


def verdicts_of(session: Session, instance_ids: Collection[int]) -> Sequence[Row[Any]]:
    """List all verdicts about some instances, the first one first."""
    return session.execute(_THEIRS, {"ids": list(instance_ids)}).all()


_IDS: Any = bindparam("ids", expanding=True)
_THEIRS: Select[Any] = (
    select(verdicts).where(verdicts.c.instance_id.in_(_IDS)).order_by(verdicts.c.id)
)


def count_verdicts(session: Session, since: datetime, until: datetime) -> Sequence[Row[Any]]:
    """Count the verdicts of a time that are the last of their reader about an answer.

    Returns
    -------
    sequence of rows
        Model (its id, name and version), finding, verdict, label, and their `number`.
    """
    return session.execute(_COUNTED, {"since": since, "until": until}).all()


_SINCE, _UNTIL = (bindparam(name, type_=UTCDateTime()) for name in ("since", "until"))
_later = verdicts.alias("later")
_IS_LAST = ~exists(
    select(_later.c.id).where(
        _later.c.instance_id == verdicts.c.instance_id,
        _later.c.model_id == verdicts.c.model_id,
        _later.c.person == verdicts.c.person,
        _later.c.id > verdicts.c.id,
    )
)
_KINDS = (*models.c["id", "name", "version"], *verdicts.c["finding", "verdict", "label"])
_COUNTED: Select[Any] = (
    select(*_KINDS, func.count().label("number"))
    .join_from(verdicts, models)
    .where(verdicts.c.decided_at >= _SINCE, verdicts.c.decided_at < _UNTIL, _IS_LAST)
    .group_by(*_KINDS)
    .order_by(models.c.id)
)


def judged_since(session: Session, since: datetime) -> Sequence[Row[Any]]:
    """List all verdicts about each instance that got one since a time, the first one first.

    Returns
    -------
    sequence of rows
        Instance, person, label, and what is needed to read the image: SOP Instance UID, path, and
        the study's UID and patient id.
    """
    return session.execute(_JUDGED, {"since": since}).all()


_JUDGED: Select[Any] = (
    select(
        *verdicts.c["id", "instance_id", "person", "label"],
        *instances.c["sop_instance_uid", "path", "removed_at"],
        *studies.c["study_instance_uid", "patient_id"],
    )
    .join_from(verdicts, instances)
    .join(studies)
    .where(
        verdicts.c.instance_id.in_(
            select(verdicts.c.instance_id).where(verdicts.c.decided_at >= _SINCE)
        )
    )
    .order_by(verdicts.c.id)
)
