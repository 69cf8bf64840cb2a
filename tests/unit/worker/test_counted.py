"""What the steps count on the way of a study, and what their lines are about."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.orm import Session, sessionmaker

from dicom_node.errors import PeerError, ReportRefused
from dicom_node.watch import Rejection
from tests.fakes import model_info
from tests.ward import PACS, Ward
from worker import logs, metrics
from worker.counting import CountingWatch
from worker.metrics import Meters
from worker.settings import Settings


@pytest.fixture
def ward(tmp_path: Path, sqlite_sessions: sessionmaker[Session]) -> Ward:
    return Ward(tmp_path, sqlite_sessions)


@pytest.fixture
def meters() -> Iterator[Meters]:
    yield metrics.switch_on()
    metrics.switch_off()


def value(meters: Meters, name: str, **labels: str) -> float:
    return meters.registry.get_sample_value(name, labels) or 0.0


def seconds_counted(meters: Meters, stage: str) -> float:
    return value(meters, "cxr_stage_seconds_count", stage=stage)


def deliver_one(ward: Ward) -> str:
    study = ward.receive_study()
    ward.classify()
    ward.clock.forward(5)
    ward.report()
    ward.deliver()
    return study


def test_a_study_is_counted_at_each_step(ward: Ward, meters: Meters) -> None:
    deliver_one(ward)
    version = model_info().version
    assert value(meters, "cxr_findings_total", finding="PRESENT", model_version=version) == 1
    assert value(meters, "cxr_pneumonia_score_sum", model_version=version) == pytest.approx(0.9)
    assert value(meters, "cxr_batch_size_sum") == 1
    stages = ("prepare", "predict", "report", "deliver")
    assert {stage: seconds_counted(meters, stage) for stage in stages} == dict.fromkeys(stages, 1)
    delivered = {"destination": PACS, "outcome": "delivered"}
    assert value(meters, "cxr_deliveries_total", **delivered) == 1


def test_what_is_not_assessed_is_counted_by_its_reason(ward: Ward, meters: Meters) -> None:
    ward.receive_study(Modality="CT", BodyPartExamined="FOOT")
    ward.classify()
    samples = [
        (sample.labels["reason"], sample.value)
        for family in meters.registry.collect()
        for sample in family.samples
        if sample.name == "cxr_not_assessed_total"
    ]
    assert [count for _, count in samples] == [1.0]
    assert not value(meters, "cxr_batch_size_count")


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (PeerError("full", PACS, 0xA700), "tried_again"),
        (ReportRefused("no", PACS, 0xC000), "given_up"),
    ],
)
def test_a_delivery_is_counted_by_what_came_of_it(
    ward: Ward, meters: Meters, error: Exception, outcome: str
) -> None:
    ward.send.answers = [error]
    deliver_one(ward)
    assert value(meters, "cxr_deliveries_total", destination=PACS, outcome=outcome) == 1


def test_the_node_counts_answers_by_status_and_sop_class(meters: Meters) -> None:
    watch = CountingWatch()
    watch.accepted()
    watch.rejected(Rejection.HOST)
    dx = "1.2.840.10008.5.1.4.1.1.1.1"
    for uid, status in ((dx, 0x0000), ("9.9.9 of a stranger", 0x0000), (dx, 0xA700)):
        watch.stored(uid, status, 0.01)
    received = "cxr_instances_received_total"
    keyword = "DigitalXRayImageStorageForPresentation"
    assert value(meters, received, sop_class=keyword) == 1
    assert value(meters, received, sop_class="Other") == 1
    assert value(meters, "cxr_store_responses_total", status="0x0000") == 2
    assert value(meters, "cxr_store_responses_total", status="0xA700") == 1
    assert meters.registry.get_sample_value(
        "cxr_store_responses_total", {"status": "0xC010"}
    ) == 0, "so that the first one is an increase"  # fmt: skip
    assert value(meters, "cxr_associations_rejected_total", reason="host") == 1
    assert seconds_counted(meters, "store") == 3


# --- the lines -------------------------------------------------------------------------------


@pytest.fixture
def _logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)  # which has loggers forget what they were enabled for
    logging.captureWarnings(False)


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


@pytest.mark.usefixtures("_logging")
def test_a_study_is_followed_through_the_log_by_its_uid(
    ward: Ward, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure("INFO", "json", "worker")
    study = deliver_one(ward)
    told = {line["logger"]: line for line in lines(capsys) if line.get("study_instance_uid")}
    assert {line["study_instance_uid"] for line in told.values()} == {study}
    assert set(told) == {"worker.node", "worker.reporting", "worker.delivering"}
    assert "by association a" in told["worker.node"]["message"]
    assert told["worker.delivering"]["destination"] == PACS
    assert told["worker.delivering"]["report_uid"] in told["worker.delivering"]["message"]


@pytest.mark.usefixtures("_logging")
def test_an_image_that_is_not_assessed_is_told_with_its_study(
    ward: Ward, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure("INFO", "json", "worker-gpu")
    study = ward.receive_study(Modality="CT", BodyPartExamined="FOOT")
    ward.classify()
    (line,) = [each for each in lines(capsys) if each["logger"] == "worker.preparing"]
    assert line["study_instance_uid"] == study
    assert line["sop_instance_uid"] in line["message"]
    assert line["role"] == "worker-gpu"


@pytest.mark.usefixtures("_logging")
def test_a_report_that_cannot_be_made_is_told_with_its_study(
    ward: Ward, capsys: pytest.CaptureFixture[str]
) -> None:
    study = ward.receive_study()
    ward.classify()
    ward.clock.forward(5)
    for path in ward.archive.root.rglob("*.dcm"):
        path.unlink()
    logs.configure("INFO", "json", "worker-io")
    ward.report()
    assert [line["study_instance_uid"] for line in lines(capsys)] == [study]


@pytest.mark.usefixtures("_logging")
def test_lines_of_one_study_by_one_association_are_joined_once(
    ward: Ward, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure("INFO", "json", "node")
    study = ward.receive_study(count=5)
    told = [line["message"] for line in lines(capsys) if line["logger"] == "worker.node"]
    assert told == [f"study {study} comes by association a"]


def test_a_setting_chooses_the_format() -> None:
    assert Settings.from_env({}).log_format == "text"
    assert Settings.from_env({"CXR_LOG_FORMAT": "json"}).log_format == "json"
