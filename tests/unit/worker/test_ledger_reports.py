"""One study, one story: findings, reports, revisions, deliveries, on SQLite and PostgreSQL."""

from __future__ import annotations

from typing import Any

import pytest

from tests.ledgers import FOUND, LEASE, PACS, QUIET, VIEWER, Desk
from worker import ledger
from worker.ledger import LeaseLost, NewFinding
from worker.states import JobKind
from worker.tables import Delivery, FindingRow, Instance, Job, Model, Report, Study

CLASSIFY, REPORT, DELIVER = JobKind.CLASSIFY, JobKind.REPORT, JobKind.DELIVER
OTHER_MODEL = "f" * 64


def deliveries(desk: Desk) -> list[tuple[str, str]]:
    return [(d.destination, d.state) for d in desk.all(Delivery)]


def test_a_study_goes_from_received_to_delivered(desk: Desk) -> None:
    study = desk.ready(instances=2)
    assert desk.study_state(study) == "RECEIVING"
    claim = desk.claim_report()
    assert desk.study_state(study) == "READY"
    desk.do(ledger.save_report, claim, desk.new_report(), [PACS, VIEWER], desk.clock())
    assert desk.study_state(study) == "REPORTED"
    desk.deliver(PACS)
    assert desk.study_state(study) == "REPORTED"
    desk.deliver(VIEWER)
    assert desk.study_state(study) == "DELIVERED"
    assert not desk.all(Job)
    assert {d.delivered_at for d in desk.all(Delivery)} == {desk.clock()}


def test_a_study_without_destination_stays_reported(desk: Desk) -> None:
    study = desk.ready()
    claim = desk.claim_report()
    desk.do(ledger.save_report, claim, desk.new_report(), [], desk.clock())
    assert desk.study_state(study) == "REPORTED"
    assert not desk.all(Job)


def test_a_finding_is_saved_with_its_reason_or_its_probabilities(desk: Desk) -> None:
    desk.receive()
    desk.receive()
    first, second = desk.claim(CLASSIFY)
    model = desk.model()
    blank = NewFinding(assessed=False, reason="BLANK", flags=("AGE_UNKNOWN",))
    desk.do(ledger.save_finding, first, model, FOUND, desk.clock())
    desk.do(ledger.save_finding, second, model, blank, desk.clock())
    yes, no = desk.all(FindingRow)
    assert (yes.assessed, yes.finding, yes.pneumonia, yes.viral) == (True, "PRESENT", 0.9, 0.3)
    assert (no.assessed, no.reason, no.pneumonia, no.flags) == (
        False,
        "BLANK",
        None,
        ["AGE_UNKNOWN"],
    )


def test_a_model_is_entered_once(desk: Desk) -> None:
    assert desk.model() == desk.model()
    assert desk.model(OTHER_MODEL) != desk.model()
    assert len(desk.all(Model)) == 2


def test_a_late_image_during_a_report_makes_it_void_and_the_next_one_holds_both(desk: Desk) -> None:
    study = desk.ready()
    claim = desk.claim_report()
    desk.receive(study)
    with pytest.raises(LeaseLost):
        desk.do(ledger.save_report, claim, desk.new_report(), [PACS], desk.clock())
    assert not desk.all(Report)
    desk.close()
    desk.classify()
    desk.clock.forward(QUIET.total_seconds())
    claim = desk.claim_report()
    story = desk.do(ledger.story, claim.study_id, desk.clock())
    assert len(story.findings) == 2
    desk.do(ledger.save_report, claim, desk.new_report(), [PACS], desk.clock())
    assert desk.one(Report).revision == 1


def late_image(desk: Desk, study: str) -> None:
    desk.receive(study, association_id="late")
    desk.close("late")
    desk.classify()
    desk.clock.forward(QUIET.total_seconds())


