import shutil

import pytest
from highdicom import ko
from pydicom.uid import KeyObjectSelectionDocumentStorage

from dicom_node.key_object import build_key_object
from dicom_node.uids import companion_series_uid, companion_uid
from tests.datasets import ROOT, STUDY_UID, part10, read, read_back
from tests.templates import template_errors
from tests.unit.dicom_node.test_report import DEVICE, DIGEST, WHEN, code, evidence, items
from tests.validation import dciodvfy_errors, dsrdump_errors, relationship_errors

THREE = evidence(3)
POSITIVE = [THREE[2].SOPInstanceUID, THREE[0].SOPInstanceUID]


def key_object(instances=THREE, positive=POSITIVE):
    return read(
        build_key_object(
            instances,
            positive,
            DEVICE,
            sop_instance_uid=companion_uid(f"{ROOT}.9", "KEY_OBJECT"),
            series_instance_uid=companion_series_uid(STUDY_UID, DIGEST, "KEY_OBJECT"),
            instance_number=1,
            content_datetime=WHEN,
        )
    )


def uids(found):
    return [item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for item in found]


def test_the_validators_find_no_error():
    ds = key_object()
    assert dciodvfy_errors(ds) == []
    assert relationship_errors(ds) == template_errors(ds) == []
    if shutil.which("dsrdump"):
        assert dsrdump_errors(ds) == []


def test_it_is_a_key_object_selection_of_interest():
    ds = key_object()
    assert ds.SOPClassUID == KeyObjectSelectionDocumentStorage
    assert ds.file_meta.MediaStorageSOPClassUID == ds.SOPClassUID
    assert ds.Modality == "KO"
    assert ds.ConceptNameCodeSequence[0].CodeValue == "113000"
    assert ds.ContentTemplateSequence[0].TemplateIdentifier == "2010"
    assert ds.SeriesNumber >= 1100


def test_it_refers_to_the_positive_images_and_to_no_other():
    ds = key_object()
    assert uids(items(ds, type="IMAGE")) == sorted(POSITIVE)
    (study,) = ds.CurrentRequestedProcedureEvidenceSequence
    assert study.StudyInstanceUID == ds.StudyInstanceUID == STUDY_UID
    (series,) = study.ReferencedSeriesSequence
    listed = [item.ReferencedSOPInstanceUID for item in series.ReferencedSOPSequence]
    assert listed == sorted(POSITIVE)


def test_it_says_who_chose_and_why_in_plain_words():
    ds = key_object()
    assert code(items(ds, name="121049")[0]) == "en"
    assert code(items(ds, name="121005")[0]) == "121007"
    (description,) = items(ds, name="113012")
    assert description.TextValue == (
        "Automated analysis: pneumonia present in 2 images. Intended for frontal (AP) chest "
        "radiographs of children aged 1 to 5 years; not for primary diagnosis."
    )
    one = key_object(positive=POSITIVE[:1])
    assert "in 1 image." in items(one, name="113012")[0].TextValue


def test_made_again_it_is_the_same_bytes_in_whatever_order():
    assert part10(key_object()) == part10(key_object(THREE[::-1], POSITIVE[::-1]))


def test_highdicom_reads_it():
    document = ko.KeyObjectSelectionDocument.from_dataset(read_back(key_object()))
    assert len(document.content.get_references()) == 2


def test_what_the_evidence_lacks_is_empty():
    bare = evidence(1, PatientName=None, PatientID=None, StudyDate=None, Rows=None)
    ds = key_object(bare, [bare[0].SOPInstanceUID])
    assert dciodvfy_errors(ds) == []
    assert items(ds, type="IMAGE")


def test_with_nothing_to_flag_there_is_no_selection():
    with pytest.raises(ValueError, match="selection"):
        key_object(positive=["1.2.3"])
