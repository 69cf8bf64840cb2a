"""What is kept for how long: what goes, what may not, and what comes of a study after that."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, dcmread
from sqlalchemy.orm import Session, sessionmaker

from dicom_node.commitment import Reference
from dicom_node.errors import ReportRefused
from dicom_node.query import Wanted
from tests.fakes import COMPUTED_RADIOGRAPHY, FakeClassifier, model_info, new_uid
from tests.keeping import DAY, PICTURES, Attic, kept_as_promised
from tests.light_report import light_reports
from tests.nodes import wait_until
from tests.validation import dciodvfy_errors
from tests.ward import PACS, words
from worker import holdings, ledger, removing, retention
from worker.measuring import MEASURED_EVERY
from worker.tables import (
    Companion,
    Decision,
    Delivery,
    FindingRow,
    Instance,
    Job,
    Reception,
    Removal,
    Report,
    Study,
)

IMAGES = {"CXR_KEEP_IMAGES_DAYS": "2"}
REPORTS = {"CXR_KEEP_REPORTS_DAYS": "3"}
ALL = {**IMAGES, **REPORTS, "CXR_KEEP_RESULTS_DAYS": "4"}

Make = Callable[..., Attic]


@pytest.fixture
def make(tmp_path: Path, sessions: sessionmaker[Session]) -> Make:
    def made(**environ: str) -> Attic:
        return Attic(tmp_path, sessions, **environ)

    return made


@pytest.fixture
def make_light(make: Make) -> Iterator[Make]:
    with light_reports():
        yield make


# --- by age ----------------------------------------------------------------------------------


def test_nothing_goes_unless_it_is_asked_for(make_light: Make) -> None:
    ward = make_light()
    ward.tell()
    ward.clock.forward(10_000 * DAY)
    ward.turn()
    assert ward.removals() == []
    assert len(ward.files()) == 2


def test_images_go_by_their_age_and_what_was_found_of_them_stays(make_light: Make) -> None:
    ward = make_light(**IMAGES)
    old = ward.tell(2)
    ward.clock.forward(1.9 * DAY)
    young = ward.tell()
    ward.turn()
    assert ward.removals() == []
    ward.clock.forward(0.2 * DAY)
    ward.turn()
    assert ward.removals() == [("IMAGES", "AGE", 2)]
    kept_as_promised(ward)
    assert {path.partition("/")[0] for path in ward.files() if ".dcm" in path} == {old, young}
    assert [row.path for row in ward.all(Instance)][:2] == ["", ""]
    assert len(ward.findings()) == 3
    assert [each["finding"] for each in ward.records()[1]["instances"]] == ["PRESENT"] * 2


def test_it_is_written_down_what_went_why_and_when(make_light: Make) -> None:
    ward = make_light(**IMAGES)
    study = ward.tell()
    size = ward.all(Instance)[0].size_bytes
    ward.clock.forward(3 * DAY)
    ward.turn()
    (row,) = ward.all(Removal)
    assert (row.study_instance_uid, row.person, row.size_bytes) == (study, "cxr-worker", size)
    assert row.begun_at == row.finished_at == ward.clock()


def test_reports_go_by_their_own_age_with_what_went_with_them(make: Make) -> None:
    ward = make(**REPORTS, CXR_DESTINATIONS=PICTURES)
    ward.tell()
    assert len(ward.files()) == 4
    ward.clock.forward(4 * DAY)
    ward.turn()
    assert ward.removals() == [("REPORTS", "AGE", 3)]
    assert ward.all(Removal)[0].size_bytes > 1000
    kept_as_promised(ward)
    assert len(ward.files()) == 1
    assert ward.states() == ["DELIVERED"]


def test_rows_go_last_and_with_them_all_that_refers_to_the_study(make_light: Make) -> None:
    ward = make_light(**ALL)
    study = ward.tell(2)
    ward.requeue(study)
    ward.work(30)
    ward.clock.forward(5 * DAY)
    ward.turn()
    ward.turn()
    assert [each[0] for each in ward.removals()] == ["IMAGES", "REPORTS", "RESULTS"]
    for table in (Study, Instance, FindingRow, Report, Companion, Delivery, Decision, Job):
        assert ward.all(table) == []
    kept_as_promised(ward)
    assert ward.files() == set()


def test_a_study_that_comes_again_after_its_rows_went_is_a_new_one(make_light: Make) -> None:
    ward = make_light(**ALL)
    study = ward.tell()
    ward.clock.forward(5 * DAY)
    ward.turn()
    ward.turn()
    ward.tell(study=study)
    assert ward.states() == ["DELIVERED"]
    assert [report.revision for report in ward.all(Report)] == [1]


def test_more_studies_than_a_turn_takes_go_in_several(
    make_light: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "LOOKED_AT", 3)
    monkeypatch.setattr(retention, "STUDIES_AT_ONCE", 2)
    ward = make_light(**IMAGES)
    studies = [ward.tell(2) for _ in range(3)] + [ward.tell() for _ in range(3)]
    blocked = studies[3]
    ward.store(blocked, f"{blocked}.2")
    ward.clock.forward(3 * DAY)
    ward.turn()
    assert len(ward.removals()) == 5
    kept = [row for row in ward.all(Instance) if row.removed_at is None]
    assert [row.sop_instance_uid for row in kept] == [f"{blocked}.1", f"{blocked}.2"]


# --- what may not go -------------------------------------------------------------------------


def owed(ward: Attic) -> None:
    ward.receive_study()


def dead(ward: Attic) -> None:
    ward.send.answers = [ReportRefused("no", 0xC000)]
    ward.tell()
    assert ward.states() == ["FAILED"]


def received_just_now(ward: Attic) -> None:
    ward.tell()
    with ward.sessions() as session, session.begin():
        study = session.query(Study).one()
        at = ward.clock.now.replace(year=2126)
        session.add(Reception(association_id="open", study_id=study.id, last_at=at))


def unconfirmed(ward: Attic) -> None:
    ward.send.offers_commitment = True
    ward.ask.answers = [None] * 9
    ward.tell()
    assert ward.states() == ["DELIVERED"]


def undelivered_to_one(ward: Attic) -> None:
    ward.tell()
    with ward.sessions() as session, session.begin():
        session.query(Study).one().state = "REPORTED"


@pytest.mark.parametrize("befall", [owed, dead, received_just_now, unconfirmed, undelivered_to_one])
def test_nothing_goes_before_a_study_is_through(
    make_light: Make, befall: Callable[[Attic], None]
) -> None:
    ward = make_light(**ALL, CXR_ARCHIVE_MAX_GB="1e-9")
    befall(ward)
    files = ward.files()
    ward.clock.forward(100 * DAY)
    ward.turn()
    assert ward.removals() == []
    assert ward.files() == files


def confirmed(ward: Attic) -> None:
    ward.send.offers_commitment = True
    ward.tell()
    assert ward.states() == ["COMMITTED"]


def discarded(ward: Attic) -> None:
    dead(ward)
    ward.discard(ward.all(Study)[0].study_instance_uid)
    assert ward.states() == ["DISCARDED"]


def of_a_node_that_died(ward: Attic) -> None:
    ward.tell()
    with ward.sessions() as session, session.begin():
        study = session.query(Study).one()
        session.add(Reception(association_id="dead", study_id=study.id, last_at=ward.clock()))


@pytest.mark.parametrize("befall", [Attic.tell, confirmed, discarded, of_a_node_that_died])
def test_everything_goes_once_a_study_is_through(
    make_light: Make, befall: Callable[[Attic], Any]
) -> None:
    """Delivered is through where no commitment is offered, or it is switched off."""
    ward = make_light(**ALL)
    befall(ward)
    ward.clock.forward(100 * DAY)
    ward.turn()
    ward.turn()
    assert ward.all(Study) == []
    assert ward.files() == set()


def test_where_commitment_is_switched_off_delivered_is_through(make_light: Make) -> None:
    ward = make_light(**IMAGES, CXR_DESTINATIONS=f"{PACS}?commitment=off")
    ward.send.offers_commitment = True
    ward.tell()
    assert ward.states() == ["DELIVERED"]
    ward.clock.forward(3 * DAY)
    ward.turn()
    assert ward.removals() == [("IMAGES", "AGE", 1)]


def test_a_report_that_is_owed_to_nobody_is_through(make_light: Make) -> None:
    ward = make_light(**IMAGES, CXR_DESTINATIONS="")
    ward.tell()
    assert ward.states() == ["REPORTED"]
    ward.clock.forward(3 * DAY)
    ward.turn()
    assert ward.removals() == [("IMAGES", "AGE", 1)]


# --- by space --------------------------------------------------------------------------------


def test_the_oldest_images_go_until_the_archive_is_small_enough(make_light: Make) -> None:
    ward = make_light()
    studies = []
    for _ in range(4):
        studies.append(ward.tell())
        ward.clock.forward(60)
    size = sum((ward.archive.root / path).stat().st_size for path in ward.files())
    image = ward.all(Instance)[0].size_bytes
    limited = make_light(CXR_ARCHIVE_MAX_GB=f"{(size - 1.5 * image) / 1e9:.12f}")
    limited.clock.now = ward.clock.now
    limited.turn()
    assert limited.removals() == [("IMAGES", "SPACE", 1)] * 2
    assert [row.study_instance_uid for row in limited.all(Removal)] == studies[:2]
    kept_as_promised(limited)
    limited.clock.forward(MEASURED_EVERY.total_seconds() * 2)
    limited.turn()
    assert len(limited.removals()) == 2


def test_it_is_told_once_that_no_room_can_be_made(
    make_light: Make, caplog: pytest.LogCaptureFixture
) -> None:
    ward = make_light(CXR_ARCHIVE_MAX_GB="1e-9")
    ward.receive_study()
    for _ in range(3):
        ward.turn()
    told = [r.getMessage() for r in caplog.records if "CXR_ARCHIVE_MAX_GB" in r.getMessage()]
    assert len(told) == 1


# --- what comes after ------------------------------------------------------------------------


@pytest.fixture
def emptied(make: Make) -> Attic:
    """A study of two images whose files are gone."""
    ward = make(**IMAGES, CXR_DESTINATIONS=PICTURES)
    ward.tell(2)
    ward.clock.forward(3 * DAY)
    ward.turn()
    assert ward.removals() == [("IMAGES", "AGE", 2)]
    return ward


def study_of(ward: Attic) -> str:
    return str(ward.all(Study)[0].study_instance_uid)


def test_a_late_image_makes_a_revision_that_tells_of_the_removed_ones_too(emptied: Attic) -> None:
    study = study_of(emptied)
    assert emptied.store(study, f"{study}.9") == 0
    emptied.work(30)
    assert emptied.states() == ["DELIVERED"]
    first, second = emptied.reports()
    assert second.PatientName == first.PatientName
    assert second.PatientID == first.PatientID
    (told,) = second.CurrentRequestedProcedureEvidenceSequence
    (series,) = told.ReferencedSeriesSequence
    uids = {each.ReferencedSOPInstanceUID for each in series.ReferencedSOPSequence}
    assert uids == {f"{study}.1", f"{study}.2", f"{study}.9"}
    assert words(second).count("Presence") == words(first).count("Presence") // 2 * 3
    (before,) = second.PredecessorDocumentsSequence
    referred = before.ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    assert referred.ReferencedSOPInstanceUID == first.SOPInstanceUID
    assert dciodvfy_errors(second) == []
    # The pictures of the removed ones are those that were made.
    along = [len(each) for each in emptied.send.companions]
    assert along == [3, 4]
    kept_as_promised(emptied)


def test_of_a_removed_image_another_model_says_that_it_is_kept_no_longer(emptied: Attic) -> None:
    study = study_of(emptied)
    emptied.classifier = FakeClassifier(info=model_info("e" * 64, "2.0"))
    assert emptied.store(study, f"{study}.9") == 0
    emptied.work(30)
    assert emptied.states() == ["DELIVERED"]
    assert [f["reason"] for f in emptied.records()[0]["instances"]] == ["REMOVED", "REMOVED", None]
    report = emptied.reports()[1]
    assert "the image is kept no longer" in words(report)
    assert dciodvfy_errors(report) == []


def test_the_same_image_sent_again_is_stored_anew_and_reported_no_second_time(
    emptied: Attic,
) -> None:
    study = study_of(emptied)
    assert emptied.store(study, f"{study}.1") == 0
    row = emptied.all(Instance)[0]
    assert row.removed_at is None
    assert emptied.archive.has(row.path)
    kept_as_promised(emptied)
    emptied.work(30)
    assert emptied.states() == ["DELIVERED"]
    assert len(emptied.all(Report)) == 1
    emptied.turn()
    assert len(emptied.removals()) == 1, "it is as young as if it had just come"
    emptied.clock.forward(3 * DAY)
    emptied.turn()
    assert len(emptied.removals()) == 2
    kept_as_promised(emptied)


def test_another_image_of_the_same_uid_takes_the_place_of_the_one_that_was_removed(
    emptied: Attic,
) -> None:
    study = study_of(emptied)
    assert emptied.store(study, f"{study}.1", version=1) == 0
    assert emptied.store(study, f"{study}.1", version=2) == 0xC010
    assert {job.kind for job in emptied.jobs()} == {"CLASSIFY", "REPORT"}
    emptied.work(30)
    assert emptied.states() == ["DELIVERED"]
    assert len(emptied.findings()) == 2


def test_what_was_removed_is_neither_found_nor_committed_nor_retrieved(make: Make) -> None:
    ward = make(**IMAGES, **REPORTS)
    study = ward.tell()
    report = ward.all(Report)[0]
    failure_of = holdings.committer(ward.sessions, ward.archive)
    image = Reference(COMPUTED_RADIOGRAPHY, f"{study}.1")
    assert failure_of(image) is None
    asked = Dataset()
    asked.StudyInstanceUID = study
    asked.NumberOfStudyRelatedInstances = ""
    find = holdings.finder(ward.sessions, ward.archive)
    ward.clock.forward(2.5 * DAY)
    ward.turn()
    assert failure_of(image) == 0x0112
    (found,) = find(Wanted("STUDY", asked))
    assert (found.NumberOfStudyRelatedInstances, found.PatientName) == (1, "Test^Child")
    ward.clock.forward(DAY)
    ward.turn()
    assert list(find(Wanted("STUDY", asked))) == []
    assert failure_of(Reference(report.sop_class_uid, report.sop_instance_uid)) == 0x0112
    assert holdings.retriever(ward.sessions, ward.archive)(Wanted("STUDY", asked)) == []


def test_a_late_image_after_images_and_report_went_makes_a_whole_revision(make: Make) -> None:
    ward = make(**IMAGES, **REPORTS, CXR_DESTINATIONS=PICTURES)
    study = ward.tell()
    (first,) = ward.reports()
    ward.clock.forward(5 * DAY)
    ward.turn()
    ward.store(study, f"{study}.9")
    ward.work(30)
    assert ward.states() == ["DELIVERED"]
    second = ward.all(Report)[1]
    assert second.revision == 2
    told = dcmread(ward.archive.absolute(second.path))
    assert dciodvfy_errors(told) == []
    (before,) = told.PredecessorDocumentsSequence
    (series,) = before.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == first.SeriesInstanceUID
    referred = series.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
    assert referred == first.SOPInstanceUID
    kept_as_promised(ward)


def test_a_removal_that_was_begun_is_finished_before_its_files_are_written_anew(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The picture of a removed image's answer, the same bytes, may be made again."""
    ward = make(**REPORTS, CXR_DESTINATIONS=PICTURES)
    study = ward.tell()
    ward.clock.forward(4 * DAY)
    with monkeypatch.context() as patched:
        patched.setattr(retention, "finish", lambda *_: None)
        ward.keeper.turn()
    assert [row.finished_at for row in ward.all(Removal)] == [None]
    ward.requeue(study)
    ward.work(30)
    ward.turn()
    kept_as_promised(ward)
    assert len(ward.files()) == 4


