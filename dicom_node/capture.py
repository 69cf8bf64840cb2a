"""A picture of an image with its result, as a Secondary Capture.

References
----------
DICOM PS3.3 A.8.1 (Secondary Capture Image IOD), C.7.6.1, C.7.6.3, C.8.6
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import UID, SecondaryCaptureImageStorage

import dicom_node.privacy  # noqa: F401
from dicom_node import codes
from dicom_node.authored import equipment, finished, series_number
from dicom_node.findings import AlgorithmDevice
from dicom_node.identity import value_of

MODALITY: Final = "OT"  # not the source's: no hanging protocol shall take it for the radiograph
DESCRIPTION: Final = "Pneumonia on chest radiograph, AI picture"
DERIVATION: Final = (
    "The image with the result of an automated analysis above it and, where one was made, a map of"
    " what spoke for that drawn over it; not for primary diagnosis."
)

# PS3.3 C.7.6.1.1.5: a lossy source stays lossy, in whatever it is derived to.
_LOSSY_SYNTAXES: Final = {
    "1.2.840.10008.1.2.4.50": "ISO_10918_1",
    "1.2.840.10008.1.2.4.51": "ISO_10918_1",
    "1.2.840.10008.1.2.4.81": "ISO_14495_1",
    "1.2.840.10008.1.2.4.91": "ISO_15444_1",
    "1.2.840.10008.1.2.4.203": "ISO_15444_15",
}
_METHOD: Final = re.compile(r"[A-Z0-9_ ]{1,16}")
_DIRECTION: Final = re.compile(r"[LRAPHF]{1,3}")  # PS3.3 C.7.6.1.1.1


def build_capture(
    source: Dataset,
    picture: NDArray[np.uint8],
    device: AlgorithmDevice,
    *,
    sop_instance_uid: str,
    series_instance_uid: str,
    instance_number: int,
    content_datetime: datetime,
) -> bytes:
    """Build the Secondary Capture of a picture.

    Parameters
    ----------
    source : Dataset
        The image that the picture shows; pixel data is not needed. Not changed.
    picture : numpy.ndarray
        Shape (rows, columns, 3), RGB, with the result drawn into it.
    device : AlgorithmDevice
        The model and the device it ran in.
    sop_instance_uid, series_instance_uid : str
        Of the capture; see `dicom_node.uids`.
    instance_number : int
        From 1.
    content_datetime : datetime
        When the finding was made. Converted to the study's time zone when it states one.

    Returns
    -------
    bytes
        A Part 10 file, Explicit VR Little Endian; the same for the same arguments.

    Raises
    ------
    ValueError
        When `picture` is not RGB in 8 bits.
    """
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
        raise ValueError("a picture is an array of (rows, columns, 3) in 8 bits")
    ds = Dataset()
    ds.SOPClassUID = SecondaryCaptureImageStorage
    ds.SOPInstanceUID = UID(sop_instance_uid)
    ds.StudyInstanceUID = UID(value_of(source, "StudyInstanceUID"))
    ds.SeriesInstanceUID = UID(series_instance_uid)
    ds.Modality = MODALITY
    ds.BodyPartExamined = "CHEST"  # or the image would not have been assessed
    ds.SeriesNumber = series_number(MODALITY, device)
    ds.SeriesDescription = DESCRIPTION
    ds.InstanceNumber = max(1, instance_number)
    _add_equipment(ds, device)
    _add_origin(ds, source)
    _add_pixels(ds, picture)
    return finished(ds, source, content_datetime)


def _add_equipment(ds: Dataset, device: AlgorithmDevice) -> None:
    """Add the General and the SC Equipment modules (C.7.5.1, C.8.6.1): both are we."""
    for keyword, value in equipment(device).items():
        setattr(ds, keyword, value)
    ds.ConversionType = "WSD"
    ds.SecondaryCaptureDeviceManufacturer = ds.Manufacturer
    ds.SecondaryCaptureDeviceManufacturerModelName = ds.ManufacturerModelName
    ds.SecondaryCaptureDeviceSoftwareVersions = ds.SoftwareVersions


def _add_origin(ds: Dataset, source: Dataset) -> None:
    """Say what the picture was derived from, and how (C.7.6.1, C.12.4)."""
    reference = Dataset()
    reference.ReferencedSOPClassUID = UID(value_of(source, "SOPClassUID"))
    reference.ReferencedSOPInstanceUID = UID(value_of(source, "SOPInstanceUID"))
    reference.PurposeOfReferenceCodeSequence = [codes.code_item(codes.PROCESSED_IMAGE)]
    ds.ImageType = ["DERIVED", "SECONDARY"]
    ds.SourceImageSequence = [reference]
    ds.DerivationDescription = DERIVATION
    ds.BurnedInAnnotation = "YES"
    ds.PatientOrientation = _orientation(source)
    method = _lossy_method(source)
    ds.LossyImageCompression = "00" if method is None else "01"
    if method:
        ds.LossyImageCompressionMethod = method


def _orientation(source: Dataset) -> list[str]:
    """Return the directions of row and column, which the picture keeps; none when not known."""
    try:
        directions = [str(each) for each in source.get("PatientOrientation") or []]
    except Exception:  # noqa: BLE001 - pydicom converts it only now, and raises all kinds
        return []
    return directions if len(directions) == 2 and all(map(_DIRECTION.fullmatch, directions)) else []


def _lossy_method(source: Dataset) -> str | None:
    """Return how the source was compressed with loss; "" when it does not say, None if not."""
    meta = getattr(source, "file_meta", Dataset())
    by_syntax = _LOSSY_SYNTAXES.get(value_of(meta, "TransferSyntaxUID"))
    if by_syntax is None and value_of(source, "LossyImageCompression") != "01":
        return None
    stated = value_of(source, "LossyImageCompressionMethod")
    return by_syntax or (stated if _METHOD.fullmatch(stated) else "")


def _add_pixels(ds: Dataset, picture: NDArray[np.uint8]) -> None:
    """Add the Image Pixel module (C.7.6.3), uncompressed."""
    ds.SamplesPerPixel = 3
    ds.PhotometricInterpretation = "RGB"
    ds.PlanarConfiguration = 0
    ds.Rows, ds.Columns = picture.shape[:2]
    ds.BitsAllocated = ds.BitsStored = 8
    ds.HighBit = 7
    ds.PixelRepresentation = 0
    data = np.ascontiguousarray(picture).tobytes()
    ds.add_new("PixelData", "OB", data + b"\0" * (len(data) % 2))
