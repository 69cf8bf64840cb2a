"""Attributes and pixel data that contradict each other are refused, never guessed at."""

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate, get_frame
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

from dicom_node.contexts import COMPRESSED_TRANSFER_SYNTAXES, UNCOMPRESSED_TRANSFER_SYNTAXES
from dicom_node.decoders import stored_values
from dicom_node.errors import InstanceError, InvalidInstance
from dicom_node.pixels import needs_decoder, to_pixels
from tests.datasets import image, pydicom_data, read_back, with_bytes, with_element
from tests.unit.dicom_node.test_decoders import encapsulated
from tests.unit.dicom_node.test_pixels import lut

# Outside of pytest the product keeps pydicom's warnings quiet itself.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

ROW = np.array([[0, 50, 100]], np.uint8)
NOISE = np.random.default_rng(1).integers(0, 4096, (32, 32)).astype(np.uint16)


def compressed(syntax, pixels=NOISE, **attributes):
    ds = image(pixels)
    ds.compress(syntax, generate_instance_uid=False)
    for keyword, value in attributes.items():
        setattr(ds, keyword, value)
    return ds


def refusal(ds):
    with pytest.raises(InstanceError) as error:
        to_pixels(ds)
    return error.value.reason


@pytest.mark.parametrize(
    "syntax", [uid for uid in COMPRESSED_TRANSFER_SYNTAXES if uid != RLELossless]
)
def test_a_code_stream_that_was_cut_off_is_undecodable(syntax):
    """Most decoders would fill up what is missing."""
    ds = encapsulated(syntax)
    assert to_pixels(ds).shape == (8, 8)
    ds.PixelData = encapsulate([get_frame(ds.PixelData, 0, number_of_frames=1)[:-8]])
    assert refusal(ds) == "UNDECODABLE"


def test_what_follows_the_end_of_a_code_stream_does_no_harm():
    ds = encapsulated(JPEG2000Lossless)
    frame = get_frame(ds.PixelData, 0, number_of_frames=1)
    ds.PixelData = encapsulate([frame.rstrip(b"\0") + b"\xff\0\0"])
    assert to_pixels(ds).shape == (8, 8)


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGLSLossless])
def test_values_of_more_bits_than_are_allocated_are_undecodable(syntax):
    assert refusal(compressed(syntax, BitsAllocated=8, BitsStored=8, HighBit=7)) == "UNDECODABLE"


def test_signed_values_that_are_called_unsigned_are_undecodable():
    signed = NOISE.astype(np.int16) - 2048
    ds = compressed(JPEG2000Lossless, signed)
    assert to_pixels(ds).std() > 0
    ds.PixelRepresentation = 0
    assert refusal(ds) == "UNDECODABLE"


def test_a_code_stream_of_another_number_of_samples_is_undecodable():
    ds = compressed(JPEG2000Lossless, np.zeros((32, 32, 3), np.uint8))
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    assert refusal(ds) == "UNDECODABLE"


@pytest.mark.parametrize("value", [None, b""])
@pytest.mark.parametrize(
    "name", ["SC_rgb_rle_2frame", "emri_small_jpeg_2k_lossless", "emri_small_jpeg_ls_lossless"]
)
def test_frames_that_number_of_frames_keeps_quiet_about_are_told(name, value):
    ds = dcmread(get_testdata_file(f"{name}.dcm", download=False))
    assert int(ds.NumberOfFrames) > 1
    del ds.NumberOfFrames
    if value is not None:
        with_bytes(ds, NumberOfFrames=value)
    assert refusal(ds) == "MULTI_FRAME"


def test_a_frame_in_several_fragments_is_one_frame():
    ds = compressed(JPEG2000Lossless)
    frame = get_frame(ds.PixelData, 0, number_of_frames=1)
    ds.PixelData = encapsulate([frame], fragments_per_frame=3)
    np.testing.assert_array_equal(to_pixels(ds), to_pixels(image(NOISE)))


