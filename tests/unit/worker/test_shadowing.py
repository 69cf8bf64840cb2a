"""Shadow mode: what a candidate says is kept apart, and whatever it does harms no answer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy.orm import Session, sessionmaker

from dicom_node.errors import ConfigurationError
from model.predict import Prediction
from tests.fakes import FakeClassifier, model_info
from tests.light_report import light_reports
from tests.ward import Ward
from worker import erasing, relay, shadowing
from worker.comparing import compare
from worker.ledger import candidates, model_events
from worker.ledger.candidates import SETTLED, Artifact
from worker.states import ModelAction
from worker.tables import Candidate, Instance, ModelEvent, ShadowFinding
from worker.trying import Trying

ABSENT = Prediction(0.1, None, None, "ABSENT")
TRIED = Artifact("fake-resnet", "2.0", "e" * 64, "m-2.0")
SETTLED_S = SETTLED.total_seconds() + 1


@dataclass
class Trial:
    """A ward with a candidate that says ABSENT where the model in use says PRESENT."""

    ward: Ward
    tried: FakeClassifier = field(
        default_factory=lambda: FakeClassifier(ABSENT, model_info("e" * 64, "2.0"))
    )
    loads: list[Path] = field(default_factory=list)
    failures: list[Exception] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.trying = Trying(Path("/models"), self._load)

    def _load(self, path: Path) -> Any:
        self.loads.append(path)
        if self.failures:
            raise self.failures.pop(0)
        return self.tried

    def begin(self) -> None:
        self.do(candidates.begin_trial, TRIED, self.ward.clock())

    def do(self, work: Any, *args: Any) -> Any:
        with self.ward.sessions() as session, session.begin():
            return work(session, *args)

    def answer(self, count: int = 1, **attributes: Any) -> str:
        """Have a study answered, long enough ago."""
        study = self.ward.receive_study(count, **attributes)
        self.ward.work(seconds=SETTLED_S + 5)
        self.ward.clock.forward(SETTLED_S)
        return study

    def look(self) -> int:
        return shadowing.shadow(self.ward.desk, self.trying, go_on_s=60)

    def said(self) -> list[tuple[str | None, str | None]]:
        """What the model in use and the candidate said of each image."""
        return [(row.live_finding, row.finding) for row in self.rows()]

    def rows(self) -> list[Any]:
        return list(self.ward.all(ShadowFinding))

    def row(self) -> Any:
        (row,) = self.ward.all(Candidate)
        return row

    def bells(self, waiting: int = 0) -> int:
        rung: list[bool] = []
        relay.announce_shadow(self.ward.desk, lambda: rung.append(True), lambda _: waiting)
        return len(rung)


@pytest.fixture
def trial(tmp_path: Path, sessions: sessionmaker[Session]) -> Iterator[Trial]:
    with light_reports():
        yield Trial(Ward(tmp_path, sessions))


def test_without_a_candidate_there_is_nothing_to_do(trial: Trial) -> None:
    trial.answer()
    assert (trial.bells(), trial.look(), trial.rows(), trial.loads) == (0, 0, [], [])


def test_a_candidate_says_what_it_thinks_to_nobody(trial: Trial) -> None:
    trial.begin()
    trial.answer(3)
    before = trial.ward.records()
    findings = [(row.id, row.finding) for row in trial.ward.findings()]
    assert trial.bells() == 1
    assert trial.look() == 3
    assert trial.said() == [("PRESENT", "ABSENT")] * 3
    assert trial.ward.records() == before
    assert [(row.id, row.finding) for row in trial.ward.findings()] == findings
    assert trial.ward.states() == ["DELIVERED"]
    assert (trial.bells(), trial.look()) == (0, 0)


def test_what_was_answered_before_the_trial_is_left(trial: Trial) -> None:
    trial.answer()
    trial.begin()
    assert (trial.bells(), trial.look()) == (0, 0)
    trial.answer()
    assert trial.look() == 1
    assert len(trial.rows()) == 1


def test_an_answer_that_is_young_waits_as_an_earlier_one_may_not_be_committed_yet(
    trial: Trial,
) -> None:
    trial.begin()
    trial.ward.receive_study()
    trial.ward.classify()
    assert (trial.bells(), trial.look()) == (0, 0)
    trial.ward.clock.forward(SETTLED_S)
    assert trial.look() == 1


def test_what_is_to_be_classified_goes_before_the_candidate(trial: Trial) -> None:
    trial.begin()
    trial.answer()
    trial.ward.receive_study()
    assert (trial.bells(), trial.look()) == (0, 0)
    trial.ward.classify()
    assert trial.bells(waiting=1) == 0, "a message waits for the workers already"
    assert (trial.bells(), trial.look()) == (1, 1)


def test_an_image_that_comes_meanwhile_waits_for_a_few_others_at_most(trial: Trial) -> None:
    trial.begin()
    trial.answer(shadowing.AT_ONCE + 2)
    trial.tried.during = trial.ward.receive_study
    assert trial.look() == shadowing.AT_ONCE
    assert trial.tried.batches == [shadowing.AT_ONCE]


def test_a_study_that_is_done_again_is_not_looked_at_twice(trial: Trial) -> None:
    trial.begin()
    study = trial.answer()
    trial.look()
    trial.ward.requeue(study)
    trial.ward.work(seconds=60)
    trial.ward.clock.forward(SETTLED_S)
    trial.look()  # at nothing, where SQLite gives the id of the finding that was replaced again
    assert len(trial.rows()) == 1
    assert trial.bells() == 0


def test_what_its_header_refuses_is_refused_by_both(trial: Trial) -> None:
    trial.begin()
    trial.answer(BodyPartExamined="HAND")
    trial.look()
    assert trial.said() == [(None, None)]
    (row,) = trial.rows()
    assert row.reason == row.live_reason is not None
    assert trial.tried.batches == []


# --- what a candidate may do -----------------------------------------------------------------


def test_a_candidate_that_raises_for_every_image_harms_nothing(trial: Trial) -> None:
    def fail(_: np.ndarray) -> Prediction:
        raise ValueError("no idea")

    trial.tried.answer = fail
    trial.begin()
    trial.answer(3)
    assert trial.look() == 3
    assert [row.reason for row in trial.rows()] == ["MODEL_FAILURE"] * 3
    assert trial.ward.states() == ["DELIVERED"]
    assert trial.ward.jobs() == []


def test_one_image_that_it_fails_on_takes_no_other_with_it(trial: Trial) -> None:
    trial.tried.failures = [ValueError("a batch"), ValueError("its first image")]
    trial.begin()
    trial.answer(3)
    trial.look()
    assert [row.finding for row in trial.rows()] == [None, "ABSENT", "ABSENT"]


@pytest.mark.parametrize(
    "answer",
    [
        Prediction(float("nan"), None, None, "ABSENT"),
        Prediction(1.5, None, None, "PRESENT"),
        Prediction(0.5, None, None, None),
        Prediction(0.5, None, None, "a word that is longer than the column"),
    ],
    ids=["no number", "no score", "no finding", "no word"],
)
def test_an_answer_that_is_none_is_a_failure(trial: Trial, answer: Prediction) -> None:
    trial.tried.answer = answer
    trial.begin()
    trial.answer()
    assert trial.look() == 1
    (row,) = trial.rows()
    assert row.finding != "ABSENT"
    assert row.pneumonia is None or 0 <= row.pneumonia <= 1


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ConfigurationError("CXR_MODEL", "is damaged"), "is damaged"),
        (MemoryError(), "no memory"),
        (RuntimeError("of the engine"), "RuntimeError"),
    ],
)
def test_a_candidate_that_cannot_be_loaded_is_tried_again_later_and_says_why(
    trial: Trial, error: Exception, told: str
) -> None:
    trial.failures = [error]
    trial.begin()
    trial.answer()
    assert trial.look() == 0
    assert told in trial.row().last_error
    assert (trial.bells(), trial.look()) == (0, 0)
    trial.ward.clock.forward(shadowing.PUT_OFF.total_seconds())
    assert trial.look() == 1
    assert (trial.row().last_error, trial.row().deaths) == (None, 0)


def test_a_candidate_that_is_not_what_it_was_is_not_tried(trial: Trial) -> None:
    trial.tried.info = model_info("f" * 64)
    trial.begin()
    trial.answer()
    assert trial.look() == 0
    assert "is not what it was" in trial.row().last_error


def test_a_candidate_is_loaded_once(trial: Trial) -> None:
    trial.begin()
    for _ in range(2):
        trial.answer()
        assert trial.look() == 1
    assert trial.loads == [Path("/models/m-2.0")]


def test_a_candidate_that_ends_its_worker_twice_is_stopped(trial: Trial) -> None:
    class Killed(BaseException):
        pass

    def end() -> None:
        raise Killed

    trial.tried.during = end
    trial.begin()
    trial.answer()
    for deaths in range(shadowing.MOST_DEATHS):
        assert trial.row().deaths == max(0, deaths - 1)
        with pytest.raises(Killed):
            trial.look()
        assert trial.look() == 0, "another worker does not get it while its lease lasts"
        trial.ward.clock.forward(shadowing.LEASE.total_seconds())
    assert trial.look() == 0
    assert trial.row().until is not None
    (event,) = trial.ward.all(ModelEvent)
    assert (event.action, event.person, event.digest) == ("STOPPED", "cxr-worker", TRIED.digest)
    assert trial.bells() == 0
    assert trial.ward.states() == ["DELIVERED"]


def test_what_is_said_once_the_trial_is_over_is_not_kept(trial: Trial) -> None:
    trial.begin()
    trial.answer()
    trial.tried.during = lambda: trial.do(candidates.end_trial, trial.ward.clock())
    assert trial.look() == 0
    assert trial.rows() == []


def test_an_archive_that_is_away_is_waited_for(trial: Trial) -> None:
    trial.begin()
    trial.answer()
    root = trial.ward.archive.root
    away = root.with_name("away")
    root.rename(away)
    assert trial.look() == 0
    assert trial.row().last_error
    away.rename(root)
    trial.ward.clock.forward(shadowing.PUT_OFF.total_seconds())
    assert trial.look() == 1
    assert trial.said() == [("PRESENT", "ABSENT")]


def test_an_image_that_is_gone_is_passed_over(trial: Trial) -> None:
    trial.begin()
    trial.answer(2)
    first = next(iter(trial.ward.all(Instance)))
    trial.ward.archive.absolute(first.path).unlink()
    assert trial.look() == 2
    assert len(trial.rows()) == 1


def test_a_study_that_is_erased_meanwhile_leaves_nothing(trial: Trial) -> None:
    def erase() -> None:
        (found,) = erasing.find(trial.ward.desk, study=study)
        list(
            erasing.erase(
                trial.ward.desk, [found], "who", "why", trial.ward.write_down, even_if_owed=True
            )
        )

    trial.begin()
    study = trial.answer(2)
    trial.tried.during = erase
    assert trial.look() == 2
    assert trial.rows() == []


def test_erasing_a_study_takes_what_a_candidate_said_of_it(trial: Trial) -> None:
    trial.begin()
    study, other = trial.answer(), trial.answer()
    trial.look()
    assert len(trial.rows()) == 2
    found = erasing.find(trial.ward.desk, study=study)
    list(
        erasing.erase(
            trial.ward.desk, found, "who", "why", trial.ward.write_down, even_if_owed=False
        )
    )
    assert len(trial.rows()) == 1
    assert other in [record["study_instance_uid"] for record in trial.ward.records()]


# --- trials ----------------------------------------------------------------------------------


def test_a_new_candidate_takes_the_place_of_the_one_before(trial: Trial) -> None:
    other = Artifact("fake-resnet", "3.0", "f" * 64, "m-3.0")
    trial.begin()
    trial.do(candidates.begin_trial, other, trial.ward.clock())
    with trial.ward.sessions() as session:
        tried = candidates.candidate(session)
        assert tried is not None
        assert candidates.artifact_of(tried) == other
    trial.ward.clock.forward(1)
    trial.begin()  # and the first one again
    assert [row.until is None for row in trial.ward.all(Candidate)] == [True, False]
    trial.answer()
    assert trial.look() == 1
    with trial.ward.sessions() as session:
        found = compare(session)
    assert found is not None
    assert (found.model, found.count) == (TRIED, 1)


def test_the_last_change_is_the_one_to_go_back_from(trial: Trial) -> None:
    for action in (ModelAction.PROMOTED, ModelAction.SHADOWED, ModelAction.WITHDRAWN):
        trial.do(model_events.save_event, action, TRIED, "who", trial.ward.clock())
    with trial.ward.sessions() as session:
        last = model_events.last_change(session)
    assert last is not None
    assert last.action == "PROMOTED"
