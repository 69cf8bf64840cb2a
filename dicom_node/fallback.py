"""The same report as another SOP class, for a destination that does not take the richest.

References
----------
DICOM PS3.3 A.35.2 (Enhanced SR), A.35.3 (Comprehensive SR), A.35.13 (Comprehensive 3D SR)
"""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO

from pydicom import dcmread, dcmwrite
from pydicom.dataset import Dataset
from pydicom.uid import UID

import dicom_node.privacy  # noqa: F401
from dicom_node.contexts import REPORT_SOP_CLASSES
from dicom_node.uids import fallback_uid


def as_sop_class(report: bytes, sop_class_uid: str) -> bytes:
    """Return a report of ours as another of `REPORT_SOP_CLASSES`.

    The content stays: it has neither SCOORD3D items, which only Comprehensive 3D SR may have, nor
    references between content items, which Enhanced SR forbids (PS3.3 A.35.2.3.1.2).

    Parameters
    ----------
    report : bytes
        A Part 10 file, of :func:`dicom_node.report.build_report`.
    sop_class_uid : str
        What it is to be.

    Returns
    -------
    bytes
        With a SOP Instance UID of its own, and so the predecessor it names; the same bytes for the
        same arguments. `report` itself when it is of that class.

    Raises
    ------
    ValueError
        When `sop_class_uid` is none of a report's.
    """
    if sop_class_uid not in REPORT_SOP_CLASSES:
        raise ValueError(f"{sop_class_uid} is not a SOP class of our reports")
    ds = dcmread(BytesIO(report))
    if sop_class_uid == ds.SOPClassUID:
        return report
    ds.SOPInstanceUID = UID(fallback_uid(ds.SOPInstanceUID, sop_class_uid))
    ds.SOPClassUID = UID(sop_class_uid)
    for reference in _predecessors(ds):
        uid = fallback_uid(reference.ReferencedSOPInstanceUID, sop_class_uid)
        reference.ReferencedSOPInstanceUID = UID(uid)
        reference.ReferencedSOPClassUID = UID(sop_class_uid)
    buffer = BytesIO()
    dcmwrite(buffer, ds, enforce_file_format=True)
    return buffer.getvalue()


def _predecessors(ds: Dataset) -> Iterator[Dataset]:
    for study in ds.get("PredecessorDocumentsSequence") or []:
        for series in study.ReferencedSeriesSequence:
            yield from series.ReferencedSOPSequence
