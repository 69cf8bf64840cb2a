"""The worklist: studies as people look through them, the newest or the most urgent first.

What is told of a study is the most alarming of its images, and how many were not assessed: silence
is never shown as an answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import Row, Select, and_, func, select, union
from sqlalchemy.orm import Session

from worker.results import Found, details_of, told_of
from worker.states import REMOVED, Finding, StudyState
from worker.tables import Base

PAGE: Final = 50
# Studies that are looked at for one page, at most: a rare answer may need another page.
_MOST_READ: Final = 20 * PAGE

studies, instances, findings = (
    Base.metadata.tables[name] for name in ("studies", "instances", "findings")
)


class Order(StrEnum):
    """What comes first."""

    NEWEST = "newest"
    URGENT = "urgent"


class Answer(StrEnum):
    """What is told of a study in a word."""

    PRESENT = "PRESENT"
    UNDETERMINED = "UNDETERMINED"
    ABSENT = "ABSENT"
    NOT_ASSESSED = "NOT_ASSESSED"
    PENDING = "PENDING"
    NO_ANSWER = "NO_ANSWER"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a person looks for; None and "" do not narrow.

    Attributes
    ----------
    words : str
        An accession number, a patient id or a Study Instance UID, exactly.
    since, until : datetime or None
        When its first image was received; `until` is not included.
    """

    words: str = ""
    state: StudyState | None = None
    answer: Answer | None = None
    since: datetime | None = None
    until: datetime | None = None
    order: Order = Order.NEWEST


@dataclass(frozen=True, slots=True)
class Line:
    """A study of the worklist.

    Attributes
    ----------
    pneumonia : float or None
        The highest of its images.
    reason : str or None
        Why the first image that was not assessed was not.
    """

    found: Found
    answer: Answer
    pneumonia: float | None
    unassessed: int
    reason: str | None


@dataclass(frozen=True, slots=True)
class Page:
    """Some lines, and where the next page begins; None when there is none."""

    lines: Sequence[Line]
    following: int | None


def page(session: Session, wanted: Wanted, begin: int = 0, size: int = PAGE) -> Page:
    """Read a page of the worklist.

    Parameters
    ----------
    begin
        How many studies to pass over: what the page before said.
    size
        How many lines it has, at most.
    """
    lines: list[Line] = []
    for start in range(begin, begin + _MOST_READ, size):
        rows = session.execute(_studies(wanted).offset(start).limit(size + 1)).all()
        for number, line in enumerate(_lines(session, rows[:size]), 1):
            if wanted.answer in (None, line.answer):
                lines.append(line)
            if len(lines) == size:
                return Page(lines, start + number if number < len(rows) else None)
        if len(rows) <= size:
            return Page(lines, None)
    return Page(lines, begin + _MOST_READ)


def line_of(found: Found) -> Line:
    """Say in a line what is told of a study."""
    told = known_of(found)
    answers = {row.finding for row in told.values() if row.assessed}
    unassessed = [row for row in told.values() if not row.assessed]
    scores = [row.pneumonia for row in told.values() if row.assessed]
    return Line(
        found,
        _answer(answers, len(unassessed), _left_of(found, told)),
        max(scores, default=None),
        len(unassessed),
        unassessed[0].reason if unassessed else None,
    )


def known_of(found: Found) -> dict[int, Row[Any]]:
    """Give by instance what is known of it: also what was found before its file was removed."""
    before = {row.instance_id: row for row in found.findings if row.assessed}
    return {
        instance: before.get(instance, row) if row.reason == REMOVED else row
        for instance, row in told_of(found).items()
    }


def _left_of(found: Found, told: Mapping[int, Row[Any]]) -> Answer | None:
    """Say what stands for images that nothing is told of; None when there are none."""
    if found.instances and len(told) == len(found.instances):
        return None
    is_over = found.study.state in (StudyState.FAILED, StudyState.DISCARDED)
    return Answer.NO_ANSWER if is_over else Answer.PENDING


def _answer(answers: set[str], unassessed: int, left: Answer | None) -> Answer:
    for alarming in (Finding.PRESENT, Finding.UNDETERMINED):
        if alarming in answers:
            return Answer(alarming)
    if left is not None:
        return left
    if answers:
        return Answer.ABSENT
    return Answer.NOT_ASSESSED if unassessed else Answer.NO_ANSWER


def _lines(session: Session, rows: Sequence[Row[Any]]) -> Iterator[Line]:
    return map(line_of, details_of(session, rows))


def _studies(wanted: Wanted) -> Select[Any]:
    statement = select(studies).where(*_narrowed(wanted))
    newest = (studies.c.received_at.desc(), studies.c.id.desc())
    if wanted.order is Order.NEWEST:
        return statement.order_by(*newest)
    return statement.order_by(_highest().desc().nulls_last(), *newest)


def _narrowed(wanted: Wanted) -> Iterator[Any]:
    if words := wanted.words.strip():
        columns = studies.c["accession_number", "patient_id", "study_instance_uid"]
        yield _any([column == words for column in columns])
    if wanted.state is not None:
        yield studies.c.state == wanted.state
    if wanted.since is not None:
        yield studies.c.received_at >= wanted.since
    if wanted.until is not None:
        yield studies.c.received_at < wanted.until
    if wanted.answer is Answer.PENDING:
        # Once it is quiet it is told in a moment, or given up, which is looked for by its state.
        yield studies.c.state == StudyState.RECEIVING
    elif wanted.answer is Answer.NO_ANSWER:
        yield studies.c.state == StudyState.FAILED
    elif wanted.answer is not None:
        yield _has_answer(wanted.answer)


_OF_STUDY = and_(instances.c.study_id == studies.c.id, findings.c.instance_id == instances.c.id)


def _any(conditions: Sequence[Any]) -> Any:
    """Narrow to what meets any of some conditions, each by its own index: OR might read all."""
    return studies.c.id.in_(union(*(select(studies.c.id).where(each) for each in conditions)))


def _has_answer(answer: Answer) -> Any:
    """Narrow to what may have an answer: which model's counts is looked at by whoever reads it.

    A count, as PostgreSQL may answer EXISTS by reading all findings.
    """
    is_it = ~findings.c.assessed if answer is Answer.NOT_ASSESSED else findings.c.finding == answer
    counted = select(func.count()).where(_OF_STUDY, is_it).select_from(instances, findings)
    return counted.correlate(studies).scalar_subquery() > 0


def _highest() -> Any:
    return (
        select(func.max(findings.c.pneumonia)).where(_OF_STUDY).correlate(studies).scalar_subquery()
    )
