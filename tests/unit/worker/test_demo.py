"""The demo's folder and its bookkeeping; the run itself is told by the integration tests."""

from __future__ import annotations

import csv
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom import Dataset

from dicom_node.capture import build_capture
from dicom_node.errors import ConfigurationError
from dicom_node.findings import AlgorithmDevice, InstanceFinding
from dicom_node.key_object import build_key_object
from dicom_node.report import build_report
from tests.datasets import ROOT, STUDY_UID, image, part10, read
from tests.pacs import deliver
from worker import demo
from worker.stand_in import PacsStandIn


def test_a_folder_with_anything_else_in_it_is_left_alone(tmp_path: Path) -> None:
    thesis = tmp_path / "thesis.txt"
    thesis.touch()
    with pytest.raises(ConfigurationError, match="not empty"):
        demo._make_room(tmp_path)
    assert thesis.exists()


def test_the_folder_of_an_earlier_demo_is_emptied(tmp_path: Path) -> None:
    out = tmp_path / "demo-out"
    demo._make_room(out)
    (out / "001-1.png").touch()
    demo._make_room(out)
    assert [path.name for path in out.iterdir()] == [demo.MARK]


def test_each_study_can_be_traced_to_its_file(tmp_path: Path) -> None:
    studies = [demo.DemoStudy("study-001", [Path("a.png"), Path("b.png")])]
    demo._list_sources(studies, tmp_path / "studies.csv")
    with (tmp_path / "studies.csv").open() as file:
        assert [row["file"] for row in csv.DictReader(file)] == ["a.png", "b.png"]


# --- what the PACS stand-in got --------------------------------------------------------------


DEVICE = AlgorithmDevice("m", "1.0", "d" * 64, 0.5, (0.4, 0.6), 1.0, calibrated=True)
NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
PICTURE = np.arange(64 * 64 * 3, dtype=np.uint8).reshape(64, 64, 3)


def capture(source: Dataset) -> Dataset:
    return read(build_capture(
        source, PICTURE, DEVICE, sop_instance_uid=f"{ROOT}.7", series_instance_uid=f"{ROOT}.70",
        instance_number=1, content_datetime=NOW,
    ))  # fmt: skip


def key_object(source: Dataset) -> Dataset:
    return read(build_key_object(
        [source], [source.SOPInstanceUID], DEVICE, sop_instance_uid=f"{ROOT}.8",
        series_instance_uid=f"{ROOT}.80", instance_number=1, content_datetime=NOW,
    ))  # fmt: skip


def report(source: Dataset) -> Dataset:
    finding = InstanceFinding(source.SOPInstanceUID, True, finding="PRESENT", pneumonia=0.9)
    return read(build_report(
        [source], [finding], DEVICE, sop_instance_uid=f"{ROOT}.9",
        series_instance_uid=f"{ROOT}.90", revision=1, content_datetime=NOW,
    ))  # fmt: skip


@pytest.fixture(scope="module")
def pacs(tmp_path_factory: pytest.TempPathFactory) -> PacsStandIn:
    """A stand-in that was sent a report with a picture and a key object."""
    pacs, source = PacsStandIn(tmp_path_factory.mktemp("pacs")), image()
    with pacs.listening() as peer:
        extra = [part10(capture(source)), part10(key_object(source))]
        done = deliver(part10(report(source)), peer, "CXRWORKER", companions=extra)
        pacs.wait_for({STUDY_UID}, 60)
    assert [sent.status for sent in done.companions] == [0, 0]
    return pacs


def test_the_stand_in_tells_reports_pictures_and_key_objects_apart(pacs: PacsStandIn) -> None:
    assert pacs.captures.keys() == {image().SOPInstanceUID}
    assert (len(pacs.reports[STUDY_UID]), len(pacs.key_objects[STUDY_UID])) == (1, 1)
    assert STUDY_UID in pacs.arrived


RECORD = {"model": {"name": "m", "version": "1.0"}}
ANSWERED = {
    "sop_instance_uid": image().SOPInstanceUID, "assessed": True, "reason": None,
    "finding": "PRESENT", "probabilities": {"pneumonia": 0.9}, "flags": [],
}  # fmt: skip
REFUSED = {
    **ANSWERED, "assessed": False, "reason": "NOT_CHEST", "finding": None, "probabilities": {},
}  # fmt: skip


def shown(instance: dict[str, Any], source: Path, pacs: PacsStandIn, folder: Path) -> np.ndarray:
    study = demo.DemoStudy("study-001", [source], sources={ANSWERED["sop_instance_uid"]: source})
    demo._show(instance, RECORD, study, pacs, folder / "001-1")
    with Image.open(folder / "001-1.png") as png:
        return np.asarray(png)


def test_what_the_demo_shows_is_what_the_pacs_got(pacs: PacsStandIn, tmp_path: Path) -> None:
    assert (shown(ANSWERED, tmp_path / "gone.dcm", pacs, tmp_path) == PICTURE).all()
    assert (tmp_path / "001-1-picture.dcm").is_file()


@pytest.mark.parametrize("pixels", [None, b""])
def test_an_image_that_was_not_assessed_is_shown_with_the_reason(
    pixels: bytes | None, tmp_path: Path
) -> None:
    source = tmp_path / "source.dcm"
    source.write_bytes(part10(image(**({} if pixels is None else {"PixelData": pixels}))))
    drawn = shown(REFUSED, source, PacsStandIn(tmp_path), tmp_path)
    assert drawn[:60].any()  # the words
    assert bool(drawn[-320:].any()) is (pixels is None)