def test_a_late_image_after_a_report_makes_a_second_revision(desk: Desk) -> None:
    study = desk.ready()
    first = desk.report()
    desk.deliver()
    late_image(desk, study)
    claim = desk.claim_report()
    story = desk.do(ledger.story, claim.study_id, desk.clock())
    assert story.last_report.sop_instance_uid == first.sop_instance_uid
    desk.do(ledger.save_report, claim, desk.new_report(2), [PACS], desk.clock())
    assert desk.study_state(study) == "REPORTED"
    desk.deliver()
    assert desk.study_state(study) == "DELIVERED"
    assert deliveries(desk) == [(PACS, "DELIVERED"), (PACS, "DELIVERED")]


def test_what_is_owed_of_an_earlier_revision_is_superseded(desk: Desk) -> None:
    study = desk.ready()
    desk.report(PACS, VIEWER)
    desk.deliver(PACS)
    late_image(desk, study)
    desk.report(PACS, VIEWER, revision=2)
    assert deliveries(desk) == [
        (PACS, "DELIVERED"), (VIEWER, "SUPERSEDED"), (PACS, "PENDING"), (VIEWER, "PENDING"),
    ]  # fmt: skip
    desk.deliver(PACS)
    desk.deliver(VIEWER)
    assert desk.study_state(study) == "DELIVERED"


def test_a_refused_delivery_of_an_earlier_revision_is_superseded_too(desk: Desk) -> None:
    study = desk.ready()
    desk.report()
    (claim,) = desk.claim(DELIVER, destination=PACS)
    desk.do(ledger.save_failed_delivery, claim, 0xC000, "no", None)
    late_image(desk, study)
    desk.report(revision=2)
    assert deliveries(desk) == [(PACS, "SUPERSEDED"), (PACS, "PENDING")]
    assert desk.do(ledger.dead_letters) == []
    desk.deliver()
    assert desk.study_state(study) == "DELIVERED"


def superseded_on_its_way(desk: Desk) -> Any:
    """Claim the delivery of a first revision, and then report a second."""
    study = desk.ready()
    desk.report()
    (claim,) = desk.claim(DELIVER, destination=PACS)
    late_image(desk, study)
    desk.report(revision=2)
    return claim


def test_a_revision_that_was_on_its_way_when_the_next_came_may_still_arrive(desk: Desk) -> None:
    claim = superseded_on_its_way(desk)
    desk.save_delivered(claim)
    assert deliveries(desk) == [(PACS, "DELIVERED"), (PACS, "PENDING")]
    assert desk.one(Study).state == "REPORTED"
    desk.deliver()
    assert desk.one(Study).state == "DELIVERED"


def test_an_earlier_revision_that_failed_on_its_way_is_not_tried_again(desk: Desk) -> None:
    claim = superseded_on_its_way(desk)
    desk.do(ledger.save_failed_delivery, claim, 0xA700, "full", desk.clock())
    assert deliveries(desk) == [(PACS, "SUPERSEDED"), (PACS, "PENDING")]
    desk.deliver()
    assert desk.claim(DELIVER, destination=PACS) == []


def test_an_earlier_revision_that_was_refused_on_its_way_is_no_dead_letter(desk: Desk) -> None:
    claim = superseded_on_its_way(desk)
    desk.do(ledger.save_failed_delivery, claim, 0xC000, "no", None)
    assert deliveries(desk) == [(PACS, "SUPERSEDED"), (PACS, "PENDING")]
    assert desk.do(ledger.dead_letters) == []
    assert desk.one(Study).state == "REPORTED"


def test_an_earlier_revision_whose_sender_died_is_not_sent_after_the_next(desk: Desk) -> None:
    superseded_on_its_way(desk)
    desk.clock.forward(LEASE.total_seconds())
    (current, *_) = desk.claim(DELIVER, destination=PACS)
    desk.save_delivered(current)
    (claim,) = desk.claim(DELIVER, destination=PACS)
    assert desk.do(ledger.report_to_send, claim) is None
    assert deliveries(desk) == [(PACS, "SUPERSEDED"), (PACS, "DELIVERED")]
    assert not desk.all(Job)
    assert desk.one(Study).state == "DELIVERED"


