"""Which files are images, and how each kind is read."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.uid import ImplicitVRLittleEndian

from dicom_node.errors import InvalidInstance
from model import images
from tests.datasets import image, part10

GREY = np.linspace(0, 255, 64 * 48).reshape(64, 48).round().astype(np.uint8)


def test_dicom_is_found_without_a_suffix_and_under_a_uid(tmp_path):
    for name in ("IM000001", "1.2.840.113619.2", "a.IMA", "b.dcm"):
        (tmp_path / name).write_bytes(part10(image()))
    assert len(images.image_files(tmp_path)) == 4
    assert all(images.is_dicom(path) for path in images.image_files(tmp_path))


@pytest.mark.parametrize("implicit", [False, True])
def test_dicom_without_preamble_is_read(tmp_path, implicit):
    ds = image(GREY)
    if implicit:
        ds.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    (tmp_path / "whole.dcm").write_bytes(part10(ds))
    with (tmp_path / "bare").open("wb") as file:
        read = dcmread(tmp_path / "whole.dcm")
        del read.file_meta
        read.save_as(file, implicit_vr=implicit, little_endian=True)
    whole, bare = (images.read_image(tmp_path / name) for name in ("whole.dcm", "bare"))
    assert images.image_files(tmp_path) == [tmp_path / "bare", tmp_path / "whole.dcm"]
    assert np.array_equal(whole, bare)


def test_pictures_without_a_suffix_are_found(tmp_path):
    for kind in ("JPEG", "PNG"):
        Image.fromarray(GREY).save(tmp_path / kind.lower(), kind)
    assert [p.name for p in images.image_files(tmp_path)] == ["jpeg", "png"]
    assert images.read_image(tmp_path / "png").max() == 1


def test_a_folder_that_links_upwards_ends(tmp_path):
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "a.png").write_bytes(b"")
    (tmp_path / "below" / "up").symlink_to(tmp_path)
    assert images.image_files(tmp_path) == [tmp_path / "below" / "a.png"]
    assert images.image_files(tmp_path / "nowhere") == []


def saved(folder, name: str, picture: Image.Image, **options) -> np.ndarray:
    picture.save(folder / name, **options)
    return images.read_image(folder / name)


def test_the_kinds_of_picture_give_the_same_grey(tmp_path):
    grey = Image.fromarray(GREY)
    colour = grey.convert("RGB")
    opaque = colour.copy()
    opaque.putalpha(255)
    deep = Image.fromarray(GREY.astype(np.uint16) * 257)
    expected = saved(tmp_path, "grey.png", grey)
    kinds = {
        "rgb.png": colour,
        "rgba.png": opaque,
        "la.png": opaque.convert("LA"),
        "palette.png": grey.convert("P"),
        "deep.png": deep,
    }
    for name, picture in kinds.items():
        assert np.abs(saved(tmp_path, name, picture) - expected).max() < 1.01 / 255, name
    for name, picture in {"grey.jpg": grey, "cmyk.jpg": colour.convert("CMYK")}.items():
        read = saved(tmp_path, name, picture, quality=95)
        assert np.abs(read - expected).max() < 8 / 255, name


def test_a_picture_is_turned_upright_as_its_camera_says(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: the first row of the file is the right side of the scene
    lying = Image.fromarray(np.rot90(GREY))
    upright = saved(tmp_path, "turned.png", lying, exif=exif)
    assert upright.shape == GREY.shape
    assert np.array_equal(upright, GREY.astype(np.float32) / np.float32(255))


def test_monochrome1_comes_out_air_dark_as_in_serving(tmp_path):
    (tmp_path / "2.dcm").write_bytes(part10(image(GREY)))
    inverted = image(255 - GREY, PhotometricInterpretation="MONOCHROME1")
    (tmp_path / "1.dcm").write_bytes(part10(inverted))
    one, two = (images.read_image(tmp_path / f"{n}.dcm") for n in (1, 2))
    assert np.abs(one - two).max() < 1e-6


def test_a_broken_header_is_refused_without_quoting_it(tmp_path):
    broken = part10(image(PatientID="SECRET"))
    (tmp_path / "a.dcm").write_bytes(broken[:400])
    with pytest.raises(InvalidInstance) as refusal:
        images.read_image(tmp_path / "a.dcm")
    assert "SECRET" not in str(refusal.value)
