"""Origins: when a study first came, which with its row's number is its alone for ever.

A row's number may be given again once the study is erased; a time with it is not.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import bindparam, select
from sqlalchemy.orm import Session

from worker.tables import Base

studies, reports, deliveries, requests = (
    Base.metadata.tables[name]
    for name in ("studies", "reports", "deliveries", "commitment_requests")
)


class Origin(NamedTuple):
    """Which row of this database a study has, and when its first instance came."""

    study_id: int
    received_at: datetime


class Asked(NamedTuple):
    """A delivery that a destination was asked to commit itself to, and its state now."""

    origin: Origin
    asked_at: datetime
    destination: str
    state: str


def origin_of(session: Session, study_instance_uid: str) -> Origin | None:
    """Give the origin of a study; None when it is not known."""
    row = session.execute(_BY_UID, {"uid": study_instance_uid}).one_or_none()
    return None if row is None else Origin(*row)


def origins(session: Session, study_ids: Iterable[int]) -> list[Origin]:
    """Give the origins of studies, as far as they are known."""
    return [Origin(*row) for row in session.execute(_BY_ID, {"ids": sorted(set(study_ids))})]


def asked(session: Session, transaction_uid: str) -> list[Asked]:
    """Give what a destination was asked by one request for commitment."""
    rows = session.execute(_ASKED, {"transaction": transaction_uid})
    return [Asked(Origin(*row[:2]), *row[2:]) for row in rows]


_ORIGIN = select(studies.c.id, studies.c.received_at)
_BY_UID = _ORIGIN.where(studies.c.study_instance_uid == bindparam("uid"))
_BY_ID = _ORIGIN.where(studies.c.id.in_(bindparam("ids", expanding=True)))
_ASKED = (
    select(
        studies.c.id, studies.c.received_at,
        requests.c.asked_at, deliveries.c.destination, deliveries.c.state,
    )
    .select_from(requests)
    .join(deliveries, deliveries.c.id == requests.c.delivery_id)
    .join(reports, reports.c.id == deliveries.c.report_id)
    .join(studies, studies.c.id == reports.c.study_id)
    .where(requests.c.transaction_uid == bindparam("transaction"))
)  # fmt: skip
