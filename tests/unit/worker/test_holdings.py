"""What stands behind queries, retrievals and requests for commitment."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from sqlalchemy.orm import Session, sessionmaker

from dicom_node.archive import Archive
from dicom_node.commitment import Reference
from dicom_node.query import QueryFailure, Wanted
from tests.datasets import image
from tests.holdings import CAPTURE, KEY_OBJECT, SR, hold, made, report_on
from worker import holdings

CR = "1.2.840.10008.5.1.4.1.1.1"
SOURCE = image()
SECOND = image(SOPInstanceUID="2.25.4", SeriesInstanceUID="2.25.5", PatientName="Other^Name")
REPORT, FLAG, PICTURE = (
    made(SOURCE, SR, "SR", "2.25.61"),
    made(SOURCE, KEY_OBJECT, "KO", "2.25.62"),
    made(SOURCE, CAPTURE, "OT", "2.25.63"),
)


class House:
    def __init__(self, sessions: sessionmaker[Session], root: Path) -> None:
        self.archive = Archive(root)
        for ds in (SOURCE, SECOND):
            hold(sessions, self.archive, ds)
        report_on(sessions, self.archive, REPORT, FLAG, PICTURE)
        self.find = holdings.finder(sessions, self.archive)
        self.retrieve = holdings.retriever(sessions, self.archive)
        self.failure_of = holdings.committer(sessions, self.archive)

    def remove(self, uid: str) -> None:
        (path,) = self.archive.root.glob(f"*/{uid}.*.dcm")
        path.unlink()

    def cut(self, uid: str) -> None:
        (path,) = self.archive.root.glob(f"*/{uid}.*.dcm")
        path.write_bytes(path.read_bytes()[:-2])


@pytest.fixture
def house(sqlite_sessions: sessionmaker[Session], tmp_path: Path) -> House:
    return House(sqlite_sessions, tmp_path / "archive")


def wanted(level: str, **values: Any) -> Wanted:
    ds = Dataset()
    for keyword, value in values.items():
        setattr(ds, keyword, value)
    return Wanted(level, ds)


STUDY = {"StudyInstanceUID": str(SOURCE.StudyInstanceUID)}


def test_a_study_is_what_its_first_file_says_and_what_is_counted(house: House) -> None:
    (found,) = house.find(wanted("STUDY", NumberOfStudyRelatedSeries="", **STUDY))
    assert found.PatientName == "Test^Child"
    assert found.SpecificCharacterSet == "ISO_IR 100"
    assert found.ModalitiesInStudy == ["CR", "KO", "OT", "SR"]
    assert found.NumberOfStudyRelatedInstances == 5
    assert found.NumberOfStudyRelatedSeries == 4
    assert "RetrieveAETitle" in found
    assert "PixelData" not in found


def test_series_are_told_apart_and_only_ours_can_be_retrieved(house: House) -> None:
    found = {ds.SeriesInstanceUID: ds for ds in house.find(wanted("SERIES", **STUDY))}
    assert len(found) == 4
    assert found["2.25.5"].PatientName == "Other^Name"
    assert found[REPORT.SeriesInstanceUID].SeriesDescription == "AI"
    assert found[FLAG.SeriesInstanceUID].NumberOfSeriesRelatedInstances == 2
    retrievable = {uid for uid, ds in found.items() if "RetrieveAETitle" in ds}
    assert retrievable == {REPORT.SeriesInstanceUID, FLAG.SeriesInstanceUID}


def test_instances_are_those_of_the_series(house: House) -> None:
    series = {"SeriesInstanceUID": str(FLAG.SeriesInstanceUID)}
    found = list(house.find(wanted("IMAGE", **STUDY, **series)))
    assert [ds.SOPInstanceUID for ds in found] == ["2.25.62", "2.25.63"]


def test_a_patient_is_told_once(house: House, sqlite_sessions: sessionmaker[Session]) -> None:
    other = image(StudyInstanceUID="2.25.70", SOPInstanceUID="2.25.71", SeriesInstanceUID="2.25.72")
    hold(sqlite_sessions, house.archive, other)
    assert [ds.PatientID for ds in house.find(wanted("PATIENT"))] == ["PID1"]


def test_an_id_that_is_none_is_left_out_and_the_others_are_told(
    house: House, sqlite_sessions: sessionmaker[Session]
) -> None:
    other = image(StudyInstanceUID="2.25.70", SOPInstanceUID="2.25.71", SeriesInstanceUID="2.25.72")
    del other.PatientID
    other.add_new("PatientID", "SQ", [Dataset()])
    hold(sqlite_sessions, house.archive, other)
    told = [ds.get("PatientID") for ds in house.find(wanted("PATIENT"))]
    assert "PID1" in told


def test_what_the_archive_has_lost_is_told_from_the_database(house: House) -> None:
    house.remove(str(SOURCE.SOPInstanceUID))
    (found,) = house.find(wanted("STUDY", **STUDY))
    assert (found.PatientID, found.StudyDate) == ("PID1", "20260102")
    assert "PatientName" not in found


@pytest.mark.parametrize(
    ("level", "keys", "uids"),
    [
        ("STUDY", STUDY, {"2.25.61", "2.25.62", "2.25.63"}),
        ("STUDY", {"StudyInstanceUID": "2.25.99"}, set()),
        ("SERIES", {**STUDY, "SeriesInstanceUID": str(REPORT.SeriesInstanceUID)}, {"2.25.61"}),
        ("SERIES", {**STUDY, "SeriesInstanceUID": str(SOURCE.SeriesInstanceUID)}, set()),
        ("IMAGE", {**STUDY, "SOPInstanceUID": ["2.25.62", "2.25.63"]}, {"2.25.62", "2.25.63"}),
    ],
)
def test_only_what_is_ours_and_asked_for_is_retrieved(
    house: House, level: str, keys: dict[str, Any], uids: set[str]
) -> None:
    paths = house.retrieve(wanted(level, **keys))
    assert {path.name.rsplit(".", 2)[0] for path in paths} == uids


def test_what_is_durably_stored_can_be_committed(house: House) -> None:
    for ds in (SOURCE, REPORT, FLAG):
        assert house.failure_of(Reference(ds.SOPClassUID, ds.SOPInstanceUID)) is None
    assert house.failure_of(Reference(SR, str(SOURCE.SOPInstanceUID))) == 0x0119
    assert house.failure_of(Reference(CR, "2.25.99")) == 0x0112


@pytest.mark.parametrize("harm", ["remove", "cut"])
def test_what_the_archive_has_lost_is_not_committed(house: House, harm: str) -> None:
    for ds in (SOURCE, REPORT):
        getattr(house, harm)(str(ds.SOPInstanceUID))
        assert house.failure_of(Reference(ds.SOPClassUID, ds.SOPInstanceUID)) == 0x0110


@pytest.mark.parametrize(
    ("keys", "narrowing"),
    [
        ({"PatientID": "P1"}, {"patient_id": "P1"}),
        ({"PatientID": "P*"}, {}),
        ({"AccessionNumber": "A?"}, {}),
        ({"StudyDate": "20260101"}, {"study_date_from": "20260101", "study_date_to": "20260101"}),
        ({"StudyDate": "20260101-"}, {"study_date_from": "20260101"}),
        ({"StudyDate": "-20260101"}, {"study_date_to": "20260101"}),
        ({"StudyInstanceUID": ["1.2", "1.3"]}, {"study_instance_uids": ("1.2", "1.3")}),
    ],
)
def test_the_database_narrows_what_it_can(keys: dict[str, Any], narrowing: dict[str, Any]) -> None:
    assert holdings.narrow(wanted("STUDY", **keys)) == holdings.Narrowing(**narrowing)


@pytest.mark.parametrize("level", ["PATIENT", "STUDY", "SERIES", "IMAGE"])
def test_what_is_looked_at_is_counted_and_not_what_is_found(
    sqlite_sessions: sessionmaker[Session], tmp_path: Path, level: str
) -> None:
    archive = Archive(tmp_path / "archive")
    for number in range(3):  # of one patient
        uids = {
            each: f"2.25.{number}.{len(each)}" for each in ("StudyInstanceUID", "SOPInstanceUID")
        }
        hold(sqlite_sessions, archive, image(**uids))
    keys = {"SeriesInstanceUID": "9.9"} if level == "IMAGE" else {}
    for most, enough in ((2, False), (3, True)):
        found = holdings.finder(sqlite_sessions, archive, most)(wanted(level, **keys))
        with nullcontext() if enough else pytest.raises(QueryFailure, match="date"):
            list(found)