def test_a_report_that_went_is_made_anew_while_its_images_are_there(make_light: Make) -> None:
    ward = make_light(**REPORTS)
    study = ward.tell()
    ward.clock.forward(4 * DAY)
    ward.turn()
    assert ward.requeue(study) == 2
    ward.work(30)
    assert ward.states() == ["DELIVERED"]
    assert [row.revision for row in ward.all(Report)] == [1, 2]
    kept_as_promised(ward)


def test_a_report_that_is_kept_is_delivered_again_without_its_images(emptied: Attic) -> None:
    study = study_of(emptied)
    assert emptied.requeue(study) == 1
    emptied.work(30)
    assert emptied.states() == ["DELIVERED"]
    (first, *_), (second, *_) = emptied.send.sent
    assert first == second
    assert len(emptied.all(Report)) == 1


def test_there_is_nothing_to_requeue_where_nothing_is_left(make_light: Make) -> None:
    ward = make_light(**IMAGES, **REPORTS)
    study = ward.tell()
    ward.clock.forward(5 * DAY)
    ward.turn()
    assert ward.requeue(study) == 0
    assert ward.states() == ["DELIVERED"]
    assert ward.jobs() == []


# --- whoever else is at it -------------------------------------------------------------------


def test_two_at_once_remove_everything_once(make_light: Make) -> None:
    ward = make_light(**ALL)
    for _ in range(6):
        ward.tell()
    ward.clock.forward(9 * DAY)
    errors: list[BaseException] = []

    def keep() -> None:
        try:
            keeper = retention.Keeper(ward.desk)
            for _ in range(5):
                keeper.turn()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=keep) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    counts = [kind for kind, _, _ in ward.removals()]
    assert counts.count("IMAGES") == counts.count("REPORTS") == counts.count("RESULTS") == 6
    assert ward.files() == set()
    assert ward.all(Study) == []


