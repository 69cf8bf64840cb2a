import logging
import warnings

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, get_frame

from dicom_node import pixels as module
from dicom_node.errors import InstanceError, InvalidInstance, UnsupportedInstance
from dicom_node.pixels import to_pixels
from tests.datasets import dx_image, image, pydicom_data, read_back

ROW = [[0, 50, 100]]


def u8(values):
    return np.array(values, np.uint8)


def u16(values):
    return np.array(values, np.uint16)


def shown(ds):
    """The pixels of a dataset as it comes from the network."""
    result = to_pixels(read_back(ds))
    assert result.dtype == np.float32
    assert result.min() >= 0
    assert result.max() <= 1
    return result


def lut(first, entries, bits=8, data=None):
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [len(entries), first, bits])
    if data is None:
        item.add_new("LUTData", "US", entries)
    else:
        item.add_new("LUTData", "OW", data)
    item.ModalityLUTType = "US"
    return [item]


def test_stored_values_are_stretched_from_darkest_to_brightest():
    np.testing.assert_allclose(shown(image(u8([[10, 60, 110]]))), [[0, 0.5, 1]])


def test_an_image_of_one_value_is_black():
    np.testing.assert_array_equal(shown(image(u8([[7, 7]]))), [[0, 0]])


@pytest.mark.parametrize(
    "attributes",
    [
        {"PhotometricInterpretation": "MONOCHROME1"},
        {"PresentationLUTShape": "INVERSE"},
        {"PhotometricInterpretation": "MONOCHROME1", "PresentationLUTShape": "INVERSE"},
        {"PhotometricInterpretation": "MONOCHROME1", "PresentationLUTShape": "IDENTITY"},
    ],
)
def test_what_is_inverse_is_inverted_once(attributes):
    np.testing.assert_allclose(shown(image(u8(ROW), **attributes)), [[1, 0.5, 0]])


def test_presentation_lut_shape_identity_changes_nothing():
    ds = dx_image(u8(ROW), PresentationLUTShape="IDENTITY")
    np.testing.assert_allclose(shown(ds), [[0, 0.5, 1]])


def test_signed_values_keep_their_order():
    ds = image(np.array([[-100, 0, 100]], np.int16))
    np.testing.assert_allclose(shown(ds), [[0, 0.5, 1]])


