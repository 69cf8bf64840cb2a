"""From a received instance to its row and the work it owes, on SQLite and PostgreSQL."""

from __future__ import annotations

from datetime import timedelta

import pytest

from dicom_node.storage_scp import Outcome
from tests.fakes import NOON, in_threads, new_uid, received
from tests.ledgers import PACS, QUIET, Desk
from worker import ledger
from worker.states import JobKind
from worker.tables import Instance, Job, Reception, Study


def test_an_instance_is_entered_together_with_the_work_it_owes(desk: Desk) -> None:
    assert desk.receive("1.2.3", accession_number="ACC-7") is Outcome.STORED
    study, instance = desk.one(Study), desk.one(Instance)
    assert (study.study_instance_uid, study.state, study.accession_number) == (
        "1.2.3",
        "RECEIVING",
        "ACC-7",
    )
    assert instance.study_id == study.id
    jobs = {job.kind: job for job in desk.all(Job)}
    assert set(jobs) == {JobKind.CLASSIFY, JobKind.REPORT}
    assert jobs["CLASSIFY"].subject_id == instance.id
    assert jobs["CLASSIFY"].due_at == NOON
    assert jobs["REPORT"].subject_id == study.id
    assert jobs["REPORT"].due_at == NOON + QUIET


def test_what_is_not_committed_is_not_there(desk: Desk) -> None:
    with desk.sessions() as session:
        ledger.record(session, received(), quiet=QUIET)
        session.rollback()
    assert desk.counts() == (0, 0, 0, 0)
    assert not desk.all(Job)


def test_the_same_instance_again_is_a_duplicate_and_owes_nothing(desk: Desk) -> None:
    study, uid = desk.ready(), ""
    desk.report()
    desk.deliver()
    uid = desk.one(Instance).sop_instance_uid
    assert desk.receive(study, sop_instance_uid=uid, association_id="2") is Outcome.DUPLICATE
    assert desk.study_state(study) == "DELIVERED"
    assert not desk.all(Job)
    assert not desk.all(Reception)


def test_other_bytes_under_a_known_uid_are_a_conflict(desk: Desk) -> None:
    desk.receive("1.2", sop_instance_uid="1.2.3", sha256="a" * 64)
    outcome = desk.receive("1.2", sop_instance_uid="1.2.3", sha256="b" * 64)
    assert outcome is Outcome.CONFLICT
    assert desk.one(Instance).sha256 == "a" * 64


def test_an_instance_of_another_study_is_a_conflict_and_leaves_no_empty_study(desk: Desk) -> None:
    desk.receive("1.2", sop_instance_uid="1.2.3", sha256="a" * 64)
    outcome = desk.receive("9.9", sop_instance_uid="1.2.3", sha256="a" * 64)
    assert outcome is Outcome.CONFLICT
    assert desk.one(Study).study_instance_uid == "1.2"


def test_a_conflict_keeps_the_study_that_was_known_before(desk: Desk) -> None:
    desk.receive("1.2", sop_instance_uid="1.2.3")
    desk.receive("9.9")
    assert desk.receive("9.9", sop_instance_uid="1.2.3") is Outcome.CONFLICT
    assert {study.study_instance_uid for study in desk.all(Study)} == {"1.2", "9.9"}


@pytest.mark.parametrize(
    ("attribute", "value", "kept"),
    [
        ("patient_id", "x" * 1000, "x" * 256),
        ("patient_id", "A\0B\0", "AB"),
        ("patient_id", "Ünï " * 100, ("Ünï " * 100)[:256]),
        ("accession_number", "9" * 100, "9" * 64),
        ("study_date", "2026-11-23T00", "2026-11-"),
        ("calling_ae_title", "SEVENTEENLETTERSX", "SEVENTEENLETTERS"),
    ],
)
def test_a_value_longer_than_its_column_or_with_a_nul_does_not_keep_an_instance_out(
    desk: Desk, attribute: str, value: str, kept: str
) -> None:
    assert desk.receive(**{attribute: value}) is Outcome.STORED
    assert getattr(desk.one(Study), attribute) == kept


def test_a_modality_that_is_too_long_is_cut(desk: Desk) -> None:
    desk.receive(modality="COMPUTED RADIOGRAPHY")
    assert desk.one(Instance).modality == "COMPUTED RADIOGR"


def test_each_further_instance_puts_the_report_off(desk: Desk) -> None:
    desk.receive("1.2")
    desk.clock.forward(1.5)
    desk.receive("1.2")
    (report,) = [job for job in desk.all(Job) if job.kind == JobKind.REPORT]
    assert report.due_at == desk.clock() + QUIET
    assert desk.one(Study).received_at == NOON
    assert desk.one(Study).last_received_at == desk.clock()


def test_many_associations_may_send_one_study_at_once(desk: Desk) -> None:
    def send(number: int) -> list[Outcome]:
        name = f"association-{number}"
        return [desk.receive("1.2", association_id=name) for _ in range(5)]

    outcomes = in_threads(6, send)
    assert [o for several in outcomes for o in several] == [Outcome.STORED] * 30
    assert desk.counts() == (1, 30, 0, 0)
    assert len(desk.all(Job)) == 31


def test_the_same_instances_sent_by_two_at_once_are_stored_once(desk: Desk) -> None:
    uids = [new_uid() for _ in range(10)]

    def send(number: int) -> list[Outcome]:
        order = uids if number else list(reversed(uids))
        return [
            desk.receive("1.2", sop_instance_uid=uid, association_id=str(number)) for uid in order
        ]

    outcomes = [o for several in in_threads(2, send) for o in several]
    assert outcomes.count(Outcome.STORED) == outcomes.count(Outcome.DUPLICATE) == 10
    assert desk.counts()[:2] == (1, 10)


def test_an_association_that_ends_tells_when_its_last_study_is_due(desk: Desk) -> None:
    desk.receive("1.2")
    desk.clock.forward(5)
    desk.receive("1.3")
    assert desk.close() == desk.clock() + QUIET
    assert not desk.all(Reception)


def test_an_association_that_brought_nothing_ends_without_a_bell(desk: Desk) -> None:
    desk.receive("1.2")
    assert desk.close("unknown") is None
    assert len(desk.all(Reception)) == 1


def test_an_association_that_ends_leaves_the_receptions_of_others(desk: Desk) -> None:
    desk.receive("1.2", association_id="a")
    desk.receive("1.2", association_id="b")
    desk.close("a")
    assert desk.one(Reception).association_id == "b"


def test_a_late_image_makes_a_delivered_study_receive_and_owe_a_report_again(desk: Desk) -> None:
    study = desk.ready()
    desk.report(PACS)
    desk.deliver()
    desk.receive(study, association_id="2")
    assert desk.study_state(study) == "RECEIVING"
    assert desk.states() == {"CLASSIFY": "DUE", "REPORT": "DUE"}


def test_an_image_that_was_received_before_the_last_does_not_turn_back_the_clock(
    desk: Desk,
) -> None:
    desk.receive("1.2")
    desk.receive("1.2", received_at=NOON - timedelta(seconds=1))
    assert desk.one(Study).last_received_at == NOON
