"""Whatever one attribute is changed to: the right pixels, or a stated reason why there are none."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

from dicom_node.errors import InstanceError
from dicom_node.pixels import to_pixels
from tests.datasets import dx_image, image, part10
from tests.unit.dicom_node.test_pixels import lut

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

WINDOW = {"WindowCenter": "2048", "WindowWidth": "4096", "BitsStored": 12, "HighBit": 11}
RESCALE = {"RescaleSlope": "1", "RescaleIntercept": "0"}
Y, X = np.mgrid[:32, :40]
GREY = np.rint(2048 + 1200 * np.sin(X / 6) + 800 * np.cos(Y / 7)).astype(np.uint16)


def compressed(syntax):
    ds = image(GREY, **WINDOW, **RESCALE)
    ds.compress(syntax, generate_instance_uid=False)
    return ds


MADE = {
    "CR": lambda: image(GREY, **WINDOW),
    "CR, MONOCHROME1": lambda: image(GREY, PhotometricInterpretation="MONOCHROME1", **WINDOW),
    "DX, INVERSE": lambda: dx_image(
        GREY,
        PhotometricInterpretation="MONOCHROME1",
        PresentationLUTShape="INVERSE",
        **WINDOW,
        **RESCALE,
    ),
    "DX, IDENTITY": lambda: dx_image(GREY, PresentationLUTShape="IDENTITY", **WINDOW, **RESCALE),
    "negative slope": lambda: image(
        GREY, **WINDOW, RescaleSlope="-1", RescaleIntercept="4095", VOILUTFunction="LINEAR"
    ),
    "signed": lambda: image(GREY.astype(np.int16) - 2048, **RESCALE, PixelPaddingValue=-2048),
    "VOI LUT": lambda: image(
        GREY // 16, VOILUTSequence=lut(0, list(range(0, 1024, 4))), BitsStored=8, HighBit=7
    ),
    "RGB": lambda: image(np.stack([(GREY >> 4).astype(np.uint8)] * 3, axis=-1)),
    "RLE": lambda: compressed(RLELossless),
    "JPEG-LS": lambda: compressed(JPEGLSLossless),
    "JPEG 2000": lambda: compressed(JPEG2000Lossless),
}
REAL = ("MR_small_jp2klossless", "MR_small_bigendian", "SC_rgb_rle", "SC_ybr_full_uncompressed")
KEYWORDS = (
    "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "NumberOfFrames",
    "Rows", "Columns", "PixelAspectRatio", "BitsAllocated", "BitsStored", "HighBit",
    "PixelRepresentation", "PixelPaddingValue", "WindowCenter", "WindowWidth", "RescaleIntercept",
    "RescaleSlope", "VOILUTFunction", "PresentationLUTShape", "ModalityLUTSequence",
    "VOILUTSequence", "SOPInstanceUID",
)  # fmt: skip
VRS = ("US", "UL", "DS", "LO", "OB", "FD", "SQ", "UN", "ZZ")

# Nothing else in the instance contradicts these: a sign that is gone, or that is another number.
UNKNOWABLE = {("PixelRepresentation", b"\0\0"), ("PixelPaddingValue", b"\0\0")}


def changes(data, keyword):
    """Give VRs and values, as bytes, to change an element to; None removes it."""
    tag = Tag(keyword)
    elem = dcmread(BytesIO(data))._dict.get(tag)
    vr = dictionary_VR(tag).split(" ")[0] if elem is None else elem.VR
    value = elem.value if elem is not None and isinstance(elem.value, bytes) else b"1 "
    for other in (b"", b"  ", b"\0\0", b"?x", b"\xff\xff\xff\xff", value * 2, b"A" * 300):
        yield vr, other
    if elem is not None:
        yield None
        yield from ((other, value) for other in VRS)


def changed(data, keyword, change):
    ds = dcmread(BytesIO(data))
    tag = Tag(keyword)
    if change is None:
        del ds[tag]
    else:
        vr, value = change
        ds._dict[tag] = RawDataElement(
            tag, vr, len(value), value, 0, False, ds.original_encoding[1]
        )
    return ds


def is_inverted(pixels, reference):
    if pixels.shape != reference.shape or pixels.std() == 0:
        return False
    return np.corrcoef(pixels.ravel(), reference.ravel())[0, 1] < -0.5


@pytest.mark.parametrize("name", [*MADE, *REAL])
def test_one_changed_attribute_never_harms_and_never_inverts(name):
    path = get_testdata_file(f"{name}.dcm", download=False)
    data = Path(path).read_bytes() if name in REAL else part10(MADE[name]())
    reference = to_pixels(dcmread(BytesIO(data)))
    refused = 0
    for keyword, change in ((k, c) for k in KEYWORDS for c in changes(data, k)):
        try:
            pixels = to_pixels(changed(data, keyword, change))
        except InstanceError:
            refused += 1
            continue
        assert pixels.dtype == np.float32
        assert pixels.shape == reference.shape, (keyword, change)
        assert np.isfinite(pixels).all()
        assert 0 <= pixels.min() <= pixels.max() <= 1
        if (keyword, change and change[1]) not in UNKNOWABLE:
            assert not is_inverted(pixels, reference), (keyword, change)
    assert refused > 0
