"""Pictures and key objects: made where they are wanted, once for each answer, never in the way."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import RLELossless
from sqlalchemy.orm import Session, sessionmaker

from dicom_node import capture
from dicom_node.errors import InvalidInstance
from model.predict import Prediction
from tests.fakes import PRESENT, new_uid
from tests.validation import dciodvfy_errors
from tests.ward import PACS, VIEWER, Ward, chest
from worker import composition
from worker.states import CompanionKind
from worker.tables import Companion, Report

BOTH = "companions=picture+key-object"
PICTURE, KEY_OBJECT = CompanionKind.PICTURE, CompanionKind.KEY_OBJECT
ABSENT = Prediction(0.1, 0.5, 0.5, "ABSENT")
UNDETERMINED = Prediction(0.5, 0.5, 0.5, "UNDETERMINED")
REFUSED = Prediction(reason="NOT_CHEST")
ANSWERS = (PRESENT, ABSENT, UNDETERMINED, REFUSED)

Build = Callable[..., Ward]


def answer(image: np.ndarray) -> Prediction:
    """Answer with the one that the upper left pixel names."""
    return ANSWERS[round(float(image[0, 0]) * 10)]


def hot(images: np.ndarray) -> np.ndarray:
    """Maps that are strong everywhere."""
    return np.ones(images.shape, np.float32)


@pytest.fixture
def build(tmp_path: Path, sqlite_sessions: sessionmaker[Session]) -> Build:
    def ward(destinations: str = f"{PACS}?{BOTH}") -> Ward:
        made = Ward(tmp_path, sqlite_sessions, CXR_DESTINATIONS=destinations)
        made.explain = hot
        made.classifier.answer = answer
        return made

    return ward


@pytest.fixture
def ward(build: Build) -> Ward:
    return build()


def receive(ward: Ward, *answers: Prediction, study: str = "") -> str:
    """Receive a study of images that are answered so; give its UID."""
    study = study or new_uid()
    for each in answers:
        pixels = np.full((8, 8), 65535, np.uint16)
        pixels[0] = ANSWERS.index(each) * 6553
        ward.receive(chest(study, pixels=pixels, WindowCenter="32768", WindowWidth="65536"))
    return study


def told(ward: Ward, *answers: Prediction, study: str = "") -> str:
    """Receive a study of images that are answered so, and report it; give its UID."""
    study = receive(ward, *answers, study=study)
    ward.work(10)
    return study


def made(ward: Ward, kind: CompanionKind) -> list[Dataset]:
    rows = [row for row in ward.all(Companion) if row.kind == kind]
    return [dcmread(ward.archive.absolute(row.path)) for row in rows]


def shown(pictures: Sequence[Dataset]) -> list[str]:
    return [ds.SourceImageSequence[0].ReferencedSOPInstanceUID for ds in pictures]


def has_map(ds: Dataset) -> bool:
    """Tell whether the middle of a picture has colours."""
    return bool(np.ptp(ds.pixel_array[ds.Rows // 2].astype(int), axis=-1).max() > 20)


# --- what is made ----------------------------------------------------------------------------


def test_nothing_is_made_when_nobody_wants_it(build: Build) -> None:
    ward = build(PACS)
    told(ward, PRESENT)
    assert ward.states() == ["DELIVERED"]
    assert ward.all(Companion) == []


def test_each_image_that_was_assessed_has_a_picture(ward: Ward) -> None:
    told(ward, *ANSWERS)
    images = [row.instance_id for row in ward.findings() if row.assessed]
    assert len(made(ward, PICTURE)) == len(images) == 3


def test_maps_are_drawn_where_pneumonia_is_or_may_be(ward: Ward) -> None:
    told(ward, PRESENT, ABSENT, UNDETERMINED)
    assert [has_map(ds) for ds in made(ward, PICTURE)] == [True, False, True]


def test_key_object_flags_the_positives_alone(ward: Ward) -> None:
    told(ward, ABSENT, PRESENT, UNDETERMINED, PRESENT)
    (flag,) = made(ward, KEY_OBJECT)
    (study,) = flag.CurrentRequestedProcedureEvidenceSequence
    flagged = {
        item.ReferencedSOPInstanceUID
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    }
    pictures = shown(made(ward, PICTURE))
    assert flagged == {pictures[1], pictures[3]}


def test_where_nothing_is_present_nothing_is_flagged(ward: Ward) -> None:
    told(ward, ABSENT, UNDETERMINED)
    assert made(ward, KEY_OBJECT) == []


def test_only_what_some_destination_wants_is_made(build: Build) -> None:
    ward = build(f"{PACS}?companions=key-object,{VIEWER}")
    told(ward, PRESENT)
    assert [row.kind for row in ward.all(Companion)] == [KEY_OBJECT]


def test_they_are_valid_and_in_series_of_their_own_in_the_patients_study(ward: Ward) -> None:
    study = told(ward, PRESENT, ABSENT)
    found = [*made(ward, PICTURE), *made(ward, KEY_OBJECT)]
    for ds in found:
        assert dciodvfy_errors(ds) == []
        assert ds.StudyInstanceUID == study
        assert ds.PatientID == "PID1"
    assert len({(ds.Modality, ds.SeriesInstanceUID) for ds in [*found, *ward.reports()]}) == 3


def test_a_worker_explains_only_where_pictures_are_wanted(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(composition, "answering", lambda: SimpleNamespace(heatmaps=hot))
    wanted = {"": False, "?companions=key-object": False, f"?{BOTH}": True}
    for options, expected in wanted.items():
        settings = build(f"{PACS}{options}").settings
        monkeypatch.setattr(composition, "settings", lambda settings=settings: settings)
        assert (composition.explain() is not None) is expected


# --- made once -------------------------------------------------------------------------------


def test_a_retry_after_a_crash_makes_the_same_bytes(ward: Ward) -> None:
    receive(ward, PRESENT, ABSENT)
    ward.classify()
    ward.clock.forward(10)
    with ward.killed_at(2) as happened:  # the claim, the story, and here what was made is saved
        ward.report()
    assert happened[0]
    assert ward.all(Companion) == []
    before = sorted(ward.archive.root.rglob("*.dcm"))
    ward.clock.forward(600)
    ward.work(10)
    assert len(ward.all(Companion)) == 3
    assert sorted(ward.archive.root.rglob("*.dcm")) == before


def test_a_late_image_adds_its_own_and_leaves_the_others(ward: Ward) -> None:
    study = told(ward, PRESENT)
    told(ward, ABSENT, study=study)
    first, second = ward.all(Report)
    rows = ward.all(Companion)
    of_first = {row.sop_instance_uid: row.path for row in rows if row.report_id == first.id}
    of_second = {row.sop_instance_uid: row.path for row in rows if row.report_id == second.id}
    assert of_first.items() <= of_second.items()
    assert len(of_second) == len(of_first) + 1


def test_another_answer_is_another_picture(ward: Ward) -> None:
    study = told(ward, PRESENT)
    ward.classifier.answer = ABSENT
    ward.requeue(study)
    ward.work(10)
    one, other = made(ward, PICTURE)
    assert shown([one]) == shown([other])
    assert one.SOPInstanceUID != other.SOPInstanceUID


def test_the_same_answer_again_is_the_same_picture(ward: Ward) -> None:
    study = told(ward, PRESENT)
    before = [row.sha256 for row in ward.all(Companion)]
    ward.clock.forward(3600)
    ward.requeue(study)
    ward.work(10)
    assert [row.sha256 for row in ward.all(Companion)] == before


def test_whoever_wants_them_later_gets_them_when_the_study_is_requeued(build: Build) -> None:
    early = build(PACS)
    early.explain = None
    study = told(early, PRESENT)
    late = build()
    late.requeue(study)
    late.work(10)
    (picture,) = made(late, PICTURE)
    assert has_map(picture)
    assert [len(each) for each in (early.send.companions[0], late.send.companions[0])] == [0, 2]
    assert len(late.all(Report)) == 1


# --- never in the way ------------------------------------------------------------------------


def test_without_a_map_there_is_an_answer_and_a_picture(
    ward: Ward, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(_: np.ndarray) -> np.ndarray:
        raise RuntimeError("several\nlines")

    ward.explain = fails
    told(ward, PRESENT, UNDETERMINED)
    assert ward.states() == ["DELIVERED"]
    assert [has_map(ds) for ds in made(ward, PICTURE)] == [False, False]
    lines = [record.getMessage() for record in caplog.records if record.levelno > logging.INFO]
    assert lines == ["2 answers have no heat map: RuntimeError"]


def test_what_cannot_be_drawn_does_not_hold_up_the_report(
    ward: Ward, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> Dataset:
        raise ValueError("several\nlines")

    monkeypatch.setattr(capture, "build_capture", fails)
    told(ward, PRESENT)
    assert ward.states() == ["DELIVERED"]
    assert [row.kind for row in ward.all(Companion)] == [KEY_OBJECT]
    (line,) = [record.getMessage() for record in caplog.records if record.levelno > logging.INFO]
    assert line.endswith("goes without a PICTURE: ValueError")


class Failing:
    """A decoder that fails, for whatever reason, on what it has decoded before."""

    def to_pixels(self, _: bytes, uid: str, side: int | None) -> np.ndarray:
        raise InvalidInstance("UNDECODABLE", "The image's decoder crashed.", uid)


def test_a_compressed_image_is_decoded_where_it_harms_nobody(
    ward: Ward, caplog: pytest.LogCaptureFixture
) -> None:
    ds = chest()
    ds.compress(RLELossless)
    ward.receive(ds)
    ward.classify()
    ward.clock.forward(10)
    ward.desk.decoder.close()
    ward.desk = replace(ward.desk, decoder=Failing())
    ward.report()
    assert made(ward, PICTURE) == []
    assert f"{ds.SOPInstanceUID} goes without a PICTURE: The image's decoder" in caplog.text


# --- delivered -------------------------------------------------------------------------------


def test_each_destination_gets_what_it_chose(build: Build) -> None:
    ward = build(f"{PACS}?companions=picture,{VIEWER}")
    told(ward, PRESENT)
    (picture,) = ward.all(Companion)
    peers = [peer for _, peer, *_ in ward.send.sent]
    got = dict(zip(peers, ward.send.companions, strict=True))
    assert got == {PACS: [ward.archive.read(picture.path)], VIEWER: []}
