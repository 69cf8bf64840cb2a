"""What is deflated is read as far as it is needed, and not kept in memory."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import DeflatedExplicitVRLittleEndian

from dicom_node import inflating
from dicom_node.header import read_header, transfer_syntax_of
from dicom_node.inflating import Inflating, read_before_pixels
from tests.datasets import image, part10

LARGE = 64 << 20


def deflated(pixels: np.ndarray | None = None) -> Dataset:
    ds = image(pixels)
    ds.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    return ds


def large() -> bytes:
    return part10(deflated(np.zeros((LARGE >> 13, 1 << 12), np.uint16)))


@contextmanager
def little_memory() -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < LARGE / 8
    finally:
        tracemalloc.stop()


def test_the_rest_of_a_bomb_is_not_kept() -> None:
    data = large()
    with little_memory():
        assert read_header(data)["PatientID"] == "PID1"
        assert read_before_pixels(BytesIO(data))[0].PatientID == "PID1"
        assert transfer_syntax_of(BytesIO(data)) == DeflatedExplicitVRLittleEndian


def test_it_says_what_the_whole_says_and_stands_at_the_pixels() -> None:
    ds = deflated()
    data = part10(ds)
    read, file = read_before_pixels(BytesIO(data))
    expected = dcmread(BytesIO(data), stop_before_pixels=True)
    assert (read, read.file_meta) == (expected, expected.file_meta)
    assert read.original_encoding == expected.original_encoding
    assert file.read(8) == b"\xe0\x7f\x10\x00OW\0\0"
    assert file.read()[4:] == ds.PixelData


def test_what_is_before_the_pixels_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    ds = deflated()
    ds.add_new(0x00091001, "OB", bytes(1 << 20))
    monkeypatch.setattr(inflating, "_MOST_BEFORE", 1 << 20)
    data = part10(ds)
    with pytest.raises(ValueError, match="before the pixels"):
        read_before_pixels(BytesIO(data))
    assert read_before_pixels(BytesIO(data), ["PatientID"])[0].PatientID == "PID1"


def test_one_that_is_cut_off_is_refused() -> None:
    with pytest.raises(ValueError, match="cut off"):
        read_header(part10(deflated())[:-4])


def test_one_can_go_on_and_back_a_little() -> None:
    import zlib

    data = bytes(range(256)) * 8192
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    file = Inflating(b"start", BytesIO(deflater.compress(data) + deflater.flush()))
    assert file.read(7) == b"start\x00\x01"
    file.seek(5)
    assert file.read(1_000_000) == data[:1_000_000]
    file.seek(-60_000, 1)
    assert file.read(4) == data[940_000:940_004]
    file.seek(900_000, 1)
    assert (file.tell(), file.read()) == (1_840_009, data[1_840_004:])
    assert file.read(1) == b""
    with pytest.raises(ValueError, match="not kept"):
        file.seek(0)
