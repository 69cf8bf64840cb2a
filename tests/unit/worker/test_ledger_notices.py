"""Who is told what of a positive study, and when again, on SQLite and PostgreSQL."""

from __future__ import annotations

import itertools
from collections.abc import Collection
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from tests.ledgers import LEASE, Desk
from worker import ledger, news
from worker.ledger import Claim, LeaseLost, Told
from worker.states import JobKind, NoticeState
from worker.tables import Job, Notice, Study

NOTIFY = JobKind.NOTIFY
WEBHOOK, HL7 = "webhook", "hl7"


def told(finding: str, positive: Collection[int] = (), unassessed: Collection[int] = ()) -> Told:
    details = {"pneumonia": 0.9, "images": 1, "unassessed": len(unassessed), "flags": []}
    return Told(finding, details, frozenset(positive), frozenset(unassessed))


class Telling:
    """A study of a ledger that is reported again and again."""

    def __init__(self, desk: Desk, *targets: str) -> None:
        self.desk, self.targets = desk, targets or (WEBHOOK,)
        self.uid = desk.ready()
        self.revisions = itertools.count(1)

    def report(self, finding: str, **images: Collection[int]) -> bool:
        """Save a report, as the first one or as a new revision, and owe what it gives cause for."""
        desk, revision = self.desk, next(self.revisions)
        if revision > 1:
            desk.receive(self.uid)
            desk.close()
            desk.classify()
            desk.clock.forward(9)
        claim, new = desk.claim_report(), desk.new_report(revision)
        with desk.sessions() as session, session.begin():
            ledger.save_report(session, claim, new, [], desk.clock())
            owed: bool = ledger.owe_notices(
                session,
                claim.study_id,
                told(finding, **images),
                self.targets,
                desk.clock(),
                news.new_id,
            )
        return owed

    def claim(self, target: str = WEBHOOK) -> Claim:
        (claim,) = self.desk.claim(NOTIFY, 1, destination=target)
        return claim

    def begin(self, target: str = WEBHOOK) -> Claim:
        claim = self.claim(target)
        assert self.desk.do(ledger.notice_to_send, claim) is not None
        return claim

    def send(self, target: str = WEBHOOK) -> Any:
        claim = self.begin(target)
        self.desk.do(ledger.save_sent, claim, 204, "taken", self.desk.clock())
        return claim

    def fail(self, *, left: bool = True, for_good: bool = False, target: str = WEBHOOK) -> None:
        due_at = None if for_good else self.desk.clock()
        self.desk.do(ledger.save_unsent, self.begin(target), 503, "away", due_at, left=left)

    def notices(self, target: str = WEBHOOK) -> list[tuple[str, str, bool]]:
        rows = [row for row in self.desk.all(Notice) if row.target == target]
        return [(row.finding, row.state, row.corrects) for row in rows]

    def owed(self) -> list[str]:
        return [job.kind for job in self.desk.all(Job) if job.kind == NOTIFY]


@pytest.fixture
def telling(desk: Desk) -> Telling:
    return Telling(desk)


def test_each_target_is_told_of_a_positive_study_once(desk: Desk) -> None:
    telling = Telling(desk, WEBHOOK, HL7)
    assert telling.report("PRESENT")
    assert sorted(job.destination for job in desk.all(Job) if job.kind == NOTIFY) == [HL7, WEBHOOK]
    telling.send(WEBHOOK)
    telling.send(HL7)
    for target in (WEBHOOK, HL7):
        assert telling.notices(target) == [("PRESENT", "SENT", False)]
    one, other = desk.all(Notice)
    assert one.message_id != other.message_id
    assert one.reference == other.reference
    assert len(one.message_id) <= 20  # MSH-10
    assert not telling.owed()


@pytest.mark.parametrize("finding", ["ABSENT", "UNDETERMINED", "NOT_ASSESSED"])
def test_nobody_is_told_of_what_is_not_positive(telling: Telling, finding: str) -> None:
    assert not telling.report(finding)
    assert telling.notices() == []


def test_the_same_story_is_not_told_twice(telling: Telling) -> None:
    telling.report("PRESENT")
    telling.send()
    assert not telling.report("PRESENT")
    assert telling.notices() == [("PRESENT", "SENT", False)]


