"""No report is about two patients, whatever a Study Instance UID says, and whenever they come."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy.orm import Session, sessionmaker

from tests.fakes import new_uid
from tests.keeping import DAY, Attic
from tests.ward import chest

IMAGES, REPORTS = {"CXR_KEEP_IMAGES_DAYS": "1"}, {"CXR_KEEP_REPORTS_DAYS": "1"}


def shown_to_a_person(ward: Attic, words: str) -> None:
    """Check that the study waits for a person, who reads why, and whose values are in no line."""
    assert ward.states() == ["FAILED"]
    (job,) = ward.jobs()
    assert (job.kind, job.state) == ("REPORT", "DEAD")
    assert words in job.last_error
    assert "BOB" not in job.last_error


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
    ward, study = Attic(tmp_path, sqlite_sessions, **IMAGES, **also_removed), new_uid()
    ward.receive(chest(study, PatientID="ALICE-7"))
    ward.work(seconds=10)
    ward.clock.forward(2 * DAY)
    ward.turn()
    assert len(ward.send.sent) == 1
    ward.receive(chest(study, PatientID="BOB-8"))
    ward.work(seconds=10)
    assert len(ward.send.sent) == 1
    shown_to_a_person(ward, "2 patients")


@pytest.mark.parametrize("also_removed", [{}, REPORTS])
def test_what_was_found_of_a_patient_is_told_with_a_late_image_of_the_same(
    tmp_path: Path, sqlite_sessions: sessionmaker[Session], also_removed: dict[str, str]
) -> None:
    ward, study = Attic(tmp_path, sqlite_sessions, **IMAGES, **also_removed), new_uid()
    ward.receive(chest(study, PatientID="ALICE-7"))
    ward.work(seconds=10)
    ward.clock.forward(2 * DAY)
    ward.turn()
    ward.receive(chest(study, PatientID="ALICE-7"))
    ward.work(seconds=10)
    assert len(ward.send.sent) == 2
    assert ward.states() == ["DELIVERED"]
