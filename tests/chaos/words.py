"""What a notice says, read as its receiver would: JSON of a webhook, or a message of HL7."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from dicom_node import codes
from tests.chaos.diary import Try

PRESENT = codes.ANSWERS["PRESENT"].value


@dataclass(frozen=True)
class Word:
    """One try of a notice, and what it says.

    Parameters
    ----------
    reference
        What stands for the study.
    study, report
        Their UIDs, which the settings of the run let it name.
    content
        All of it but the time of the try: the same whenever it tells of the same report.
    """

    came: Try
    reference: str
    study: str
    report: str
    positive: bool
    corrects: bool
    content: str

    @property
    def message_id(self) -> str:
        return self.came.message_id

    @property
    def says(self) -> tuple[str, str, bool, bool]:
        """Give what may not differ between the tries of one notice."""
        return self.reference, self.study, self.positive, self.corrects


def from_webhook(came: Try) -> Word:
    told = json.loads(came.content)
    data = told["data"]
    corrects = {"study.positive": False, "study.corrected": True}[told["type"]]
    assert data["corrected"] is corrects
    positive = (data["presence"] or {}).get("value") == PRESENT
    assert (data["answer"] == "PRESENT") is positive
    return Word(
        came, data["study"], data["chosen"]["study_instance_uid"], data["chosen"]["report_uid"],
        positive, corrects, came.content,
    )  # fmt: skip


def from_hl7(came: Try) -> Word:
    segments = [line.split("|") for line in came.content.split("\r") if line]
    head, patient = segments[0], next(each for each in segments if each[0] == "PID")
    told = {each[3].split("^")[0]: each for each in segments if each[0] == "OBX"}
    finding = told[codes.PNEUMONIA.value]
    head[6] = ""  # MSH-7, when it was sent
    return Word(
        came,
        patient[3].split("^")[0],
        told[codes.STUDY_INSTANCE_UID.value][5],
        told[codes.REPORT.value][5],
        finding[5].split("^")[0] == PRESENT,
        finding[11] == "C",
        "\r".join("|".join(fields) for fields in segments),
    )


READERS: dict[str, Callable[[Try], Word]] = {"webhook": from_webhook, "hl7": from_hl7}