@pytest.mark.parametrize("bits", [8, 10, 12, 15, 16])
def test_rubbish_above_the_stored_bits_is_dropped(bits):
    white = (1 << bits) - 1
    rubbish = 0xFFFF & ~white
    stored = u16([[0 | rubbish, (white + 1) // 2, white | rubbish]])
    ds = image(stored, BitsStored=bits, HighBit=bits - 1)
    np.testing.assert_allclose(shown(ds), [[0, 0.5, 1]], atol=0.01)


def test_rubbish_above_a_signed_value_is_dropped_and_the_sign_is_kept():
    # 12 bits: -2048, 0, 2047, with the upper four bits the wrong way round.
    stored = u16([[0x0800, 0xF000, 0xF7FF]]).view(np.int16)
    ds = image(stored, BitsStored=12, HighBit=11)
    np.testing.assert_allclose(shown(ds), [[0, 0.5, 1]], atol=0.001)


def test_stored_bits_that_end_at_a_higher_bit_are_shifted_down():
    ds = image(
        u16([[0x000F, 0x7FF0, 0xFFF3]]),
        BitsStored=12,
        HighBit=15,
        WindowCenter=2048,
        WindowWidth=4096,
    )
    np.testing.assert_allclose(shown(ds), [[0, 0.5, 1]], atol=0.001)


def test_bits_that_contradict_each_other_are_refused():
    with pytest.raises(InvalidInstance):
        to_pixels(image(u16(ROW), BitsStored=12, HighBit=3))


def test_rescale_comes_before_the_window():
    ds = image(u8(ROW), RescaleSlope=2, RescaleIntercept=-100, WindowCenter=0.5, WindowWidth=201)
    np.testing.assert_allclose(shown(ds), [[0, 0.5, 1]])


def test_a_negative_slope_turns_the_grey_scale():
    ds = image(u8(ROW), RescaleSlope=-1, RescaleIntercept=0)
    np.testing.assert_allclose(shown(ds), [[1, 0.5, 0]])


def test_a_modality_lut_comes_before_the_window():
    ds = image(
        u8([[0, 1, 2]]),
        ModalityLUTSequence=lut(0, [100, 150, 200]),
        WindowCenter=150,
        WindowWidth=100,
        VOILUTFunction="LINEAR_EXACT",
    )
    np.testing.assert_allclose(shown(ds), [[0, 0.5, 1]])


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        # PS3.3 C.11.2.1.2.1: below c - 0.5 - (w - 1)/2 black, from c - 0.5 + (w - 1)/2 white
        ("LINEAR", [0, 0, (50 - 49.5) / 40 + 0.5, 1, 1]),
        (None, [0, 0, (50 - 49.5) / 40 + 0.5, 1, 1]),
        ("LINEAR_EXACT", [0, 0, 0.5, 1, 1]),
        ("SIGMOID", [1 / (1 + np.exp(-4 * (v - 50) / 41)) for v in (0, 29, 50, 71, 100)]),
    ],
)
def test_each_window_function_is_the_standards(function, expected):
    ds = image(u8([[0, 29, 50, 71, 100]]), WindowCenter=50, WindowWidth=41, VOILUTFunction=function)
    np.testing.assert_allclose(shown(ds)[0], expected, atol=1e-6)


def test_the_first_of_several_windows_counts():
    ds = image(u8(ROW), WindowCenter=[50, 10], WindowWidth=[101, 20])
    np.testing.assert_allclose(shown(ds), [[0.005, 0.505, 1]], atol=1e-6)


def test_a_window_one_wide_is_a_threshold():
    ds = image(u8(ROW), WindowCenter=50, WindowWidth=1)
    np.testing.assert_array_equal(shown(ds), [[0, 1, 1]])


@pytest.mark.parametrize(
    "attributes",
    [
        {"WindowCenter": 50},
        {"WindowWidth": 50},
        {"WindowCenter": 50, "WindowWidth": 0},
        {"WindowCenter": 50, "WindowWidth": -10},
        {"WindowCenter": 5000, "WindowWidth": 10},
        {"WindowCenter": "", "WindowWidth": ""},
        {"RescaleSlope": 0, "RescaleIntercept": 0},
    ],
)
def test_a_window_or_slope_that_shows_nothing_is_ignored(attributes):
    np.testing.assert_allclose(shown(image(u8(ROW), **attributes)), [[0, 0.5, 1]])


def test_a_voi_lut_wins_over_the_window_and_repeats_its_ends():
    ds = image(
        u8([[0, 10, 11, 12, 200]]),
        VOILUTSequence=lut(10, [0, 51, 255]),
        WindowCenter=100,
        WindowWidth=10,
    )
    np.testing.assert_allclose(shown(ds), [[0, 0, 0.2, 1, 1]], atol=1e-6)


def test_the_entries_of_a_voi_lut_may_come_as_bytes():
    words = np.array([0, 512, 1023], "<u2").tobytes()
    ds = image(u8([[0, 1, 2]]), VOILUTSequence=lut(0, [0] * 3, bits=10, data=words))
    np.testing.assert_allclose(shown(ds), [[0, 512 / 1023, 1]])


def test_the_entries_of_a_voi_lut_may_be_packed_eight_bits_each():
    ds = image(u8([[0, 1, 2, 3]]), VOILUTSequence=lut(0, [0] * 4, data=bytes([0, 51, 102, 255])))
    np.testing.assert_allclose(shown(ds), [[0, 0.2, 0.4, 1]])


def test_a_voi_lut_may_begin_below_zero():
    ds = image(np.array([[-2, -1, 0]], np.int16), VOILUTSequence=lut(65534, [0, 51, 255]))
    np.testing.assert_allclose(shown(ds), [[0, 0.2, 1]], atol=1e-6)


def test_an_empty_voi_lut_is_undecodable():
    ds = image(u8(ROW), VOILUTSequence=lut(0, [], data=b""))
    with pytest.raises(InvalidInstance):
        to_pixels(ds)


def test_padding_is_black_and_does_not_count_for_the_brightest():
    ds = image(u16([[10, 60, 110, 65535]]), PixelPaddingValue=65535)
    np.testing.assert_allclose(shown(ds), [[0, 0.5, 1, 0]])


def test_padding_of_an_inverse_image_is_black_too():
    ds = image(
        u16([[10, 60, 110, 0]]), PixelPaddingValue=0, PhotometricInterpretation="MONOCHROME1"
    )
    np.testing.assert_allclose(shown(ds), [[1, 0.5, 0, 0]])


def test_a_range_of_values_may_be_padding():
    ds = image(u16([[10, 60, 110, 200, 250]]), PixelPaddingValue=200, PixelPaddingRangeLimit=255)
    np.testing.assert_allclose(shown(ds), [[0, 0.5, 1, 0, 0]])


def test_padding_of_signed_values_may_be_written_as_unsigned():
    ds = image(np.array([[-1000, 0, 50, 100]], np.int16))
    ds.add_new("PixelPaddingValue", "US", 65536 - 1000)
    np.testing.assert_allclose(to_pixels(ds), [[0, 0, 0.5, 1]])


def test_an_image_of_padding_only_is_black():
    np.testing.assert_array_equal(shown(image(u8([[5, 5]]), PixelPaddingValue=5)), [[0, 0]])


def test_values_beyond_sixteen_bits_are_stretched_too():
    ds = image(np.array([[0, 1 << 30, 1 << 31]], np.uint32))
    np.testing.assert_allclose(shown(ds), [[0, 0.5, 1]])


@pytest.mark.parametrize(
    "stored",
    [
        np.array([[3_000_000_000, 3_000_000_050, 3_000_000_100]], np.uint32),
        np.array([[-(1 << 31), -(1 << 31) + 50, -(1 << 31) + 100]], np.int32),
        np.array([[1 << 40, (1 << 40) + 50, (1 << 40) + 100]], np.uint64),
        np.array([[-32768, -1, 32767]], np.int16),
    ],
)
def test_values_far_from_zero_are_stretched_too(stored):
    np.testing.assert_allclose(shown(image(stored)), [[0, 0.5, 1]], atol=1e-4)


def test_colour_becomes_its_luminance():
    colours = u8([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]]])
    np.testing.assert_allclose(shown(image(colours)), [[0.299, 0.587, 0.114, 1]], atol=1e-5)


