"""What the API answers, for OpenAPI; of a study it is the JSON of ``cxr-worker results``.

Answers are not made from these classes: :func:`worker.results.study_record` and
:func:`worker.describing.model_record` make them, and tests hold the two together.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from worker.states import DeliveryState, Finding, NoticeKind, NoticeState, StudyState
from worker.worklist import Answer

Time = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
Share = Annotated[float, Field(ge=0, le=1)]


class Record(BaseModel):
    """A JSON object with these fields and no others."""

    model_config = ConfigDict(extra="forbid")


class Probabilities(Record):
    """Of an image that was assessed: of pneumonia, and of its kinds."""

    pneumonia: Share | None = None
    bacterial: Share | None = None
    viral: Share | None = None


class InstanceRecord(Record):
    """An image, and what was found."""

    sop_instance_uid: str
    sop_class_uid: str
    assessed: bool = Field(description="whether it was answered")
    reason: str | None = Field(description="why it was not; docs/database.md lists the reasons")
    probabilities: Probabilities
    finding: Finding | None
    flags: list[str]


class DeliveryRecord(Record):
    """A report on its way to a destination."""

    destination: str
    state: DeliveryState
    attempts: int
    delivered_at: Time | None
    committed_at: Time | None
    sop_class_uid: str | None
    sop_instance_uid: str | None
    answer: str | None = Field(description="what the destination answered last")


class ReportRecord(Record):
    """A report, and where it went."""

    sop_instance_uid: str
    revision: int
    created_at: Time
    deliveries: list[DeliveryRecord]


class NoticeRecord(Record):
    """What a target was told at once of a study, or is to be told; docs/notification.md."""

    target: str = Field(description="webhook or hl7")
    message_id: str = Field(description="webhook-id, or MSH-10 of HL7: the same at each try")
    kind: NoticeKind
    finding: Answer = Field(description="the answer that it tells of")
    revision: int | None = Field(description="of the report that it tells of")
    state: NoticeState
    tries: int = Field(description="how often it was tried")
    may_have_arrived: bool = Field(
        description="whether the target may know of it; true also where its answer was lost"
    )
    owed_at: Time
    acknowledged_at: Time | None = Field(description="when the target took it")
    answer: str | None = Field(description="what was answered last, or went wrong, in words")


class ModelOfStudy(Record):
    """The model that was the last to look at the study."""

    name: str
    version: str
    digest: str


class StudyRecord(Record):
    """A study, as ``cxr-worker results --format json`` has it."""

    study_instance_uid: str
    accession_number: str
    patient_id: str
    received_at: Time
    state: StudyState
    instances: list[InstanceRecord]
    reports: list[ReportRecord]
    notices: list[NoticeRecord]
    model: ModelOfStudy | None


class StudyPage(Record):
    """A page of studies, the newest first."""

    studies: list[StudyRecord]
    next: str | None = Field(
        description="path of the next page, which there may be although this one is not full; "
        "null when there is none"
    )


class Reason(Record):
    """Why a study is done again."""

    # It is kept: it says something, and no database has a place for NUL.
    reason: str = Field(min_length=1, max_length=500, pattern=r"^[^\x00-\x20\x7f][^\x00]*$")


class Owed(Record):
    """What is owed again."""

    study_instance_uid: str
    jobs: int = Field(description="how much is to be done")


class ModelRecord(Record):
    """What the model that answers now says of itself, but its card."""

    name: str
    version: str
    digest: str = Field(description="over weights, preprocessing and thresholds")
    labels: list[str]
    input_size: int = Field(description="side of the network's input, pixels")
    temperature: float
    calibrated: bool = Field(description="whether the score may be called a probability")
    kind_temperature: float
    threshold: float = Field(description="score of pneumonia where the finding changes")
    undetermined: list[float] = Field(
        min_length=2, max_length=2, description="the band round it, from and to"
    )
    metrics: dict[str, Any] = Field(description="figures on held-out patients")
    attribution: str
