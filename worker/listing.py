"""Lists of studies for programs, page by page: each begins behind the last study of the one before.

A page costs the same wherever it begins, however many studies there are, and none is told twice or
left out when others come in between.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import Row, Select, select, tuple_
from sqlalchemy.orm import Session

from worker.results import Found, details_of
from worker.states import StudyState
from worker.tables import Base
from worker.worklist import Answer, line_of

MOST: Final = 200
# Studies that are looked at for an answer, so many times for one page at most: a rare one may need
# another page.
_AT_ONCE: Final = 200
_TIMES: Final = 5

studies = Base.metadata.tables["studies"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
# Hexadecimal digits of the microseconds since 1970, up to the year 4253, and of the number.
_TIME_DIGITS, _ID_DIGITS = 14, 15
CURSOR_PATTERN: Final = rf"^[0-9a-f]{{{_TIME_DIGITS + _ID_DIGITS}}}$"


@dataclass(frozen=True, slots=True)
class Place:
    """The last study of a page."""

    received_at: datetime
    id: int

    def cursor(self) -> str:
        """Spell it as a program is given it, as `CURSOR_PATTERN` says."""
        since = (self.received_at - _EPOCH) // _MICROSECOND
        return f"{since:0{_TIME_DIGITS}x}{self.id:0{_ID_DIGITS}x}"

    @classmethod
    def at(cls, cursor: str) -> Place:
        """Read it as a program gives it back; whatever is spelled so is a place."""
        since, number = int(cursor[:_TIME_DIGITS], 16), int(cursor[_TIME_DIGITS:], 16)
        return cls(_EPOCH + since * _MICROSECOND, number)


@dataclass(frozen=True, slots=True)
class Criteria:
    """What a program looks for; what is None does not narrow.

    Attributes
    ----------
    since, until : datetime or None
        When its first image was received; `until` is not included.
    """

    study: str | None = None
    accession: str | None = None
    patient_id: str | None = None
    state: StudyState | None = None
    answer: Answer | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Listed:
    """A page, and behind which study the next begins; None when nothing is left."""

    studies: Sequence[Found]
    following: Place | None


def list_studies(
    session: Session, criteria: Criteria, after: Place | None = None, limit: int = 50
) -> Listed:
    """Read a page of studies, the newest first.

    Parameters
    ----------
    after
        What the page before said.
    limit
        How many studies it has, at most. It may have fewer, or none, and yet not be the last: an
        answer is looked for among so many studies at a time.
    """
    found: list[Found] = []
    size, times = (_AT_ONCE, _TIMES) if criteria.answer else (limit, 1)
    for _ in range(times):
        rows = session.execute(_page(criteria, after, size + 1)).all()
        for each in details_of(session, rows[:size]):
            if len(found) == limit:
                return Listed(found, after)
            after = Place(each.study.received_at, each.study.id)
            if criteria.answer in (None, line_of(each).answer):
                found.append(each)
        if len(rows) <= size:
            return Listed(found, None)
    return Listed(found, after)


def _page(criteria: Criteria, after: Place | None, size: int) -> Select[Any]:
    newest_first = (studies.c.received_at.desc(), studies.c.id.desc())
    narrowed = select(studies).where(*_narrowed(criteria, after))
    return narrowed.order_by(*newest_first).limit(size)


def _narrowed(criteria: Criteria, after: Place | None) -> Iterator[Any]:
    exactly = {
        "study_instance_uid": criteria.study,
        "accession_number": criteria.accession,
        "patient_id": criteria.patient_id,
        "state": criteria.state,
    }
    yield from (studies.c[name] == value for name, value in exactly.items() if value is not None)
    if criteria.since is not None:
        yield studies.c.received_at >= criteria.since
    if criteria.until is not None:
        yield studies.c.received_at < criteria.until
    if after is not None:
        yield tuple_(studies.c.received_at, studies.c.id) < tuple_(after.received_at, after.id)


def find_study(session: Session, study_instance_uid: str) -> Found | None:
    """Find a study by its UID; None when it is not known."""
    rows: Sequence[Row[Any]] = session.execute(_page(Criteria(study_instance_uid), None, 1)).all()
    return next(details_of(session, rows), None)
