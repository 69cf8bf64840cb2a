"""An archive and a ledger that hold a study: an image of it, and what we made of it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from pydicom.dataset import Dataset
from sqlalchemy.orm import Session, sessionmaker

from dicom_node.archive import Archive
from tests.datasets import image, part10
from tests.fakes import NOON, received
from worker import ledger
from worker.tables import Companion, Report, Study

SR, KEY_OBJECT, CAPTURE = (f"1.2.840.10008.5.1.4.1.1.{end}" for end in ("88.34", "88.59", "7"))


def hold(sessions: sessionmaker[Session], archive: Archive, ds: Dataset) -> None:
    """Put a received instance into archive and ledger, as the node does."""
    stored = archive.write(ds.StudyInstanceUID, ds.SOPInstanceUID, part10(ds))
    facts = received(
        sop_instance_uid=str(ds.SOPInstanceUID), sop_class_uid=str(ds.SOPClassUID),
        study_instance_uid=str(ds.StudyInstanceUID), series_instance_uid=str(ds.SeriesInstanceUID),
        patient_id=str(ds.get("PatientID", "")), modality=str(ds.Modality),
        accession_number=str(ds.get("AccessionNumber", "")), study_date=str(ds.StudyDate),
        path=stored.path, size=stored.size, sha256=stored.sha256,
    )  # fmt: skip
    with sessions() as session, session.begin():
        ledger.record(session, facts, quiet=timedelta(0))


def made(source: Dataset, sop_class: str, modality: str, uid: str, **changes: Any) -> Dataset:
    """Something of ours about an image."""
    return image(
        SOPClassUID=sop_class, Modality=modality, SOPInstanceUID=uid,
        StudyInstanceUID=source.StudyInstanceUID, PatientID=source.PatientID,
        SeriesInstanceUID=f"{source.StudyInstanceUID}.{modality == 'SR' or 2:d}",
        SeriesNumber=900, SeriesDescription="AI", Manufacturer="cxr-worker", **changes,
    )  # fmt: skip


def report_on(
    sessions: sessionmaker[Session],
    archive: Archive,
    report: Dataset,
    *companions: Dataset,
    revision: int = 1,
) -> None:
    """Put a report and what goes with it into archive and ledger, as the worker does."""
    with sessions() as session, session.begin():
        model = ledger.model_row(
            session, name="m", version="1", digest="d" * 64, details={}, now=NOON
        )
        study = session.query(Study).filter_by(study_instance_uid=report.StudyInstanceUID).one()
        row = Report(study_id=study.id, model_id=model, revision=revision, created_at=NOON,
                     **_stored(archive, report))  # fmt: skip
        session.add(row)
        session.flush()
        for ds in companions:
            kind = "KEY_OBJECT" if ds.SOPClassUID == KEY_OBJECT else "PICTURE"
            session.add(Companion(report_id=row.id, kind=kind, **_stored(archive, ds)))


def _stored(archive: Archive, ds: Dataset) -> dict[str, str]:
    stored = archive.write(ds.StudyInstanceUID, ds.SOPInstanceUID, part10(ds))
    return {
        "sop_class_uid": str(ds.SOPClassUID), "sop_instance_uid": str(ds.SOPInstanceUID),
        "path": stored.path, "sha256": stored.sha256,
    }  # fmt: skip
