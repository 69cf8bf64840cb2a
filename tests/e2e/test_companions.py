"""What goes with a report, as a PACS sees it; and what happens when the PACS sends it back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom import Dataset, dcmread
from pydicom.uid import (
    Comprehensive3DSRStorage,
    KeyObjectSelectionDocumentStorage,
    SecondaryCaptureImageStorage,
)
from sqlalchemy import select

from model import artifact
from tests.datasets import part10
from tests.e2e.programs import START_S, Orthanc, run, running, wait_until
from tests.integration.house import ID, NAME, House, study_of
from tests.unit.model.artifacts import write_small
from tests.validation import dciodvfy_errors
from worker.database import build_engine, build_reading_sessions
from worker.tables import Job

pytestmark = pytest.mark.timeout(900)


@dataclass
class Story:
    """What a PACS sent, what it held then, and what was there after it had sent all of it back."""

    images: list[Dataset]
    held: list[Dataset]
    folder: Path
    before: dict[str, Any] = field(default_factory=dict)
    after: dict[str, Any] = field(default_factory=dict)
    owed: int = 0
    log: str = ""

    def of_class(self, uid: str) -> list[Dataset]:
        return [ds for ds in self.held if uid == ds.SOPClassUID]


def write_alarmed(folder: Path) -> Path:
    """Write a model that finds pneumonia in everything."""
    write_small(folder / "calm")
    calm = artifact.read(folder / "calm")
    point = {**calm.description["operating_point"], "threshold": 0.0, "low": 0.0, "high": 0.0}
    artifact.write(folder / "alarmed", {**calm.description, "operating_point": point}, calm.arrays)
    return folder / "alarmed"


@pytest.fixture(scope="module")
def story(peers: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """Let Orthanc send a study, get what was found, and send the whole study once more."""
    folder = tmp_path_factory.mktemp("companions")
    model = write_alarmed(folder / "models")
    with ExitStack() as stack:
        house = House(folder / "home", folder / "logs", CXR_MODEL=str(model))
        stack.callback(house.kill_all)
        orthanc = Orthanc(folder / "orthanc", house.port)
        stack.enter_context(running(["Orthanc", orthanc.configuration], folder / "orthanc.log"))
        wait_until(orthanc.is_up, START_S, "the start of Orthanc")
        destination = (
            f"ORTHANC@127.0.0.1:{orthanc.port}?companions=picture+key-object&commitment=off"
        )
        house.env["CXR_DESTINATIONS"] = destination
        house.start_up()
        yield _tell(house, orthanc, folder)


def _tell(house: House, orthanc: Orthanc, folder: Path) -> Story:
    images = study_of(2)
    uid = str(images[0].StudyInstanceUID)
    stored = [json.loads(orthanc.ask("/instances", part10(ds))) for ds in images]
    (study,) = {answer["ParentStudy"] for answer in stored}
    orthanc.ask("/modalities/cxr-worker/store", study.encode())
    before = house.wait_for_state("DELIVERED", uid)[uid]
    held = [dcmread(BytesIO(data)) for data in orthanc.instances()]
    orthanc.ask("/modalities/cxr-worker/store", study.encode())
    story = Story(images, held, folder, before, house.records()[uid])
    engine = build_engine(house.sqlite_url)
    with build_reading_sessions(engine)() as session:
        story.owed = len(session.scalars(select(Job)).all())
    engine.dispose()
    story.log = house.text()
    return story


def test_report_pictures_and_key_object_are_in_the_patients_study(story: Story) -> None:
    classes = [ds.SOPClassUID for ds in story.held if ds.Modality != "CR"]
    assert sorted(classes) == sorted(
        [
            Comprehensive3DSRStorage, SecondaryCaptureImageStorage,
            SecondaryCaptureImageStorage, KeyObjectSelectionDocumentStorage,
        ]
    )  # fmt: skip
    for ds in story.held:
        assert ds.StudyInstanceUID == story.images[0].StudyInstanceUID
        assert (ds.PatientName, ds.PatientID) == (NAME, ID)


def test_each_image_has_its_picture_in_a_series_of_their_own(story: Story) -> None:
    captures = story.of_class(SecondaryCaptureImageStorage)
    shown = {ds.SourceImageSequence[0].ReferencedSOPInstanceUID for ds in captures}
    assert shown == {ds.SOPInstanceUID for ds in story.images}
    (series,) = {ds.SeriesInstanceUID for ds in captures}
    others = {ds.SeriesInstanceUID for ds in story.held if ds not in captures}
    assert series not in others


def test_key_object_flags_what_was_found(story: Story) -> None:
    (flag,) = story.of_class(KeyObjectSelectionDocumentStorage)
    flagged = {
        item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
        for item in flag.ContentSequence
        if item.ValueType == "IMAGE"
    }
    assert flagged == {ds.SOPInstanceUID for ds in story.images}


def test_dciodvfy_finds_no_error_in_any_of_them(story: Story) -> None:
    for ds in story.held:
        if ds.Modality != "CR":
            assert dciodvfy_errors(ds) == [], ds.SOPClassUID.name


def test_dcmtk_shows_the_picture(story: Story) -> None:
    (capture, *_) = story.of_class(SecondaryCaptureImageStorage)
    source, target = story.folder / "capture.dcm", story.folder / "capture.ppm"
    capture.save_as(source)
    done = run(["dcm2pnm", source, target])
    assert done.returncode == 0, done.stderr
    with Image.open(target) as shown:
        assert (np.asarray(shown) == capture.pixel_array).all()


def test_what_comes_back_is_accepted_and_neither_kept_nor_assessed(story: Story) -> None:
    assert story.before == story.after
    assert len(story.after["instances"]) == len(story.images)
    assert [report["revision"] for report in story.after["reports"]] == [1]
    assert story.owed == 0


def test_log_tells_what_came_back(story: Story) -> None:
    for ds in story.held:
        told = f"a cxr-worker made it: {ds.SOPInstanceUID}" in story.log
        assert told is (ds.Modality != "CR")
