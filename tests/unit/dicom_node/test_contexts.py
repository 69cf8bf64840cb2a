import base64
from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate
from pydicom.uid import UID

from dicom_node.contexts import (
    COMPRESSED_TRANSFER_SYNTAXES,
    REPORT_SOP_CLASSES,
    STORAGE_SOP_CLASSES,
    UNCOMPRESSED_TRANSFER_SYNTAXES,
    decodable_transfer_syntaxes,
)
from dicom_node.pixels import to_pixels
from tests.datasets import image, pydicom_data, read_back

# The 8 x 8 ramp of tests.datasets.image, as a High-Throughput JPEG 2000 code stream (OpenJPH).
HTJ2K_RAMP = base64.b64decode(
    "/0//UQApQAAAAAAIAAAACAAAAAAAAAAAAAAACAAAAAgAAAAAAAAAAAABDwEB/1AACAACAAAACv9SAAwAAgABAAUEBEAB"
    "/1wAEyCIkJCQkJCQkJCQkJCQiIiI/2QAFwABT3BlbkpQSCBWZXIgMC4yNi4zLv+QAAoAAAAAAFkAAf+TwAAmu/UFB3QAAADA"
    "ABNAABMARv4CB3QAPvIDh3QAwAATQAATgB4eAYJ0AP7ojwDDVADAACogABVAvu/7qnCCdQD++/fvwEIB7LYA/9k="
)

RLE, DEFLATED, BIG_ENDIAN = "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2"
JPEG = "1.2.840.10008.1.2.4."


def encapsulated(code_stream, syntax, **attributes):
    ds = image(**attributes)
    ds.file_meta.TransferSyntaxUID = syntax
    ds.PixelData = encapsulate([code_stream])
    ds["PixelData"].is_undefined_length = True
    return ds


def compressed(syntax, **options):
    ds = image(np.arange(4096, dtype=np.uint16).reshape(64, 64) * 16)
    ds.compress(syntax, generate_instance_uid=False, **options)
    return ds


def big_endian():
    ds = image()
    ds.file_meta.TransferSyntaxUID = BIG_ENDIAN
    ds.PixelData = np.frombuffer(ds.PixelData, "<u2").byteswap().tobytes()
    return ds


def with_syntax(syntax):
    ds = image()
    ds.file_meta.TransferSyntaxUID = syntax
    return ds


def jpeg_baseline():
    grey = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8) * 4)
    buffer = BytesIO()
    grey.save(buffer, "JPEG", quality=100)
    return encapsulated(buffer.getvalue(), JPEG + "50", BitsAllocated=8, BitsStored=8, HighBit=7)


def jpeg_lossless(syntax):
    # Process 14 with selection value 1 is one of those that .57 allows (PS3.5 A.4.2).
    ds = dcmread(pydicom_data() / "JPGLosslessP14SV1_1s_1f_8b.dcm")
    ds.file_meta.TransferSyntaxUID = syntax
    return ds


INSTANCES = {
    "1.2.840.10008.1.2": lambda: with_syntax("1.2.840.10008.1.2"),
    "1.2.840.10008.1.2.1": image,
    DEFLATED: lambda: with_syntax(DEFLATED),
    BIG_ENDIAN: big_endian,
    RLE: lambda: compressed(RLE),
    JPEG + "50": jpeg_baseline,
    JPEG + "51": lambda: dcmread(get_testdata_file("JPGExtended.dcm", download=False)),
    JPEG + "57": lambda: jpeg_lossless(JPEG + "57"),
    JPEG + "70": lambda: jpeg_lossless(JPEG + "70"),
    JPEG + "80": lambda: compressed(JPEG + "80"),
    JPEG + "81": lambda: compressed(JPEG + "81", jls_error=2),
    JPEG + "90": lambda: compressed(JPEG + "90"),
    JPEG + "91": lambda: compressed(JPEG + "91", j2k_psnr=[80]),
    JPEG + "201": lambda: encapsulated(HTJ2K_RAMP, JPEG + "201"),
    JPEG + "202": lambda: encapsulated(HTJ2K_RAMP, JPEG + "202"),
    JPEG + "203": lambda: encapsulated(HTJ2K_RAMP, JPEG + "203"),
}
NOT_THE_RAMP = {JPEG + "51", JPEG + "57", JPEG + "70"}


@pytest.mark.parametrize("syntax", decodable_transfer_syntaxes())
def test_every_transfer_syntax_that_is_offered_is_decoded_here(syntax):
    pixels = to_pixels(read_back(INSTANCES[syntax]()))
    if syntax in NOT_THE_RAMP:
        assert pixels.std() > 0.05
    else:
        ramp = np.linspace(0, 1, pixels.size, dtype=np.float32).reshape(pixels.shape)
        np.testing.assert_allclose(pixels, ramp, atol=0.02)


def test_this_installation_decodes_every_transfer_syntax_that_is_listed():
    everything = UNCOMPRESSED_TRANSFER_SYNTAXES + COMPRESSED_TRANSFER_SYNTAXES
    assert decodable_transfer_syntaxes() == everything
    assert set(INSTANCES) == set(everything)


def test_every_uid_is_a_registered_one():
    assert all(UID(uid).name == name for uid, name in STORAGE_SOP_CLASSES.items())
    assert all(UID(uid).is_transfer_syntax for uid in decodable_transfer_syntaxes())
    assert [UID(uid).name for uid in REPORT_SOP_CLASSES] == [
        "Comprehensive 3D SR Storage",
        "Comprehensive SR Storage",
        "Enhanced SR Storage",
    ]


def test_explicit_little_endian_is_preferred():
    assert decodable_transfer_syntaxes()[0] == "1.2.840.10008.1.2.1"
