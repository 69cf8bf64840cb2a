import numpy as np
import pytest

from dicom_node import inflating
from dicom_node.header import read_header
from tests.datasets import image, part10

# Outside of pytest the product keeps pydicom's warnings quiet itself.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def test_the_header_is_read_without_the_pixels():
    data = part10(image())
    result = read_header(data[: len(data) - 100])
    assert result["PatientID"] == "PID1"
    assert result["AccessionNumber"] == "ACC1"
    assert result["Modality"] == "CR"
    assert result["StudyDate"] == "20260102"
    assert result["SOPInstanceUID"] == image().SOPInstanceUID


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1.99"])
def test_implicit_and_deflated_headers_are_read_too(syntax):
    ds = image()
    ds.file_meta.TransferSyntaxUID = syntax
    assert read_header(part10(ds))["StudyInstanceUID"] == ds.StudyInstanceUID


def test_a_deflated_dataset_that_inflates_beyond_measure_is_refused(monkeypatch):
    ds = image(np.zeros((2000, 1000), np.uint16))
    ds.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1.99"
    data = part10(ds)
    assert len(data) < 10000
    assert read_header(data)["PatientID"] == "PID1"
    monkeypatch.setattr(inflating, "MAX_INFLATED", 3_000_000)
    with pytest.raises(ValueError, match="inflates"):
        read_header(data)


def test_what_is_absent_or_empty_is_an_empty_string():
    result = read_header(part10(image(PatientID=None, AccessionNumber="", StudyDate=None)))
    assert result["PatientID"] == result["AccessionNumber"] == result["StudyDate"] == ""


@pytest.mark.parametrize("charset", ["NO SUCH", "ISO_IR 87", "ISO_IR 192", "\\x", ""])
def test_an_id_survives_a_wrong_character_set(charset):
    data = part10(image(PatientID="PID-\xe9-1"))
    broken = data.replace(b"ISO_IR 100", charset.encode().ljust(10))
    result = read_header(broken)
    assert result["PatientID"].startswith("PID-")
    assert result["PatientID"].endswith("1")


def test_an_id_is_decoded_by_its_character_set():
    result = read_header(
        part10(image(SpecificCharacterSet="ISO_IR 192", PatientID="P\u00c9\u4e00"))
    )
    assert result["PatientID"] == "P\u00c9\u4e00"


def test_a_uid_with_a_nul_inside_stays_another_than_the_one_without():
    uid = "1.2.840.3"
    data = part10(image(StudyInstanceUID=uid)).replace(uid.encode(), b"1.2\0840.3")
    assert read_header(data)["StudyInstanceUID"] == "1.2\0840.3"


@pytest.mark.parametrize("data", [b"", b"rubbish" * 100, b"\0" * 128 + b"DICM" + b"\xff" * 64])
def test_bytes_that_are_no_dataset_raise_or_have_no_uid(data):
    try:
        result = read_header(data)
    except Exception:
        return
    assert result["SOPInstanceUID"] == ""
