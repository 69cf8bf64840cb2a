"""What destinations answer, in the ledger of both kinds of database."""

from __future__ import annotations

from dicom_node.commitment import Reference
from tests.fakes import COMPREHENSIVE_3D_SR, answered, in_threads
from tests.ledgers import PACS, VIEWER, Desk
from worker import ledger
from worker.states import JobKind
from worker.tables import Delivery, Job


def owed(desk: Desk, count: int = 1) -> list[str]:
    """Bring studies as far as a commitment; give their UIDs."""
    studies = []
    for _ in range(count):
        studies.append(desk.ready())
        desk.report()
        desk.deliver(commit=True)
    return studies


def ask(desk: Desk, transaction_uid: str = "1.2.3") -> list[Reference]:
    claims = desk.claim(JobKind.COMMIT, 32, destination=PACS)
    references: list[Reference] = desk.do(
        ledger.save_request, claims, transaction_uid, desk.clock()
    )
    return references


def answer(desk: Desk, references: list[Reference], uid: str = "1.2.3", reason: int = 0) -> bool:
    uids = [reference.sop_instance_uid for reference in references]
    known: bool = desk.do(ledger.save_commitment, answered(uid, uids, reason), desk.clock())
    return known


def test_what_is_asked_about_is_what_was_sent(desk: Desk) -> None:
    owed(desk)
    (reference,) = ask(desk)
    delivery = desk.one(Delivery)
    assert reference == Reference(COMPREHENSIVE_3D_SR, delivery.sop_instance_uid)


def test_an_answer_commits_each_study_it_is_about(desk: Desk) -> None:
    studies = owed(desk, 2)
    assert answer(desk, ask(desk))
    assert [desk.study_state(study) for study in studies] == ["COMMITTED"] * 2
    assert desk.all(Job) == []


def test_a_failure_owes_the_delivery_again_after_a_wait(desk: Desk) -> None:
    (study,) = owed(desk)
    answer(desk, ask(desk), reason=0x0112)
    assert desk.study_state(study) == "REPORTED"
    assert desk.states() == {"DELIVER": "DUE"}
    assert desk.claim(JobKind.DELIVER, destination=PACS) == []
    desk.clock.forward(10)
    desk.deliver(commit=True)
    assert desk.states() == {"COMMIT": "DUE"}


def test_a_report_that_was_not_kept_hides_no_dead_letter_of_a_late_image(desk: Desk) -> None:
    (study,) = owed(desk)
    references = ask(desk)
    desk.receive(study)
    desk.close()
    (claim,) = desk.claim(JobKind.CLASSIFY)
    desk.do(ledger.bury, claim, "gone")
    answer(desk, references, reason=0x0112)
    assert desk.study_state(study) == "FAILED"
    assert desk.do(ledger.discard, study, "gone", "somebody", desk.clock()) == 1
    assert desk.study_state(study) == "DISCARDED"


def test_the_same_answers_at_once_and_a_claim_do_not_block_each_other(desk: Desk) -> None:
    studies = owed(desk, 4)
    references = ask(desk)

    def work(number: int) -> bool:
        if number == 2:
            desk.claim(JobKind.COMMIT, 32, destination=PACS)
            return True
        return answer(desk, references[::-1] if number % 2 else references)

    assert in_threads(5, work) == [True] * 5
    assert [desk.study_state(study) for study in studies] == ["COMMITTED"] * 4
    assert desk.all(Job) == []


def test_a_report_of_an_earlier_revision_is_struck_off_when_it_is_to_be_asked_about(
    desk: Desk,
) -> None:
    (study,) = owed(desk)
    claims = desk.claim(JobKind.COMMIT, 32, destination=PACS)
    desk.receive(study)
    desk.close()
    desk.classify()
    desk.clock.forward(2)
    desk.report(revision=2)
    assert desk.do(ledger.save_request, claims, "1.2.3", desk.clock()) == []
    assert desk.states() == {"DELIVER": "DUE"}


def test_a_delivery_that_is_not_of_the_last_report_is_not_to_be_confirmed(desk: Desk) -> None:
    study = desk.ready()
    desk.report()
    (claim,) = desk.claim(JobKind.DELIVER, destination=PACS)
    desk.receive(study)
    desk.close()
    desk.classify()
    desk.clock.forward(2)
    desk.report(revision=2)
    desk.save_delivered(claim, commit=True)
    assert desk.states() == {"DELIVER": "DUE"}


def test_a_report_that_was_not_kept_hides_no_dead_letter_of_another_destination(
    desk: Desk,
) -> None:
    study = desk.ready()
    desk.report(PACS, VIEWER)
    (claim,) = desk.claim(JobKind.DELIVER, destination=VIEWER)
    desk.do(ledger.save_failed_delivery, claim, 0xA900, "no", None)
    desk.deliver(PACS, commit=True)
    references = ask(desk)
    answer(desk, references, reason=0x0112)
    assert desk.study_state(study) == "FAILED"
    desk.clock.forward(10)
    desk.deliver(PACS, commit=True)
    answer(desk, ask(desk, "1.2.4"), "1.2.4")
    assert desk.study_state(study) == "FAILED"
