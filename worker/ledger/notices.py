"""Notices: what each target is told of a study that is positive, or is so no more.

A notice is owed in the transaction that saves the report which gives cause for it. A target hears
of a study once, and again only when the answer changes between positive and not: then the notice
says that it corrects another. An alarm is not withdrawn because nobody looked: it stands until each
image that gave cause for it has been assessed again. What is not certain to have arrived counts as
told and not told: it is corrected where it does not hold any more, and told where it does. So a try
is counted before it begins, and taken back when it is certain that nothing was taken.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Row, Select, bindparam, delete, exists, func, select, update
from sqlalchemy.orm import Session

from worker.ledger.jobs import (
    Claim,
    LeaseLost,
    bury,
    is_held,
    jobs,
    locked,
    owe,
    put_back,
    settle,
)
from worker.states import Finding, JobKind, JobState, NoticeState
from worker.tables import Base, Model, Notice, Report

notices = Base.metadata.tables["notices"]
# In the details of the last notice of a study: in which images it is found, see `_alarming`.
_POSITIVE = "positive"


@dataclass(frozen=True, slots=True)
class Told:
    """What a report tells of its study, as the worklist has it.

    Attributes
    ----------
    finding : str
        The answer in a word.
    details : mapping
        What else is told of it; nothing by which a patient could be known.
    positive, unassessed : set
        Ids of the images in which it was found, and of those that were not assessed this time.
    """

    finding: str
    details: dict[str, Any]
    positive: frozenset[int] = frozenset()
    unassessed: frozenset[int] = frozenset()

    @property
    def is_positive(self) -> bool:
        """Whether somebody should hear of it at once."""
        return self.finding == Finding.PRESENT


@dataclass(frozen=True, slots=True)
class ToSend:
    """A notice that is to be sent now, with the report that it tells of."""

    notice: Notice
    report: Report
    model: Model
    study_instance_uid: str
    patient_id: str


# --- owing -----------------------------------------------------------------------------------


def owe_notices(
    session: Session,
    study_id: int,
    told: Told,
    targets: Collection[str],
    now: datetime,
    new_id: Callable[[], str],
) -> bool:
    """Owe each target what it does not know yet of a study, whose row is held; tell if any.

    Parameters
    ----------
    told
        What the last report tells.
    targets
        Who is to be told.
    new_id
        Gives ids that name nobody and are never the same.
    """
    before: Sequence[Row[Any]] = session.execute(_OF_STUDY, {"study": study_id}).all()
    if not before and not told.is_positive:
        return False
    report_id = session.scalar(_NEWEST, {"study": study_id})
    reference = before[0].reference if before else new_id()
    owed = False
    for target in targets:
        theirs = [row for row in before if row.target == target]
        alarming = _alarming(theirs, told)
        if theirs:
            _remember(session, theirs[-1], alarming)
        if alarming and not told.is_positive:
            continue  # nothing is known against what was told, or is about to be
        told = replace(told, details=_noted(told.details, alarming))
        if _goes_on(session, theirs, told, report_id, now):
            owed = True
            continue
        known = _known(theirs)
        if known is not None and known == told.is_positive:
            continue
        notice = Notice(
            study_id=study_id, report_id=report_id, target=target, message_id=new_id(),
            reference=reference, finding=told.finding, details=told.details,
            corrects=any(_may_have_arrived(row) for row in theirs), state=NoticeState.PENDING,
            owed_at=now,
        )  # fmt: skip
        session.add(notice)
        session.flush()
        owe(session, JobKind.NOTIFY, notice.id, study_id, now, target)
        owed = True
    return owed


def _alarming(theirs: Sequence[Row[Any]], told: Told) -> frozenset[int]:
    """Give the images in which it is found, or was when they were last assessed."""
    if not theirs:
        return told.positive
    before = theirs[-1].details.get(_POSITIVE, told.unassessed)  # not noted: it may be any
    return told.positive | told.unassessed.intersection(before)


def _remember(session: Session, notice: Row[Any], alarming: frozenset[int]) -> None:
    details = _noted(notice.details, alarming)
    if details != notice.details:
        session.execute(_NOTE, {"notice": notice.id, "details": details})


def _noted(details: Mapping[str, Any], alarming: frozenset[int]) -> dict[str, Any]:
    return {**details, _POSITIVE: sorted(alarming)}


def _goes_on(
    session: Session, theirs: Sequence[Row[Any]], told: Told, report_id: int | None, now: datetime
) -> bool:
    """Have a notice that is still owed tell of the new report; withdraw it if it is true no more.

    One that is on its way just now is left alone: what follows it comes after it. One that is
    claimed and waits for its turn is not on its way, and its claim is worth nothing then.
    """
    last = theirs[-1] if theirs else None
    if last is None or last.state not in (NoticeState.PENDING, NoticeState.FAILED):
        return False
    if _is_positive(last) != told.is_positive:
        if last.job != JobState.LEASED or not last.attempts:
            _withdraw(session, last)
        return False
    news = {"finding": told.finding, "details": told.details, "report_id": report_id}
    session.execute(_CHANGE, {"notice": last.id, **news})
    if last.state == NoticeState.FAILED or last.job is None:  # another report, another chance
        session.execute(_MOVE, {"notice": last.id, "state": NoticeState.PENDING})
        owe(session, JobKind.NOTIFY, last.id, last.study_id, now, last.target)
    return True


def _withdraw(session: Session, notice: Row[Any]) -> None:
    """Owe a notice no longer; of one that was refused it stays known that it was."""
    session.execute(_STRIKE, {"notice": notice.id})
    if notice.state == NoticeState.PENDING:
        session.execute(_MOVE, {"notice": notice.id, "state": NoticeState.SUPERSEDED})


def _known(theirs: Sequence[Row[Any]]) -> bool | None:
    """Tell what a target takes a study for; None when that is not certain. At first: not positive.

    Parameters
    ----------
    theirs
        What it was told, or was to be told, the first first.
    """
    known: bool | None = False
    for row in theirs:
        if row.state == NoticeState.SENT:
            known = _is_positive(row)
        elif _may_have_arrived(row) and known is not _is_positive(row):
            known = None
    return known


def _may_have_arrived(row: Row[Any]) -> bool:
    return bool(row.attempts or row.state == NoticeState.SENT)


def _is_positive(row: Row[Any] | Notice) -> bool:
    return bool(row.finding == Finding.PRESENT)


# --- sending ---------------------------------------------------------------------------------


def notice_to_send(session: Session, claim_: Claim) -> ToSend | None:
    """Give a claimed notice with its report, and count the try: from now on it may have arrived.

    It is withdrawn (None) if another one follows it, or if the target knows it already: what it was
    to correct, or what was to make it known no more, was on its way then and has not arrived.

    Raises
    ------
    LeaseLost
        When it was taken over, or is not owed any more.
    """
    study = locked(session, claim_.study_id)
    notice = session.get(Notice, claim_.subject_id)
    if notice is None or not is_held(session, claim_):
        raise LeaseLost(f"{claim_.kind} of {claim_.subject_id}")
    if session.scalar(_IS_FOLLOWED, _place(notice)) or _is_old_news(session, notice):
        settle(session, claim_)
        notice.state = NoticeState.SUPERSEDED
        return None
    notice.attempts += 1
    notice.tries += 1
    report = session.get_one(Report, notice.report_id)
    model = session.get_one(Model, report.model_id)
    return ToSend(notice, report, model, study.study_instance_uid, study.patient_id)


def _is_old_news(session: Session, notice: Notice) -> bool:
    """Say of a notice, before its first try, whether it corrects; tell if it is not needed."""
    if notice.attempts:
        return False  # it may be known: it stays as it was
    rows = session.execute(_OF_STUDY, {"study": notice.study_id})
    before = [row for row in rows if row.target == notice.target and row.id < notice.id]
    notice.corrects = any(_may_have_arrived(row) for row in before)
    return _known(before) is _is_positive(notice)


def _place(notice: Notice) -> dict[str, Any]:
    return {"study": notice.study_id, "target": notice.target, "notice": notice.id}


def save_sent(
    session: Session, claim_: Claim, status: int | None, answer: str, now: datetime
) -> None:
    """Save that a target has taken a notice.

    Raises
    ------
    LeaseLost
        When another worker has taken it over.
    """
    locked(session, claim_.study_id)
    settle(session, claim_)
    session.execute(_ANSWER, _answered(claim_, status, answer))
    session.execute(_SENT, {"notice": claim_.subject_id, "now": now})


def save_unsent(
    session: Session,
    claim_: Claim,
    status: int | None,
    answer: str,
    due_at: datetime | None,
    *,
    counts: bool = True,
    begun: bool = True,
    left: bool = True,
) -> None:
    """Save what went wrong: tried again at `due_at`, or given up for a person when None.

    A lost lease is not an error: whoever holds the work by now answers for it.

    Parameters
    ----------
    counts
        Whether the try says anything about the notice itself.
    begun
        Whether it came to a try at all, so that it counts as one, and has an answer to be shown.
    left
        Whether it may have arrived; if not, the try is taken back.
    """
    if due_at is not None:
        saved = put_back(session, claim_, due_at, answer, counts=counts)
    else:
        saved = bury(session, claim_, answer)
    if saved and begun:
        session.execute(_ANSWER, _answered(claim_, status, answer))
    elif saved:
        session.execute(_UNTRY, {"notice": claim_.subject_id})
    if saved and not left:
        session.execute(_TAKE_BACK, {"notice": claim_.subject_id})
    if saved and due_at is None:
        session.execute(_MOVE, {"notice": claim_.subject_id, "state": NoticeState.FAILED})


def _answered(claim_: Claim, status: int | None, answer: str) -> dict[str, object]:
    return {"notice": claim_.subject_id, "last_status": status, "last_answer": answer}


# --- the statements --------------------------------------------------------------------------

_JOB = (jobs.c.kind == JobKind.NOTIFY, jobs.c.subject_id == notices.c.id)
_OF_STUDY: Select[Any] = (
    # One notice after the other: joined, PostgreSQL might read what is owed of all studies.
    select(
        *notices.c[
            "id", "study_id", "target", "reference", "finding", "details", "corrects", "state",
            "attempts", "sent_at", "owed_at",
        ],
        select(jobs.c.state).where(*_JOB).scalar_subquery().label("job"),
    )
    .where(notices.c.study_id == bindparam("study"))
    .order_by(notices.c.id)
)  # fmt: skip
_NEWEST = select(func.max(Report.id)).where(Report.study_id == bindparam("study"))
_IS_FOLLOWED = select(
    exists().where(
        notices.c.study_id == bindparam("study"),
        notices.c.target == bindparam("target"),
        notices.c.id > bindparam("notice"),
    )
)
_THE_NOTICE = update(notices).where(notices.c.id == bindparam("notice"))
_MOVE = _THE_NOTICE.values(state=bindparam("state"))
_NOTE = _THE_NOTICE.values(details=bindparam("details", type_=notices.c.details.type))
_CHANGE = _THE_NOTICE.values(
    report_id=bindparam("report_id"),
    finding=bindparam("finding"),
    details=bindparam("details", type_=notices.c.details.type),
)
_ANSWER = _THE_NOTICE.values(
    last_status=bindparam("last_status"), last_answer=bindparam("last_answer")
)
_TAKE_BACK = _THE_NOTICE.values(attempts=notices.c.attempts - 1)
_UNTRY = _THE_NOTICE.values(tries=notices.c.tries - 1)
_SENT = _THE_NOTICE.values(
    state=NoticeState.SENT, sent_at=bindparam("now", type_=notices.c.sent_at.type)
)
_STRIKE = delete(jobs).where(
    jobs.c.kind == JobKind.NOTIFY, jobs.c.subject_id == bindparam("notice")
)
