"""Builders of datasets for tests: a valid instance by default, one attribute changed at a time."""

from __future__ import annotations

import importlib.util
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import dcmread, dcmwrite
from pydicom.charset import convert_encodings
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.tag import Tag
from pydicom.uid import (
    UID,
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
)

ROOT = "2.25.1234567890"
STUDY_UID = f"{ROOT}.1"
SERIES_UID = f"{ROOT}.2"

# What of a chest image the tests look at; values are made up.
_CR: dict[str, Any] = {
    "SpecificCharacterSet": "ISO_IR 100",
    "SOPClassUID": ComputedRadiographyImageStorage,
    "SOPInstanceUID": f"{ROOT}.3",
    "StudyInstanceUID": STUDY_UID,
    "SeriesInstanceUID": SERIES_UID,
    "StudyDate": "20260102",
    "StudyTime": "101112",
    "AccessionNumber": "ACC1",
    "StudyID": "S1",
    "Modality": "CR",
    "Manufacturer": "Maker",
    "ReferringPhysicianName": "Referrer^A",
    "PatientName": "Test^Child",
    "PatientID": "PID1",
    "PatientBirthDate": "20220101",
    "PatientSex": "F",
    "PatientAge": "004Y",
    "BodyPartExamined": "CHEST",
    "ViewPosition": "AP",
    "SeriesNumber": 1,
    "InstanceNumber": 1,
}


def image(pixels: Any = None, **attributes: Any) -> Dataset:
    """Return a small CR chest image.

    Parameters
    ----------
    pixels : array_like, optional
        Stored values, (rows, columns) or (rows, columns, 3), of an integer type; its size and sign
        set Bits Allocated, Bits Stored and Pixel Representation.
    **attributes
        Set by keyword after all that; None removes the attribute.
    """
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    for keyword, value in _CR.items():
        setattr(ds, keyword, value)
    _set_pixels(ds, np.asarray(_ramp() if pixels is None else pixels))
    for keyword, value in attributes.items():
        if value is None:
            ds.pop(keyword, None)
        else:
            setattr(ds, keyword, value)
    ds.file_meta.MediaStorageSOPClassUID = UID(str(ds.get("SOPClassUID", "")))
    ds.file_meta.MediaStorageSOPInstanceUID = UID(str(ds.get("SOPInstanceUID", "")))
    return ds


def dx_image(pixels: Any = None, **attributes: Any) -> Dataset:
    """Return a small DX For Presentation chest image; see `image`."""
    defaults = {
        "SOPClassUID": DigitalXRayImageStorageForPresentation,
        "Modality": "DX",
        "PresentationIntentType": "FOR PRESENTATION",
    }
    return image(pixels, **(defaults | attributes))


def _ramp() -> Any:
    return np.arange(64, dtype=np.uint16).reshape(8, 8) * 64


def _set_pixels(ds: Dataset, pixels: Any) -> None:
    bits = pixels.dtype.itemsize * 8
    ds.Rows, ds.Columns = pixels.shape[:2]
    ds.SamplesPerPixel = 1 if pixels.ndim == 2 else pixels.shape[2]
    ds.PhotometricInterpretation = "MONOCHROME2" if pixels.ndim == 2 else "RGB"
    if pixels.ndim == 3:
        ds.PlanarConfiguration = 0
    ds.BitsAllocated = ds.BitsStored = bits
    ds.HighBit = bits - 1
    ds.PixelRepresentation = int(pixels.dtype.kind == "i")
    data = pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()
    ds.add_new("PixelData", "OB" if bits == 8 else "OW", data + b"\0" * (len(data) % 2))


def with_bytes(ds: Dataset, **values: bytes) -> Dataset:
    """Set elements of `ds` to exactly these bytes, valid or not, and return it."""
    for keyword, value in values.items():
        tag = Tag(tag_for_keyword(keyword) or 0)
        value += b" " * (len(value) % 2)
        ds[tag] = RawDataElement(tag, dictionary_VR(tag), len(value), value, 0, False, True)
    # Otherwise pydicom decodes and encodes them again when it writes.
    charset = ds.get("SpecificCharacterSet")
    ds.set_original_encoding(False, True, convert_encodings(charset) if charset else "iso8859")
    return ds


def with_element(ds: Dataset, keyword: str, vr: str, value: bytes | None) -> Dataset:
    """Return `ds` as read from a file in which an element has this VR and these bytes.

    None removes the element.
    """
    tag = Tag(tag_for_keyword(keyword) or 0)
    ds.pop(tag, None)
    if value is not None:
        # Written as it is only when pydicom takes it for what it read itself.
        value += b" " * (len(value) % 2)
        charset = ds.get("SpecificCharacterSet", "ISO_IR 100")
        if keyword == "SpecificCharacterSet":
            return _with_character_set(ds, value)
        ds[tag] = RawDataElement(tag, vr, len(value), value, 0, False, True)
        ds.set_original_encoding(False, True, convert_encodings(charset))
    return read_back(ds)


def _with_character_set(ds: Dataset, value: bytes) -> Dataset:
    """Patch it into the file: pydicom writes none that it does not know."""
    ds.SpecificCharacterSet = "ISO_IR 100"
    start = b"\x08\0\x05\0CS"
    written = part10(ds).replace(
        start + b"\x0a\0ISO_IR 100", start + len(value).to_bytes(2, "little") + value
    )
    return dcmread(BytesIO(written))


def part10(ds: Dataset) -> bytes:
    """Return a dataset as a Part 10 file."""
    buffer = BytesIO()
    dcmwrite(buffer, ds, enforce_file_format=True)
    return buffer.getvalue()


def read_back(ds: Dataset) -> Dataset:
    """Return a dataset as it would come from the network: encoded, and read again."""
    return read(part10(ds))


def read(data: bytes) -> Dataset:
    """Return the dataset of a Part 10 file."""
    return dcmread(BytesIO(data))


def pydicom_data() -> Path:
    """Return the folder of the PyPI package pydicom-data, which holds real instances."""
    spec = importlib.util.find_spec("data_store")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError("the package pydicom-data is not installed")
    return Path(next(iter(spec.submodule_search_locations))) / "data"