def test_what_was_told_is_corrected_when_it_is_so_no_more_and_when_it_is_again(
    telling: Telling,
) -> None:
    for finding in ("PRESENT", "UNDETERMINED", "ABSENT", "PRESENT"):
        if telling.report(finding):
            telling.send()
    assert telling.notices() == [
        ("PRESENT", "SENT", False), ("UNDETERMINED", "SENT", True), ("PRESENT", "SENT", True),
    ]  # fmt: skip
    assert len({row.reference for row in telling.desk.all(Notice)}) == 1


@pytest.mark.parametrize("finding", ["ABSENT", "UNDETERMINED", "NOT_ASSESSED"])
def test_an_alarm_stands_until_its_images_are_assessed_again(
    telling: Telling, finding: str
) -> None:
    telling.report("PRESENT", positive={1})
    telling.send()
    assert not telling.report(finding, unassessed={1, 2})
    assert telling.notices() == [("PRESENT", "SENT", False)]
    assert telling.report(finding, unassessed={2})
    assert telling.notices()[1:] == [(finding, "PENDING", True)]


def test_an_alarm_stands_for_images_that_became_positive_after_it_was_told(
    telling: Telling,
) -> None:
    telling.report("PRESENT", positive={1})
    telling.send()
    assert not telling.report("PRESENT", positive={2})
    assert not telling.report("ABSENT", unassessed={2})
    assert not telling.report("ABSENT", unassessed={2})  # nor is it forgotten meanwhile
    assert telling.report("ABSENT")


def test_images_are_assessed_again_one_after_the_other(telling: Telling) -> None:
    telling.report("PRESENT", positive={1, 2})
    telling.send()
    assert not telling.report("ABSENT", unassessed={1})
    assert telling.report("ABSENT", unassessed={2})


def test_an_alarm_that_is_still_owed_goes_though_its_image_was_not_assessed_again(
    telling: Telling,
) -> None:
    telling.report("PRESENT", positive={1})
    telling.report("ABSENT", unassessed={1})
    telling.send()
    assert telling.notices() == [("PRESENT", "SENT", False)]


def test_a_notice_without_its_images_stands_until_all_are_assessed(telling: Telling) -> None:
    telling.report("PRESENT", positive={1})
    telling.send()
    with telling.desk.sessions() as session, session.begin():
        notice = session.scalars(select(Notice)).one()
        notice.details = {k: v for k, v in notice.details.items() if k != "positive"}
    assert not telling.report("ABSENT", unassessed={2})
    assert telling.report("ABSENT")


def test_a_notice_that_was_never_sent_is_replaced_and_nothing_is_corrected(
    telling: Telling,
) -> None:
    telling.report("PRESENT")
    telling.fail(left=False)
    assert not telling.report("ABSENT")
    assert telling.notices() == [("PRESENT", "SUPERSEDED", False)]
    assert not telling.owed()
    assert telling.report("PRESENT")
    telling.send()
    assert telling.notices()[1:] == [("PRESENT", "SENT", False)]


def test_a_notice_that_is_owed_tells_of_the_newest_report_under_the_same_id(
    telling: Telling,
) -> None:
    telling.report("PRESENT")
    before = telling.desk.one(Notice)
    telling.fail()
    assert telling.report("PRESENT")
    after = telling.desk.one(Notice)
    assert after.message_id == before.message_id
    assert after.report_id > before.report_id
    telling.send()
    assert telling.notices() == [("PRESENT", "SENT", False)]


def test_what_may_have_arrived_is_corrected_when_it_is_so_no_more(telling: Telling) -> None:
    telling.report("PRESENT")
    telling.fail()
    assert telling.report("ABSENT")
    telling.send()
    assert telling.notices() == [("PRESENT", "SUPERSEDED", False), ("ABSENT", "SENT", True)]


def test_what_may_not_have_arrived_is_told_when_it_is_so_again(telling: Telling) -> None:
    telling.report("PRESENT")
    telling.fail()
    telling.report("ABSENT")
    assert telling.report("PRESENT")
    telling.send()
    states = [(finding, state) for finding, state, _ in telling.notices()]
    assert states == [("PRESENT", "SUPERSEDED"), ("ABSENT", "SUPERSEDED"), ("PRESENT", "SENT")]


