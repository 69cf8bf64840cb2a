"""A stand-in for the builder of reports that takes no time, where what a report says is not asked.

As the real one, it makes the same of the same, and something else of anything else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any
from unittest.mock import patch

from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from dicom_node import report
from tests.datasets import part10
from tests.fakes import COMPREHENSIVE_3D_SR


@contextmanager
def light_reports() -> Iterator[None]:
    """Have reports made by the stand-in."""
    with patch.object(report, "build_report", _build):
        yield


def _build(
    evidence: Sequence[Dataset],
    findings: Sequence[Any],
    device: Any,
    *,
    sop_instance_uid: str,
    series_instance_uid: str,
    revision: int,
    content_datetime: datetime,
    predecessor: Dataset | None = None,
) -> bytes:
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = COMPREHENSIVE_3D_SR
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = sop_instance_uid
    ds.StudyInstanceUID = evidence[0].StudyInstanceUID
    ds.SeriesInstanceUID = series_instance_uid
    ds.InstanceNumber = revision
    ds.ContentDate = f"{content_datetime:%Y%m%d}"
    ds.ContentTime = f"{content_datetime:%H%M%S.%f}"
    ds.TextValue = f"{findings} {device}"
    ds.CurrentRequestedProcedureEvidenceSequence = [_named(each) for each in evidence]
    if predecessor is not None:
        ds.PredecessorDocumentsSequence = [_named(predecessor)]
    return part10(ds)


def _named(ds: Dataset) -> Dataset:
    """Name an object as a hierarchy of references does."""
    item, series, study = Dataset(), Dataset(), Dataset()
    item.ReferencedSOPClassUID = ds.SOPClassUID
    item.ReferencedSOPInstanceUID = ds.SOPInstanceUID
    series.SeriesInstanceUID = ds.SeriesInstanceUID
    series.ReferencedSOPSequence = [item]
    study.StudyInstanceUID = ds.StudyInstanceUID
    study.ReferencedSeriesSequence = [series]
    return study
