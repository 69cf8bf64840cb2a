"""The worklist: what comes first, what is told of a study in a word, and page after page."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy.orm import Session, sessionmaker

from model.predict import Prediction
from tests.ward import Ward, chest
from worker.states import StudyState
from worker.worklist import Answer, Order, Page, Wanted, page

PRESENT = Prediction(0.9, 0.6, 0.4, "PRESENT")
MAYBE = Prediction(0.5, 0.6, 0.4, "UNDETERMINED")
ABSENT = Prediction(0.1, None, None, "ABSENT")
NOT_ASSESSED = Prediction(reason="NOT_CHEST")


@pytest.fixture
def ward(tmp_path: Path, sessions: sessionmaker[Session]) -> Ward:
    return Ward(tmp_path, sessions)


def answered(ward: Ward, *predictions: Prediction, **changes: object) -> str:
    """Receive a study whose images are answered in turn."""
    study = ""
    for prediction in predictions:
        ds = chest(study)
        study = ds.StudyInstanceUID
        ward.receive(ds, **changes)
        ward.classifier.answer = prediction
        ward.classify()
    ward.clock.forward(60)
    return study


def look(ward: Ward, begin: int = 0, size: int = 50, **wanted: object) -> Page:
    with ward.sessions() as session:
        return page(session, Wanted(**wanted), begin, size)  # type: ignore[arg-type]


def shown(ward: Ward, **wanted: object) -> list[str]:
    return [line.found.study.study_instance_uid for line in look(ward, **wanted).lines]


@pytest.mark.parametrize(
    ("predictions", "answer", "pneumonia", "unassessed"),
    [
        ([ABSENT, PRESENT, MAYBE], Answer.PRESENT, 0.9, 0),
        ([ABSENT, MAYBE], Answer.UNDETERMINED, 0.5, 0),
        ([ABSENT, ABSENT], Answer.ABSENT, 0.1, 0),
        ([ABSENT, NOT_ASSESSED], Answer.ABSENT, 0.1, 1),
        ([NOT_ASSESSED], Answer.NOT_ASSESSED, None, 1),
    ],
)
def test_the_most_alarming_image_speaks_for_its_study(
    ward: Ward, predictions: list[Prediction], answer: Answer, pneumonia: float, unassessed: int
) -> None:
    answered(ward, *predictions)
    (line,) = look(ward).lines
    assert (line.answer, line.pneumonia, line.unassessed) == (answer, pneumonia, unassessed)


def test_a_study_that_nothing_is_said_of_yet_is_never_shown_as_an_answer(ward: Ward) -> None:
    study = answered(ward, ABSENT)
    ward.receive(chest(study))
    (line,) = look(ward).lines
    assert line.answer is Answer.PENDING
    ward.receive(chest())
    assert {line.answer for line in look(ward).lines} == {Answer.PENDING}


def test_the_newest_come_first_or_the_most_urgent(ward: Ward) -> None:
    first = answered(ward, PRESENT)
    second = answered(ward, ABSENT)
    third = answered(ward, NOT_ASSESSED)
    fourth = answered(ward, MAYBE)
    assert shown(ward) == [fourth, third, second, first]
    assert shown(ward, order=Order.URGENT) == [first, fourth, second, third]


def test_filters_narrow(ward: Ward) -> None:
    one = answered(ward, PRESENT, accession_number="A1", patient_id="P1")
    noon = ward.clock()
    two = answered(ward, ABSENT, accession_number="A2", patient_id="P2")
    assert shown(ward, words="A1") == shown(ward, words="P1") == shown(ward, words=one) == [one]
    assert shown(ward, words=" A2 ") == [two]
    assert shown(ward, words="A") == []
    assert shown(ward, since=noon) == [two]
    assert shown(ward, until=noon) == [one]
    assert shown(ward, answer=Answer.PRESENT) == [one]
    assert shown(ward, state=StudyState.RECEIVING) == [two, one]
    assert shown(ward, state=StudyState.FAILED) == []


def test_an_answer_is_looked_for_as_it_is_told(ward: Ward) -> None:
    both = answered(ward, ABSENT, PRESENT)
    absent = answered(ward, ABSENT)
    nothing = answered(ward, NOT_ASSESSED)
    pending = chest()
    ward.receive(pending)
    assert shown(ward, answer=Answer.PRESENT) == [both]
    assert shown(ward, answer=Answer.ABSENT) == [absent]
    assert shown(ward, answer=Answer.NOT_ASSESSED) == [nothing]
    assert shown(ward, answer=Answer.PENDING) == [pending.StudyInstanceUID]


@pytest.mark.parametrize("order", Order)
def test_pages_follow_each_other_without_a_gap_or_a_double(ward: Ward, order: Order) -> None:
    studies = [answered(ward, PRESENT if n % 3 else ABSENT) for n in range(10)]
    for answer in (None, Answer.PRESENT):
        seen: list[str] = []
        at: int | None = 0
        while at is not None:
            got = look(ward, at, 3, order=order, answer=answer)
            seen += [line.found.study.study_instance_uid for line in got.lines]
            at = got.following
        expected = {uid for n, uid in enumerate(studies) if n % 3 or answer is None}
        assert len(seen) == len(set(seen))
        assert set(seen) == expected


def test_a_window_of_time_ends_before_its_end(ward: Ward) -> None:
    study = answered(ward, ABSENT)
    began = ward.clock() - timedelta(seconds=60)
    assert shown(ward, since=began) == [study]
    assert shown(ward, until=began) == []
