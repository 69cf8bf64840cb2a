"""What the database tells of what the archive holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicom_node.archive import Archive
from tests.datasets import image
from tests.holdings import CAPTURE, KEY_OBJECT, SR, hold, made, report_on
from tests.ledgers import Desk
from worker import ledger
from worker.ledger import Narrowing


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive(tmp_path / "archive")


SOURCE = image()


def found(desk: Desk, **narrowing: object) -> list[str]:
    rows = desk.do(ledger.studies_by, Narrowing(**narrowing), after=None, limit=10)  # type: ignore[arg-type]
    return [row.study_instance_uid for row in rows]


def test_studies_are_narrowed_down_and_come_newest_first(desk: Desk) -> None:
    for number, day in enumerate(("20260101", "20260102", "", "2026.01.")):
        desk.receive(f"2.25.{number}", patient_id=f"P{number}", study_date=day)
    everything = ["2.25.3", "2.25.2", "2.25.1", "2.25.0"]
    assert found(desk) == everything
    assert found(desk, patient_id="P1") == ["2.25.1"]
    assert found(desk, accession_number="ACC-1") == everything
    assert found(desk, accession_number="other") == []
    assert found(desk, study_instance_uids=("2.25.0", "2.25.9")) == ["2.25.0"]
    # What has no date, or an odd one, the files tell.
    assert set(found(desk, study_date_from="20260102")) == {"2.25.3", "2.25.2", "2.25.1"}
    assert set(found(desk, study_date_to="20260101")) == {"2.25.3", "2.25.2", "2.25.0"}
    of_one = found(desk, study_date_to="20260101", accession_number="ACC-1")
    assert of_one == ["2.25.3", "2.25.2", "2.25.0"]


def test_studies_come_in_pages(desk: Desk) -> None:
    for number in range(5):
        desk.receive(f"2.25.{number}")
    assert paged(desk, Narrowing()) == [f"2.25.{number}" for number in (4, 3, 2, 1, 0)]


def test_studies_of_some_dates_come_in_pages_the_newest_date_first(desk: Desk) -> None:
    days = ("", "20260102", "2026.01.", "20260101", "20260102", "20251231", "20260103", "")
    for number, day in enumerate(days):
        desk.receive(f"2.25.{number}", study_date=day)
    seen = paged(desk, Narrowing(study_date_from="20260101", study_date_to="20260102"))
    assert [uid for uid in seen if uid != "2.25.2"] == [
        "2.25.4", "2.25.1", "2.25.3", "2.25.7", "2.25.0",
    ]  # fmt: skip
    assert seen.count("2.25.2") == 1


def paged(desk: Desk, narrowing: Narrowing) -> list[str]:
    seen: list[str] = []
    after = None
    while page := desk.do(ledger.studies_by, narrowing, after=after, limit=2):
        seen += [row.study_instance_uid for row in page]
        after = page[-1]
    return seen


def test_a_study_holds_what_came_and_what_we_made_each_once(desk: Desk, archive: Archive) -> None:
    hold(desk.sessions, archive, SOURCE)
    flag = made(SOURCE, KEY_OBJECT, "KO", "2.25.62")
    report_on(desk.sessions, archive, made(SOURCE, SR, "SR", "2.25.61"), flag)
    again = made(SOURCE, SR, "SR", "2.25.64")
    picture = made(SOURCE, CAPTURE, "OT", "2.25.63")
    report_on(desk.sessions, archive, again, flag, picture, revision=2)
    ((study_id, held),) = desk.do(ledger.holdings_of, [1]).items()
    assert study_id == 1
    assert [(each.sop_instance_uid, each.is_ours) for each in held] == [
        (str(SOURCE.SOPInstanceUID), False), ("2.25.61", True), ("2.25.64", True),
        ("2.25.62", True), ("2.25.63", True),
    ]  # fmt: skip


def test_an_object_is_found_by_its_uid(desk: Desk, archive: Archive) -> None:
    hold(desk.sessions, archive, SOURCE)
    flag = made(SOURCE, KEY_OBJECT, "KO", "2.25.62")
    report_on(desk.sessions, archive, made(SOURCE, SR, "SR", "2.25.61"), flag)
    for uid, sop_class in (
        (SOURCE.SOPInstanceUID, SOURCE.SOPClassUID), ("2.25.61", SR), ("2.25.62", KEY_OBJECT),
    ):  # fmt: skip
        held = desk.do(ledger.holding, str(uid))
        assert held.sop_class_uid == sop_class
        assert archive.absolute(held.path).is_file()
    assert desk.do(ledger.holding, "2.25.99") is None
