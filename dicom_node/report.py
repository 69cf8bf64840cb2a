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

from pydicom.dataset import Dataset
from pydicom.uid import Comprehensive3DSRStorage

from dicom_node import codes
from dicom_node.authored import equipment, finished, series_number
from dicom_node.content import TEMPLATE, content_of
from dicom_node.content_items import coded, reference, template_item
from dicom_node.encoding import item, put
from dicom_node.findings import AlgorithmDevice, InstanceFinding
from dicom_node.identity import value_of
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
SOP_CLASS_UID: Final = str(Comprehensive3DSRStorage)


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
) -> bytes:
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
    bytes
        A Part 10 file, Explicit VR Little Endian.

    Raises
    ------
    ValueError
        When `evidence` is empty.
    """
    if not evidence:
        raise ValueError("a report needs at least one instance of evidence")
    ordered = in_order(evidence)
    report = Dataset()
    put(
        report,
        SOPClassUID=SOP_CLASS_UID,
        SOPInstanceUID=sop_instance_uid,
        StudyInstanceUID=value_of(ordered[0], "StudyInstanceUID"),
        SeriesInstanceUID=series_instance_uid,
        SeriesNumber=str(series_number(MODALITY, device)),
        SeriesDescription="Pneumonia on chest radiograph, AI",
        InstanceNumber=str(max(1, revision)),
        Modality=MODALITY,
        **equipment(device),
    )
    _put_document(report, ordered, predecessor)
    put(
        report,
        ValueType="CONTAINER",
        ConceptNameCodeSequence=[coded(codes.REPORT)],
        ContinuityOfContent="CONTINUOUS",
        ContentTemplateSequence=[template_item(TEMPLATE)],
        ContentSequence=content_of(ordered, findings, device),
    )
    return finished(report, ordered[0], content_datetime)


def _put_document(
    report: Dataset, evidence: Sequence[Dataset], predecessor: Dataset | None
) -> None:
    """Add the SR Document Series and SR Document General modules (C.17.1, C.17.2)."""
    put(
        report,
        CompletionFlag="COMPLETE",
        VerificationFlag="UNVERIFIED",
        PreliminaryFlag="PRELIMINARY",
        CurrentRequestedProcedureEvidenceSequence=[_hierarchy(evidence)],
        # Type 2, and nothing to say.
        PerformedProcedureCodeSequence=[],
        ReferencedPerformedProcedureStepSequence=[],
    )
    if predecessor is not None:
        put(report, PredecessorDocumentsSequence=[_hierarchy([predecessor])])


def _hierarchy(instances: Sequence[Dataset]) -> bytes:
    """Name instances of one study by their series (PS3.3 Table C.17-3)."""
    references: dict[str, dict[str, bytes]] = {}
    for ds in instances:
        uid = value_of(ds, "SOPInstanceUID")
        series = references.setdefault(value_of(ds, "SeriesInstanceUID"), {})
        series.setdefault(uid, reference(value_of(ds, "SOPClassUID"), uid))
    return item(
        StudyInstanceUID=value_of(instances[0], "StudyInstanceUID"),
        ReferencedSeriesSequence=[
            item(SeriesInstanceUID=uid, ReferencedSOPSequence=list(named.values()))
            for uid, named in references.items()
        ],
    )