def test_what_was_owed_anew_while_it_waited_its_turn_is_not_sent(desk: Desk) -> None:
    desk.ready()
    desk.report()
    (claim,) = desk.claim(DELIVER, destination=PACS)
    desk.do(ledger.owe, DELIVER, claim.subject_id, claim.study_id, desk.clock(), PACS)
    with pytest.raises(LeaseLost):
        desk.do(ledger.report_to_send, claim)


def test_the_current_revision_is_not_withdrawn(desk: Desk) -> None:
    desk.ready()
    desk.report()
    (claim,) = desk.claim(DELIVER, destination=PACS)
    assert desk.do(ledger.report_to_send, claim).id == desk.one(Report).id
    assert deliveries(desk) == [(PACS, "PENDING")]


def test_a_report_that_is_saved_again_is_not_doubled(desk: Desk) -> None:
    study = desk.ready()
    first = desk.report()
    desk.deliver()
    assert desk.do(ledger.requeue, study, desk.clock()) == 2
    desk.classify()
    desk.report(PACS, VIEWER, uid=first.sop_instance_uid)
    assert len(desk.all(Report)) == 1
    assert deliveries(desk) == [(PACS, "PENDING"), (VIEWER, "PENDING")]
    desk.deliver(PACS)
    desk.deliver(VIEWER)
    assert desk.study_state(study) == "DELIVERED"


def test_instances_that_the_newest_model_has_not_seen_are_classified_first(desk: Desk) -> None:
    study = desk.ready()
    desk.report()
    desk.receive(study)
    desk.close()
    newer = desk.model(OTHER_MODEL)
    desk.clock.forward(QUIET.total_seconds())
    desk.classify(model=newer)
    (claim,) = desk.claim(REPORT, 1)
    assert desk.do(ledger.story, claim.study_id, desk.clock()) is None
    desk.do(ledger.put_back, claim, desk.clock(), "")
    assert desk.claim(REPORT) == []
    assert desk.classify(model=newer) == 1
    claim = desk.claim_report()
    story = desk.do(ledger.story, claim.study_id, desk.clock())
    assert {row.model_id for _, row in story.findings} == {newer}
    assert story.model.digest == OTHER_MODEL
    assert len(story.findings) == 2


def test_a_report_that_is_saved_again_hides_no_dead_letter(desk: Desk) -> None:
    """It was requeued while a delivery was on its way, which was then refused."""
    study = desk.ready()
    new = desk.report()
    (claim,) = desk.claim(DELIVER, destination=PACS)
    desk.do(ledger.requeue, study, desk.clock())
    desk.do(ledger.save_failed_delivery, claim, 0xC000, "no", None)
    desk.classify()
    desk.report(uid=new.sop_instance_uid)
    assert desk.study_state(study) == "FAILED"
    assert [job.state for job, _ in desk.do(ledger.dead_letters)] == ["DEAD"]


def test_two_models_that_take_turns_end_in_a_report(desk: Desk) -> None:
    study = desk.ready(instances=2)
    one, other = desk.model("a" * 64), desk.model("b" * 64)
    desk.do(ledger.requeue, study, desk.clock())
    for model in (one, other):
        (claim,) = desk.claim(CLASSIFY, 1)
        desk.clock.forward(1)
        desk.do(ledger.save_finding, claim, model, FOUND, desk.clock())
    (claim,) = desk.claim(REPORT, 1)
    story = desk.do(ledger.story, claim.study_id, desk.clock())
    assert story.model.digest == "d" * 64, "which has seen both, before"


# --- requeue ---------------------------------------------------------------------------------


def test_an_unknown_study_cannot_be_requeued(desk: Desk) -> None:
    assert desk.do(ledger.requeue, "1.2.3", desk.clock()) is None


