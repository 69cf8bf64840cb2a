"""No report is about two patients, whatever a Study Instance UID says, and whenever they come."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy.orm import Session, sessionmaker

from dicom_node import one_patient
from model.predict import Prediction
from tests.fakes import new_uid
from tests.keeping import DAY, Attic
from tests.ward import chest
from worker import worklist

IMAGES, REPORTS = {"CXR_KEEP_IMAGES_DAYS": "1"}, {"CXR_KEEP_REPORTS_DAYS": "1"}

SAID = ((0.1, "ABSENT"), (0.9, "PRESENT"))


def shown_to_a_person(ward: Attic, words: str) -> None:
    """Check that the study waits for a person, who reads why, and whose values are in no line."""
    assert ward.states() == ["FAILED"]
    (job,) = ward.jobs()
    assert (job.kind, job.state) == ("REPORT", "DEAD")
    assert words in job.last_error
    assert "BOB" not in job.last_error
    assert ward.reasons() == [None, "ANOTHER_PATIENT"]
    assert ward.findings()[-1].pneumonia is None


def told_of_alice_and_removed(ward: Attic) -> str:
    """Report a study of Alice's, and remove its image as too old; give its UID."""
    study = new_uid()
    ward.receive(chest(study, PatientID="ALICE-7"))
    ward.work(seconds=10)
    ward.clock.forward(2 * DAY)
    ward.turn()
    return study


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ({"IssuerOfPatientID": "BOBS HOSPITAL"}, "differ in IssuerOfPatientID"),
        ({"PatientBirthDate": "20210304"}, "differ in PatientBirthDate"),
        ({"PatientSex": "M"}, "differ in PatientSex"),
        ({"PatientName": "BOB^ROE", "PatientBirthDate": None}, "differ in PatientName"),
    ],
)
def test_one_id_of_two_patients_makes_no_report(
    tmp_path: Path,
    sqlite_sessions: sessionmaker[Session],
    attributes: dict[str, str],
    words: str,
) -> None:
    ward, study = Attic(tmp_path, sqlite_sessions), new_uid()
    ward.receive(chest(study, IssuerOfPatientID="ALICES HOSPITAL"))
    ward.receive(chest(study, **attributes))
    ward.work(seconds=10)
    assert ward.send.sent == []
    shown_to_a_person(ward, words)


@pytest.mark.parametrize("also_removed", [{}, REPORTS])
def test_what_was_found_of_a_patient_is_not_told_of_another_whose_image_comes_when_it_is_removed(
    tmp_path: Path, sqlite_sessions: sessionmaker[Session], also_removed: dict[str, str]
) -> None:
    """A device that begins its UIDs anew, a month later."""
    ward = Attic(tmp_path, sqlite_sessions, **IMAGES, **also_removed)
    study = told_of_alice_and_removed(ward)
    assert len(ward.send.sent) == 1
    ward.receive(chest(study, PatientID="BOB-8"))
    ward.work(seconds=10)
    assert len(ward.send.sent) == 1
    shown_to_a_person(ward, "2 patients")


@pytest.mark.parametrize("also_removed", [{}, REPORTS])
def test_what_was_found_of_a_patient_is_told_with_a_late_image_of_the_same(
    tmp_path: Path, sqlite_sessions: sessionmaker[Session], also_removed: dict[str, str]
) -> None:
    ward = Attic(tmp_path, sqlite_sessions, **IMAGES, **also_removed)
    study = told_of_alice_and_removed(ward)
    ward.receive(chest(study, PatientID="ALICE-7"))
    ward.work(seconds=10)
    assert len(ward.send.sent) == 2
    assert ward.states() == ["DELIVERED"]


def test_an_answer_about_somebody_else_is_not_shown_as_the_patients(
    tmp_path: Path, sqlite_sessions: sessionmaker[Session]
) -> None:
    ward, study = Attic(tmp_path, sqlite_sessions), new_uid()
    answers = iter(Prediction(score, finding=said) for score, said in SAID)
    ward.classifier.answer = lambda _: next(answers)
    ward.receive(chest(study, PatientID="ALICE-7"))
    ward.receive(chest(study, PatientID="BOB-8"))
    ward.work(seconds=10)
    with ward.sessions() as session:
        (line,) = worklist.page(session, worklist.Wanted()).lines
    assert (line.answer, line.unassessed) == (worklist.Answer.ABSENT, 1)
    (record,) = ward.records()
    assert record["patient_id"] == "ALICE-7"
    assert [each["finding"] for each in record["instances"]] == ["ABSENT", None]


def test_what_was_withheld_is_looked_at_again_once_the_study_is_one_patients(
    tmp_path: Path, sqlite_sessions: sessionmaker[Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    ward, study = Attic(tmp_path, sqlite_sessions), new_uid()
    ward.receive(chest(study, PatientID="ALICE-7"))
    ward.receive(chest(study, PatientID="BOB-8"))
    ward.work(seconds=10)
    assert ward.requeue(study) == 1
    ward.work(seconds=10)
    shown_to_a_person(ward, "2 patients")
    monkeypatch.setattr(one_patient, "contradiction", lambda _: None)
    assert ward.requeue(study) == 1
    ward.work(seconds=10)
    assert ward.states() == ["DELIVERED"]
    assert ward.reasons() == [None, None]


def test_a_study_that_comes_again_under_a_corrected_id_is_known_by_that(
    tmp_path: Path, sqlite_sessions: sessionmaker[Session]
) -> None:
    ward, study = Attic(tmp_path, sqlite_sessions, **IMAGES), new_uid()
    uids = [f"{study}.1.{number}" for number in (1, 2)]
    for patient_id in ("OLD-7", "NEW-8"):
        for uid in uids:
            ward.receive(chest(study, SOPInstanceUID=uid, PatientID=patient_id))
        ward.work(seconds=10)
        ward.clock.forward(2 * DAY)
        ward.turn()
    assert [report.PatientID for report in ward.reports()] == ["OLD-7", "NEW-8"]
    (record,) = ward.records()
    assert record["patient_id"] == "NEW-8"


def test_an_image_that_comes_again_beside_others_renames_no_study(
    tmp_path: Path, sqlite_sessions: sessionmaker[Session]
) -> None:
    ward, study = Attic(tmp_path, sqlite_sessions, **IMAGES), new_uid()
    ward.receive(chest(study, SOPInstanceUID=f"{study}.1.1", PatientID="ALICE-7"))
    ward.work(seconds=10)
    ward.clock.forward(2 * DAY)
    ward.turn()
    ward.receive(chest(study, SOPInstanceUID=f"{study}.1.2", PatientID="ALICE-7"))
    ward.receive(chest(study, SOPInstanceUID=f"{study}.1.1", PatientID="BOB-8"))
    ward.work(seconds=10)
    (record,) = ward.records()
    assert record["patient_id"] == "ALICE-7"
    assert [each["reason"] for each in record["instances"]] == ["ANOTHER_PATIENT", None]
    assert len(ward.send.sent) == 1
