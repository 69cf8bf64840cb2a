"""From logits to probabilities one may quote, and from probabilities to a finding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

PRESENT, ABSENT, UNDETERMINED = "PRESENT", "ABSENT", "UNDETERMINED"
TARGET_SENSITIVITY = 0.95  # of the released threshold


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """Where a probability of pneumonia becomes a finding.

    Parameters
    ----------
    threshold
        The probability that gave the target sensitivity.
    low, high
        Between them the finding is undetermined; below, absent; from `high` on, present.
    sensitivity
        The target the threshold was chosen for.
    """

    threshold: float
    low: float
    high: float
    sensitivity: float

    def finding(self, probability: float) -> str:
        """Return the finding of one probability of pneumonia."""
        if probability >= self.high:
            return PRESENT
        return ABSENT if probability < self.low else UNDETERMINED


def softmax(logits: NDArray[np.floating[Any]], temperature: float = 1.0) -> Floats:
    """Return class probabilities, shape as `logits` (N, C), rows sum to one."""
    scaled = np.asarray(logits, np.float64) / temperature
    scaled = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return np.asarray(scaled / scaled.sum(axis=1, keepdims=True), np.float64)


def fit_temperature(logits: NDArray[np.floating[Any]], classes: NDArray[np.integer[Any]]) -> float:
    """Return the temperature with the smallest cross-entropy.

    Parameters
    ----------
    logits
        Shape (N, C), of images that were not trained on.
    classes
        Shape (N,), the true class of each.

    References
    ----------
    Guo et al., On Calibration of Modern Neural Networks, ICML 2017.
    """
    grid = np.exp(np.linspace(np.log(0.2), np.log(5.0), 200))
    rows = np.arange(len(classes))
    losses = [-np.log(np.maximum(softmax(logits, t)[rows, classes], 1e-12)).mean() for t in grid]
    return float(grid[int(np.argmin(losses))])


def choose_operating_point(
    truth: NDArray[np.bool_], probability: Floats, sensitivity: float, margin: float = 0.02
) -> OperatingPoint:
    """Choose the threshold for a target sensitivity, and a band of `margin` on either side.

    Parameters
    ----------
    truth
        Shape (N,), whether there is a pneumonia.
    probability
        Shape (N,), calibrated probability of pneumonia.
    sensitivity
        Share of the pneumonias at or above the threshold.
    margin
        The band ends where the sensitivity would be this much higher or lower.
    """
    ill = probability[truth]
    targets = (sensitivity, sensitivity + margin, sensitivity - margin)
    threshold, low, high = (float(np.quantile(ill, 1 - min(t, 1.0))) for t in targets)
    return OperatingPoint(threshold, low, high, sensitivity)