def test_requeuing_tries_what_was_given_up_and_nothing_else(desk: Desk) -> None:
    study = desk.ready()
    desk.report(PACS, VIEWER)
    desk.deliver(VIEWER)
    (claim,) = desk.claim(DELIVER, destination=PACS)
    desk.do(ledger.save_failed_delivery, claim, 0xC000, "no", None)
    assert desk.study_state(study) == "FAILED"
    assert deliveries(desk) == [(PACS, "FAILED"), (VIEWER, "DELIVERED")]
    assert desk.do(ledger.requeue, study, desk.clock()) == 1
    assert desk.study_state(study) == "REPORTED"
    assert desk.states() == {DELIVER: "DUE"}
    assert desk.deliver(PACS).attempts == 1
    assert desk.study_state(study) == "DELIVERED"


def test_a_report_that_was_given_up_can_be_requeued(desk: Desk) -> None:
    study = desk.ready()
    desk.do(ledger.bury, desk.claim_report(), "broken")
    assert desk.do(ledger.requeue, study, desk.clock()) == 1
    assert desk.study_state(study) == "RECEIVING"
    desk.report()
    desk.deliver()
    assert desk.study_state(study) == "DELIVERED"


def test_a_finished_study_is_done_anew_when_requeued(desk: Desk) -> None:
    study = desk.ready(instances=3)
    desk.report()
    desk.deliver()
    assert desk.do(ledger.requeue, study, desk.clock()) == 4
    assert desk.study_state(study) == "RECEIVING"
    assert desk.classify() == 3
    assert len(desk.all(FindingRow)) == 3
    desk.report(revision=2)
    assert deliveries(desk) == [(PACS, "SUPERSEDED"), (PACS, "PENDING")]


def test_requeuing_takes_the_lease_of_a_worker_that_is_at_it(desk: Desk) -> None:
    study = desk.ready()
    claim = desk.claim_report()
    desk.do(ledger.requeue, study, desk.clock())
    with pytest.raises(LeaseLost):
        desk.do(ledger.save_report, claim, desk.new_report(), [PACS], desk.clock())


def test_other_studies_are_left_alone_by_a_requeue(desk: Desk) -> None:
    other = desk.ready()
    desk.report()
    study = desk.ready()
    desk.report()
    desk.do(ledger.requeue, study, desk.clock())
    assert desk.study_state(other) == "REPORTED"
    ids = {instance.study_id for instance in desk.all(Instance)}
    assert len(ids) == 2
    assert desk.classify() == 1


# --- delivery --------------------------------------------------------------------------------


def test_what_a_destination_answered_is_kept(desk: Desk) -> None:
    desk.ready()
    desk.report()
    (claim,) = desk.claim(DELIVER, destination=PACS)
    desk.do(ledger.save_failed_delivery, claim, 0xA700, "out of resources", desk.clock())
    desk.deliver(status=0xB000)
    row = desk.one(Delivery)
    assert (row.state, row.attempts, row.last_status) == ("DELIVERED", 2, 0xB000)


def test_a_delivery_that_was_taken_over_is_saved_once(desk: Desk) -> None:
    desk.ready()
    desk.report()
    (late,) = desk.claim(DELIVER, destination=PACS)
    desk.clock.forward(LEASE.total_seconds())
    desk.deliver()
    with pytest.raises(LeaseLost):
        desk.save_delivered(late)
    desk.do(ledger.save_failed_delivery, late, 0xC000, "no", None)
    desk.do(ledger.save_failed_delivery, late, None, "down", desk.clock())
    assert desk.one(Delivery).attempts == 1
    assert desk.one(Study).state == "DELIVERED"


def test_a_new_report_is_not_delivered_before_the_study_that_changed_is_reported(
    desk: Desk,
) -> None:
    """A late image while the last delivery is on its way: not DELIVERED, but RECEIVING."""
    study = desk.ready()
    desk.report()
    (claim,) = desk.claim(DELIVER, destination=PACS)
    desk.receive(study)
    desk.save_delivered(claim)
    assert desk.study_state(study) == "RECEIVING"
