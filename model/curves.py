"""Curves over all thresholds: plain NumPy, each a list of rows that is also JSON."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from model.metrics import Floats

Rows = list[dict[str, float]]

# Below and above these no one would decide whether to treat a child by a probability.
DECISIONS = tuple(float(p) for p in np.round(np.arange(0.02, 0.981, 0.02), 2))


def _counts(truth: NDArray[np.bool_], score: Floats) -> tuple[Floats, Floats, Floats]:
    """Return thresholds, falling, and how many of each class are at or above each."""
    thresholds, place = np.unique(-score, return_inverse=True)
    ill = np.bincount(place, truth.astype(float), len(thresholds))
    well = np.bincount(place, (~truth).astype(float), len(thresholds))
    return -thresholds, np.cumsum(ill), np.cumsum(well)


def roc(truth: NDArray[np.bool_], score: Floats) -> Rows:
    """Return threshold, sensitivity and false positive rate; no row for calling nothing.

    Parameters
    ----------
    truth
        Shape (N,), both classes present.
    score
        Shape (N,), higher for the ill.
    """
    thresholds, ill, well = _counts(truth, score)
    return [
        {"threshold": float(t), "sensitivity": float(i), "false_positive_rate": float(w)}
        for t, i, w in zip(thresholds, ill / ill[-1], well / well[-1], strict=True)
    ]


def precision_recall(truth: NDArray[np.bool_], score: Floats) -> Rows:
    """Return threshold, sensitivity (recall) and PPV (precision) at every score that occurs."""
    thresholds, ill, well = _counts(truth, score)
    return [
        {"threshold": float(t), "sensitivity": float(i / ill[-1]), "ppv": float(i / (i + w))}
        for t, i, w in zip(thresholds, ill, well, strict=True)
    ]


def average_precision(truth: NDArray[np.bool_], score: Floats) -> float:
    """Return the area under the precision-recall curve, as a sum of steps."""
    rows = precision_recall(truth, score)
    steps = np.diff([0.0, *(row["sensitivity"] for row in rows)])
    return float(sum(step * row["ppv"] for step, row in zip(steps, rows, strict=True)))


def decision(truth: NDArray[np.bool_], probability: Floats) -> Rows:
    """Return the net benefit of acting on the model, and of acting on every child.

    Acting on none has a net benefit of 0. A row's probability says how many children acted on in
    vain are worth one ill child found: at 0.2, four.

    References
    ----------
    Vickers & Elkin, Decision Curve Analysis, Medical Decision Making 26, 2006.
    """
    count, rows = len(truth), []
    for p in DECISIONS:
        acted, cost = probability >= p, p / (1 - p)
        model = ((acted & truth).sum() - cost * (acted & ~truth).sum()) / count
        everyone = (truth.sum() - cost * (~truth).sum()) / count
        rows.append({"probability": p, "model": float(model), "everyone": float(everyone)})
    return rows
