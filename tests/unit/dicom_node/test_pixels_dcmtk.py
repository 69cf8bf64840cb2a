"""Another reader, DCMTK's dcmj2pnm, shows the same."""

import os
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread

from dicom_node.pixels import to_pixels
from tests.datasets import dx_image, part10, pydicom_data, read_back
from tests.unit.model import encodings

pytestmark = pytest.mark.skipif(
    shutil.which("dcmj2pnm") is None and not os.environ.get("CXR_REQUIRE_PEERS"),
    reason="dcmj2pnm of DCMTK is not installed",
)

Y, X = np.mgrid[:60, :54]
GREY = np.rint(128 + 60 * np.sin(X / 5) + 60 * np.cos(Y / 7)).astype(np.uint8)
# Both round to a step of an 8-bit image.
STEP = 1 / 255

WAYS = (
    "10 of 16 bits, signed, MONOCHROME1",
    "16 of 16 bits, unsigned, MONOCHROME2",
)
SCALES = (
    "bits at the top", "overlay above the bits", "window, MONOCHROME1", "window, signed",
    "window round a part of the range", "LINEAR_EXACT", "SIGMOID", "SIGMOID, MONOCHROME1",
    "first of two windows", "VOI LUT", "VOI LUT, MONOCHROME1", "modality LUT and window",
    "rescale and window", "negative slope", "PresentationLUTShape INVERSE", "RGB",
)  # fmt: skip
MADE = {
    **{way: encodings.BITS[way] for way in WAYS},
    **{scale: encodings.GREY_SCALES[scale] for scale in SCALES},
    "MONOCHROME2 and INVERSE": lambda g: dx_image(g, PresentationLUTShape="INVERSE"),
    "JPEG baseline": lambda g: encodings.baseline(g, 90),
    "JPEG lossless": lambda g: encodings.by_dcmtk(encodings.stored(g, 12), "+e1"),
    "big endian": lambda g: encodings.in_syntax(encodings.stored(g), encodings.BIG_ENDIAN),
    "RLE": lambda g: encodings.compressed(encodings.stored(g), encodings.RLE),
}
REAL = ("RG1_UNCR", "RG3_UNCR", "JPEG-LL", "693_UNCR")


def shown_by_dcmtk(ds, folder):
    option = []
    if ds.SamplesPerPixel == 1:
        option = ["+Wm"]
        if "VOILUTSequence" in ds:
            option = ["+Wl", "1"]
        elif ds.get("WindowWidth"):
            option = ["+Wi", "1"]
    (folder / "a.dcm").write_bytes(part10(ds))
    command = ["dcmj2pnm", *option, folder / "a.dcm", folder / "a.pnm"]
    subprocess.run(command, check=True, capture_output=True)
    return np.asarray(Image.open(folder / "a.pnm").convert("L")) / np.float32(255)


def agree(ds, folder):
    difference = np.abs(to_pixels(ds) - shown_by_dcmtk(ds, folder))
    assert difference.mean() < STEP
    assert difference.max() < 2 * STEP


@pytest.mark.parametrize("way", MADE)
def test_a_made_image_is_shown_alike(way, tmp_path):
    agree(read_back(MADE[way](GREY)), tmp_path)


@pytest.mark.parametrize("name", REAL)
def test_a_real_image_is_shown_alike(name, tmp_path):
    agree(dcmread(pydicom_data() / f"{name}.dcm"), tmp_path)
