"""What is said of a notice to whoever asks who was told: its kind, its state, what went wrong."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.orm import Session, sessionmaker

from dicom_node.errors import ConfigurationError
from model.predict import Prediction
from tests.fakes import PRESENT
from tests.notices import SECRET
from tests.unit.worker.test_notifying import ABSENT, HL7, Telling
from worker.audit.trail import NotRecorded
from worker.notice import NoticeRefused, TargetAway
from worker.noticed import state_of
from worker.results import find_studies
from worker.tables import Report

GONE = NoticeRefused("the webhook answered 410", 410)
BUSY = TargetAway("the webhook answered 503", 503)
LOST = TargetAway("the webhook cannot be reached: ReadTimeout")
NO_ROUTE = TargetAway("the webhook cannot be reached: No route to host", reached=False)


@pytest.fixture
def ward(tmp_path: Path, sessions: sessionmaker[Session]) -> Telling:
    return Telling(tmp_path, sessions)


def told(ward: Telling) -> list[dict[str, Any]]:
    """What programs are told of the notices of the only study."""
    (record,) = ward.records()
    notices: list[dict[str, Any]] = record["notices"]
    return notices


def said(ward: Telling) -> list[str]:
    """Where they stand, in words."""
    with ward.sessions() as session:
        (found,) = find_studies(session)
    return [state_of(row) for row in found.notices]


def tries(ward: Telling, *answers: Exception | Callable[[], None]) -> None:
    """Have the target tried once for each answer, whenever that is due."""
    for answer in answers:
        ward.tell.answers = [answer]
        ward.notify()
        ward.clock.forward(3600)


def test_a_study_that_nobody_was_told_of_has_no_notices(ward: Telling) -> None:
    ward.reported(ABSENT)
    assert told(ward) == []


def test_a_notice_that_was_taken_says_when_and_by_what_id_its_receiver_has_it(
    ward: Telling,
) -> None:
    ward.reported()
    (report,) = ward.all(Report)
    assert said(ward) == ["to be sent"]
    ward.clock.forward(7)
    ward.notify()
    assert told(ward) == [
        {
            "target": "webhook",
            "message_id": ward.tell.told[0].message_id,
            "kind": "NEW",
            "finding": "PRESENT",
            "revision": 1,
            "state": "SENT",
            "tries": 1,
            "may_have_arrived": True,
            "owed_at": report.created_at.isoformat(),
            "acknowledged_at": ward.clock().isoformat(),
            "answer": "the webhook answered 204",
        }
    ]
    assert said(ward) == ["acknowledged"]


def test_a_correction_is_told_as_one_with_the_revision_it_is_of(ward: Telling) -> None:
    study = ward.reported()
    ward.notify()
    for answer in (ABSENT, PRESENT):
        ward.again(study, answer)
        ward.notify()
    assert [(each["kind"], each["finding"], each["revision"]) for each in told(ward)] == [
        ("NEW", "PRESENT", 1), ("CORRECTION", "ABSENT", 2), ("CORRECTION", "PRESENT", 3),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ([NO_ROUTE, NO_ROUTE], ("PENDING", 2, False, str(NO_ROUTE))),
        ([NO_ROUTE, LOST], ("PENDING", 2, True, str(LOST))),
        ([BUSY, GONE], ("FAILED", 2, True, str(GONE))),
        ([GONE], ("FAILED", 1, False, str(GONE))),
    ],
)
def test_each_call_counts_as_a_try_but_what_cannot_have_arrived_is_not_said_to_have(
    ward: Telling, answers: list[Exception], expected: tuple[str, int, bool, str]
) -> None:
    ward.reported()
    tries(ward, *answers)
    (notice,) = told(ward)
    keys = ("state", "tries", "may_have_arrived", "answer")
    assert tuple(notice[key] for key in keys) == expected
    assert notice["acknowledged_at"] is None
    words = {"PENDING": "not acknowledged yet, is tried again", "FAILED": "given up"}[expected[0]]
    assert said(ward) == [f"{words}; may have arrived" if expected[2] else words]


def test_what_is_in_the_way_before_the_target_is_called_is_told_and_is_no_try(
    ward: Telling,
) -> None:
    ward.reported()

    def full(*_: object) -> None:
        raise NotRecorded("the audit trail cannot be written: No space left on device")

    ward.notify(record=full)
    (notice,) = told(ward)
    assert (notice["tries"], notice["may_have_arrived"]) == (0, False)
    assert notice["answer"] == "the audit trail cannot be written: No space left on device"
    assert said(ward) == ["not acknowledged yet, is tried again"]


def test_what_went_wrong_before_it_was_taken_is_forgotten(ward: Telling) -> None:
    ward.reported()
    tries(ward, NO_ROUTE)
    ward.notify()
    (notice,) = told(ward)
    assert (notice["state"], notice["tries"]) == ("SENT", 2)
    assert notice["answer"] == "the webhook answered 204"


def test_a_dead_letter_that_is_requeued_is_owed_again_and_one_that_is_discarded_is_said_to_be(
    ward: Telling,
) -> None:
    study = ward.reported()
    tries(ward, GONE)
    assert said(ward) == ["given up"]
    assert ward.requeue(study) == 1
    assert said(ward) == ["not acknowledged yet, is tried again"]
    tries(ward, GONE)
    assert ward.discard(study) == 1
    assert said(ward) == ["discarded"]
    (notice,) = told(ward)
    assert (notice["state"], notice["tries"], notice["answer"]) == ("DISCARDED", 2, str(GONE))


def test_a_notice_that_was_withdrawn_says_whether_it_may_have_arrived(ward: Telling) -> None:
    study = ward.reported()
    ward.again(study, ABSENT)
    assert said(ward) == ["withdrawn, not needed any more"]
    ward.again(study, PRESENT)
    tries(ward, LOST)
    ward.again(study, ABSENT)
    assert said(ward) == [
        "withdrawn, not needed any more",
        "withdrawn, not needed any more; may have arrived",
        "to be sent",
    ]


def test_an_answer_that_is_none_can_be_told(ward: Telling) -> None:
    study = ward.reported()
    ward.notify()
    ward.again(study, Prediction(0.5, 0.3, 0.2, "UNDETERMINED"))
    assert told(ward)[-1]["finding"] == "UNDETERMINED"


@pytest.mark.parametrize("target", ["webhook", HL7])
def test_neither_address_nor_secret_of_a_target_is_told(
    tmp_path: Path, sessions: sessionmaker[Session], target: str
) -> None:
    ward = Telling(tmp_path, sessions, target)
    ward.reported()
    tries(ward, NO_ROUTE, ConfigurationError("CXR_WEBHOOK_SECRET_FILE", "is gone"), GONE)
    record = str(ward.records())
    assert target in record
    for word in ("s3cret-path", "example.org", "://", base64.b64encode(SECRET).decode()):
        assert word not in record
