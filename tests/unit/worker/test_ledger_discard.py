"""Discard: what a person decides to do without, on SQLite and PostgreSQL."""

from __future__ import annotations

import pytest

from tests.ledgers import PACS, VIEWER, Desk
from worker import ledger
from worker.states import JobKind
from worker.tables import Decision, Delivery

CLASSIFY, REPORT, DELIVER, COMMIT, *_ = JobKind


def discard(desk: Desk, study: str) -> int | None:
    struck: int | None = desk.do(ledger.discard, study, "a phantom", "somebody", desk.clock())
    return struck


def refuse(desk: Desk, destination: str) -> None:
    (claim,) = desk.claim(DELIVER, destination=destination)
    desk.do(ledger.save_failed_delivery, claim, 0xC000, "no", None)


def deliveries(desk: Desk) -> list[str]:
    return [row.state for row in desk.all(Delivery)]


def test_a_study_without_dead_letters_stays_as_it_is(desk: Desk) -> None:
    study = desk.ready()
    assert discard(desk, study) == 0
    assert discard(desk, "1.2.3") is None
    assert desk.states() == {REPORT: "DUE"}
    assert desk.all(Decision) == []


def test_a_report_that_no_destination_takes_is_discarded(desk: Desk) -> None:
    study = desk.ready()
    desk.report(PACS, VIEWER)
    refuse(desk, PACS)
    refuse(desk, VIEWER)
    assert discard(desk, study) == 2
    assert desk.study_state(study) == "DISCARDED"
    assert deliveries(desk) == ["DISCARDED"] * 2
    assert desk.states() == {}


def test_who_decided_what_and_why_is_kept(desk: Desk) -> None:
    study = desk.ready()
    desk.report()
    refuse(desk, PACS)
    discard(desk, study)
    row = desk.one(Decision)
    assert (row.action, row.reason, row.person) == ("DISCARDED", "a phantom", "somebody")
    assert row.given_up == [f"DELIVER {PACS} no"]
    assert row.decided_at == desk.clock()


def test_a_study_whose_report_arrived_elsewhere_is_delivered(desk: Desk) -> None:
    study = desk.ready()
    desk.report(PACS, VIEWER)
    refuse(desk, PACS)
    desk.deliver(VIEWER)
    assert desk.study_state(study) == "FAILED"
    discard(desk, study)
    assert desk.study_state(study) == "DELIVERED"


def test_a_study_whose_report_is_on_its_way_elsewhere_goes_on(desk: Desk) -> None:
    study = desk.ready()
    desk.report(PACS, VIEWER)
    refuse(desk, PACS)
    discard(desk, study)
    assert desk.study_state(study) == "REPORTED"
    desk.deliver(VIEWER)
    assert desk.study_state(study) == "DELIVERED"


@pytest.mark.parametrize("kind", [CLASSIFY, REPORT])
def test_a_study_that_cannot_be_reported_is_discarded_with_all_that_it_owes(
    desk: Desk, kind: JobKind
) -> None:
    study = desk.ready()
    if kind == CLASSIFY:
        desk.receive(study)
        desk.close()
    (claim,) = desk.claim(kind)
    desk.do(ledger.bury, claim, "gone")
    assert desk.study_state(study) == "FAILED"
    discard(desk, study)
    assert desk.study_state(study) == "DISCARDED"
    assert desk.states() == {}


def test_another_image_brings_a_discarded_study_back(desk: Desk) -> None:
    study = desk.ready()
    desk.do(ledger.bury, desk.claim_report(), "broken")
    discard(desk, study)
    desk.receive(study)
    desk.close()
    assert desk.study_state(study) == "RECEIVING"
    desk.classify()
    desk.clock.forward(2)
    desk.report()
    desk.deliver()
    assert desk.study_state(study) == "DELIVERED"


def test_a_discarded_study_can_be_requeued(desk: Desk) -> None:
    study = desk.ready()
    desk.report()
    refuse(desk, PACS)
    discard(desk, study)
    assert desk.do(ledger.requeue, study, desk.clock(), "after all", "somebody") == 2
    assert desk.study_state(study) == "RECEIVING"
    desk.classify()
    desk.report(revision=2)
    desk.deliver()
    assert desk.study_state(study) == "DELIVERED"
    assert [row.action for row in desk.all(Decision)] == ["DISCARDED", "REQUEUED"]


def test_discarding_a_delivery_does_not_disturb_a_report_that_is_made_anew(desk: Desk) -> None:
    study = desk.ready()
    desk.report()
    refuse(desk, PACS)
    desk.receive(study)
    discard(desk, study)
    assert desk.study_state(study) == "RECEIVING"
    assert set(desk.states()) == {CLASSIFY, REPORT}


def test_a_commitment_that_nobody_waits_for_leaves_the_study_delivered(desk: Desk) -> None:
    study = desk.ready()
    desk.report()
    desk.deliver(commit=True)
    (claim,) = desk.claim(COMMIT, destination=PACS)
    desk.do(ledger.bury, claim, "silent")
    assert discard(desk, study) == 1
    assert desk.study_state(study) == "DELIVERED"
    assert desk.states() == {}


def test_what_else_was_owed_before_the_report_is_written_down_too(desk: Desk) -> None:
    study = desk.ready()
    desk.receive(study)
    desk.close()
    (claim,) = desk.claim(CLASSIFY)
    desk.do(ledger.bury, claim, "gone")
    desk.receive(study)
    discard(desk, study)
    assert desk.study_state(study) == "DISCARDED"
    assert desk.one(Decision).given_up == ["CLASSIFY gone", "REPORT", "CLASSIFY"]


def test_a_study_that_failed_while_its_next_report_was_owed_is_received_again(desk: Desk) -> None:
    study = desk.ready()
    desk.report()
    (claim,) = desk.claim(DELIVER, destination=PACS)
    desk.receive(study)
    desk.do(ledger.save_failed_delivery, claim, 0xC000, "no", None)
    assert desk.study_state(study) == "FAILED"
    discard(desk, study)
    assert desk.study_state(study) == "RECEIVING"
