"""Curves against values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from model import curves
from model.metrics import auc

TRUTH = np.array([False, True, False, True])
SCORE = np.array([0.1, 0.4, 0.6, 0.9])


def test_every_score_is_a_point_of_the_roc_curve():
    rows = curves.roc(TRUTH, SCORE)
    assert [r["threshold"] for r in rows] == [0.9, 0.6, 0.4, 0.1]
    assert [r["sensitivity"] for r in rows] == [0.5, 0.5, 1, 1]
    assert [r["false_positive_rate"] for r in rows] == [0, 0.5, 0.5, 1]


def test_the_area_under_the_drawn_curve_is_the_area_that_is_told():
    generator = np.random.default_rng(0)
    truth = generator.random(300) < 0.4
    score = np.round(generator.random(300) + 0.3 * truth, 1)  # with ties
    rows = curves.roc(truth, score)
    x = [0.0, *(r["false_positive_rate"] for r in rows)]
    y = [0.0, *(r["sensitivity"] for r in rows)]
    assert np.trapezoid(y, x) == pytest.approx(auc(truth, score))


def test_precision_is_of_those_called_ill():
    assert [r["ppv"] for r in curves.precision_recall(TRUTH, SCORE)] == [1, 0.5, 2 / 3, 0.5]
    assert curves.average_precision(TRUTH, SCORE) == pytest.approx(0.5 + 0.5 * 2 / 3)


def test_the_net_benefit_weighs_the_treated_in_vain():
    row = next(r for r in curves.decision(TRUTH, SCORE) if r["probability"] == 0.5)
    assert row["model"] == pytest.approx((1 - 1) / 4)
    assert row["everyone"] == pytest.approx((2 - 2) / 4)


def test_a_perfect_forecast_has_the_prevalence_as_net_benefit_throughout():
    assert {r["model"] for r in curves.decision(TRUTH, TRUTH.astype(float))} == {0.5}