@pytest.mark.parametrize("frames", [b"0", b"", b"1"])
def test_no_number_of_frames_is_one_frame(frames):
    assert to_pixels(with_bytes(image(ROW), NumberOfFrames=frames)).shape == (1, 3)


def test_pixel_data_of_two_images_is_undecodable():
    assert refusal(image(ROW, PixelData=bytes(6))) == "UNDECODABLE"
    assert refusal(image(NOISE, BitsAllocated=8, BitsStored=8, HighBit=7)) == "UNDECODABLE"


@pytest.mark.parametrize("data", [b"\0\x32\x64", b"\0\x32\x64\0", b"\0\x32\x64\0\0"])
def test_a_little_padding_or_none_does_no_harm(data):
    np.testing.assert_allclose(to_pixels(image(ROW, PixelData=data)), [[0, 0.5, 1]])


@pytest.mark.parametrize("value", [None, b"", b"?x"])
def test_an_intercept_whose_slope_is_lost_is_undecodable(value):
    """It may have been negative, and the image inverted."""
    ds = image(ROW, RescaleSlope=-1, RescaleIntercept=100)
    np.testing.assert_allclose(to_pixels(ds), [[1, 0.5, 0]])
    del ds.RescaleSlope
    if value is not None:
        with_bytes(ds, RescaleSlope=value)
    assert refusal(ds) == "UNDECODABLE"


@pytest.mark.parametrize("value", [b"-1,0", b"minus one", b"-1E999", b"\\-1"])
def test_a_slope_that_cannot_be_read_is_undecodable_without_its_intercept_too(value):
    """A comma for a decimal point spoils both: it would be as if there were neither."""
    ds = with_bytes(image(ROW), RescaleSlope=value, RescaleIntercept=b"100,0")
    assert refusal(ds) == "UNDECODABLE"


@pytest.mark.parametrize(("vr", "kind"), [("FD", "<f8"), ("FL", "<f4")])
def test_a_slope_as_a_binary_number_is_undecodable(vr, kind):
    ds = image(ROW)
    for keyword, value in {"RescaleSlope": -1, "RescaleIntercept": 100}.items():
        ds = with_element(ds, keyword, vr, np.array(value, kind).tobytes())
    assert refusal(ds) == "UNDECODABLE"


@pytest.mark.parametrize("value", [b"", b"  ", b"\0\0"])
def test_a_slope_without_a_value_is_none(value):
    ds = with_bytes(image(ROW), RescaleSlope=value, RescaleIntercept=value)
    np.testing.assert_allclose(to_pixels(ds), [[0, 0.5, 1]])


@pytest.mark.parametrize("vr", ["US", "SS", "FL", "FD", "UL", "AT"])
def test_the_characters_of_a_decimal_are_not_taken_for_a_binary_number(vr):
    ds = read_back(image(ROW, WindowCenter="  50.5  ", WindowWidth="   101  "))
    for keyword in ("WindowCenter", "WindowWidth"):
        tag = ds[keyword].tag
        ds = read_back(ds)
        ds._dict[tag] = ds._dict[tag]._replace(VR=vr)
    np.testing.assert_allclose(to_pixels(ds), [[0, 0.5, 1]], atol=1e-6)


@pytest.mark.parametrize("value", [None, b""])
def test_without_a_high_bit_unused_bits_must_be_unused(value):
    shifted = image(np.array([[0, 0x7FF0, 0xFFF0]], np.uint16), BitsStored=12, HighBit=15)
    usual = image(np.array([[0, 0x7FF, 0xFFF]], np.uint16), BitsStored=12, HighBit=11)
    for ds in (shifted, usual):
        del ds.HighBit
        if value is not None:
            with_bytes(ds, HighBit=value)
    np.testing.assert_allclose(to_pixels(usual), [[0, 0.5, 1]], atol=1e-3)
    assert refusal(shifted) == "UNDECODABLE"


