"""The step after classification: to report. What it works with is passed in."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence

from dicom_node.correlation import about, also_about
from dicom_node.errors import InstanceError
from worker import ledger, tracing
from worker.companions import write_companions
from worker.database import DATABASE_AWAY
from worker.desk import Bell, Desk, held, release
from worker.ledger import Claim, LeaseLost, Story
from worker.metrics import Stage, timed
from worker.news import owe_notices
from worker.reading import ArchiveAway, FileGone
from worker.removing import finish_removals
from worker.states import JobKind
from worker.tables import Study
from worker.writing import MixedPatients, write_report

log = logging.getLogger(__name__)

# How many studies are claimed at once for their reports. Nothing waits for others to come.
REPORTS_AT_ONCE = 16
# No other is begun by a step that is this old, so that a worker stops soon.
REPORTING_S = 10.0
# How often deliveries are announced at most while reports are made.
RING_EVERY_S = 0.25


def report(desk: Desk, announce: Callable[[Bell], None]) -> int:
    """Report the studies that are ready, one after the other; return how many were claimed.

    What becomes ready meanwhile is reported as well, for a while; then another turn is announced.
    """
    count, began_at = 0, time.monotonic()

    def is_over() -> bool:
        return time.monotonic() - began_at >= REPORTING_S

    while claims := _claim_studies(desk):
        count += len(claims)
        if len(claims) == REPORTS_AT_ONCE:
            announce(Bell(JobKind.REPORT))  # to another worker, as there may be more
        limit_s = REPORTING_S + desk.settings.step_limit_s
        with held(desk, claims, limit_s), _Deliveries(desk, announce) as owed:
            for number, claim in enumerate(claims):
                if number and is_over():
                    release(desk, claims[number:])
                    break
                with about(), tracing.working(desk, [claim]):
                    _report_or_say_why(desk, claim, announce, owed)
        if is_over():
            announce(Bell(JobKind.REPORT))
            break
    return count


def _claim_studies(desk: Desk) -> list[Claim]:
    now, limit = desk.clock(), REPORTS_AT_ONCE
    with desk.sessions() as session, session.begin():
        return ledger.claim(session, JobKind.REPORT, limit, now, desk.lease, silence=desk.silence)


class _Deliveries:
    """Announces what destinations are owed: the first at once, those soon after it together."""

    def __init__(self, desk: Desk, announce: Callable[[Bell], None]) -> None:
        self._desk, self._announce = desk, announce
        self._rung_at = -math.inf
        self._silent = False

    def __enter__(self) -> _Deliveries:
        return self

    def __exit__(self, *error: object) -> None:
        if self._silent:
            self._ring()

    def grow(self) -> None:
        """Announce another one, if not right after the last."""
        self._silent = time.monotonic() - self._rung_at < RING_EVERY_S
        if not self._silent:
            self._ring()

    def _ring(self) -> None:
        for each in self._desk.settings.destinations:
            self._announce(Bell(JobKind.DELIVER, str(each.peer)))
        self._rung_at = time.monotonic()


def _report_or_say_why(
    desk: Desk, claim: Claim, announce: Callable[[Bell], None], owed: _Deliveries
) -> None:
    if claim.deaths >= desk.settings.max_attempts:
        with desk.sessions() as session, session.begin():
            ledger.bury(session, claim, "it ended its worker each time")
        tracing.failed("WORKER_FAILURE")
        return
    try:
        _report_one(desk, claim, announce, owed)
    except MixedPatients as error:
        _give_up_mixed(desk, claim, error)
    except LeaseLost as error:
        tracing.failed(error)
        uid = _study_uid(desk, claim)
        log.info("study %s changed while it was reported; it is reported anew", uid)
        with desk.sessions() as session, session.begin():
            ledger.take_death_back(session, claim)
    except ArchiveAway as error:
        tracing.failed(error)
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


def _report_one(
    desk: Desk, claim: Claim, announce: Callable[[Bell], None], owed: _Deliveries
) -> None:
    story = _gathered(desk, claim)
    if story is not None and story.last_report is not None and story.last_report.removed_at:
        # Before anything is written that may be called as what is to go; rows may go with it.
        finish_removals(desk, story.study.study_instance_uid)
        story = _gathered(desk, claim)
    if story is None:
        tracing.note(outcome="CLASSIFIED_FIRST")
        announce(Bell(JobKind.CLASSIFY))
        return
    with timed(Stage.REPORT):
        is_news = _write_and_save(desk, claim, story)
    owed.grow()
    for target in desk.settings.targets if is_news else ():
        announce(Bell(JobKind.NOTIFY, target))


def _write_and_save(desk: Desk, claim: Claim, story: Story) -> bool:
    """Write a report and save what is owed of it; tell whether somebody is to be told at once."""
    uid = story.study.study_instance_uid
    also_about(study_instance_uid=uid)
    new = write_report(desk.archive, story)
    companions = write_companions(desk.archive, desk.decoder, story, desk.settings.companions)
    destinations = [str(each.peer) for each in desk.settings.destinations]
    with desk.sessions() as session, session.begin():
        ledger.save_report(session, claim, new, destinations, desk.clock(), companions)
        is_news = owe_notices(session, claim.study_id, desk.settings.targets, desk.clock())
    _see_that_they_stay(desk, story, [new.path, *(each.path for each in companions)])
    tracing.note(revision=new.revision)
    log.info("study %s is reported: %s, revision %d", uid, new.sop_instance_uid, new.revision)
    return is_news


def _see_that_they_stay(desk: Desk, story: Story, paths: Sequence[str]) -> None:
    """Write once more, as the same bytes, what was removed while no row named it yet."""
    archive = desk.archive
    try:
        if not all(archive.stays(path) for path in paths):
            write_report(archive, story)
            write_companions(archive, desk.decoder, story, desk.settings.companions)
    except (OSError, ArchiveAway, FileGone, InstanceError) as error:
        # It is saved all the same; where it is not there, its delivery says so.
        uid = story.study.study_instance_uid
        words = type(error).__name__
        log.warning("whether the report of study %s stays cannot be seen: %s", uid, words)


def _gathered(desk: Desk, claim: Claim) -> Story | None:
    """Gather the story of a study; None, and put back, when something is to be classified first."""
    with desk.sessions() as session, session.begin():
        if not ledger.is_held(session, claim):  # it waited its turn among those claimed with it
            raise LeaseLost(f"{claim.kind} of {claim.study_id}")
        story = ledger.story(session, claim.study_id, desk.clock())
        ledger.forget_receptions(session, claim.study_id, desk.clock() - desk.silence)
        if story is None:
            words = "instances are to be classified"
            ledger.put_back(session, claim, desk.clock(), words, counts=False)
    return story


def _study_uid(desk: Desk, claim: Claim) -> str:
    with desk.sessions() as session:
        study = session.get(Study, claim.study_id)
    if study is None:
        return "that was erased"
    also_about(study_instance_uid=study.study_instance_uid)
    return study.study_instance_uid


def _give_up_mixed(desk: Desk, claim: Claim, error: MixedPatients) -> None:
    """Give a study of more than one patient up, and show nobody what was found of the others."""
    tracing.failed(error)
    log.error("study %s cannot be reported: %s", _study_uid(desk, claim), error)
    with desk.sessions() as session, session.begin():
        if ledger.bury(session, claim, str(error)):
            ledger.withhold(session, claim.study_id, error.others)


def _try_report_later(desk: Desk, claim: Claim, error: Exception) -> None:
    tracing.failed(error)
    told = isinstance(error, InstanceError | FileGone)
    words = str(error) if told else type(error).__name__
    with desk.sessions() as session, session.begin():
        if claim.tries >= desk.settings.max_attempts or isinstance(error, InstanceError):
            ledger.bury(session, claim, words)
        else:
            ledger.put_back(session, claim, desk.back_off(claim.tries, 1, 60), words)
