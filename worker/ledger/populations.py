"""The images of a time, as far as they are described here: for the drift of a population."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, Select, bindparam, select
from sqlalchemy.orm import Session

from worker.tables import Base, UTCDateTime

studies, instances, findings, models = (
    Base.metadata.tables[name] for name in ("studies", "instances", "findings", "models")
)


@dataclass(frozen=True, slots=True)
class Image:
    """What a model said of an image, and what is known of that."""

    reason: str | None
    finding: str | None
    pneumonia: float | None
    flags: tuple[str, ...]
    modality: str
    calling_ae_title: str
    sop_class_uid: str
    transfer_syntax_uid: str


def model_of(session: Session, digest: str) -> Row[Any] | None:
    """Give the row of a model that has answered."""
    return session.execute(_MODEL, {"digest": digest}).one_or_none()


_MODEL = select(*models.c["id", "name", "version", "digest"]).where(
    models.c.digest == bindparam("digest")
)


def population(
    session: Session, model_id: int, since: datetime, until: datetime, limit: int
) -> tuple[list[Image], bool]:
    """List the images of studies received from `since` until before `until`, the newest first.

    They are asked for by parts: joined, a database might read all that the model ever answered.

    Returns
    -------
    list of Image, bool
        Of the newest `limit` images, those that the model has answered; whether there were more.
    """
    values = {"since": since, "until": until, "limit": limit + 1}
    listed = session.execute(_IMAGES, values).all()
    known = listed[:limit]
    found = []
    for first in range(0, len(known), _AT_ONCE):
        part = known[first : first + _AT_ONCE]
        ids = {"ids": [each.id for each in part], "model": model_id}
        answers = {row.instance_id: row for row in session.execute(_ANSWERS, ids)}
        found += [_image(each, answers[each.id]) for each in part if each.id in answers]
    return found, len(listed) > limit


def _image(known: Row[Any], answer: Row[Any]) -> Image:
    return Image(
        answer.reason, answer.finding, answer.pneumonia, tuple(answer.flags), known.modality,
        known.calling_ae_title, known.sop_class_uid, known.transfer_syntax_uid,
    )  # fmt: skip


_AT_ONCE = 500
_IMAGES: Select[Any] = (
    select(
        *instances.c["id", "modality", "calling_ae_title", "sop_class_uid", "transfer_syntax_uid"]
    )
    .join_from(studies, instances)
    .where(
        studies.c.received_at >= bindparam("since", type_=UTCDateTime()),
        studies.c.received_at < bindparam("until", type_=UTCDateTime()),
    )
    .order_by(studies.c.received_at.desc(), studies.c.id.desc())
    .limit(bindparam("limit"))
)
_ANSWERS: Select[Any] = select(
    *findings.c["instance_id", "reason", "finding", "pneumonia", "flags"]
).where(
    findings.c.instance_id.in_(bindparam("ids", expanding=True)),
    findings.c.model_id == bindparam("model"),
)
