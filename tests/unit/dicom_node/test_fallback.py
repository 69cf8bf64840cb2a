import shutil
from io import BytesIO

import pytest
from pydicom import dcmread
from pydicom.uid import ComprehensiveSRStorage, EnhancedSRStorage

from dicom_node.contexts import REPORT_SOP_CLASSES
from dicom_node.fallback import as_sop_class
from tests.datasets import part10
from tests.templates import template_errors
from tests.unit.dicom_node.test_identity import NAMES, source_with
from tests.unit.dicom_node.test_report import REPORTS, found, items, report
from tests.validation import dciodvfy_errors, dsrdump_errors, relationship_errors

FALLBACKS = REPORT_SOP_CLASSES[1:]


def read(data):
    return dcmread(BytesIO(data))


@pytest.mark.parametrize("sop_class", REPORT_SOP_CLASSES)
@pytest.mark.parametrize("name", REPORTS)
def test_every_report_is_valid_as_every_class(name, sop_class):
    ds = read(as_sop_class(part10(REPORTS[name]()), sop_class))
    assert ds.SOPClassUID == ds.file_meta.MediaStorageSOPClassUID == sop_class
    assert relationship_errors(ds) == template_errors(ds) == []
    assert dciodvfy_errors(ds) == []
    if shutil.which("dsrdump"):
        assert dsrdump_errors(ds) == []


def test_the_same_class_is_the_same_bytes():
    data = part10(REPORTS["one image"]())
    assert as_sop_class(data, REPORT_SOP_CLASSES[0]) is data


@pytest.mark.parametrize("sop_class", FALLBACKS)
def test_it_is_another_instance_and_made_again_the_same(sop_class):
    report = part10(REPORTS["one image"]())
    data = as_sop_class(report, sop_class)
    assert data == as_sop_class(report, sop_class)
    uids = [read(as_sop_class(report, each)).SOPInstanceUID for each in REPORT_SOP_CLASSES]
    assert len(set(uids)) == 3
    assert read(data).file_meta.MediaStorageSOPInstanceUID == read(data).SOPInstanceUID


def test_all_but_its_class_and_uid_stays():
    original = REPORTS["a mixture"]()
    ds = read(as_sop_class(part10(original), EnhancedSRStorage))
    ds.SOPClassUID, ds.SOPInstanceUID = original.SOPClassUID, original.SOPInstanceUID
    assert ds == original


def test_its_predecessor_is_the_fallback_of_the_predecessor():
    ds = read(as_sop_class(part10(REPORTS["a revision"]()), ComprehensiveSRStorage))
    first = read(as_sop_class(part10(REPORTS["one image"]()), ComprehensiveSRStorage))
    (study,) = ds.PredecessorDocumentsSequence
    (reference,) = study.ReferencedSeriesSequence[0].ReferencedSOPSequence
    assert reference.ReferencedSOPClassUID == ComprehensiveSRStorage
    assert reference.ReferencedSOPInstanceUID == first.SOPInstanceUID


@pytest.mark.parametrize("charset", NAMES)
def test_a_name_keeps_its_bytes(charset):
    evidence = source_with(SpecificCharacterSet=charset.encode(), PatientName=NAMES[charset])
    data = part10(report([evidence], [found(1)]))
    assert NAMES[charset] in as_sop_class(data, EnhancedSRStorage)


def test_no_report_has_what_another_class_forbids():
    for make in REPORTS.values():
        ds = make()
        assert not items(ds, type="SCOORD3D")
        assert not [
            elem for elem in ds.iterall() if elem.keyword == "ReferencedContentItemIdentifier"
        ]


def test_another_sop_class_is_refused():
    with pytest.raises(ValueError, match=r"1\.2\.3"):
        as_sop_class(b"", "1.2.3")
