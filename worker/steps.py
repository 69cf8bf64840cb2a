"""The step after classification: to report. What it works with is passed in."""

from __future__ import annotations

import logging
from collections.abc import Callable

from dicom_node.errors import InstanceError
from worker import ledger
from worker.companions import write_companions
from worker.database import DATABASE_AWAY
from worker.desk import Bell, Desk, held
from worker.ledger import Claim, LeaseLost
from worker.reading import ArchiveAway, FileGone
from worker.reporting import write_report
from worker.states import JobKind
from worker.tables import Study

log = logging.getLogger(__name__)


def report(desk: Desk, announce: Callable[[Bell], None]) -> int:
    """Report one study that is ready; return how many were claimed (0 or 1)."""
    with desk.sessions() as session, session.begin():
        claims = ledger.claim(
            session, JobKind.REPORT, 1, desk.clock(), desk.lease, silence=desk.silence
        )
    for claim in claims:
        announce(Bell(JobKind.REPORT))
        if claim.deaths >= desk.settings.max_attempts:
            with desk.sessions() as session, session.begin():
                ledger.bury(session, claim, "it ended its worker each time")
            continue
        with held(desk, claims, desk.settings.step_limit_s):
            _report_or_say_why(desk, claim, announce)
    return len(claims)


def _report_or_say_why(desk: Desk, claim: Claim, announce: Callable[[Bell], None]) -> None:
    try:
        _report_one(desk, claim, announce)
    except LeaseLost:
        uid = _study_uid(desk, claim)
        log.info("study %s changed while it was reported; it is reported anew", uid)
        with desk.sessions() as session, session.begin():
            ledger.take_death_back(session, claim)
    except ArchiveAway as error:
        log.warning("study %s cannot be reported now: %s", _study_uid(desk, claim), error)
        with desk.sessions() as session, session.begin():
            ledger.put_back(session, claim, desk.shortly(), str(error), counts=False)
    except (InstanceError, FileGone) as error:
        log.error(  # noqa: TRY400  the line says it all
            "study %s cannot be reported: %s", _study_uid(desk, claim), error
        )
        _try_report_later(desk, claim, error)
    except DATABASE_AWAY:
        raise  # says nothing of the study, and nothing can be saved of it now
    except Exception as error:
        log.exception("study %s could not be reported", _study_uid(desk, claim))
        _try_report_later(desk, claim, error)


def _report_one(desk: Desk, claim: Claim, announce: Callable[[Bell], None]) -> None:
    with desk.sessions() as session, session.begin():
        story = ledger.story(session, claim.study_id, desk.clock())
        ledger.forget_receptions(session, claim.study_id, desk.clock() - desk.silence)
        if story is None:
            words = "instances are to be classified"
            ledger.put_back(session, claim, desk.clock(), words, counts=False)
    if story is None:
        announce(Bell(JobKind.CLASSIFY))
        return
    new = write_report(desk.archive, story)
    companions = write_companions(desk.archive, desk.decoder, story, desk.settings.companions)
    destinations = [str(each.peer) for each in desk.settings.destinations]
    with desk.sessions() as session, session.begin():
        ledger.save_report(session, claim, new, destinations, desk.clock(), companions)
    uid = story.study.study_instance_uid
    log.info("study %s is reported: %s, revision %d", uid, new.sop_instance_uid, new.revision)
    for destination in destinations:
        announce(Bell(JobKind.DELIVER, destination))


def _study_uid(desk: Desk, claim: Claim) -> str:
    with desk.sessions() as session:
        return session.get_one(Study, claim.study_id).study_instance_uid


def _try_report_later(desk: Desk, claim: Claim, error: Exception) -> None:
    told = isinstance(error, InstanceError | FileGone)
    words = str(error) if told else type(error).__name__
    with desk.sessions() as session, session.begin():
        if claim.tries >= desk.settings.max_attempts or isinstance(error, InstanceError):
            ledger.bury(session, claim, words)
        else:
            ledger.put_back(session, claim, desk.back_off(claim.tries, 1, 60), words)
