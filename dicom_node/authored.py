"""What every instance that we make has in common: identity, equipment, times, encoding.

References
----------
DICOM PS3.3 C.7.5.1 (General Equipment), C.12.1 (SOP Common)
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from io import BytesIO
from typing import Any, Final

from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from dicom_node import codes
from dicom_node.entity import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from dicom_node.findings import AlgorithmDevice
from dicom_node.identity import (
    add_identity,
    character_set,
    copied_item,
    copy_elements,
    items_of,
    keep_bytes,
    value_of,
)
from dicom_node.sentence import plain
from dicom_node.uids import derived_uid

# What is told of the acquiring equipment, and how long each value may be.
_ACQUISITION: Final = {"Manufacturer": 64, "ManufacturerModelName": 64, "StationName": 16}

# First numbers of the series that we make, out of the way of the modalities, by modality.
SERIES_NUMBERS: Final = {"SR": 900, "OT": 1000, "KO": 1100}
_NUMBERS_EACH: Final = 100

# Of an item of the Referenced Request Sequence (C.17.2): what names it, and all it may tell.
_REQUEST_NAMES: Final = (
    "AccessionNumber",
    "PlacerOrderNumberImagingServiceRequest",
    "FillerOrderNumberImagingServiceRequest",
    "RequestedProcedureID",
)
_REQUEST_TYPE_2: Final = (
    *_REQUEST_NAMES,
    "ReferencedStudySequence",
    "RequestedProcedureDescription",
    "RequestedProcedureCodeSequence",
)
_REQUEST_TYPE_3: Final = (
    "IssuerOfAccessionNumberSequence",
    "OrderPlacerIdentifierSequence",
    "OrderFillerIdentifierSequence",
    "ReasonForTheRequestedProcedure",
    "ReasonForRequestedProcedureCodeSequence",
)


def series_number(modality: str, device: AlgorithmDevice) -> int:
    """Return a series number that stays with the model."""
    offset = int(derived_uid(device.digest).rpartition(".")[2]) % _NUMBERS_EACH
    return SERIES_NUMBERS[modality] + offset


def equipment(device: AlgorithmDevice) -> dict[str, str]:
    """Return the General Equipment module of what `device` makes, by keyword."""
    return {
        "Manufacturer": plain(device.manufacturer)[:64],
        "ManufacturerModelName": plain(device.name)[:64],
        "DeviceSerialNumber": device.digest[:16] or "0",
        "SoftwareVersions": plain(device.software_version)[:64],
    }


def finished(ds: Dataset, source: Dataset, content_datetime: datetime) -> bytes:
    """Complete an instance about `source` and encode it: what is returned is what will be sent.

    Parameters
    ----------
    ds : Dataset
        With SOP class, UIDs and content; changed.
    source : Dataset
        An instance of the study, of which patient and study are taken.
    content_datetime : datetime
        Converted to the study's time zone when it states one.

    Returns
    -------
    bytes
        A Part 10 file, Explicit VR Little Endian.
    """
    add_identity(ds, source)
    if "ContentSequence" in ds:
        _add_requests(ds, source)
    _add_acquisition(ds, source)
    _set_times(ds, content_datetime)
    keep_bytes(ds)
    meta = ds.file_meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID(ds.SOPClassUID)
    meta.MediaStorageSOPInstanceUID = UID(ds.SOPInstanceUID)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = IMPLEMENTATION_CLASS_UID
    meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    buffer = BytesIO()
    dcmwrite(buffer, ds, enforce_file_format=True)
    return buffer.getvalue()


def _add_requests(document: Dataset, source: Dataset) -> None:
    """Name the requested procedures that the images were made for (C.17.2), where they say so.

    After `add_identity`, as it is told in the document's character set.
    """
    terms = character_set(document)
    requests = []
    for asked in items_of(source, "RequestAttributesSequence"):
        item = copied_item(asked, terms, (*_REQUEST_TYPE_2, *_REQUEST_TYPE_3))
        if "AccessionNumber" not in item:
            copy_elements(item, source, ("AccessionNumber",), terms)
        if not any(value_of(item, keyword) for keyword in _REQUEST_NAMES):
            continue
        item.StudyInstanceUID = document.StudyInstanceUID
        for keyword in _REQUEST_TYPE_2:
            if keyword not in item:
                setattr(item, keyword, None)
        requests.append(item)
    if requests:
        document.ReferencedRequestSequence = requests


def _add_acquisition(ds: Dataset, source: Dataset) -> None:
    """Say which equipment acquired the images (Contributing Equipment Sequence)."""
    ds.pop("ContributingEquipmentSequence", None)
    values = {
        keyword: value
        for keyword, length in _ACQUISITION.items()
        if (value := value_of(source, keyword)[:length].rstrip()) and _is_line(value)
    }
    if "Manufacturer" not in values:
        return  # Type 1 in an item
    item = Dataset()
    item.PurposeOfReferenceCodeSequence = [codes.code_item(codes.ACQUISITION_EQUIPMENT)]
    for keyword, value in values.items():
        # Without a character set there is ASCII only (PS3.5 6.1.2.1).
        setattr(item, keyword, value if "SpecificCharacterSet" in ds else plain(value))
    ds.ContributingEquipmentSequence = [item]


def _is_line(value: str) -> bool:
    return value.isprintable() and "\\" not in value


def _set_times(ds: Any, content_datetime: datetime) -> None:
    """Set every date and time, in the study's time zone when it states one (C.12.1.1.8)."""
    offset = str(ds.get("TimezoneOffsetFromUTC") or "").strip()
    when = content_datetime
    if offset and when.tzinfo is not None:
        minutes = int(offset[1:3]) * 60 + int(offset[3:5])
        sign = -1 if offset[0] == "-" else 1
        when = when.astimezone(timezone(timedelta(minutes=sign * minutes)))
    for name in ("Content", "InstanceCreation"):
        setattr(ds, f"{name}Date", when.strftime("%Y%m%d"))
        setattr(ds, f"{name}Time", when.strftime("%H%M%S"))


def stand_in(ds: Dataset) -> Dataset:
    """Return what highdicom reads of an instance.

    It raises on what is missing and checks, or even logs, names: so it gets none, and the identity
    is copied afterwards. Rows and columns are there because it takes what has none for no image.
    """
    result = Dataset()
    for keyword in ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"):
        setattr(result, keyword, value_of(ds, keyword))
    for keyword in ("PatientID", "PatientName", "PatientBirthDate", "PatientSex"):
        setattr(result, keyword, "")
    for keyword in ("AccessionNumber", "StudyID", "StudyDate", "StudyTime"):
        setattr(result, keyword, None)
    result.Rows = result.Columns = 1
    return result
