"""Notices for tests, and settings by which they are told."""

from __future__ import annotations

import base64
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.fakes import NOON
from worker.notice import News

SECRET = b"0123456789abcdef0123456789abcdef"

NEWS = News(
    message_id="00112233445566778899", reference="99887766554433221100", finding="PRESENT",
    corrects=False, probability=0.934, calibrated=True, images=2, unassessed=0, flags=(),
    model="pneumonia-resnet", model_version="1.2", revision=1, reported_at=NOON, fields={},
)  # fmt: skip

# A patient whom no notice may name unless it is chosen.
PATIENT = {
    "PatientID": "PID-4711", "PatientName": "Noether^Emmy^^Dr.", "PatientBirthDate": "20200229",
    "PatientSex": "F", "AccessionNumber": "ACC-0815", "StudyDate": "20260102",
    "IssuerOfPatientID": "GOETTINGEN",
}  # fmt: skip


def news(**changes: Any) -> News:
    return replace(NEWS, **changes)


def secret_file(folder: Path, *secrets: bytes) -> Path:
    path = folder / "secret"
    lines = [base64.b64encode(each).decode() for each in secrets or (SECRET,)]
    path.write_text("\n".join(lines) + "\n")
    return path
