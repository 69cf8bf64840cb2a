"""Classification: one bad instance never harms its batch, and no instance stays without answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import event
from sqlalchemy.orm import Session, sessionmaker

from dicom_node.decoder_child import DecoderAway
from model.predict import Prediction
from tests import datasets
from tests.fakes import PRESENT
from tests.ward import Killed, Ward, chest
from worker import ledger, preparing
from worker.desk import Bell
from worker.states import JobKind


@pytest.fixture
def ward(tmp_path: Path, sqlite_sessions: sessionmaker[Session]) -> Ward:
    return Ward(tmp_path, sqlite_sessions, CXR_MAX_ATTEMPTS="3", CXR_BATCH_SIZE="4")


def bright(image: np.ndarray) -> bool:
    """The image that stands for the one that fails."""
    return bool(image.min() == image.max())


FLAT = np.full((8, 8), 7, np.uint16)


def test_nothing_due_is_nothing_done(ward: Ward) -> None:
    assert ward.classify() == 0
    assert ward.bells.rung == []
    assert ward.classifier.batches == []


def test_a_batch_is_answered_in_one_call_of_the_model(ward: Ward) -> None:
    ward.receive_study(3)
    assert ward.classify() == 3
    assert ward.classifier.batches == [3]
    assert [row.pneumonia for row in ward.findings()] == [0.9] * 3


def test_each_instance_gets_its_own_answer(ward: Ward) -> None:
    ward.classifier.answer = lambda image: Prediction(float(image[0, 0]), finding="ABSENT")
    levels = [0, 16384, 65535]
    for level in levels:
        pixels = np.array([[level, 0], [0, 65535]], np.uint16)
        ward.receive(chest(pixels=pixels, WindowCenter="32768", WindowWidth="65536"))
    ward.classify()
    assert [row.pneumonia for row in ward.findings()] == pytest.approx(
        [level / 65535 for level in levels], abs=1e-3
    )


def test_another_batch_is_announced_before_this_one_is_worked_on(ward: Ward) -> None:
    ward.receive_study(5)
    seen: list[list[Bell]] = []
    ward.bells.rung.clear()
    ward.classifier.during = lambda: seen.append(list(ward.bells.rung))
    assert ward.classify() == 4
    assert seen == [[Bell(JobKind.CLASSIFY)]]


def test_a_report_is_announced_when_the_last_instance_is_classified_and_all_is_quiet(
    ward: Ward,
) -> None:
    ward.receive_study(5)
    ward.clock.forward(2)
    ward.bells.rung.clear()
    ward.classify()
    assert ward.bells.rung == [Bell(JobKind.CLASSIFY)]
    ward.bells.rung.clear()
    ward.classify()
    assert ward.bells.rung == [Bell(JobKind.REPORT)]


def test_no_report_is_announced_while_the_study_is_not_quiet(ward: Ward) -> None:
    ward.receive_study()
    ward.bells.rung.clear()
    ward.classify()
    assert ward.bells.rung == []


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"PixelData": None}, "NO_PIXELS"),
        ({"PixelData": b"\0\0"}, "UNDECODABLE"),
        ({"PhotometricInterpretation": "NONSENSE"}, "UNSUPPORTED_PHOTOMETRIC"),
        ({"ViewPosition": "LL"}, "NOT_FRONTAL"),
        ({"BodyPartExamined": "HAND"}, "NOT_CHEST"),
        ({"PatientAge": "045Y"}, "OUTSIDE_POPULATION"),
    ],
)
def test_a_bad_instance_is_not_assessed_and_its_batch_mates_are(
    ward: Ward, attributes: dict[str, object], reason: str
) -> None:
    ward.receive(chest())
    ward.receive(chest(**attributes))
    ward.receive(chest())
    assert ward.classify() == 3
    assert ward.reasons() == [None, reason, None]
    assert ward.classifier.batches == [2]
    assert {job.kind for job in ward.jobs()} == {JobKind.REPORT}


@pytest.mark.parametrize("kept", [400, 700, -40])
def test_a_data_set_that_breaks_off_is_not_assessed_at_once(ward: Ward, kept: int) -> None:
    whole = datasets.part10(chest())
    ward.receive(whole)
    (instance,) = ward.records()[0]["instances"]
    path = next(ward.archive.root.rglob(f"{instance['sop_instance_uid']}*"))
    path.write_bytes(whole[:kept])
    ward.receive(chest())
    assert ward.classify() == 2
    assert ward.reasons() in (["UNDECODABLE", None], ["NO_PIXELS", None])


def test_the_models_own_refusal_is_kept_as_the_reason(ward: Ward) -> None:
    ward.classifier.answer = Prediction(reason="NOT_CHEST")
    ward.receive_study()
    ward.classify()
    assert ward.reasons() == ["NOT_CHEST"]


def test_flags_of_header_and_pixels_are_kept_once_each(ward: Ward) -> None:
    ward.classifier.answer = Prediction(
        0.1, finding="ABSENT", flags=("AGE_UNKNOWN", "OUTSIDE_POPULATION")
    )
    ward.receive(chest(PatientAge=None, PatientBirthDate=""))
    ward.classify()
    assert ward.findings()[0].flags == ["AGE_UNKNOWN", "OUTSIDE_POPULATION"]


def test_the_population_setting_reaches_header_and_model(
    tmp_path: Path, sqlite_sessions: sessionmaker[Session]
) -> None:
    ward = Ward(tmp_path, sqlite_sessions, CXR_POPULATION="flag")
    ward.receive(chest(PatientAge="045Y"))
    ward.classify()
    assert ward.findings()[0].flags == ["OUTSIDE_POPULATION"]
    assert ward.classifier.populations == ["flag"]


def test_a_failing_model_is_tried_again_and_given_up_with_a_reason(ward: Ward) -> None:
    ward.receive_study(2)
    ward.classifier.failures = [RuntimeError()] * 99
    ward.classify()
    assert [job.last_error for job in ward.jobs() if job.kind == "CLASSIFY"] == ["RuntimeError"] * 2
    assert ward.classify() == 0  # not before the back-off ends
    ward.work(seconds=30)
    assert ward.reasons() == ["MODEL_FAILURE", "MODEL_FAILURE"]
    assert ward.classifier.batches == [2, 1, 1, 1, 1]  # suspects are tried alone


def test_a_study_that_could_not_be_assessed_still_gets_its_report(ward: Ward) -> None:
    ward.receive_study()
    ward.classifier.failures = [RuntimeError("no memory")] * 3
    ward.work(seconds=30)
    assert ward.states() == ["DELIVERED"]
    assert len(ward.send.sent) == 1


def test_a_poisonous_instance_is_isolated_and_the_others_are_answered(ward: Ward) -> None:
    def answer(image: np.ndarray) -> Prediction:
        if bright(image):
            raise ValueError("poison")
        return PRESENT

    ward.classifier.answer = answer
    ward.receive(chest())
    ward.receive(chest(pixels=FLAT))
    ward.receive(chest())
    ward.work(seconds=30)
    assert ward.reasons() == [None, "MODEL_FAILURE", None]
    assert ward.states() == ["DELIVERED"] * 3


def test_an_instance_that_kills_its_worker_twice_is_isolated_and_its_batch_mates_are_answered(
    ward: Ward,
) -> None:
    """A crash of the decoder or the model takes the process with it: only the leases tell."""

    def answer(image: np.ndarray) -> Prediction:
        if bright(image):
            raise Killed
        return PRESENT

    ward.classifier.answer = answer
    ward.receive(chest())
    ward.receive(chest(pixels=FLAT))
    ward.receive(chest())
    deaths = 0
    while ward.states() != ["DELIVERED"] * 3:
        try:
            ward.work(seconds=10)
        except Killed:
            deaths += 1
            ward.clock.forward(ward.settings.lease_s)
    assert deaths == 2
    assert ward.reasons() == [None, "WORKER_FAILURE", None]


def test_tries_that_failed_without_a_death_are_not_taken_for_deaths(ward: Ward) -> None:
    ward.receive_study()
    ward.classifier.failures = [RuntimeError("busy")] * 2
    ward.work(seconds=30)
    assert ward.reasons() == [None]


def test_without_memory_for_the_model_an_instance_waits_as_long_as_it_takes(ward: Ward) -> None:
    ward.receive_study(3)
    ward.classifier.failures = [MemoryError()] * 20
    ward.work(seconds=200)
    assert ward.reasons() == [None] * 3


def test_a_slow_worker_that_lost_its_lease_writes_nothing(ward: Ward) -> None:
    ward.receive_study()
    other = Ward.classify
    fast = type(ward.classifier)(answer=Prediction(0.2, finding="ABSENT"))
    slow = ward.classifier

    def taken_over() -> None:
        slow.during = lambda: None
        ward.clock.forward(ward.settings.lease_s + 1)
        ward.classifier = fast
        assert other(ward) == 1

    slow.during = taken_over
    ward.classify()
    assert [row.pneumonia for row in ward.findings()] == [0.2]


def test_killed_at_any_moment_each_instance_is_answered_once(ward: Ward) -> None:
    killed = 0
    while True:
        ward.receive_study(2)
        with ward.killed_at(killed) as happened:
            ward.classify()
        ward.work(seconds=ward.settings.lease_s + 5)
        if not happened[0]:
            break
        killed += 1
    assert killed >= 4
    assert len(ward.findings()) == 2 * (killed + 1)
    assert set(ward.reasons()) == {None}
    assert ward.states() == ["DELIVERED"] * (killed + 1)


@pytest.mark.parametrize("lack", [MemoryError(), DecoderAway("killed"), OSError(12, "no memory")])
def test_what_this_machine_lacks_for_some_minutes_is_no_failure_of_the_image(
    ward: Ward, monkeypatch: pytest.MonkeyPatch, lack: Exception
) -> None:
    left = 12
    pixels_of = preparing.pixels_of

    def lacking(*words: Any) -> Any:
        nonlocal left
        left -= 1
        if left >= 0:
            raise lack
        return pixels_of(*words)

    monkeypatch.setattr(preparing, "pixels_of", lacking)
    ward.receive_study()
    ward.work(seconds=3600)
    assert ward.reasons() == [None]


def test_an_answer_that_no_database_takes_is_a_failure_of_the_model(ward: Ward) -> None:
    """A probability is wanted of what is assessed: this one has none."""
    senseless = Prediction(finding="PRESENT")
    ward.classifier.answer = lambda image: senseless if bright(image) else PRESENT
    ward.receive(chest())
    ward.receive(chest(pixels=FLAT))
    ward.receive(chest())
    ward.work(seconds=60)
    assert ward.reasons() == [None, "MODEL_FAILURE", None]


def test_the_answers_of_a_batch_are_saved_in_one_transaction(ward: Ward) -> None:
    commits: list[object] = []
    ward.receive_study(4)
    event.listen(ward.sessions.kw["bind"], "commit", commits.append)
    ward.classify()
    # The claim, the model and the findings.
    assert len(commits) == 3


def test_of_a_batch_what_was_taken_over_is_not_saved_and_the_rest_is(ward: Ward) -> None:
    ward.receive_study(3)
    first = ward.jobs()[0]

    def owed_anew() -> None:
        with ward.sessions() as session, session.begin():
            ledger.owe(session, JobKind.CLASSIFY, first.subject_id, first.study_id, ward.clock())

    ward.classifier.during = owed_anew
    ward.classify()
    assert len(ward.findings()) == 2
    ward.classifier.during = lambda: None
    ward.work()
    assert ward.reasons() == [None] * 3