def test_a_large_intercept_takes_nothing_from_the_image():
    ds = image(ROW, RescaleSlope=1, RescaleIntercept="1234567890.5")
    np.testing.assert_allclose(to_pixels(ds), [[0, 0.5, 1]], atol=1e-6)


@pytest.mark.parametrize("name", ["CMYK", "YBR_PARTIAL_422", "ARGB", ""])
def test_a_photometric_interpretation_that_is_retired_or_wrong_is_told(name):
    assert refusal(image(ROW, PhotometricInterpretation=name)) == "UNSUPPORTED_PHOTOMETRIC"


@pytest.mark.parametrize("syntax", UNCOMPRESSED_TRANSFER_SYNTAXES)
def test_uncompressed_grey_needs_no_decoder(syntax):
    ds = image(ROW)
    ds.file_meta.TransferSyntaxUID = syntax
    assert not needs_decoder(ds)
    ds.PhotometricInterpretation = "PALETTE COLOR"
    assert needs_decoder(ds)


@pytest.mark.parametrize("syntax", COMPRESSED_TRANSFER_SYNTAXES)
def test_what_is_compressed_needs_a_decoder(syntax):
    assert needs_decoder(encapsulated(syntax))


def test_the_palette_of_a_big_endian_image_is_read_as_that_of_a_little_endian_one():
    little, big = (
        to_pixels(dcmread(get_testdata_file(name, download=False)))
        for name in ("OBXXXX1A.dcm", "OBXXXX1A_expb.dcm")
    )
    np.testing.assert_array_equal(big, little)


@pytest.mark.parametrize("keyword", ["VOILUTSequence", "ModalityLUTSequence"])
def test_a_lut_of_a_big_endian_image_is_read_as_that_of_a_little_endian_one(keyword):
    def with_lut(data, **attributes):
        return image(ROW[:, ::-1] // 50, **{keyword: lut(0, [0] * 3, 16, data)}, **attributes)

    entries = np.array([0, 1000, 65535], "<u2")
    little = with_lut(entries.tobytes())
    big = with_lut(entries.byteswap().tobytes())
    big.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.2"
    np.testing.assert_array_equal(to_pixels(read_back(big)), to_pixels(read_back(little)))


@pytest.mark.parametrize(("vr", "first"), [("US", 65534), ("SS", -2)])
def test_the_first_value_of_a_lut_is_understood_in_either_vr(vr, first):
    item = lut(0, [0, 51, 255])
    item[0].add_new("LUTDescriptor", vr, [3, first, 8])
    ds = image(np.array([[-2, -1, 0]], np.int16), VOILUTSequence=item)
    np.testing.assert_allclose(to_pixels(ds), [[0, 0.2, 1]], atol=1e-6)


def test_a_lut_whose_entries_have_more_bits_than_it_says_is_not_all_white():
    ds = image(ROW // 50, VOILUTSequence=lut(0, [0, 512, 1023], bits=8))
    np.testing.assert_allclose(to_pixels(ds), [[0, 512 / 1023, 1]])


def test_a_truncated_real_image_is_undecodable():
    ds = dcmread(get_testdata_file("MR_truncated.dcm", download=False))
    assert refusal(ds) == "UNDECODABLE"


def test_real_code_streams_are_complete_and_as_their_datasets_say():
    """What is refused here would be refused in a hospital."""
    for path in sorted(pydicom_data().glob("*_J2K?.dcm")):
        ds = dcmread(path)
        if ds.PhotometricInterpretation.startswith("MONOCHROME"):
            assert to_pixels(ds).std() > 0
    with pytest.raises(InvalidInstance):
        to_pixels(compressed(JPEG2000Lossless, Rows=31))
    assert stored_values(compressed(JPEG2000Lossless), JPEG2000Lossless)[0].shape == (32, 32)
