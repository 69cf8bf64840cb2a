"""What is owed, for how long, and what stands in the way; asked again and again by a monitor.

So it never reads more than `MOST` rows of anything, however much is owed or kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import CompoundSelect, Select, bindparam, func, literal, select, text, union_all
from sqlalchemy.orm import Session

from worker.ledger.claiming import IS_OWED, destinations_owed
from worker.ledger.jobs import BY_DESTINATION, jobs
from worker.ledger.outages import outages
from worker.states import JobKind, StudyState
from worker.tables import DEAD, Base

MOST = 10_000
# The other states are where studies end, by the million.
ON_THE_WAY = (StudyState.RECEIVING, StudyState.READY, StudyState.REPORTED, StudyState.FAILED)

studies = Base.metadata.tables["studies"]


@dataclass(frozen=True, slots=True)
class Owed:
    """Work of one kind for one destination: how much, and since when the oldest is due."""

    count: int
    oldest_due_at: datetime


@dataclass(frozen=True, slots=True)
class Backlog:
    """What is owed by kind and destination, and what stands in the way of it."""

    owed: Mapping[tuple[JobKind, str], Owed]
    dead: Mapping[JobKind, int]
    studies: Mapping[StudyState, int]
    away_since: Mapping[str, datetime]


def backlog(session: Session, most: int = MOST) -> Backlog:
    """Count what is owed and what was given up, up to `most` of each."""
    pairs = [(kind, "") for kind in JobKind if kind not in BY_DESTINATION]
    pairs += [
        (kind, destination)
        for kind in JobKind
        if kind in BY_DESTINATION
        for destination in session.scalars(destinations_owed(kind))
    ]
    owed = {pair: _owed(session, *pair, most) for pair in pairs}
    dead = session.execute(_DEAD, {"most": most})
    on_the_way = session.execute(_on_the_way(), {"most": most})
    return Backlog(
        {pair: found for pair, found in owed.items() if found},
        {JobKind(kind): count for kind, count in dead},
        {StudyState(state): count for state, count in on_the_way},
        {each.destination: each.since for each in outages(session)},
    )


def _owed(session: Session, kind: JobKind, destination: str, most: int) -> Owed | None:
    which = {"kind": kind, "destination": destination}
    oldest = session.scalar(_OLDEST, which)
    if oldest is None:
        return None
    return Owed(session.scalars(_COUNT, {**which, "most": most}).one(), oldest)


_PAIR = (jobs.c.kind == bindparam("kind"), jobs.c.destination == bindparam("destination"), IS_OWED)
_OLDEST = select(jobs.c.due_at).where(*_PAIR).order_by(jobs.c.due_at, jobs.c.id).limit(1)


def _counted(some: Select[Any]) -> Select[Any]:
    return select(func.count()).select_from(some.limit(bindparam("most")).subquery())


_COUNT = _counted(select(jobs.c.id).where(*_PAIR))
_GIVEN_UP = (
    select(jobs.c.kind).where(text(f"jobs.{DEAD}")).limit(bindparam("most")).subquery("given_up")
)
_DEAD = select(_GIVEN_UP.c.kind, func.count()).group_by(_GIVEN_UP.c.kind)


@cache
def _on_the_way() -> CompoundSelect[Any]:
    def counted(state: StudyState) -> Select[Any]:
        some = _counted(select(studies.c.id).where(studies.c.state == literal(state.value)))
        return select(literal(state.value), some.scalar_subquery())

    return union_all(*map(counted, ON_THE_WAY))