def test_studies_that_come_again_while_they_are_removed_are_not_lost(make_light: Make) -> None:
    ward = make_light(**ALL)
    studies = [ward.tell() for _ in range(4)]
    ward.clock.forward(9 * DAY)
    stop, errors = threading.Event(), list[BaseException]()

    def keep() -> None:
        keeper = retention.Keeper(ward.desk)
        while not stop.is_set():
            try:
                keeper.turn()
            except BaseException as error:
                errors.append(error)

    thread = threading.Thread(target=keep)
    thread.start()
    answers = [ward.store(study, f"{study}.1") for _ in range(8) for study in studies]
    stop.set()
    thread.join()
    assert errors == []
    assert set(answers) == {0}
    rows = {row.sop_instance_uid: row for row in ward.all(Instance) if row.removed_at is None}
    assert set(rows) == {f"{study}.1" for study in studies}
    assert all(ward.archive.has(row.path) for row in rows.values())


def test_a_file_that_goes_while_it_is_sent_again_is_stored_once_more(make_light: Make) -> None:
    ward = make_light(**IMAGES)
    study = ward.tell()
    ward.clock.forward(3 * DAY)
    (path,) = ward.promised() - {row.path for row in ward.all(Report)}
    kept, record = ward.archive.absolute(path), ward.record

    def record_late(received: Any) -> Any:
        if not ward.removals():
            ward.turn()
            assert not kept.exists()
        return record(received)

    ward.record = record_late
    assert ward.store(study, f"{study}.1") == 0
    assert kept.exists()
    kept_as_promised(ward)