def test_a_correction_never_overtakes_what_is_on_its_way(telling: Telling) -> None:
    telling.report("PRESENT")
    claim = telling.begin()
    assert telling.report("ABSENT")
    desk = telling.desk
    assert desk.claim(NOTIFY, 1, destination=WEBHOOK) == []
    desk.do(ledger.save_sent, claim, 204, "taken", desk.clock())
    telling.send()
    assert telling.notices() == [("PRESENT", "SENT", False), ("ABSENT", "SENT", True)]


def test_what_never_arrived_after_all_is_not_corrected(telling: Telling) -> None:
    desk = telling.desk
    telling.report("PRESENT")
    claim = telling.begin()
    assert telling.report("ABSENT")
    desk.do(ledger.save_unsent, claim, None, "away", desk.clock(), left=False)
    for _ in range(2):
        assert desk.do(ledger.notice_to_send, telling.claim()) is None
    assert [state for _, state, _ in telling.notices()] == ["SUPERSEDED", "SUPERSEDED"]
    assert not telling.owed()
    assert telling.report("PRESENT")
    telling.send()
    assert telling.notices()[2:] == [("PRESENT", "SENT", False)]


def test_a_correction_that_never_arrived_after_all_is_not_taken_back(telling: Telling) -> None:
    desk = telling.desk
    telling.report("PRESENT")
    telling.send()
    telling.report("ABSENT")
    claim = telling.begin()
    assert telling.report("PRESENT")
    desk.do(ledger.save_unsent, claim, None, "away", desk.clock(), left=False)
    for _ in range(2):
        assert desk.do(ledger.notice_to_send, telling.claim()) is None
    assert telling.notices()[0] == ("PRESENT", "SENT", False)
    assert not telling.owed()


def test_an_old_notice_never_follows_a_correction(telling: Telling) -> None:
    telling.report("PRESENT")
    claim, desk = telling.begin(), telling.desk
    telling.report("ABSENT")
    desk.clock.forward(LEASE.total_seconds() + 1)  # its worker died, perhaps after it had sent it
    telling.send()
    heir = telling.claim()
    assert heir.subject_id == claim.subject_id
    with pytest.raises(LeaseLost):
        desk.do(ledger.save_sent, claim, 204, "taken", desk.clock())
    assert desk.do(ledger.notice_to_send, heir) is None
    assert telling.notices() == [("PRESENT", "SUPERSEDED", False), ("ABSENT", "SENT", True)]
    assert desk.all(Notice)[0].attempts == 1


def test_a_refused_notice_is_a_dead_letter_that_does_not_hold_up_its_study(desk: Desk) -> None:
    telling = Telling(desk)
    telling.report("PRESENT")
    telling.fail(for_good=True)
    assert telling.notices() == [("PRESENT", "FAILED", False)]
    assert desk.study_state(telling.uid) == "REPORTED"
    ((job, uid),) = desk.do(ledger.dead_letters)
    assert (job.kind, uid, job.last_error) == (NOTIFY, telling.uid, "away")
    assert desk.do(ledger.requeue, telling.uid, desk.clock()) == 1
    assert desk.study_state(telling.uid) == "REPORTED"
    telling.send()
    assert telling.notices() == [("PRESENT", "SENT", False)]


def test_a_refused_notice_can_be_discarded(telling: Telling) -> None:
    desk = telling.desk
    telling.report("PRESENT")
    telling.fail(for_good=True)
    assert desk.do(ledger.discard, telling.uid, "phoned", "anna", desk.clock()) == 1
    assert telling.notices() == [("PRESENT", "DISCARDED", False)]
    assert not telling.owed()
    assert desk.study_state(telling.uid) == "REPORTED"


def test_what_was_refused_is_tried_with_the_next_report_and_not_corrected(
    telling: Telling,
) -> None:
    telling.report("PRESENT")
    telling.fail(left=False, for_good=True)
    assert not telling.report("ABSENT")
    assert telling.notices() == [("PRESENT", "FAILED", False)]
    assert telling.report("PRESENT")
    telling.send()
    assert telling.notices() == [("PRESENT", "SENT", False)]


