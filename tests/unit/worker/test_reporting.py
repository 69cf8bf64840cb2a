"""One study, one report: the same again after a crash, another when the story changed."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset
from sqlalchemy import select
from sqlalchemy.exc import DataError, OperationalError
from sqlalchemy.orm import Session, sessionmaker

from dicom_node.archive import Archive
from dicom_node.errors import PeerError
from model.predict import Prediction
from tests.fakes import FakeClassifier, model_info, new_uid
from tests.ward import PACS, Killed, Ward, chest, words
from worker import ledger, reporting, writing
from worker.classifying import claim_instances
from worker.desk import Bell
from worker.states import JobKind
from worker.tables import Reception, Study

COMPREHENSIVE_3D_SR = "1.2.840.10008.5.1.4.1.1.88.34"


@pytest.fixture
def ward(tmp_path: Path, sqlite_sessions: sessionmaker[Session]) -> Ward:
    return Ward(tmp_path, sqlite_sessions, CXR_MAX_ATTEMPTS="3")


def ready(ward: Ward, count: int = 1, **attributes: object) -> str:
    """Receive and classify a study until its report is due."""
    study = ward.receive_study(count, **attributes)
    ward.classify()
    ward.clock.forward(ward.settings.quiet_s)
    return study


def referenced(report: Dataset) -> set[str]:
    (study,) = report.CurrentRequestedProcedureEvidenceSequence
    series = study.ReferencedSeriesSequence
    return {item.ReferencedSOPInstanceUID for s in series for item in s.ReferencedSOPSequence}


def test_nothing_due_is_nothing_done(ward: Ward) -> None:
    assert ward.report() == 0
    assert ward.bells.rung == []


def test_a_report_joins_its_study_and_refers_to_every_instance(ward: Ward) -> None:
    study = ready(ward, 3)
    assert ward.report() == 1
    (report,) = ward.reports()
    assert report.StudyInstanceUID == study
    assert report.SOPClassUID == COMPREHENSIVE_3D_SR
    assert report.PatientID == "PID1"
    instances = ward.records()[0]["instances"]
    assert referenced(report) == {instance["sop_instance_uid"] for instance in instances}


def test_a_report_is_on_disk_as_the_database_says(ward: Ward) -> None:
    ready(ward)
    ward.report()
    (record,) = ward.records()
    (report,) = ward.reports()
    assert record["reports"][0]["sop_instance_uid"] == report.SOPInstanceUID
    assert record["reports"][0]["revision"] == int(report.InstanceNumber) == 1


def test_each_destination_gets_its_bell(
    tmp_path: Path, sqlite_sessions: sessionmaker[Session]
) -> None:
    ward = Ward(tmp_path, sqlite_sessions, CXR_DESTINATIONS="A@h:1,B@h:2")
    ready(ward)
    ward.bells.rung.clear()
    ward.report()
    assert ward.bells.rung == [Bell(JobKind.DELIVER, "A@h:1"), Bell(JobKind.DELIVER, "B@h:2")]


def test_studies_that_are_ready_are_reported_in_a_row_and_told_together(ward: Ward) -> None:
    for _ in range(3):
        ward.receive_study()
    ward.classify()
    ward.clock.forward(ward.settings.quiet_s)
    ward.bells.rung.clear()
    assert ward.report() == 3
    assert ward.bells.rung == [Bell(JobKind.DELIVER, PACS)] * 2
    assert ward.states() == ["REPORTED"] * 3


def test_another_worker_is_called_when_more_studies_may_be_ready(
    ward: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        ward.receive_study()
    ward.classify()
    ward.clock.forward(ward.settings.quiet_s)
    ward.bells.rung.clear()
    monkeypatch.setattr(reporting, "REPORTS_AT_ONCE", 2)
    monkeypatch.setattr(reporting, "REPORTING_S", 0)
    assert ward.report() == 2
    assert ward.bells.rung.count(Bell(JobKind.REPORT)) == 2
    left = [job for job in ward.jobs() if job.kind == JobKind.REPORT]
    assert [(job.state, job.attempts) for job in left] == [("DUE", 0)] * 2
    assert ward.states().count("REPORTED") == 1


def test_a_study_whose_report_ends_its_worker_is_tried_alone(
    ward: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = reporting.write_report

    def die(archive: Archive, story: ledger.Story) -> ledger.NewReport:
        if story.study.study_instance_uid == poisonous:
            raise Killed
        return write(archive, story)

    monkeypatch.setattr(reporting, "write_report", die)
    poisonous, *_ = (ward.receive_study() for _ in range(3))
    ward.classify()
    ward.clock.forward(ward.settings.quiet_s)
    for _ in range(3):
        with pytest.raises(Killed):
            ward.report()
        ward.clock.forward(ward.settings.lease_s)
    ward.work(seconds=10)
    assert ward.states() == ["FAILED", "DELIVERED", "DELIVERED"]


def test_a_report_is_made_though_no_instance_could_be_assessed(ward: Ward) -> None:
    ready(ward, 2, BodyPartExamined="HAND")
    ward.report()
    (report,) = ward.reports()
    assert len(referenced(report)) == 2
    assert "not a chest radiograph" in words(report)


def test_a_report_of_instances_without_type_2_attributes_is_made(ward: Ward) -> None:
    absent = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate",
              "StudyTime", "AccessionNumber", "StudyID", "ReferringPhysicianName")  # fmt: skip
    ready(ward, **dict.fromkeys(absent))
    ward.report()
    assert len(ward.reports()) == 1


def test_the_same_story_gives_the_same_bytes(ward: Ward) -> None:
    study = ready(ward, 2)
    first = writing.write_report(ward.archive, ward.story(study))
    data = ward.archive.read(first.path)
    ward.clock.forward(3600)
    assert writing.write_report(ward.archive, ward.story(study)) == first
    assert ward.archive.read(first.path) == data


def test_killed_at_any_moment_there_is_one_report(ward: Ward) -> None:
    killed = 0
    while True:
        study = ready(ward)
        with ward.killed_at(killed) as happened:
            ward.report()
        ward.work(seconds=ward.settings.lease_s + 5)
        files = list((ward.archive.root / study).glob("*.dcm"))
        assert len(files) == 2, "one instance and one report"
        if not happened[0]:
            break
        killed += 1
    assert killed >= 3
    assert len(ward.reports()) == len(ward.send.sent) == killed + 1
    assert {report.InstanceNumber for report in ward.reports()} == {1}
    assert set(ward.states()) == {"DELIVERED"}


def test_a_study_of_two_patients_is_not_reported_but_shown_to_a_person(
    ward: Ward, caplog: pytest.LogCaptureFixture
) -> None:
    study = new_uid()
    ward.receive(chest(study, PatientID="ALICE-7"))
    ward.receive(chest(study, PatientID="BOB-8"))
    ward.work(seconds=10)
    assert ward.reports() == []
    assert ward.send.sent == []
    assert ward.states() == ["FAILED"]
    (job,) = ward.jobs()
    assert job.state == "DEAD"
    assert "2 patients" in job.last_error
    assert "ALICE" not in job.last_error
    assert "BOB" not in job.last_error
    (record,) = (each for each in caplog.records if each.levelname == "ERROR")
    assert study in record.getMessage()
    assert record.exc_info is None


def test_without_patient_ids_two_names_are_two_patients(ward: Ward) -> None:
    study = new_uid()
    ward.receive(chest(study, PatientID="", PatientName="Doe^Alice"))
    ward.receive(chest(study, PatientID=None, PatientName="Roe^Bob"))
    ward.work(seconds=10)
    assert ward.send.sent == []
    (job,) = ward.jobs()
    assert job.state == "DEAD"
    assert "2 patients" in job.last_error


def test_without_patient_ids_a_name_is_one_patient_however_it_is_padded(ward: Ward) -> None:
    study = new_uid()
    for name in ("Doe^Alice", "DOE^ALICE^^ ", ""):
        ward.receive(chest(study, PatientID="", PatientName=name))
    ward.work(seconds=10)
    assert ward.states() == ["DELIVERED"]


def test_another_study_is_reported_though_one_fails(ward: Ward) -> None:
    study = new_uid()
    ward.receive(chest(study, PatientID="A"))
    ward.receive(chest(study, PatientID="B"))
    ward.receive_study()
    ward.work(seconds=10)
    assert sorted(ward.states()) == ["DELIVERED", "FAILED"]


def test_a_report_that_fails_is_tried_again_and_then_given_up(ward: Ward) -> None:
    study = ready(ward)
    file = next((ward.archive.root / study).glob("*.dcm"))
    away = file.rename(file.with_suffix(".away"))
    ward.report()
    gone = f"{study}/{away.stem}.dcm is gone from the archive: "
    assert str(ward.jobs()[0].last_error).startswith(gone)
    assert ward.report() == 0  # not before the back-off ends
    for _ in range(2):
        ward.clock.forward(60)
        assert ward.report() == 1
    assert ward.states() == ["FAILED"]
    assert ward.jobs()[0].state == "DEAD"
    away.rename(file)
    assert ward.requeue(study) == 1
    ward.work()
    assert ward.states() == ["DELIVERED"]


def test_a_report_that_kills_its_worker_is_given_up_in_the_end(
    ward: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        raise Killed

    monkeypatch.setattr(reporting, "write_report", die)
    ready(ward)
    for _ in range(3):
        with pytest.raises(Killed):
            ward.report()
        ward.clock.forward(ward.settings.lease_s)
    assert ward.report() == 1
    assert ward.states() == ["FAILED"]


def test_an_image_that_comes_during_the_report_is_in_the_report(
    ward: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = ready(ward)
    late = chest(study)
    write = reporting.write_report

    def meanwhile(archive: Archive, story: ledger.Story) -> ledger.NewReport:
        monkeypatch.undo()
        ward.receive(late)
        return write(archive, story)

    monkeypatch.setattr(reporting, "write_report", meanwhile)
    ward.report()
    assert ward.reports() == []
    ward.work(seconds=5)
    (report,) = ward.reports()
    assert late.SOPInstanceUID in referenced(report)
    assert len(ward.send.sent) == 1


def test_a_late_image_gives_a_second_revision_that_names_the_first(ward: Ward) -> None:
    study = ready(ward)
    ward.work()
    ward.receive(chest(study), association_id="late")
    ward.work(seconds=5)
    first, second = ward.reports()
    assert second.SOPInstanceUID != first.SOPInstanceUID
    assert second.SeriesInstanceUID == first.SeriesInstanceUID
    assert int(second.InstanceNumber) == 2
    (predecessor,) = second.PredecessorDocumentsSequence
    item = predecessor.ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    assert item.ReferencedSOPInstanceUID == first.SOPInstanceUID
    assert len(ward.send.sent) == 2
    assert ward.states() == ["DELIVERED"]


def test_the_same_study_sent_again_gives_no_second_report(ward: Ward) -> None:
    images = [chest(study := new_uid()), chest(study)]
    for number in range(3):
        for ds in images:
            ward.receive(ds, association_id=str(number))
        ward.work(seconds=5)
    assert len(ward.reports()) == len(ward.send.sent) == 1


def test_a_requeued_study_with_the_same_answers_sends_the_same_report_again(ward: Ward) -> None:
    study = ready(ward, 2)
    ward.work()
    assert ward.requeue(study) == 3
    ward.work(seconds=5)
    (first, *_), (second, *_) = ward.send.sent
    assert first == second
    assert len(ward.reports()) == 1
    assert ward.states() == ["DELIVERED"]


def test_a_requeued_study_with_other_answers_gets_a_new_revision(ward: Ward) -> None:
    """The analysis had failed and was repeated: the PACS must not keep the failure."""
    ward.classifier.failures = [RuntimeError()] * 3
    study = ready(ward)
    ward.work(seconds=30)
    assert ward.reasons() == ["MODEL_FAILURE"]
    ward.requeue(study)
    ward.work(seconds=5)
    assert ward.reasons() == [None]
    first, second = ward.reports()
    assert "the analysis failed" in words(first)
    assert "the analysis failed" not in words(second)
    assert first.SOPInstanceUID != second.SOPInstanceUID
    assert ward.states() == ["DELIVERED"]


def test_a_new_model_gives_a_new_revision_and_the_old_one_again_another(ward: Ward) -> None:
    study = ready(ward)
    ward.work()
    old = ward.classifier
    newer = FakeClassifier(Prediction(0.1, finding="ABSENT"), model_info("f" * 64, "2.0"))
    for classifier in (newer, old):
        ward.classifier = classifier
        ward.clock.forward(60)
        ward.requeue(study)
        ward.work(seconds=5)
        assert ward.states() == ["DELIVERED"]
    assert [int(report.InstanceNumber) for report in ward.reports()] == [1, 2, 3]
    (record,) = ward.records()
    assert record["model"]["version"] == "1.0"
    assert record["instances"][0]["finding"] == "PRESENT"
    assert [row.finding for row in ward.findings()] == ["ABSENT", "PRESENT"], "the last is last"


# --- delivery --------------------------------------------------------------------------------


def test_what_was_said_last_counts_though_the_clock_was_set_back(ward: Ward) -> None:
    study = ready(ward)
    ward.work()
    ward.clock.now -= timedelta(hours=1)
    ward.classifier.info = model_info("e" * 64)
    ward.classifier.answer = Prediction(0.1, finding="ABSENT")
    ward.requeue(study)
    ward.work(seconds=10)
    _, second = ward.reports()
    assert "pneumonia absent" in words(second)
    (record,) = ward.records()
    assert record["instances"][0]["finding"] == "ABSENT"


def test_the_bytes_of_the_archive_are_sent_under_our_title(ward: Ward) -> None:
    ready(ward)
    ward.report()
    assert ward.deliver() == 1
    ((data, peer, calling, timeout_s),) = ward.send.sent
    (report,) = ward.reports()
    assert data == Path(str(report.filename)).read_bytes()
    assert (peer, calling, timeout_s) == ("PACS@192.0.2.1:104", "CXRWORKER", 30)


@pytest.mark.parametrize("status", [0x0000, 0xB000, 0xB006, 0xB007])
def test_success_and_warnings_are_delivered(ward: Ward, status: int) -> None:
    ward.send.answers = [status]
    ready(ward)
    ward.work()
    assert ward.states() == ["DELIVERED"]


def test_an_association_that_was_open_when_its_node_died_is_forgotten(ward: Ward) -> None:
    study = ward.receive_study()
    with ward.sessions() as session, session.begin():
        (row,) = session.scalars(select(Study)).all()
        session.add(Reception(association_id="dead", study_id=row.id, last_at=ward.clock()))
    ward.work(seconds=10)
    assert ward.states() == ["RECEIVING"]
    ward.work(seconds=ward.settings.network_timeout_s)
    assert ward.states() == ["DELIVERED"]
    assert ward.all(Reception) == []
    assert len(ward.reports()) == 1, study


def test_a_peer_that_is_away_is_tried_again_with_growing_waits(ward: Ward) -> None:
    ward.send.answers = [PeerError("nothing listens", "PACS")] * 12
    ready(ward)
    ward.report()
    waits = []
    for _ in range(12):
        assert ward.deliver() == 1
        (job,) = ward.jobs()
        assert job.last_error == "nothing listens"
        waits.append((job.due_at - ward.clock()).total_seconds())
        ward.clock.now = job.due_at
    ideal = [min(60, 5 * 2**n) for n in range(12)]
    assert all(0.74 * most <= wait <= most for wait, most in zip(waits, ideal, strict=True))
    assert len(set(waits[7:])) > 1, "capped waits differ, so that not all come at once"
    assert ward.states() == ["REPORTED"]
    ward.work()
    assert ward.states() == ["DELIVERED"]
    assert ward.records()[0]["reports"][0]["deliveries"][0]["attempts"] == 13


def test_a_report_that_the_database_refuses_is_given_up_in_the_end(
    ward: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is there, and says no each time: that is a matter of the study."""

    def refuse(*_: object) -> None:
        raise DataError("INSERT", {}, ValueError())

    ready(ward)
    monkeypatch.setattr(ledger, "save_report", refuse)
    ward.work(seconds=600)
    assert ward.states() == ["FAILED"]
    assert ward.jobs()[0].last_error == "DataError"


def test_a_database_that_is_away_each_time_gives_no_study_up(
    ward: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = 20
    save = ledger.save_report

    def lose(*words: Any) -> None:
        nonlocal left
        left -= 1
        if left >= 0:
            raise OperationalError("INSERT", {}, OSError())
        save(*words)

    ready(ward)
    monkeypatch.setattr(ledger, "save_report", lose)
    while left >= 0:
        with suppress(OperationalError):
            ward.work(seconds=60)
    assert ward.states() == ["DELIVERED"]


def test_a_study_that_was_taken_over_while_it_waited_its_turn_is_left_as_it_is(
    ward: Ward,
) -> None:
    study = ready(ward)
    claims = reporting._claim_studies(ward.desk)
    ward.receive(chest(study))
    (classifying,) = claim_instances(ward.desk)
    for claim in claims:
        with reporting._Deliveries(ward.desk, ward.bells) as owed:
            reporting._report_or_say_why(ward.desk, claim, ward.bells, owed)
    with ward.sessions() as session:
        assert ledger.is_held(session, classifying)
    assert ward.states() == ["RECEIVING"]
