import struct
from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.encaps import encapsulate, get_frame

from dicom_node.codestream import Claim, read_claim
from dicom_node.errors import InvalidInstance
from dicom_node.pixels import to_pixels
from tests.datasets import image, pydicom_data
from tests.unit.dicom_node.test_contexts import HTJ2K_RAMP

NAMES = ["JPEG-LL", "JPGLosslessP14SV1_1s_1f_8b", "RG1_J2KR", "RG3_J2KI", "MR2_J2KR"]


def jpeg(rows, columns, **options):
    buffer = BytesIO()
    Image.fromarray(np.zeros((rows, columns), np.uint8)).save(buffer, "JPEG", **options)
    return buffer.getvalue()


@pytest.mark.parametrize("name", NAMES)
def test_real_code_streams_claim_what_their_datasets_say(name):
    ds = dcmread(pydicom_data() / f"{name}.dcm")
    claim = read_claim(get_frame(ds.PixelData, 0, number_of_frames=1))
    assert claim[:3] == (ds.Rows, ds.Columns, ds.SamplesPerPixel)
    assert ds.BitsStored <= claim.bits <= ds.BitsAllocated
    assert claim.is_complete


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"comment": b"\xff\xc0" * 9}])
def test_the_size_of_a_jpeg_is_found_behind_other_segments(options):
    assert read_claim(jpeg(30, 20, **options)) == Claim(30, 20, 1, 8, False, True)


def test_the_size_of_jpeg_ls_is_found():
    ds = image(np.arange(600, dtype=np.uint16).reshape(30, 20))
    ds.compress("1.2.840.10008.1.2.4.80", generate_instance_uid=False)
    claim = read_claim(get_frame(ds.PixelData, 0, number_of_frames=1))
    assert claim == Claim(30, 20, 1, 16, False, True)


@pytest.mark.parametrize(
    "frame", [b"", b"rubbish", b"\xff\xd8", b"\xff\xd8\xff", b"\xff\x4f\xff\x51\0"]
)
def test_what_tells_no_size_is_none(frame):
    assert read_claim(frame) is None
    assert read_claim(jpeg(3, 2)[:20]) is None


def test_the_size_inside_a_jp2_file_is_found():
    assert read_claim(b"\0\0\0\x0cjP  \r\n\x87\n" + HTJ2K_RAMP) == Claim(8, 8, 1, 16, False, True)


def test_a_jpeg_that_tells_no_size_is_not_given_to_a_decoder_that_would_never_return(monkeypatch):
    ds = image(np.zeros((30, 20), np.uint8))
    ds.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.50"
    broken = jpeg(30, 20).replace(b"\xff\xe0", b"\x4a\xe0", 1)
    ds.PixelData = encapsulate([broken])
    monkeypatch.setattr("dicom_node.pixels._decode", lambda *_: pytest.fail("decoded"))
    with pytest.raises(InvalidInstance):
        to_pixels(ds)


def test_a_code_stream_that_claims_gigapixels_is_not_decoded(monkeypatch):
    bomb = HTJ2K_RAMP[:8] + struct.pack(">2I", 60000, 60000) + HTJ2K_RAMP[16:]
    ds = image()
    ds.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.201"
    ds.PixelData = encapsulate([bomb])
    monkeypatch.setattr("dicom_node.pixels._decode", lambda *_: pytest.fail("decoded"))
    with pytest.raises(InvalidInstance) as error:
        to_pixels(ds)
    assert error.value.reason == "UNDECODABLE"
