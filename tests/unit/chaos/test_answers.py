"""What the chaos run reads from reports: it must not take its word from the database."""

from __future__ import annotations

from datetime import UTC, datetime

from dicom_node.report import AlgorithmDevice, InstanceFinding, build_report
from tests import datasets
from tests.chaos.answers import Answers, alarms, answers_of

A, B, C = "2.25.11", "2.25.12", "2.25.13"
DEVICE = AlgorithmDevice(
    name="cxr-resnet", version="1.0", digest="ab" * 32, threshold=0.5, undetermined=(0.4, 0.6),
    temperature=1.3, calibrated=True,
)  # fmt: skip


def test_the_answers_are_read_from_the_content_of_a_report() -> None:
    images = [
        datasets.read_back(datasets.image(SOPInstanceUID=uid, InstanceNumber=number))
        for number, uid in enumerate((A, B, C), 1)
    ]
    findings = [
        InstanceFinding(A, True, None, "PRESENT", 0.9),
        InstanceFinding(B, True, None, "ABSENT", 0.1),
        InstanceFinding(C, False, "UNDECODABLE"),
    ]
    report = build_report(
        images, findings, DEVICE, sop_instance_uid="2.25.3", series_instance_uid="2.25.4",
        revision=1, content_datetime=datetime(2026, 1, 2, tzinfo=UTC),
    )  # fmt: skip
    assert answers_of(datasets.read(report)) == Answers(frozenset({A}), frozenset({C}))


def test_an_alarm_stands_until_its_image_is_assessed_again() -> None:
    positive = Answers(frozenset({A}), frozenset())
    unassessed = Answers(frozenset(), frozenset({A, B}))
    harmless = Answers(frozenset(), frozenset({B}))
    told = list(alarms([unassessed, positive, unassessed, harmless, unassessed]))
    assert told == [set(), {A}, {A}, set(), set()]
