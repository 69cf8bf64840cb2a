"""Evidence and findings as a Comprehensive 3D SR, TID 1500 Measurement Report.

The same arguments make the same bytes, so that a report that is built again after a crash is the
same object to a PACS.

References
----------
DICOM PS3.3 A.35.13; PS3.16 TID 1500; IHE RAD AI Results
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from io import BytesIO
from typing import Any, Final

from highdicom.sr import Comprehensive3DSR
from pydicom import dcmread, dcmwrite
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from dicom_node import codes
from dicom_node.content import content_tree
from dicom_node.entity import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from dicom_node.findings import AlgorithmDevice, InstanceFinding
from dicom_node.identity import add_identity, keep_bytes, value_of
from dicom_node.sentence import plain, summary
from dicom_node.uids import TEMPLATE_VERSION, derived_uid, report_series_uid, report_uid

__all__ = [
    "TEMPLATE_VERSION",
    "AlgorithmDevice",
    "InstanceFinding",
    "build_report",
    "report_series_uid",
    "report_uid",
    "summary",
]

# What is told of the acquiring equipment, and how long each value may be.
_EQUIPMENT: Final = {"Manufacturer": 64, "ManufacturerModelName": 64, "StationName": 16}

_SERIES_NUMBERS = 900, 1000  # out of the way of the modalities


def build_report(
    evidence: Sequence[Dataset],
    findings: Sequence[InstanceFinding],
    device: AlgorithmDevice,
    *,
    sop_instance_uid: str,
    series_instance_uid: str,
    revision: int,
    content_datetime: datetime,
    predecessor: Dataset | None = None,
) -> Dataset:
    """Build the report of one study.

    Parameters
    ----------
    evidence : sequence of Dataset
        Every instance of the study, assessed or not; pixel data is not needed. Not changed; their
        order does not matter.
    findings : sequence of InstanceFinding
        One for each instance.
    device : AlgorithmDevice
        The model and the device it ran in.
    sop_instance_uid, series_instance_uid : str
        Of the report; see `report_uid` and `report_series_uid`.
    revision : int
        From 1; the Instance Number.
    content_datetime : datetime
        When the last finding was made. Converted to the study's time zone when it states one.
    predecessor : Dataset, optional
        The report that this one replaces.

    Returns
    -------
    pydicom.dataset.Dataset
        With file meta information, Explicit VR Little Endian.

    Raises
    ------
    ValueError
        When `evidence` is empty.
    """
    if not evidence:
        raise ValueError("a report needs at least one instance of evidence")
    ordered = sorted(evidence, key=_image_order)
    stand_ins = [_stand_in(ds) for ds in ordered]
    report = Comprehensive3DSR(
        evidence=stand_ins,
        content=content_tree(ordered, findings, device),
        series_instance_uid=series_instance_uid,
        series_number=_series_number(device),
        sop_instance_uid=sop_instance_uid,
        instance_number=max(1, revision),
        manufacturer=plain(device.manufacturer)[:64],
        manufacturer_model_name=plain(device.name)[:64],
        software_versions=plain(device.software_version)[:64],
        device_serial_number=device.digest[:16] or "0",
        series_description="Pneumonia on chest radiograph, AI",
        is_complete=True,
        previous_versions=None if predecessor is None else [predecessor],
        transfer_syntax_uid=ExplicitVRLittleEndian,
    )
    add_identity(report, ordered[0])
    _add_equipment(report, ordered[0])
    _set_times(report, content_datetime)
    return _read_back(report)


def _image_order(ds: Dataset) -> tuple[int, int, str]:
    return (
        _integer(ds, "SeriesNumber"),
        _integer(ds, "InstanceNumber"),
        value_of(ds, "SOPInstanceUID"),
    )


def _integer(ds: Dataset, keyword: str) -> int:
    try:
        return int(value_of(ds, keyword))
    except ValueError:
        return 0


def _stand_in(ds: Dataset) -> Dataset:
    """Return what highdicom reads of an instance.

    It raises on what is missing and checks, or even logs, names: so it gets none, and the identity
    is copied afterwards.
    """
    stand_in = Dataset()
    for keyword in ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"):
        setattr(stand_in, keyword, value_of(ds, keyword))
    for keyword in ("PatientID", "PatientName", "PatientBirthDate", "PatientSex"):
        setattr(stand_in, keyword, "")
    for keyword in ("AccessionNumber", "StudyID", "StudyDate", "StudyTime"):
        setattr(stand_in, keyword, None)
    return stand_in


def _series_number(device: AlgorithmDevice) -> int:
    """Return a series number that stays with the model."""
    first, end = _SERIES_NUMBERS
    return first + int(derived_uid(device.digest).rpartition(".")[2]) % (end - first)


def _add_equipment(report: Dataset, source: Dataset) -> None:
    """Say which equipment acquired the images (PS3.3 C.12.1, Contributing Equipment Sequence)."""
    report.pop("ContributingEquipmentSequence", None)
    values = {
        keyword: value
        for keyword, length in _EQUIPMENT.items()
        if (value := value_of(source, keyword)[:length].rstrip()).isprintable() and value
    }
    if "Manufacturer" not in values:
        return  # Type 1 in an item
    item = Dataset()
    item.PurposeOfReferenceCodeSequence = [codes.code_item(codes.ACQUISITION_EQUIPMENT)]
    for keyword, value in values.items():
        # Without a character set there is ASCII only (PS3.5 6.1.2.1).
        setattr(item, keyword, value if "SpecificCharacterSet" in report else plain(value))
    report.ContributingEquipmentSequence = [item]


def _set_times(report: Any, content_datetime: datetime) -> None:
    """Set every date and time, in the study's time zone when it states one (C.12.1.1.8)."""
    offset = str(report.get("TimezoneOffsetFromUTC") or "").strip()
    when = content_datetime
    if offset and when.tzinfo is not None:
        minutes = int(offset[1:3]) * 60 + int(offset[3:5])
        sign = -1 if offset[0] == "-" else 1
        when = when.astimezone(timezone(timedelta(minutes=sign * minutes)))
    for name in ("Content", "InstanceCreation"):
        setattr(report, f"{name}Date", when.strftime("%Y%m%d"))
        setattr(report, f"{name}Time", when.strftime("%H%M%S"))


def _read_back(report: Dataset) -> Dataset:
    """Encode, and read again: what is returned is what will be sent, byte for byte."""
    report.file_meta.ImplementationClassUID = IMPLEMENTATION_CLASS_UID
    report.file_meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    keep_bytes(report)
    buffer = BytesIO()
    dcmwrite(buffer, report, enforce_file_format=True)
    buffer.seek(0)
    return dcmread(buffer)
