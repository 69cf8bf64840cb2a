"""Figures against values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from model import metrics
from model.calibration import OperatingPoint, choose_operating_point, fit_temperature, softmax

TRUTH = np.array([False, False, True, True])


@pytest.mark.parametrize(
    ("score", "area"),
    [((1, 2, 3, 4), 1.0), ((4, 3, 2, 1), 0.0), ((1, 1, 1, 1), 0.5), ((1, 3, 2, 4), 0.75)],
)
def test_the_area_is_the_share_of_pairs_in_order(score, area):
    assert metrics.auc(TRUTH, np.array(score, float)) == area


def test_the_area_of_one_class_is_not_a_number():
    assert np.isnan(metrics.auc(np.array([True]), np.array([0.5])))


def test_resampling_whole_patients_widens_the_interval():
    generator = np.random.default_rng(0)
    truth = np.repeat(generator.random(40) < 0.5, 10)
    score = np.repeat(generator.random(40), 10) + 0.3 * truth
    apart = metrics.bootstrap_interval(metrics.auc, truth, score, [str(i) for i in range(400)])
    grouped = metrics.bootstrap_interval(
        metrics.auc, truth, score, [str(i // 10) for i in range(400)]
    )
    assert grouped[1] - grouped[0] > 2 * (apart[1] - apart[0])


def test_rates_follow_from_the_counts():
    counts = metrics.confusion(TRUTH, np.array([True, False, True, True]))
    rates = metrics.rates(counts)
    assert counts == {
        "true_positive": 2,
        "false_positive": 1,
        "false_negative": 0,
        "true_negative": 1,
    }
    assert rates["sensitivity"] == 1
    assert rates["specificity"] == 0.5
    assert rates["accuracy"] == 0.75


def test_a_perfectly_calibrated_forecast_has_no_error():
    truth = np.arange(100) % 10 < 7
    assert metrics.calibration_error(truth, np.full(100, 0.7)) == pytest.approx(0)
    assert metrics.calibration_error(truth, np.full(100, 0.9)) == pytest.approx(0.2)


def test_the_temperature_undoes_a_known_overconfidence():
    generator = np.random.default_rng(1)
    logits = generator.normal(size=(4000, 3))
    classes = np.array([generator.choice(3, p=p) for p in softmax(logits)])
    assert fit_temperature(3 * logits, classes) == pytest.approx(3, rel=0.1)


def test_the_threshold_meets_its_target_and_lies_inside_the_band():
    generator = np.random.default_rng(2)
    truth = np.arange(2000) % 2 == 0
    probability = np.clip(generator.normal(0.4 + 0.3 * truth, 0.15), 0, 1)
    point = choose_operating_point(truth, probability, 0.95)
    assert (probability[truth] >= point.threshold).mean() == pytest.approx(0.95, abs=0.002)
    assert point.low < point.threshold < point.high


def test_a_finding_is_undetermined_inside_the_band_only():
    point = OperatingPoint(0.5, 0.4, 0.6, 0.95)
    found = [point.finding(p) for p in (0.39, 0.4, 0.5, 0.6, 1.0)]
    assert found == ["ABSENT", "UNDETERMINED", "UNDETERMINED", "PRESENT", "PRESENT"]


def test_a_call_is_worth_less_where_the_illness_is_rare():
    half = metrics.at_prevalence(0.9, 0.8, 0.5)
    rare = metrics.at_prevalence(0.9, 0.8, 0.1)
    assert half == {"called": 0.55, "ppv": 0.45 / 0.55, "npv": pytest.approx(0.4 / 0.45)}
    assert rare["ppv"] == pytest.approx(0.09 / 0.27)
    assert rare["npv"] == pytest.approx(0.72 / 0.73)
    assert np.isnan(metrics.at_prevalence(0.0, 1.0, 0.5)["ppv"])


def test_each_calibration_bin_says_how_sure_it_is():
    rows = metrics.calibration_bins(np.arange(100) % 2 == 0, np.repeat([0.15, 0.95], [90, 10]))
    assert [row["count"] for row in rows] == [90, 10]
    widths = [row["observed_interval"][1] - row["observed_interval"][0] for row in rows]
    assert widths[1] > 2 * widths[0]


def test_the_interval_of_a_share_is_honest_at_its_ends():
    assert metrics.wilson(10, 10) == [pytest.approx(0.7225, abs=1e-3), 1.0]
    assert metrics.wilson(0, 10) == [pytest.approx(0, abs=1e-9), pytest.approx(0.2775, abs=1e-3)]
    assert metrics.wilson(50, 100) == pytest.approx([0.4038, 0.5962], abs=1e-3)


def test_what_was_not_counted_has_no_interval():
    counts = metrics.confusion(np.array([True]), np.array([True]))
    assert metrics.rate_intervals(counts)["specificity_interval"] is None
