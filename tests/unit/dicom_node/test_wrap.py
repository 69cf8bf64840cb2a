import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dicom_node.errors import InvalidInstance
from dicom_node.pixels import to_pixels
from dicom_node.wrap import wrap_image
from tests.datasets import read_back
from tests.validation import dciodvfy_errors

GREY = np.arange(35 * 33, dtype=np.uint16).reshape(33, 35) * 50


@pytest.fixture
def picture(tmp_path):
    def save(array, name):
        path = tmp_path / name
        Image.fromarray(array).save(path)
        return path

    return save


def test_eight_bit_grey_is_kept(picture):
    grey = (GREY >> 8).astype(np.uint8)
    ds = read_back(wrap_image(picture(grey, "a.png")))
    np.testing.assert_array_equal(ds.pixel_array, grey)
    np.testing.assert_allclose(to_pixels(ds), grey / np.float32(255), atol=1e-6)


def test_sixteen_bit_grey_is_kept(picture):
    ds = read_back(wrap_image(picture(GREY, "a.png")))
    assert ds.BitsStored == 16
    np.testing.assert_array_equal(ds.pixel_array, GREY)
    np.testing.assert_allclose(to_pixels(ds), GREY / np.float32(65535), atol=1e-6)


def test_colour_becomes_grey(picture):
    colour = np.zeros((4, 4, 3), np.uint8)
    colour[..., 1] = 255
    assert (read_back(wrap_image(picture(colour, "a.png"))).pixel_array == 150).all()


@pytest.mark.parametrize(("name", "lossy"), [("a.jpg", "01"), ("a.png", "00")])
def test_a_jpeg_is_known_to_have_lost_something(picture, name, lossy):
    ds = wrap_image(picture((GREY >> 8).astype(np.uint8), name))
    assert ds.LossyImageCompression == lossy
    assert ds.get("LossyImageCompressionMethod") == ("ISO_10918_1" if lossy == "01" else None)


def test_it_is_a_chest_image_for_presentation_of_the_given_age_and_view(picture):
    ds = wrap_image(picture(GREY, "a.png"), patient_age="003Y", view_position="AP")
    assert ds.SOPClassUID == "1.2.840.10008.5.1.4.1.1.1.1"
    assert ds.PresentationIntentType == "FOR PRESENTATION"
    assert (ds.PatientAge, ds.ViewPosition, ds.BodyPartExamined) == ("003Y", "AP", "CHEST")
    assert ds.ViewCodeSequence[0].CodeValue == "399348003"
    assert ds.TimezoneOffsetFromUTC == "+0000"


def test_nothing_of_the_files_name_enters_the_instance(picture):
    ds = wrap_image(picture(GREY, "Doe-Jane-19990101.png"))
    assert "Doe" not in ds.to_json()
    assert "1999" not in ds.PatientID


def test_every_instance_has_new_uids_and_a_study_of_its_own(picture):
    path = picture(GREY, "a.png")
    one, other = wrap_image(path), wrap_image(path)
    for keyword in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "PatientID"):
        assert one[keyword].value != other[keyword].value


def test_a_study_a_patient_and_an_accession_number_may_be_given(picture):
    ds = wrap_image(
        picture(GREY, "a.png"),
        study_instance_uid="1.2.3",
        patient_id="P7",
        accession_number="A7",
    )
    assert (ds.StudyInstanceUID, ds.PatientID, ds.AccessionNumber) == ("1.2.3", "P7", "A7")


@pytest.mark.parametrize("age", ["3", "3Y", "003X", "0003Y", ""])
def test_an_age_of_another_form_is_refused(picture, age):
    with pytest.raises(ValueError, match="003Y"):
        wrap_image(picture(GREY, "a.png"), patient_age=age)


def test_a_view_of_another_form_is_refused(picture):
    with pytest.raises(ValueError, match="AP"):
        wrap_image(picture(GREY, "a.png"), view_position="frontal!")


def test_what_is_no_picture_is_refused(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"no picture")
    with pytest.raises(InvalidInstance) as error:
        wrap_image(path)
    assert error.value.reason == "UNDECODABLE"
    with pytest.raises(InvalidInstance):
        wrap_image(tmp_path / "missing.png")


@pytest.mark.parametrize("view", ["AP", "PA", "LL", "RL", "LLO", None])
@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
def test_the_validator_finds_no_error(picture, view, name):
    ds = wrap_image(
        picture((GREY >> 8).astype(np.uint8), name), patient_age="003Y", view_position=view
    )
    assert dciodvfy_errors(ds) == []


def test_wrapping_needs_nothing_that_a_slim_node_lacks():
    code = "import dicom_node.wrap, sys; sys.exit('highdicom' in sys.modules)"
    root = Path(__file__).parents[3]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0