def test_a_lost_correction_that_was_refused_then_is_told_again(telling: Telling) -> None:
    telling.report("PRESENT")
    telling.send()
    telling.report("ABSENT")
    telling.fail()  # it may have arrived
    telling.fail(left=False, for_good=True)
    assert telling.report("PRESENT")
    telling.send()
    assert telling.notices()[1:] == [("ABSENT", "FAILED", True), ("PRESENT", "SENT", True)]


@pytest.mark.parametrize("decision", ["none", "discard", "requeue"])
def test_a_lost_notice_that_was_refused_then_is_corrected(telling: Telling, decision: str) -> None:
    desk = telling.desk
    telling.report("PRESENT")
    telling.fail()  # it may have arrived
    telling.fail(left=False, for_good=True)
    if decision == "discard":
        desk.do(ledger.discard, telling.uid, "phoned", "anna", desk.clock())
    elif decision == "requeue":
        desk.do(ledger.requeue, telling.uid, desk.clock())
    assert telling.report("ABSENT")
    telling.send()
    assert telling.notices()[1:] == [("ABSENT", "SENT", True)]


@pytest.mark.parametrize("then", ["withdrawn", "given up", "handed back"])
def test_what_a_lost_worker_may_have_sent_is_not_forgotten(telling: Telling, then: str) -> None:
    desk = telling.desk
    telling.report("PRESENT")
    lost = telling.begin()
    desk.clock.forward(LEASE.total_seconds() + 1)  # it died, or stood still
    if then == "handed back":
        heir = telling.begin()
        desk.do(ledger.hand_back, lost, desk.clock(), "late", counts=True)
        desk.do(ledger.save_unsent, heir, None, "away", desk.clock(), left=False)
    else:
        telling.fail(left=False, for_good=then == "given up")
    assert telling.report("ABSENT")
    telling.report("PRESENT")  # withdraws the correction
    assert telling.report("ABSENT")
    telling.send()
    assert telling.notices()[-1] == ("ABSENT", "SENT", True)


def test_a_refused_notice_is_not_taken_for_one_that_arrived(telling: Telling) -> None:
    telling.report("PRESENT")
    telling.fail(left=False, for_good=True)
    assert telling.desk.one(Notice).attempts == 0
    telling.report("ABSENT")
    assert telling.notices() == [("PRESENT", "FAILED", False)]


def test_a_notice_that_only_waits_for_its_turn_is_withdrawn(telling: Telling) -> None:
    telling.report("PRESENT")
    waiting = telling.claim()
    assert not telling.report("ABSENT")
    with pytest.raises(LeaseLost):
        telling.desk.do(ledger.notice_to_send, waiting)
    assert telling.notices() == [("PRESENT", "SUPERSEDED", False)]
    assert telling.report("PRESENT")
    telling.send()
    assert telling.notices()[1:] == [("PRESENT", "SENT", False)]


def test_a_lost_lease_saves_nothing(telling: Telling) -> None:
    desk = telling.desk
    telling.report("PRESENT")
    lost = telling.claim()
    desk.clock.forward(LEASE.total_seconds() + 1)
    telling.claim()
    for save in (
        lambda s: ledger.save_unsent(s, lost, None, "late", None),
        lambda s: ledger.save_unsent(s, lost, None, "late", desk.clock() + timedelta(hours=1)),
    ):
        desk.do(save)
    with pytest.raises(LeaseLost):
        desk.do(ledger.notice_to_send, lost)
    assert telling.notices() == [("PRESENT", NoticeState.PENDING, False)]
    assert desk.one(Notice).last_answer is None


def test_notices_go_with_the_study_that_is_erased(telling: Telling) -> None:
    desk = telling.desk
    telling.report("PRESENT")
    lost = telling.claim()
    study = desk.one(Study)

    def erase(session: Any) -> None:
        for removal in ledger.begin_erasure(
            session, study.id, "anna", "asked", desk.clock(), lambda _: 0
        ):
            ledger.finish_removal(session, removal, desk.clock())

    desk.do(erase)
    assert desk.all(Notice) == []
    assert desk.all(Study) == []
    with pytest.raises(LeaseLost):
        desk.do(ledger.save_sent, lost, 204, "taken", desk.clock())


def test_ids_of_notices_are_never_the_same() -> None:
    assert len({news.new_id() for _ in range(1000)}) == 1000
