"""Evidence and findings as a Comprehensive 3D SR, TID 1500 Measurement Report.

The same arguments make the same bytes, so that a report that is built again after a crash is the
same object to a PACS.

References
----------
DICOM PS3.3 A.35.13; PS3.16 TID 1500; IHE RAD AI Results
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from highdicom.sr import Comprehensive3DSR
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from dicom_node.authored import equipment, finished, series_number, stand_in
from dicom_node.content import content_tree
from dicom_node.findings import AlgorithmDevice, InstanceFinding
from dicom_node.sentence import in_order, summary
from dicom_node.uids import TEMPLATE_VERSION, report_series_uid, report_uid

__all__ = [
    "TEMPLATE_VERSION",
    "AlgorithmDevice",
    "InstanceFinding",
    "build_report",
    "report_series_uid",
    "report_uid",
    "summary",
]

MODALITY: Final = "SR"


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
    ordered = in_order(evidence)
    told = equipment(device)
    report = Comprehensive3DSR(
        evidence=[stand_in(ds) for ds in ordered],
        content=content_tree(ordered, findings, device),
        series_instance_uid=series_instance_uid,
        series_number=series_number(MODALITY, device),
        sop_instance_uid=sop_instance_uid,
        instance_number=max(1, revision),
        manufacturer=told["Manufacturer"],
        manufacturer_model_name=told["ManufacturerModelName"],
        device_serial_number=told["DeviceSerialNumber"],
        software_versions=told["SoftwareVersions"],
        series_description="Pneumonia on chest radiograph, AI",
        is_complete=True,
        previous_versions=None if predecessor is None else [predecessor],
        transfer_syntax_uid=ExplicitVRLittleEndian,
    )
    return finished(report, ordered[0], content_datetime)
