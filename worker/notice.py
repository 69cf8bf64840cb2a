"""What a notice says: that a study is positive, or is so no more, and no more than that.

Of whose study it is it says what the site has chosen, CXR_NOTIFY_FIELDS, and nothing by default.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from pydicom.sr.coding import Code

from dicom_node import codes
from dicom_node.errors import PacsWorkerError
from dicom_node.identity import value_of
from dicom_node.sentence import INTENDED_USE
from dicom_node.store import Store
from worker.ledger import ToSend
from worker.reading import read_header
from worker.settings_notify import NotifyField
from worker.states import Finding

# As careful as the report, which is PRELIMINARY and UNVERIFIED (DICOM PS3.3 C.17.2).
CAUTION: Final = (
    "Preliminary result of software, not verified: a reader has to confirm it. For research use. "
    f"{INTENDED_USE}"
)
CORRECTION: Final = "This corrects an earlier notice about the same study."

# Where the report has what a site may choose.
KEYWORDS: Final[Mapping[NotifyField, str]] = {
    NotifyField.ACCESSION_NUMBER: "AccessionNumber",
    NotifyField.PATIENT_ID: "PatientID",
    NotifyField.PATIENT_NAME: "PatientName",
    NotifyField.PATIENT_BIRTH_DATE: "PatientBirthDate",
    NotifyField.PATIENT_SEX: "PatientSex",
    NotifyField.STUDY_INSTANCE_UID: "StudyInstanceUID",
    NotifyField.STUDY_DATE: "StudyDate",
    NotifyField.REPORT_UID: "SOPInstanceUID",
}
# It goes with the id: without it an id may be somebody else's elsewhere.
ISSUER: Final = "issuer_of_patient_id"


class TargetAway(PacsWorkerError):
    """Who is to be told cannot be reached, or takes nothing now; tried again.

    Parameters
    ----------
    message : str
        One sentence that says what to look at.
    status : int, optional
        What it answered, if it did.
    wait_s : float
        How long it wants to be left alone, at least.
    answered : bool
        Whether it answered at all: then the notice itself may be the reason.
    reached : bool
        Whether anything was sent: then it may have come to know what it was to be told.
    """

    def __init__(
        self,
        message: str,
        status: int | None = None,
        wait_s: float = 0,
        *,
        answered: bool = False,
        reached: bool = True,
    ) -> None:
        super().__init__(message, status=status, wait_s=wait_s)
        self.status = status
        self.wait_s = wait_s
        self.answered = answered or status is not None
        self.reached = reached


class NoticeRefused(PacsWorkerError):
    """Who is to be told will not take this notice, now or later; for a person."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message, status=status)
        self.status = status


@dataclass(frozen=True, slots=True)
class Answer:
    """That a notice was taken: by what status, and in words."""

    status: int | None
    words: str


@dataclass(frozen=True, slots=True)
class News:
    """What is told.

    Attributes
    ----------
    message_id : str
        The same at each try.
    reference : str
        Stands for the study; names nobody.
    finding : str
        The answer in a word, as the worklist has it.
    probability : float or None
        Of pneumonia, the highest of all images; None when none was assessed.
    calibrated : bool
        Whether it may be called a probability.
    fields : mapping
        What the site has chosen to say of whose study it is, as far as the report has it.
    """

    message_id: str
    reference: str
    finding: str
    corrects: bool
    probability: float | None
    calibrated: bool
    images: int
    unassessed: int
    flags: Sequence[str]
    model: str
    model_version: str
    revision: int
    reported_at: datetime
    fields: Mapping[str, str]

    @property
    def is_positive(self) -> bool:
        """Whether it tells of a finding."""
        return self.finding == Finding.PRESENT

    @property
    def presence(self) -> Code | None:
        """The coded answer; None when there is none."""
        return codes.ANSWERS.get(self.finding)

    @property
    def cautions(self) -> list[str]:
        """What whoever reads it has to know, sentence by sentence."""
        said = [CAUTION, *([CORRECTION] if self.corrects else [])]
        said += [f"Note: {codes.FLAG_SENTENCES.get(each, each)}." for each in self.flags]
        if self.unassessed:
            said.append(f"{self.unassessed} of {self.images} images were not assessed.")
        return said


def news_of(archive: Store, to_send: ToSend, chosen: Sequence[NotifyField]) -> News:
    """Put a notice into words; raises as `read_header` does."""
    notice, report, model = to_send.notice, to_send.report, to_send.model
    details: Mapping[str, Any] = notice.details
    return News(
        message_id=notice.message_id,
        reference=notice.reference,
        finding=notice.finding,
        corrects=notice.corrects,
        probability=details["pneumonia"],
        calibrated=bool(model.details.get("calibrated")),
        images=details["images"],
        unassessed=details["unassessed"],
        flags=details["flags"],
        model=model.name,
        model_version=model.version,
        revision=report.revision,
        reported_at=report.created_at,
        fields=_chosen(archive, report.path, chosen) if chosen else {},
    )


def _chosen(archive: Store, path: str, chosen: Sequence[NotifyField]) -> dict[str, str]:
    """Read what is chosen from the report, which has it as the modality wrote it."""
    ds = read_header(archive, path)
    wanted = {str(field): KEYWORDS[field] for field in chosen}
    if NotifyField.PATIENT_ID in chosen:
        wanted[ISSUER] = "IssuerOfPatientID"
    found = {name: value_of(ds, keyword) for name, keyword in wanted.items()}
    return {name: value for name, value in found.items() if value}