def test_colour_by_plane_becomes_its_luminance():
    ds = image(u8([[[255, 0, 0], [0, 255, 0]]]), PlanarConfiguration=1)
    ds.PixelData = bytes([255, 0, 0, 255, 0, 0])
    np.testing.assert_allclose(shown(ds), [[0.299, 0.587]], atol=1e-5)


def test_the_luminance_of_ybr_is_its_first_sample():
    ds = image(u8([[[51, 128, 128], [255, 7, 9]]]), PhotometricInterpretation="YBR_FULL")
    np.testing.assert_allclose(shown(ds), [[0.2, 1]], atol=1e-6)


def test_a_palette_is_looked_up():
    ds = image(u8([[0, 1]]), PhotometricInterpretation="PALETTE COLOR")
    for colour in ("Red", "Green", "Blue"):
        ds.add_new(f"{colour}PaletteColorLookupTableDescriptor", "US", [2, 0, 16])
        ds.add_new(
            f"{colour}PaletteColorLookupTableData", "OW", np.array([0, 65535], "<u2").tobytes()
        )
    np.testing.assert_allclose(shown(ds), [[0, 1]], atol=1e-5)


@pytest.mark.parametrize(
    ("attributes", "kind", "reason"),
    [
        ({"NumberOfFrames": 2}, UnsupportedInstance, "MULTI_FRAME"),
        ({"Rows": 30000, "Columns": 30000}, UnsupportedInstance, "TOO_LARGE"),
        ({"PhotometricInterpretation": "HSV"}, UnsupportedInstance, "UNSUPPORTED_PHOTOMETRIC"),
        ({"PhotometricInterpretation": None}, UnsupportedInstance, "UNSUPPORTED_PHOTOMETRIC"),
        ({"PixelData": None}, InvalidInstance, "NO_PIXELS"),
        ({"PixelData": b""}, InvalidInstance, "NO_PIXELS"),
        ({"PixelData": b"\0"}, InvalidInstance, "UNDECODABLE"),
        ({"Rows": 0}, InvalidInstance, "UNDECODABLE"),
        ({"Rows": None}, InvalidInstance, "UNDECODABLE"),
        ({"BitsAllocated": None}, InvalidInstance, "UNDECODABLE"),
        ({"BitsStored": None}, InvalidInstance, "UNDECODABLE"),
        ({"BitsAllocated": 7}, InvalidInstance, "UNDECODABLE"),
        ({"SamplesPerPixel": 3}, InvalidInstance, "UNDECODABLE"),
        ({"PhotometricInterpretation": "RGB"}, InvalidInstance, "UNDECODABLE"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, InvalidInstance, "UNDECODABLE"),
    ],
)
def test_what_cannot_be_converted_is_refused_with_its_reason(attributes, kind, reason):
    ds = image(u8(ROW * 2), **attributes)
    with pytest.raises(kind) as error:
        to_pixels(ds)
    assert (error.value.reason, error.value.sop_instance_uid) == (reason, ds.SOPInstanceUID)


