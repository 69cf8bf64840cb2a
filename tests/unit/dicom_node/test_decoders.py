import struct
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import UID, JPEGBaseline8Bit, JPEGLSLossless

from dicom_node import decoders
from dicom_node.contexts import (
    COMPRESSED_TRANSFER_SYNTAXES,
    UNCOMPRESSED_TRANSFER_SYNTAXES,
    decodable_transfer_syntaxes,
)
from dicom_node.decoders import DecoderState, decoder_state, stored_values
from dicom_node.pixels import to_pixels
from dicom_node.samples import SAMPLES
from tests.datasets import image, read_back

RLE, J2K = "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.90"


@pytest.fixture
def asked_anew():
    """Let every decoder be tried again, before and after a test."""
    for cached in (decoder_state, decodable_transfer_syntaxes):
        cached.cache_clear()
    yield
    for cached in (decoder_state, decodable_transfer_syntaxes):
        cached.cache_clear()


def encapsulated(syntax):
    """The sample of a syntax as an instance."""
    sample = SAMPLES[syntax]
    kind = np.uint8 if sample.bits == 8 else np.uint16
    ds = image(sample.values().astype(kind), BitsStored=sample.bits, HighBit=sample.bits - 1)
    ds.file_meta.TransferSyntaxUID = UID(syntax)
    ds.PixelData = encapsulate([sample.code_stream])
    ds["PixelData"].is_undefined_length = True
    return ds


def test_there_is_a_sample_of_every_compressed_syntax():
    assert set(SAMPLES) == set(COMPRESSED_TRANSFER_SYNTAXES)


@pytest.mark.parametrize("syntax", COMPRESSED_TRANSFER_SYNTAXES)
def test_each_sample_is_decoded_to_its_ramp(syntax):
    assert decoder_state(syntax) is DecoderState.WORKS
    sample = SAMPLES[syntax]
    expected = sample.values() / sample.values().max()
    tolerance = 2 * sample.tolerance / sample.values().max() + 1e-6
    np.testing.assert_allclose(to_pixels(read_back(encapsulated(syntax))), expected, atol=tolerance)


class Panic(BaseException):
    """What a decoder in Rust raises."""


def panics():
    raise Panic


@pytest.mark.parametrize(
    "broken",
    [
        lambda ds, syntax: panics(),
        lambda ds, syntax: (np.zeros((8, 8), np.uint16), "MONOCHROME2"),
        lambda ds, syntax: (np.full((1, 1), 7, np.uint16), "MONOCHROME2"),
    ],
)
def test_a_decoder_that_is_installed_but_broken_is_not_offered(monkeypatch, asked_anew, broken):
    healthy = stored_values
    monkeypatch.setattr(
        decoders, "stored_values", lambda ds, s: (broken if s == RLE else healthy)(ds, s)
    )
    assert decoder_state(RLE) is DecoderState.BROKEN
    everything = UNCOMPRESSED_TRANSFER_SYNTAXES + COMPRESSED_TRANSFER_SYNTAXES
    assert decodable_transfer_syntaxes() == tuple(uid for uid in everything if uid != RLE)


def test_a_wrong_pixel_of_a_lossless_sample_is_a_broken_decoder(monkeypatch, asked_anew):
    sample = SAMPLES[J2K]
    monkeypatch.setattr(
        decoders, "SAMPLES", {**SAMPLES, J2K: replace(SAMPLES[RLE], bits=sample.bits)}
    )
    assert decoder_state(J2K) is DecoderState.BROKEN


def test_a_decoder_that_is_not_installed_is_missing(monkeypatch, asked_anew):
    class NoDecoder:
        is_available = False

    monkeypatch.setattr(decoders, "get_decoder", lambda _: NoDecoder)
    assert decoder_state(RLE) is DecoderState.MISSING
    assert decodable_transfer_syntaxes() == UNCOMPRESSED_TRANSFER_SYNTAXES


def test_a_syntax_that_nobody_knows_is_missing(asked_anew):
    assert decoder_state("1.2.3") is DecoderState.MISSING


def test_a_table_of_offsets_that_lies_is_not_believed():
    ds = encapsulated(J2K)
    ds.ExtendedOffsetTable = struct.pack("<Q", 1 << 40)
    ds.ExtendedOffsetTableLengths = struct.pack("<Q", 1 << 40)
    assert to_pixels(read_back(ds)).shape == (8, 8)


def test_a_damaged_jpeg_ls_is_refused_and_not_made_an_image_of(monkeypatch):
    """Of the two decoders that are here, libjpeg would make one."""
    ds = image(np.random.default_rng(1).integers(0, 4096, (32, 32)).astype(np.uint16))
    ds.compress(JPEGLSLossless, generate_instance_uid=False)
    data = bytearray(ds.PixelData)
    data[len(data) // 2] ^= 0x55
    ds.PixelData = bytes(data)
    with pytest.raises(RuntimeError, match="pyjpegls"):
        stored_values(ds, str(JPEGLSLossless))
    monkeypatch.setattr(decoders, "_PLUGINS", {})
    stored_values(ds, str(JPEGLSLossless))


def radiograph(**options):
    """An 8-bit image, and its JPEG file."""
    ramp = np.linspace(0, 255, 64 * 64).reshape(64, 64)
    grey = (ramp + np.random.default_rng(1).normal(0, 9, ramp.shape)).clip(0, 255).astype(np.uint8)
    buffer = BytesIO()
    Image.fromarray(grey).save(buffer, "JPEG", **options)
    return grey, buffer.getvalue()


def baseline(grey, frame, **attributes):
    ds = image(grey, **attributes)
    ds.file_meta.TransferSyntaxUID = UID(JPEGBaseline8Bit)
    ds.PixelData = encapsulate([frame])
    ds["PixelData"].is_undefined_length = True
    return ds


def test_a_grey_jpeg_is_decoded_as_training_reads_the_file():
    grey, frame = radiograph(quality=90)
    decoded, photometric = stored_values(baseline(grey, frame), str(JPEGBaseline8Bit))
    np.testing.assert_array_equal(decoded, np.asarray(Image.open(BytesIO(frame))))
    assert photometric == "MONOCHROME2"


def test_what_the_fast_decoder_of_jpeg_refuses_is_tried_by_the_other(monkeypatch):
    grey, frame = radiograph(quality=100)
    monkeypatch.setattr(decoders, "_PILLOW", "no such decoder")
    decoded, _ = stored_values(baseline(grey, frame), str(JPEGBaseline8Bit))
    assert np.abs(decoded.astype(int) - grey).max() <= 2


def test_a_jpeg_that_neither_decoder_reads_is_refused():
    grey, frame = radiograph(quality=90)
    tables = frame.index(b"\xff\xc4") + 4
    with pytest.raises(RuntimeError, match="pylibjpeg"):
        stored_values(
            baseline(grey, frame[:tables] + b"\xff" * 40 + frame[tables + 40 :]),
            str(JPEGBaseline8Bit),
        )
