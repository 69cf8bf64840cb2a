import numpy as np
import pytest
from pydicom.uid import JPEGBaseline8Bit, SecondaryCaptureImageStorage

from dicom_node.capture import build_capture
from dicom_node.uids import companion_series_uid, companion_uid
from tests.datasets import ROOT, STUDY_UID, dx_image, image, part10, read, read_back
from tests.unit.dicom_node.test_report import DEVICE, DIGEST, WHEN
from tests.validation import dciodvfy_errors

PICTURE = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)  # an odd number of bytes
SOURCE = read_back(image(PatientOrientation=["L", "F"]))


def capture(source=SOURCE, picture=PICTURE, **more):
    arguments = {
        "sop_instance_uid": companion_uid(f"{ROOT}.9", "PICTURE", str(source.SOPInstanceUID)),
        "series_instance_uid": companion_series_uid(STUDY_UID, DIGEST, "PICTURE"),
        "instance_number": 1,
        "content_datetime": WHEN,
    }
    return read(build_capture(source, picture, DEVICE, **(arguments | more)))


SOURCES = {
    "a CR": lambda: SOURCE,
    "a DX": lambda: read_back(dx_image()),
    "without its type 2": lambda: read_back(image(PatientName=None, PatientID=None, StudyDate="")),
    "oriented badly": lambda: read_back(image(PatientOrientation=["left", "F"])),
    "oriented once": lambda: read_back(image(PatientOrientation="L")),
    "lossy": lambda: read_back(
        image(LossyImageCompression="01", LossyImageCompressionMethod="ISO_10918_1")
    ),
    "lossy, who knows how": lambda: read_back(
        image(LossyImageCompression="01", LossyImageCompressionMethod="by some means")
    ),
}


@pytest.mark.parametrize("name", SOURCES)
def test_the_validator_finds_no_error(name):
    assert dciodvfy_errors(capture(SOURCES[name]())) == []


def test_its_pixels_are_the_picture():
    ds = read_back(capture())
    assert np.array_equal(ds.pixel_array, PICTURE)
    assert ds.PhotometricInterpretation == "RGB"
    assert not ds.file_meta.TransferSyntaxUID.is_compressed


def test_it_says_what_it_is():
    ds = capture()
    assert ds.SOPClassUID == ds.file_meta.MediaStorageSOPClassUID == SecondaryCaptureImageStorage
    assert ds.ImageType == ["DERIVED", "SECONDARY"]
    assert (ds.ConversionType, ds.BurnedInAnnotation, ds.Modality) == ("WSD", "YES", "OT")
    assert "not for primary diagnosis" in ds.DerivationDescription
    assert (ds.Manufacturer, ds.ManufacturerModelName) == ("cxr-worker", "cxr-resnet")
    assert ds.SeriesNumber >= 1000


def test_it_refers_to_its_source_in_the_same_study():
    ds = capture()
    (reference,) = ds.SourceImageSequence
    assert reference.ReferencedSOPInstanceUID == SOURCE.SOPInstanceUID
    assert reference.ReferencedSOPClassUID == SOURCE.SOPClassUID
    assert reference.PurposeOfReferenceCodeSequence[0].CodeValue == "121322"
    assert ds.StudyInstanceUID == STUDY_UID
    for keyword in ("PatientName", "PatientID", "AccessionNumber", "StudyDate", "StudyID"):
        assert ds[keyword] == SOURCE[keyword]
    assert ds.PatientOrientation == SOURCE.PatientOrientation


def test_made_again_it_is_the_same_bytes():
    assert part10(capture()) == part10(capture())


def test_a_lossy_source_stays_lossy():
    assert capture().LossyImageCompression == "00"
    ds = capture(SOURCES["lossy"]())
    assert (ds.LossyImageCompression, ds.LossyImageCompressionMethod) == ("01", "ISO_10918_1")
    source = image()
    source.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    assert capture(source).LossyImageCompression == "01"


def test_its_uids_are_its_own():
    uids = {
        companion_uid("1.2", "PICTURE", "1.3"),
        companion_uid("1.2", "PICTURE", "1.4"),
        companion_uid("1.2", "KEY_OBJECT"),
        companion_uid("1.5", "KEY_OBJECT"),
        companion_series_uid("1.2", DIGEST, "PICTURE"),
        companion_series_uid("1.2", DIGEST, "KEY_OBJECT"),
    }
    assert len(uids) == 6


@pytest.mark.parametrize("picture", [PICTURE[..., 0], PICTURE[..., :2], PICTURE.astype(np.uint16)])
def test_what_is_no_colour_picture_is_refused(picture):
    with pytest.raises(ValueError, match="picture"):
        capture(picture=picture)
