"""All that is known of one study, gathered for whoever opens it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sqlalchemy.orm import Session, sessionmaker

from dicom_node.errors import ReportRefused
from model.predict import Prediction
from tests.ward import PACS, Ward, chest
from worker import ledger
from worker.chart import Chart, Scale, chart
from worker.worklist import Answer


@pytest.fixture
def ward(tmp_path: Path, sessions: sessionmaker[Session]) -> Ward:
    return Ward(tmp_path, sessions)


def opened(ward: Ward, study: str) -> Chart:
    with ward.sessions() as session:
        found = chart(session, study)
    assert found is not None
    return found


def told(found: Chart) -> list[str]:
    return [event.what for event in found.events]


def test_a_study_that_is_not_here_is_none(ward: Ward) -> None:
    with ward.sessions() as session:
        assert chart(session, "1.2.3") is None


def test_what_happened_is_told_in_its_order(ward: Ward) -> None:
    study = ward.receive_study(2)
    ward.clock.forward(1)
    ward.classify()
    ward.clock.forward(60)
    ward.report()
    ward.clock.forward(1)
    ward.deliver(PACS)
    assert told(opened(ward, study)) == [
        "first image received from MODALITY",
        "2 of 2 images answered by fake-resnet 1.0",
        "reported, revision 1",
        f"revision 1 delivered to {PACS}",
    ]


def test_a_decision_is_told_with_who_and_why(ward: Ward) -> None:
    study = ward.receive_study()
    with ward.sessions() as session, session.begin():
        ledger.requeue(session, study, ward.clock(), "the window was wrong", "anna")
    assert "requeued by anna: the window was wrong" in told(opened(ward, study))


def test_an_image_has_its_answer_the_scale_of_its_model_and_its_heat(ward: Ward) -> None:
    ward.explain = lambda images: np.ones((len(images), 4, 4), np.float32)
    study = ward.receive_study()
    ward.classify()
    ward.receive(chest(study))
    found = opened(ward, study)
    answered, pending = found.images
    assert answered.told is not None
    assert answered.told.finding == "PRESENT"
    assert isinstance(answered.scale, Scale)
    assert answered.scale.low < answered.scale.threshold < answered.scale.high
    assert answered.has_heat
    assert (pending.told, pending.scale, pending.has_heat) == (None, None, False)
    assert pending.why_not is None


def test_why_an_image_was_not_assessed_is_said_in_words(ward: Ward) -> None:
    ward.classifier.answer = Prediction(reason="NOT_CHEST")
    study = ward.receive_study()
    ward.classify()
    found = opened(ward, study)
    assert found.line.answer is Answer.NOT_ASSESSED
    assert found.images[0].why_not
    assert found.images[0].why_not != "NOT_CHEST"


def test_what_was_given_up_is_shown(ward: Ward) -> None:
    study = ward.receive_study()
    ward.classify()
    ward.clock.forward(60)
    ward.report()
    ward.send.answers = [ReportRefused("not like this", PACS, 0xC000)]
    ward.deliver(PACS)
    (job,) = opened(ward, study).given_up
    assert (job.kind, job.destination) == ("DELIVER", PACS)
    assert "not like this" in job.last_error
