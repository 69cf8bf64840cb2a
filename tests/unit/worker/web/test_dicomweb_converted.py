"""What is converted is the same as if it were written anew as a whole, and is not kept."""

from __future__ import annotations

import struct
import tracemalloc
from collections.abc import Callable
from io import BytesIO

import numpy as np
import pytest
from fastapi import HTTPException
from pydicom import Dataset, dcmread
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from tests.datasets import image, part10
from worker.web.dicomweb import converted as module
from worker.web.dicomweb.converted import converted
from worker.web.dicomweb.pixel_data import pixel_data_of

SYNTAXES = [ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian]


def as_a_whole(data: bytes) -> bytes:
    ds = dcmread(BytesIO(data))
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    buffer = BytesIO()
    ds.save_as(buffer, implicit_vr=False, little_endian=True, enforce_file_format=True)
    return buffer.getvalue()


def bytes_of_eight_bits() -> Dataset:
    ds = image()
    ds.BitsAllocated = ds.BitsStored = 8
    ds.HighBit = 7
    ds["PixelData"].VR = "OB"
    return ds


def ambiguous() -> Dataset:
    ds = image(SmallestImagePixelValue=0, PixelRepresentation=1)
    ds.add_new(0x00283010, "SQ", [Dataset()])
    ds.VOILUTSequence[0].add_new(0x00283002, "SS", [4, -2, 16])
    ds.VOILUTSequence[0].add_new(0x00283006, "OW", struct.pack("<4H", 1, 2, 3, 4))
    ds.add_new(0x00090010, "LO", "SOMEBODY")
    ds.add_new(0x00091001, "LO", "private")
    return ds


def with_odd_pixels() -> Dataset:
    ds = bytes_of_eight_bits()
    ds.PixelData = b"odd"
    return ds


def with_padding_behind() -> Dataset:
    ds = image()
    ds.add_new(0xFFFCFFFC, "OB", bytes(10))
    return ds


def without_pixels() -> Dataset:
    ds = image()
    del ds.PixelData
    return ds


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize(
    "make",
    [
        image, bytes_of_eight_bits, ambiguous, with_odd_pixels, with_padding_behind,
        without_pixels,
    ],
)  # fmt: skip
def test_file_is_as_if_written_anew(syntax: str, make: Callable[[], Dataset]) -> None:
    ds = make()
    ds.file_meta.TransferSyntaxUID = syntax
    data = part10(ds)
    assert b"".join(converted(BytesIO(data))) == as_a_whole(data)


def test_file_that_is_cut_off_is_as_if_written_anew() -> None:
    ds = image()
    ds.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    data = part10(ds)[:-10]
    assert b"".join(converted(BytesIO(data))) == as_a_whole(data)


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_pixels_are_not_in_memory_while_they_are_read(syntax: str) -> None:
    ds = image(np.zeros((4096, 4096), np.uint16))
    ds.file_meta.TransferSyntaxUID = syntax
    data = part10(ds)
    tracemalloc.start()
    try:
        size = sum(map(len, converted(BytesIO(data))))
        framed = sum(map(len, pixel_data_of(BytesIO(data), ds.SOPInstanceUID).frame(1)))
        assert tracemalloc.get_traced_memory()[1] < framed / 8
    finally:
        tracemalloc.stop()
    assert size > framed == 2 * 4096 * 4096


def test_few_are_written_as_a_whole_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PATIENCE_S", 0.01)
    ds = with_padding_behind()
    ds.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    data = part10(ds)
    slow = [converted(BytesIO(data)) for _ in range(2)]
    for each in slow:
        next(each)
    with pytest.raises(HTTPException) as caught:
        next(converted(BytesIO(data)))
    assert caught.value.status_code == 503
    slow[0].close()
    assert next(converted(BytesIO(data)))
    slow[1].close()
