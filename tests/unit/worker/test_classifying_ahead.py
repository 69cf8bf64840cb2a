"""While one batch is answered the next one is prepared, and neither is harmed by the other."""

from __future__ import annotations

import itertools
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy.orm import Session, sessionmaker

from model.predict import Prediction
from tests import ledgers, reckoning
from tests.crashes import killed_at
from tests.e2e.programs import wait_until
from tests.fakes import PRESENT, AtOnce
from tests.ward import Killed, Ward, chest
from worker import classifying, ledger
from worker.desk import Bell
from worker.states import JobKind

FLAT = np.full((8, 8), 7, np.uint16)


@pytest.fixture
def ward(tmp_path: Path, sqlite_sessions: sessionmaker[Session]) -> Ward:
    ward = Ward(tmp_path, sqlite_sessions, CXR_MAX_ATTEMPTS="3", CXR_BATCH_SIZE="2")
    ward.classify = ward.classify_all  # type: ignore[method-assign]
    return ward


def leased(ward: Ward) -> list[int]:
    """How often each instance that is in hand was taken, this time included."""
    return [job.attempts for job in ward.jobs() if (job.kind, job.state) == ("CLASSIFY", "LEASED")]


def test_all_that_is_due_is_classified(ward: Ward) -> None:
    ward.receive_study(5)
    assert ward.classify() == 5
    assert ward.classifier.batches == [2, 2, 1]
    assert ward.reasons() == [None] * 5


def test_the_next_batch_is_prepared_while_the_network_answers(ward: Ward) -> None:
    ward.receive_study(4)
    prepared: list[str] = []
    prepare = ward.classifier.prepare

    def noted(image: np.ndarray) -> np.ndarray:
        prepared.append(threading.current_thread().name)
        return prepare(image)

    ward.classifier.prepare = noted  # type: ignore[method-assign]
    ward.classifier.during = lambda: wait_until(lambda: len(prepared) == 4, 30, "the next batch")
    assert classifying.classify(ward.desk, ward.classifier, ward.bells) == 4
    assert [name.startswith("next batch") for name in prepared] == [False, False, True, True]


def test_one_batch_at_most_is_in_hand_besides_the_one_that_is_answered(ward: Ward) -> None:
    ward.receive_study(8)
    seen: list[int] = []
    ward.classifier.during = lambda: seen.append(len(leased(ward)))
    ward.classify()
    assert seen == [4, 4, 4, 2]


def test_a_batch_that_was_all_there_is_is_not_kept_waiting(ward: Ward) -> None:
    class Nobody(AtOnce):
        def submit(self, *_: object) -> None:  # type: ignore[override]
            raise AssertionError

    ward.receive_study(1)
    assert classifying.classify(ward.desk, ward.classifier, ward.bells, helper=Nobody()) == 1


def test_other_workers_are_called_when_there_may_be_more(ward: Ward) -> None:
    ward.receive_study(5)
    ward.bells.rung.clear()
    seen: list[list[Bell]] = []
    ward.classifier.during = lambda: seen.append(list(ward.bells.rung))
    ward.classify()
    assert seen == [[Bell(JobKind.CLASSIFY)]] * 3


def test_a_worker_whose_time_is_over_leaves_the_rest_to_another_call(ward: Ward) -> None:
    ward.receive_study(5)
    ward.bells.rung.clear()
    assert classifying.classify(ward.desk, ward.classifier, ward.bells, go_on_s=-1) == 2
    assert ward.bells.rung == [Bell(JobKind.CLASSIFY)]
    assert leased(ward) == []


def test_what_failed_before_is_in_hand_alone(ward: Ward) -> None:
    ward.receive_study(2)
    ward.classifier.failures = [RuntimeError()]
    ward.classify()
    ward.receive_study(2)
    ward.clock.forward(5)  # beyond the back-off: the suspects come next
    ward.receive_study(4)
    seen: list[list[int]] = []
    ward.classifier.during = lambda: seen.append(leased(ward))
    ward.classify()
    assert ward.reasons() == [None] * 8
    assert seen.count([2]) == 2
    assert [1, 1, 1, 1] in seen
    assert all(set(each) == {1} for each in seen if each != [2])


