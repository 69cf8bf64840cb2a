"""From the ledger's story of a study to the bytes of its report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dicom_node.archive import StoredFile
from dicom_node.errors import InvalidInstance
from dicom_node.store import Store
from worker.ledger import NewReport, Story
from worker.reading import ArchiveAway, FileGone, read_header
from worker.states import ANOTHER_PATIENT
from worker.tables import FindingRow, Instance, Model, Report

if TYPE_CHECKING:
    from pydicom import Dataset

    from dicom_node.report import AlgorithmDevice, InstanceFinding


class MixedPatients(InvalidInstance):
    """A study whose images are of more than one patient.

    Parameters
    ----------
    message : str
        One sentence for a person, without patient data.
    others : tuple of str
        SOP Instance UIDs of the images that are not of the patient as whose the study is known.
    """

    def __init__(self, message: str, others: tuple[str, ...]) -> None:
        super().__init__(ANOTHER_PATIENT, message)
        self.others = others


def write_report(archive: Store, story: Story) -> NewReport:
    """Build the report of a study and write it to the archive.

    Everything in it follows from the ledger, so that a retry writes the same bytes. It tells of
    images that were removed what was found of them, under the identity of one that is kept.

    Raises
    ------
    ArchiveAway
        When the archive cannot be read, or takes nothing now.
    MixedPatients
        When the images are of more than one patient.
    InvalidInstance
        When there is something new to tell, and no image is kept.
    """
    from dicom_node import report as sr

    study, model, last = story.study, story.model, story.last_report
    evidence = headers_of(archive, [instance for instance, _ in story.findings])
    _require_one_patient(archive, story, evidence)
    known = last is not None and last.sop_instance_uid == _story_uid(story, last.revision)
    if last is not None and known and _is_still_theirs(archive, last, evidence):
        return NewReport(
            last.sop_instance_uid,
            last.sop_class_uid,
            last.path,
            last.sha256,
            last.revision,
            last.model_id,
        )
    if not evidence:
        raise InvalidInstance("REMOVED", "no image of the study is kept any more")
    revision = 1 if last is None else last.revision + 1
    uid = _story_uid(story, revision)
    data = sr.build_report(
        evidence,
        [instance_finding(instance, row) for instance, row in story.findings],
        device_of(model),
        sop_instance_uid=uid,
        series_instance_uid=sr.report_series_uid(study.study_instance_uid, model.digest),
        revision=revision,
        # Without a time zone in the study, times in it are local: so is this one.
        content_datetime=max(row.created_at for _, row in story.findings).astimezone(),
        predecessor=None if last is None else _predecessor(archive, story, last),
    )
    stored = store(archive, study.study_instance_uid, uid, data)
    return NewReport(uid, sr.SOP_CLASS_UID, stored.path, stored.sha256, revision, model.id)


def headers_of(archive: Store, instances: Sequence[Instance]) -> list[Dataset]:
    """Read the headers of a study's images; none at all when all were removed.

    One that was removed is named as its row names it, and of the patient whom the others name.

    Raises
    ------
    ArchiveAway, FileGone
        As `read_header` does.
    """
    kept = {
        each.sop_instance_uid: read_header(archive, each.path)
        for each in instances
        if each.removed_at is None
    }
    if not kept:
        return []
    like = next(iter(kept.values()))
    return [kept.get(each.sop_instance_uid) or _removed(each, like) for each in instances]


def _removed(instance: Instance, like: Dataset) -> Dataset:
    """Name a removed image as one of the study that another image is of."""
    from pydicom import Dataset

    ds = Dataset({elem.tag: elem for elem in like.values()})
    for keyword in ("Rows", "Columns", "SeriesNumber", "InstanceNumber"):
        ds.pop(keyword, None)
    ds.SOPClassUID = instance.sop_class_uid
    ds.SOPInstanceUID = instance.sop_instance_uid
    ds.SeriesInstanceUID = instance.series_instance_uid
    return ds


def _predecessor(archive: Store, story: Story, last: Report) -> Dataset:
    """Read a report that is replaced; one that was removed is named as it was made."""
    from pydicom import Dataset

    from dicom_node import report as sr

    if last.removed_at is None:
        return read_header(archive, last.path)
    ds, study_uid = Dataset(), story.study.study_instance_uid
    ds.SOPClassUID, ds.SOPInstanceUID = last.sop_class_uid, last.sop_instance_uid
    ds.StudyInstanceUID = study_uid
    ds.SeriesInstanceUID = sr.report_series_uid(study_uid, story.last_digest)
    return ds


def _story_uid(story: Story, revision: int) -> str:
    """Name the report that tells this story: with other answers it is another report.

    Probabilities are rounded, as they depend a little on which batch an instance was in.
    """
    from dicom_node import report as sr

    told = [f"{i.sop_instance_uid} {answer_of(row)}" for i, row in story.findings]
    return sr.report_uid(
        story.study.study_instance_uid, [*told, f"revision {revision}"], story.model.digest
    )


def answer_of(row: FindingRow) -> str:
    """Spell a finding in the same way each time, for the UIDs of what tells it."""
    values = ("" if p is None else f"{p:.3f}" for p in (row.pneumonia, row.bacterial, row.viral))
    return " ".join([row.reason or row.finding or "", *values, *sorted(row.flags)])


def _require_one_patient(archive: Store, story: Story, evidence: Sequence[Dataset]) -> None:
    """Refuse a study whose instances are of two patients: a report would be about one of them.

    An image that was removed is told under the identity of one that is kept. Whose it was is known
    by the last report, and where that was removed too, by the study's row.

    Raises
    ------
    MixedPatients
        For a person to sort out.
    ArchiveAway, FileGone
        As `read_header` does.
    """
    from dicom_node.identity import value_of
    from dicom_node.one_patient import contradiction

    instances = [instance for instance, _ in story.findings]
    kept = [ds for each, ds in zip(instances, evidence, strict=False) if each.removed_at is None]
    known = kept if len(kept) == len(instances) else [*_told_before(archive, story), *kept]
    why = contradiction(known) if kept else None
    if why is not None:
        theirs = [ds for ds in known if value_of(ds, "PatientID") == story.study.patient_id]
        one = (theirs or known)[0]
        others = [ds for ds in kept if contradiction([one, ds]) is not None]
        uids = tuple(value_of(ds, "SOPInstanceUID") for ds in others or kept)
        raise MixedPatients(f"the {len(instances)} instances {why}", uids)


def _is_still_theirs(archive: Store, last: Report, evidence: Sequence[Dataset]) -> bool:
    """Tell whether a report is kept, and names the patient as the images do.

    They may have come again under another ID, as two IDs turned out to be one patient's.
    """
    from dicom_node.one_patient import contradiction

    if last.removed_at is not None:
        return False
    try:
        return not evidence or contradiction([read_header(archive, last.path), *evidence]) is None
    except FileGone:  # its delivery says so
        return True


def _told_before(archive: Store, story: Story) -> list[Dataset]:
    """Give what names the patient of images that were removed."""
    from pydicom import Dataset

    last = story.last_report
    if last is not None and last.removed_at is None:
        return [read_header(archive, last.path)]
    ds = Dataset()
    ds.PatientID = story.study.patient_id
    return [ds]


def store(archive: Store, study_uid: str, sop_instance_uid: str, data: bytes) -> StoredFile:
    """Write an object of ours to the archive.

    Raises
    ------
    ArchiveAway
        When it takes nothing now.
    """
    try:
        return archive.write(study_uid, sop_instance_uid, data)
    except OSError as error:
        raise ArchiveAway.because(error) from error


def instance_finding(instance: Instance, row: FindingRow) -> InstanceFinding:
    """Give what was found in an instance as a report tells it."""
    from dicom_node.report import InstanceFinding

    return InstanceFinding(
        sop_instance_uid=instance.sop_instance_uid,
        assessed=row.assessed,
        reason=row.reason,
        finding=row.finding,
        pneumonia=row.pneumonia,
        bacterial=row.bacterial,
        viral=row.viral,
        flags=tuple(row.flags),
    )


def device_of(model: Model) -> AlgorithmDevice:
    """Give a model as a report names it."""
    from dicom_node.report import AlgorithmDevice

    details = model.details
    return AlgorithmDevice(
        name=model.name,
        version=model.version,
        digest=model.digest,
        threshold=details["threshold"],
        undetermined=tuple(details["undetermined"]),
        temperature=details["temperature"],
        calibrated=details["calibrated"],
    )
