"""The drift of a population: what is measured, what it is called, and when nothing is said."""

from __future__ import annotations

import random
from datetime import timedelta

import pytest

from tests.ledgers import Desk
from worker import drift
from worker.drift import (
    FEWEST,
    Change,
    Drift,
    Report,
    Window,
    against_training,
    kolmogorov_smirnov,
    likelihood,
    over_time,
)
from worker.ledger import NewFinding

WEEK = timedelta(days=7)


def answer(desk: Desk, scores: list[float], sender: str = "MODALITY") -> Window:
    """Have images of a week answered; give the week, which is over then."""
    model, begin = desk.model(), desk.clock()
    for score in scores:
        desk.receive(calling_ae_title=sender)
        if score < 0:
            new = NewFinding(assessed=False, reason="NOT_CHEST")
        else:
            finding = "PRESENT" if score > 0.5 else "ABSENT"
            new = NewFinding(assessed=True, finding=finding, pneumonia=score)
        desk.classify(new, model)
    desk.clock.forward(WEEK.total_seconds())
    return Window(begin, desk.clock())


def drawn(seed: int, count: int, shape: tuple[float, float]) -> list[float]:
    source = random.Random(seed)
    return [source.betavariate(*shape) for _ in range(count)]


def found(report: Report) -> dict[str, Drift]:
    return {each.what: each for each in report.drifts}


def test_where_nothing_has_changed_little_is_said_to(desk: Desk) -> None:
    before = answer(desk, drawn(1, 150, (2, 3)))
    now = answer(desk, drawn(2, 150, (2, 3)))
    report = desk.do(over_time, desk.model(), now, before)
    assert (report.before, report.now, report.too_few) == (150, 150, False)
    assert {each.change for each in report.drifts} == {Change.LITTLE}
    assert not found(report)["score"].is_unlikely


def test_other_scores_another_sender_and_other_images_are_found(desk: Desk) -> None:
    before = answer(desk, drawn(1, 150, (2, 5)))
    now = answer(desk, [*drawn(2, 110, (5, 2)), *[-1.0] * 40], sender="NEWROOM")
    drifts = found(desk.do(over_time, desk.model(), now, before))
    for what in ("score", "answer", "reason for not assessed", "sender"):
        assert drifts[what].change is Change.MUCH, what
    assert drifts["score"].is_unlikely
    assert drifts["modality"].change is Change.LITTLE
    moved = {each.value: (each.before, each.now) for each in drifts["sender"].shifts}
    assert moved["NEWROOM"] == pytest.approx((0, 1), abs=0.01)


def test_too_few_images_say_nothing(desk: Desk) -> None:
    before = answer(desk, [0.5] * FEWEST)
    now = answer(desk, [0.5] * (FEWEST - 1))
    report = desk.do(over_time, desk.model(), now, before)
    assert report.too_few
    assert (report.now, report.drifts) == (FEWEST - 1, ())


def test_scores_that_are_all_alike_can_be_compared(desk: Desk) -> None:
    before, now = answer(desk, [0.5] * FEWEST), answer(desk, [0.5] * FEWEST)
    score = found(desk.do(over_time, desk.model(), now, before))["score"]
    assert (score.psi, score.ks, score.p) == (0, 0, 1)


def test_of_more_images_than_are_compared_the_newest_are(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = answer(desk, [0.5] * FEWEST)
    now = answer(desk, [0.5] * (FEWEST + 1))
    monkeypatch.setattr(drift, "MOST", FEWEST)
    report = desk.do(over_time, desk.model(), now, before)
    assert (report.now, report.is_cut) == (FEWEST, True)
    assert not desk.do(over_time, desk.model(), before, before).is_cut


def test_answers_of_another_model_are_not_counted(desk: Desk) -> None:
    window = answer(desk, [0.5] * 3)
    other = desk.model("e" * 64)
    assert desk.do(over_time, other, window, window).now == 0


def test_scores_are_compared_with_those_that_the_model_was_measured_on(desk: Desk) -> None:
    bins = [{"predicted": n / 10 + 0.05, "count": 20} for n in range(10)]
    metrics = {"validation": {"calibration": bins}}
    alike = answer(desk, [n % 10 / 10 + 0.02 for n in range(200)])
    (score,) = desk.do(against_training, desk.model(), alike, metrics).drifts
    assert score.change is Change.LITTLE
    assert score.ks is None
    other = answer(desk, [0.95] * 150)
    (score,) = desk.do(against_training, desk.model(), other, metrics).drifts
    assert score.change is Change.MUCH
    assert desk.do(against_training, desk.model(), other, {}).too_few


def test_the_statistics_are_those_of_the_books() -> None:
    assert kolmogorov_smirnov([1, 2, 3, 4], [3, 4, 5, 6]) == 0.5
    assert kolmogorov_smirnov([1, 1, 2], [1, 1, 2]) == 0
    assert kolmogorov_smirnov([1, 2], [3, 4]) == 1
    # Critical values of the two-sided statistic, as tables have them for large samples.
    for p, factor in ((0.10, 1.224), (0.05, 1.358), (0.01, 1.628)):
        size = 10_000
        ks = factor * (2 / size) ** 0.5
        assert likelihood(ks, size, size) == pytest.approx(p, rel=0.03)
    assert likelihood(0, 100, 100) == 1
