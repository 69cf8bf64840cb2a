"""A step of a worker: to tell those who want to hear at once of positive studies."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Protocol

from dicom_node.correlation import about, also_about
from dicom_node.errors import ConfigurationError
from worker import ledger, metrics, tracing
from worker.audit.messages import Person, StudyOf, exported
from worker.audit.trail import NotRecorded
from worker.database import DATABASE_AWAY
from worker.desk import Bell, Desk, held, release
from worker.ledger import Claim, LeaseLost, ToSend
from worker.metrics import Outcome, Stage, timed
from worker.notice import Answer, News, NoticeRefused, TargetAway, news_of
from worker.reading import ArchiveAway, FileGone
from worker.settings_notify import Target
from worker.states import JobKind

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from worker.audit.schema import Message
    from worker.settings import Settings

log = logging.getLogger(__name__)

# How many notices are claimed at once. Nothing waits for others to come: what is owed goes.
AT_ONCE = 8
# How many limits of one exchange a step may take in all; its process ends then.
LIMIT = 100
# Workers that die with a notice in hand mostly do so for other reasons.
MOST_DEATHS = 20
# How long to wait at first, and at most, for a file that is gone, or after what nobody foresaw.
GONE_S, ASK_AGAIN_S = 5, 60
# What may go wrong; the text of anything else might quote a patient.
FORESEEN = (TargetAway, NoticeRefused, ConfigurationError, ArchiveAway, FileGone, NotRecorded)
OURSELVES = Person("cxr-worker")


class Send(Protocol):
    """Tells a target; `worker.webhook.send` is one, and `worker.hl7.send`."""

    def __call__(self, settings: Settings, news: News) -> Answer:
        """Give its answer, or raise TargetAway, NoticeRefused or ConfigurationError."""
        ...


Record = Callable[..., None]


def sender(target: str) -> Send:
    """Choose how a target is told."""
    from worker import hl7, webhook

    return hl7.send if target == Target.HL7 else webhook.send


def notify(
    desk: Desk, target: str, send: Send, record: Record, announce: Callable[[Bell], None]
) -> int:
    """Tell a target what it is owed to hear, one notice after the other; tell how many claims.

    Parameters
    ----------
    record
        Writes to the audit trail, before anything leaves.
    """
    claims = _claim(desk, target)
    with held(desk, claims, LIMIT * desk.settings.delivery_timeout_s):
        for number, claim in enumerate(claims):
            try:
                with about(target=target), tracing.working(desk, [claim], destination=target):
                    goes_on = _notify_one(desk, claim, target, send, record)
            except LeaseLost:
                log.info("notice %d is out of date or was taken over", claim.subject_id)
                continue
            if not goes_on:
                release(desk, claims[number + 1 :])
                break
    if len(claims) == AT_ONCE:
        announce(Bell(JobKind.NOTIFY, target))
    return len(claims)


def _claim(desk: Desk, target: str) -> list[Claim]:
    with desk.sessions() as session, session.begin():
        return ledger.claim(
            session, JobKind.NOTIFY, AT_ONCE, desk.clock(), desk.lease, destination=target
        )


def _notify_one(desk: Desk, claim: Claim, target: str, send: Send, record: Record) -> bool:
    """Send a notice; tell whether the target may be sent the next one now."""
    with desk.sessions() as session, session.begin():
        to_send = ledger.notice_to_send(session, claim)
    if to_send is None:
        tracing.note(outcome="SUPERSEDED")
        return True
    also_about(study_instance_uid=to_send.study_instance_uid)
    if why := _hopeless(desk, claim, target):
        _save_unsent(desk, claim, target, _Failure(NoticeRefused(why), why, begun=False))
        return True
    begun = False
    try:
        news = news_of(desk.archive, to_send, desk.settings.notify_fields)
        record(*_exports(desk, to_send, target, news))  # whom it tells, and what, may be set anew
        begun = True
        with timed(Stage.NOTIFY):
            answer = send(desk.settings, news)
    except FORESEEN as error:
        return _save_unsent(desk, claim, target, _Failure(error, str(error), begun))
    except DATABASE_AWAY:
        raise
    except Exception as error:
        log.exception("notice %s could not be sent", to_send.notice.message_id)
        return _save_unsent(desk, claim, target, _Failure(error, type(error).__name__, begun))
    with desk.sessions() as session, session.begin():
        ledger.save_sent(session, claim, answer.status, answer.words, desk.clock())
        ledger.end_outage(session, target)
    tracing.note(outcome=Outcome.DELIVERED.upper())
    metrics.count(metrics.NOTICES, target=target, outcome=Outcome.DELIVERED)
    log.info("notice %s is sent: %s", to_send.notice.message_id, answer.words)
    return True


def _hopeless(desk: Desk, claim: Claim, target: str) -> str:
    """Say why a notice is not even tried; nothing when it is."""
    if target not in desk.settings.targets:
        return f"nobody is set to be told by {target}: set it again and requeue, or discard"
    if claim.deaths >= MOST_DEATHS:
        return f"it ended its worker {claim.deaths} times"
    return ""


def _exports(desk: Desk, to_send: ToSend, target: str, news: News) -> Sequence[Message]:
    """Say to whom it goes, and which of what the site may choose it names."""
    fields = f" with {', '.join(news.fields)}" if news.fields else ""
    study = StudyOf(to_send.study_instance_uid, to_send.patient_id)
    return exported(OURSELVES, [study], f"notice by {address_of(desk.settings, target)}{fields}")


def address_of(settings: Settings, target: str) -> str:
    """Name where a target is: of a webhook without its path, which may hold a secret."""
    from urllib.parse import urlsplit

    if target == Target.HL7:
        return str(settings.hl7_destination)
    url = urlsplit(settings.webhook_url)
    return f"{url.scheme}://{url.netloc}"


# --- what went wrong -------------------------------------------------------------------------


# They say nothing about the notice: what it needs is not there.
_ELSEWHERE = (ConfigurationError, ArchiveAway, NotRecorded)


@dataclass(frozen=True, slots=True)
class _Failure:
    """What went wrong with a try, in words that quote nobody.

    Attributes
    ----------
    begun : bool
        Whether the target was called.
    """

    error: Exception
    words: str
    begun: bool

    @property
    def is_its_own(self) -> bool:
        """Whether it may be the notice that is to blame."""
        if isinstance(self.error, TargetAway):
            return self.error.answered
        return not isinstance(self.error, _ELSEWHERE)

    @property
    def left(self) -> bool:
        """Whether it may have arrived: something was sent, and not refused."""
        if isinstance(self.error, TargetAway):
            return self.error.reached
        return self.begun and not isinstance(self.error, (NoticeRefused, *_ELSEWHERE))


def _save_unsent(desk: Desk, claim: Claim, target: str, failure: _Failure) -> bool:
    """Save what went wrong: for a person, or for another try; tell whether to go on."""
    error, words = failure.error, failure.words
    tracing.failed(type(error).__name__)
    with desk.sessions() as session, session.begin():
        if not ledger.is_held(session, claim):
            return True  # whoever holds it by now answers for it
        due_at = _next_try(desk, session, claim, target, error)
        ledger.save_unsent(
            session, claim, getattr(error, "status", None), words, due_at,
            counts=failure.is_its_own, begun=failure.begun, left=failure.left,
        )  # fmt: skip
    outcome = Outcome.TRIED_AGAIN if due_at else Outcome.GIVEN_UP
    tracing.note(outcome=outcome.upper())
    metrics.count(metrics.NOTICES, target=target, outcome=outcome)
    next_try = f"tried again at {due_at:%H:%M:%S}" if due_at else "given up, see dead-letters"
    log.warning("notice %d by %s: %s; %s", claim.subject_id, target, words, next_try)
    return not isinstance(error, (TargetAway, *_ELSEWHERE))


def _next_try(
    desk: Desk, session: Session, claim: Claim, target: str, error: Exception
) -> datetime | None:
    """Say when a notice is tried again: None is never, not without a person.

    Where the target is the matter, all that is owed to it waits: one try finds out for all.
    """
    settings = desk.settings
    if isinstance(error, ArchiveAway | NotRecorded):
        return desk.shortly()
    if isinstance(error, NoticeRefused):
        ledger.end_outage(session, target)
        return None
    if not isinstance(error, TargetAway | ConfigurationError):  # for a moment, or for good
        last = claim.tries >= settings.max_attempts
        return None if last else desk.back_off(claim.tries, GONE_S, ASK_AGAIN_S)
    times = settings.delivery_retry_s, settings.delivery_retry_max_s
    next_try_at = desk.back_off(ledger.failures_of(session, target) + 1, *times)
    if isinstance(error, TargetAway):
        next_try_at = max(next_try_at, desk.clock() + timedelta(seconds=error.wait_s))
    ledger.save_outage(session, target, desk.clock(), next_try_at, str(error))
    answered = isinstance(error, TargetAway) and error.answered
    return max(next_try_at, desk.back_off(claim.tries, *times)) if answered else next_try_at