def test_one_frame_is_no_multi_frame():
    assert shown(image(u8(ROW), NumberOfFrames=1)).shape == (1, 3)


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.4.100", "1.2.3", None])
def test_a_transfer_syntax_that_no_decoder_reads_is_unsupported(syntax):
    ds = image()
    if syntax is None:
        del ds.file_meta.TransferSyntaxUID
    else:
        ds.file_meta.TransferSyntaxUID = syntax
    with pytest.raises(UnsupportedInstance) as error:
        to_pixels(ds)
    assert error.value.reason == "UNSUPPORTED_TRANSFER_SYNTAX"


def test_the_size_is_checked_before_anything_is_decoded(monkeypatch):
    monkeypatch.setattr(module, "_decode", lambda *_: pytest.fail("decoded"))
    with pytest.raises(UnsupportedInstance):
        to_pixels(image(Rows=65535, Columns=65535))


def test_running_out_of_memory_is_not_the_instances_fault(monkeypatch):
    def no_memory(*_):
        raise MemoryError

    monkeypatch.setattr(module, "_decode", no_memory)
    with pytest.raises(MemoryError):
        to_pixels(image())


def test_a_decoder_that_panics_is_an_undecodable_instance(capfd):
    ds = image(np.arange(4096, dtype=np.uint16).reshape(64, 64))
    ds.compress("1.2.840.10008.1.2.5", generate_instance_uid=False)
    frame = bytearray(get_frame(ds.PixelData, 0, number_of_frames=1))
    frame[68] = 127  # a literal run that is longer than the segment
    ds.PixelData = encapsulate([bytes(frame)])
    with pytest.raises(InvalidInstance) as error:
        to_pixels(ds)
    assert error.value.reason == "UNDECODABLE"


def test_a_jpeg_of_no_rows_is_not_given_to_a_decoder_that_would_never_return():
    ds = dcmread(get_testdata_file("JPGExtended.dcm", download=False))
    frame = bytearray(get_frame(ds.PixelData, 0, number_of_frames=1))
    assert frame[2:4] == b"\xff\xc1"
    frame[7:9] = b"\0\0"
    ds.PixelData = encapsulate([bytes(frame)])
    with pytest.raises(InvalidInstance):
        to_pixels(ds)


def test_the_dataset_is_not_changed():
    ds = image(u8(ROW), PhotometricInterpretation="MONOCHROME1", PixelPaddingValue=0)
    before = ds.to_json()
    to_pixels(ds)
    assert ds.to_json() == before


REAL = sorted(
    path
    for pattern in ("RG1_*.dcm", "RG3_*.dcm", "SC_*.dcm")
    for path in pydicom_data().glob(pattern)
)


@pytest.mark.parametrize("path", REAL, ids=lambda path: path.stem)
def test_every_real_radiograph_and_capture_converts_or_is_refused(path, caplog):
    ds = dcmread(path)
    with warnings.catch_warnings(), caplog.at_level(logging.WARNING):
        warnings.simplefilter("ignore")
        if int(ds.get("NumberOfFrames", 1)) > 1:
            with pytest.raises(InstanceError):
                to_pixels(ds)
            return
        result = to_pixels(ds)
    assert result.shape == (ds.Rows, ds.Columns)
    assert result.std() > 0.05


def test_real_radiographs_are_the_same_however_they_are_encoded():
    for name in ("RG1", "RG3"):
        plain, lossless = (
            to_pixels(dcmread(pydicom_data() / f"{name}_{kind}.dcm")) for kind in ("UNCR", "J2KR")
        )
        np.testing.assert_array_equal(plain, lossless)


def test_bones_are_white_on_a_real_inverse_radiograph():
    leg = to_pixels(dcmread(pydicom_data() / "RG3_UNCR.dcm"))
    assert leg[700, 950] > 0.5 > leg[700, 520]


def test_no_value_is_warned_about(recwarn):
    ds = read_back(image(u8(ROW)))
    ds.add_new("WindowCenter", "DS", "50")
    to_pixels(ds)
    assert not [w for w in recwarn if "pydicom" in str(w.filename)]