def test_files_that_cannot_be_removed_are_promised_no_longer_and_go_later(
    make_light: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ward = make_light(**IMAGES)
    ward.tell()
    ward.clock.forward(3 * DAY)

    def read_only(*_: Any) -> None:
        raise OSError(30, "Read-only file system")

    with monkeypatch.context() as patched:
        patched.setattr(removing, "remove", read_only)
        stopped = threading.Event()
        thread = threading.Thread(target=retention.run, args=(ward.desk, stopped, 0.01))
        thread.start()
        wait_until(lambda: "Read-only file system" in caplog.text)
        stopped.set()
        thread.join()
    assert ward.removals() == [("IMAGES", "AGE", 1)]
    assert len(ward.files()) == 2
    ward.turn()
    kept_as_promised(ward)
    assert len(ward.files()) == 1


def test_nothing_is_marked_while_the_archive_is_away(make_light: Make) -> None:
    ward = make_light(**IMAGES)
    ward.tell()
    ward.clock.forward(3 * DAY)
    away = ward.archive.root.rename(ward.archive.root.with_name("away"))
    with pytest.raises(retention.ArchiveAway):
        ward.keeper.turn()
    assert ward.removals() == []
    away.rename(ward.archive.root)
    ward.turn()
    assert len(ward.removals()) == 1


def test_the_newest_that_is_kept_tells_whether_a_folder_is_the_archive(make_light: Make) -> None:
    ward = make_light(**IMAGES)
    ward.tell()
    ward.clock.forward(3 * DAY)
    ward.turn()
    with ward.sessions() as session:
        assert ledger.newest_paths(session, 5) == []


def test_an_instance_of_another_study_does_not_take_the_place_of_one_that_was_removed(
    emptied: Attic,
) -> None:
    study = study_of(emptied)
    assert emptied.store(new_uid(), f"{study}.1") == 0xC010
    assert len(emptied.all(Study)) == 1
