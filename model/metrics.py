"""How good the answers are: plain NumPy, no TensorFlow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.calibration import UNDETERMINED, OperatingPoint

Floats = NDArray[np.float64]
Metric = Callable[[NDArray[np.bool_], Floats], float]


def auc(truth: NDArray[np.bool_], score: Floats) -> float:
    """Return the area under the ROC curve (ties count half); NaN when one class is absent.

    References
    ----------
    Hanley & McNeil, Radiology 143, 1982: the area equals the Mann-Whitney statistic.
    """
    positives, negatives = int(truth.sum()), int((~truth).sum())
    if not positives or not negatives:
        return float("nan")
    _, inverse, counts = np.unique(score, return_inverse=True, return_counts=True)
    rank = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    return float((rank[truth].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def bootstrap_interval(
    metric: Metric,
    truth: NDArray[np.bool_],
    score: Floats,
    groups: Sequence[str],
    *,
    rounds: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """Return a percentile interval of a metric, resampling whole patients.

    Parameters
    ----------
    metric
        Called with truth and score of each resample.
    truth, score
        Shape (N,).
    groups
        The patient of each image: images of one patient are drawn together.
    rounds
        Number of resamples.
    level
        Coverage, in (0, 1).
    seed
        Same seed, same interval.
    """
    _, group = np.unique(np.asarray(groups), return_inverse=True)
    members = np.split(np.argsort(group, kind="stable"), np.cumsum(np.bincount(group))[:-1])
    generator = np.random.default_rng(seed)
    values = []
    for _ in range(rounds):
        drawn = generator.integers(0, len(members), len(members))
        rows = np.concatenate([members[i] for i in drawn])
        values.append(metric(truth[rows], score[rows]))
    tail = (1 - level) / 2
    low, high = np.nanquantile(values, [tail, 1 - tail])
    return float(low), float(high)


def confusion(truth: NDArray[np.bool_], positive: NDArray[np.bool_]) -> dict[str, int]:
    """Count true and false positives and negatives."""
    return {
        "true_positive": int((truth & positive).sum()),
        "false_positive": int((~truth & positive).sum()),
        "false_negative": int((truth & ~positive).sum()),
        "true_negative": int((~truth & ~positive).sum()),
    }


def _parts(counts: dict[str, int]) -> dict[str, tuple[int, int]]:
    tp, fp = counts["true_positive"], counts["false_positive"]
    fn, tn = counts["false_negative"], counts["true_negative"]
    return {
        "sensitivity": (tp, tp + fn),
        "specificity": (tn, tn + fp),
        "ppv": (tp, tp + fp),
        "npv": (tn, tn + fn),
        "accuracy": (tp + tn, tp + fp + fn + tn),
    }


def rates(counts: dict[str, int]) -> dict[str, float]:
    """Return sensitivity, specificity, PPV, NPV and accuracy; NaN where nothing was counted."""
    parts = _parts(counts).items()
    return {name: part / whole if whole else float("nan") for name, (part, whole) in parts}


def rate_intervals(counts: dict[str, int]) -> dict[str, list[float] | None]:
    """Return the interval of each of `rates` as `<name>_interval`, None where nothing was counted.

    The images count as independent: with several of one patient the truth is a little wider.
    """
    parts = _parts(counts).items()
    return {
        f"{name}_interval": wilson(part, whole) if whole else None for name, (part, whole) in parts
    }


def at_prevalence(sensitivity: float, specificity: float, prevalence: float) -> dict[str, float]:
    """Return what calls are worth where pneumonia is more or less common.

    Parameters
    ----------
    sensitivity, specificity
        Of the model, in [0, 1].
    prevalence
        Share of the children with pneumonia, in (0, 1).

    Returns
    -------
    dict
        `called`, the share that is called pneumonia, and `ppv` and `npv`; NaN where nothing is
        called.
    """
    found, false = prevalence * sensitivity, (1 - prevalence) * (1 - specificity)
    missed, right = prevalence * (1 - sensitivity), (1 - prevalence) * specificity
    return {
        "called": found + false,
        "ppv": found / (found + false) if found + false else float("nan"),
        "npv": right / (missed + right) if missed + right else float("nan"),
    }


def wilson(part: int, whole: int, z: float = 1.96) -> list[float]:
    """Return the interval of a share, honest for small numbers and for 0 % and 100 % too.

    References
    ----------
    Wilson, Journal of the American Statistical Association 22, 1927.
    """
    share, extra = part / whole, z**2 / whole
    middle = share + extra / 2
    half = z * (share * (1 - share) / whole + extra / (4 * whole)) ** 0.5
    low, high = (middle - half) / (1 + extra), (middle + half) / (1 + extra)
    return [max(0.0, min(low, share)), min(1.0, max(high, share))]  # rounding could cross the share


def calibration_bins(
    truth: NDArray[np.bool_], probability: Floats, bins: int = 10
) -> list[dict[str, Any]]:
    """Return count, mean probability and observed share for each occupied bin of equal width."""
    index = np.minimum((probability * bins).astype(int), bins - 1)
    rows: list[dict[str, Any]] = []
    for i in np.unique(index):
        inside = index == i
        rows.append(
            {
                "count": int(inside.sum()),
                "predicted": float(probability[inside].mean()),
                "observed": float(truth[inside].mean()),
                "observed_interval": wilson(int(truth[inside].sum()), int(inside.sum())),
            }
        )
    return rows


def calibration_error(truth: NDArray[np.bool_], probability: Floats, bins: int = 10) -> float:
    """Return the expected calibration error.

    References
    ----------
    Guo et al., On Calibration of Modern Neural Networks, ICML 2017.
    """
    rows = calibration_bins(truth, probability, bins)
    gaps = (r["count"] * abs(r["predicted"] - r["observed"]) for r in rows)
    return float(sum(gaps) / len(truth))


def summary(
    truth: NDArray[np.bool_],
    probability: Floats,
    patients: Sequence[str],
    point: OperatingPoint,
) -> dict[str, Any]:
    """Return the figures of a set of images as JSON values.

    Parameters
    ----------
    truth
        Shape (N,), whether there is a pneumonia.
    probability
        Shape (N,), calibrated probability of pneumonia.
    patients
        The patient of each image.
    point
        Threshold and undetermined band.
    """
    counts = confusion(truth, probability >= point.threshold)
    findings = [point.finding(p) for p in probability]
    return {
        "images": len(truth),
        "patients": len(set(patients)),
        "pneumonia": int(truth.sum()),
        "auc": auc(truth, probability),
        "auc_interval": list(bootstrap_interval(auc, truth, probability, patients)),
        "confusion": counts,
        **rates(counts),
        "undetermined": findings.count(UNDETERMINED) / max(len(findings), 1),
        "calibration_error": calibration_error(truth, probability),
        "calibration": calibration_bins(truth, probability),
    }
