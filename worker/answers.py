"""Answers about instances: what they may be, and how those of a batch are saved."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import DBAPIError

from worker import ledger, metrics
from worker.database import DATABASE_AWAY
from worker.desk import Desk
from worker.ledger import Claim, LeaseLost, NewFinding
from worker.tracing import Steps

if TYPE_CHECKING:
    from model.predict import ModelInfo

log = logging.getLogger(__name__)

MODEL_FAILURE, WORKER_FAILURE = "MODEL_FAILURE", "WORKER_FAILURE"
# How much longer than a failure of the instance a lack of this machine is borne.
PATIENCE = 5
CALIBRATION_KEYS = ("threshold", "undetermined", "temperature", "calibrated")


class Away(str):
    """The error of a try that says nothing about the instance: archive or memory were lacking."""


class Scarce(str):
    """The error of a try that this machine lacked something for; much later it is a failure."""


class Gone(str):
    """The error of a try that found nothing to assess: in the end, for a person to see."""


# A finding, or the error of a failed try.
Answer = NewFinding | str


def save_answers(
    desk: Desk, info: ModelInfo, claims: Sequence[Claim], answers: dict[int, Answer]
) -> bool:
    """Save the answers of a batch; tell whether a report became due by them."""
    now = desk.clock()
    with desk.sessions() as session, session.begin():
        model_id = _model_id(session, info, now)
    final = {claim: _final(desk, claim, answers[claim.subject_id]) for claim in claims}
    saved = _save_at_once(desk, model_id, final, now)
    for claim, answer in final.items():
        if isinstance(answer, NewFinding):
            log.debug("instance %d: %s", claim.subject_id, answer.finding or answer.reason)
        if claim in saved or _save_by_itself(desk, model_id, claim, answer):
            _count(answer, info)
    with desk.sessions() as session:
        return ledger.ready_studies(session, (c.study_id for c in claims), now, desk.silence)


def tell_answers(steps: Steps, claims: Sequence[Claim], answers: Mapping[int, Answer]) -> None:
    """Tell the traces of a batch, by study, why images were not assessed, or are tried again."""
    for study_id in {claim.study_id for claim in claims}:
        mine = [answers[claim.subject_id] for claim in claims if claim.study_id == study_id]
        found = [answer for answer in mine if isinstance(answer, NewFinding)]
        reasons = sorted({str(each.reason) for each in found if not each.assessed})
        if reasons:
            steps.note(study_id, not_assessed=reasons)
        for answer in mine:
            if isinstance(answer, str):  # its words may be anything
                steps.failed(_WORDS.get(type(answer), MODEL_FAILURE), study_id)


_WORDS: dict[type, str] = {Away: "AWAY", Scarce: "SCARCE", Gone: "GONE"}


def _count(answer: Answer, info: ModelInfo) -> None:
    """Count what was saved of an instance, if that is what becomes of it."""
    if not isinstance(answer, NewFinding):
        return
    if not answer.assessed:
        metrics.count(metrics.NOT_ASSESSED, reason=str(answer.reason))
        return
    metrics.count(metrics.FINDINGS, finding=str(answer.finding), model_version=info.version)
    metrics.observe(metrics.SCORE, answer.pneumonia or 0.0, model_version=info.version)


def _final(desk: Desk, claim: Claim, answer: Answer) -> Answer:
    """Make the error of a last try a finding: that there is none."""
    failed = isinstance(answer, str) and not isinstance(answer, Away | Gone)
    most = desk.settings.max_attempts * (PATIENCE if isinstance(answer, Scarce) else 1)
    if failed and claim.tries >= most:
        return NewFinding(assessed=False, reason=MODEL_FAILURE)
    return answer


def _save_at_once(
    desk: Desk, model_id: int, answers: Mapping[Claim, Answer], now: datetime
) -> set[Claim]:
    """Save in one transaction what needs no thought; give what was saved."""
    found = {each: new for each, new in answers.items() if isinstance(new, NewFinding)}
    if len(found) < 2:
        return set()
    try:
        with desk.sessions() as session, session.begin():
            return ledger.save_findings(session, model_id, found, now)
    except DATABASE_AWAY:
        raise
    except DBAPIError:  # it takes one of them for nothing that it stores: which one?
        return set()


def _save_by_itself(desk: Desk, model_id: int, claim: Claim, answer: Answer) -> bool:
    """Save an answer; tell whether it is that of its instance now."""
    try:
        with desk.sessions() as session, session.begin():
            return _save_answer(desk, session, claim, model_id, answer)
    except DATABASE_AWAY:
        raise
    except DBAPIError as error:  # what was found is nothing that a database takes
        log.error("instance %d: %s", claim.subject_id, type(error).__name__)  # noqa: TRY400
        failure = NewFinding(assessed=False, reason=MODEL_FAILURE)
        with desk.sessions() as session, session.begin():
            _save_answer(desk, session, claim, model_id, failure)
        metrics.count(metrics.NOT_ASSESSED, reason=MODEL_FAILURE)
        return False


def _save_answer(desk: Desk, session: Any, claim: Claim, model_id: int, answer: Answer) -> bool:
    if isinstance(answer, NewFinding):
        return _save_finding(desk, session, claim, model_id, answer)
    if isinstance(answer, Away):
        ledger.put_back(session, claim, desk.shortly(), answer, counts=False)
    elif isinstance(answer, Gone) and claim.tries >= desk.settings.max_attempts:
        ledger.bury(session, claim, answer)
    else:
        ledger.put_back(session, claim, desk.back_off(claim.tries, 1, 60), answer)
    return False


def _save_finding(desk: Desk, session: Any, claim: Claim, model_id: int, new: NewFinding) -> bool:
    try:
        ledger.save_finding(session, claim, model_id, new, desk.clock())
    except LeaseLost:
        log.warning("instance %d was taken over by another worker", claim.subject_id)
        ledger.take_death_back(session, claim)
        return False
    return True


def _model_id(session: Any, info: ModelInfo, now: datetime) -> int:
    details = {key: getattr(info, key) for key in CALIBRATION_KEYS}
    return ledger.model_row(
        session, name=info.name, version=info.version, digest=info.digest, details=details, now=now
    )
