"""As a stranger's PACS sees it: DCMTK sends, DCMTK and Orthanc receive, DCMTK reads."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, dcmread

from dicom_node.codes import ANSWERS, CERTAINTY, PRESENCE, PROBABILITY
from tests.e2e.conftest import DATA, Story, children
from tests.e2e.programs import run

pytestmark = pytest.mark.timeout(1200)

MEASUREMENT_GROUP = "125007"
WORDS = {code.value: word for word, code in ANSWERS.items()}


def test_every_study_is_accepted_from_storescu(story: Story) -> None:
    assert set(story.sent.values()) == {0}, story.sent


def test_each_study_has_exactly_one_report_at_each_pacs(story: Story) -> None:
    for study in story.studies:
        assert len(story.reports(story.at_dcmtk, study.uid)) == 1, study.label
        assert len(story.reports(story.at_orthanc, study.uid)) == 1, study.label


def test_nothing_but_reports_of_what_was_sent_is_delivered(story: Story) -> None:
    assert len(story.at_dcmtk) == len(story.studies)
    assert len(story.at_orthanc) == len(story.studies) + sum(s.by_orthanc for s in story.studies)


def test_both_pacs_have_the_same_report(story: Story) -> None:
    for study in story.studies:
        (one,) = story.reports(story.at_dcmtk, study.uid)
        (other,) = story.reports(story.at_orthanc, study.uid)
        one.file_meta = other.file_meta  # each PACS writes its own
        assert one == other, study.label


def test_report_is_in_the_patients_study(story: Story) -> None:
    for study in story.studies:
        (report,) = story.reports(story.at_dcmtk, study.uid)
        source = study.sources[0]
        for keyword in ("PatientID", "PatientName", "AccessionNumber", "StudyDate", "StudyID"):
            assert report.get(keyword) == source.get(keyword), (study.label, keyword)
        assert report.SeriesInstanceUID not in {s.SeriesInstanceUID for s in study.sources}


def test_results_name_the_report_and_its_deliveries(story: Story) -> None:
    for study in story.studies:
        (report,) = story.reports(story.at_dcmtk, study.uid)
        (recorded,) = story.records[study.uid]["reports"]
        assert recorded["sop_instance_uid"] == report.SOPInstanceUID
        assert recorded["revision"] == 1
        states = {d["destination"].split("@")[0]: d["state"] for d in recorded["deliveries"]}
        # DCMTK's storescp offers no Storage Commitment, Orthanc does.
        assert states == {"DCMTKPACS": "DELIVERED", "ORTHANC": "COMMITTED"}


# --- the report says what the database says --------------------------------------------------


def code(item: Dataset) -> str:
    return (
        str(item.ConceptNameCodeSequence[0].CodeValue) if "ConceptNameCodeSequence" in item else ""
    )


def items(item: Dataset) -> Iterator[Dataset]:
    """Give all content items below one, in order."""
    for child in item.get("ContentSequence", []):
        yield child
        yield from items(child)


def groups(report: Dataset) -> dict[str, Dataset]:
    """Give the measurement groups by the SOP Instance UID of the image each is about."""
    found = {}
    for group in (item for item in items(report) if code(item) == MEASUREMENT_GROUP):
        (image,) = {
            str(item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID)
            for item in items(group)
            if item.ValueType == "IMAGE"
        }
        assert image not in found
        found[image] = group
    return found


def presence(group: Dataset) -> str | None:
    words = [
        WORDS[item.ConceptCodeSequence[0].CodeValue]
        for item in items(group)
        if code(item) == PRESENCE.value
    ]
    return words[0] if words else None


def score(group: Dataset) -> float | None:
    """Give the score in percent, as it is printed."""
    values = [
        item.MeasuredValueSequence[0]
        for item in items(group)
        if code(item) in (PROBABILITY.value, CERTAINTY.value)
    ]
    if not values:
        return None
    assert values[0].MeasurementUnitsCodeSequence[0].CodeValue == "%"
    return float(values[0].NumericValue)


def recorded_instances(story: Story) -> list[tuple[dict[str, Any], Dataset]]:
    """Pair each instance of the results with its measurement group in the report."""
    pairs = []
    for study in story.studies:
        (report,) = story.reports(story.at_dcmtk, study.uid)
        by_image = groups(report)
        recorded = story.records[study.uid]["instances"]
        assert by_image.keys() == {i["sop_instance_uid"] for i in recorded}, study.label
        assert by_image.keys() == {str(s.SOPInstanceUID) for s in study.sources}, study.label
        pairs += [(i, by_image[i["sop_instance_uid"]]) for i in recorded]
    return pairs


def test_report_and_results_agree_on_each_image(story: Story) -> None:
    for instance, group in recorded_instances(story):
        pneumonia = instance["probabilities"].get("pneumonia")
        assert presence(group) == instance["finding"]
        assert score(group) == (None if pneumonia is None else round(100 * pneumonia, 2))
        assert instance["assessed"] is (instance["reason"] is None) is (pneumonia is not None)


def test_report_gives_the_reason_of_what_was_not_assessed(story: Story) -> None:
    unassessed = [(i, g) for i, g in recorded_instances(story) if not i["assessed"]]
    assert unassessed
    for instance, group in unassessed:
        texts = [item.TextValue for item in items(group) if item.ValueType == "TEXT"]
        assert any(instance["reason"] in text for text in texts)


@pytest.mark.parametrize("label", ["adult chest", "arm, two images"])
def test_what_the_model_must_not_judge_has_no_answer(story: Story, label: str) -> None:
    (study,) = (s for s in story.studies if s.label == label)
    for instance in story.records[study.uid]["instances"]:
        assert not instance["assessed"]
        assert instance["probabilities"] == {}


def test_radiographs_of_children_are_answered(story: Story) -> None:
    labels = {path.stem for path in children()}
    if not labels:
        pytest.skip(f"no radiographs of children in {DATA}; CXR_TEST_DATA names a folder")
    answered = [
        instance["assessed"]
        for study in story.studies
        if study.label in labels
        for instance in story.records[study.uid]["instances"]
    ]
    assert answered == [True] * len(labels)


# --- other software reads it -----------------------------------------------------------------


def test_dcmdump_reads_every_report(story: Story) -> None:
    for path in story.at_dcmtk:
        done = run(["dcmdump", "+P", "CompletionFlag", "+P", "VerificationFlag", path])
        assert done.returncode == 0, done.stderr
        assert "[COMPLETE]" in done.stdout
        assert "[UNVERIFIED]" in done.stdout


def test_dsrdump_reads_every_report(story: Story) -> None:
    for path in story.at_dcmtk:
        done = run(["dsrdump", path])
        assert done.returncode == 0, done.stdout + done.stderr
        assert "Imaging Measurement Report" in done.stdout
        assert "E: " not in done.stderr


def test_dciodvfy_finds_no_error_in_any_report(story: Story) -> None:
    for path in [*story.at_dcmtk, *report_files(story)]:
        done = run([Path(sys.executable).parent / "dciodvfy", "-new", path])
        errors = [line for line in done.stderr.splitlines() if line.startswith(("Error", "Abort"))]
        assert errors == [], path
        assert "Comprehensive3DSR" in done.stderr


def report_files(story: Story) -> list[Path]:
    """List the files of Orthanc that are reports, as Orthanc gives them."""
    uids = {record["reports"][0]["sop_instance_uid"] for record in story.records.values()}
    return [path for path in story.at_orthanc if _sop_instance_uid(path) in uids]


def _sop_instance_uid(path: Path) -> str:
    return str(dcmread(path, specific_tags=["SOPInstanceUID"]).SOPInstanceUID)


# --- associations ----------------------------------------------------------------------------


def test_echoscu_is_answered(story: Story) -> None:
    assert story.echo == 0


def test_unknown_calling_ae_title_is_rejected(story: Story) -> None:
    assert story.stranger_echo != 0
    assert story.stranger_store != 0
    assert "association rejected: calling 'STRANGER'" in story.log


def test_study_that_is_sent_again_is_accepted_and_reported_once(story: Story) -> None:
    assert story.sent_again == 0
    again = story.studies[0].uid
    assert len(story.reports(story.at_dcmtk, again)) == 1


# --- the end ---------------------------------------------------------------------------------


def test_interrupt_stops_everything(story: Story) -> None:
    assert story.exit_status == 0
    assert story.left_over == []
    assert "cxr-worker has stopped." in story.log


def test_log_holds_no_error_and_no_patient(story: Story) -> None:
    # TensorFlow writes to the same stream, and calls it an error that there is no GPU.
    assert re.findall(r"^\S+Z (?:ERROR|CRITICAL) .*", story.log, flags=re.MULTILINE) == []
    assert "Traceback" not in story.log
    for study in story.studies:
        for keyword in ("PatientID", "PatientName"):
            value = str(study.sources[0].get(keyword) or "")
            assert len(value) < 5 or value not in story.log, (study.label, keyword)
