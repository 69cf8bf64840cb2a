"""Radiographs to measure with: one real chest as DX objects, as many as are wanted, of any size.

It is the RG1 of the package pydicom-data, with the noise that resampling took from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    JPEGBaseline8Bit,
)

from dicom_node.errors import ConfigurationError
from dicom_node.pixels import to_pixels

# Sides of a square image, in pixels: 16 bits allocated are 10 MB; two megapixels; 76 kB.
TEN_MEGABYTES, TWO_MEGAPIXELS, SMALL = 2236, 1414, 194
_ROOT = "2.25."
_DIGITS = 12


@dataclass(frozen=True, slots=True)
class Radiograph:
    """One instance as bytes of a Part 10 file, in a study of its own."""

    study_instance_uid: str
    sop_instance_uid: str
    data: bytes

    @property
    def data_set(self) -> bytes:
        """The data set alone, as it goes over the network (PS3.7 9.3.1)."""
        # PS3.10 7.1: 128 bytes, the prefix, and (0002,0000), which says how long the rest is.
        return self.data[144 + int.from_bytes(self.data[140:144], "little") :]


@cache
def _chest(side: int, bits: int) -> NDArray[np.uint16]:
    path = get_testdata_file("RG1_UNCR.dcm", download=False)
    if path is None:
        raise ConfigurationError("pydicom-data", "is not installed; `make bench` installs it")
    pixels = to_pixels(dcmread(str(path)))
    resized = np.asarray(Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC))
    noise = np.random.default_rng(side).normal(0, 0.003, resized.shape)
    return (np.clip(resized + noise, 0, 1) * ((1 << bits) - 1)).astype(np.uint16)


@cache
def _template(side: int, syntax: str) -> bytes:
    """Give the file of the radiograph with number 0."""
    compressed = syntax == JPEGBaseline8Bit
    bits = 8 if compressed else 12
    pixels = _chest(side, bits)
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = DigitalXRayImageStorageForPresentation
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = UID(_uid(1, 0))
    ds.file_meta.TransferSyntaxUID = UID(syntax)
    ds.StudyInstanceUID, ds.SeriesInstanceUID = UID(_uid(2, 0)), UID(_uid(3, 0))
    ds.PatientName, ds.PatientID, ds.AccessionNumber = "Bench^Mark", "BENCH", ""
    ds.PatientBirthDate, ds.PatientSex, ds.PatientAge = "", "O", "003Y"
    ds.StudyDate, ds.StudyTime, ds.StudyID, ds.ReferringPhysicianName = "20260101", "120000", "", ""
    ds.Modality, ds.PresentationIntentType = "DX", "FOR PRESENTATION"
    ds.BodyPartExamined, ds.ViewPosition, ds.ImageLaterality = "CHEST", "AP", "U"
    ds.SeriesNumber, ds.InstanceNumber = 1, 1
    ds.ImageType = ["ORIGINAL", "PRIMARY"]
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows, ds.Columns = pixels.shape
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 8 if compressed else 16, bits, bits - 1
    ds.PixelRepresentation = 0
    ds.WindowCenter, ds.WindowWidth = 1 << (bits - 1), 1 << bits
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = 0, 1, "US"
    if compressed:
        buffer = BytesIO()
        Image.fromarray(pixels.astype(np.uint8)).save(buffer, "JPEG", quality=90)
        ds.PixelData = encapsulate([buffer.getvalue()])
        ds["PixelData"].is_undefined_length = True
    else:
        ds.PixelData = pixels.tobytes()
    file = BytesIO()
    ds.save_as(file, enforce_file_format=True)
    return file.getvalue()


def _uid(kind: int, number: int) -> str:
    return f"{_ROOT}{kind}{number:0{_DIGITS}d}"


def radiographs(
    count: int, side: int, syntax: str = str(ExplicitVRLittleEndian), first: int = 1
) -> list[Radiograph]:
    """Make radiographs with numbers from `first` on, each in a study of its own."""
    return [radiograph(number, side, syntax) for number in range(first, first + count)]


def radiograph(
    number: int, side: int, syntax: str = str(ExplicitVRLittleEndian), study: int | None = None
) -> Radiograph:
    """Make the radiograph with a number: other UIDs of the same length, the same pixels."""
    study = number if study is None else study
    data = _template(side, syntax)
    # The UIDs are before the pixels: what is large is copied once.
    head, pixels = data[:4096], data[4096:]
    for kind, wanted in ((1, number), (2, study), (3, study)):
        head = head.replace(_uid(kind, 0).encode(), _uid(kind, wanted).encode())
    return Radiograph(_uid(2, study), _uid(1, number), head + pixels)