def test_what_is_to_be_tried_alone_is_not_touched_while_another_is_in_hand(ward: Ward) -> None:
    ward.receive_study(1)
    ward.classifier.failures = [RuntimeError()]
    ward.classify()
    (suspect,) = (job for job in ward.jobs() if job.kind == JobKind.CLASSIFY)
    ward.clock.forward(5)
    assert classifying.claim_instances(ward.desk, fresh=True) == []
    (same,) = (job for job in ward.jobs() if job.kind == JobKind.CLASSIFY)
    assert (same.state, same.attempts, same.token) == ("DUE", suspect.attempts, suspect.token)


@pytest.mark.parametrize("place", range(6))
def test_an_instance_that_kills_its_worker_twice_is_isolated_wherever_it_is(
    ward: Ward, place: int
) -> None:
    """Two batches are in hand when it kills, and both are taken over one by one."""

    def answer(image: np.ndarray) -> Prediction:
        if image.min() == image.max():
            raise Killed
        return PRESENT

    ward.classifier.answer = answer
    for number in range(6):
        ward.receive(chest(**{"pixels": FLAT} if number == place else {}))
    deaths = 0
    while ward.states() != ["DELIVERED"] * 6:
        try:
            ward.work(seconds=10)
        except Killed:
            deaths += 1
            ward.clock.forward(ward.settings.lease_s)
    assert deaths == 2
    assert ward.reasons() == ["WORKER_FAILURE" if n == place else None for n in range(6)]


def test_killed_at_any_moment_each_instance_is_answered_once(ward: Ward) -> None:
    for killed in itertools.count():
        ward.receive_study(4)
        with killed_at(ward, killed) as moments:
            ward.classify()
        assert threads_that_hold() == [], f"after {moments.where}"
        reckoning.nothing_is_leased_forever(ward)
        ward.clock.forward(ward.settings.lease_s + 5)
        while ward.classify():
            pass
        assert ward.reasons() == [None] * 4, f"after {moments.where}"
        ledgers.empty(ward.sessions)
        if moments.where is None:
            break
    assert killed > 25


def threads_that_hold() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name == "lease"]


def test_a_batch_that_fails_harms_not_the_next_one(
    ward: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = ledger.model_row
    failures = [KeyError("surprise")]

    def fail_once(*words: object, **named: object) -> int:
        if failures:
            raise failures.pop()
        return row(*words, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(ledger, "model_row", fail_once)
    ward.receive_study(4)
    with pytest.raises(KeyError):
        ward.classify()
    assert [finding.instance_id for finding in ward.findings()] == [3, 4]
    assert leased(ward) == []
    ward.work(seconds=30)
    assert ward.reasons() == [None] * 4


def test_a_next_batch_that_cannot_be_claimed_harms_not_this_one(ward: Ward) -> None:
    ward.receive_study(4)

    class Failing(AtOnce):
        def submit(self, *_: object, **__: object) -> object:  # type: ignore[override]
            def fail() -> None:
                raise KeyError("surprise")

            return super().submit(fail)

    with pytest.raises(KeyError):
        classifying.classify(ward.desk, ward.classifier, ward.bells, helper=Failing())
    assert [finding.instance_id for finding in ward.findings()] == [1, 2]


def test_instances_are_prepared_at_once_and_answered_in_their_order(
    tmp_path: Path, sqlite_sessions: sessionmaker[Session]
) -> None:
    ward = Ward(tmp_path, sqlite_sessions)
    ward.desk = replace(ward.desk, preparing=4)
    together = threading.Barrier(4)
    prepare = ward.classifier.prepare

    def meet(image: np.ndarray) -> np.ndarray:
        together.wait(30)
        return prepare(image)

    ward.classifier.prepare = meet  # type: ignore[method-assign]
    ward.classifier.answer = lambda image: Prediction(float(image[0, 0]), finding="ABSENT")
    levels = [0, 16384, 32768, 65535]
    for level in levels:
        pixels = np.array([[level, 0], [0, 65535]], np.uint16)
        ward.receive(chest(pixels=pixels, WindowCenter="32768", WindowWidth="65536"))
    ward.classify()
    assert [row.pneumonia for row in ward.findings()] == pytest.approx(
        [level / 65535 for level in levels], abs=1e-3
    )
